"""The gold statements run in process, on SQLite in memory, so that a task needs no server."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from decimal import ROUND_HALF_UP, Decimal

from envs.dbbench.generator_query import AVERAGE_PLACES, Difference, Query, Ref
from envs.dbbench.generator_scene import Field, Scene, SceneTable

__all__ = ["rows_after", "rows_found"]


def rows_found(scene: Scene, query: Query | Difference, statement: str) -> list[tuple[str | None, ...]]:
    """What the statement, in SQLite's dialect, finds, as canonical text. Raises sqlite3.Error."""
    with _database(scene) as database:
        found = database.execute(statement).fetchall()
    if isinstance(query, Difference):
        term = query.first.select[0]
        assert isinstance(term, Ref)
        places = [scene.tables[term.table].fields[term.column].places]
    else:
        places = [_places(scene, query, i) for i in range(len(query.select))]
    return [tuple(_canonical(value, place) for value, place in zip(row, places, strict=True)) for row in found]


def rows_after(scene: Scene, statements: Sequence[str]) -> list[list[tuple[str | None, ...]]]:
    """Each table's rows after the statements, as canonical text. Raises sqlite3.Error."""
    with _database(scene) as database:
        for statement in statements:
            database.execute(statement)
        return [
            [
                tuple(_stored(field, value) for field, value in zip(table.fields, row, strict=True))
                for row in database.execute(f"SELECT * FROM {_quote(table.table.name)}")  # noqa: S608 - our own name
            ]
            for table in scene.tables
        ]


def _places(scene: Scene, query: Query, position: int) -> int:
    term = query.select[position]
    ref = term if isinstance(term, Ref) else term.ref
    if not isinstance(term, Ref):
        if term.function == "AVG":
            return AVERAGE_PLACES
        if term.function == "COUNT" or ref is None:
            return 0
    assert ref is not None
    return scene.tables[ref.table].fields[ref.column].places


def _stored(field: Field, value: object) -> str | None:
    return str(value) if field.text and isinstance(value, str) else _canonical(value, field.places)


def _canonical(value: object, places: int) -> str | None:
    """A number with its column's decimals, whatever SQLite made of it; text as it is."""
    if isinstance(value, (int, float)):
        # repr is the shortest decimal that reads back: 0.1 + 0.2 is off by less than any rounding here.
        return f"{Decimal(repr(value)).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP):f}"
    return None if value is None else str(value)


@contextlib.contextmanager
def _database(scene: Scene) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        database.create_function("YEAR", 1, _year, deterministic=True)
        database.execute("PRAGMA foreign_keys = ON")
        for table in scene.tables:
            database.execute(_create(table))
            marks = ",".join("?" * len(table.fields))
            database.execute("BEGIN")
            database.executemany(f"INSERT INTO {_quote(table.table.name)} VALUES ({marks})", table.table.rows)  # noqa: S608
            database.execute("COMMIT")
        yield database


def _create(table: SceneTable) -> str:
    parts = [f"{_quote(field.name)} {_affinity(field)}" for field in table.fields]
    if table.table.primary_key:
        parts[0] += " PRIMARY KEY"
    parts += [
        f"FOREIGN KEY ({_quote(key.columns[0])}) REFERENCES {_quote(key.table)} ({_quote(key.references[0])})"
        for key in table.table.foreign_keys
    ]
    return f"CREATE TABLE {_quote(table.table.name)} ({', '.join(parts)})"


def _affinity(field: Field) -> str:
    if field.numeric and not field.text:
        return "REAL" if field.places else "INTEGER"
    return "TEXT COLLATE NOCASE"  # as servers compare text, as far as ASCII goes


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _year(date: str | None) -> int | None:
    return None if date is None else int(date[:4])
