"""``check_env``: does an environment keep the contract of ``envs.base``? For every registered one, and for your own.

Checked per task: the same actions give the same episode twice; the expert's actions win; doing nothing scores 0; a bad
shape raises InvalidAction and changes nothing; no step after the end; ``close`` twice; where an environment copies
itself or has several experts, the copies are independent and the experts known by name. Per family: splits, pages and
ids agree, sampling is a function of the seed, a task shows no gold answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from envs.base import EnvFamily, Environment, Forkable, HasExperts
from envs.errors import EnvloopError, EpisodeOver, InvalidAction, InvalidOption, UnknownSplit, UnknownTask
from envs.types import Action, Observation, Readiness, SplitRole, StepResult, Task
from envs.wire import dumps, task_to_json

__all__ = ["CheckReport", "Finding", "assert_conforms", "check_env"]

_PAGE = 7
_SAMPLES = 3
_GOLD_NAMES = re.compile(r"gold|label|answer|solution|expert|walkthrough|md5|^plan$", re.IGNORECASE)


class _Violation(Exception):
    """What a check found."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken rule: which check, on what (a task id or the family), and how."""

    check: str
    subject: str
    message: str


@dataclass(slots=True)
class CheckReport:
    """What was checked and what was found. ``solved`` and ``played`` count the expert's episodes."""

    env: str
    checks: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    played: int = 0
    solved: int = 0

    @property
    def ok(self) -> bool:
        """Whether every rule holds on everything that was checked."""
        return not self.findings

    def summary(self) -> str:
        """A few lines for a person."""
        head = f"{self.env}: {sum(self.checks.values())} checks, expert {self.solved}/{self.played}, "
        lines = [head + ("all rules hold" if self.ok else f"{len(self.findings)} rules broken")]
        return "\n".join([*lines, *(f"  {f.check} on {f.subject}: {f.message}" for f in self.findings)])


def check_env(
    family: EnvFamily, *, tasks: Iterable[str] | None = None, seed: int = 0, idle_action: Action | None = None
) -> CheckReport:
    """Check a family on the given task ids, or on three sampled tasks a split.

    ``idle_action`` is a well-formed action that does nothing for the task; without it, the first tool is called with
    every required text empty. Broken rules are listed, not raised; an InfrastructureError passes through.
    """
    checker = _Checker(family, seed, idle_action or _idle_action(family))
    checker.check_family()
    for task in checker.choose(tasks):
        checker.check_task(task)
    return checker.report


def assert_conforms(family: EnvFamily, *, tasks: Iterable[str] | None = None, seed: int = 0) -> CheckReport:
    """``check_env``, raising AssertionError with the summary where a rule is broken."""
    report = check_env(family, tasks=tasks, seed=seed)
    if not report.ok:
        raise AssertionError(report.summary())
    return report


class _Checker:
    def __init__(self, family: EnvFamily, seed: int, idle: Action) -> None:
        self.family = family
        self.seed = seed
        self.idle = idle
        self.report = CheckReport(family.spec.id)

    def choose(self, ids: Iterable[str] | None) -> list[Task]:
        if ids is not None:
            return [self.family.task(task_id) for task_id in ids]
        chosen: dict[str, Task] = {}
        for split in self.family.splits():
            for k in range(_SAMPLES):
                task = self.family.sample(split.name, self.seed + k)
                chosen.setdefault(task.id, task)
        return list(chosen.values())

    def check_family(self) -> None:
        name = self.family.spec.name
        for check in (self._readiness, self._splits, self._unknown_names):
            self._run(check.__name__.strip("_"), name, check)
        for split in self.family.splits():
            self._run("pages", f"{name} {split.name}", partial(self._pages, split.name, split.size))
            self._run("sampling", f"{name} {split.name}", partial(self._sampling, split.name))

    def check_task(self, task: Task) -> None:
        for check in (
            self._public,
            self._expert_solves,
            self._nothing_scores_nothing,
            self._bad_shapes,
            self._forks,
            self._experts,
            self._closing,
        ):
            self._run(check.__name__.strip("_"), task.id, partial(check, task))

    def _run(self, name: str, subject: str, check: Callable[[], None]) -> None:
        self.report.checks[name] = self.report.checks.get(name, 0) + 1
        try:
            check()
        except _Violation as violation:
            self.report.findings.append(Finding(name, subject, str(violation)))

    # The family

    def _readiness(self) -> None:
        ready = self.family.ready()
        _require(isinstance(ready, Readiness), "ready() gives no Readiness")
        _require(ready.ready, f"not ready: {ready.detail}")

    def _splits(self) -> None:
        splits = self.family.splits()
        _require(len(splits) > 0, "there is no split")
        _require(len({s.name for s in splits}) == len(splits), "two splits have the same name")
        for split in splits:
            _require(split.env == self.family.spec.name, f"split {split.name} names the environment {split.env!r}")
            _require(isinstance(split.role, SplitRole), f"split {split.name} has no role")
            _require(split.size is None or split.size > 0, f"split {split.name} has the size {split.size}")

    def _unknown_names(self) -> None:
        for error, call in (
            (UnknownSplit, lambda: self.family.tasks("no_such_split")),
            (UnknownSplit, lambda: self.family.sample("no_such_split", 0)),
            (UnknownTask, lambda: self.family.task("no_such_split/no_such_task")),
        ):
            _require_raises(error, call, "an unknown name")

    def _pages(self, split: str, size: int | None) -> None:
        whole = self.family.tasks(split, limit=2 * _PAGE)
        parts = [self.family.tasks(split, offset=o, limit=_PAGE) for o in (0, _PAGE)]
        _require(whole.total == size, f"a page says {whole.total} tasks and the split {size}")
        joined = [task for part in parts for task in part.tasks]
        _require([t.id for t in joined] == [t.id for t in whole.tasks], "two pages do not join to the whole")
        _require(len({t.id for t in joined}) == len(joined), "an id comes twice")
        if size is not None:
            _require(len(whole.tasks) == min(size, 2 * _PAGE), "a page is shorter than the split")
            _require(not self.family.tasks(split, offset=size, limit=1).tasks, "there is a task behind the last")
        for task in whole.tasks:
            _require(task == self.family.task(task.id), f"{task.id} is another task when asked for by id")
            _require(task.split == split, f"{task.id} says split {task.split!r}")
            _require(task.id.startswith(f"{split}/"), f"{task.id} does not begin with its split")
            _require(task.type in self.family.spec.task_types, f"{task.id} has the unknown type {task.type!r}")
            _require(re.fullmatch("[0-9a-f]{64}", task.content_hash) is not None, f"{task.id} has no SHA-256")

    def _sampling(self, split: str) -> None:
        for k in range(_SAMPLES):
            once, again = (self.family.sample(split, self.seed + k) for _ in range(2))
            _require(once == again, f"seed {self.seed + k} gives {once.id} and then {again.id}")
            typed = self.family.sample(split, self.seed + k, type=once.type)
            _require(typed.type == once.type, f"asked for {once.type}, got {typed.type}")

    # One task

    def _public(self, task: Task) -> None:
        body = task_to_json(task)
        names = [name for name in _names(body["metadata"]) if _GOLD_NAMES.search(name)]
        _require(not names, f"its metadata has {', '.join(names)}: that looks like a gold answer")
        _require(json.loads(dumps(body))["id"] == task.id, "it is no JSON")

    def _expert_solves(self, task: Task) -> None:
        """The expert's episode, checked step by step and then played again from its actions."""
        limit = self.family.spec.max_steps
        actions: list[Action] = []
        with self._episode(task) as (env, first):
            trace: list[Observation | StepResult] = [first]
            result: StepResult | None = None
            while result is None or not result.done:
                action = env.expert_action()
                if action is None:
                    return  # no expert for this task: nothing to hold it to
                _require(len(actions) < limit, f"{limit} steps and the episode goes on")
                result = _checked(env.step(action))
                actions.append(action)
                trace.append(result)
            self.report.played += 1
            self.report.solved += result.reward == 1.0
            _require_raises(EpisodeOver, partial(env.step, actions[-1]), "a step after the end")
            _require(env.expert_action() is None, "the expert wants to go on after the end")
        _require(result.terminated and result.reward == 1.0, f"the expert's episode ends with reward {result.reward}")
        _require(all(r.reward == 0.0 for r in trace[1:-1] if isinstance(r, StepResult)), "a reward before the end")
        again = self._replay(task, actions)
        for k, (old, new) in enumerate(zip(trace, again, strict=True)):
            _require(
                _essence(old) == _essence(new),
                f"the same actions give another {'observation' if k == 0 else f'step {k}'} again",
            )

    def _nothing_scores_nothing(self, task: Task) -> None:
        limit = self.family.spec.max_steps
        with self._episode(task) as (env, _):
            for _ in range(limit):
                result = _checked(env.step(self.idle))
                if result.done:
                    break
            _require(result.done, f"{limit} idle steps and the episode goes on")
            _require(result.reward == 0.0, f"doing nothing scores {result.reward}")
            _require(result.truncated != result.terminated, "it neither terminated nor was it truncated")

    def _bad_shapes(self, task: Task) -> None:
        """Bad shapes are refused and leave no trace: the next step is as if they had not been."""
        with self._episode(task) as (env, _):
            action = env.expert_action() or self.idle
            for what, bad in self._bad_actions():
                _require_raises(InvalidAction, partial(env.step, bad), what)
            result = env.step(action)
        clean = self._replay(task, [action])[-1]
        _require(_essence(result) == _essence(clean), "a refused action changed the step after it")
        unknown = {"no_such_option": 1}
        env = self.family.make()
        try:
            _require_raises(
                InvalidOption, lambda: env.reset(task, seed=self.seed, options=unknown), "an unknown option"
            )
        finally:
            env.close()

    def _forks(self, task: Task) -> None:
        """A copy is its original's equal, and neither notices what the other does, nor that it is closed."""
        with self._episode(task) as (env, _):
            begun = env.expert_action() or self.idle
            if not isinstance(env, Forkable) or env.step(begun).done or (fork := env.fork()) is None:
                return
            try:
                action = env.expert_action() or self.idle
                result = fork.step(action)
                clean = _essence(self._replay(task, [begun, action])[-1])
                _require(_essence(result) == clean, "a fork does not go on as its original")
                _require(_essence(env.step(action)) == clean, "a step of a fork changed its original")
                env.close()
                for _ in range(self.family.spec.max_steps):
                    if result.done:
                        break
                    result = fork.step(self.idle)
                _require(isinstance(fork, Forkable), "a fork cannot be forked")
                if isinstance(fork, Forkable):
                    _require_raises(EpisodeOver, fork.fork, "a fork after the end")
            finally:
                fork.close()

    def _experts(self, task: Task) -> None:
        with self._episode(task) as (env, _):
            if not isinstance(env, HasExperts):
                return
            names = tuple(env.experts)
            _require(len(set(names)) == len(names) > 0, f"its experts are {names}")
            _require(env.expert_action(names[0]) == env.expert_action(), "the first expert is not the default")
            asked = [env.expert_action(name) for name in names]
            _require_raises(InvalidOption, lambda: env.expert_action("no_such_expert"), "an unknown expert")
        for action in asked:
            if action is not None:
                self._replay(task, [action])

    def _bad_actions(self) -> Iterator[tuple[str, Action]]:
        yield "a tool that does not exist", replace(self.idle, name="no_such_tool")
        yield "an empty tool name", replace(self.idle, name="")
        for tool in self.family.spec.tools:
            for name in tool.parameters.get("required", ()):
                yield f"{tool.name} with {name} as a nested object", Action(tool.name, {name: {"a": [1]}})
            if tool.parameters.get("required"):
                yield f"{tool.name} without arguments", Action(tool.name, {})

    def _closing(self, task: Task) -> None:
        env = self.family.make()
        env.close()
        with self._episode(task) as (env, _):
            env.close()
            env.close()

    @contextmanager
    def _episode(self, task: Task) -> Iterator[tuple[Environment, Observation]]:
        env = self.family.make()
        try:
            _require(isinstance(env, Environment), "make() gives no Environment")
            observation = env.reset(task, seed=self.seed)
            _require(isinstance(observation, Observation), "reset() gives no Observation")
            yield env, observation
        finally:
            env.close()

    def _replay(self, task: Task, actions: Sequence[Action]) -> list[Observation | StepResult]:
        with self._episode(task) as (env, first):
            return [first, *(env.step(action) for action in actions)]


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise _Violation(message)


def _require_raises(expected: type[EnvloopError], call: Callable[[], object], what: str) -> None:
    try:
        call()
    except expected:
        return
    except EnvloopError as error:
        raise _Violation(f"{what} raises {type(error).__name__}, not {expected.__name__}") from error
    raise _Violation(f"{what} raises no {expected.__name__}")


def _essence(result: Observation | StepResult) -> Observation | StepResult:
    """All but ``info``, which may hold measurements (seconds)."""
    return result if isinstance(result, Observation) else replace(result, info={})


def _checked(result: StepResult) -> StepResult:
    _require(isinstance(result, StepResult), "step() gives no StepResult")
    _require(isinstance(result.reward, float), f"the reward {result.reward!r} is no float")
    _require(0.0 <= result.reward <= 1.0, f"the reward {result.reward} is outside 0 … 1")
    _require(not (result.terminated and result.truncated), "a step both terminates and truncates")
    return result


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield str(name)
            yield from _names(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _names(inner)


def _idle_action(family: EnvFamily) -> Action:
    tool = family.spec.tools[0]
    empty: dict[str, Any] = {"string": "", "integer": -1, "number": -1.0, "array": [], "boolean": False, "object": {}}
    properties = tool.parameters.get("properties", {})
    required = tool.parameters.get("required", ())
    return Action(tool.name, {name: empty.get(properties.get(name, {}).get("type"), "") for name in required})
