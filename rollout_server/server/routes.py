"""The routes under /v1, and the three about the server itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, StreamingResponse

from envs import __version__
from envs.errors import BackendUnavailable, BadRequest, EnvloopError
from rollout_server.protocols import PROTOCOLS
from rollout_server.replay_fork_many import ForkOptions, fork_many
from rollout_server.serialize import episode_to_json, request_from_json
from rollout_server.server.answers import errors as _errors
from rollout_server.server.answers import json_answer as _json
from rollout_server.server.schemas import (
    EpisodeQuery,
    EpisodesAnswer,
    ForkEpisode,
    ForksAnswer,
    GroupsAnswer,
    ReadyAnswer,
    StatsAnswer,
    StatsQuery,
    VersionAnswer,
    rollout_request_schema,
)
from rollout_server.server.streams import GrowingAnswer, play_or_give_up, unless_gone

if TYPE_CHECKING:
    from rollout_server.server.app import Running

__all__ = ["build_routes"]

_NDJSON = "application/x-ndjson"


def build_routes(running: Running) -> APIRouter:
    """All routes, bound to the server's parts."""
    router = APIRouter()

    @router.post(
        "/v1/rollouts",
        tags=["rollouts"],
        responses={200: {"model": GroupsAnswer, "content": {_NDJSON: {}}}, **_errors(400, 404, 413, 503)},
        openapi_extra={"requestBody": {"content": {"application/json": {"schema": rollout_request_schema()}}}},
    )
    async def rollouts(request: Request) -> Response:
        """Play tasks, each `group_size` times. With `Accept: application/x-ndjson` every episode comes as it ends.

        Closing the connection cancels what is still being played.
        """
        try:
            body = await request.json()
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"the body is not JSON: {error}", hint="send a JSON object") from error
        wanted = request_from_json(body)
        if _NDJSON in request.headers.get("accept", ""):
            lines = await GrowingAnswer(running, wanted, request).begin()
            return StreamingResponse(lines, media_type=_NDJSON)
        return Response(await play_or_give_up(running, wanted, request), media_type="application/json")

    @router.get("/v1/episodes", tags=["episodes"], responses={200: {"model": EpisodesAnswer}, **_errors()})
    async def episodes(query: Annotated[EpisodeQuery, Query()]) -> Response:
        """Stored episodes that match, the newest first, without their turns."""
        filters: dict[str, Any] = query.filters()
        store = running.service.store

        def look() -> Response:
            found = store.query(limit=query.limit, offset=query.offset, **filters)
            return _json({"episodes": [s.to_json() for s in found], "total": store.count(**filters)})

        return await asyncio.to_thread(look)

    @router.get("/v1/stats", tags=["episodes"], responses={200: {"model": StatsAnswer}, **_errors()})
    async def stats(query: Annotated[StatsQuery, Query()]) -> Response:
        """Figures of the stored episodes that match: a row for each combination of the keys `by`, or one of all."""
        store = running.service.store
        rows = await asyncio.to_thread(lambda: store.stats(query.by, **query.filters()))
        return _json({"stats": [row.to_json() for row in rows]})

    @router.get(
        "/v1/episodes/{episode_id}",
        tags=["episodes"],
        responses={200: {"content": {"application/json": {}, "text/html": {}}}, **_errors(404)},
    )
    async def episode(episode_id: str, format: Literal["json", "html"] = "json") -> Response:
        """One stored episode by id or the unique beginning of one: JSON, or one self-contained page."""
        store = running.service.store

        def look() -> Response:
            found = store.get(episode_id)
            if format == "json":
                return _json(episode_to_json(found))
            from rollout_server.export_html import episode_to_html

            return HTMLResponse(episode_to_html(found), headers={"X-Content-Type-Options": "nosniff"})

        return await asyncio.to_thread(look)

    @router.post(
        "/v1/episodes/{episode_id}/fork",
        tags=["episodes"],
        status_code=201,
        responses={201: {"model": ForksAnswer}, **_errors(404, 409, 503)},
    )
    async def fork(episode_id: str, body: ForkEpisode, request: Request) -> Response:
        """Go on from a turn of a stored episode, `count` times, with a policy of this server; each fork is stored.

        Closing the connection cancels what is still being played.
        """
        service = running.service
        parent = await asyncio.to_thread(service.store.get, episode_id)
        options = ForkOptions(**body.model_dump(exclude={"policy"}))
        forks = await unless_gone(fork_many(service, parent, options, policy=body.policy), request)
        return await asyncio.to_thread(lambda: _json({"episodes": [episode_to_json(found) for found in forks]}, 201))

    @router.get("/healthz", tags=["server"])
    async def health() -> Response:
        """The process is alive."""
        return _json({"ok": True})

    @router.get("/readyz", tags=["server"], responses={200: {"model": ReadyAnswer}, 503: {"model": ReadyAnswer}})
    async def ready() -> Response:
        """Whether rollouts can be played now: the model is loaded and the env server is ready."""
        status = getattr(running.service.rollouts.engine, "status", None)  # of a pool: each member's
        engines = {} if status is None else {"engines": status()}
        try:
            await _check_ready(running)
        except EnvloopError as error:
            return _json({"ready": False, "error": error.to_json(), **engines}, 503)
        return _json({"ready": True, **engines})

    @router.get("/version", tags=["server"], responses={200: {"model": VersionAnswer}})
    async def version() -> Response:
        """Version of the package, the engine and the model."""
        engine = running.service.rollouts.engine
        model = Path(engine.model).name if engine.model.startswith("/") else engine.model
        protocols = [protocol.name for protocol in PROTOCOLS]
        return _json({"version": __version__, "engine": engine.name, "model": model, "protocols": protocols})

    return router


async def _check_ready(running: Running) -> None:
    """Raise what keeps the server from playing."""
    if not running.starting.done():
        raise BackendUnavailable("the model is being loaded", hint="ask again in a while")
    alive = getattr(running.service.rollouts.engine, "alive", None)  # None: an engine with no process to lose
    if not alive:
        running.starting.result()
    if alive is False:
        raise BackendUnavailable("the engine is not running", hint="its log says why; the next request starts it again")
    state = await running.service.client.ready()
    if not state["ready"]:
        error = state.get("error") or {}
        raise BackendUnavailable(
            str(error.get("message") or "no environment is ready"), hint=str(error.get("hint") or "")
        )
