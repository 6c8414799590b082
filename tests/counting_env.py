"""A test double: counts to a target, fails on request. It exercises the server and the checker, and is no benchmark."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from envs.errors import BackendUnavailable, EpisodeOver, InvalidAction, InvalidOption, UnknownSplit, UnknownTask
from envs.registry import Registry
from envs.types import Action, EnvSpec, Observation, Readiness, Split, SplitRole, StepResult, Task, TaskPage, ToolSpec

__all__ = ["BLOCKING_COUNTING", "COUNTING", "CopyingEnv", "CountingEnv", "CountingFamily", "counting_registry"]

_TOOL = ToolSpec(
    "count",
    "Say the next number.",
    {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]},
)

COUNTING = EnvSpec(
    name="counting",
    version=1,
    description="test double: count to the task's target",
    tools=(_TOOL,),
    task_types=("small", "large"),
    max_steps=8,
    blocking=False,
    entry_point="counting_env:CountingFamily",
)
BLOCKING_COUNTING = replace(COUNTING, name="blocking_counting", blocking=True)


ABSENT = replace(COUNTING, name="absent", entry_point="counting_env:AbsentFamily")


def counting_registry() -> Registry:
    return Registry((COUNTING, BLOCKING_COUNTING, ABSENT))


class CountingFamily:
    """Tasks ``train/0`` … ``train/5``: count to 1 … 6. Public attributes let a test break it."""

    def __init__(self, spec: EnvSpec) -> None:
        self.spec = spec
        self.closed = False
        self.readiness = Readiness(True)
        self.live: set[CountingEnv] = set()
        self.fail_with: Exception | None = None
        self.release = threading.Event()
        self.release.set()
        self.applied = 0
        self.made = 0
        self.max_made = 1_000_000
        self.drift = ""  # said after every step
        self.copies = False  # whether its environments copy themselves
        self.entered = threading.Semaphore(0)  # released once by every step that is in

    def splits(self) -> Sequence[Split]:
        return (Split(self.spec.name, "train", SplitRole.TRAIN, 6, "six targets"),)

    def _all(self, split: str) -> list[Task]:
        if split != "train":
            raise UnknownSplit(f"no split {split!r}", hint="known: train")
        return [
            Task(
                self.spec.name,
                f"train/{n}",
                "train",
                "small" if n < 3 else "large",
                hashlib.sha256(str(n).encode()).hexdigest(),
                {"target": n + 1},
            )
            for n in range(6)
        ]

    def tasks(self, split: str, *, type: str | None = None, offset: int = 0, limit: int = 100) -> TaskPage:
        found = [task for task in self._all(split) if type in (None, task.type)]
        return TaskPage(tuple(found[offset : offset + limit]), offset, len(found))

    def task(self, task_id: str) -> Task:
        for task in self._all("train"):
            if task.id == task_id:
                return task
        raise UnknownTask(f"no task {task_id!r}", hint="list the tasks")

    def sample(self, split: str, seed: int, *, type: str | None = None) -> Task:
        found = self.tasks(split, type=type).tasks
        return found[seed % len(found)]

    def make(self) -> CountingEnv:
        self.made += 1
        if self.made > self.max_made:
            raise BackendUnavailable("no more of them", hint="wait")
        return CopyingEnv(self) if self.copies else CountingEnv(self)

    def ready(self) -> Readiness:
        return self.readiness

    def close(self) -> None:
        self.closed = True
        self.release.set()


class CountingEnv:
    def __init__(self, family: CountingFamily) -> None:
        self._family = family
        self._count = 0
        self._target = 0
        self._steps = 0
        self._over = False

    def reset(self, task: Task, *, seed: int = 0, options: Mapping[str, Any] | None = None) -> Observation:
        if unknown := set(options or {}) - {"slow_s"}:
            raise InvalidOption(f"unknown option {sorted(unknown)[0]!r}", hint="known: slow_s")
        time.sleep((options or {}).get("slow_s", 0.0))
        self._target = task.metadata["target"]
        self._family.live.add(self)
        return Observation(f"Count to {self._target}.", ("1",))

    def step(self, action: Action) -> StepResult:
        if self._over:
            raise EpisodeOver("counted enough")
        if action.name != "count" or type(action.arguments.get("number")) is not int:
            raise InvalidAction("the action is no count", hint='count {"number": 1}')
        self._family.entered.release()
        self._family.release.wait(30)
        if self._family.fail_with is not None:
            raise self._family.fail_with
        self._family.applied += 1
        self._steps += 1
        valid = action.arguments["number"] == self._count + 1
        self._count += valid
        terminated = self._count == self._target
        truncated = not terminated and self._steps == self._family.spec.max_steps
        self._over = terminated or truncated
        return StepResult(
            Observation(
                action.arguments.get("say", f"You are at {self._count}.") + self._family.drift, (str(self._count + 1),)
            ),
            reward=1.0 if terminated else 0.0,
            terminated=terminated,
            truncated=truncated,
            valid=valid,
            state_hash=f"{self._count:x}",
        )

    def expert_action(self) -> Action | None:
        return None if self._over else Action("count", {"number": self._count + 1})

    def close(self) -> None:
        self._family.live.discard(self)


class CopyingEnv(CountingEnv):
    """Copies itself and has two experts, one of whom counts wrongly."""

    experts = ("right", "wrong")

    def fork(self) -> CopyingEnv | None:
        if self._over:
            raise EpisodeOver("counted enough")
        if self._family.made >= self._family.max_made:
            return None
        made = type(self)(self._family)
        self._family.made += 1
        self._family.live.add(made)
        made._count, made._target, made._steps = self._count, self._target, self._steps
        return made

    def expert_action(self, expert: str | None = None) -> Action | None:
        if expert not in (None, *self.experts):
            raise InvalidOption("no such expert", hint="right or wrong")
        return Action("count", {"number": -1}) if expert == "wrong" else super().expert_action()


class AbsentFamily(CountingFamily):
    """Another: its database is not there until ``present`` is set."""

    present = False

    def __init__(self, spec: EnvSpec) -> None:
        if not AbsentFamily.present:
            raise BackendUnavailable("no database answers", hint="start the database")
        super().__init__(spec)
