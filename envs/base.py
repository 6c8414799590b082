"""The seams of an environment: a family that holds what episodes share, and one environment per live episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from envs.types import Action, EnvSpec, Observation, Readiness, Split, StepResult, Task, TaskPage

__all__ = ["EnvFamily", "Environment", "Forkable", "HasExperts", "HasFigures"]


@runtime_checkable
class Environment(Protocol):
    """One live episode. Not shared between threads; different environments may run in different threads.

    Deterministic: the same (task, seed, options, actions) give the same observations and rewards.
    """

    def reset(self, task: Task, *, seed: int = 0, options: Mapping[str, Any] | None = None) -> Observation:
        """Begin the task and give its first observation.

        Raises: InvalidOption for an unknown or ill-typed option; TaskDataError for a broken task; InfrastructureError.
        """
        ...

    def step(self, action: Action) -> StepResult:
        """Apply one action.

        An action that the environment understands but cannot do is a normal result with ``valid=False``.
        Raises: InvalidAction where the tool or its arguments have the wrong shape (nothing has changed then);
        EpisodeOver after the end; InfrastructureError where the environment's own machinery failed.
        """
        ...

    def expert_action(self) -> Action | None:
        """The action that an expert with full knowledge takes now, or None where it knows none. Privileged."""
        ...

    def close(self) -> None:
        """Free everything that the episode holds. Idempotent; never raises for an episode that is already gone."""
        ...


@runtime_checkable
class Forkable(Protocol):
    """What an environment adds that can copy itself as it stands. Others are forked by playing their actions again."""

    def fork(self) -> Environment | None:
        """An independent environment in the same state, with the same options: equal actions give both equal results.

        None where this episode cannot be copied (its engine keeps the state to itself): its actions are played again.
        Raises EpisodeOver after the end.
        """
        ...


@runtime_checkable
class HasExperts(Protocol):
    """What an environment adds that has several experts."""

    @property
    def experts(self) -> Sequence[str]:
        """The names that ``expert_action`` takes; the first is the default."""
        ...

    def expert_action(self, expert: str | None = None) -> Action | None:
        """The action that the named expert takes now, or None where it knows none. Raises InvalidOption for a name."""
        ...


@runtime_checkable
class EnvFamily(Protocol):
    """All environments of one kind in this process: their tasks and the resources that episodes share. Thread-safe."""

    spec: EnvSpec

    def splits(self) -> Sequence[Split]:
        """The splits that can be played here, now."""
        ...

    def tasks(self, split: str, *, type: str | None = None, offset: int = 0, limit: int = 100) -> TaskPage:
        """A page of a split's tasks in a fixed order. Raises: UnknownSplit, UnknownTaskType."""
        ...

    def task(self, task_id: str) -> Task:
        """The task with this id. Raises: UnknownTask."""
        ...

    def sample(self, split: str, seed: int, *, type: str | None = None) -> Task:
        """A task drawn by seed: the same (split, seed, type) always give the same one."""
        ...

    def make(self) -> Environment:
        """A new environment, not yet reset. Raises: InfrastructureError, CapacityExceeded."""
        ...

    def ready(self) -> Readiness:
        """Whether episodes can be started now. Cheap: asked by a health check."""
        ...

    def close(self) -> None:
        """End every resource of the family: servers, workers, temporary folders. Idempotent."""
        ...


@runtime_checkable
class HasFigures(Protocol):
    """What a family adds that holds resources worth watching."""

    def figures(self) -> Mapping[str, float]:
        """How much there is of each now, by a name in snake case. Must not block."""
        ...
