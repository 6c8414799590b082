"""Whether a task file's gold reproduces: statements are run on a server, answers are put to their own scorer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from envs.dbbench.backend import Backend, EpisodeSession, Limits, StatementFailed
from envs.dbbench.gold import answer_texts, parallel, table_hash
from envs.dbbench.scoring import Rules, answer_matches, hash_matches
from envs.dbbench.task_standard import is_standard
from envs.dbbench.tasks import DbTask
from envs.errors import TaskDataError

__all__ = ["KNOWN_STANDARD_MISSES", "GoldMiss", "GoldReport", "check_gold"]

# AgentBench's own label does not make the table that its own hash describes; seen on MySQL 9.7 and MariaDB 10.11.
KNOWN_STANDARD_MISSES = frozenset({225})


@dataclass(frozen=True, slots=True)
class GoldMiss:
    """A task whose gold does not reproduce, and why. ``known``: AgentBench's own mistake."""

    task: str
    type: str
    reason: str
    known: bool


@dataclass(frozen=True, slots=True)
class GoldReport:
    """What a check has found. ``types``: of each task type, how many reproduce and how many there are.

    ``unchecked`` are questions of the file's own label, which no statement confirms: their tables load and their answer
    passes its own scorer. ``untouched`` are changes whose tables have the gold hash before anything is done.
    """

    server: str
    rules: Rules
    types: dict[str, tuple[int, int]]
    misses: tuple[GoldMiss, ...]
    unchecked: int
    untouched: int

    @property
    def num_tasks(self) -> int:
        """How many tasks were checked."""
        return sum(total for _, total in self.types.values())

    @property
    def ok(self) -> bool:
        """Whether all reproduce but those that are known not to."""
        return all(miss.known for miss in self.misses)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON has it, with ``ok`` and ``tasks``."""
        return {**asdict(self), "tasks": self.num_tasks, "ok": self.ok}


@dataclass(frozen=True, slots=True)
class _Finding:
    reason: str = ""
    unchecked: bool = False
    untouched: bool = False


def check_gold(
    tasks: Sequence[DbTask],
    backend: Backend,
    *,
    rules: Rules = "fc",
    jobs: int = 8,
    limits: Limits | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> GoldReport:
    """Run the gold of every task on ``backend``, ``jobs`` at once. Gold that a file lacks must be found, no more.

    Raises InfrastructureError where the database, not a task, failed.
    """
    standard = is_standard(tasks)
    limits = limits or Limits()
    good: Counter[str] = Counter()
    misses: list[GoldMiss] = []
    unchecked = untouched = 0
    for done, finding in enumerate(parallel(tasks, lambda task: _check(task, backend, rules, limits), jobs), start=1):
        task = tasks[done - 1]
        unchecked += finding.unchecked
        untouched += finding.untouched
        if finding.reason:
            known = standard and task.index in KNOWN_STANDARD_MISSES and not finding.untouched
            misses.append(GoldMiss(task.public.id, task.type, finding.reason, known))
        else:
            good[task.type] += 1
        if progress is not None:
            progress(done, len(tasks))
    totals = Counter(task.type for task in tasks)
    types = {kind: (good[kind], total) for kind, total in sorted(totals.items())}
    return GoldReport(backend.version(), rules, types, tuple(misses), unchecked, untouched)


def _check(task: DbTask, backend: Backend, rules: Rules, limits: Limits) -> _Finding:
    session = backend.begin(limits)
    try:
        session.load(task.tables)
        return _check_change(task, session) if task.mutates else _check_answer(task, session, rules)
    except (TaskDataError, StatementFailed) as error:
        return _Finding(f"its tables: {error}")
    finally:
        session.close()


def _check_change(task: DbTask, session: EpisodeSession) -> _Finding:
    before = table_hash(session, task.tables)
    if task.gold_hash and hash_matches(before, task.gold_hash):
        return _Finding("the untouched tables already have the gold hash", untouched=True)
    for statement in task.gold_sql:
        result = session.execute(statement)
        if not result.valid:
            return _Finding(f"the database refuses the gold statement: {result.text}")
    session.renew()
    after = table_hash(session, task.tables)
    if after == before:
        return _Finding("the gold statement changes nothing")
    if task.gold_hash and not hash_matches(after, task.gold_hash):
        return _Finding(f"the tables' hash is {after} after the gold statement, not {task.gold_hash}")
    return _Finding()


def _check_answer(task: DbTask, session: EpisodeSession, rules: Rules) -> _Finding:
    if task.gold_answers and not answer_matches(list(task.gold_answers), task.gold_answers, rules):
        return _Finding(f"the gold answer does not pass its own scorer ({rules})")
    if not task.gold_sql:
        return _Finding(unchecked=True)
    found: tuple[str, ...] = ()
    for statement in task.gold_sql:
        result = session.execute(statement)
        if not result.valid:
            return _Finding(f"the database refuses the gold statement: {result.text}")
        found = answer_texts(result.rows)
    if not found:
        return _Finding("the gold statement finds nothing")
    if task.gold_answers and not answer_matches(list(found), task.gold_answers, rules):
        return _Finding(f"the gold statement finds {_shown(found)}, not the label {_shown(task.gold_answers)}")
    return _Finding()


def _shown(answers: Sequence[str]) -> str:
    text = ", ".join(map(repr, answers))
    return text if len(text) <= 200 else text[:200] + "…"
