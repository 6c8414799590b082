"""One episode of the server: its environment while it lives, what it showed last, and how it came there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from envs.base import Environment
from envs.errors import Conflict, EnvloopError, EpisodeOver
from envs.server.history import History
from envs.types import Action, EnvSpec, EpisodeStatus, StepResult, Task
from envs.wire import ForkOrigin, dumps, fork_origin_to_json, observation_to_json, task_to_json

__all__ = ["Session", "SharedTask"]

_INLINE: AbstractAsyncContextManager[None] = nullcontext()
_NO_OPTIONS: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class SharedTask:
    """A task, with that part of an episode's JSON that tells of it, once for all of its episodes."""

    task: Task
    fields: bytes

    @classmethod
    def of(cls, task: Task, env: str) -> SharedTask:
        """Encode a task of this environment."""
        return cls(task, dumps({"env": env, "task": task_to_json(task)})[1:-1])


class Session:
    """State of one episode. Kept small: tens of thousands may be live; ``body`` is made when it is sent.

    Everything that changes an episode is done under ``lock``. An environment that does not block is only ever used in
    one go of the event loop, so that its lock is no lock.
    """

    __slots__ = (
        "_failure",
        "_task",
        "ended_at",
        "ended_because",
        "environment",
        "forked_from",
        "history",
        "id",
        "lock",
        "options",
        "pending",
        "seed",
        "spec",
        "stale",
        "status",
        "steps",
        "touched_at",
        "view",
        "written_at",
    )

    def __init__(
        self,
        id: str,
        *,
        spec: EnvSpec,
        task: SharedTask,
        seed: int,
        options: Mapping[str, Any],
        environment: Environment | None,
        view: StepResult,
        history: History,
        steps: int = 0,
        forked_from: ForkOrigin | None = None,
    ) -> None:
        self.id = id
        self.spec = spec
        self._task = task
        self.seed = seed
        self.options = options or _NO_OPTIONS
        self.environment = environment
        self.lock = asyncio.Lock() if spec.blocking else _INLINE
        self.status = EpisodeStatus.RUNNING
        self.view = view
        self.history = history
        self.steps = steps
        self.forked_from = forked_from
        self.ended_because = ""
        self.ended_at = 0.0
        self.touched_at = time.monotonic()
        self.written_at = self.touched_at  # when the journal last heard of it
        self.pending: asyncio.Future[bool] | None = None
        self.stale = False
        self._failure: EnvloopError | None = None

    @property
    def task(self) -> Task:
        """What is played."""
        return self._task.task

    @property
    def busy(self) -> bool:
        """Whether somebody is at work on it now."""
        return isinstance(self.lock, asyncio.Lock) and self.lock.locked()

    @property
    def body(self) -> bytes:
        """The episode's view as JSON."""
        view, status = self.view, self.status
        head = b'{"id":"%s",%s,' % (self.id.encode(), self._task.fields)
        return (
            head
            + dumps(
                {
                    "seed": self.seed,
                    "options": self.options,
                    "forked_from": fork_origin_to_json(self.forked_from),
                    "status": status,
                    "steps": self.steps,
                    "observation": observation_to_json(view.observation),
                    "reward": view.reward if status is EpisodeStatus.RUNNING or status.scored else None,
                    "terminated": view.terminated,
                    "truncated": view.truncated,
                    "valid": view.valid,
                    "state_hash": view.state_hash,
                    "info": view.info,
                }
            )[1:]
        )

    def touch(self) -> None:
        """Note that somebody still cares."""
        self.touched_at = time.monotonic()

    def write(self, writing: asyncio.Future[bool]) -> None:
        """Something is being written to the journal: until it is there, nothing may be told of it.

        Where the journal refuses or fails, the episode stands elsewhere than here: it is ``stale``.
        """
        self.pending = writing
        self.written_at = time.monotonic()
        writing.add_done_callback(self._written)

    async def settled(self) -> bool:
        """Wait for what is being written; False where the episode is stale."""
        while self.pending is not None:
            await asyncio.wait([self.pending])
        return not self.stale

    def _written(self, writing: asyncio.Future[bool]) -> None:
        if writing.cancelled() or writing.exception() is not None or not writing.result():
            self.stale = True
        if self.pending is writing:
            self.pending = None

    def answers(self, number: int, action: Action) -> bool:
        """Whether this is the last step asked for again, so that the present view is its answer.

        Raises: the stored failure where that step ended the episode; Conflict where it was another action.
        """
        if self._failure is not None and number == self.steps:
            raise type(self._failure)(self._failure.message, hint=self._failure.hint)
        if number != self.steps - 1:
            return False
        if self.history.last_action != Action(action.name, dict(action.arguments)):
            raise Conflict(
                f"step {number} of episode {self.id} was already taken with another action",
                hint="read the episode and go on from there",
            )
        return True

    def record(self, action: Action, result: StepResult) -> bool:
        """Take over the result of a step that was applied; gives whether it was the last."""
        self.steps += 1
        self.view = result
        self.history.add(action, result)
        if result.done:
            status = EpisodeStatus.COMPLETED if result.terminated else EpisodeStatus.TRUNCATED_TURNS
            self._finish(status, status.value)
        return result.done

    def end(self, status: EpisodeStatus, reason: str, *, failure: EnvloopError | None = None) -> None:
        """End without a result: the last observation stays, ``info.ended_because`` says why."""
        self._failure = failure
        self._finish(status, f"{status.value}, {reason}")
        self.view = replace(self.view, info={**self.view.info, "ended_because": reason})

    def fork_step(self, at_step: int | None) -> int:
        """The step that forks go on from; by default the present one.

        Raises: Conflict where the episode has not come so far; EpisodeOver where that step was the task's end.
        """
        step = self.steps if at_step is None else at_step
        if step > self.steps:
            raise Conflict(
                f"step {step} lies ahead: episode {self.id} has done {self.steps}",
                hint=f"fork at a step from 0 to {self.steps}",
            )
        if step == self.steps and self.view.done:
            raise EpisodeOver(
                f"episode {self.id} has ended with step {step}: nothing goes on from there",
                hint=f"fork at an earlier step, 0 to {step - 1}",
            )
        return step

    def restore_end(self, status: EpisodeStatus, because: str, failure: EnvloopError | None) -> None:
        """Take over an ending that was written down."""
        self._failure = failure
        self._finish(status, because)

    @property
    def failure(self) -> EnvloopError | None:
        """The error that ended it, if one did."""
        return self._failure

    def _finish(self, status: EpisodeStatus, because: str) -> None:
        self.status = status
        self.ended_because = because
        self.ended_at = time.monotonic()
        self.environment = None
