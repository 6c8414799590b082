"""The session table: every live episode of the server, and for a while the last view of those that have ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

from envs.base import EnvFamily, Environment, HasExperts
from envs.errors import (
    BackendUnavailable,
    CapacityExceeded,
    Conflict,
    EnvloopError,
    EpisodeOver,
    InfrastructureError,
    InvalidAction,
    InvalidOption,
    UnknownEpisode,
)
from envs.server.families import Families
from envs.server.forks import Branch, Replay, begin, close_all, close_quietly, copy
from envs.server.history import History
from envs.server.session import Session, SharedTask
from envs.server.workers import Workers
from envs.types import Action, EnvSpec, EpisodeStatus, StepResult, Task
from envs.wire import ForkOrigin

__all__ = ["SessionTable"]

logger = logging.getLogger(__name__)

_CLOSE_WAIT_S = 5.0
_SHARED_TASKS = 4096


class SessionTable:
    """Creates, steps, forks, ends and forgets episodes.

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
        self._workers = Workers(workers, "envs-worker")
        self._live: dict[str, Session] = {}
        self._ended: OrderedDict[str, Session] = OrderedDict()
        self._tasks: OrderedDict[tuple[str, str], SharedTask] = OrderedDict()
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

        async def make() -> list[Branch]:
            return [await self._run(True, lambda: begin(family, pick(family), seed, options))]

        with self._places(1):
            (branch,) = await self._whole(make())
            return self._add(family.spec, branch, seed=seed, options=options, history=History(branch.view))

    async def fork(self, episode_id: str, *, at_step: int | None = None, count: int = 1) -> list[Session]:
        """New episodes that go on from a step of this one (by default the present), which may have ended. All or none.

        Raises: UnknownEpisode; Conflict where it has not come so far, or said too much to be kept; EpisodeOver for a
        step after which it was over; CapacityExceeded; what a reset raises; InfrastructureError where the environment,
        played again, does otherwise.
        """
        session = self._find(episode_id)
        family = await self._families.get(session.spec.name)
        branches = None
        with self._places(count):
            async with session.lock:
                session.touch()
                step = session.fork_step(at_step)
                history = session.history.until(step)
                if session.environment is not None and step == session.steps:
                    present = Branch(session.task, session.environment, session.view)
                    if session.spec.blocking:
                        branches = await self._whole(self._run(True, lambda: copy(present, count)))
                    else:  # in one go: a step in between would be in the copies and not in their history
                        branches = copy(present, count)
            if branches is None:
                if not history.complete:
                    raise Conflict(
                        f"episode {session.id} cannot be played again: its actions were too long to be kept",
                        hint="fork while it runs, or send shorter actions",
                    )
                replay = Replay(session.id, family, session.task, session.seed, session.options, history)
                branches = await self._whole(self._replayed(replay, count))
            origin = ForkOrigin(session.id, step)
            return [
                self._add(
                    session.spec,
                    branch,
                    seed=session.seed,
                    options=session.options,
                    history=history.until(step),
                    steps=step,
                    forked_from=origin,
                )
                for branch in branches
            ]

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
                raise _over(session)
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
            session.touch()  # a long step is no idleness of its client
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

    async def expert_action(self, episode_id: str, expert: str | None = None) -> Action | None:
        """What the expert (by default the environment's first) would do now.

        Raises UnknownEpisode, EpisodeOver, InfrastructureError; InvalidOption for an expert that there is not.
        """
        session = self._find(episode_id)
        async with session.lock:
            session.touch()
            environment = session.environment
            if environment is None:
                raise _over(session)
            return await self._run(session.spec.blocking, lambda: _ask(environment, expert))

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
            if now - session.touched_at >= self._idle_timeout_s and not session.busy
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
        self._workers.close()

    def waits(self, episode_id: str) -> bool:
        """Whether what is asked of this episode may have to wait for another thread or for its turn."""
        session = self._live.get(episode_id)
        return session is not None and session.spec.blocking

    def _find(self, episode_id: str) -> Session:
        session = self._live.get(episode_id) or self._ended.get(episode_id)
        if session is None:
            raise UnknownEpisode(
                f"no episode has the id {episode_id!r}", hint="it may have ended long ago, or the server was restarted"
            )
        return session

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
            raise BackendUnavailable("the server is shutting down", hint="use another server or try again later")

    async def _whole[T: (list[Branch], list[Branch] | None)](self, work: Coroutine[Any, Any, T]) -> T:
        """Environments are made to the end, even where their asker goes away, since none may be left open."""
        making = asyncio.create_task(work)
        try:
            made = await asyncio.shield(making)
            self._refuse_when_closed()
        except (asyncio.CancelledError, BackendUnavailable):
            await asyncio.wait([making])
            if making.exception() is None and (unwanted := making.result()) is not None:
                await asyncio.to_thread(close_all, unwanted)
            raise
        return made

    async def _replayed(self, replay: Replay, count: int) -> list[Branch]:
        """One environment is played again; the others are copies of it, or are played again side by side."""
        branches = await self._run(True, lambda: replay.play_and_copy(count))
        more = [self._run(True, replay.play) for _ in range(count - len(branches))]
        results = await asyncio.gather(*more, return_exceptions=True)
        branches += [result for result in results if isinstance(result, Branch)]
        failures = [result for result in results if isinstance(result, BaseException)]
        if failures:
            await self._run(True, lambda: close_all(branches))
            raise failures[0]
        return branches

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
            f"ep_{secrets.token_hex(12)}",
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

    async def _apply(self, session: Session, action: Action) -> StepResult:
        environment = session.environment
        if environment is None:
            raise EpisodeOver(f"episode {session.id} has ended")

        def apply() -> StepResult:
            result = environment.step(action)
            if result.done:  # free its resources before the answer goes out
                close_quietly(environment)
            return result

        return await self._run(session.spec.blocking, apply)

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
        if environment is not None:
            await self._run(session.spec.blocking, lambda: close_quietly(environment))

    def _retire(self, session: Session) -> None:
        self._live.pop(session.id, None)
        self._ended[session.id] = session
        while len(self._ended) > max(self._remember_ended, 1):
            self._ended.popitem(last=False)


def _over(session: Session) -> EpisodeOver:
    return EpisodeOver(f"episode {session.id} has ended: {session.ended_because}", hint="create a new episode")


def _ask(environment: Environment, expert: str | None) -> Action | None:
    if expert is None:
        return environment.expert_action()
    known = environment.experts if isinstance(environment, HasExperts) else ()
    if not isinstance(environment, HasExperts) or expert not in known:
        hint = f"known: {', '.join(known)}" if known else "leave expert out: there is only one here"
        raise InvalidOption(f"this environment has no expert {expert!r:.80}", hint=hint)
    return environment.expert_action(expert)
