"""Errors of envloop. Each names its HTTP status and a stable code, and says what to do.

EnvloopError
├── BadRequest (400)
│   ├── InvalidAction (422)
│   ├── InvalidOption (422)
│   └── PayloadTooLarge (413)
├── AccessError
│   ├── Unauthorized (401)
│   └── Forbidden (403)
├── NotFound (404)
│   ├── UnknownEnv, UnknownSplit, UnknownTask, UnknownTaskType, UnknownEpisode, UnknownPolicy
├── Conflict (409)
│   └── EpisodeOver
├── CapacityExceeded (429)
├── ConfigError (500)            a setting is wrong; shown at start
├── TaskDataError (500)          a task's file is broken; refused when it is loaded
└── InfrastructureError (503)    our machinery failed: never a reward of 0
    ├── BackendUnavailable       a database, an engine or a worker cannot be reached
    ├── EngineMismatch           two engines that must agree do not
    └── TransportError           the connection to a server failed
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "AccessError",
    "BackendUnavailable",
    "BadRequest",
    "CapacityExceeded",
    "ConfigError",
    "Conflict",
    "EngineMismatch",
    "EnvloopError",
    "EpisodeOver",
    "Forbidden",
    "InfrastructureError",
    "InvalidAction",
    "InvalidOption",
    "NotFound",
    "PayloadTooLarge",
    "TaskDataError",
    "TooManyRequests",
    "TransportError",
    "TryAgain",
    "Unauthorized",
    "UnknownEnv",
    "UnknownEpisode",
    "UnknownPolicy",
    "UnknownSplit",
    "UnknownTask",
    "UnknownTaskType",
    "error_from_json",
]


class EnvloopError(Exception):
    """The root. ``message`` says what and where, ``hint`` what to do; both are safe to show to anyone."""

    code: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def to_json(self) -> dict[str, Any]:
        """``{"code", "message", "hint"}``, the one shape of an error on the wire."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


class BadRequest(EnvloopError):
    """The request cannot be understood."""

    code = "bad_request"
    http_status = 400


class InvalidAction(BadRequest):
    """An action names no tool of the environment or its arguments have the wrong shape."""

    code = "invalid_action"
    http_status = 422


class InvalidOption(BadRequest):
    """An option or a field is unknown or out of bounds."""

    code = "invalid_option"
    http_status = 422


class PayloadTooLarge(BadRequest):
    """A body is above the limit."""

    code = "payload_too_large"
    http_status = 413


class AccessError(EnvloopError):
    """The caller may not do this."""

    code = "access_error"
    http_status = 403


class Unauthorized(AccessError):
    """No valid token was sent."""

    code = "unauthorized"
    http_status = 401


class Forbidden(AccessError):
    """The token does not give this right."""

    code = "forbidden"


class NotFound(EnvloopError):
    """What was named does not exist."""

    code = "not_found"
    http_status = 404


class UnknownEnv(NotFound):
    """No environment has this name."""

    code = "unknown_env"


class UnknownSplit(NotFound):
    """The environment has no such split here."""

    code = "unknown_split"


class UnknownTask(NotFound):
    """The environment has no task with this id."""

    code = "unknown_task"


class UnknownTaskType(NotFound):
    """The environment has no task type with this name."""

    code = "unknown_task_type"


class UnknownEpisode(NotFound):
    """No live or remembered episode has this id."""

    code = "unknown_episode"


class UnknownPolicy(NotFound):
    """No policy version has this name."""

    code = "unknown_policy"


class Conflict(EnvloopError):
    """The request does not fit the state of what it names."""

    code = "conflict"
    http_status = 409


class EpisodeOver(Conflict):
    """A step was asked for after the episode's end."""

    code = "episode_over"


class CapacityExceeded(EnvloopError):
    """No more episodes can be live at once. Try again later."""

    code = "capacity_exceeded"
    http_status = 429


class TooManyRequests(CapacityExceeded):
    """The caller is too fast. ``retry_after_s``: when the next request will be taken."""

    code = "too_many_requests"

    def __init__(self, message: str, *, hint: str = "", retry_after_s: float = 1.0) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class ConfigError(EnvloopError):
    """A setting is missing, unknown or contradicts another."""

    code = "config_error"


class TaskDataError(EnvloopError):
    """A task's data is broken; the message names the file and the reason."""

    code = "task_data_error"


class InfrastructureError(EnvloopError):
    """The machinery failed, not the policy: such an episode has no reward."""

    code = "infrastructure_error"
    http_status = 503


class BackendUnavailable(InfrastructureError):
    """A database, an engine or a worker process cannot be reached or has died."""

    code = "backend_unavailable"


class TryAgain(BackendUnavailable):
    """Nothing has changed: the same request can be sent again, to this server or to another."""

    code = "try_again"


class EngineMismatch(InfrastructureError):
    """Two engines that play the same episode told different things; the message says what, and after which actions."""

    code = "engine_mismatch"


class TransportError(InfrastructureError):
    """The connection to a server failed or its answer was no answer."""

    code = "transport_error"


def _tree(cls: type[EnvloopError]) -> dict[str, type[EnvloopError]]:
    found = {cls.code: cls}
    for sub in cls.__subclasses__():
        found |= _tree(sub)
    return found


def error_from_json(body: Any, *, http_status: int) -> EnvloopError:
    """The exception that a server's error body stands for; an unknown or foreign body becomes a TransportError."""
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return TransportError(f"the server answered HTTP {http_status} without an envloop error body")
    cls = _tree(EnvloopError).get(str(error.get("code")))
    if cls is None:
        cls = InfrastructureError if http_status >= 500 else BadRequest
    return cls(error["message"], hint=str(error.get("hint") or ""))
