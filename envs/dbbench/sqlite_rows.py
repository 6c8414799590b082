"""Rows written one at a time, as InnoDB writes them: unique keys and foreign keys are looked at with each."""

# ruff: noqa: S608 - names are SQLite's own (t1, c0), values are parameters or escaped literals

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping, Sequence
from typing import Any

from envs.dbbench.backend import PUBLIC_NAME
from envs.dbbench.sqlite_catalog import KeyDef, LinkDef, TableDef
from envs.dbbench.sqlite_errors import SlowStatement, TableFull, failed
from envs.dbbench.sqlite_schema import tick
from envs.dbbench.sqlite_state import State
from envs.dbbench.sqlite_values import as_text

__all__ = ["RowWriter", "duplicate"]

_CASCADES = 15  # MySQL's own bound on keys that follow keys


class RowWriter:
    """Writes rows into an episode's tables."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._steps = 0

    def _step(self) -> None:
        self._steps += 1
        self._state.written += 1
        if self._state.written > self._state.limits.database_rows:
            raise TableFull("database_rows")
        if self._steps % 64 == 0 and time.monotonic() > self._state.deadline:
            raise SlowStatement

    def insert(self, table: TableDef, values: Sequence[Any]) -> None:
        """A row, in the order of the table's columns. Raises StatementFailed (1062, 1452, 3819)."""
        self._step()
        marks = ", ".join("?" * len(values))
        try:
            self._state.run(f"INSERT INTO {table.inner} VALUES ({marks})", values)
        except sqlite3.IntegrityError as error:
            raise self._refused(table, values, error) from error
        for link in table.links:
            self._check_link(table, link, values)

    def _refused(self, table: TableDef, values: Sequence[Any], error: sqlite3.IntegrityError) -> Exception:
        words = str(error)
        if words.startswith("CHECK constraint failed: "):
            return failed(3819, f"Check constraint '{words.partition(': ')[2]}' is violated.")
        found = self.conflict(table, values)
        if found is None:
            return failed(1105, words)
        return duplicate(table, found[0], values)

    def conflict(
        self, table: TableDef, values: Sequence[Any], own: tuple[Any, ...] | None = None
    ) -> tuple[KeyDef, tuple[Any, ...]] | None:
        """The first unique key that another row has, and what tells that row."""
        place = {column.name: at for at, column in enumerate(table.columns)}
        for key in table.keys:
            if not key.unique:
                continue
            wanted = [values[place[name]] for name in key.columns]
            if None in wanted:
                continue
            inners = [table.column(name).inner for name in key.columns]
            for row in self._state.rows(
                f"SELECT {', '.join(table.row_key)} FROM {table.inner} WHERE {_same(inners)} LIMIT 2", wanted
            ):
                if row != own:
                    return key, row
        return None

    def read(self, table: TableDef, key: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """A row by what tells it."""
        columns = ", ".join(column.inner for column in table.columns)
        query = f"SELECT {columns} FROM {table.inner} WHERE {_same(table.row_key)}"
        return next(iter(list(self._state.rows(query, key))), None)

    def update(self, table: TableDef, key: tuple[Any, ...], changes: Mapping[str, Any]) -> bool:
        """New values for some columns, by SQLite's names; whether anything has changed."""
        before = self.read(table, key)
        if before is None:
            return False
        after = [changes.get(column.inner, old) for column, old in zip(table.columns, before, strict=True)]
        if list(before) == after:
            return False
        self._step()
        self._follow_update(table, before, after)
        sets = ", ".join(f"{inner} = ?" for inner in changes)
        try:
            self._state.run(f"UPDATE {table.inner} SET {sets} WHERE {_same(table.row_key)}", [*changes.values(), *key])
        except sqlite3.IntegrityError as error:
            found = None if str(error).startswith("CHECK") else self.conflict(table, after, key)
            raise duplicate(table, found[0], after) if found else self._refused(table, after, error) from error
        for link in table.links:
            places = [at for at, column in enumerate(table.columns) if column.name in link.columns]
            if any(before[at] != after[at] for at in places):
                self._check_link(table, link, after)
        return True

    def delete(self, table: TableDef, key: tuple[Any, ...], depth: int = 0) -> None:
        """A row away, and what hangs on it. Raises StatementFailed (1451)."""
        before = self.read(table, key) if self._links_to(table) else None
        self._step()
        for child, link in self._links_to(table) if before is not None else ():
            wanted = [before[self._place(table, name)] for name in link.references]  # type: ignore[index]
            for found in self._children(child, link, wanted):
                if child.inner == table.inner and found == key:
                    continue
                if link.on_delete == "CASCADE" and depth < _CASCADES:
                    self.delete(child, found, depth + 1)
                elif link.on_delete == "SET NULL":
                    self.update(child, found, dict.fromkeys(child.column(name).inner for name in link.columns))
                else:
                    raise failed(1451, f"Cannot delete or update a parent row: {_constraint(child, link)}")
        self._state.run(f"DELETE FROM {table.inner} WHERE {_same(table.row_key)}", key)

    def _follow_update(self, table: TableDef, before: Sequence[Any], after: Sequence[Any]) -> None:
        for child, link in self._links_to(table):
            places = [self._place(table, name) for name in link.references]
            old, new = [before[at] for at in places], [after[at] for at in places]
            if old == new:
                continue
            for found in self._children(child, link, old):
                if link.on_update == "CASCADE":
                    inners = [child.column(name).inner for name in link.columns]
                    sets = ", ".join(f"{inner} = ?" for inner in inners)
                    self._state.run(f"UPDATE {child.inner} SET {sets} WHERE {_same(child.row_key)}", [*new, *found])
                elif link.on_update == "SET NULL":
                    self.update(child, found, dict.fromkeys(child.column(name).inner for name in link.columns))
                else:
                    raise failed(1451, f"Cannot delete or update a parent row: {_constraint(child, link)}")

    @staticmethod
    def _place(table: TableDef, name: str) -> int:
        return next(at for at, column in enumerate(table.columns) if column.name.casefold() == name.casefold())

    def _links_to(self, table: TableDef) -> list[tuple[TableDef, LinkDef]]:
        if not self._state.foreign_keys or table.temporary:
            return []
        return [
            (child, link)
            for child in self._state.catalog.tables.values()
            for link in child.links
            if link.table == table.name
        ]

    def referenced(self, table: TableDef) -> tuple[TableDef, LinkDef] | None:
        """Another table's foreign key that names this one."""
        return next(((child, link) for child, link in self._links_to(table) if child.name != table.name), None)

    def _children(self, child: TableDef, link: LinkDef, wanted: Sequence[Any]) -> list[tuple[Any, ...]]:
        if None in wanted:
            return []
        inners = [child.column(name).inner for name in link.columns]
        return list(
            self._state.rows(f"SELECT {', '.join(child.row_key)} FROM {child.inner} WHERE {_same(inners)}", wanted)
        )

    def _check_link(self, table: TableDef, link: LinkDef, values: Sequence[Any]) -> None:
        if not self._state.foreign_keys:
            return
        wanted = [values[self._place(table, name)] for name in link.columns]
        if None in wanted:
            return
        parent = self._state.catalog.tables.get(link.table)
        if parent is not None:
            inners = [parent.column(name).inner for name in link.references]
            query = f"SELECT 1 FROM {parent.inner} WHERE {_same(inners)} LIMIT 1"
            if list(self._state.rows(query, wanted)):
                return
        raise failed(1452, f"Cannot add or update a child row: {_constraint(table, link)}")

    def check_links(self, table: TableDef) -> None:
        """All rows of a table against its foreign keys. Raises StatementFailed (1452)."""
        columns = ", ".join(column.inner for column in table.columns)
        for row in list(self._state.rows(f"SELECT {columns} FROM {table.inner}")) if table.links else ():
            for link in table.links:
                self._check_link(table, link, row)


def duplicate(table: TableDef, key: KeyDef, values: Sequence[Any]) -> Exception:
    """MySQL's error for a second row with the same unique key."""
    shown = "-".join(
        as_text(values[at]) for name in key.columns for at, column in enumerate(table.columns) if column.name == name
    )
    return failed(1062, f"Duplicate entry '{shown[:192]}' for key '{table.name}.{key.name}'")


def _same(columns: Sequence[str]) -> str:
    return " AND ".join(f"{column} = ?" for column in columns)


def _constraint(table: TableDef, link: LinkDef) -> str:
    here, there = (", ".join(map(tick, columns)) for columns in (link.columns, link.references))
    rules = "".join(
        f" ON {word} {rule}" for word, rule in (("DELETE", link.on_delete), ("UPDATE", link.on_update)) if rule
    )
    return (
        f"a foreign key constraint fails (`{PUBLIC_NAME}`.{tick(table.name)}, CONSTRAINT {tick(link.name)} FOREIGN KEY "
        f"({here}) REFERENCES {tick(link.table)} ({there}){rules})"
    )
