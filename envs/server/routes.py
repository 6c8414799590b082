"""The routes under /v1, and the three about the server itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from hashlib import blake2b
from typing import Annotated, Any, NoReturn

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import PlainTextResponse
from fastapi.routing import APIRoute
from pydantic import ValidationError

from envs import __version__
from envs.base import EnvFamily
from envs.errors import BackendUnavailable, EnvloopError, InvalidOption
from envs.server.auth import Access
from envs.server.families import Families
from envs.server.guard import internal_error, validation_error
from envs.server.metrics import METRICS_TYPE, Metrics
from envs.server.schemas import (
    SEED_LIMIT,
    BatchAnswer,
    BatchClose,
    BatchCreate,
    BatchStep,
    CreateEpisode,
    EnvAnswer,
    EnvsAnswer,
    EpisodeAnswer,
    ErrorAnswer,
    ExpertAnswer,
    ExpertRequest,
    ForkRequest,
    ForksAnswer,
    Malformed,
    ReadyAnswer,
    StepItem,
    StepRequest,
    TaskAnswer,
    TaskPageAnswer,
    VersionAnswer,
)
from envs.server.session import Session
from envs.server.sessions import SessionTable
from envs.types import Action, EnvSpec, Task
from envs.wire import EnvInfo, action_to_json, dumps, env_to_json, task_page_to_json, task_to_json

__all__ = ["build_routes"]

_PAGE_LIMIT = 1000
# Items of a batch that are done in one go; then whoever else waits has a turn.
_IN_ONE_GO = 16


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": ErrorAnswer} for status in (401, 422, *statuses)}


def _refuse_constant(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name} is not JSON", name, 0)


class _StrictRequest(Request):
    """Refuses NaN and Infinity, which are no JSON and could not be sent back."""

    async def json(self) -> Any:
        return json.loads(await self.body(), parse_constant=_refuse_constant)


class _StrictRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handler(_StrictRequest(request.scope, request.receive))

        return strict


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")


def _pick(request: CreateEpisode) -> Callable[[EnvFamily], Task]:
    task_id, sampler = request.task_id, request.sampler
    if task_id is not None:
        return lambda family: family.task(task_id)
    if sampler is None:
        raise InvalidOption("give either task_id or sampler")
    return lambda family: family.sample(sampler.split, sampler.seed, type=sampler.type)


async def _batch(works: Iterable[Coroutine[Any, Any, Session]], *, side_by_side: bool = True) -> Response:
    """All of them; where none of them waits for anything, one after the other, since a task each would cost more."""
    if side_by_side:
        results = await asyncio.gather(*map(_result, works))
    else:
        results = []
        for work in works:
            results.append(await _result(work))
            if len(results) % _IN_ONE_GO == 0:
                await asyncio.sleep(0)
    return _json(b'{"results":[' + b",".join(results) + b"]}")


async def _result(work: Awaitable[Session]) -> bytes:
    """One entry of a batch's answer: its failure stays its own."""
    try:
        session = await work
    except Exception as error:  # noqa: BLE001 - stands in the answer
        return _failed(error)
    return b'{"ok":true,"episode":' + session.body + b"}"


def _failed(error: Exception) -> bytes:
    """The entry of an item that failed; an unforeseen error is logged with an id, like that of a single request."""
    shown = error.to_json() if isinstance(error, EnvloopError) else internal_error(error, "an item of a batch")
    return dumps({"ok": False, "error": shown})


def _digest(request: CreateEpisode) -> str:
    """Of what is asked for, whatever the key and however it is sent."""
    asked = request.model_dump(mode="json", exclude={"idempotency_key"})
    return blake2b(json.dumps(asked, sort_keys=True).encode(), digest_size=16).hexdigest()


async def _refused(error: ValidationError) -> Session:
    raise validation_error(error.errors(include_url=False, include_input=False))


def build_routes(
    families: Families, sessions: SessionTable, access: Access, metrics: Metrics, *, max_batch: int
) -> APIRouter:
    """All routes, bound to the given parts."""
    router = APIRouter(route_class=_StrictRoute)

    async def describe(spec: EnvSpec) -> dict[str, Any]:
        readiness = await families.readiness(spec.name)
        try:
            splits = tuple(await asyncio.to_thread((await families.get(spec.name)).splits))
        except EnvloopError:
            splits = ()  # readiness says why
        return env_to_json(EnvInfo(spec, splits, readiness))

    async def create(request: CreateEpisode, header: str | None = None) -> Session:
        key = request.idempotency_key or header
        asked = "" if key is None else _digest(request)
        pick = _pick(request)
        return await sessions.create(
            request.env, pick, seed=request.seed, options=request.options, key=key, asked=asked
        )

    async def step(episode_id: str, request: StepRequest) -> Session:
        action = Action(request.action.name, request.action.arguments)
        return await sessions.step(episode_id, action, request.step)

    async def first_half(item: StepItem) -> tuple[Session, bytes]:
        """Take the step; it need not be written down yet. With what is to be told then."""
        action = Action(item.action.name, item.action.arguments)
        session = await sessions.step(item.episode_id, action, item.step, settle=False)
        return session, session.body

    async def second_half(item: StepItem, session: Session, body: bytes) -> bytes:
        settled = await sessions.settle(session, Action(item.action.name, item.action.arguments), item.step)
        return body if settled is session else settled.body

    def check_size(what: str, size: int) -> None:
        if size > max_batch:
            raise InvalidOption(f"{what}: {size} at once, and the limit is {max_batch}", hint="send several requests")

    @router.get("/v1/envs", tags=["environments"], responses={200: {"model": EnvsAnswer}, **_errors()})
    async def list_envs() -> Response:
        """All environments of this server."""
        return _json(dumps({"envs": await asyncio.gather(*map(describe, families.specs))}))

    @router.get("/v1/envs/{env}", tags=["environments"], responses={200: {"model": EnvAnswer}, **_errors(404)})
    async def read_env(env: str) -> Response:
        """One environment: spec, tools, splits with role and size, readiness."""
        return _json(dumps(await describe(families.spec(env))))

    @router.get(
        "/v1/envs/{env}/tasks", tags=["environments"], responses={200: {"model": TaskPageAnswer}, **_errors(404)}
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
        return _json(dumps(task_page_to_json(page)))

    @router.get(
        "/v1/envs/{env}/tasks/{task_id:path}",
        tags=["environments"],
        responses={200: {"model": TaskAnswer}, **_errors(404)},
    )
    async def read_task(env: str, task_id: str) -> Response:
        """One task by id."""
        family = await families.get(env)
        return _json(dumps(task_to_json(await asyncio.to_thread(family.task, task_id))))

    @router.get("/v1/envs/{env}/sample", tags=["environments"], responses={200: {"model": TaskAnswer}, **_errors(404)})
    async def sample_task(
        env: str, split: str, seed: Annotated[int, Query(ge=0, lt=SEED_LIMIT)] = 0, type: str | None = None
    ) -> Response:
        """The task that a sampler draws: the same (split, seed, type) always give the same one."""
        family = await families.get(env)
        return _json(dumps(task_to_json(await asyncio.to_thread(family.sample, split, seed, type=type))))

    @router.post(
        "/v1/episodes",
        tags=["episodes"],
        status_code=201,
        responses={201: {"model": EpisodeAnswer}, **_errors(404, 429, 503)},
    )
    async def create_episode(
        request: CreateEpisode, idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None
    ) -> Response:
        """Begin an episode of a task, named or drawn by a sampler. With an idempotency key it can be sent again."""
        return _json((await create(request, idempotency_key)).body, 201)

    @router.get(
        "/v1/episodes/{episode_id}", tags=["episodes"], responses={200: {"model": EpisodeAnswer}, **_errors(404)}
    )
    async def read_episode(episode_id: str) -> Response:
        """The episode as it stands; one that has ended can be read for a while."""
        return _json((await sessions.current(episode_id)).body)

    @router.post(
        "/v1/episodes/{episode_id}/step",
        tags=["episodes"],
        responses={200: {"model": EpisodeAnswer}, **_errors(404, 409, 503)},
    )
    async def step_episode(episode_id: str, request: StepRequest) -> Response:
        """Take one action. A 503 ends the episode without a reward; a 409 says that it is over or out of step."""
        return _json((await step(episode_id, request)).body)

    @router.post(
        "/v1/episodes/{episode_id}/fork",
        tags=["episodes"],
        status_code=201,
        responses={201: {"model": ForksAnswer}, **_errors(404, 409, 429, 503)},
    )
    async def fork_episode(episode_id: str, request: ForkRequest | None = None) -> Response:
        """New episodes that go on from a step of this one, which may have ended and stays as it is. All or none."""
        fork = request or ForkRequest()
        check_size("count", fork.count)
        forks = await sessions.fork(episode_id, at_step=fork.at_step, count=fork.count)
        return _json(b'{"episodes":[' + b",".join(session.body for session in forks) + b"]}", 201)

    @router.delete(
        "/v1/episodes/{episode_id}", tags=["episodes"], responses={200: {"model": EpisodeAnswer}, **_errors(404)}
    )
    async def close_episode(episode_id: str) -> Response:
        """Close the episode; it is cancelled where it was still running."""
        return _json((await sessions.close(episode_id)).body)

    @router.post(
        "/v1/episodes/{episode_id}/expert",
        tags=["episodes"],
        responses={200: {"model": ExpertAnswer}, **_errors(403, 404, 409, 503)},
    )
    async def expert_action(episode_id: str, request: Request, which: ExpertRequest | None = None) -> Response:
        """What an expert would do now. Privileged: needs the expert token."""
        access.check_expert(request.scope)
        action = await sessions.expert_action(episode_id, which.expert if which else None)
        return _json(dumps({"action": None if action is None else action_to_json(action)}))

    @router.post("/v1/batch/episodes", tags=["batches"], responses={200: {"model": BatchAnswer}, **_errors()})
    async def create_many(request: BatchCreate) -> Response:
        """Begin many episodes; each item succeeds or fails alone."""
        check_size("items", len(request.items))
        return await _batch([_refused(i.error) if isinstance(i, Malformed) else create(i) for i in request.items])

    @router.post("/v1/batch/steps", tags=["batches"], responses={200: {"model": BatchAnswer}, **_errors()})
    async def step_many(request: BatchStep) -> Response:
        """Step many episodes side by side; each item succeeds or fails alone."""
        check_size("items", len(request.items))

        if any(sessions.waits(item.episode_id) for item in request.items if isinstance(item, StepItem)):
            works = (_refused(i.error) if isinstance(i, Malformed) else step(i.episode_id, i) for i in request.items)
            return await _batch(works)
        taken: list[tuple[StepItem, Session, bytes] | bytes] = []
        for item in request.items:
            try:
                if isinstance(item, Malformed):
                    raise validation_error(item.error.errors(include_url=False, include_input=False))
                taken.append((item, *await first_half(item)))
            except Exception as error:  # noqa: BLE001 - stands in the answer
                taken.append(_failed(error))
            if len(taken) % _IN_ONE_GO == 0:
                await asyncio.sleep(0)
        results = []
        for one in taken:  # all are written in one go; the first waits for the others
            if isinstance(one, bytes):
                results.append(one)
                continue
            try:
                results.append(b'{"ok":true,"episode":' + await second_half(*one) + b"}")
            except Exception as error:  # noqa: BLE001 - stands in the answer
                results.append(_failed(error))
        return _json(b'{"results":[' + b",".join(results) + b"]}")

    @router.post("/v1/batch/close", tags=["batches"], responses={200: {"model": BatchAnswer}, **_errors()})
    async def close_many(request: BatchClose) -> Response:
        """Close many episodes."""
        check_size("ids", len(request.ids))
        return await _batch(
            map(sessions.close, request.ids), side_by_side=sessions.durable or any(map(sessions.waits, request.ids))
        )

    @router.get("/healthz", tags=["server"])
    async def healthz() -> Response:
        """Whether the process answers."""
        return _json(b'{"status":"ok"}')

    @router.get("/readyz", tags=["server"], responses={200: {"model": ReadyAnswer}, 503: {"model": ReadyAnswer}})
    async def readyz() -> Response:
        """Whether every environment can start episodes now; 503 names those that cannot, why, and what to do."""
        names = [spec.name for spec in families.specs]
        states = dict(zip(names, await asyncio.gather(*map(families.readiness, names)), strict=True))
        envs = {n: {"ready": r.ready, "detail": r.detail, "hint": r.hint} for n, r in states.items()}
        missing = {name: state for name, state in states.items() if not state.ready}
        if not missing:
            return _json(dumps({"ready": True, "envs": envs}))
        message = "; ".join(f"{name} is not ready: {state.detail}" for name, state in missing.items())
        hint = "; ".join(state.hint for state in missing.values() if state.hint)
        error = BackendUnavailable(message, hint=hint).to_json()
        return _json(dumps({"ready": False, "envs": envs, "error": error}), 503)

    @router.get("/metrics", tags=["server"], response_class=PlainTextResponse, responses=_errors())
    async def read_metrics(request: Request) -> Response:
        """What Prometheus asks for, of this process. Needs a token where the server has one."""
        access.check(request.scope)
        return Response(metrics.text(), media_type=METRICS_TYPE)

    @router.get("/version", tags=["server"], responses={200: {"model": VersionAnswer}})
    async def version() -> Response:
        """Versions of the package and of the environments."""
        return _json(dumps({"version": __version__, "envs": [spec.id for spec in families.specs]}))

    return router
