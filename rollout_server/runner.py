"""Many episodes at once: the groups of a request, without any barrier between episodes."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from envs.client import EnvClient
from envs.errors import InfrastructureError, InvalidOption
from envs.types import EnvSpec, EpisodeStatus, Task
from rollout_server.agent_loop import EpisodePlan, play_episode
from rollout_server.engines.base import Engine
from rollout_server.policy import PolicyRegistry
from rollout_server.protocols import get_protocol
from rollout_server.protocols.base import AgentProtocol
from rollout_server.turn_sampling import check_constrain
from rollout_server.types import Episode, Group, RolloutRequest, TaskRef

__all__ = ["EpisodeSink", "Progress", "RolloutRunner"]

_log = logging.getLogger(__name__)

type Progress = Callable[[Episode], None]


class EpisodeSink(Protocol):
    """Where finished episodes go: an ``EpisodeStore``. Called from a thread, one episode at a time."""

    def add(self, episode: Episode) -> object:
        """Keep the episode."""
        ...


@dataclass(frozen=True, slots=True)
class _Entry:
    """A task of a request, resolved. ``first_member`` goes on counting where a request names a task twice.

    ``spent`` counts what the group has used of its bounds.
    """

    env: EnvSpec
    task: Task
    group_id: str
    first_member: int
    spent: Counter[str] = field(default_factory=Counter)


class RolloutRunner:
    """Plays requests on one env server with one engine.

    Args:
        client: the env server's.
        engine: started already. Where it has a ``max_model_len``, no episode may be longer.
        policies: which versions there are, and which is current. None: the base model alone.
        store: where every finished episode is kept.
        max_concurrency: how many episodes are live at once, over all requests.
        record_cancelled: keep what was played of cancelled episodes too.
    """

    def __init__(
        self,
        client: EnvClient,
        engine: Engine,
        *,
        policies: PolicyRegistry | None = None,
        store: EpisodeSink | None = None,
        max_concurrency: int = 64,
        record_cancelled: bool = False,
    ) -> None:
        if max_concurrency < 1:
            raise InvalidOption(f"max_concurrency is {max_concurrency}", hint="at least 1")
        self._client = client
        self._engine = engine
        self._policies = policies or PolicyRegistry(engine)
        self._store = store
        self._storing = asyncio.Lock()
        self._slots = asyncio.Semaphore(max_concurrency)
        self._record_cancelled = record_cancelled

    async def run(self, request: RolloutRequest, *, on_episode: Progress | None = None) -> tuple[Group, ...]:
        """Play a request; one group a task reference, in order, its episodes by member.

        A member that failed by infrastructure is played again, ``request.refill`` times at most: every attempt is
        stored, the last is the group's. ``on_episode`` is called on the event loop for each of these, after it was
        stored. Cancelling ends every
        episode, on the env server too. An exception of one episode (a broken task, a failed store) cancels the others.
        Raises: UnknownEnv, UnknownTask, UnknownPolicy, InvalidOption and the like before anything is played.
        """
        protocol = get_protocol(request.protocol)
        _check(request, getattr(self._engine, "max_model_len", None))
        if request.policy is not None:
            self._policies.get(request.policy)
        entries = await self._resolve(request, protocol)
        plays: list[list[asyncio.Task[Episode]]] = []
        try:
            async with asyncio.TaskGroup() as tasks:
                for entry in entries:
                    members = range(entry.first_member, entry.first_member + request.group_size)
                    play = [self._play(request, protocol, entry, member, on_episode) for member in members]
                    plays.append([tasks.create_task(coroutine) for coroutine in play])
        except ExceptionGroup as group:
            raise _first(group) from group
        return tuple(
            Group(entry.group_id, entry.task, tuple(task.result() for task in played))
            for entry, played in zip(entries, plays, strict=True)
        )

    async def _play(
        self,
        request: RolloutRequest,
        protocol: AgentProtocol,
        entry: _Entry,
        member: int,
        on_episode: Progress | None,
    ) -> Episode:
        """Play a member: again, within the bounds, where an attempt fails by infrastructure."""
        episode = await self._attempt(request, protocol, entry, member, ())
        failed: list[str] = []
        while self._again(request, entry, episode, len(failed)):
            failed.append(episode.id)
            try:
                await self._engine.start()  # it may have died, and begins anew then
            except InfrastructureError as error:
                _log.warning("the engine did not come back: %s", error)
                break
            episode = await self._attempt(request, protocol, entry, member, tuple(failed))
        if on_episode is not None:
            on_episode(episode)
        return episode

    def _again(self, request: RolloutRequest, entry: _Entry, episode: Episode, attempts: int) -> bool:
        """Whether to play a failed member again; counts it for the group."""
        failed = episode.status is EpisodeStatus.INFRASTRUCTURE_ERROR
        if not failed or attempts >= request.refill or entry.spent["refills"] >= request.group_size:
            return False
        entry.spent["refills"] += 1
        return True

    async def _attempt(
        self, request: RolloutRequest, protocol: AgentProtocol, entry: _Entry, member: int, failed: tuple[str, ...]
    ) -> Episode:
        cancelled: list[Episode] = []
        told = {"attempt": len(failed), "replaces": list(failed)} if failed else {}
        async with self._slots, self._policies.acquire(request.policy) as policy:
            plan = EpisodePlan(
                env=entry.env,
                task=entry.task,
                protocol=protocol,
                policy=policy,
                sampling=request.sampling,
                group_id=entry.group_id,
                member=member,
                seed=request.seed,
                options=request.options,
                max_turns=request.max_turns,
                max_episode_tokens=request.max_episode_tokens,
                rewards=request.rewards,
                metadata={**request.metadata, **told},
                max_turn_s=request.max_turn_s,
                max_episode_s=request.max_episode_s,
                max_invalid_turns=request.max_invalid_turns,
                repetition=request.repetition,
                constrain=request.constrain,
            )
            repin = self._policies.acquire if request.mixed else None
            try:
                keep = cancelled.append if self._record_cancelled else None
                episode = await play_episode(self._client, self._engine, plan, on_cancelled=keep, repin=repin)
            finally:
                for partial in cancelled:
                    await self._keep(partial)
        await self._keep(episode)
        return episode

    async def _keep(self, episode: Episode) -> None:
        if self._store is not None:
            async with self._storing:
                await asyncio.to_thread(self._store.add, episode)

    async def _resolve(self, request: RolloutRequest, protocol: AgentProtocol) -> list[_Entry]:
        """Every reference's task, looked up side by side. Nothing is played if one of them is not there."""
        envs: dict[str, EnvSpec] = {}
        for name in dict.fromkeys(ref.env for ref in request.tasks):
            spec = (await self._client.env(name)).spec
            protocol.max_turns(spec)  # raises where the protocol does not know the environment
            check_constrain(self._engine, protocol, spec, request.constrain)
            envs[name] = spec
        try:
            async with asyncio.TaskGroup() as lookups:
                found = [lookups.create_task(self._task(ref, envs[ref.env])) for ref in request.tasks]
        except ExceptionGroup as group:
            raise _first(group) from group
        members: Counter[tuple[str, str]] = Counter()
        entries = []
        for ref, lookup in zip(request.tasks, found, strict=True):
            task = lookup.result()
            key = (task.env, task.id)
            entries.append(_Entry(envs[ref.env], task, uuid.uuid4().hex, members[key]))
            members[key] += request.group_size
        return entries

    async def _task(self, ref: TaskRef, env: EnvSpec) -> Task:
        if ref.split is not None:
            return await self._client.sample(env.name, ref.split, ref.sample_seed, type=ref.type)
        assert ref.task_id is not None, "a reference names one of the two"
        return await self._client.task(env.name, ref.task_id)


def _check(request: RolloutRequest, context: int | None) -> None:
    """Refuse numbers that could only fail later. Raises InvalidOption, naming the field.

    ``context`` is the longest prompt and completion together that the engine takes; None or 0 where it has no limit.
    """
    at_least = {
        "group_size": (request.group_size, 1),
        "max_turns": (_or_one(request.max_turns), 1),
        "max_tokens": (request.sampling.max_tokens, 1),
        "max_episode_tokens": (request.max_episode_tokens, request.sampling.max_tokens + 1),
        "seed": (request.seed, 0),
        "top_k": (request.sampling.top_k, 0),
        "refill": (request.refill, 0),
        "max_invalid_turns": (_or_one(request.max_invalid_turns), 1),
        "repetition.times": (request.repetition.times if request.repetition else 2, 2),
        "repetition.longest_cycle": (request.repetition.longest_cycle if request.repetition else 1, 1),
    }
    for name, (value, minimum) in at_least.items():
        if value < minimum:
            raise InvalidOption(f"{name} is {value}", hint=f"at least {minimum}")
    if context and request.max_episode_tokens > context:
        raise InvalidOption(
            f"max_episode_tokens is {request.max_episode_tokens}, but the engine's context holds {context} tokens",
            hint=f"at most {context}, or raise the engine's max_model_len",
        )
    within = {  # (low, high]; a temperature or min_p of exactly 0 is fine too
        "temperature": (request.sampling.temperature or 1.0, 0.0, 100.0),
        "top_p": (request.sampling.top_p, 0.0, 1.0),
        "min_p": (request.sampling.min_p or 1.0, 0.0, 1.0),
        "repetition_penalty": (request.sampling.repetition_penalty, 0.0, 100.0),
        "max_turn_s": (_or_one(request.max_turn_s), 0.0, 1e9),
        "max_episode_s": (_or_one(request.max_episode_s), 0.0, 1e9),
    }
    for name, (number, low, high) in within.items():
        if not low < number <= high:
            raise InvalidOption(f"{name} is {number}", hint=f"above {low:g}, at most {high:g}")


def _or_one[T: (int, float)](value: T | None) -> T | int:
    """The value, or one that every bound allows."""
    return 1 if value is None else value


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first plain exception of a group: callers meet the error itself, its group is its cause."""
    for error in group.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("unreachable: a group holds at least one exception")
