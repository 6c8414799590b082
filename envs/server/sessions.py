"""The session table: every live episode of the server, and for a while the last view of those that have ended."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from envs.base import EnvFamily, Environment
from envs.errors import (
    BackendUnavailable,
    CapacityExceeded,
    Conflict,
    EnvloopError,
    EpisodeOver,
    InfrastructureError,
    InvalidAction,
    UnknownEpisode,
)
from envs.server.families import Families
from envs.server.session import Session
from envs.types import Action, EpisodeStatus, Observation, StepResult, Task

__all__ = ["SessionTable"]

logger = logging.getLogger(__name__)

_CLOSE_WAIT_S = 5.0


class SessionTable:
    """Creates, steps, ends and forgets episodes.

    One lock per episode orders what is asked of it. What may block (resets, and steps of blocking environments) runs in
    a bounded thread pool; other steps run inline, since handing them over would cost more than the step.
    """

    def __init__(
        self,
        families: Families,
        *,
        max_episodes: int,
        idle_timeout_s: float,
        remember_ended: int,
        remember_ended_s: float,
        workers: int,
    ) -> None:
        self._families = families
        self._max_episodes = max_episodes
        self._idle_timeout_s = idle_timeout_s
        self._remember_ended = remember_ended
        self._remember_ended_s = remember_ended_s
        self._pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="envs-worker")
        self._live: dict[str, Session] = {}
        self._ended: OrderedDict[str, Session] = OrderedDict()
        self._starting = 0
        self._closed = False

    @property
    def num_live(self) -> int:
        """Episodes that hold resources now, those being created included."""
        return len(self._live) + self._starting

    async def create(
        self, env: str, pick: Callable[[EnvFamily], Task], *, seed: int, options: Mapping[str, Any]
    ) -> Session:
        """Begin an episode of the task that ``pick`` takes from the family.

        Raises: what ``pick`` and the environment's reset raise; CapacityExceeded; BackendUnavailable at shutdown.
        """
        family = await self._families.get(env)
        if self._closed:
            raise BackendUnavailable("the server is shutting down", hint="use another server or try again later")
        if self.num_live >= self._max_episodes:
            raise CapacityExceeded(
                f"all {self._max_episodes} episodes are taken",
                hint="close episodes that are done, or raise the setting max_episodes",
            )

        def begin() -> tuple[Task, Environment, Observation]:
            task = pick(family)
            environment = family.make()
            try:
                return task, environment, environment.reset(task, seed=seed, options=options)
            except BaseException:
                environment.close()
                raise

        self._starting += 1
        try:
            future = asyncio.get_running_loop().run_in_executor(self._pool, begin)
            try:
                task, environment, observation = await asyncio.shield(future)
            except asyncio.CancelledError:
                await asyncio.wait([future])
                if future.exception() is None:
                    await asyncio.to_thread(_close_quietly, future.result()[1])
                raise
        finally:
            self._starting -= 1
        session = Session(
            f"ep_{secrets.token_hex(12)}",
            spec=family.spec,
            task=task,
            seed=seed,
            options=options,
            environment=environment,
            observation=observation,
        )
        self._live[session.id] = session
        return session

    def read(self, episode_id: str) -> Session:
        """The session, live or remembered. Raises UnknownEpisode."""
        session = self._find(episode_id)
        session.touch()
        return session

    async def step(self, episode_id: str, action: Action, number: int | None = None) -> Session:
        """Apply an action. With ``number`` (the steps done so far) a repeat of the last step is answered, not applied.

        Raises: UnknownEpisode; EpisodeOver; Conflict where the number does not fit; InvalidAction (nothing changed);
        InfrastructureError (the episode has ended without a reward then).
        """
        session = self._find(episode_id)
        async with session.lock:
            session.touch()
            if number is not None and session.answers(number, action):
                return session
            if session.status.over:
                raise EpisodeOver(
                    f"episode {session.id} has ended: {session.ended_because}", hint="create a new episode"
                )
            if number is not None and number != session.steps:
                raise Conflict(
                    f"step {number} does not follow: episode {session.id} has done {session.steps}",
                    hint=f"send step {session.steps}, or read the episode first",
                )
            try:
                done = session.record(action, await self._apply(session, action))
            except (InvalidAction, EpisodeOver):
                raise
            except InfrastructureError as error:
                await self._end(session, EpisodeStatus.INFRASTRUCTURE_ERROR, error.message, failure=error)
                raise
            except asyncio.CancelledError:
                await self._end(session, EpisodeStatus.CANCELLED, "its request was cancelled in mid-step")
                raise
            except Exception:
                # A bug of the environment: its state is unknown, so the episode cannot go on and has no reward.
                await self._end(session, EpisodeStatus.INFRASTRUCTURE_ERROR, "the environment failed")
                raise
            if done:
                self._retire(session)
        return session

    async def close(self, episode_id: str, reason: str = "closed by the client") -> Session:
        """End an episode; one that is over already keeps its status. Raises UnknownEpisode."""
        session = self._find(episode_id)
        async with session.lock:
            if not session.status.over:
                await self._end(session, EpisodeStatus.CANCELLED, reason)
        return session

    async def expert_action(self, episode_id: str) -> Action | None:
        """What the expert would do now. Raises UnknownEpisode, EpisodeOver, InfrastructureError."""
        session = self._find(episode_id)
        async with session.lock:
            session.touch()
            environment = session.environment
            if environment is None:
                raise EpisodeOver(f"episode {session.id} has ended: {session.ended_because}")
            return await self._run(session.spec.blocking, environment.expert_action)

    async def reap(self, now: float | None = None) -> int:
        """Cancel the episodes that nobody has touched for the idle time and forget old ended ones.

        Gives the number cancelled. ``now``: seconds of ``time.monotonic``.
        """
        now = time.monotonic() if now is None else now
        while self._ended:
            oldest = next(iter(self._ended.values()))
            if now - oldest.ended_at < self._remember_ended_s and len(self._ended) <= self._remember_ended:
                break
            self._ended.popitem(last=False)
        idle = [
            session
            for session in self._live.values()
            if now - session.touched_at >= self._idle_timeout_s and not session.lock.locked()
        ]
        cancelled = 0
        for session in idle:
            async with session.lock:
                # Closing one takes its time; another may have been used or ended meanwhile.
                if not session.status.over and now - session.touched_at >= self._idle_timeout_s:
                    await self._end(session, EpisodeStatus.CANCELLED, f"idle for {self._idle_timeout_s:g} s")
                    cancelled += 1
        return cancelled

    async def aclose(self) -> None:
        """Cancel every episode and stop the workers. Idempotent."""
        self._closed = True

        async def end(session: Session) -> None:
            try:
                async with asyncio.timeout(_CLOSE_WAIT_S), session.lock:
                    if not session.status.over:
                        await self._end(session, EpisodeStatus.CANCELLED, "the server is shutting down")
            except TimeoutError:
                # Its step still runs; closing the family ends what it waits for.
                logger.warning("episode %s was still busy at shutdown", session.id)

        await asyncio.gather(*map(end, list(self._live.values())))
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _find(self, episode_id: str) -> Session:
        session = self._live.get(episode_id) or self._ended.get(episode_id)
        if session is None:
            raise UnknownEpisode(
                f"no episode has the id {episode_id!r}", hint="it may have ended long ago, or the server was restarted"
            )
        return session

    async def _apply(self, session: Session, action: Action) -> StepResult:
        environment = session.environment
        if environment is None:
            raise EpisodeOver(f"episode {session.id} has ended")

        def apply() -> StepResult:
            result = environment.step(action)
            if result.done:  # free its resources before the answer goes out
                _close_quietly(environment)
            return result

        return await self._run(session.spec.blocking, apply)

    async def _run[T](self, blocking: bool, work: Callable[[], T]) -> T:
        if not blocking:
            return work()
        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
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
        if environment is not None:
            await self._run(session.spec.blocking, lambda: _close_quietly(environment))

    def _retire(self, session: Session) -> None:
        self._live.pop(session.id, None)
        self._ended[session.id] = session
        while len(self._ended) > max(self._remember_ended, 1):
            self._ended.popitem(last=False)


def _close_quietly(environment: Environment) -> None:
    """Close at a boundary where the episode's answer matters more than a failed clean-up, which is logged."""
    try:
        environment.close()
    except Exception:
        logger.exception("an environment did not close cleanly")
