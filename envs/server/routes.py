"""The routes under /v1, and the three about the server itself."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import PlainTextResponse

from envs import __version__
from envs.errors import BackendUnavailable, EnvloopError
from envs.server.auth import Access
from envs.server.families import Families
from envs.server.metrics import METRICS_TYPE, Metrics
from envs.server.operations import Operations
from envs.server.plumbing import StrictRoute, documented_errors, json_response
from envs.server.schemas import (
    SEED_LIMIT,
    CreateEpisode,
    EnvAnswer,
    EnvsAnswer,
    EpisodeAnswer,
    ExpertAnswer,
    ExpertRequest,
    ForkRequest,
    ForksAnswer,
    IdempotencyKey,
    ReadyAnswer,
    StepRequest,
    TaskAnswer,
    TaskPageAnswer,
    VersionAnswer,
)
from envs.types import EnvSpec
from envs.wire import EnvInfo, action_to_json, dumps, env_to_json, task_page_to_json, task_to_json

__all__ = ["build_routes"]

_PAGE_LIMIT = 1000


def build_routes(families: Families, operations: Operations, access: Access, metrics: Metrics) -> APIRouter:
    """All routes, bound to the given parts."""
    router = APIRouter(route_class=StrictRoute)
    sessions = operations.sessions

    async def describe(spec: EnvSpec) -> dict[str, Any]:
        readiness = await families.readiness(spec.name)
        try:
            splits = tuple(await asyncio.to_thread((await families.get(spec.name)).splits))
        except EnvloopError:
            splits = ()  # readiness says why
        return env_to_json(EnvInfo(spec, splits, readiness))

    @router.get("/v1/envs", tags=["environments"], responses={200: {"model": EnvsAnswer}, **documented_errors()})
    async def list_envs() -> Response:
        """All environments of this server."""
        return json_response(dumps({"envs": await asyncio.gather(*map(describe, families.specs))}))

    @router.get(
        "/v1/envs/{env}", tags=["environments"], responses={200: {"model": EnvAnswer}, **documented_errors(404)}
    )
    async def read_env(env: str) -> Response:
        """One environment: spec, tools, splits with role and size, readiness."""
        return json_response(dumps(await describe(families.spec(env))))

    @router.get(
        "/v1/envs/{env}/tasks",
        tags=["environments"],
        responses={200: {"model": TaskPageAnswer}, **documented_errors(404)},
    )
    async def list_tasks(
        env: str,
        split: str,
        type: str | None = None,
        offset: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=_PAGE_LIMIT)] = 100,
    ) -> Response:
        """A page of a split's tasks in a fixed order, never with a gold answer."""
        family = await families.get(env)
        page = await asyncio.to_thread(family.tasks, split, type=type, offset=offset, limit=limit)
        return json_response(dumps(task_page_to_json(page)))

    @router.get(
        "/v1/envs/{env}/tasks/{task_id:path}",
        tags=["environments"],
        responses={200: {"model": TaskAnswer}, **documented_errors(404)},
    )
    async def read_task(env: str, task_id: str) -> Response:
        """One task by id."""
        family = await families.get(env)
        return json_response(dumps(task_to_json(await asyncio.to_thread(family.task, task_id))))

    @router.get(
        "/v1/envs/{env}/sample", tags=["environments"], responses={200: {"model": TaskAnswer}, **documented_errors(404)}
    )
    async def sample_task(
        env: str, split: str, seed: Annotated[int, Query(ge=0, lt=SEED_LIMIT)] = 0, type: str | None = None
    ) -> Response:
        """The task that a sampler draws: the same (split, seed, type) always give the same one."""
        family = await families.get(env)
        return json_response(dumps(task_to_json(await asyncio.to_thread(family.sample, split, seed, type=type))))

    @router.post(
        "/v1/episodes",
        tags=["episodes"],
        status_code=201,
        responses={201: {"model": EpisodeAnswer}, **documented_errors(404, 409, 429, 503)},
    )
    async def create_episode(
        request: CreateEpisode, idempotency_key: Annotated[IdempotencyKey | None, Header()] = None
    ) -> Response:
        """Begin an episode of a task, named or drawn by a sampler. With an idempotency key it can be sent again."""
        return json_response((await operations.create(request, idempotency_key)).body, 201)

    @router.get(
        "/v1/episodes/{episode_id}",
        tags=["episodes"],
        responses={200: {"model": EpisodeAnswer}, **documented_errors(404)},
    )
    async def read_episode(episode_id: str) -> Response:
        """The episode as it stands; one that has ended can be read for a while."""
        return json_response((await sessions.current(episode_id)).body)

    @router.post(
        "/v1/episodes/{episode_id}/step",
        tags=["episodes"],
        responses={200: {"model": EpisodeAnswer}, **documented_errors(404, 409, 503)},
    )
    async def step_episode(episode_id: str, request: StepRequest) -> Response:
        """Take one action. A 503 ends the episode without a reward; a 409 says that it is over or out of step."""
        return json_response((await operations.step(episode_id, request)).body)

    @router.post(
        "/v1/episodes/{episode_id}/fork",
        tags=["episodes"],
        status_code=201,
        responses={201: {"model": ForksAnswer}, **documented_errors(404, 409, 429, 503)},
    )
    async def fork_episode(
        episode_id: str,
        request: ForkRequest | None = None,
        idempotency_key: Annotated[IdempotencyKey | None, Header()] = None,
    ) -> Response:
        """New episodes that go on from a step of this one, which may have ended and stays as it is. All or none."""
        forks = await operations.fork(episode_id, request or ForkRequest(), idempotency_key)
        return json_response(b'{"episodes":[' + b",".join(session.body for session in forks) + b"]}", 201)

    @router.delete(
        "/v1/episodes/{episode_id}",
        tags=["episodes"],
        responses={200: {"model": EpisodeAnswer}, **documented_errors(404)},
    )
    async def close_episode(episode_id: str) -> Response:
        """Close the episode; it is cancelled where it was still running."""
        return json_response((await sessions.close(episode_id)).body)

    @router.post(
        "/v1/episodes/{episode_id}/expert",
        tags=["episodes"],
        responses={200: {"model": ExpertAnswer}, **documented_errors(403, 404, 409, 503)},
    )
    async def expert_action(episode_id: str, request: Request, which: ExpertRequest | None = None) -> Response:
        """What an expert would do now. Privileged: needs the expert token."""
        access.check_expert(request.scope)
        action = await sessions.expert_action(episode_id, which.expert if which else None)
        return json_response(dumps({"action": None if action is None else action_to_json(action)}))

    @router.get("/healthz", tags=["server"])
    async def healthz() -> Response:
        """Whether the process answers."""
        return json_response(b'{"status":"ok"}')

    @router.get("/readyz", tags=["server"], responses={200: {"model": ReadyAnswer}, 503: {"model": ReadyAnswer}})
    async def readyz() -> Response:
        """Whether every environment can start episodes now; 503 names those that cannot, why, and what to do."""
        names = [spec.name for spec in families.specs]
        states = dict(zip(names, await asyncio.gather(*map(families.readiness, names)), strict=True))
        envs = {n: {"ready": r.ready, "detail": r.detail, "hint": r.hint} for n, r in states.items()}
        missing = {name: state for name, state in states.items() if not state.ready}
        if not missing:
            return json_response(dumps({"ready": True, "envs": envs}))
        message = "; ".join(f"{name} is not ready: {state.detail}" for name, state in missing.items())
        hint = "; ".join(state.hint for state in missing.values() if state.hint)
        error = BackendUnavailable(message, hint=hint).to_json()
        return json_response(dumps({"ready": False, "envs": envs, "error": error}), 503)

    @router.get("/metrics", tags=["server"], response_class=PlainTextResponse, responses=documented_errors())
    async def read_metrics(request: Request) -> Response:
        """What Prometheus asks for, of this process. Needs a token where the server has one."""
        access.check(request.scope)
        return Response(metrics.text(), media_type=METRICS_TYPE)

    @router.get("/version", tags=["server"], responses={200: {"model": VersionAnswer}})
    async def version() -> Response:
        """Versions of the package and of the environments."""
        return json_response(dumps({"version": __version__, "envs": [spec.id for spec in families.specs]}))

    return router
