"""``/v1/stream``: one WebSocket for all episodes of a client, many requests and answers in one frame.

A frame of the client is a JSON array of requests, each with an ``id`` of the client's choice and an ``op``; a frame of
the server is a JSON array of answers, ``{"id", "status", "episode"|"episodes"|"action"|"error"}``, each as soon as it
is there, in any order. What does not wait is answered in one frame, and nothing waits for what does. A request for
which there is no room now (429) is told ``retry_after_s`` beside the error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from envs.errors import BadRequest, CapacityExceeded, EnvloopError, TooManyRequests
from envs.server.auth import Access
from envs.server.operations import IN_ONE_GO, Operations
from envs.server.pace import Pace
from envs.server.plumbing import malformed, shown, strict_json
from envs.server.schemas import CreateEpisode, ExpertRequest, ForkRequest, StepItem
from envs.server.session import Session
from envs.wire import action_to_json, dumps

__all__ = ["STREAM_PATH", "build_stream"]

STREAM_PATH = "/v1/stream"
_OPS = ("create", "step", "read", "close", "fork", "expert")


def build_stream(operations: Operations, access: Access, pace: Pace) -> APIRouter:
    """The route. Who may open it was checked before (``Guard``)."""
    router = APIRouter()

    @router.websocket(STREAM_PATH)
    async def stream(socket: WebSocket) -> None:
        await socket.accept()
        await _Stream(socket, operations, access, pace).serve()

    return router


class _Stream:
    """One connection. What it began is done to its end, also where the client has gone: a step is taken or not."""

    def __init__(self, socket: WebSocket, operations: Operations, access: Access, pace: Pace) -> None:
        self._socket = socket
        self._operations = operations
        self._access = access
        self._pace = pace
        self._works: set[asyncio.Task[None]] = set()
        self._unanswered = 0
        self._fewer = asyncio.Event()
        self._outbox: list[bytes] = []
        self._sending = asyncio.Lock()

    async def serve(self) -> None:
        """Until the client goes."""
        try:
            while True:
                while self._unanswered >= self._operations.max_batch:  # let it wait, in the network's buffers
                    self._fewer.clear()
                    await self._fewer.wait()
                await self._take(await self._socket.receive_text())
        except WebSocketDisconnect:
            pass
        finally:
            if self._works:
                await asyncio.wait(self._works)

    async def _take(self, text: str) -> None:
        try:
            frame = strict_json(text)
            if not isinstance(frame, list):
                raise BadRequest("the frame is no list", hint="send [{id, op, ...}, ...]")
            self._operations.check_size("requests", len(frame))
        except (ValueError, RecursionError) as error:
            await self._refuse(BadRequest(f"the frame is not JSON: {error}", hint="send [{id, op, ...}, ...]"))
            return
        except EnvloopError as error:
            await self._refuse(error)
            return
        self._unanswered += len(frame)
        taken: list[bytes | tuple[Any, StepItem, Session, bytes]] = []
        for number, request in enumerate(frame, 1):
            item = self._inline(request)
            if item is None:
                self._start(self._alone(request))
            else:
                taken.append(await self._first_half(request["id"], item))
            if number % IN_ONE_GO == 0:
                await asyncio.sleep(0)
        if taken:
            self._start(self._second_halves(taken))

    async def _refuse(self, error: EnvloopError) -> None:
        """Of a frame that cannot be read, nothing is done."""
        self._unanswered += 1
        await self._send([_failed(None, error)])

    def _inline(self, request: Any) -> StepItem | None:
        """The step that is asked for, where it waits for nothing but the journal."""
        if not isinstance(request, dict) or request.get("op") != "step" or "id" not in request:
            return None
        if not self._operations.sessions.at_hand(request.get("episode_id")):
            return None
        try:
            return _request(StepItem, request)
        except EnvloopError:
            return None  # said where it is done alone

    async def _first_half(self, id: Any, item: StepItem) -> bytes | tuple[Any, StepItem, Session, bytes]:
        try:
            self._pace.check(self._socket.scope)
            return (id, item, *await self._operations.first_half(item))
        except Exception as error:  # noqa: BLE001 - stands in the answer
            return _failed(id, error)

    async def _second_halves(self, taken: list[bytes | tuple[Any, StepItem, Session, bytes]]) -> None:
        answers = []
        for one in taken:
            if isinstance(one, bytes):
                answers.append(one)
                continue
            number, item, session, body = one
            try:
                answers.append(_episode(number, await self._operations.second_half(item, session, body)))
            except Exception as error:  # noqa: BLE001 - stands in the answer
                answers.append(_failed(number, error))
        await self._send(answers)

    async def _alone(self, request: Any) -> None:
        number = request.get("id") if isinstance(request, dict) else None
        try:
            self._pace.check(self._socket.scope)
            answer = await self._done(number, request)
        except Exception as error:  # noqa: BLE001 - stands in the answer
            answer = _failed(number, error)
        await self._send([answer])

    async def _done(self, id: Any, request: Any) -> bytes:
        if not isinstance(request, dict) or not isinstance(id, (int, str)):
            raise BadRequest("a request needs an id, a number or a text", hint="send [{id, op, ...}, ...]")
        op, operations = request.get("op"), self._operations
        if op == "create":
            return _episode(id, (await operations.create(_request(CreateEpisode, request))).body, 201)
        episode_id = request.get("episode_id")
        if op not in _OPS or not isinstance(episode_id, str):
            raise BadRequest(f"no such request: op {op!r:.40}", hint=f"op is one of {', '.join(_OPS)}, with episode_id")
        if op == "step":
            return _episode(id, (await operations.step(episode_id, _request(StepItem, request))).body)
        if op == "fork":
            forks = await operations.fork(episode_id, _request(ForkRequest, request, without="episode_id"))
            return _answer(id, 201, {}, b'"episodes":[' + b",".join(fork.body for fork in forks) + b"]")
        if op == "expert":
            self._access.check_expert(self._socket.scope)
            asked = _request(ExpertRequest, request, without="episode_id")
            action = await operations.sessions.expert_action(episode_id, asked.expert)
            return _answer(id, 200, {"action": None if action is None else action_to_json(action)})
        if op == "read":
            return _episode(id, (await operations.sessions.current(episode_id)).body)
        return _episode(id, (await operations.sessions.close(episode_id)).body)

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._works.add(task)
        task.add_done_callback(self._works.discard)

    async def _send(self, answers: list[bytes]) -> None:
        """Send them, with what has come together while another frame was being sent."""
        self._unanswered -= len(answers)
        self._fewer.set()
        self._outbox += answers
        async with self._sending:
            if not self._outbox:
                return
            frame, self._outbox = b"[" + b",".join(self._outbox) + b"]", []
            if self._socket.application_state is WebSocketState.CONNECTED:
                try:
                    await self._socket.send_text(frame.decode("ascii"))
                except (WebSocketDisconnect, RuntimeError):
                    return  # the client has gone, and will ask again


def _request[T: (StepItem, CreateEpisode, ForkRequest, ExpertRequest)](
    model: type[T], request: Mapping[str, Any], *, without: str = ""
) -> T:
    fields = {name: value for name, value in request.items() if name not in ("id", "op", without)}
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise malformed(error) from None


def _episode(id: Any, body: bytes, status: int = 200) -> bytes:
    return _answer(id, status, {}, b'"episode":' + body)


def _failed(id: Any, error: Exception) -> bytes:
    status = error.http_status if isinstance(error, EnvloopError) else 500
    fields: dict[str, Any] = {"error": shown(error, "a request of a stream")}
    if isinstance(error, CapacityExceeded):
        fields["retry_after_s"] = error.retry_after_s if isinstance(error, TooManyRequests) else 1.0
    return _answer(id, status, fields)


def _answer(id: Any, status: int, fields: Mapping[str, Any], encoded: bytes = b"") -> bytes:
    head = dumps({"id": id if isinstance(id, (int, str)) else None, "status": status, **fields})
    return head if not encoded else head[:-1] + b"," + encoded + b"}"
