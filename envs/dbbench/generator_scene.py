"""A filled database that questions can be asked of: tables, what their columns mean, and how they hang together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from envs.dbbench.generator_draw import Draw
from envs.dbbench.tables import Table

__all__ = ["MONTHS", "Field", "Join", "Kind", "Scene", "SceneTable", "Value", "iso_date", "long_date", "parse_cells"]

type Value = Decimal | str | None
"""A cell as it is compared: numbers as numbers, dates as ``2020-01-31``, None for NULL."""

type Kind = Literal["id", "name", "category", "number", "date", "link"]

MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Field:
    """A column: its name, how questions call it, its type in SQL.

    ``text``: a TEXT column whatever it holds. ``thousands``: numbers there are written as ``12,345``; ``long``: dates
    as ``5 May 2020``. ``blank``: some cells are empty. ``code``: a number that a person might order as text. ``unit``:
    of its numbers, where its name does not tell.
    """

    name: str
    said: str
    kind: Kind
    type: str = "TEXT"
    places: int = 0
    additive: bool = False
    code: bool = False
    thousands: bool = False
    long: bool = False
    nullable: bool = False
    blank: bool = False
    unit: str = ""

    @property
    def text(self) -> bool:
        """Whether it is of type TEXT."""
        return self.type == "TEXT"

    @property
    def numeric(self) -> bool:
        """Whether its cells are numbers."""
        return self.kind in ("number", "id", "link") and not (self.kind == "link" and self.text)


@dataclass(frozen=True, slots=True)
class Join:
    """Rows of ``child`` name a row of ``parent`` in ``column`` by the parent's first column. ``said``: its role."""

    child: int
    column: int
    parent: int
    said: str


@dataclass(frozen=True, slots=True)
class SceneTable:
    """A table, what one and several of its rows are called, and its cells as values."""

    row: str
    rows: str
    table: Table
    fields: tuple[Field, ...]
    values: tuple[tuple[Value, ...], ...]

    @property
    def key(self) -> int:
        """The column that names a row for a person; the first where it has no names."""
        return next((i for i, field in enumerate(self.fields) if field.kind == "name"), 0)

    def of_kind(self, *kinds: Kind) -> list[int]:
        """The columns of these kinds."""
        return [i for i, field in enumerate(self.fields) if field.kind in kinds]

    def with_rows(self, rows: Sequence[tuple[str | None, ...]]) -> SceneTable:
        """The same table with other rows."""
        return replace(self, table=replace(self.table, rows=tuple(rows)), values=parse_cells(self.fields, rows))


@dataclass(frozen=True, slots=True)
class Scene:
    """Tables, the joins between them, and which table questions are about. ``spare``: names that no row has."""

    draw: Draw
    domain: str
    tables: tuple[SceneTable, ...]
    joins: tuple[Join, ...]
    main: int
    spare: tuple[str, ...]

    @property
    def flat(self) -> bool:
        """Whether it is AgentBench's manner: one table, every column TEXT."""
        return not self.tables[0].table.types

    def with_rows(self, index: int, rows: Sequence[tuple[str | None, ...]]) -> Scene:
        """The same scene after a table has changed."""
        tables = list(self.tables)
        tables[index] = tables[index].with_rows(rows)
        return replace(self, tables=tuple(tables))


def parse_cells(fields: Sequence[Field], rows: Sequence[Sequence[str | None]]) -> tuple[tuple[Value, ...], ...]:
    """Cells as values."""
    columns = [
        [_value(field, row[i]) for row in rows] if field.numeric or field.long else [row[i] for row in rows]
        for i, field in enumerate(fields)
    ]
    return tuple(zip(*columns, strict=True))


def _value(field: Field, text: str | None) -> Value:
    if text is None:
        return None
    if field.long:
        return iso_date(text)
    return Decimal(text.replace(",", "") if field.thousands else text)


def long_date(iso: str) -> str:
    """``2020-05-05`` as ``5 May 2020``."""
    year, month, day = iso.split("-")
    return f"{int(day)} {MONTHS[int(month) - 1]} {year}"


def iso_date(text: str) -> str:
    """``5 May 2020`` as ``2020-05-05``."""
    day, month, year = text.split(" ")
    return f"{year}-{MONTHS.index(month) + 1:02d}-{int(day):02d}"
