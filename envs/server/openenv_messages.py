"""OpenEnv's messages: what its clients send, what they are shown of an episode, and both as JSON Schema.

Held against the client and the validator of the package ``openenv`` 0.10, which the server itself does not need.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from envs.errors import (
    AccessError,
    BadRequest,
    CapacityExceeded,
    InvalidAction,
    InvalidOption,
    NotFound,
)
from envs.server.guard import validation_error
from envs.server.plumbing import strict_json
from envs.server.schemas import SEED_LIMIT
from envs.server.session import Session
from envs.types import EnvSpec, EpisodeStatus
from envs.wire import observation_to_json, task_to_json

__all__ = [
    "Health",
    "Metadata",
    "Observed",
    "Reset",
    "RpcAnswer",
    "Schemas",
    "State",
    "Step",
    "ToolCall",
    "action_schema",
    "error_frame",
    "read_message",
    "read_object",
    "seen",
    "state_of",
    "tools_of",
]


class _Sent(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Reset(_Sent):
    """What ``reset`` takes: a task by id or by a sampler's seed, as ``POST /v1/episodes`` does."""

    seed: Annotated[int, Field(ge=0, lt=SEED_LIMIT)] | None = Field(
        default=None, description="Draws the task, where none is named; without it any is drawn."
    )
    episode_id: Annotated[str, Field(min_length=1, max_length=255)] | None = Field(
        default=None, description="A name of your own: the same again gives the same episode, as it stands."
    )
    task_id: str | None = Field(default=None, description="The task to play.")
    split: str | None = Field(
        default=None, description="Draw from this split; by default from the first that is for training."
    )
    type: str | None = Field(default=None, description="Draw among the tasks of this type only.")
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the environment's reset.")


class _CallMetadata(BaseModel):
    model_config = ConfigDict(extra="allow", hide_input_in_errors=True)

    step: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Steps done so far: the same number again gives the stored answer, a gap is an error."
    )


class ToolCall(_Sent):
    """An action, in the form of OpenEnv's own CallToolAction."""

    type: Literal["call_tool"] = "call_tool"
    tool_name: str = Field(max_length=256, description="Name of one of the environment's tools.")
    arguments: dict[str, Any] = Field(default_factory=dict, description="The tool's arguments.")
    metadata: _CallMetadata = Field(default_factory=_CallMetadata)


class Step(_Sent):
    """A step over plain HTTP, which has no session: the episode is named."""

    action: ToolCall
    episode_id: str = Field(description="As the reset told it.")
    timeout_s: float | None = Field(
        default=None, gt=0, description="Taken and not used: an environment has limits of its own."
    )
    request_id: str | None = Field(default=None, max_length=255, description="Taken and not used.")


class _Seen(BaseModel):
    text: str
    admissible_actions: list[str]
    metadata: dict[str, Any]


class Observed(BaseModel):
    """What a reset or a step shows. ``reward`` is null after a reset, and where an episode ended without a result."""

    observation: _Seen
    reward: float | None
    done: bool
    metadata: dict[str, Any]


class State(BaseModel):
    """Where an episode stands. ``episode_id`` is null before the first reset."""

    model_config = ConfigDict(extra="allow")

    episode_id: str | None
    step_count: int
    status: EpisodeStatus | None = None
    task: dict[str, Any] | None = None
    last: Observed | None = Field(default=None, description="What the last reset or step showed.")


class Health(BaseModel):
    """Whether episodes can be started."""

    status: Literal["healthy", "unhealthy"]


class Metadata(BaseModel):
    """What the environment is."""

    name: str
    description: str
    version: str


class RpcAnswer(BaseModel):
    """A JSON-RPC answer: a result or an error."""

    jsonrpc: Literal["2.0"]
    id: str | int | None
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


class Schemas(BaseModel):
    """JSON Schemas."""

    action: dict[str, Any]
    observation: dict[str, Any]
    state: dict[str, Any]


def seen(session: Session, *, fresh: bool = False) -> dict[str, Any]:
    """An episode's view as OpenEnv's clients read it; ``fresh``: it has just begun."""
    view, status = session.view, session.status
    scored = status is EpisodeStatus.RUNNING or status.scored
    metadata = {
        "episode_id": session.id,
        "step": session.steps,
        "status": status.value,
        "valid": view.valid,
        "terminated": view.terminated,
        "truncated": view.truncated,
        "state_hash": view.state_hash,
        "info": dict(view.info),
        "task": task_to_json(session.task),
    }
    return {
        "observation": {**observation_to_json(view.observation), "metadata": metadata},
        "reward": view.reward if scored and not fresh else None,
        "done": status.over,
        "metadata": metadata,
    }


def state_of(session: Session | None) -> dict[str, Any]:
    """An episode's state, with what it showed last: the answer of a step that was lost is found there."""
    if session is None:
        return {"episode_id": None, "step_count": 0, "status": None, "task": None, "last": None}
    last = seen(session, fresh=session.steps == 0)
    task = last["metadata"]["task"]
    return {"episode_id": session.id, "step_count": session.steps, "status": session.status, "task": task, "last": last}


def action_schema(spec: EnvSpec) -> dict[str, Any]:
    """The schema of an action, with the arguments of each tool."""
    schema = ToolCall.model_json_schema()
    schema["oneOf"] = [
        {"properties": {"tool_name": {"const": tool.name}, "arguments": dict(tool.parameters)}} for tool in spec.tools
    ]
    return schema


def tools_of(spec: EnvSpec) -> list[dict[str, Any]]:
    """The tools as MCP lists them."""
    return [{"name": t.name, "description": t.description, "inputSchema": dict(t.parameters)} for t in spec.tools]


def read_object(text: str | bytes) -> dict[str, Any]:
    """A JSON object. Raises BadRequest for anything else, NaN and infinities among it."""
    try:
        value = strict_json(text)
    except ValueError as error:
        raise BadRequest(f"this is not JSON: {error}", hint="send a JSON object") from error
    if not isinstance(value, dict):
        raise BadRequest("this is JSON, but no object", hint="send a JSON object")
    return value


def read_message[T: BaseModel](model: type[T], data: Any) -> T:
    """The message. Raises InvalidAction or InvalidOption that names the field."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        found = validation_error(error.errors(include_url=False, include_input=False))
        kind = InvalidAction if model is ToolCall else type(found)
        raise kind(found.message, hint="see the schema of the environment") from error


def error_frame(error: Mapping[str, Any], kind: type[Exception]) -> dict[str, Any]:
    """An error as OpenEnv's clients raise it; ``error`` is ours, ``kind`` its class."""
    hint = f" ({error['hint']})" if error["hint"] else ""
    return {
        "type": "error",
        "data": {"message": error["message"] + hint, "code": _code(kind), "error": dict(error)},
    }


def _code(kind: type[Exception]) -> str:
    if issubclass(kind, (InvalidAction, InvalidOption)):
        return "VALIDATION_ERROR"
    if issubclass(kind, BadRequest):
        return "INVALID_JSON"
    if issubclass(kind, CapacityExceeded):
        return "CAPACITY_REACHED"
    if issubclass(kind, (NotFound, AccessError)):
        return "SESSION_ERROR"
    return "EXECUTION_ERROR"
