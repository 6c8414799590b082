"""The async client of the environment server.

Errors of the server come back as the exceptions of ``envs.errors``; a connection that fails is a TransportError.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from envs.errors import EnvloopError, InvalidOption, TransportError, error_from_json
from envs.exchange import Exchange
from envs.types import Action, JsonObject, Task, TaskPage
from envs.wire import (
    EnvInfo,
    EpisodeView,
    TaskReader,
    action_from_json,
    action_to_json,
    env_from_json,
    episode_from_json,
    task_from_json,
    task_page_from_json,
)

__all__ = ["EnvClient", "NewEpisode"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEpisode:
    """What to begin: ``task_id``, or ``split`` and ``sample_seed`` (and ``type``) to draw a task.

    The same ``key`` always is the same episode; by default each one that is sent has a key of its own.
    """

    env: str
    task_id: str | None = None
    split: str | None = None
    type: str | None = None
    sample_seed: int | None = None
    seed: int = 0
    options: JsonObject | None = None
    key: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The request body. Raises InvalidOption unless exactly one source of the task is given."""
        body: dict[str, Any] = {"env": self.env, "seed": self.seed, "options": dict(self.options or {})}
        body["idempotency_key"] = self.key or secrets.token_hex(16)
        if self.task_id is not None:
            if not (self.split is None and self.sample_seed is None and self.type is None):
                raise InvalidOption("task_id stands alone", hint="leave out split, type and sample_seed")
            return {**body, "task_id": self.task_id}
        if self.split is None or self.sample_seed is None:
            raise InvalidOption("no task is named", hint="give task_id, or split and sample_seed")
        return {**body, "sampler": {"split": self.split, "seed": self.sample_seed, "type": self.type}}


class EnvClient:
    """Talks to one env server. One connection pool; safe for many tasks of one event loop.

    ``streams``: so many WebSockets carry what is asked about episodes, which costs both sides less and keeps an episode
    with one process of the server; 0 sends a request each. Where no WebSocket gets through, requests are sent, and the
    log says so.

    ``transport`` replaces the network (a mock, an in-process app). ``retries``: how often a request is sent again after
    a failed connection, where that is safe: reads, closes, creations, steps that carry their number, and whatever was
    not sent. ``patience_s``: for so long a server that has once answered may be away, or a tunnel may answer for it, or
    it may find the client too fast.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        timeout_s: float = 120.0,
        retries: int = 2,
        patience_s: float = 60.0,
        max_connections: int = 128,
        streams: int = 0,
    ) -> None:
        self._tasks = TaskReader()
        self._exchange = Exchange(
            base_url.rstrip("/"),
            token=token,
            transport=transport,
            timeout_s=timeout_s,
            retries=retries,
            patience_s=patience_s,
            max_connections=max_connections,
            streams=streams,
        )
        self._send = self._exchange.answer

    @classmethod
    @contextlib.asynccontextmanager
    async def in_process(cls, app: Any, *, token: str | None = None, patience_s: float = 60.0) -> AsyncIterator[Self]:
        """A client of an app in this process (``envs.server.app.create_app``), started and ended with the context."""
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            cls("http://127.0.0.1", token=token, transport=transport, patience_s=patience_s) as client,
        ):
            yield client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; episodes stay open on the server until closed or idle."""
        await self._exchange.aclose()

    async def version(self) -> JsonObject:
        """``{"version", "envs"}``."""
        version: JsonObject = await self._send("GET", "/version")
        return version

    async def ready(self) -> JsonObject:
        """``{"ready", "envs", "error"?}``: each environment's state. Raises TransportError where no server answers."""
        status, body = await self._exchange.ask("GET", "/readyz")
        if isinstance(body, dict) and "ready" in body:
            return body
        raise error_from_json(body, http_status=status)

    async def envs(self) -> tuple[EnvInfo, ...]:
        """All environments of the server."""
        return tuple(map(env_from_json, _field(await self._send("GET", "/v1/envs"), "envs")))

    async def env(self, name: str) -> EnvInfo:
        """One environment by name or versioned id. Raises UnknownEnv."""
        return env_from_json(await self._send("GET", f"/v1/envs/{quote(name, safe='')}"))

    async def tasks(
        self, env: str, *, split: str, type: str | None = None, offset: int = 0, limit: int = 100
    ) -> TaskPage:
        """A page of a split's tasks. Raises UnknownEnv, UnknownSplit, UnknownTaskType."""
        query: dict[str, str | int] = {"split": split, "offset": offset, "limit": limit}
        if type is not None:
            query["type"] = type
        path = f"/v1/envs/{quote(env, safe='')}/tasks"
        return task_page_from_json(await self._send("GET", path, query=query))

    async def iter_tasks(
        self, env: str, *, split: str, type: str | None = None, page: int = 500
    ) -> AsyncIterator[Task]:
        """Every task of a split, page by page; endless for an endless split."""
        offset = 0
        while True:
            found = await self.tasks(env, split=split, type=type, offset=offset, limit=page)
            for task in found.tasks:
                yield task
            offset += len(found.tasks)
            if not found.tasks or (found.total is not None and offset >= found.total):
                return

    async def task(self, env: str, task_id: str) -> Task:
        """One task. Raises UnknownTask."""
        return task_from_json(await self._send("GET", f"/v1/envs/{quote(env, safe='')}/tasks/{quote(task_id)}"))

    async def sample(self, env: str, split: str, seed: int, *, type: str | None = None) -> Task:
        """The task that a sampler draws from a split by seed. Raises UnknownSplit, UnknownTaskType."""
        query: dict[str, str | int] = {"split": split, "seed": seed}
        if type is not None:
            query["type"] = type
        return task_from_json(await self._send("GET", f"/v1/envs/{quote(env, safe='')}/sample", query=query))

    async def create(
        self,
        env: str,
        *,
        task_id: str | None = None,
        split: str | None = None,
        type: str | None = None,
        sample_seed: int | None = None,
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
        key: str | None = None,
    ) -> EpisodeView:
        """Begin an episode; the same ``key`` always is the same one (by default each call has its own).

        Raises UnknownEnv, UnknownTask, InvalidOption, CapacityExceeded, InfrastructureError.
        """
        new = NewEpisode(
            env=env,
            task_id=task_id,
            split=split,
            type=type,
            sample_seed=sample_seed,
            seed=seed,
            options=options,
            key=key,
        )
        body = new.to_json()
        answer = await self._send("POST", "/v1/episodes", body, streamed={"op": "create", **body})
        return self._episode(answer)

    async def step(self, episode: str | EpisodeView, action: Action, *, step: int | None = None) -> EpisodeView:
        """Take one action. Given the view instead of its id, the step carries its number and is sent again if need be.

        Raises: InvalidAction (nothing changed), EpisodeOver, Conflict, InfrastructureError (the episode has ended).
        """
        episode_id, body = _step_body(episode, action, step)
        path = f"/v1/episodes/{quote(episode_id, safe='')}/step"
        streamed = {"op": "step", "episode_id": episode_id, **body}
        return self._episode(await self._send("POST", path, body, idempotent="step" in body, streamed=streamed))

    async def read(self, episode_id: str) -> EpisodeView:
        """The episode as it stands. Raises UnknownEpisode."""
        streamed = {"op": "read", "episode_id": episode_id}
        return self._episode(await self._send("GET", f"/v1/episodes/{quote(episode_id, safe='')}", streamed=streamed))

    async def close_episode(self, episode_id: str) -> EpisodeView:
        """Close it; cancelled if it was running, unchanged if it had ended. Raises UnknownEpisode."""
        path, streamed = f"/v1/episodes/{quote(episode_id, safe='')}", {"op": "close", "episode_id": episode_id}
        return self._episode(await self._send("DELETE", path, streamed=streamed))

    async def fork(
        self, episode: str | EpisodeView, *, at_step: int | None = None, count: int = 1, key: str | None = None
    ) -> list[EpisodeView]:
        """New episodes that go on from a step of this one: ``at_step``, else the view's, else (by id) the present one.
        The same ``key`` always gives the same ones (by default each call has its own).

        It may run or have ended, and stays as it is. All or none of ``count``. Raises: UnknownEpisode; Conflict where
        it has not come so far; EpisodeOver where that step was its end; CapacityExceeded; InfrastructureError where the
        environment had to be played again and did otherwise.
        """
        if isinstance(episode, EpisodeView):
            at_step = episode.steps if at_step is None else at_step
            episode = episode.id
        path = f"/v1/episodes/{quote(episode, safe='')}/fork"
        body = {"at_step": at_step, "count": count, "idempotency_key": key or secrets.token_hex(16)}
        streamed = {"op": "fork", "episode_id": episode, **body}
        answer = await self._send("POST", path, body, streamed=streamed)
        return [episode_from_json(fork, self._tasks) for fork in _list(_field(answer, "episodes"))]

    async def expert_action(self, episode_id: str, expert: str | None = None) -> Action | None:
        """An expert's next action or None; by default that of the environment's first expert.

        Raises Forbidden without the expert token; InvalidOption, with the known names, for an unknown expert.
        """
        path = f"/v1/episodes/{quote(episode_id, safe='')}/expert"
        body = None if expert is None else {"expert": expert}
        streamed = {"op": "expert", "episode_id": episode_id, **(body or {})}
        action = _field(await self._send("POST", path, body, idempotent=True, streamed=streamed), "action")
        return None if action is None else action_from_json(action)

    async def create_many(self, items: Iterable[NewEpisode]) -> list[EpisodeView | EnvloopError]:
        """Begin many episodes side by side: a view or an error each, in order."""
        body = {"items": [item.to_json() for item in items]}
        return await self._batch("/v1/batch/episodes", body, idempotent=True)

    async def step_many(self, items: Iterable[tuple[str | EpisodeView, Action]]) -> list[EpisodeView | EnvloopError]:
        """Step many episodes side by side: a view or an error each, in order. Views carry their step numbers."""
        steps = []
        for episode, action in items:
            episode_id, body = _step_body(episode, action, None)
            steps.append({"episode_id": episode_id, **body})
        return await self._batch("/v1/batch/steps", {"items": steps}, idempotent=all("step" in s for s in steps))

    async def close_many(self, episode_ids: Iterable[str]) -> list[EpisodeView | EnvloopError]:
        """Close many episodes."""
        return await self._batch("/v1/batch/close", {"ids": list(episode_ids)}, idempotent=True)

    async def touch(self, episode_ids: Iterable[str]) -> list[float | EnvloopError]:
        """A heartbeat for episodes that nothing is asked of for a while: the seconds for which each lives, or an error.

        Every other request about an episode does the same.
        """
        ids = list(episode_ids)
        if not ids:
            return []
        results = _list(_field(await self._send("POST", "/v1/batch/touch", {"ids": ids}), "results"))
        return [
            float(_field(result, "lease_s")) if _field(result, "ok") else error_from_json(result, http_status=500)
            for result in results
        ]

    async def _batch(
        self, path: str, body: Mapping[str, Sequence[Any]], *, idempotent: bool
    ) -> list[EpisodeView | EnvloopError]:
        if not any(body.values()):
            return []
        results = _list(_field(await self._send("POST", path, body, idempotent=idempotent), "results"))
        return [
            episode_from_json(_field(result, "episode"), self._tasks)
            if _field(result, "ok")
            else error_from_json(result, http_status=500)
            for result in results
        ]

    def _episode(self, answer: Any) -> EpisodeView:
        """The view, from the body of a request's answer or from that of a stream's."""
        return episode_from_json(answer.get("episode", answer) if isinstance(answer, dict) else answer, self._tasks)


def _step_body(episode: str | EpisodeView, action: Action, step: int | None) -> tuple[str, dict[str, Any]]:
    body: dict[str, Any] = {"action": action_to_json(action)}
    if isinstance(episode, EpisodeView):
        step = episode.steps if step is None else step
        episode = episode.id
    if step is not None:
        body["step"] = step
    return episode, body


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TransportError("the server's answer has no list where one is due")
    return value


def _field(body: Any, name: str) -> Any:
    if not isinstance(body, dict) or name not in body:
        raise TransportError(
            f"the server's answer has no field {name!r}", hint="check that it is an envloop env server of this version"
        )
    return body[name]
