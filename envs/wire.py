"""The JSON forms of the frozen values, shared by the server, the client and whatever stores episodes.

Each ``*_to_json`` gives plain dicts and lists; each ``*_from_json`` is its inverse and raises TransportError where a
field is missing or has the wrong type, since then the other side is no envloop server of this version.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from envs.errors import TransportError
from envs.types import (
    Action,
    EnvSpec,
    EpisodeStatus,
    JsonObject,
    Observation,
    Readiness,
    Split,
    SplitRole,
    Task,
    TaskPage,
    ToolSpec,
)

__all__ = [
    "EnvInfo",
    "EpisodeView",
    "ForkOrigin",
    "TaskReader",
    "action_from_json",
    "action_to_json",
    "dumps",
    "env_from_json",
    "env_to_json",
    "episode_from_json",
    "episode_to_json",
    "fork_origin_to_json",
    "observation_to_json",
    "task_from_json",
    "task_page_from_json",
    "task_page_to_json",
    "task_to_json",
]


@dataclass(frozen=True, slots=True)
class ForkOrigin:
    """Where a forked episode comes from: another's id and the step from which both go on, each in its own way."""

    episode: str
    at_step: int


@dataclass(frozen=True, slots=True)
class EpisodeView:
    """One episode as it stands: what the last reset or step gave, and how often it was stepped.

    ``reward`` is the benchmark's own: 0 while it runs, None where it ended without a result (``CANCELLED``,
    ``INFRASTRUCTURE_ERROR``). ``steps`` counts the actions that were applied; it is also the number that the next step
    carries; a fork counts on from where it comes from. ``state_hash`` is empty before the first step and where the
    environment does not give one.
    """

    id: str
    env: str
    task: Task
    seed: int
    options: JsonObject
    status: EpisodeStatus
    steps: int
    observation: Observation
    reward: float | None
    terminated: bool
    truncated: bool
    valid: bool
    state_hash: str
    info: JsonObject
    forked_from: ForkOrigin | None = None


@dataclass(frozen=True, slots=True)
class EnvInfo:
    """An environment as the server lists it: its spec, the splits that can be played there, whether it is ready."""

    spec: EnvSpec
    splits: tuple[Split, ...]
    readiness: Readiness


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=_plain)


def dumps(value: Any) -> bytes:
    """Compact strict JSON, any Mapping as an object. ASCII: a lone surrogate from a model's text stays an escape.

    Raises TypeError for what is no JSON, ValueError for NaN and infinities.
    """
    return _ENCODER.encode(value).encode("ascii")


def action_to_json(action: Action) -> dict[str, Any]:
    """``{"name", "arguments"}``."""
    return {"name": action.name, "arguments": dict(action.arguments)}


def observation_to_json(observation: Observation) -> dict[str, Any]:
    """``{"text", "admissible_actions"}``."""
    return {"text": observation.text, "admissible_actions": observation.admissible_actions}


def fork_origin_to_json(origin: ForkOrigin | None) -> dict[str, Any] | None:
    """``{"episode", "at_step"}``, or null for an episode that began with its task."""
    return None if origin is None else {"episode": origin.episode, "at_step": origin.at_step}


def task_to_json(task: Task) -> dict[str, Any]:
    """The public task: id, split, type, content hash and metadata."""
    return {
        "env": task.env,
        "id": task.id,
        "split": task.split,
        "type": task.type,
        "content_hash": task.content_hash,
        "metadata": dict(task.metadata),
    }


def task_page_to_json(page: TaskPage) -> dict[str, Any]:
    """``{"tasks", "offset", "total"}``; ``total`` is null for an endless split."""
    return {"tasks": [task_to_json(task) for task in page.tasks], "offset": page.offset, "total": page.total}


def env_to_json(info: EnvInfo) -> dict[str, Any]:
    """The spec without its entry point (which is of no use outside the server's process), splits, readiness."""
    spec = info.spec
    return {
        "id": spec.id,
        "name": spec.name,
        "version": spec.version,
        "description": spec.description,
        "tools": [
            {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
            for tool in spec.tools
        ],
        "task_types": list(spec.task_types),
        "max_steps": spec.max_steps,
        "blocking": spec.blocking,
        "splits": [
            {"env": s.env, "name": s.name, "role": s.role.value, "size": s.size, "description": s.description}
            for s in info.splits
        ],
        "readiness": {
            "ready": info.readiness.ready,
            "detail": info.readiness.detail,
            "hint": info.readiness.hint,
        },
    }


def episode_to_json(view: EpisodeView) -> dict[str, Any]:
    """All fields of the view."""
    return {
        "id": view.id,
        "env": view.env,
        "task": task_to_json(view.task),
        "seed": view.seed,
        "options": dict(view.options),
        "forked_from": fork_origin_to_json(view.forked_from),
        "status": view.status.value,
        "steps": view.steps,
        "observation": observation_to_json(view.observation),
        "reward": view.reward,
        "terminated": view.terminated,
        "truncated": view.truncated,
        "valid": view.valid,
        "state_hash": view.state_hash,
        "info": dict(view.info),
    }


def _read[T](what: str, body: Any, build: Callable[[Any], T]) -> T:
    try:
        return build(body)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TransportError(
            f"the server's answer is no {what}: {type(error).__name__}: {error}",
            hint="check that the address is an envloop env server of the same version",
        ) from error


def _task(body: Any) -> Task:
    return Task(
        env=body["env"],
        id=body["id"],
        split=body["split"],
        type=body["type"],
        content_hash=body["content_hash"],
        metadata=body["metadata"],
    )


class TaskReader:
    """Reads tasks from JSON and gives equal ones as one object: an episode's views repeat theirs at every step."""

    def __init__(self, limit: int = 4096) -> None:
        self._limit = limit
        self._known: dict[tuple[str, str], tuple[Any, Task]] = {}

    def read(self, body: Any) -> Task:
        """The task. Raises KeyError, TypeError where it is none."""
        key = (body["env"], body["id"])
        known = self._known.get(key)
        if known is not None and known[0] == body:
            return known[1]
        task = _task(body)
        if len(self._known) >= self._limit:
            self._known.clear()
        self._known[key] = (body, task)
        return task


def _observation(body: Any) -> Observation:
    return Observation(text=body["text"], admissible_actions=tuple(body["admissible_actions"]))


def _fork_origin(body: Any) -> ForkOrigin | None:
    return None if body is None else ForkOrigin(body["episode"], body["at_step"])


def _action(body: Any) -> Action:
    return Action(name=body["name"], arguments=body["arguments"])


def _episode(body: Any, task_of: Callable[[Any], Task]) -> EpisodeView:
    return EpisodeView(
        id=body["id"],
        env=body["env"],
        task=task_of(body["task"]),
        seed=body["seed"],
        options=body["options"],
        status=EpisodeStatus(body["status"]),
        steps=body["steps"],
        observation=_observation(body["observation"]),
        reward=body["reward"],
        terminated=body["terminated"],
        truncated=body["truncated"],
        valid=body["valid"],
        state_hash=body["state_hash"],
        info=body["info"],
        forked_from=_fork_origin(body["forked_from"]),
    )


def _page(body: Any) -> TaskPage:
    return TaskPage(tasks=tuple(_task(task) for task in body["tasks"]), offset=body["offset"], total=body["total"])


def _env(body: Any) -> EnvInfo:
    spec = EnvSpec(
        name=body["name"],
        version=body["version"],
        description=body["description"],
        tools=tuple(ToolSpec(tool["name"], tool["description"], tool["parameters"]) for tool in body["tools"]),
        task_types=tuple(body["task_types"]),
        max_steps=body["max_steps"],
        blocking=body["blocking"],
        entry_point="",
    )
    splits = tuple(
        Split(s["env"], s["name"], SplitRole(s["role"]), s["size"], s["description"]) for s in body["splits"]
    )
    ready = body["readiness"]
    return EnvInfo(spec, splits, Readiness(ready["ready"], ready["detail"], ready["hint"]))


def task_from_json(body: Any) -> Task:
    """Inverse of ``task_to_json``."""
    return _read("task", body, _task)


def action_from_json(body: Any) -> Action:
    """Inverse of ``action_to_json``."""
    return _read("action", body, _action)


def episode_from_json(body: Any, tasks: TaskReader | None = None) -> EpisodeView:
    """Inverse of ``episode_to_json``. With ``tasks``, views of one task share it."""
    task_of = _task if tasks is None else tasks.read
    return _read("episode", body, lambda body: _episode(body, task_of))


def task_page_from_json(body: Any) -> TaskPage:
    """Inverse of ``task_page_to_json``."""
    return _read("page of tasks", body, _page)


def env_from_json(body: Any) -> EnvInfo:
    """Inverse of ``env_to_json``; ``spec.entry_point`` is empty."""
    return _read("environment", body, _env)
