"""Named shaping terms of a DB Bench episode, for training alone: two of them tell what only the gold knows.

They stand beside the benchmark's reward, never in it, and a term is a plain number without a weight:

- ``executable``: 1 for a statement that the database accepted, 0 for any other step. Its sum grows with the number of
  statements: weigh ``step_cost`` at least as much beside it, or take ``invalid_cost`` instead.
- ``right_table``: the share of the tables in the gold statements that an accepted SELECT, INSERT, UPDATE or DELETE
  named for the first time; without gold SQL, of all of the task's tables. The terms of an episode add up to 1 at most.
- ``overlap``, for questions: by how much a SELECT from the task's tables came nearer to the answer than any before.
  Nearness is the Jaccard index of the result's values and the gold answers, as sets of normalised values. The terms of
  an episode add up to 1 at most. It is 0 for changes: how near a table is to the wanted one is not known without it.
- ``step_cost``: -1 for every step.
- ``invalid_cost``: -1 for a statement that the database refused.

A statement that sqlglot cannot read, or above 5,000 characters, touches no table for these terms.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from envs.dbbench.backend import StatementResult
from envs.dbbench.scoring import normalised
from envs.dbbench.tasks import DbTask
from envs.errors import InvalidOption

if TYPE_CHECKING:
    from sqlglot import exp

__all__ = ["SHAPING_OPTIONS", "SHAPING_TERMS", "Shaper", "read_shaping_options", "trains"]

SHAPING_TERMS = ("executable", "right_table", "overlap", "step_cost", "invalid_cost")
SHAPING_OPTIONS = ("shaping", "shaping_gamma")
_READING = frozenset({"right_table", "overlap"})


def trains(split: str) -> bool:
    """Whether a split is for training, by its name; the family's own roles are the same."""
    return split.startswith(("train", "generated")) and not (split.startswith("generated") and split.endswith("_eval"))


def read_shaping_options(options: Mapping[str, Any]) -> tuple[str, ...]:
    """The option ``shaping`` (a list of terms; none by default). ``shaping_gamma`` is checked; no term here discounts.

    Raises InvalidOption.
    """
    terms = options.get("shaping", ())
    if not isinstance(terms, list | tuple) or not all(term in SHAPING_TERMS for term in terms):
        msg = f"shaping must be a list of terms, not {terms!r:.80}"
        raise InvalidOption(msg, hint=f"known: {', '.join(SHAPING_TERMS)}")
    if len(set(terms)) != len(terms):
        raise InvalidOption(f"shaping names a term twice: {', '.join(terms)}")
    gamma = options.get("shaping_gamma", 1.0)
    if isinstance(gamma, bool) or not isinstance(gamma, int | float) or not 0 < gamma <= 1:
        msg = f"shaping_gamma must be a number above 0, at most 1, not {gamma!r:.40}"
        raise InvalidOption(msg, hint="the discount that training uses; 1 where an episode's rewards are summed")
    return tuple(terms)


class Shaper:
    """The terms of one episode, step by step."""

    def __init__(self, task: DbTask, terms: Iterable[str]) -> None:
        self._terms = tuple(terms)
        self._tables = frozenset(table.name.casefold() for table in task.tables)
        self._touched: set[str] = set()
        self._nearest = 0.0
        self._wanted: frozenset[str] = frozenset()
        self._answer = frozenset() if task.mutates else _values(task.gold_answers)
        if "right_table" in self._terms:
            self._wanted = _gold_tables(task)

    def statement(self, query: str, result: StatementResult) -> dict[str, float]:
        """``{term: value}`` for a statement and what it gave."""
        named: frozenset[str] = frozenset()
        reads = False
        if result.valid and not _READING.isdisjoint(self._terms):
            tree = _parsed(query)
            if tree is not None:
                named = _names(tree) & self._tables
                reads = tree.key in {"select", "union"}
        values: dict[str, float] = {}
        for term in self._terms:
            match term:
                case "executable":
                    values[term] = float(result.valid)
                case "right_table":
                    values[term] = self._newly_touched(named)
                case "overlap":
                    values[term] = self._nearer(result) if named and reads else 0.0
                case "step_cost":
                    values[term] = -1.0
                case "invalid_cost":
                    values[term] = 0.0 if result.valid else -1.0
        return values

    def commit(self) -> dict[str, float]:
        """``{term: value}`` for the committed answer: what it is worth is the reward's affair."""
        return {term: -1.0 if term == "step_cost" else 0.0 for term in self._terms}

    def _newly_touched(self, named: frozenset[str]) -> float:
        new = (named & self._wanted) - self._touched
        self._touched |= new
        return len(new) / len(self._wanted) if self._wanted else 0.0

    def _nearer(self, result: StatementResult) -> float:
        if not self._answer:
            return 0.0
        found = _values(value for row in result.rows for value in row)
        near = len(found & self._answer) / len(found | self._answer)
        before, self._nearest = self._nearest, max(near, self._nearest)
        return self._nearest - before


def _values(items: Iterable[object]) -> frozenset[str]:
    """Normalised values; numbers to two places, so that 12, 12.0 and 12.001 are one."""
    return frozenset(map(_value, items))


def _value(item: object) -> str:
    text = normalised(item)
    try:
        return f"{round(float(text), 2) + 0.0:.2f}"  # no minus before a zero
    except ValueError:
        return text


def _gold_tables(task: DbTask) -> frozenset[str]:
    own = frozenset(table.name.casefold() for table in task.tables)
    trees = [_parsed(statement) for statement in task.gold_sql]
    found = frozenset(name for tree in trees if tree is not None for name in _names(tree)) & own
    return found or own


def _parsed(statement: str) -> exp.Expr | None:
    from envs.dbbench.parsing import parse  # here, so that episodes without these terms load no parser

    return parse(statement)


def _names(tree: exp.Expr) -> frozenset[str]:
    from envs.dbbench.parsing import tables_in

    return frozenset(name.casefold() for name in tables_in(tree))
