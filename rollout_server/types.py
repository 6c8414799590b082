"""The records of a rollout: sampling, completions, turns, episodes, groups.

Token ids are append-only. What the policy sampled is stored as sampled and trained on as stored: no id here was ever
decoded and encoded again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from envs.types import Action, EpisodeStatus, JsonObject, Observation, Task
from rollout_server.constraints import Constrain

__all__ = [
    "Completion",
    "Episode",
    "EpisodeStatus",
    "FinishReason",
    "Group",
    "Message",
    "PolicyVersion",
    "RepetitionRule",
    "RewardWeights",
    "Role",
    "RolloutRequest",
    "SamplingParams",
    "StepRecord",
    "TaskRef",
    "Turn",
    "TurnConstraint",
]

_EMPTY: Mapping[str, Any] = MappingProxyType({})


class Role(StrEnum):
    """Who speaks in a chat message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message as text."""

    role: Role
    content: str


class FinishReason(StrEnum):
    """Why a completion ended: by the policy's own end-of-turn token, cut at ``max_tokens``, or cut by time."""

    STOP = "stop"
    LENGTH = "length"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """A policy that an engine can sample from: the base model (``adapter_path`` None) or a LoRA adapter on it.

    ``number`` grows with every published version; 0 is the base model. Names are never used twice.
    """

    name: str = "base"
    number: int = 0
    adapter_path: str | None = None


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to sample a turn. Every field is sent explicitly, so that no model's own generation config applies.

    ``max_tokens`` bounds one turn. ``temperature`` 0 is greedy. ``top_k`` 0 is off. ``seed`` None draws a fresh one.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    max_tokens: int = 512
    seed: int | None = None

    def with_seed(self, seed: int | None) -> SamplingParams:
        """The same sampling with another seed."""
        return replace(self, seed=seed)


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled turn: ids with the end-of-turn token where it was sampled, and the logprob of each id, in nats.

    ``len(logprobs) == len(token_ids)``; logprobs are those of the distribution that was sampled from.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason
    policy: str

    def __post_init__(self) -> None:
        if len(self.token_ids) != len(self.logprobs):
            raise ValueError(f"{len(self.token_ids)} token ids but {len(self.logprobs)} logprobs")


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One environment step of a turn: what was done and what came back. Enough to replay and compare.

    ``shaping``: the values of the shaping terms that were asked for, without weights.
    """

    action: Action
    observation: Observation
    reward: float
    terminated: bool
    truncated: bool
    valid: bool
    state_hash: str = ""
    shaping: Mapping[str, float] = field(default_factory=lambda: _EMPTY)


@dataclass(frozen=True, slots=True)
class TurnConstraint:
    """What a turn was held to: the kind, the SHA-256 (hex) of the grammar, and how many texts it admitted (0: endless).

    The turn's logprobs are those of the distribution so constrained. They are not the policy's own.
    """

    kind: Constrain
    digest: str
    choices: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of the policy and the environment's reply.

    ``completion_ids`` (mask 1) are followed by ``environment_ids`` (mask 0): the end-of-turn token where the completion
    was cut, the reply's messages and the header of the next turn. Empty after the last turn. ``text`` is the completion
    decoded for reading and parsing only. ``reply`` is the reply's text as the policy saw it. ``given``: the turn was
    played in an earlier episode that this one goes on from (``prefix.py``), and is as recorded there; in this one it is
    context, and the episode's columns have mask 0, logprob 0.0 and no policy version for it. ``constraint`` None: the
    policy was free.
    """

    index: int
    completion_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason
    policy: str
    text: str
    steps: tuple[StepRecord, ...] = ()
    reply: str = ""
    environment_ids: tuple[int, ...] = ()
    generate_s: float = 0.0
    environment_s: float = 0.0
    given: bool = False
    constraint: TurnConstraint | None = None


@dataclass(frozen=True, slots=True)
class RewardWeights:
    """Weights of the named parts of a training reward.

    ``task`` times the benchmark's own reward, minus ``invalid_action`` for each turn whose action was invalid or
    missing. The benchmark's reward itself is never changed. ``shaping`` weighs terms that an environment tells on
    request, by environment and term (``{"alfworld": {"potential": 0.2}}``), with ``shaping_gamma`` as the discount of
    its potential; environments refuse that for tasks of evaluation splits.
    """

    task: float = 1.0
    invalid_action: float = 0.0
    shaping: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    shaping_gamma: float = 1.0


@dataclass(frozen=True, slots=True)
class Episode:
    """A played episode: who, on what, every token, every step, how it ended.

    ``reward`` is the benchmark's own (AgentBench: 0 or 1), None unless ``status.scored``. ``reward_parts`` are the
    weighted, named terms of the training reward. ``prompt_ids`` is the first prompt (all mask 0).
    """

    id: str
    group_id: str
    env: str
    task: Task
    seed: int
    options: JsonObject
    protocol: str
    engine: str
    model: str
    policy: str
    sampling: SamplingParams
    status: EpisodeStatus
    reward: float | None
    reward_parts: Mapping[str, float]
    initial: Observation
    prompt: tuple[Message, ...]
    prompt_ids: tuple[int, ...]
    turns: tuple[Turn, ...]
    error: str = ""
    started_at: str = ""
    duration_s: float = 0.0
    metadata: JsonObject = field(default_factory=lambda: _EMPTY)

    @property
    def completion_ids(self) -> tuple[int, ...]:
        """Everything after the first prompt: policy and environment tokens in order, shape (T,)."""
        return tuple(i for t in self.turns for ids in (t.completion_ids, t.environment_ids) for i in ids)

    @property
    def mask(self) -> tuple[int, ...]:
        """1 for a token that the policy sampled in this episode, 0 for any other, shape (T,)."""
        return tuple(m for t in self.turns for m in _column(t, (1,) * len(t.completion_ids), 0))

    @property
    def logprobs(self) -> tuple[float, ...]:
        """The sampled logprob of every token of mask 1 and 0.0 for the others, shape (T,)."""
        return tuple(p for t in self.turns for p in _column(t, t.logprobs, 0.0))

    @property
    def policy_versions(self) -> tuple[str, ...]:
        """The policy version of every token of mask 1, "" for the others, shape (T,)."""
        return tuple(v for t in self.turns for v in _column(t, (t.policy,) * len(t.completion_ids), ""))

    @property
    def mixed(self) -> bool:
        """Whether a turn was sampled from another version than the episode began with."""
        return any(t.policy != self.policy for t in self.turns if not t.given)

    @property
    def constrained(self) -> bool:
        """Whether a turn's sampling was held to a grammar, so that its logprobs are not the policy's own."""
        return any(t.constraint is not None for t in self.turns if not t.given)

    @property
    def text_only(self) -> bool:
        """Whether the engine told texts alone: the ids are not those that a model sampled, and nothing is learnt."""
        return bool(self.metadata.get("text_only", False))

    @property
    def steps(self) -> tuple[StepRecord, ...]:
        """Every environment step in order."""
        return tuple(s for t in self.turns for s in t.steps)

    @property
    def training_reward(self) -> float | None:
        """The sum of the weighted reward parts, or None for an episode that must not be trained on."""
        return sum(self.reward_parts.values()) if self.status.scored else None

    @property
    def success(self) -> bool:
        """Whether the benchmark counts the episode as solved."""
        return self.reward is not None and self.reward >= 1.0


def _column[T](turn: Turn, sampled: tuple[T, ...], other: T) -> tuple[T, ...]:
    """A turn's part of a column of an episode: ``sampled`` for its own tokens, ``other`` for what was given."""
    return ((other,) * len(sampled) if turn.given else sampled) + (other,) * len(turn.environment_ids)


@dataclass(frozen=True, slots=True)
class Group:
    """Episodes of one task, sampled by one request: what a group-relative advantage compares.

    Always as many as the request's ``group_size``. A member whose first attempts failed by infrastructure names them in
    its metadata: ``attempt`` (their number) and ``replaces`` (their ids; the store keeps them).
    """

    id: str
    task: Task
    episodes: tuple[Episode, ...]

    @property
    def refilled(self) -> int:
        """How many failed episodes were played again."""
        return sum(int(e.metadata.get("attempt", 0)) for e in self.episodes)

    @property
    def failed(self) -> int:
        """How many members have no result for all that."""
        return sum(e.status is EpisodeStatus.INFRASTRUCTURE_ERROR for e in self.episodes)

    @property
    def incomplete(self) -> bool:
        """Whether a member failed by infrastructure: what remains is still a group, only smaller."""
        return self.failed > 0


@dataclass(frozen=True, slots=True)
class TaskRef:
    """A task by id, or drawn from a split by a sampler seed (exactly one of ``task_id`` and ``split``)."""

    env: str
    task_id: str | None = None
    split: str | None = None
    sample_seed: int = 0
    type: str | None = None

    def __post_init__(self) -> None:
        if (self.task_id is None) == (self.split is None):
            raise ValueError("a task reference needs exactly one of task_id and split")
        for name in (self.env, self.task_id, self.split, self.type):
            (name or "").encode()  # UnicodeEncodeError, a ValueError, for a lone surrogate: no URL can carry it


@dataclass(frozen=True, slots=True)
class RepetitionRule:
    """Ends an episode whose last actions are one cycle of ``1…longest_cycle`` turns, ``times`` times in a row.

    A turn without a readable action counts by its text.
    """

    times: int = 3
    longest_cycle: int = 1


@dataclass(frozen=True, slots=True)
class RolloutRequest:
    """Play every task ``group_size`` times.

    ``policy`` None samples from the version that is current when an episode begins. ``max_turns`` None takes the
    protocol's. ``max_episode_tokens`` bounds prompt and completion together (the context length). ``seed`` makes
    sampling and environments reproducible where the engine allows. ``metadata`` is stored with every episode.

    Further budgets, all off by default, since a benchmark has none of them: ``max_turn_s`` (seconds of sampling one
    turn), ``max_episode_s`` (of everything), ``max_invalid_turns`` (so many invalid turns in a row end an episode) and
    ``repetition``. A protocol's own rules hold beside them.

    ``refill``: how often a member whose episode failed by infrastructure is played again; a group is given
    ``group_size`` such attempts at most. ``constrain``: hold every turn to the admissible commands or to the tools'
    schemas. ``mixed``: whether an episode whose policy version was lost in its middle goes on with the current one,
    and is marked so; else it fails by infrastructure.
    """

    tasks: tuple[TaskRef, ...]
    group_size: int = 1
    sampling: SamplingParams = SamplingParams()
    protocol: str = "agentbench_fc"
    policy: str | None = None
    max_turns: int | None = None
    max_episode_tokens: int = 4096
    rewards: RewardWeights = RewardWeights()
    options: JsonObject = field(default_factory=lambda: _EMPTY)
    seed: int = 0
    metadata: JsonObject = field(default_factory=lambda: _EMPTY)
    max_turn_s: float | None = None
    max_episode_s: float | None = None
    max_invalid_turns: int | None = None
    repetition: RepetitionRule | None = None
    refill: int = 1
    constrain: Constrain = Constrain.NONE
    mixed: bool = True
