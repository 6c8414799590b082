"""One episode of the server: its environment while it lives, and its view as ready-made JSON."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from envs.base import Environment
from envs.errors import Conflict, EnvloopError
from envs.types import Action, EnvSpec, EpisodeStatus, Observation, StepResult, Task
from envs.wire import dumps, observation_to_json, task_to_json

__all__ = ["Session"]


class Session:
    """State of one episode. ``body`` is its view as JSON, encoded once per step and sent as it is.

    Everything that changes an episode is done under ``lock``.
    """

    __slots__ = (
        "_failure",
        "_head",
        "_last_action",
        "_view",
        "body",
        "ended_at",
        "ended_because",
        "environment",
        "id",
        "lock",
        "spec",
        "status",
        "steps",
        "touched_at",
    )

    def __init__(
        self,
        id: str,
        *,
        spec: EnvSpec,
        task: Task,
        seed: int,
        options: Mapping[str, Any],
        environment: Environment,
        observation: Observation,
    ) -> None:
        self.id = id
        self.spec = spec
        self.environment: Environment | None = environment
        self.lock = asyncio.Lock()
        self.status = EpisodeStatus.RUNNING
        self.steps = 0
        self.ended_because = ""
        self.ended_at = 0.0
        self.touched_at = time.monotonic()
        self._last_action: Action | None = None
        self._failure: EnvloopError | None = None
        constant = {"id": id, "env": spec.name, "task": task_to_json(task), "seed": seed, "options": options}
        self._head = dumps(constant)[:-1] + b","
        self._view = StepResult(observation, 0.0, terminated=False, truncated=False)
        self.body = self._encode(self._view.info)

    def touch(self) -> None:
        """Note that somebody still cares."""
        self.touched_at = time.monotonic()

    def answers(self, number: int, action: Action) -> bool:
        """Whether this is the last step asked for again, so that the present view is its answer.

        Raises: the stored failure where that step ended the episode; Conflict where it was another action.
        """
        if self._failure is not None and number == self.steps:
            raise type(self._failure)(self._failure.message, hint=self._failure.hint)
        if self._last_action is None or number != self.steps - 1:
            return False
        if action.name != self._last_action.name or dict(action.arguments) != dict(self._last_action.arguments):
            raise Conflict(
                f"step {number} of episode {self.id} was already taken with another action",
                hint="read the episode and go on from there",
            )
        return True

    def record(self, action: Action, result: StepResult) -> bool:
        """Take over the result of a step that was applied; gives whether it was the last."""
        self.steps += 1
        self._last_action = action
        self._view = result
        if result.done:
            status = EpisodeStatus.COMPLETED if result.terminated else EpisodeStatus.TRUNCATED_TURNS
            self._finish(status, status.value)
        self.body = self._encode(result.info)
        return result.done

    def end(self, status: EpisodeStatus, reason: str, *, failure: EnvloopError | None = None) -> None:
        """End without a result: the last observation stays, ``info.ended_because`` says why."""
        self._failure = failure
        self._finish(status, f"{status.value}, {reason}")
        self.body = self._encode({**self._view.info, "ended_because": reason})

    def _finish(self, status: EpisodeStatus, because: str) -> None:
        self.status = status
        self.ended_because = because
        self.ended_at = time.monotonic()
        self.environment = None

    def _encode(self, info: Mapping[str, Any]) -> bytes:
        view = self._view
        changing = {
            "status": self.status.value,
            "steps": self.steps,
            "observation": observation_to_json(view.observation),
            "reward": view.reward if self.status.scored or not self.status.over else None,
            "terminated": view.terminated,
            "truncated": view.truncated,
            "valid": view.valid,
            "state_hash": view.state_hash,
            "info": info,
        }
        return self._head + dumps(changing)[1:]
