"""The routes under /v1/batch: many items in one request, each of which succeeds or fails alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Iterable

from fastapi import APIRouter, Response
from pydantic import ValidationError

from envs.server.operations import IN_ONE_GO, Operations
from envs.server.plumbing import StrictRoute, documented_errors, json_response, malformed, shown
from envs.server.schemas import (
    BatchAnswer,
    BatchClose,
    BatchCreate,
    BatchStep,
    BatchTouch,
    Malformed,
    StepItem,
    TouchAnswer,
)
from envs.server.session import Session
from envs.wire import dumps

__all__ = ["build_batches"]


def build_batches(operations: Operations) -> APIRouter:
    """All of them."""
    router = APIRouter(route_class=StrictRoute, tags=["batches"])
    sessions = operations.sessions

    @router.post("/v1/batch/episodes", responses={200: {"model": BatchAnswer}, **documented_errors()})
    async def create_many(request: BatchCreate) -> Response:
        """Begin many episodes; each item succeeds or fails alone."""
        operations.check_size("items", len(request.items))
        return await _batch(
            [_refused(i.error) if isinstance(i, Malformed) else operations.create(i) for i in request.items]
        )

    @router.post("/v1/batch/steps", responses={200: {"model": BatchAnswer}, **documented_errors()})
    async def step_many(request: BatchStep) -> Response:
        """Step many episodes side by side; each item succeeds or fails alone."""
        operations.check_size("items", len(request.items))

        if any(sessions.waits(item.episode_id) for item in request.items if isinstance(item, StepItem)):
            works = (
                _refused(i.error) if isinstance(i, Malformed) else operations.step(i.episode_id, i)
                for i in request.items
            )
            return await _batch(works)
        taken: list[tuple[StepItem, Session, bytes] | bytes] = []
        for item in request.items:
            try:
                if isinstance(item, Malformed):
                    raise malformed(item.error)
                taken.append((item, *await operations.first_half(item)))
            except Exception as error:  # noqa: BLE001 - stands in the answer
                taken.append(_failed(error))
            if len(taken) % IN_ONE_GO == 0:
                await asyncio.sleep(0)
        results = []
        for one in taken:  # all are written in one go; the first waits for the others
            if isinstance(one, bytes):
                results.append(one)
                continue
            try:
                results.append(b'{"ok":true,"episode":' + await operations.second_half(*one) + b"}")
            except Exception as error:  # noqa: BLE001 - stands in the answer
                results.append(_failed(error))
        return json_response(b'{"results":[' + b",".join(results) + b"]}")

    @router.post("/v1/batch/close", responses={200: {"model": BatchAnswer}, **documented_errors()})
    async def close_many(request: BatchClose) -> Response:
        """Close many episodes."""
        operations.check_size("ids", len(request.ids))
        return await _batch(
            map(sessions.close, request.ids), side_by_side=sessions.durable or any(map(sessions.waits, request.ids))
        )

    @router.post("/v1/batch/touch", responses={200: {"model": TouchAnswer}, **documented_errors()})
    async def touch_many(request: BatchTouch) -> Response:
        """A heartbeat: keep episodes alive that nothing is asked of for a while."""
        operations.check_size("ids", len(request.ids))
        return json_response(b'{"results":[' + b",".join(await asyncio.gather(*map(touched, request.ids))) + b"]}")

    async def touched(episode_id: str) -> bytes:
        try:
            return dumps({"ok": True, "lease_s": await operations.touch(episode_id)})
        except Exception as error:  # noqa: BLE001 - stands in the answer
            return _failed(error)

    return router


async def _batch(works: Iterable[Coroutine[None, None, Session]], *, side_by_side: bool = True) -> Response:
    """All of them; where none of them waits for anything, one after the other, since a task each would cost more."""
    if side_by_side:
        results = await asyncio.gather(*map(_result, works))
    else:
        results = []
        for work in works:
            results.append(await _result(work))
            if len(results) % IN_ONE_GO == 0:
                await asyncio.sleep(0)
    return json_response(b'{"results":[' + b",".join(results) + b"]}")


async def _result(work: Awaitable[Session]) -> bytes:
    """One entry of a batch's answer: its failure stays its own."""
    try:
        session = await work
    except Exception as error:  # noqa: BLE001 - stands in the answer
        return _failed(error)
    return b'{"ok":true,"episode":' + session.body + b"}"


def _failed(error: Exception) -> bytes:
    return dumps({"ok": False, "error": shown(error, "an item of a batch")})


async def _refused(error: ValidationError) -> Session:
    raise malformed(error)
