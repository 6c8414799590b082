"""What a question asks, before any SQL: a small query, and its answer computed in Python from the rows.

The answer that SQL finds is held against this one; other readings of the same words are queries, too.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import Literal

from envs.dbbench.generator_scene import Join, Scene, Value, iso_date

__all__ = [
    "Agg", "Condition", "Difference", "Having", "Op", "Query", "Ref", "Term", "conditions_of", "entries", "evaluate",
    "fold", "matches", "print_number", "rank_keys", "select_rows", "term_value",
]  # fmt: skip

type Op = Literal[
    "=", "<>", ">", ">=", "<", "<=", "between", "within", "in", "contains", "folded", "year", "null", "not null"
]
type Term = Ref | Agg

AVERAGE_PLACES = 4


@dataclass(frozen=True, slots=True)
class Ref:
    """A column of a table, by their positions in the scene."""

    table: int
    column: int


@dataclass(frozen=True, slots=True)
class Agg:
    """``COUNT``, ``SUM``, ``MIN``, ``MAX`` or ``AVG``; without ``ref`` it counts rows. ``zero``: NULL reads as 0, which
    only other readings do; ``lexical``: as text, likewise.
    """

    function: str
    ref: Ref | None = None
    distinct: bool = False
    zero: bool = False
    lexical: bool = False


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that holds of a row. ``value`` is text as it stands in SQL, several for ``in`` and ``between``, or a
    query of one value. ``named``: the question names the column. ``strict``: that a row is not beyond itself goes
    without saying.

    ``within`` is between without the ends, ``folded`` equality without case and accents.
    """

    ref: Ref
    op: Op
    value: str | tuple[str, ...] | Query = ""
    named: bool = True
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Having:
    """Groups for which this holds."""

    agg: Agg
    op: Op
    value: str


@dataclass(frozen=True, slots=True)
class Query:
    """A question of one statement. Tables are joined inwards, each once."""

    base: int
    select: tuple[Term, ...]
    joins: tuple[Join, ...] = ()
    where: tuple[Condition, ...] = ()
    group: Ref | None = None
    having: Having | None = None
    order: Term | None = None
    descending: bool = False
    limit: int | None = None
    offset: int = 0
    distinct: bool = False
    lexical: bool = False  # ordered as text: another reading only


@dataclass(frozen=True, slots=True)
class Difference:
    """How far the one values of two queries are apart."""

    first: Query
    second: Query


def evaluate(scene: Scene, query: Query | Difference) -> list[tuple[str | None, ...]]:
    """The rows of the answer, as canonical text: exact decimals, averages rounded to four places."""
    if isinstance(query, Difference):
        one, two = (_scalar(scene, part) for part in (query.first, query.second))
        if not isinstance(one, Decimal) or not isinstance(two, Decimal):
            return [(None,)]
        return [(f"{abs(one - two):f}",)]
    found = [tuple(_text(scene, entry, term) for term in query.select) for entry in entries(scene, query)]
    return list(dict.fromkeys(found)) if query.distinct else found


def entries(scene: Scene, query: Query) -> list[list[dict[int, int]]]:
    """What each row of the answer is made of: joined rows, as the position of a row by table."""
    whole = _all_entries(scene, query)
    end = len(whole) if query.limit is None else query.offset + query.limit
    return whole[query.offset : end]


def rank_keys(scene: Scene, query: Query) -> list[Value]:
    """What the answer is ordered by, before it is cut."""
    assert query.order is not None
    return [_ranked(scene, entry, query.order, query.lexical) for entry in _all_entries(scene, query)]


def _all_entries(scene: Scene, query: Query) -> list[list[dict[int, int]]]:
    rows = list(select_rows(scene, query))
    found: list[list[dict[int, int]]]
    if query.group is not None:
        groups: dict[Value, list[dict[int, int]]] = {}
        for row in rows:
            groups.setdefault(_cell(scene, row, query.group), []).append(row)
        found = list(groups.values())
        having = query.having
        if having is not None:
            bound = Decimal(having.value)
            found = [entry for entry in found if _compare(having.op, term_value(scene, entry, having.agg), bound)]
    elif any(isinstance(term, Agg) for term in query.select):
        found = [rows]
    else:
        found = [[row] for row in rows]
    order = query.order
    if order is not None:
        # None and numbers do not compare; MySQL puts NULL first.
        found.sort(key=lambda entry: _sort_key(_ranked(scene, entry, order, query.lexical)), reverse=query.descending)
    return found


def _sort_key(value: Value) -> tuple[bool, Decimal | str]:
    return (value is not None, value if value is not None else "")


def _ranked(scene: Scene, entry: list[dict[int, int]], order: Term, lexical: bool) -> Value:
    return _text(scene, entry, order) if lexical else term_value(scene, entry, order)


def select_rows(scene: Scene, query: Query) -> Iterator[dict[int, int]]:
    """The joined rows for which all conditions hold."""
    rows: list[dict[int, int]] = [{query.base: i} for i in range(len(scene.tables[query.base].values))]
    for join in query.joins:
        rows = _joined(scene, rows, join)
    tests = [(condition.ref, _test(scene, condition)) for condition in query.where]
    for row in rows:
        if all(test(_cell(scene, row, ref)) for ref, test in tests):
            yield row


def _joined(scene: Scene, rows: list[dict[int, int]], join: Join) -> list[dict[int, int]]:
    if not rows:
        return rows
    up = join.child in rows[0]
    here, there = (join.child, join.parent) if up else (join.parent, join.child)
    mine, other = (join.column, 0) if up else (0, join.column)
    places: dict[Value, list[int]] = {}
    for i, values in enumerate(scene.tables[there].values):
        places.setdefault(values[other], []).append(i)
    values_here = scene.tables[here].values
    return [row | {there: i} for row in rows for i in places.get(values_here[row[here]][mine], ())]


def _test(scene: Scene, condition: Condition) -> Callable[[Value], bool]:
    field = scene.tables[condition.ref.table].fields[condition.ref.column]
    op, value = condition.op, condition.value
    if isinstance(value, Query):
        wanted = _scalar(scene, value)
        return lambda cell: _compare(op, cell, wanted)

    def read(text: str) -> Value:
        return Decimal(text) if field.numeric else iso_date(text) if field.long else text

    if isinstance(value, tuple):
        several = [read(text) for text in value]
        if op == "in":
            return lambda cell: cell in several
        low, high = several
        least: Op = ">=" if op == "between" else ">"
        most: Op = "<=" if op == "between" else "<"
        return lambda cell: _compare(least, cell, low) and _compare(most, cell, high)
    match op:
        case "null":
            return lambda cell: cell is None
        case "not null":
            return lambda cell: cell is not None
        case "contains":
            return lambda cell: isinstance(cell, str) and fold(value) in fold(cell)
        case "folded":
            return lambda cell: isinstance(cell, str) and fold(value) == fold(cell)
        case "year":
            return lambda cell: isinstance(cell, str) and cell.startswith(f"{value}-")
    bound = read(value)
    return lambda cell: _compare(op, cell, bound)


def _compare(op: Op, cell: Value, bound: Value) -> bool:
    """With NULL on either side nothing holds, as in SQL."""
    if cell is None or bound is None:
        return False
    if op == "=":
        return cell == bound
    if op == "<>":
        return cell != bound
    if isinstance(cell, str) or isinstance(bound, str):
        one, two = str(cell), str(bound)
        return one > two if op == ">" else one >= two if op == ">=" else one < two if op == "<" else one <= two
    return cell > bound if op == ">" else cell >= bound if op == ">=" else cell < bound if op == "<" else cell <= bound


def matches(scene: Scene, table: int, where: Sequence[Condition]) -> list[int]:
    """The rows of a table for which the conditions hold."""
    return [row[table] for row in select_rows(scene, Query(table, (), where=tuple(where)))]


def _cell(scene: Scene, row: dict[int, int], ref: Ref) -> Value:
    return scene.tables[ref.table].values[row[ref.table]][ref.column]


def _scalar(scene: Scene, query: Query) -> Value:
    found = entries(scene, query)
    return term_value(scene, found[0], query.select[0]) if found else None


def term_value(scene: Scene, entry: list[dict[int, int]], term: Term) -> Value:
    """The value of a column or an aggregate over the joined rows."""
    if isinstance(term, Ref):
        return _cell(scene, entry[0], term) if entry else None
    if term.ref is None:
        return Decimal(len(entry))
    values = [_cell(scene, row, term.ref) for row in entry]
    if term.lexical:
        values = [None if value is None else str(value) for value in values]
    present: list[Value] = [value for value in values if value is not None]
    if term.zero:
        present = [Decimal() if value is None else value for value in values]
    if term.distinct:
        present = list(dict.fromkeys(present))
    if term.function == "COUNT":
        return Decimal(len(present))
    if not present:
        return None
    if term.function in ("MIN", "MAX"):
        key: Callable[[Value], tuple[bool, Decimal | str]] = _sort_key
        return min(present, key=key) if term.function == "MIN" else max(present, key=key)
    total = sum((value for value in present if isinstance(value, Decimal)), Decimal())
    return total if term.function == "SUM" else total / len(present)


def _text(scene: Scene, entry: list[dict[int, int]], term: Term) -> str | None:
    if isinstance(term, Ref):
        return scene.tables[term.table].table.rows[entry[0][term.table]][term.column] if entry else None
    value = term_value(scene, entry, term)
    return print_number(scene, term, value) if isinstance(value, Decimal) else value


def print_number(scene: Scene, term: Agg, value: Decimal) -> str:
    """An aggregate's number as text: a count without decimals, an average with four, others as the column has."""
    places = 0
    if term.function == "AVG":
        places = AVERAGE_PLACES
    elif term.function != "COUNT" and term.ref is not None:
        places = scene.tables[term.ref.table].fields[term.ref.column].places
    return f"{value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP):f}"


def conditions_of(query: Query | Difference) -> list[Condition]:
    """All conditions, those of queries within included."""
    if isinstance(query, Difference):
        return conditions_of(query.first) + conditions_of(query.second)
    found = list(query.where)
    for condition in query.where:
        if isinstance(condition.value, Query):
            found += conditions_of(condition.value)
    return found


@lru_cache(maxsize=4096)
def fold(text: str) -> str:
    """As servers compare text: without case, accents and blanks at the end."""
    bare = unicodedata.normalize("NFKD", text.casefold())
    return "".join(char for char in bare if not unicodedata.combining(char)).rstrip()
