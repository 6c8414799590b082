"""The frozen values that cross every seam of envloop: tasks, splits, observations, actions, results.

An episode is (env, task, seed, options, actions): an environment is a pure function of these, so an episode can be
rebuilt, replayed and compared anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

__all__ = [
    "Action",
    "EnvSpec",
    "EpisodeStatus",
    "JsonObject",
    "Observation",
    "Readiness",
    "Split",
    "SplitRole",
    "StepResult",
    "Task",
    "TaskPage",
    "ToolSpec",
]

type JsonObject = Mapping[str, Any]

_EMPTY: JsonObject = MappingProxyType({})


class EpisodeStatus(StrEnum):
    """Where an episode stands. Closed: a new ending is a new member, never a free text.

    ``TRUNCATED_TURNS``, ``TRUNCATED_TOKENS``, ``TRUNCATED_TIME``: a budget ran out. ``REPETITION``, ``INVALID_ACTION``:
    a rule on what the policy does. ``INFRASTRUCTURE_ERROR`` is no result: such an episode carries no reward and is left
    out of every mean and gradient. Nor is ``TRUNCATED_TIME``: seconds measure the machine as well as the policy.
    """

    RUNNING = "running"
    COMPLETED = "completed"
    TRUNCATED_TURNS = "truncated_turns"
    TRUNCATED_TOKENS = "truncated_tokens"
    TRUNCATED_TIME = "truncated_time"
    REPETITION = "repetition"
    INVALID_ACTION = "invalid_action"
    CANCELLED = "cancelled"
    INFRASTRUCTURE_ERROR = "infrastructure_error"

    @property
    def over(self) -> bool:
        """Whether no further step is possible."""
        return self is not EpisodeStatus.RUNNING

    @property
    def scored(self) -> bool:
        """Whether the episode has a reward that may be averaged or trained on."""
        return self not in _UNSCORED


_UNSCORED = frozenset(
    {
        EpisodeStatus.RUNNING,
        EpisodeStatus.CANCELLED,
        EpisodeStatus.INFRASTRUCTURE_ERROR,
        EpisodeStatus.TRUNCATED_TIME,
    }
)


class SplitRole(StrEnum):
    """What a split is for. The trainer refuses ``EVALUATION`` splits unless they are allowed by name."""

    TRAIN = "train"
    EVALUATION = "evaluation"


@dataclass(frozen=True, slots=True)
class Split:
    """A named set of tasks of one environment.

    ``size`` is the number of tasks, or None where the split is generated on the fly and endless.
    """

    env: str
    name: str
    role: SplitRole
    size: int | None
    description: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """One task, as anybody may see it: never a gold answer, a plan or a scoring hash.

    ``id`` is stable, unique within its environment and begins with the split (``valid_unseen/…``, ``generated/7``,
    ``dev/12``). ``content_hash`` is the SHA-256 (hex) of what defines the task.
    """

    env: str
    id: str
    split: str
    type: str
    content_hash: str
    metadata: JsonObject = field(default_factory=lambda: _EMPTY)


@dataclass(frozen=True, slots=True)
class TaskPage:
    """A page of a split's tasks. ``total`` is None for an endless split."""

    tasks: tuple[Task, ...]
    offset: int
    total: int | None


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool that a policy may call: name, description and the JSON Schema of its arguments."""

    name: str
    description: str
    parameters: JsonObject


@dataclass(frozen=True, slots=True)
class EnvSpec:
    """What an environment is, before any is made; serialisable.

    ``max_steps`` is the environment's own limit (a protocol may set a lower one). ``blocking`` says that ``step`` may
    wait for a database or another process, so that a server must not run it on its event loop.
    """

    name: str
    version: int
    description: str
    tools: tuple[ToolSpec, ...]
    task_types: tuple[str, ...]
    max_steps: int
    blocking: bool
    entry_point: str

    @property
    def id(self) -> str:
        """``name-vN``, as in ``alfworld-v1``."""
        return f"{self.name}-v{self.version}"


@dataclass(frozen=True, slots=True)
class Action:
    """A tool call: the tool's name and its arguments. Its text comes from a model and is data, never code."""

    name: str
    arguments: JsonObject = field(default_factory=lambda: _EMPTY)


@dataclass(frozen=True, slots=True)
class Observation:
    """What the policy sees after a reset or a step.

    ``admissible_actions`` lists the texts that the environment would accept now, sorted; empty where it has no list.
    """

    text: str
    admissible_actions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one step did.

    ``reward`` is the benchmark's own (0 until the end, then 0 or 1), nothing shaped. ``terminated``: the task itself
    ended (won, committed). ``truncated``: a limit of the environment cut it. ``valid``: the environment could act on
    the action (False: "Nothing happens.", a database error). ``state_hash`` identifies the environment's state after
    the step (hex), or is empty where it is not cheap to tell.
    """

    observation: Observation
    reward: float
    terminated: bool
    truncated: bool
    valid: bool = True
    state_hash: str = ""
    info: JsonObject = field(default_factory=lambda: _EMPTY)

    @property
    def done(self) -> bool:
        """Whether the episode is over, in either way."""
        return self.terminated or self.truncated


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether an environment can start episodes now, and if not, why and what to do."""

    ready: bool
    detail: str = ""
    hint: str = ""
