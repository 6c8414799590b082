"""What the API takes and gives, for validation of requests and for the OpenAPI document.

Answers are sent as ready-made JSON (``envs.wire``, ``envs.server.session``) and are not validated again on the way out;
a test holds the two against each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic.config import JsonDict

from envs.types import EpisodeStatus, SplitRole

__all__ = [
    "SEED_LIMIT",
    "ActionBody",
    "BatchAnswer",
    "BatchClose",
    "BatchCreate",
    "BatchStep",
    "BatchTouch",
    "CreateEpisode",
    "EnvAnswer",
    "EnvsAnswer",
    "EpisodeAnswer",
    "ErrorAnswer",
    "ExpertAnswer",
    "ExpertRequest",
    "ForkRequest",
    "ForksAnswer",
    "IdempotencyKey",
    "Malformed",
    "ReadyAnswer",
    "Sampler",
    "StepItem",
    "StepRequest",
    "TaskAnswer",
    "TaskPageAnswer",
    "TouchAnswer",
    "VersionAnswer",
]

SEED_LIMIT = 2**63

_ACTION: JsonDict = {"name": "take_action", "arguments": {"action": "go to countertop 1"}}
_TASK: JsonDict = {
    "env": "alfworld",
    "id": "generated/7",
    "split": "generated",
    "type": "pick_and_place_simple",
    "content_hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "metadata": {},
}
_EPISODE: JsonDict = {
    "id": "ep_0123456789abcdef01234567",
    "env": "alfworld",
    "task": _TASK,
    "seed": 0,
    "options": {},
    "forked_from": {"episode": "ep_fedcba9876543210fedcba98", "at_step": 0},
    "status": "running",
    "steps": 0,
    "observation": {"text": "You are in the middle of a room.", "admissible_actions": ["go to countertop 1", "look"]},
    "reward": 0.0,
    "terminated": False,
    "truncated": False,
    "valid": True,
    "state_hash": "",
    "info": {},
}


def _printable(key: str) -> str:
    if key.isprintable():
        return key
    raise ValueError("a key is of printable characters")  # as every database holds as text


IdempotencyKey = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_printable)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class Malformed:
    """An item of a batch that is no valid request: it fails alone."""

    error: ValidationError


def _keep_error(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    try:
        return handler(value)
    except ValidationError as error:
        return Malformed(error)


class ActionBody(_Request):
    """A tool call."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ACTION]})

    name: str = Field(max_length=256, description="Name of one of the environment's tools.")
    arguments: dict[str, Any] = Field(default_factory=dict, description="The tool's arguments.")


class Sampler(_Request):
    """A task drawn by seed: the same values always draw the same task."""

    split: str
    seed: int = Field(ge=0, lt=SEED_LIMIT)
    type: str | None = Field(default=None, description="Draw among the tasks of this type only.")


class CreateEpisode(_Request):
    """Which task to begin: by id, or drawn by a sampler."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"env": "alfworld", "sampler": {"split": "generated", "seed": 7}},
                {"env": "dbbench", "task_id": "dev/12", "seed": 0, "options": {}},
            ]
        }
    )

    env: str
    task_id: str | None = None
    sampler: Sampler | None = None
    seed: int = Field(default=0, ge=0, lt=SEED_LIMIT, description="Seed of the episode's own randomness.")
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the environment's reset.")
    idempotency_key: IdempotencyKey | None = Field(
        default=None,
        description="The same key again gives the same episode; may be sent as the header Idempotency-Key too.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.task_id is None) == (self.sampler is None):
            msg = "give either task_id or sampler"
            raise ValueError(msg)
        return self


class StepRequest(_Request):
    """One action, and optionally its number for a safe retry."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"action": _ACTION, "step": 0}]})

    action: ActionBody
    step: int | None = Field(
        None, ge=0, description="Steps done so far. The same number again gives the stored answer; a gap is a 409."
    )


class StepItem(StepRequest):
    """One step in a batch."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"episode_id": _EPISODE["id"], "action": _ACTION, "step": 0}]}
    )

    episode_id: str


class ForkRequest(_Request):
    """From where to go on, and how often."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"at_step": 3, "count": 8}]})

    at_step: int | None = Field(
        default=None,
        ge=0,
        description="Go on from the state after so many steps; by default from the present one.",
    )
    count: int = Field(default=1, ge=1, description="New episodes, at most as many as a batch has items. All or none.")
    idempotency_key: IdempotencyKey | None = Field(
        default=None,
        description="The same key again gives the same episodes; may be sent as the header Idempotency-Key too.",
    )


class ExpertRequest(_Request):
    """Which expert to ask."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"expert": "oracle"}]})

    expert: str | None = Field(default=None, description="One of the environment's experts, where it has several.")


class BatchCreate(_Request):
    """Episodes to begin; several on the same task are a group, and load it once."""

    items: list[Annotated[CreateEpisode, WrapValidator(_keep_error)]]


class BatchStep(_Request):
    """Steps to take, of different episodes or one after the other of the same."""

    items: list[Annotated[StepItem, WrapValidator(_keep_error)]]


class BatchClose(_Request):
    """Episodes to close."""

    ids: list[str]


class BatchTouch(_Request):
    """Episodes to keep alive."""

    ids: list[str]


class _ErrorBody(BaseModel):
    code: str
    message: str
    hint: str


class ErrorAnswer(BaseModel):
    """The one shape of every error."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": {
                        "code": "episode_over",
                        "message": "episode ep_0123456789abcdef01234567 has ended: completed",
                        "hint": "create a new episode",
                    }
                }
            ]
        }
    )

    error: _ErrorBody


class TaskAnswer(BaseModel):
    """A task, without anything that gives its solution away."""

    model_config = ConfigDict(json_schema_extra={"examples": [_TASK]})

    env: str
    id: str
    split: str
    type: str
    content_hash: str
    metadata: dict[str, Any]


class TaskPageAnswer(BaseModel):
    """A page of tasks; ``total`` is null for an endless split."""

    tasks: list[TaskAnswer]
    offset: int
    total: int | None


class _ObservationAnswer(BaseModel):
    text: str
    admissible_actions: list[str]


class _ForkOrigin(BaseModel):
    episode: str
    at_step: int


class EpisodeAnswer(BaseModel):
    """An episode as it stands."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EPISODE]})

    id: str
    env: str
    task: TaskAnswer
    seed: int
    options: dict[str, Any]
    forked_from: _ForkOrigin | None = Field(
        description="The episode that this one goes on from, and the step; null where it began with its task."
    )
    status: EpisodeStatus
    steps: int
    observation: _ObservationAnswer
    reward: float | None = Field(description="null where the episode was cancelled or the machinery failed.")
    terminated: bool
    truncated: bool
    valid: bool
    state_hash: str
    info: dict[str, Any]


class _BatchResult(BaseModel):
    ok: bool
    episode: EpisodeAnswer | None = Field(default=None, description="Where ok.")
    error: _ErrorBody | None = Field(default=None, description="Where not ok.")


class _Touched(BaseModel):
    ok: bool
    lease_s: float | None = Field(default=None, description="Where ok: for so long it lives if nothing is asked of it.")
    error: _ErrorBody | None = Field(default=None, description="Where not ok.")


class TouchAnswer(BaseModel):
    """One result an id, in order."""

    results: list[_Touched]


class BatchAnswer(BaseModel):
    """One result an item, in the items' order."""

    results: list[_BatchResult]


class ForksAnswer(BaseModel):
    """The new episodes."""

    episodes: list[EpisodeAnswer]


class ExpertAnswer(BaseModel):
    """The expert's next action, or null where it knows none."""

    action: ActionBody | None


class _Tool(BaseModel):
    name: str
    description: str
    parameters: dict[str, Any]


class _Split(BaseModel):
    env: str
    name: str
    role: SplitRole
    size: int | None
    description: str


class _Readiness(BaseModel):
    ready: bool
    detail: str
    hint: str


class EnvAnswer(BaseModel):
    """An environment: its spec, tools with their JSON Schema, splits, readiness."""

    id: str
    name: str
    version: int
    description: str
    tools: list[_Tool]
    task_types: list[str]
    max_steps: int
    blocking: bool
    splits: list[_Split]
    readiness: _Readiness


class EnvsAnswer(BaseModel):
    """All environments of this server."""

    envs: list[EnvAnswer]


class ReadyAnswer(BaseModel):
    """Whether episodes can be started; ``error`` names the environments that are not ready, why, and what to do."""

    ready: bool
    envs: dict[str, _Readiness]
    error: _ErrorBody | None = None


class VersionAnswer(BaseModel):
    """Versions of the package and of the served environments."""

    version: str
    envs: list[str]
