"""On which tasks two backends differ: the same statements and the gold on both, what they print and what it scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from envs.dbbench.backend import Backend, Limits
from envs.dbbench.env import DbBenchEnv
from envs.dbbench.tables import quote
from envs.dbbench.tasks import DbTask
from envs.types import Action

__all__ = ["StatementDifference", "TaskComparison", "compare_backends", "typical_statements"]

_ROWS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class StatementDifference:
    """A statement that two backends answer differently: what each printed, and whether it was valid there."""

    statement: str
    texts: tuple[str, str]
    valid: tuple[bool, bool]


@dataclass(frozen=True, slots=True)
class TaskComparison:
    """One task on two backends. ``rewards`` are those of the gold; ``statements`` counts what was run on both."""

    task_id: str
    rewards: tuple[float, float]
    statements: int
    differences: tuple[StatementDifference, ...]

    @property
    def same_reward(self) -> bool:
        """Whether the gold scores the same on both."""
        return self.rewards[0] == self.rewards[1]

    @property
    def same_texts(self) -> bool:
        """Whether both printed the same for every statement."""
        return not self.differences


def typical_statements(task: DbTask) -> list[str]:
    """What a policy is likely to ask first, then the gold's statements."""
    found = ["SHOW TABLES"]
    for table in task.tables:
        name = quote(table.name)
        found += [
            f"DESCRIBE {name}",
            f"SHOW COLUMNS FROM {name}",
            f"SELECT COUNT(*) FROM {name}",  # noqa: S608 - a task's own name, quoted
            f"SELECT * FROM {name} LIMIT {_ROWS_SHOWN}",  # noqa: S608
            f"SELECT * FROM {name}",  # noqa: S608
        ]
    return [*found, *task.gold_sql]


def compare_backends(
    tasks: Iterable[DbTask], one: Backend, two: Backend, limits: Limits | None = None
) -> Iterator[TaskComparison]:
    """Each task on both backends, in order. Raises what the backends raise.

    The statements run in one episode and the gold in another, so that what the first wrote does not judge the second.
    """
    used = limits or Limits()
    for task in tasks:
        statements = typical_statements(task)
        printed = [_printed(task, backend, used, statements) for backend in (one, two)]
        rewards = (_reward(task, one, used), _reward(task, two, used))
        differences = tuple(
            StatementDifference(statement, (first[0], second[0]), (first[1], second[1]))
            for statement, first, second in zip(statements, *printed, strict=True)
            if first != second
        )
        yield TaskComparison(task.public.id, rewards, len(statements), differences)


def _printed(task: DbTask, backend: Backend, limits: Limits, statements: list[str]) -> list[tuple[str, bool]]:
    session = backend.begin(limits)
    try:
        session.load(task.tables)
        results = [session.execute(statement) for statement in statements]
        return [(result.text, result.valid) for result in results]
    finally:
        session.close()


def _reward(task: DbTask, backend: Backend, limits: Limits) -> float:
    env = DbBenchEnv(backend, lambda _: task, limits)
    try:
        env.reset(task.public)
        while True:
            action = env.expert_action()
            result = env.step(action if action is not None else Action("commit_final_answer", {"answers": []}))
            if result.done:
                return result.reward
    finally:
        env.close()
