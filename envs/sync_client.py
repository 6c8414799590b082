"""``EnvClient`` for code without an event loop: a thin face over it, with no logic of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from envs.async_client import EnvClient, NewEpisode
from envs.errors import EnvloopError
from envs.types import Action, JsonObject, Task, TaskPage
from envs.wire import EnvInfo, EpisodeView

__all__ = ["SyncEnvClient"]


class SyncEnvClient:
    """``EnvClient`` for code without an event loop: each method runs the async one on a loop in a private thread."""

    def __init__(
        self,
        base_url: str = "",
        *,
        token: str | None = None,
        timeout_s: float = 120.0,
        retries: int = 2,
        connect: Callable[[], contextlib.AbstractAsyncContextManager[EnvClient]] | None = None,
    ) -> None:
        def network() -> EnvClient:
            return EnvClient(base_url, token=token, timeout_s=timeout_s, retries=retries)

        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="env-client", daemon=True)
        self._thread.start()
        self._exit = contextlib.AsyncExitStack()
        try:
            self._client = self._run(self._enter(connect or network))
        except BaseException:
            self._stop()
            raise

    @classmethod
    def in_process(cls, app: Any, *, token: str | None = None) -> Self:
        """A client of an app in this process, started here and ended by ``close``."""
        return cls(connect=lambda: EnvClient.in_process(app, token=token))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and end the thread. Idempotent."""
        if not self._loop.is_closed():
            try:
                self._run(self._exit.aclose())
            finally:
                self._stop()

    def version(self) -> JsonObject:
        """See ``EnvClient.version``."""
        return self._run(self._client.version())

    def ready(self) -> JsonObject:
        """See ``EnvClient.ready``."""
        return self._run(self._client.ready())

    def envs(self) -> tuple[EnvInfo, ...]:
        """See ``EnvClient.envs``."""
        return self._run(self._client.envs())

    def env(self, name: str) -> EnvInfo:
        """See ``EnvClient.env``."""
        return self._run(self._client.env(name))

    def tasks(self, env: str, *, split: str, type: str | None = None, offset: int = 0, limit: int = 100) -> TaskPage:
        """See ``EnvClient.tasks``."""
        return self._run(self._client.tasks(env, split=split, type=type, offset=offset, limit=limit))

    def iter_tasks(self, env: str, *, split: str, type: str | None = None, page: int = 500) -> Iterator[Task]:
        """See ``EnvClient.iter_tasks``."""
        found = self._client.iter_tasks(env, split=split, type=type, page=page)
        end = object()
        while (task := self._run(_wait(anext(found, end)))) is not end:
            yield task  # type: ignore[misc]

    def task(self, env: str, task_id: str) -> Task:
        """See ``EnvClient.task``."""
        return self._run(self._client.task(env, task_id))

    def sample(self, env: str, split: str, seed: int, *, type: str | None = None) -> Task:
        """See ``EnvClient.sample``."""
        return self._run(self._client.sample(env, split, seed, type=type))

    def create(
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
        """See ``EnvClient.create``."""
        creating = self._client.create(
            env,
            task_id=task_id,
            split=split,
            type=type,
            sample_seed=sample_seed,
            seed=seed,
            options=options,
            key=key,
        )
        return self._run(creating)

    def step(self, episode: str | EpisodeView, action: Action, *, step: int | None = None) -> EpisodeView:
        """See ``EnvClient.step``."""
        return self._run(self._client.step(episode, action, step=step))

    def read(self, episode_id: str) -> EpisodeView:
        """See ``EnvClient.read``."""
        return self._run(self._client.read(episode_id))

    def close_episode(self, episode_id: str) -> EpisodeView:
        """See ``EnvClient.close_episode``."""
        return self._run(self._client.close_episode(episode_id))

    def fork(
        self, episode: str | EpisodeView, *, at_step: int | None = None, count: int = 1, key: str | None = None
    ) -> list[EpisodeView]:
        """See ``EnvClient.fork``."""
        return self._run(self._client.fork(episode, at_step=at_step, count=count, key=key))

    def expert_action(self, episode_id: str, expert: str | None = None) -> Action | None:
        """See ``EnvClient.expert_action``."""
        return self._run(self._client.expert_action(episode_id, expert))

    def create_many(self, items: Iterable[NewEpisode]) -> list[EpisodeView | EnvloopError]:
        """See ``EnvClient.create_many``."""
        return self._run(self._client.create_many(items))

    def step_many(self, items: Iterable[tuple[str | EpisodeView, Action]]) -> list[EpisodeView | EnvloopError]:
        """See ``EnvClient.step_many``."""
        return self._run(self._client.step_many(items))

    def close_many(self, episode_ids: Iterable[str]) -> list[EpisodeView | EnvloopError]:
        """See ``EnvClient.close_many``."""
        return self._run(self._client.close_many(episode_ids))

    def touch(self, episode_ids: Iterable[str]) -> list[float | EnvloopError]:
        """See ``EnvClient.touch``."""
        return self._run(self._client.touch(episode_ids))

    async def _enter(self, connect: Callable[[], contextlib.AbstractAsyncContextManager[EnvClient]]) -> EnvClient:
        return await self._exit.enter_async_context(connect())

    def _run[T](self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C while waiting: the request is dropped too
            raise

    def _stop(self) -> None:
        # On its own thread: in a notebook this one has a loop that runs.
        self._run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _wait[T](work: Awaitable[T]) -> T:
    return await work
