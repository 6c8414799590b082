"""INSERT, REPLACE, UPDATE and DELETE: a query finds the values, then the rows are written one at a time."""

# ruff: noqa: S608 - names are SQLite's own (t1, c0), values are parameters or escaped literals

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from envs.dbbench.backend import StatementFailed
from envs.dbbench.sqlite_catalog import ColumnDef, TableDef
from envs.dbbench.sqlite_errors import failed, syntax_error, unsupported
from envs.dbbench.sqlite_parse import Parsed
from envs.dbbench.sqlite_queries import Queries
from envs.dbbench.sqlite_rows import RowWriter
from envs.dbbench.sqlite_scope import Scope, Source, Typed
from envs.dbbench.sqlite_store import store, zero
from envs.dbbench.sqlite_types import DATETIME, DOUBLE, INT, NULL, TEXT, decimal_type
from envs.dbbench.sqlite_values import CLOCK, format_moment

__all__ = ["Writes"]

_IGNORED = frozenset({1048, 1062, 1264, 1265, 1292, 1366, 1406, 1451, 1452, 3819, 1364})


class _Default:
    pass


_DEFAULT = _Default()


@dataclass(slots=True)
class _Target:
    """A table that a statement writes to: its place in FROM, and what is set."""

    table: TableDef
    source: Source
    sets: list[tuple[ColumnDef, Typed | None]]


class Writes(Queries):
    """Runs the statements that write rows."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.writer = RowWriter(self.state)

    # INSERT and REPLACE.

    def insert(self, parsed: Parsed) -> int:
        """INSERT or REPLACE; how many rows it has written."""
        self.strict = self.by_zero = "" if parsed.ignore else "_strict"
        tree = parsed.tree
        assert isinstance(tree, exp.Insert)
        table, names = self._into(tree.this)
        columns = [table.column(name) for name in names] if names else list(table.columns)
        if len({column.name for column in columns}) != len(columns):
            twice = next(column.name for column in columns if columns.count(column) > 1)
            raise failed(1110, f"Column '{twice}' specified twice")
        conflict = tree.args.get("conflict")
        source = tree.expression
        alias = source.args.get("alias") if isinstance(source, exp.Values) else None
        update = None
        if conflict is not None:
            update = self._on_duplicate(table, conflict, alias.name if alias is not None else "")
        rows = self._given(source, columns, bool(names))
        finish = self._finisher(table, columns, strict=not parsed.ignore)
        count = 0
        first_auto = None
        for number, row in enumerate(rows, start=1):
            try:
                values, auto = finish(row, number)
                first_auto = auto if first_auto is None else first_auto
                count += self._put(table, values, replace=parsed.verb == "REPLACE", update=update)
            except StatementFailed as error:
                if not parsed.ignore or error.code not in _IGNORED:
                    raise
        if first_auto is not None:
            self.state.last_insert_id = first_auto
        return count

    def _into(self, node: exp.Expr) -> tuple[TableDef, list[str]]:
        names = [item.name for item in node.expressions] if isinstance(node, exp.Schema) else []
        table = node.this if isinstance(node, exp.Schema) else node
        if not isinstance(table, exp.Table):
            raise unsupported("INSERT into an expression")
        return self.target(table), names

    def target(self, node: exp.Table) -> TableDef:
        """The table that a statement writes to. Raises StatementFailed (1146, 1142)."""
        if node.db:
            self.state.own_schema(node.db, node.name)
        if node.name in self.state.catalog.views and self.state.catalog.table(node.name) is None:
            raise failed(1471, f"The target table {node.name} of the statement is not insertable-into")
        return self.state.catalog.need(node.name)

    def _given(self, source: exp.Expr, columns: list[ColumnDef], named: bool) -> Iterable[list[Any]]:
        """The rows to insert: for each column a value and its type, or ``_DEFAULT``."""
        if isinstance(source, exp.Values):
            found = []
            for number, item in enumerate(source.expressions, start=1):
                values = item.expressions if isinstance(item, exp.Tuple) else [item]
                if len(values) == 1 and isinstance(values[0], exp.Anonymous) and str(values[0].this).upper() == "ROW":
                    values = values[0].expressions
                if not values and not (named and columns):
                    values = [exp.var("DEFAULT")] * len(columns)
                if len(values) != len(columns):
                    raise failed(1136, f"Column count doesn't match value count at row {number}")
                found.append([self._value(value) for value in values])
            return found
        query = self.query(source)
        if len(query.outputs) != len(columns):
            raise failed(1136, "Column count doesn't match value count at row 1")
        types = [output.type for output in query.outputs]
        return [list(zip(row, types, strict=True)) for row in self.state.collected(query.sql)]

    def _value(self, node: exp.Expr) -> Any:
        if isinstance(node, exp.Var) and node.name.upper() == "DEFAULT":
            return _DEFAULT
        if isinstance(node, exp.Literal):
            text = str(node.this)
            if node.is_string:
                return text, TEXT
            if text.isdigit():
                return int(text), INT
            return (float(text), DOUBLE) if "e" in text.lower() else (text, decimal_type(len(text.partition(".")[2])))
        if isinstance(node, exp.Null):
            return None, NULL
        typed = self.compile(node)
        return next(self.state.rows(f"SELECT {typed.sql}"))[0], typed.type

    def _finisher(
        self, table: TableDef, columns: list[ColumnDef], *, strict: bool
    ) -> Callable[[list[Any], int], tuple[list[Any], int | None]]:
        place = {column.name: at for at, column in enumerate(columns)}

        def finish(row: list[Any], number: int) -> tuple[list[Any], int | None]:
            values: list[Any] = []
            given_auto = None
            for column in table.columns:
                at = place.get(column.name)
                given: Any = _DEFAULT if at is None else row[at]
                if given is _DEFAULT:
                    value = None if column.auto else self.default(column, strict=strict)
                elif column.auto and given[0] is None:
                    value = None
                else:
                    value = store(given[0], given[1], column, number, strict)
                if column.auto:
                    if value in (None, 0):
                        value = given_auto = table.next_auto
                    table.next_auto = max(table.next_auto, value + 1)
                values.append(value)
            return values, given_auto

        return finish

    def default(self, column: ColumnDef, *, strict: bool = True) -> Any:
        """What a column takes that is not named. Raises StatementFailed (1364)."""
        if column.now:
            return store(format_moment(CLOCK), DATETIME, column)
        if column.default is not None:
            return store(column.default, TEXT, column)
        if column.not_null:
            if strict:
                raise failed(1364, f"Field '{column.name}' doesn't have a default value")
            return zero(column.type)
        return None

    def _put(self, table: TableDef, values: list[Any], *, replace: bool, update: Any) -> int:
        if not replace and update is None:
            self.writer.insert(table, values)
            return 1
        count = 1
        while (found := self.writer.conflict(table, values)) is not None:
            if update is not None:
                return int(update(values, found[1]))
            self.writer.delete(table, found[1])
            count += 1
        self.writer.insert(table, values)
        return count

    def _on_duplicate(
        self, table: TableDef, conflict: exp.Expr, alias: str
    ) -> Callable[[Sequence[Any], tuple[Any, ...]], int]:
        source = self.source_of(table, table.name)
        inner = self.state.alias()
        hidden = {column.name.casefold() for column in table.columns}
        new = [
            Source(name, inner, source.outputs, source.inners, hidden=set(hidden)) for name in ("VALUES", alias) if name
        ]
        outer = self.scope
        self.scope = Scope(sources=[source, *new])
        try:
            target = _Target(table, source, [])
            self._assignments(conflict.expressions, [target])
        finally:
            self.scope = outer
            self.renamed = {}
        given = ", ".join(f"? AS {column.inner}" for column in table.columns)
        wanted = ", ".join(typed.sql for _, typed in target.sets if typed is not None) or "1"
        keys = " AND ".join(f"{source.inner}.{key} = ?" for key in table.row_key)
        sql = f"SELECT {wanted} FROM {table.inner} AS {source.inner}, (SELECT {given}) AS {inner} WHERE {keys}"

        def update(values: Sequence[Any], key: tuple[Any, ...]) -> int:
            row = next(iter(list(self.state.rows(sql, [*values, *key]))))
            return 2 if self.writer.update(table, key, self._stored(target, list(row), 1, strict=True)) else 0

        return update

    # UPDATE.

    def update(self, parsed: Parsed) -> int:
        """UPDATE of one table or several; how many rows have changed."""
        self.strict = self.by_zero = "" if parsed.ignore else "_strict"
        tree = parsed.tree
        assert isinstance(tree, exp.Update)
        self.scope = Scope()
        tables = self.tables(tree.this, [*(tree.this.args.get("joins") or ()), *(tree.args.get("joins") or ())])
        targets = [_Target(s.table, s, []) for s in self.scope.sources if s.table is not None]
        self.targets = {target.table.inner for target in targets}
        self._assignments(tree.expressions, targets if len(self.scope.sources) > 1 else targets[:1])
        targets = [target for target in targets if target.sets]
        renamed, self.renamed = self.renamed, {}
        del renamed
        rows = self._found(tree, tables, targets, [
            typed.sql for target in targets for _, typed in target.sets if typed is not None
        ])  # fmt: skip
        count = 0
        seen: set[tuple[str, tuple[Any, ...]]] = set()
        for number, row in enumerate(rows, start=1):
            rest = list(row)
            keys = [tuple(rest.pop(0) for _ in target.table.row_key) for target in targets]
            for target, key in zip(targets, keys, strict=True):
                size = sum(typed is not None for _, typed in target.sets)
                values, rest = rest[:size], rest[size:]
                if None in key or (target.source.inner, key) in seen:
                    continue
                seen.add((target.source.inner, key))
                try:
                    changes = self._stored(target, values, number, strict=not parsed.ignore)
                    count += self.writer.update(target.table, key, changes)
                except StatementFailed as error:
                    if not parsed.ignore or error.code not in _IGNORED:
                        raise
        return count

    def _assignments(self, nodes: list[exp.Expr], targets: list[_Target]) -> None:
        for node in nodes:
            if not isinstance(node, exp.EQ) or not isinstance(node.this, exp.Column):
                raise unsupported("this assignment")
            self.clause = "field list"
            name = node.this
            typed = self.scope.column(name.name, name.table, "field list")
            target, column = self._assigned(typed, targets, name.name)
            if isinstance(node.expression, (exp.Var, exp.Column)) and node.expression.name.upper() == "DEFAULT":
                target.sets.append((column, None))
                continue
            value = self.compile(node.expression)
            target.sets.append((column, value))
            # MySQL assigns from left to right, and what comes later sees it.
            self.renamed[typed.sql] = Typed(f"({self.cast(value, column.type)})", column.type)

    @staticmethod
    def _assigned(typed: Typed, targets: list[_Target], name: str) -> tuple[_Target, ColumnDef]:
        source, _, inner = typed.sql.partition(".")
        for target in targets:
            if target.source.inner == source:
                return target, next(column for column in target.table.columns if column.inner == inner)
        raise failed(1288, f"The target table of column {name} of the UPDATE is not updatable")

    def _stored(self, target: _Target, values: list[Any], number: int, *, strict: bool) -> dict[str, Any]:
        changes: dict[str, Any] = {}
        for column, typed in target.sets:
            if typed is None:
                changes[column.inner] = self.default(column, strict=strict)
            else:
                changes[column.inner] = store(values.pop(0), typed.type, column, number, strict)
        for column in target.table.columns:
            if column.on_update and column.inner not in changes:
                changes[column.inner] = format_moment(CLOCK)
        return changes

    def _found(self, tree: exp.Expr, tables: str, targets: list[_Target], values: list[str]) -> list[tuple[Any, ...]]:
        keys = [f"{target.source.inner}.{key}" for target in targets for key in target.table.row_key]
        where = self._where(tree)
        order = self._order(tree.args.get("order"), [])
        if self.scope.aggregates:
            raise failed(1111, "Invalid use of group function")
        shown = ", ".join([*keys, *values])
        return self.state.collected(f"SELECT {shown} FROM {tables}{where}{order}{self._limit(tree)}")

    # DELETE.

    def delete(self, parsed: Parsed) -> int:
        """DELETE from one table or several; how many rows it has taken away."""
        self.strict = "" if parsed.ignore else "_strict"
        tree = parsed.tree
        assert isinstance(tree, exp.Delete)
        self.scope = Scope()
        using, named = tree.args.get("using"), tree.args.get("tables")
        if using:
            named, first = [tree.this], using[0]
        else:
            first = tree.this
        if first is None:
            raise syntax_error("")
        tables = self.tables(first, [*(first.args.get("joins") or ()), *(tree.args.get("joins") or ())])
        sources = [self._named_source(item.name) for item in named] if named else self.scope.sources
        targets = [_Target(source.table, source, []) for source in sources if source.table is not None]
        self.targets = {target.table.inner for target in targets}
        rows = self._found(tree, tables, targets, [])
        count = 0
        seen: set[tuple[str, tuple[Any, ...]]] = set()
        for row in rows:
            rest = list(row)
            for target in targets:
                key = tuple(rest.pop(0) for _ in target.table.row_key)
                if None in key or (target.source.inner, key) in seen:
                    continue
                seen.add((target.source.inner, key))
                try:
                    self.writer.delete(target.table, key)
                    count += 1
                except StatementFailed as error:
                    if not parsed.ignore or error.code not in _IGNORED:
                        raise
        return count

    def _named_source(self, name: str) -> Source:
        for source in self.scope.sources:
            if source.name == name:
                return source
        raise failed(1109, f"Unknown table '{name}' in MULTI DELETE")

    def truncate(self, tree: exp.TruncateTable) -> None:
        """TRUNCATE: all rows away, AUTO_INCREMENT begins anew."""
        for node in tree.expressions:
            table = self.target(node)
            found = self.writer.referenced(table)
            if found is not None:
                child, link = found
                raise failed(1701, f"Cannot truncate a table referenced in a foreign key constraint "
                             f"(`dbbench`.`{child.name}`, CONSTRAINT `{link.name}`)")  # fmt: skip
            self.state.run(f"DELETE FROM {table.inner}")
            table.next_auto = 1
