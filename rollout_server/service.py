"""What a trainer or an evaluator asks of rollouts, in process (``LocalRollouts``) or over HTTP (``RolloutClient``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from rollout_server.types import Episode, Group, PolicyVersion, RolloutRequest

__all__ = ["EpisodeCallback", "RolloutService"]

type EpisodeCallback = Callable[[Episode], None]


@runtime_checkable
class RolloutService(Protocol):
    """Plays groups of episodes and swaps policies."""

    async def rollouts(self, request: RolloutRequest, *, on_episode: EpisodeCallback | None = None) -> Sequence[Group]:
        """Play the request; one group a task reference, in order. ``on_episode`` is called as each episode ends.

        An episode that failed by infrastructure is in its group with that status. Raises: UnknownEnv, UnknownTask,
        UnknownPolicy, InvalidOption before anything is played.
        """
        ...

    async def publish_policy(self, name: str, adapter_path: Path) -> PolicyVersion:
        """Load an adapter as the newest version and make it current."""
        ...

    async def policies(self) -> Sequence[PolicyVersion]:
        """The known versions, oldest first; the last is current."""
        ...

    async def close(self) -> None:
        """Free what this service owns."""
        ...
