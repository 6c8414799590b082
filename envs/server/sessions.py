"""The session table: every live episode of the server, and for a while the last view of those that have ended."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from envs.base import EnvFamily, Environment, HasExperts
from envs.errors import (
    BackendUnavailable,
    Conflict,
    EnvloopError,
    EpisodeOver,
    InfrastructureError,
    InvalidAction,
    InvalidOption,
    TryAgain,
)
from envs.server.families import Families
from envs.server.forks import Branch, Replay, begin, close_all, close_quietly, copy
from envs.server.history import History, action_text, digest
from envs.server.journal_records import Taken
from envs.server.restoring import (
    begun_of,
    final_text,
    fork_key,
)
from envs.server.session import Session
from envs.server.shared_lives import TRIES, SharedLives
from envs.types import Action, EpisodeStatus, StepResult, Task
from envs.wire import ForkOrigin

__all__ = ["SessionTable"]

_KEYS = 65536


class SessionTable(SharedLives):
    """Creates, steps, forks, ends and forgets episodes.

    One lock per episode orders what is asked of it. What may block (resets, and steps of blocking environments) runs in
    a bounded thread pool; other steps run inline, since handing them over would cost more than the step.

    With a journal nothing is answered before it is written there, an episode that is not held here is played again from
    what is written, and where another server has gone on with it, what is held here is dropped and played again.
    """

    def __init__(self, families: Families, **settings: Any) -> None:
        super().__init__(families, **settings)
        self._keys: OrderedDict[tuple[str, str], tuple[str, asyncio.Future[tuple[str, ...]]]] = OrderedDict()

    async def create(
        self,
        env: str,
        pick: Callable[[EnvFamily], Task],
        *,
        seed: int,
        options: Mapping[str, Any],
        key: str | None = None,
        asked: str = "",
    ) -> Session:
        """Begin an episode of the task that ``pick`` takes from the family.

        With the same ``key`` again it is the same episode; ``asked`` tells whether the same was asked for.

        Raises: what ``pick`` and the environment's reset raise; CapacityExceeded; Conflict where the key was used for
        something else; TryAgain at shutdown or where the journal fails.
        """
        if key is None:
            return await self._create(env, pick, seed=seed, options=options, key=None, asked=asked)

        async def make() -> list[Session]:
            return [await self._create(env, pick, seed=seed, options=options, key=key, asked=asked)]

        (session,) = await self._once("create", key, asked, make)
        return session

    async def _once(
        self, kind: str, key: str, asked: str, make: Callable[[], Coroutine[Any, Any, list[Session]]]
    ) -> list[Session]:
        """What ``make`` gives; with the same key again, the same episodes as they stand then."""
        known = self._keys.get((kind, key))
        if known is not None:
            if known[0] != asked:
                raise _other_use(key)
            return [await self.current(found) for found in await asyncio.shield(known[1])]
        future = self._remember_key((kind, key), asked)
        try:
            sessions = await make()
        except BaseException as error:
            self._keys.pop((kind, key), None)
            failure = error if isinstance(error, EnvloopError) else TryAgain("the first request with this key failed")
            future.set_exception(failure)
            future.exception()  # it may be that nobody else waits
            raise
        future.set_result(tuple(session.id for session in sessions))
        return sessions

    async def newest(self, prefix: str) -> str | None:
        """The id of the episode that was begun last with a key of this beginning. Raises TryAgain."""
        if self._journal is not None:
            return await self._written(self._journal.newest(prefix))
        for (_, key), (_, begun) in reversed(self._keys.items()):
            if key.startswith(prefix) and begun.done() and begun.exception() is None:
                return begun.result()[0]
        return None

    async def _create(
        self,
        env: str,
        pick: Callable[[EnvFamily], Task],
        *,
        seed: int,
        options: Mapping[str, Any],
        key: str | None,
        asked: str,
    ) -> Session:
        family = await self._families.get(env)

        async def make() -> list[Branch]:
            return [await self._run(True, lambda: begin(family, pick(family), seed, options))]

        with self._places(1):
            (branch,) = await self._whole(make())
            session = self._add(family.spec, branch, seed=seed, options=options, history=History(branch.view))
        self._metrics.begun.labels(family.spec.name).inc()
        return await self._begun(session, key, asked)

    async def _begun(
        self, session: Session, key: str | None, asked: str, steps: tuple[tuple[int, bytes], ...] = ()
    ) -> Session:
        """Write a new episode down; where another server was first with its key, it is that one."""
        if self._journal is None:
            return session
        writing = self._journal.begin(begun_of(session, key=key, asked=asked, steps=steps))
        try:
            first, first_asked = await asyncio.shield(writing)
        except BaseException as error:
            await self._let_go(session)
            if isinstance(error, BackendUnavailable):
                raise TryAgain(error.message, hint=error.hint) from error
            raise
        if first == session.id:
            return session
        await self._let_go(session)
        if first_asked != asked:
            raise _other_use(str(key))
        return await self.current(first)

    async def fork(
        self, episode_id: str, *, at_step: int | None = None, count: int = 1, key: str | None = None, asked: str = ""
    ) -> list[Session]:
        """New episodes that go on from a step of this one (by default the present), which may have ended. All or none.

        With the same ``key`` again they are the same episodes; ``asked`` tells whether the same was asked for.

        Raises: UnknownEpisode; Conflict where it has not come so far, or said too much to be kept; EpisodeOver for a
        step after which it was over; CapacityExceeded; what a reset raises; InfrastructureError where the environment,
        played again, does otherwise.
        """
        if key is None:
            return await self._fork(episode_id, at_step, [None] * count, asked)
        keys = [fork_key(key, number) for number in range(count)]

        async def make() -> list[Session]:
            known = {} if self._journal is None else await self._written(self._journal.keyed(keys))
            if any(other != asked for _, other in known.values()):
                raise _other_use(key)
            made = {one: await self.current(known[one][0]) for one in keys if one in known}
            missing = [one for one in keys if one not in made]
            if missing:  # all of them, or those that a server which died did not come to
                step = next((s.forked_from.at_step for s in made.values() if s.forked_from), at_step)
                forks = await self._fork(episode_id, step, missing, asked)
                made |= dict(zip(missing, forks, strict=True))
            return [made[one] for one in keys]

        return await self._once("fork", key, asked, make)

    async def _fork(
        self, episode_id: str, at_step: int | None, keys: Sequence[str | None], asked: str
    ) -> list[Session]:
        count = len(keys)
        session = await self.current(episode_id)
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
                steps = tuple(history.steps())
                replay = Replay(
                    session.id, family, session.task, session.seed, session.options, history.first_digest, steps
                )
                branches = await self._whole(self._replayed(replay, count))
            origin = ForkOrigin(session.id, step)
            forks = [
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
        if self._journal is not None:
            kept = await self._written(self._journal.load(session.id))
            steps_kept = tuple(kept.steps[:step]) if kept is not None else ()
            pairs = zip(forks, keys, strict=True)
            forks = [await self._begun(fork, one, "" if one is None else asked, steps_kept) for fork, one in pairs]
        return forks

    async def step(self, episode_id: str, action: Action, number: int | None = None, *, settle: bool = True) -> Session:
        """Apply an action. With ``number`` (the steps done so far) a repeat of the last step is answered, not applied.

        Without ``settle`` it may not be written down yet: ``settle`` must be awaited before anything is told of it.

        Raises: UnknownEpisode; EpisodeOver; Conflict where the number does not fit; InvalidAction (nothing changed);
        InfrastructureError (the episode has ended without a reward then).
        """
        for _ in range(TRIES):
            session = await self._held(episode_id)
            async with session.lock:
                taken = await session.settled() and await self._step(session, action, number)
                if taken and (not settle or await session.settled()):
                    return session
        raise TryAgain(f"episode {episode_id} is being stepped elsewhere", hint="read it, and go on from there")

    async def settle(self, session: Session, action: Action, number: int | None) -> Session:
        """Wait until a step is written down; where another server was first, answer as that one did."""
        if await session.settled():
            return session
        return await self.step(session.id, action, number)

    async def _step(self, session: Session, action: Action, number: int | None) -> bool:
        """Whether the step is taken, or was; False where the episode stands elsewhere than here."""
        self._touch(session)
        if number is not None and session.answers(number, action):
            return True
        if session.status.over:
            raise _over(session)
        if number is not None and number != session.steps:
            if number > session.steps and not await self._stands(session):
                return False
            raise Conflict(
                f"step {number} does not follow: episode {session.id} has done {session.steps}",
                hint=f"send step {session.steps}, or read the episode first",
            )
        began = time.perf_counter()
        try:
            result = await self._apply(session, action)
        except (InvalidAction, EpisodeOver):
            raise
        except InfrastructureError as error:
            if self._closed and self._journal is not None:  # it failed because this server ends
                await self._let_go(session)
                raise TryAgain("the server is shutting down", hint="send it again") from error
            await self._end(session, EpisodeStatus.INFRASTRUCTURE_ERROR, error.message, failure=error)
            raise
        except asyncio.CancelledError:
            if self._journal is not None:
                await self._let_go(session)
            else:
                await self._end(session, EpisodeStatus.CANCELLED, "its request was cancelled in mid-step")
            raise
        except Exception:
            # A bug of the environment: its state is unknown, so the episode cannot go on and has no reward.
            await self._end(session, EpisodeStatus.INFRASTRUCTURE_ERROR, "the environment failed")
            raise
        self._metrics.step_seconds.labels(session.spec.name).observe(time.perf_counter() - began)
        done = session.record(action, result)
        session.touch()  # a long step is no idleness of its client
        if self._journal is not None:
            ending = (session.status.value, session.status.value, final_text(result)) if done else None
            taken = Taken(session.id, session.steps - 1, digest(result), action_text(action), ending)
            session.write(self._journal.take(taken))
        if done:
            self._metrics.ended.labels(session.spec.name, session.status.value).inc()
            self._retire(session)
        return True

    async def close(self, episode_id: str, reason: str = "closed by the client") -> Session:
        """End an episode; one that is over already keeps its status. Raises UnknownEpisode."""
        for _ in range(TRIES):
            session = await self._held(episode_id)
            self._touch(session)
            async with session.lock:
                if await session.settled() and not session.status.over:  # the journal judges whether it stands so
                    await self._end(session, EpisodeStatus.CANCELLED, reason)
            if await session.settled():
                return session
        raise TryAgain(f"episode {episode_id} is being stepped elsewhere", hint="send it again")

    async def expert_action(self, episode_id: str, expert: str | None = None) -> Action | None:
        """What the expert (by default the environment's first) would do now.

        Raises UnknownEpisode, EpisodeOver, InfrastructureError; InvalidOption for an expert that there is not.
        """
        session = await self.current(episode_id)
        async with session.lock:
            environment = session.environment
            if environment is None:
                raise _over(session)
            return await self._run(session.spec.blocking, lambda: _ask(environment, expert))

    def _remember_key(self, key: tuple[str, str], asked: str) -> asyncio.Future[tuple[str, ...]]:
        future: asyncio.Future[tuple[str, ...]] = asyncio.get_running_loop().create_future()
        self._keys[key] = (asked, future)
        while len(self._keys) > _KEYS:
            self._keys.popitem(last=False)
        return future

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


def _over(session: Session) -> EpisodeOver:
    return EpisodeOver(f"episode {session.id} has ended: {session.ended_because}", hint="create a new episode")


def _other_use(key: str) -> Conflict:
    return Conflict(
        f"the idempotency key {key!r:.80} was used for another request", hint="use a new key for each episode"
    )


def _ask(environment: Environment, expert: str | None) -> Action | None:
    if expert is None:
        return environment.expert_action()
    known = environment.experts if isinstance(environment, HasExperts) else ()
    if not isinstance(environment, HasExperts) or expert not in known:
        hint = f"known: {', '.join(known)}" if known else "leave expert out: there is only one here"
        raise InvalidOption(f"this environment has no expert {expert!r:.80}", hint=hint)
    return environment.expert_action(expert)
