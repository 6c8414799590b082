"""The live episodes of this process: their places, their environments, their ends, and what is remembered of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any

from envs.errors import CapacityExceeded, EnvloopError, TryAgain, UnknownEpisode
from envs.server.families import Families
from envs.server.forks import Branch, close_all, close_quietly
from envs.server.history import History
from envs.server.journal import Journal
from envs.server.metrics import Metrics
from envs.server.restoring import failure_text, final_text
from envs.server.session import Session, SharedTask
from envs.server.workers import Workers
from envs.types import EnvSpec, EpisodeStatus, Task
from envs.wire import ForkOrigin

__all__ = ["Lives"]

logger = logging.getLogger(__name__)

_CLOSE_WAIT_S = 5.0
_SHARED_TASKS = 4096
_COPY_S = 20.0  # what rests for so long may have been played on elsewhere
_COPIES = 500  # looked at in one go


class Lives:
    """What a session table holds. With a journal an episode may live on elsewhere: what is held here is a copy."""

    def __init__(
        self,
        families: Families,
        *,
        max_episodes: int,
        idle_timeout_s: float,
        remember_ended: int,
        remember_ended_s: float,
        threads: int,
        journal: Journal | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._families = families
        self._metrics = metrics or Metrics()
        self._max_episodes = max_episodes
        self._idle_timeout_s = idle_timeout_s
        self._remember_ended = remember_ended
        self._remember_ended_s = remember_ended_s
        self._journal = journal
        self._workers = Workers(threads, "envs-worker")
        self._live: dict[str, Session] = {}
        self._ended: OrderedDict[str, Session] = OrderedDict()
        self._tasks: OrderedDict[tuple[str, str], SharedTask] = OrderedDict()
        self._starting = 0
        self._closed = False
        self._show()

    @property
    def num_live(self) -> int:
        """Episodes that hold resources now, those being created included."""
        return len(self._live) + self._starting

    def read(self, episode_id: str) -> Session:
        """The session as it is held here, live or remembered. Raises UnknownEpisode."""
        session = self._live.get(episode_id) or self._ended.get(episode_id)
        if session is None:
            raise UnknownEpisode(f"no episode has the id {episode_id!r}", hint=self._unknown_hint())
        session.touch()
        return session

    async def reap(self, now: float | None = None) -> int:
        """Cancel the episodes that nobody has touched for the idle time and forget old ended ones.

        Gives the number cancelled. ``now``: seconds of ``time.monotonic``.
        """
        asked = time.monotonic()
        now = asked if now is None else now
        cancelled = 0
        if self._journal is not None:  # those that no server holds any more, too
            cancelled = await self._journal.sweep(
                idle_s=self._idle_timeout_s, remember_s=self._remember_ended_s, reason=self._idle_reason
            )
            await self._drop_copies(self._journal, now)
        # After the journal, and by the clock of then: what it has forgotten is not told from here any longer.
        self._forget(now + time.monotonic() - asked)
        idle = [
            session
            for session in self._live.values()
            if now - session.touched_at >= self._idle_timeout_s and not session.busy
        ]
        for session in idle:
            async with session.lock:
                # Closing one takes its time; another may have been used or ended meanwhile.
                if not session.status.over and now - session.touched_at >= self._idle_timeout_s:
                    if self._journal is not None:
                        await self._let_go(session)  # the journal's own clock decides about its end
                    else:
                        await self._end(session, EpisodeStatus.CANCELLED, self._idle_reason)
                        cancelled += 1
        return cancelled

    def _forget(self, now: float) -> None:
        while self._ended:
            oldest = next(iter(self._ended.values()))
            if now - oldest.ended_at < self._remember_ended_s and len(self._ended) <= self._remember_ended:
                break
            self._ended.popitem(last=False)

    async def _drop_copies(self, journal: Journal, now: float) -> None:
        """Let go what has been played on elsewhere: its environment is held here for nothing."""
        resting = [s for s in self._live.values() if now - s.touched_at >= _COPY_S and not s.busy][:_COPIES]
        here = {session.id: session.steps for session in resting}
        for episode_id in await journal.moved(list(here.items())):
            session = self._live.get(episode_id)
            if session is not None and session.steps == here[episode_id]:
                async with session.lock:
                    await self._let_go(session)

    async def aclose(self) -> None:
        """Stop. With a journal, episodes are let go and may live on elsewhere; else they are cancelled. Idempotent."""
        self._closed = True

        async def end(session: Session) -> None:
            try:
                async with asyncio.timeout(_CLOSE_WAIT_S), session.lock:
                    if self._journal is not None:
                        await self._let_go(session)
                    elif not session.status.over:
                        await self._end(session, EpisodeStatus.CANCELLED, "the server is shutting down")
            except TimeoutError:
                # Its step still runs; closing the family ends what it waits for.
                logger.warning("episode %s was still busy at shutdown", session.id)

        await asyncio.gather(*map(end, list(self._live.values())))
        self._workers.close()

    @property
    def idle_timeout_s(self) -> float:
        """For how long an episode lives that nothing is asked of."""
        return self._idle_timeout_s

    @property
    def durable(self) -> bool:
        """Whether what is done is written to a journal before it is answered."""
        return self._journal is not None

    def waits(self, episode_id: str) -> bool:
        """Whether what is asked of this episode may have to wait for another thread or for its turn."""
        session = self._live.get(episode_id)
        return session is not None and session.spec.blocking

    def at_hand(self, episode_id: object) -> bool:
        """Whether this episode is held here, and what is asked of it waits for nothing but the journal."""
        session = self._live.get(episode_id) if isinstance(episode_id, str) else None
        return session is not None and not session.spec.blocking and not session.stale

    def _show(self) -> None:
        """What the metrics read from here."""

        def live() -> Iterable[tuple[Sequence[str], float]]:
            counts = Counter(session.spec.name for session in self._live.values())
            return [((spec.name,), counts[spec.name]) for spec in self._families.specs]

        self._metrics.watch_each("envloop_episodes_live", "Episodes held here.", ("env",), live)
        self._metrics.watch_each(
            "envloop_env_resources", "What an environment holds.", ("env", "resource"), self._families.figures
        )
        self._metrics.watch("envloop_threads_waiting", "Work that waits for a thread.", lambda: self._workers.waiting)
        self._metrics.watch("envloop_threads", "Threads for what may block.", lambda: self._workers.threads)
        journal = self._journal
        if journal is not None:
            self._metrics.watch("envloop_journal_pending", "Writes that wait.", lambda: journal.pending)
            self._metrics.watch("envloop_journal_failures", "Writes that failed.", lambda: journal.failures)

    @property
    def _idle_reason(self) -> str:
        return f"idle for {self._idle_timeout_s:g} s"

    def _unknown_hint(self) -> str:
        if self._journal is not None:
            return "it ended long ago, or was begun on a server with another journal"
        return "it may have ended long ago, or the server was restarted"

    def _touch(self, session: Session) -> None:
        session.touch()
        due = session.touched_at - session.written_at > self._idle_timeout_s / 4
        if self._journal is not None and due and not session.status.over:
            session.written_at = session.touched_at
            self._journal.touch(session.id)

    @contextlib.contextmanager
    def _places(self, count: int) -> Iterator[None]:
        """So many of the places for live episodes, until those are there that take them."""
        self._refuse_when_closed()
        if self.num_live + count > self._max_episodes:
            free = max(0, self._max_episodes - self.num_live)
            raise CapacityExceeded(
                f"no place for {count} more: {free} of {self._max_episodes} are free",
                hint="close episodes that are done, or raise the setting max_episodes",
            )
        self._starting += count
        try:
            yield
        finally:
            self._starting -= count

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise TryAgain("the server is shutting down", hint="use another server or try again later")

    async def _whole[T: (list[Branch], list[Branch] | None)](self, work: Coroutine[Any, Any, T]) -> T:
        """Environments are made to the end, even where their asker goes away, since none may be left open."""
        making = asyncio.create_task(work)
        try:
            made = await asyncio.shield(making)
            self._refuse_when_closed()
        except (asyncio.CancelledError, TryAgain):
            await asyncio.wait([making])
            if making.exception() is None and (unwanted := making.result()) is not None:
                await asyncio.to_thread(close_all, unwanted)
            raise
        return made

    def _add(
        self,
        spec: EnvSpec,
        branch: Branch,
        *,
        seed: int,
        options: Mapping[str, Any],
        history: History,
        steps: int = 0,
        forked_from: ForkOrigin | None = None,
    ) -> Session:
        session = Session(
            _new_id(),
            spec=spec,
            task=self._shared(spec.name, branch.task),
            seed=seed,
            options=options,
            environment=branch.environment,
            view=branch.view,
            history=history,
            steps=steps,
            forked_from=forked_from,
        )
        self._live[session.id] = session
        return session

    def _shared(self, env: str, task: Task) -> SharedTask:
        """The task as other episodes have it."""
        key = (env, task.id)
        shared = self._tasks.get(key)
        if shared is None or shared.task != task:
            shared = self._tasks[key] = SharedTask.of(task, env)
        self._tasks.move_to_end(key)
        while len(self._tasks) > _SHARED_TASKS:
            self._tasks.popitem(last=False)
        return shared

    async def _run[T](self, blocking: bool, work: Callable[[], T]) -> T:
        if not blocking:
            return work()
        future = self._workers.run(work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])  # the lock must be held for as long as the thread works
            if not future.cancelled() and (error := future.exception()) is not None:
                logger.warning("a cancelled step had failed", exc_info=error)
            raise

    async def _end(
        self, session: Session, status: EpisodeStatus, reason: str, *, failure: EnvloopError | None = None
    ) -> None:
        environment = session.environment
        session.end(status, reason, failure=failure)
        self._retire(session)
        if self._journal is not None:
            writing = self._journal.end(
                session.id,
                steps=session.steps,
                status=status.value,
                reason=reason,
                failure=failure_text(failure),
                final=final_text(session.view),
            )
            session.write(writing)
        if environment is not None:
            await self._run(session.spec.blocking, lambda: close_quietly(environment))
        if await session.settled():
            self._metrics.ended.labels(session.spec.name, status.value).inc()

    async def _let_go(self, session: Session) -> None:
        """Hold it here no more; in the journal it stays as it is."""
        self._live.pop(session.id, None)
        self._ended.pop(session.id, None)
        environment, session.environment = session.environment, None
        session.stale = True
        if environment is not None:
            await self._run(session.spec.blocking, lambda: close_quietly(environment))

    def _retire(self, session: Session) -> None:
        self._live.pop(session.id, None)
        self._ended[session.id] = session
        while len(self._ended) > max(self._remember_ended, 1):
            self._ended.popitem(last=False)


def _new_id() -> str:
    """Unguessable, and in the order of time: the journal's indexes then grow at their end, and not all over."""
    return f"ep_{time.time_ns() // 1_000_000:011x}{secrets.token_hex(10)}"
