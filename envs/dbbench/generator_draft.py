"""What an intent makes: words, a query or changes, and how hard that is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from envs.dbbench.generator_change import Arithmetic, Change, Delete, Insert, Update
from envs.dbbench.generator_query import Agg, Condition, Difference, Query, conditions_of
from envs.dbbench.generator_scene import Scene

__all__ = ["Draft", "Level", "Reason", "Rejected", "difficulty_points", "level_of"]


class Level(StrEnum):
    """How hard a task is."""

    EASY = "easy"
    MEDIUM = "medium"
    HARD = "hard"


class Reason(StrEnum):
    """Why a draw is not taken."""

    NO_MATERIAL = "no material"  # the tables lack what the intent needs
    OTHER_DIFFICULTY = "other difficulty"
    NO_ANSWER = "no answer"
    TOO_MANY = "too many answers"
    DUPLICATES = "duplicates"  # whether to repeat a value is left open
    GARBLED = "garbled"  # the scoring rules would change the value
    TRIVIAL = "trivial"  # a guess without a query hits it
    TIE = "tie"
    EMPTY_GROUP = "groups without rows"  # whether the lowest of all may be one of them
    INCLUSIVE = "greater or at least"
    FOLDING = "case or accents"
    SUBSTRING = "substring"
    TEXT_ORDER = "text order"
    TWO_COLUMNS = "two columns"
    DISTINCT = "rows or distinct"
    NULLS = "nulls counted"
    JOIN_PATH = "join path"
    NO_CHANGE = "nothing changes"
    SECOND_READING = "second reading"  # SQL and Python disagree


class Rejected(Exception):
    """The draw is not taken."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Draft:
    """A task in the making: a question has a ``query``, a change has ``changes``.

    ``said``: what the words leave no doubt about: ``different``, ``null``, ``role``. ``extra``: what makes it harder
    that neither shows.
    """

    intent: str
    question: str
    query: Query | Difference | None = None
    changes: tuple[Change, ...] = ()
    evidence: str = ""
    said: frozenset[str] = frozenset()
    extra: int = 0


_WIDE = 8  # columns of a table among which a question has to find its own
_MEDIUM, _HARD = 2, 4


def difficulty_points(scene: Scene, draft: Draft) -> int:
    """How hard a task is, in points.

    One each: a condition or a joined table beyond the first, a join, HAVING, DISTINCT, a second value wanted or set, a
    second row, arithmetic, a table of eight or more columns, numbers written with commas, a hint that is needed. Two
    each: grouping, a query within the query, a further statement.
    """
    points = draft.extra + len(scene.tables) - 1
    points += any(len(table.fields) >= _WIDE for table in scene.tables)
    points += any(field.thousands for table in scene.tables for field in table.fields)
    if draft.query is not None:
        points += _query_points(draft.query)
    points += 2 * max(0, len(draft.changes) - 1)
    for change in draft.changes:
        points += _change_points(change)
    return points


def level_of(scene: Scene, draft: Draft) -> Level:
    """Hard from 4 points, medium from 2; typed tables are at least medium, whatever is asked of them."""
    points = difficulty_points(scene, draft)
    return Level.HARD if points >= _HARD else Level.MEDIUM if points >= _MEDIUM or not scene.flat else Level.EASY


def _query_points(query: Query | Difference) -> int:
    if isinstance(query, Difference):
        return 1 + max(_query_points(query.first), _query_points(query.second))
    points = len(query.joins) + 2 * (query.group is not None) + (query.having is not None) + query.distinct
    points += len(query.select) > 1
    points += query.limit is not None and query.limit + query.offset > 1
    points += any(isinstance(term, Agg) and term.distinct for term in query.select)
    asked = [condition for condition in conditions_of(query) if condition.op != "not null"]
    points += max(0, len(asked) - 1)
    points += 2 * sum(isinstance(condition.value, Query) for condition in asked)
    return points


def _change_points(change: Change) -> int:
    match change:
        case Insert(rows=rows):
            return (len(rows) > 1) + 2 * any(isinstance(value, Query) for row in rows for value in row)
        case Update(sets=sets, where=where):
            arithmetic = any(isinstance(value, Arithmetic) for _, value in sets)
            return (len(sets) > 1) + arithmetic + _where_points(where)
        case Delete(where=where):
            return _where_points(where)


def _where_points(where: tuple[Condition, ...]) -> int:
    return max(0, len(where) - 1) + 2 * sum(isinstance(condition.value, Query) for condition in where)
