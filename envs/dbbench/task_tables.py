"""The tables of a task's row: AgentBench's form, where all is text, and the typed one with keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from envs.dbbench.tables import ForeignKey, Table
from envs.dbbench.task_types import Value, column_texts, key_type, normal_type, value_text

__all__ = ["BadRow", "find_key_cycle", "in_key_order", "read_tables"]

_MAX_NAME = 64  # characters of a table's or a column's name, in MySQL and MariaDB
_INTEGERS = frozenset({"INT", "INTEGER"})
_SCALARS = {str, int, float, bool, type(None)}


class BadRow(Exception):
    """What is wrong with a row of a task file; whoever reads the file adds file and line."""


def read_tables(item: object, *, typed: bool = False, known: dict[bytes, Table] | None = None) -> tuple[Table, ...]:
    """The tables of a row's ``table``: one object or a list. Typed ones come in an order that their foreign keys allow.

    ``known`` keeps typed tables for the next row: many questions are asked about one database. Raises BadRow.
    """
    if not isinstance(item, (list, dict)) or not item:
        raise BadRow("table is missing")
    items = item if isinstance(item, list) else [item]
    if not typed:
        return tuple(_plain_table(one) for one in items)
    tables = [_known_table(one, {} if known is None else known) for one in items]
    seen: set[str] = set()
    for table in tables:
        if table.name.casefold() in seen:
            raise BadRow(f"two tables are called {table.name!r}")
        seen.add(table.name.casefold())
    _check_keys(tables)
    return tuple(in_key_order(tables))


def _parts(item: object) -> tuple[str, Mapping[str, Any], list[Any], list[Any]]:
    info = item.get("table_info") if isinstance(item, dict) else None
    if not isinstance(item, dict) or not isinstance(info, dict):
        raise BadRow("table has no table_info")
    name = item.get("table_name")
    if not isinstance(name, str) or not 0 < len(name.rstrip()) <= _MAX_NAME or "\0" in name:
        raise BadRow(f"table_name is {name!r}; a name has 1 to {_MAX_NAME} characters")
    columns, rows = info.get("columns"), info.get("rows")
    if not isinstance(columns, list) or not isinstance(rows, list) or not columns:
        raise BadRow(f"table {name!r} has no columns or no rows")
    return name.rstrip(), info, columns, rows


def _plain_table(item: object) -> Table:
    name, _, columns, rows = _parts(item)
    texts = _usable_names([column.get("name") if isinstance(column, dict) else None for column in columns], name)
    return Table(
        name=name,
        columns=tuple(texts),
        rows=tuple(tuple(map(str, _row(row, len(texts), name, i))) for i, row in enumerate(rows)),
    )


def _usable_names(names: Sequence[object], table: str) -> list[str]:
    """Column names that MySQL takes. AgentBench's data has some that it does not (dev/5 has an empty one; the original
    cannot play that task): trailing blanks go, long names are cut, an empty one becomes ``column_N``, a repeated one
    ``name_N``.
    """
    usable: list[str] = []
    seen: set[str] = set()
    for position, name in enumerate(names, start=1):
        if not isinstance(name, str) or "\0" in name:
            raise BadRow(f"a column of table {table!r} is called {name!r}, which is no name")
        text = name.rstrip()[:_MAX_NAME].rstrip() or f"column_{position}"
        if text.casefold() in seen:
            text = f"{text[: _MAX_NAME - 4]}_{position}"
        if text.casefold() in seen:
            raise BadRow(f"table {table!r} names the column {name!r} twice")
        seen.add(text.casefold())
        usable.append(text)
    return usable


def _row(row: object, width: int, table: str, index: int) -> Sequence[Any]:
    if not isinstance(row, Sequence) or isinstance(row, str) or len(row) != width:
        raise BadRow(f"row {index} of table {table!r} has not {width} values")
    return row


# Typed tables. Names are taken as they are: keys and gold statements speak of them.


def _known_table(item: object, known: dict[bytes, Table]) -> Table:
    key = hashlib.sha256(json.dumps(item).encode()).digest()
    if key not in known:
        known[key] = _typed_table(item)
    return known[key]


def _typed_table(item: object) -> Table:
    name, info, columns, rows = _parts(item)
    names = tuple(_exact_name(column, name) for column in columns)
    if len({column.casefold() for column in names}) != len(names):
        raise BadRow(f"table {name!r} names a column twice")
    declared = [column.get("type", "") for column in columns]
    if not all(isinstance(kind, str) for kind in declared):
        raise BadRow(f"a column of table {name!r} has a type that is no text")
    cells = [_row(row, len(names), name, i) for i, row in enumerate(rows)]
    values: list[tuple[Value, ...]] = list(zip(*cells, strict=True)) if cells else [()] * len(names)
    for column, cell in zip(names, values, strict=True):
        if not set(map(type, cell)) <= _SCALARS:
            raise BadRow(f"column {column!r} of table {name!r} holds a list or an object")
    primary = _names(info.get("primary_key", []), f"primary_key of table {name!r}")
    foreign = _foreign_keys(info.get("foreign_keys", []), name)
    kinds = [normal_type(kind, column) for kind, column in zip(declared, values, strict=True)]
    for key in (primary, *(key.columns for key in foreign)):
        _known_columns(key, names, name)
        for column in key:
            position = names.index(column)
            try:
                kinds[position] = key_type(kinds[position], values[position], len(key))
            except ValueError as error:
                raise BadRow(f"table {name!r}, column {column!r}: {error}") from None
    if any(value is None for column in primary for value in values[names.index(column)]):
        raise BadRow(f"a primary key of table {name!r} is null")
    texts = [_texts(*column, table=name) for column in zip(values, kinds, names, strict=True)]
    return Table(name, names, tuple(zip(*texts, strict=True)), tuple(kinds), primary, foreign)


def _exact_name(column: object, table: str) -> str:
    name = column.get("name") if isinstance(column, dict) else None
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME or "\0" in name or name != name.rstrip():
        raise BadRow(
            f"a column of table {table!r} is called {name!r}; a name has 1 to {_MAX_NAME} characters, no blank last"
        )
    return name


def _texts(values: Sequence[Value], kind: str, column: str, *, table: str) -> list[str | None]:
    try:
        return column_texts(values, kind)
    except ValueError:
        for i, value in enumerate(values):
            try:
                value_text(value, kind)
            except ValueError as error:
                raise BadRow(f"row {i} of table {table!r}, column {column!r}: {error}") from None
        raise


def _names(value: object, what: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise BadRow(f"{what} is no list of names")
    if len(set(value)) != len(value):
        raise BadRow(f"{what} names a column twice")
    return tuple(value)


def _foreign_keys(value: object, table: str) -> tuple[ForeignKey, ...]:
    if not isinstance(value, list):
        raise BadRow(f"foreign_keys of table {table!r} is no list")
    keys = []
    for item in value:
        if not isinstance(item, dict) or not isinstance(item.get("table"), str):
            raise BadRow(f'a foreign key of table {table!r} is not {{"columns": […], "table": "…", "references": […]}}')
        here = _names(item.get("columns"), f"columns of a foreign key of table {table!r}")
        there = _names(item.get("references"), f"references of a foreign key of table {table!r}")
        if not here or len(here) != len(there):
            raise BadRow(f"a foreign key of table {table!r} names {len(here)} columns and {len(there)} references")
        keys.append(ForeignKey(here, item["table"], there))
    return tuple(keys)


def _known_columns(key: Sequence[str], columns: Sequence[str], table: str) -> None:
    for column in key:
        if column not in columns:
            raise BadRow(f"table {table!r} has no column {column!r}, which a key names")


def _check_keys(tables: Sequence[Table]) -> None:
    """Every foreign key names the primary key of a table that is there, of the same types, and rows that exist."""
    by_name = {table.name: table for table in tables}
    for table in tables:
        for key in table.foreign_keys:
            other = by_name.get(key.table)
            if other is None:
                raise BadRow(f"a foreign key of table {table.name!r} names the table {key.table!r}, which is not here")
            _known_columns(key.references, other.columns, other.name)
            if key.references != other.primary_key:
                raise BadRow(
                    f"a foreign key of table {table.name!r} names what is not the primary key of {other.name!r}"
                )
            here, there = (_kinds(one, names) for one, names in ((table, key.columns), (other, key.references)))
            if not all(_same_kind(a, b) for a, b in zip(here, there, strict=True)):
                raise BadRow(
                    f"a foreign key of table {table.name!r} has the types {', '.join(here)}, "
                    f"but {other.name!r} has {', '.join(there)}"
                )
            _check_rows(table, key, other)


def _check_rows(table: Table, key: ForeignKey, other: Table) -> None:
    """That each row names one that is there; within the own table, one that is not after it: rows go in in order."""
    here = [table.columns.index(column) for column in key.columns]
    there = [other.columns.index(column) for column in key.references]
    known = set() if other is table else {_key(row, there) for row in other.rows}
    for i, row in enumerate(table.rows):
        if other is table:
            known.add(_key(row, there))
        if all(row[position] is not None for position in here) and _key(row, here) not in known:
            raise BadRow(f"row {i} of table {table.name!r} names a row of {other.name!r} that is not there")


def _key(row: Sequence[str | None], positions: Sequence[int]) -> tuple[str, ...]:
    return tuple((row[position] or "").casefold() for position in positions)


def _kinds(table: Table, columns: Sequence[str]) -> list[str]:
    return [table.types[table.columns.index(column)] for column in columns]


def _same_kind(a: str, b: str) -> bool:
    return a == b or {a, b} <= _INTEGERS or (a.startswith("VARCHAR") and b.startswith("VARCHAR"))


def in_key_order(tables: Sequence[Table]) -> list[Table]:
    """The tables, each after those that its foreign keys name; otherwise in their order. Raises BadRow on a cycle."""
    cycle = find_key_cycle(tables)
    if cycle:
        raise BadRow(f"foreign keys go round in a circle: {', '.join(cycle)}")
    left, done = list(tables), list[Table]()
    while left:
        names = {table.name for table in left}
        ready = next(t for t in left if not any(k.table in names and k.table != t.name for k in t.foreign_keys))
        left.remove(ready)
        done.append(ready)
    return done


def find_key_cycle(tables: Sequence[Table]) -> list[str]:
    """Names of tables whose foreign keys go round in a circle, or an empty list. A key to the own table is none."""
    left = {table.name: {k.table for k in table.foreign_keys if k.table != table.name} for table in tables}
    while True:
        named = {name for needs in left.values() for name in needs}
        ends = [name for name, needs in left.items() if name not in named or not needs & left.keys()]
        if not ends:
            return list(left)
        for name in ends:
            del left[name]
