"""Columns that could be meant instead: of the same table and of the same kind of values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from sqlglot import exp

from envs.dbbench.parsing import tables_in
from envs.dbbench.tables import Table

__all__ = ["columns_of", "known_names", "wrong_columns"]

_NUMBER = re.compile(r"[+-]?[0-9][0-9,]*(?:\.[0-9]+)?%?")
_NUMBERS = re.compile(r"(?:TINY|SMALL|MEDIUM|BIG)?INT|INTEGER|FLOAT|DOUBLE|DECIMAL|YEAR|BOOL")
_DATES = re.compile(r"DATE|TIME")
_LOOKED_AT = 50  # rows that tell what kind of values a TEXT column holds


def columns_of(tree: exp.Expr, tables: Sequence[Table]) -> list[Table]:
    """The task's tables that a statement names, in its order."""
    by_name = {table.name.casefold(): table for table in tables}
    return [by_name[name.casefold()] for name in tables_in(tree) if name.casefold() in by_name]


def known_names(tables: Sequence[Table]) -> frozenset[str]:
    """The names of all tables and columns, case folded."""
    return frozenset(name.casefold() for table in tables for name in (table.name, *table.columns))


def wrong_columns(tree: exp.Expr, tables: Sequence[Table]) -> Iterator[exp.Expr]:
    """Copies of the tree with another column in place of one, wherever that one stands outside of a join's condition.

    Of an INSERT, copies in which two columns have changed places.
    """
    if isinstance(tree, exp.Insert) and isinstance(tree.this, exp.Schema):
        yield from _swapped(tree, tables)
    aliases = _aliases(tree, tables)
    # A column that SET names already would be set twice.
    assigned = {node.this.name for node in tree.expressions} if isinstance(tree, exp.Update) else set()
    seen: set[tuple[str, str]] = set()
    for column in tree.find_all(exp.Column):
        named = (column.table.casefold(), column.name.casefold())
        if isinstance(column.this, exp.Star) or named in seen or _joins(column):
            continue
        seen.add(named)
        for table in _owners(column, aliases):
            for other in _others(table, column.name):
                if not (column.name in assigned and other in assigned):
                    yield _with_column(tree, named, other)


def _with_column(tree: exp.Expr, named: tuple[str, str], other: str) -> exp.Expr:
    copy = tree.copy()
    for column in copy.find_all(exp.Column):
        if (column.table.casefold(), column.name.casefold()) == named and not _joins(column):
            column.set("this", exp.to_identifier(other, quoted=True))
    return copy


def _swapped(tree: exp.Insert, tables: Sequence[Table]) -> Iterator[exp.Expr]:
    found = columns_of(tree, tables)
    names = [node.name for node in tree.this.expressions]
    if not found or not all(isinstance(node, exp.Identifier) for node in tree.this.expressions):
        return
    for i, one in enumerate(names):
        for j in range(i + 1, len(names)):
            if names[j] in _others(found[0], one):
                copy = tree.copy()
                nodes = copy.this.expressions
                nodes[i].replace(exp.to_identifier(names[j], quoted=True))
                nodes[j].replace(exp.to_identifier(one, quoted=True))
                yield copy


def _aliases(tree: exp.Expr, tables: Sequence[Table]) -> dict[str, Table]:
    """The task's tables by the names that columns are qualified with."""
    by_name = {table.name.casefold(): table for table in tables}
    found = {}
    for node in tree.find_all(exp.Table):
        table = by_name.get(node.name.casefold())
        if table is not None:
            found[node.alias_or_name.casefold()] = table
    return found


def _owners(column: exp.Column, aliases: dict[str, Table]) -> list[Table]:
    if column.table:
        table = aliases.get(column.table.casefold())
        candidates = [] if table is None else [table]
    else:
        candidates = list({id(table): table for table in aliases.values()}.values())
    return [t for t in candidates if column.name.casefold() in (name.casefold() for name in t.columns)]


def _others(table: Table, name: str) -> list[str]:
    kinds = {column: _kind(table, i) for i, column in enumerate(table.columns)}
    own = next((kind for column, kind in kinds.items() if column.casefold() == name.casefold()), None)
    return [column for column, kind in kinds.items() if kind == own and column.casefold() != name.casefold()]


def _kind(table: Table, place: int) -> str:
    """``number``, ``date`` or ``text``: by the declared type, of a TEXT column by its values."""
    declared = table.types[place] if table.types else "TEXT"
    if _NUMBERS.match(declared):
        return "number"
    if _DATES.match(declared):
        return "date"
    values = [row[place] for row in table.rows[:_LOOKED_AT] if row[place]]
    numbers = sum(_NUMBER.fullmatch(str(value)) is not None for value in values)
    return "number" if values and numbers > 0.8 * len(values) else "text"


def _joins(column: exp.Column) -> bool:
    """Whether it stands in the condition of a join."""
    join = column.find_ancestor(exp.Join, exp.Select)
    if not isinstance(join, exp.Join):
        return False
    on = join.args.get("on")
    return on is not None and any(node is column for node in on.find_all(exp.Column))
