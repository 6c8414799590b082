"""Databases that questions are converted from: SQLite files, read only, and tables that lie in JSON."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote as quote_url

from envs.dbbench.tables import ForeignKey
from envs.dbbench.task_types import Value
from envs.errors import TaskDataError

__all__ = ["Database", "QueryRefused", "Question", "SourceTable", "read_sqlite", "tables_in_memory"]

_QUERY_S = 20.0
_STEPS = 10_000  # of SQLite's machine between two looks at the clock
_FOLDED = "folded"

type _Rows = list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Question:
    """A question of a data set. ``database`` names what it is about, ``sql`` is gold in SQLite's dialect."""

    source: str
    database: str
    text: str
    sql: str
    evidence: str = ""
    difficulty: str = ""


@dataclass(frozen=True, slots=True)
class SourceTable:
    """A table with declared types and keys, and its rows as SQLite has them."""

    name: str
    columns: tuple[str, ...]
    declared: tuple[str, ...]
    primary_key: tuple[str, ...]
    foreign_keys: tuple[ForeignKey, ...]
    rows: tuple[tuple[Value | bytes, ...], ...]


class QueryRefused(Exception):
    """SQLite refuses a query, or it takes too long."""


class Database:
    """A database to ask. Use it as a context manager; not shared between threads.

    ``extra_keys`` are foreign keys by table that the data set's own list names, for tables whose file has none.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        extra_keys: Mapping[str, Sequence[ForeignKey]] | None = None,
        folded: bool = False,
    ) -> None:
        self._connection = connection
        self._folded = folded
        self._extra_keys = extra_keys or {}
        self._tables: dict[str, SourceTable] = {}
        self._sizes: dict[str, int] = {}
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        connection.create_collation(_FOLDED, _compare_folded)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file. Idempotent."""
        self._connection.close()

    @cached_property
    def schema(self) -> Mapping[str, Mapping[str, str]]:
        """Declared types by table and column. Views are left out, and so are SQLite's own tables."""
        names = [
            name
            for (name,) in self.ask("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid")
            if not name.startswith("sqlite_")
        ]
        return {
            name: {column: kind for _, column, kind, *_ in self.ask(f"PRAGMA table_info({_quoted(name)})")}
            for name in names
        }

    def size(self, table: str) -> int:
        """How many rows a table has."""
        if table not in self._sizes:
            self._sizes[table] = int(self.ask(f"SELECT COUNT(*) FROM {_quoted(table)}")[0][0])  # noqa: S608
        return self._sizes[table]

    def table(self, name: str) -> SourceTable:
        """A table, whole. Raises QueryRefused."""
        if name not in self._tables:
            info = self.ask(f"PRAGMA table_info({_quoted(name)})")
            keyed = sorted((position, column) for _, column, _, _, _, position in info if position)
            columns = ", ".join(_quoted(column) for _, column, *_ in info)
            self._tables[name] = SourceTable(
                name=name,
                columns=tuple(column for _, column, *_ in info),
                declared=tuple(kind for _, _, kind, *_ in info),
                primary_key=tuple(column for _, column in keyed),
                foreign_keys=self._foreign_keys(name),
                rows=tuple(self.ask(f"SELECT {columns} FROM {_quoted(name)}")),  # noqa: S608
            )
        return self._tables[name]

    def _foreign_keys(self, name: str) -> tuple[ForeignKey, ...]:
        """Those of the file, spelled as the tables are; a key that names no columns means the primary key."""
        spelled = {table.casefold(): table for table in self.schema}
        found: dict[int, list[tuple[int, str, str, Any]]] = {}
        for number, position, table, here, there, *_ in self.ask(f"PRAGMA foreign_key_list({_quoted(name)})"):
            found.setdefault(number, []).append((position, str(spelled.get(table.casefold(), table)), here, there))
        keys = []
        for parts in found.values():
            parts.sort(key=lambda part: part[0])
            other = parts[0][1]
            if other not in self.schema:
                continue
            named = [part[3] for part in parts if part[3] is not None]
            there = named or self._primary_key(other)
            if len(there) == len(parts):
                here = (self._spelled(name, part[2]) for part in parts)
                keys.append(ForeignKey(tuple(here), other, tuple(self._spelled(other, column) for column in there)))
        return tuple(keys) or tuple(self._extra_keys.get(name, ()))

    def _primary_key(self, table: str) -> list[str]:
        info = self.ask(f"PRAGMA table_info({_quoted(table)})")
        return [column for _, column in sorted((position, name) for _, name, *_, position in info if position)]

    def _spelled(self, table: str, column: str) -> str:
        return next((name for name in self.schema[table] if name.casefold() == column.casefold()), column)

    def ask(self, query: str, *, most: int | None = None) -> _Rows:
        """The rows of a query, at most ``most``. Raises QueryRefused, also where it takes more than 20 s."""
        until = time.monotonic() + _QUERY_S
        self._connection.set_progress_handler(lambda: int(time.monotonic() > until), _STEPS)
        try:
            with contextlib.closing(self._connection.execute(query)) as cursor:
                return cursor.fetchall() if most is None else cursor.fetchmany(most)
        except (sqlite3.Error, sqlite3.Warning, OverflowError, UnicodeEncodeError) as error:
            raise QueryRefused(str(error)) from None
        finally:
            self._connection.set_progress_handler(None, 0)

    def reversed_copy(self, tables: Sequence[str]) -> Database:
        """The same rows of these tables in the opposite order, without keys and indexes: an answer that is another
        there depends on how the rows happen to lie.
        """
        found = [self.table(name) for name in tables]
        return tables_in_memory(
            [(table.name, table.columns, table.declared, table.rows[::-1]) for table in found], folded=self._folded
        )


def read_sqlite(path: Path, *, extra_keys: Mapping[str, Sequence[ForeignKey]] | None = None) -> Database:
    """A SQLite file, opened so that nothing is written, no lock and no journal. Raises TaskDataError."""
    if not path.is_file():
        raise TaskDataError(f"{path} is no file", hint="unpack the data set with its databases")
    uri = f"file:{quote_url(str(path.resolve()))}?mode=ro&immutable=1"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None)
    database = Database(connection, extra_keys=extra_keys)
    try:
        _ = database.schema
    except QueryRefused as error:
        connection.close()
        raise TaskDataError(f"{path} is no SQLite database: {error}", hint="unpack the data set again") from None
    return database


def tables_in_memory(
    tables: Sequence[tuple[str, Sequence[str], Sequence[str], Sequence[Sequence[Value | bytes]]]],
    *,
    folded: bool = False,
) -> Database:
    """A database of tables that are given as name, columns, declared types and rows.

    ``folded``: texts are compared without case, as the data set's own evaluation and MySQL do.
    """
    connection = sqlite3.connect(":memory:", isolation_level=None)
    database = Database(connection, folded=folded)
    for name, columns, declared, rows in tables:
        collate = f" COLLATE {_FOLDED}" if folded else ""
        parts = ", ".join(f"{_quoted(c)} {_declared(kind)}{collate}" for c, kind in zip(columns, declared, strict=True))
        connection.execute(f"CREATE TABLE {_quoted(name)} ({parts})")
        holes = ", ".join("?" * len(columns))
        connection.execute("BEGIN")
        connection.executemany(f"INSERT INTO {_quoted(name)} VALUES ({holes})", rows)  # noqa: S608
        connection.execute("COMMIT")
    return database


def _declared(kind: str) -> str:
    """A declared type as it can stand in CREATE TABLE: quoted where it is more than words and a length."""
    plain = all(char.isalnum() or char in " _(),." for char in kind)
    return kind if plain else _quoted(kind)


def _compare_folded(a: str, b: str) -> int:
    a, b = a.casefold(), b.casefold()
    return (a > b) - (a < b)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
