"""Forks as a rollout service plays them: with a policy that it holds, several of one point, each stored as it ends."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from envs.errors import InvalidOption
from rollout_server.replay_fork import ForkRequest, fork_episode
from rollout_server.types import Episode, SamplingParams

if TYPE_CHECKING:
    from rollout_server.config import Service

__all__ = ["ForkOptions", "fork_many"]

_AT_ONCE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkOptions:
    """What a person or a client asks of forks; see ``ForkRequest``. None: as the episode was played.

    ``count`` forks of one point are a group. ``run`` is stored with them.
    """

    at: int
    count: int = 1
    temperature: float | None = None
    max_tokens: int | None = None
    max_turns: int | None = None
    max_episode_tokens: int | None = None
    seed: int = 0
    same_policy: bool | None = None
    run: str = ""

    def sampling(self, parent: Episode) -> SamplingParams:
        """The parent's sampling with what is asked for."""
        changes: dict[str, Any] = {"temperature": self.temperature, "max_tokens": self.max_tokens}
        return replace(parent.sampling, **{name: value for name, value in changes.items() if value is not None})


async def fork_many(
    service: Service, parent: Episode, options: ForkOptions, *, policy: str | None = None
) -> list[Episode]:
    """Play and store the forks; ``policy`` None: the current version. Raises what ``fork_episode`` does; UnknownPolicy.

    Those that have ended are stored even where another fails.
    """
    if not 1 <= options.count <= 256:
        raise InvalidOption(f"count is {options.count}", hint="1 to 256")
    await service.rollouts.engine.start()
    group, room = uuid.uuid4().hex, asyncio.Semaphore(_AT_ONCE)

    async def play(member: int) -> Episode:
        request = ForkRequest(
            at=options.at,
            sampling=options.sampling(parent),
            seed=options.seed,
            member=member,
            max_turns=options.max_turns,
            max_episode_tokens=options.max_episode_tokens,
            same_policy=options.same_policy,
            group_id=group,
            metadata={"run": options.run} if options.run else {},
        )
        async with room, service.rollouts.acquire_policy(policy) as version:
            episode = await fork_episode(
                parent, request, client=service.client, engine=service.rollouts.engine, policy=version
            )
        await service.store.aadd(episode)
        return episode

    try:
        async with asyncio.TaskGroup() as tasks:
            plays = [tasks.create_task(play(member)) for member in range(options.count)]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    return [task.result() for task in plays]
