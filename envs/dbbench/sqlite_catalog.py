"""What tables and views an episode's database has, by the names that the policy uses.

SQLite itself knows a table as ``t1`` and a column as ``c0``: no name of a policy's can mean anything to it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from envs.dbbench.sqlite_errors import failed
from envs.dbbench.sqlite_types import SqlType

__all__ = ["Catalog", "CheckDef", "ColumnDef", "KeyDef", "LinkDef", "TableDef", "ViewDef"]


@dataclass(frozen=True, slots=True)
class ColumnDef:
    """A column. ``inner``: SQLite's name of it. ``default``: a text that ``store`` reads; ``now``: the clock's."""

    name: str
    inner: str
    type: SqlType
    not_null: bool = False
    default: str | None = None
    has_default: bool = False
    now: bool = False
    on_update: bool = False
    auto: bool = False
    comment: str = ""


@dataclass(frozen=True, slots=True)
class KeyDef:
    """An index: PRIMARY, unique or neither."""

    name: str
    columns: tuple[str, ...]
    unique: bool


@dataclass(frozen=True, slots=True)
class LinkDef:
    """A foreign key."""

    name: str
    columns: tuple[str, ...]
    table: str
    references: tuple[str, ...]
    on_delete: str = ""
    on_update: str = ""


@dataclass(frozen=True, slots=True)
class CheckDef:
    """A CHECK: its name, MySQL's text and SQLite's."""

    name: str
    text: str
    inner: str


@dataclass(slots=True)
class TableDef:
    """A table. ``next_auto``: the next value of its AUTO_INCREMENT column."""

    name: str
    inner: str
    columns: tuple[ColumnDef, ...]
    keys: tuple[KeyDef, ...] = ()
    links: tuple[LinkDef, ...] = ()
    checks: tuple[CheckDef, ...] = ()
    temporary: bool = False
    comment: str = ""
    next_auto: int = 1

    @property
    def primary(self) -> tuple[str, ...]:
        """The columns of its primary key."""
        return next((key.columns for key in self.keys if key.name == "PRIMARY"), ())

    @property
    def row_key(self) -> tuple[str, ...]:
        """SQLite's names of the columns that tell its rows apart."""
        return tuple(self.column(name).inner for name in self.primary) or ("rowid",)

    def find(self, name: str) -> ColumnDef | None:
        """The column, whatever the case of its name."""
        wanted = name.casefold()
        return next((column for column in self.columns if column.name.casefold() == wanted), None)

    def column(self, name: str, clause: str = "field list") -> ColumnDef:
        """The column. Raises StatementFailed (1054)."""
        found = self.find(name)
        if found is None:
            raise failed(1054, f"Unknown column '{name}' in '{clause}'")
        return found

    def create_sql(self) -> str:
        """SQLite's statement that creates it; a table with a key lies in the key's order, as InnoDB's does."""
        parts = [f"{column.inner} {column.type.declared}" for column in self.columns]
        parts += [f'CONSTRAINT "{check.name.replace(chr(34), "")}" CHECK ({check.inner})' for check in self.checks]
        tail = ""
        if self.primary:
            parts.append(f"PRIMARY KEY ({', '.join(self.row_key)})")
            tail = " WITHOUT ROWID"
        return f"CREATE TABLE {self.inner} ({', '.join(parts)}){tail}"

    def index_sql(self) -> list[str]:
        """SQLite's statements for its further unique keys."""
        return [
            f"CREATE UNIQUE INDEX {self.inner}_k{number} ON {self.inner} "
            f"({', '.join(self.column(name).inner for name in key.columns)})"
            for number, key in enumerate(self.keys)
            if key.unique and key.name != "PRIMARY"
        ]


@dataclass(frozen=True, slots=True)
class ViewDef:
    """A view: the query's tree, and its text."""

    name: str
    query: Any
    text: str
    columns: tuple[str, ...] = ()


@dataclass(slots=True)
class Catalog:
    """All tables and views; temporary tables hide others of their name."""

    tables: dict[str, TableDef] = field(default_factory=dict)
    temporary: dict[str, TableDef] = field(default_factory=dict)
    views: dict[str, ViewDef] = field(default_factory=dict)
    made: int = 0

    def table(self, name: str) -> TableDef | None:
        """The table of this name, which is case-sensitive."""
        return self.temporary.get(name) or self.tables.get(name)

    def need(self, name: str) -> TableDef:
        """The table. Raises StatementFailed (1146; 1347 for a view)."""
        found = self.table(name)
        if found is None:
            if name in self.views:
                raise failed(1347, f"'dbbench.{name}' is not BASE TABLE")
            raise failed(1146, f"Table 'dbbench.{name}' doesn't exist")
        return found

    def new_name(self) -> str:
        """A name for SQLite that nothing has had."""
        self.made += 1
        return f"t{self.made}"

    def put(self, table: TableDef) -> None:
        """Enter a table, in the place of one of its name and kind."""
        (self.temporary if table.temporary else self.tables)[table.name] = table

    def drop(self, table: TableDef) -> None:
        """Strike a table out."""
        (self.temporary if table.temporary else self.tables).pop(table.name, None)

    def copy(self) -> Catalog:
        """A copy that changes on its own."""
        return Catalog(
            {name: replace(table) for name, table in self.tables.items()},
            {name: replace(table) for name, table in self.temporary.items()},
            dict(self.views),
            self.made,
        )
