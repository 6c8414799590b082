"""Endless DB Bench tasks for training, so that AgentBench's own stay for evaluation.

A task is a pure function of (split, index): the same everywhere, on every machine and Python. The gold answer is
computed in Python from the rows; the gold statement is built beside it and finds the same on the server. Every 24 tasks
hold 8 INSERT, 8 UPDATE and one of each kind of question, the balance of AgentBench's standard split.
"""

# ruff: noqa: S608 - text for a task, from our own tables

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, lru_cache
from hashlib import sha256

from envs.dbbench.domains import DOMAINS, Category, Domain, Key, Number
from envs.dbbench.scoring import MUTATION_TYPES, TableHasher
from envs.dbbench.tables import Table, quote
from envs.dbbench.tasks import DbTask
from envs.registry import DBBENCH

__all__ = ["GENERATED_SPLITS", "MAX_INDEX", "generate", "index_of_type", "type_of_index"]

GENERATED_SPLITS = ("generated", "generated_eval")
MAX_INDEX = 2**48
_VERSION = 1  # part of the seed: another generator makes other tasks, under the same ids
_QUESTIONS = (
    "other", "counting", "comparison", "ranking",
    "aggregation-SUM", "aggregation-MIN", "aggregation-MAX", "aggregation-AVG",
)  # fmt: skip
_CYCLE = tuple(kind for question in _QUESTIONS for kind in ("INSERT", question, "UPDATE"))
_MIN_ROWS, _MAX_ROWS = 8, 40


def type_of_index(index: int) -> str:
    """The type of the task at ``index``."""
    return _CYCLE[index % len(_CYCLE)]


def index_of_type(type: str, position: int) -> int:
    """The index of the ``position``-th task of a type."""
    places = [i for i, kind in enumerate(_CYCLE) if kind == type]
    return position // len(places) * len(_CYCLE) + places[position % len(places)]


class _Draw:
    """Chance from ``random()`` alone, the one method whose sequence Python promises to keep."""

    def __init__(self, *key: object) -> None:
        seed = sha256(":".join(map(str, key)).encode()).digest()
        self._random = random.Random(int.from_bytes(seed[:8], "big")).random  # noqa: S311 - tasks, not secrets

    def below(self, count: int) -> int:
        return int(self._random() * count)

    def pick[T](self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]

    def some[T](self, items: Sequence[T], count: int) -> list[T]:
        left = list(items)
        return [left.pop(self.below(len(left))) for _ in range(min(count, len(left)))]


@dataclass(frozen=True, slots=True)
class _Scene:
    """A filled table, with what the intents need of it."""

    draw: _Draw
    domain: Domain
    table: Table

    def cell(self, row: tuple[str, ...], column: str) -> str:
        return row[self.table.columns.index(column)]

    def value(self, row: tuple[str, ...], column: Number) -> Decimal:
        return Decimal(self.cell(row, column.name))

    def key(self, row: tuple[str, ...]) -> str:
        return self.cell(row, self.domain.key.name)

    @property
    def numbers(self) -> list[Number]:
        return [column for column in self.domain.columns if isinstance(column, Number)]

    @property
    def categories(self) -> list[Category]:
        return [column for column in self.domain.columns if isinstance(column, Category)]

    @property
    def sql_key(self) -> str:
        return quote(self.domain.key.name)

    @property
    def sql_table(self) -> str:
        return quote(self.table.name)


@dataclass(frozen=True, slots=True)
class _Intent:
    question: str
    sql: str
    answers: tuple[str, ...] = ()
    rows: tuple[tuple[str | None, ...], ...] = ()  # after a change; None is NULL
    without: tuple[str, ...] | None = None  # a row that is not there at the start


@lru_cache(maxsize=512)
def generate(split: str, index: int) -> DbTask:
    """The task ``split/index``; any index from 0 on."""
    kind = type_of_index(index)
    attempt = 0
    while True:  # a table may lack what a question needs (no tie, a small group): draw another
        draw = _Draw(_VERSION, split, index, attempt)
        scene = _scene(draw)
        intent = _INTENTS[kind](scene, kind)
        if intent is not None:
            break
        attempt += 1
    table = scene.table
    rows = tuple(row for row in table.rows if row is not intent.without)
    return DbTask(
        env=DBBENCH.name,
        split=split,
        index=index,
        type=kind,
        tables=(Table(table.name, table.columns, rows),),
        description=intent.question,
        add_description=(
            f"The name of this table is {table.name}, and the headers of this table are {','.join(table.columns)}."
        ),
        gold_answers=intent.answers,
        gold_sql=(intent.sql,),
        gold_hash=_hash(intent.rows) if kind in MUTATION_TYPES else "",
    )


def _hash(rows: Sequence[Sequence[str | None]]) -> str:
    hasher = TableHasher()
    for row in rows:
        hasher.add(",".join(value for value in row if value is not None))
    return hasher.digest()


def _scene(draw: _Draw) -> _Scene:
    domain = draw.pick(DOMAINS)
    count = _MIN_ROWS + draw.below(_MAX_ROWS - _MIN_ROWS + 1)
    columns = draw.some(domain.columns, 3 + draw.below(len(domain.columns) - 2))
    # A number and a category at least: without them there is little to ask.
    for needed in (Number, Category):
        if not any(isinstance(column, needed) for column in columns):
            columns.append(next(column for column in domain.columns if isinstance(column, needed)))
    ordered = tuple(column for column in domain.columns if column in columns)
    few = {column.name: draw.some(column.values, 4) for column in ordered if isinstance(column, Category)}
    rows = tuple(
        (key, *(draw.pick(few[c.name]) if isinstance(c, Category) else _number(draw, c) for c in ordered))
        for key in draw.some(_keys(domain.key), count)
    )
    shown = Domain(domain.tables, domain.row, domain.rows, domain.key, ordered)
    return _Scene(draw, shown, Table(draw.pick(domain.tables), (domain.key.name, *(c.name for c in ordered)), rows))


@cache
def _keys(key: Key) -> tuple[str, ...]:
    return tuple(key.pattern.format(first, second) for first in key.first for second in key.second if first != second)


def _number(draw: _Draw, column: Number) -> str:
    scale = 10**column.places
    return (
        f"{Decimal(column.low * scale + draw.below((column.high - column.low) * scale + 1)).scaleb(-column.places):f}"
    )


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _cast(column: Number) -> str:
    name = quote(column.name)
    return f"CAST({name} AS DECIMAL(20,{column.places}))" if column.places else f"CAST({name} AS SIGNED)"


def _group(scene: _Scene, smallest: int = 2) -> tuple[str, str, list[tuple[str, ...]]] | None:
    """A filter by a category: its words, its WHERE clause and the rows."""
    column = scene.draw.pick(scene.categories)
    value = scene.draw.pick(sorted({scene.cell(row, column.name) for row in scene.table.rows}))
    rows = [row for row in scene.table.rows if scene.cell(row, column.name) == value]
    if len(rows) < smallest:
        return None
    return f"whose {column.name} is {value}", f" WHERE {quote(column.name)} = {_text(value)}", rows


def _lookup(scene: _Scene, kind: str) -> _Intent | None:
    draw, domain = scene.draw, scene.domain
    if draw.below(3):
        row, column = draw.pick(scene.table.rows), draw.pick(domain.columns)
        asked = draw.pick((
            f"What is the {column.name} of the {domain.row} {scene.key(row)}?",
            f"Find the {column.name} for {scene.key(row)}.",
            f"I need the {column.name} of {scene.key(row)}. What is it?",
        ))  # fmt: skip
        sql = f"SELECT {quote(column.name)} FROM {scene.sql_table} WHERE {scene.sql_key} = {_text(scene.key(row))}"
        return _Intent(asked, sql, (scene.cell(row, column.name),))
    group = _group(scene, 1)
    if group is None or len(group[2]) > 6:
        return None
    words, where, rows = group
    asked = draw.pick((f"Which {domain.rows} are there {words}?", f"Name every {domain.row} {words}."))
    return _Intent(asked, f"SELECT {scene.sql_key} FROM {scene.sql_table}{where}", tuple(map(scene.key, rows)))


def _count(scene: _Scene, kind: str) -> _Intent | None:
    draw, domain = scene.draw, scene.domain
    words, where, rows = _group(scene) or ("", "", list(scene.table.rows))
    if draw.below(2) or not words:
        number = draw.pick(scene.numbers)
        bound = scene.value(draw.pick(scene.table.rows), number)
        rows = [row for row in rows if scene.value(row, number) > bound]
        words = f"{words} and whose" if words else "whose"
        words = f"{words} {number.name} is greater than {bound}"
        where = f"{where} AND" if where else " WHERE"
        where = f"{where} {_cast(number)} > {bound}"
    asked = draw.pick((f"How many {domain.rows} are there {words}?", f"Count the {domain.rows} {words}."))
    return _Intent(asked, f"SELECT COUNT(*) FROM {scene.sql_table}{where}", (str(len(rows)),))


def _compare(scene: _Scene, kind: str) -> _Intent | None:
    draw, number = scene.draw, scene.draw.pick(scene.numbers)
    one, two = draw.some(scene.table.rows, 2)
    if draw.below(2):
        if scene.value(one, number) == scene.value(two, number):
            return None
        more = draw.below(2) == 1
        winner = max(one, two, key=lambda row: scene.value(row, number) * (1 if more else -1))
        pair = f"{scene.key(one)} or {scene.key(two)}"
        asked = f"Which {scene.domain.row} has the {'higher' if more else 'lower'} {number.name}, {pair}?"
        named = f"{_text(scene.key(one))}, {_text(scene.key(two))}"
        order = f"ORDER BY {_cast(number)} {'DESC' if more else 'ASC'} LIMIT 1"
        sql = f"SELECT {scene.sql_key} FROM {scene.sql_table} WHERE {scene.sql_key} IN ({named}) {order}"
        return _Intent(asked, sql, (scene.key(winner),))
    bound = scene.value(one, number)
    above = [scene.key(row) for row in scene.table.rows if scene.value(row, number) > bound]
    if not 1 <= len(above) <= 6:
        return None
    asked = f"Which {scene.domain.rows} have a higher {number.name} than {scene.key(one)}?"
    inner = f"SELECT {_cast(number)} FROM {scene.sql_table} WHERE {scene.sql_key} = {_text(scene.key(one))}"
    return _Intent(
        asked, f"SELECT {scene.sql_key} FROM {scene.sql_table} WHERE {_cast(number)} > ({inner})", tuple(above)
    )


def _rank(scene: _Scene, kind: str) -> _Intent | None:
    draw, number = scene.draw, scene.draw.pick(scene.numbers)
    values = [scene.value(row, number) for row in scene.table.rows]
    most = draw.below(2) == 1
    ranked = sorted(scene.table.rows, key=lambda row: scene.value(row, number), reverse=most)
    form, place = draw.below(3), draw.below(3)
    top = 1 if form == 0 else place + 1
    if any(values.count(scene.value(row, number)) > 1 for row in ranked[: top + 1]):  # a tie has no one answer
        return None
    order = f"ORDER BY {_cast(number)} {'DESC' if most else 'ASC'}"
    word = "highest" if most else "lowest"
    sql = f"SELECT {scene.sql_key} FROM {scene.sql_table} {order} LIMIT"
    if form < 2 and top == 1:
        asked = f"Which {scene.domain.row} has the {word} {number.name}?"
        return _Intent(asked, f"{sql} 1", (scene.key(ranked[0]),))
    if form == 1:
        asked = f"Which {scene.domain.row} has the {('', 'second', 'third')[place]} {word} {number.name}?"
        return _Intent(asked, f"{sql} 1 OFFSET {place}", (scene.key(ranked[place]),))
    asked = f"List the {top + 1} {scene.domain.rows} with the {word} {number.name}."
    if values.count(scene.value(ranked[top], number)) > 1 or values.count(scene.value(ranked[top + 1], number)) > 1:
        return None
    return _Intent(asked, f"{sql} {top + 1}", tuple(map(scene.key, ranked[: top + 1])))


def _aggregate(scene: _Scene, kind: str) -> _Intent | None:
    draw, function = scene.draw, kind.removeprefix("aggregation-")
    numbers = [number for number in scene.numbers if number.summable or function in ("MIN", "MAX")]
    if not numbers:
        return None
    number = draw.pick(numbers)
    words, where, rows = f"of all {scene.domain.rows}", "", list(scene.table.rows)
    if draw.below(2):
        group = _group(scene)
        if group is None:
            return None
        words, where, rows = f"of the {scene.domain.rows} {group[0]}", group[1], group[2]
    values = [scene.value(row, number) for row in rows]
    called = {"SUM": "total", "MIN": "minimum", "MAX": "maximum", "AVG": "average"}[function]
    result = {"SUM": sum(values, Decimal()), "MIN": min(values), "MAX": max(values)}.get(function)
    if result is None:
        result = (sum(values, Decimal()) / len(values)).quantize(Decimal("0.0001"))
    asked = draw.pick(
        (f"What is the {called} {number.name} {words}?", f"Calculate the {called} {number.name} {words}.")
    )
    return _Intent(asked, f"SELECT {function}({_cast(number)}) FROM {scene.sql_table}{where}", (f"{result:f}",))


def _insert(scene: _Scene, kind: str) -> _Intent | None:
    draw, table = scene.draw, scene.table
    *kept, new = table.rows
    named = list(range(len(new)))
    if draw.below(4) == 0 and len(named) > 2:  # some values are not known: NULL
        named.remove(1 + draw.below(len(new) - 1))
    pairs = ", ".join(f"{table.columns[i]} '{new[i]}'" for i in named)
    asked = draw.pick((
        f"Insert a new row into the {table.name} table with {pairs}.",
        f"Add a {scene.domain.row} to '{table.name}': {pairs}.",
        f"Please record another {scene.domain.row} in {table.name}, with {pairs}.",
    ))  # fmt: skip
    names = ", ".join(quote(table.columns[i]) for i in named)
    values = ", ".join(_text(new[i]) for i in named)
    sql = f"INSERT INTO {scene.sql_table} ({names}) VALUES ({values})"
    added = tuple(value if i in named else None for i, value in enumerate(new))
    return _Intent(asked, sql, rows=(*kept, added), without=new)


def _update(scene: _Scene, kind: str) -> _Intent | None:
    draw, table = scene.draw, scene.table
    column = draw.pick(scene.domain.columns)
    place = table.columns.index(column.name)
    wanted = draw.pick(column.values) if isinstance(column, Category) else _number(draw, column)
    if draw.below(3):
        key = scene.key(draw.pick(table.rows))
        words, where = f"of the {scene.domain.row} {key}", f" WHERE {scene.sql_key} = {_text(key)}"
        chosen = {row for row in table.rows if scene.key(row) == key}
    else:
        group = _group(scene, 1)
        if group is None:
            return None
        words, where, chosen = f"of every {scene.domain.row} {group[0]}", group[1], set(group[2])
    if all(row[place] == wanted for row in chosen):
        return None
    asked = draw.pick((
        f"Set the {column.name} {words} to '{wanted}' in the {table.name} table.",
        f"Change the {column.name} {words} to '{wanted}'.",
        f"Update {table.name} so that the {column.name} {words} is '{wanted}'.",
    ))  # fmt: skip
    rows = tuple((*row[:place], wanted, *row[place + 1 :]) if row in chosen else row for row in table.rows)
    return _Intent(asked, f"UPDATE {scene.sql_table} SET {quote(column.name)} = {_text(wanted)}{where}", rows=rows)


_INTENTS: dict[str, Callable[[_Scene, str], _Intent | None]] = {
    "other": _lookup,
    "counting": _count,
    "comparison": _compare,
    "ranking": _rank,
    **{f"aggregation-{function}": _aggregate for function in ("SUM", "MIN", "MAX", "AVG")},
    "INSERT": _insert,
    "UPDATE": _update,
}
