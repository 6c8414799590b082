"""Environments as OpenEnv servers, on our own sessions: journaled, limited, authenticated, never blank after a drop.

Beside the routes under ``/v1`` each environment has ``/openenv/ENV`` with what OpenEnv's client and validator ask for.
``/openenv/ENV/sessions/NAME/ws`` is the same with a session that has a name, and so outlives its connection.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.openapi.utils import get_openapi
from starlette.websockets import WebSocket, WebSocketDisconnect

from envs.errors import (
    BadRequest,
    ConfigError,
    EnvloopError,
    InvalidOption,
    NotFound,
    PayloadTooLarge,
    UnknownEnv,
)
from envs.server.auth import Access
from envs.server.families import Families
from envs.server.guard import internal_error
from envs.server.openenv_messages import (
    Health,
    Metadata,
    Observed,
    Reset,
    RpcAnswer,
    Schemas,
    State,
    Step,
    ToolCall,
    action_schema,
    error_frame,
    read_message,
    read_object,
    tools_of,
)
from envs.server.openenv_player import Player
from envs.server.pace import Pace
from envs.server.plumbing import StrictRoute, documented_errors
from envs.server.sessions import SessionTable
from envs.wire import dumps

__all__ = ["OpenEnvServer"]

_VERSION = "1.0.0"  # of OpenEnv's HTTP contract
_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_POLICY_VIOLATION = 1008
_PLAYING = ("/reset", "/step", "/state")  # what needs a token; of /mcp, the proper requests

# JSON-RPC's own
_RPC_BODY = {"requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}}}
_INVALID_REQUEST, _METHOD_NOT_FOUND, _INVALID_PARAMS, _SERVER_ERROR = -32600, -32601, -32602, -32000


class OpenEnvServer:
    """One environment's OpenEnv routes. Raises ConfigError for an unknown name."""

    def __init__(
        self,
        env: str,
        families: Families,
        sessions: SessionTable,
        access: Access,
        pace: Pace,
        *,
        body_limit: int,
    ) -> None:
        try:
            self._spec = families.spec(env)
        except UnknownEnv as error:
            raise ConfigError(f"openenv: {error.message}", hint=error.hint) from error
        self._families = families
        self._sessions = sessions
        self._access = access
        self._pace = pace
        self._body_limit = body_limit

    @property
    def path(self) -> str:
        """What its routes begin with."""
        return f"/openenv/{self._spec.name}"

    def router(self) -> APIRouter:
        """Its routes, to be included under ``path``."""
        admit = self._admit

        class Admitted(StrictRoute):
            """Who may not play is told so before the request is looked at."""

            def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
                handler = super().get_route_handler()
                closed = self.path.endswith(_PLAYING)

                async def admitted(request: Request) -> Response:
                    if closed:
                        admit(request)
                    return await handler(request)

                return admitted

        router = APIRouter(route_class=Admitted)
        self._add_descriptions(router)
        self._add_requests(router)

        @router.websocket("/ws")
        async def connect(socket: WebSocket) -> None:
            await self._serve(socket, socket.query_params.get("session_id"))

        @router.websocket("/sessions/{name}/ws")
        async def connect_session(socket: WebSocket, name: str) -> None:
            await self._serve(socket, name)

        return router

    def _player(self, name: str | None = None) -> Player:
        return Player(self._spec, self._families, self._sessions, name)

    def _admit(self, request: Request | WebSocket) -> None:
        self._access.check(request.scope)
        self._pace.check(request.scope)

    def _add_descriptions(self, router: APIRouter) -> None:
        """What anybody may read: it tells of the environment, not of its episodes."""
        spec = self._spec

        @router.get("/openapi.json", include_in_schema=False)
        async def openapi() -> Response:
            """Of these routes alone, as OpenEnv's validator wants it."""
            document = get_openapi(
                title=f"{spec.id} as an OpenEnv server",
                version=_VERSION,
                routes=router.routes,
                servers=[{"url": self.path}],
            )
            return _json(document)

        @router.get("/health", responses={200: {"model": Health}, 503: {"model": Health}})
        async def health() -> Response:
            """Whether episodes can be started; the server's /readyz says why not."""
            ready = (await self._families.readiness(spec.name)).ready
            return _json({"status": "healthy" if ready else "unhealthy"}, 200 if ready else 503)

        @router.get("/metadata", response_model=Metadata)
        async def metadata() -> Response:
            """What the environment is."""
            return _json({"name": spec.name, "description": spec.description, "version": str(spec.version)})

        @router.get("/schema", response_model=Schemas)
        async def schema() -> Response:
            """The schemas of an action, of an observation and of a state."""
            observation = Observed.model_json_schema()
            return _json(
                {"action": action_schema(spec), "observation": observation, "state": State.model_json_schema()}
            )

    def _add_requests(self, router: APIRouter) -> None:
        errors = documented_errors(404, 409)

        @router.post("/reset", responses={200: {"model": Observed}, **errors})
        async def reset(asked: Reset | None = None) -> Response:
            """Begin an episode. Plain HTTP has no session: what follows names the episode that ``metadata`` tells."""
            return _json(await self._player().reset(asked or Reset.model_validate({})))

        @router.post("/step", responses={200: {"model": Observed}, **errors})
        async def step(asked: Step) -> Response:
            """Take a step of the episode that is named: there is no blank one to step."""
            return _json(await self._player().step(asked.action, asked.episode_id))

        @router.get("/state", responses={200: {"model": State}, **errors})
        async def state(episode_id: str) -> Response:
            """Where an episode stands."""
            return _json(await self._player().state(episode_id))

        @router.post("/mcp", responses={200: {"model": RpcAnswer}, **errors}, openapi_extra=_RPC_BODY)
        async def mcp(request: Request) -> Response:
            """JSON-RPC: ``tools/list``, ``tools/call`` in a session that is named, and a session's begin and end."""
            return _json(await self._rpc(request, await request.body()))

    async def _serve(self, socket: WebSocket, name: str | None) -> None:
        """One connection, until either side goes. What it plays stays, so that it can be gone on with.

        Who may open it was checked before (``Guard``).
        """
        if name is not None and not _NAME.fullmatch(name):
            reason = "a session's name is of 1 to 128 letters, digits and ._-"
            await socket.close(_POLICY_VIOLATION, reason)
            return
        await socket.accept()
        player = self._player(name)
        try:
            while (answer := await self._answer(socket, player, await socket.receive_text())) is not None:
                await socket.send_text(dumps(answer).decode("ascii"))
            await socket.close()
        except WebSocketDisconnect:
            pass

    async def _answer(self, socket: WebSocket, player: Player, text: str) -> dict[str, Any] | None:
        """The answer to a message; None to ``close``."""
        try:
            self._pace.check(socket.scope)
            if len(text) > self._body_limit:
                raise PayloadTooLarge(f"the message is larger than {self._body_limit} bytes", hint="send less at once")
            message = read_object(text)
            kind, data = message.get("type"), message.get("data", {})
            if not isinstance(data, dict):
                raise BadRequest("data is no object", hint="send {type, data}")
            if kind == "reset":
                return {"type": "observation", "data": await player.reset(read_message(Reset, data))}
            if kind == "step":
                return {"type": "observation", "data": await player.step(read_message(ToolCall, data))}
            if kind == "state":
                return {"type": "state", "data": await player.state()}
            if kind == "mcp":
                return {"type": "mcp", "data": await self._rpc(socket, dumps(data), player)}
            if kind == "close":
                await player.close()
                return None
        except EnvloopError as error:
            return error_frame(error.to_json(), type(error))
        except Exception as error:  # noqa: BLE001 - logged there, and answered
            return error_frame(internal_error(error, "an OpenEnv message"), type(error))
        known = "known: reset, step, state, mcp, close"
        refused = {"message": f"unknown message type {kind!r:.40} ({known})", "code": "UNKNOWN_TYPE"}
        return {"type": "error", "data": refused}

    async def _rpc(self, caller: Request | WebSocket, body: bytes, player: Player | None = None) -> dict[str, Any]:
        """The answer to a JSON-RPC request. One that is none is told so to anybody; a proper one needs the token."""
        try:
            request = read_object(body)
        except BadRequest as error:
            return _rpc_error(None, _INVALID_REQUEST, error.message)
        given, method, params = request.get("id"), request.get("method"), request.get("params", {})
        known = given if isinstance(given, (str, int)) else None
        if request.get("jsonrpc") != "2.0" or not isinstance(method, str) or not isinstance(params, dict):
            return _rpc_error(known, _INVALID_REQUEST, "send {jsonrpc: '2.0', method, params, id}")
        if player is None:
            self._admit(caller)
        try:
            return await self._call(known, method, params, player)
        except EnvloopError as error:
            code = _INVALID_PARAMS if isinstance(error, (BadRequest, NotFound)) else _SERVER_ERROR
            return _rpc_error(known, code, str(error), error.to_json())

    async def _call(
        self, id: str | int | None, method: str, params: Mapping[str, Any], player: Player | None
    ) -> dict[str, Any]:
        if method == "openenv/session/create":
            return _rpc_result(id, {"session_id": secrets.token_hex(16)})
        if method == "tools/list":
            return _rpc_result(id, {"tools": tools_of(self._spec)})
        if method not in ("tools/call", "openenv/session/close"):
            return _rpc_error(id, _METHOD_NOT_FOUND, f"there is no method {method!r:.80}")
        if player is None:
            name = params.get("session_id")
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise InvalidOption("which session?", hint="send session_id, as openenv/session/create gave it")
            player = self._player(name)
        if method == "openenv/session/close":
            await player.close()
            return _rpc_result(id, {"session_id": params.get("session_id"), "closed": True})
        call = {"tool_name": params.get("name"), "arguments": params.get("arguments", {})}
        found = await player.step(read_message(ToolCall, call))
        text = found["observation"]["text"]
        return _rpc_result(id, {"content": [{"type": "text", "text": text}], "data": found, "isError": False})


def _rpc_result(id: str | int | None, result: Mapping[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "result": result}


def _rpc_error(id: str | int | None, code: int, message: str, data: Any = None) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message, "data": data}}


def _json(value: Any, status: int = 200) -> Response:
    return Response(dumps(value), status, media_type="application/json")
