"""What the rollout API takes and gives, for the OpenAPI document.

Requests are read by ``rollout_server.serialize``, which refuses what these do not allow; answers are sent as they are.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from envs.types import EpisodeStatus
from rollout_server.store_stats import STATS_KEYS
from rollout_server.types import RolloutRequest

__all__ = [
    "EpisodeQuery",
    "EpisodesAnswer",
    "ForkEpisode",
    "ForksAnswer",
    "GroupsAnswer",
    "PoliciesAnswer",
    "PolicyAnswer",
    "PublishPolicy",
    "ReadyAnswer",
    "StatsAnswer",
    "StatsQuery",
    "VersionAnswer",
    "rollout_request_schema",
]


StatsKey = StrEnum("StatsKey", {name.upper(): name for name in STATS_KEYS})  # type: ignore[misc] # of a tuple


class PublishPolicy(BaseModel):
    """An adapter in a folder that the server can read."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "step-12", "adapter_path": "/adapters/step-12"}]}
    )

    name: str = Field(min_length=1, max_length=100)
    adapter_path: str = Field(min_length=1)
    any_base_model: bool = Field(False, description="It may name another base model; its shapes must fit.")


class PolicyAnswer(BaseModel):
    """A policy version."""

    name: str
    number: int
    adapter_path: str | None


class PoliciesAnswer(BaseModel):
    """The known versions, oldest first; the last is current. ``pinned``: how many episodes hold each."""

    policies: list[PolicyAnswer]
    pinned: dict[str, int]


class GroupsAnswer(BaseModel):
    """The played groups, as ``rollout_server.serialize.group_to_json`` writes them."""

    groups: list[dict[str, Any]]


class _SummaryAnswer(BaseModel):
    id: str
    group_id: str
    env: str
    task_id: str
    task_type: str
    split: str
    protocol: str
    engine: str
    model: str
    policy: str
    status: EpisodeStatus
    reward: float | None
    training_reward: float | None
    turns: int
    steps: int
    tokens: int
    policy_tokens: int
    seed: int
    started_at: str
    duration_s: float
    run: str


class EpisodesAnswer(BaseModel):
    """A page of stored episodes, the newest first."""

    episodes: list[_SummaryAnswer]
    total: int


class _Filters(BaseModel):
    """Which stored episodes: every named parameter must match; one that comes several times, either of its values."""

    model_config = ConfigDict(extra="forbid")

    env: list[str] | None = None
    task_id: list[str] | None = None
    task_type: list[str] | None = None
    split: list[str] | None = None
    protocol: list[str] | None = None
    engine: list[str] | None = None
    model: list[str] | None = None
    policy: list[str] | None = None
    status: list[str] | None = None
    run: list[str] | None = None
    group_id: list[str] | None = None
    min_reward: float | None = None
    max_reward: float | None = None
    since: str | None = Field(None, description="ISO 8601 date or time (UTC unless it says otherwise), or an age: 7d.")
    until: str | None = Field(None, description="Likewise; exclusive.")

    def filters(self) -> dict[str, Any]:
        """What the store is asked for."""
        return self.model_dump(include=set(_Filters.model_fields), exclude_none=True)


class EpisodeQuery(_Filters):
    """A page of the stored episodes that match."""

    offset: int = Field(0, ge=0, le=2**31)
    limit: int = Field(100, ge=1, le=1000)


class StatsQuery(_Filters):
    """The stored episodes that match, by these keys."""

    by: list[StatsKey] = Field([], max_length=len(STATS_KEYS), description="Group by these; repeat for more.")


class _StatsRow(BaseModel):
    key: dict[str, str]
    episodes: int
    scored: int
    successes: int
    success: float | None
    reward: float | None
    turns: float | None
    tokens: float | None
    policy_tokens: float | None
    bytes: int


class StatsAnswer(BaseModel):
    """Figures of stored episodes, as ``rollout_server.store_stats.EpisodeStats`` describes them."""

    stats: list[_StatsRow]


class ForkEpisode(BaseModel):
    """Where to go on from a stored episode, with which policy (none: the current one), and how."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"at": 3, "policy": "step-12"}]})

    at: int = Field(ge=0, le=100_000)
    policy: str | None = None
    count: int = Field(1, ge=1, le=256)
    temperature: float | None = Field(None, ge=0, le=100)
    max_tokens: int | None = Field(None, ge=1, le=2**31)
    max_turns: int | None = Field(None, ge=1, le=100_000)
    max_episode_tokens: int | None = Field(None, ge=2, le=2**31)
    seed: int = Field(0, ge=0, le=2**63)
    same_policy: bool | None = None
    run: str = Field("", max_length=128)


class ForksAnswer(BaseModel):
    """The forks, as ``rollout_server.serialize.episode_to_json`` writes them."""

    episodes: list[dict[str, Any]]


class _ErrorBody(BaseModel):
    code: str
    message: str
    hint: str


class _EngineAnswer(BaseModel):
    """One engine of a pool."""

    engine: str
    ready: bool
    in_flight: int
    capacity: int
    requests: int
    failures: int
    policies: list[str]
    error: _ErrorBody | None


class ReadyAnswer(BaseModel):
    """Whether rollouts can be played now; ``error`` says why not and what to do. ``engines``: of a pool."""

    ready: bool
    error: _ErrorBody | None = None
    engines: list[_EngineAnswer] | None = None


class VersionAnswer(BaseModel):
    """Version of the package, the engine and the model that are served."""

    version: str
    engine: str
    model: str
    protocols: list[str]


def rollout_request_schema() -> dict[str, Any]:
    """The JSON Schema of a rollout request, without references, with an example."""
    schema = TypeAdapter(RolloutRequest).json_schema()
    definitions = schema.pop("$defs", {})

    def inlined(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return inlined(definitions[value["$ref"].rpartition("/")[2]])
            return {name: inlined(item) for name, item in value.items()}
        return [inlined(item) for item in value] if isinstance(value, list) else value

    example = {
        "tasks": [{"env": "alfworld", "split": "generated", "sample_seed": 7}],
        "group_size": 4,
        "sampling": {"temperature": 1.0, "max_tokens": 256},
        "rewards": {"task": 1.0, "invalid_action": 0.1},
    }
    described: dict[str, Any] = inlined(schema)
    return {**described, "examples": [example]}
