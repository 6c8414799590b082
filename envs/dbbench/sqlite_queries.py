"""MySQL's queries as SQLite's: FROM with its joins, grouping with MySQL's strictness, UNION, WITH."""

# ruff: noqa: S608 - names are SQLite's own (t1, c0), values are parameters or escaped literals

from __future__ import annotations

from sqlglot import exp

from envs.dbbench.sqlite_errors import failed, syntax_error, unsupported
from envs.dbbench.sqlite_groups import Groups
from envs.dbbench.sqlite_scope import Output, Scope, Source, Typed
from envs.dbbench.sqlite_sources import Query
from envs.dbbench.sqlite_types import SqlType, merged

__all__ = ["Queries"]

_SETS = {exp.Union: "UNION", exp.Except: "EXCEPT", exp.Intersect: "INTERSECT"}


class Queries(Groups):
    """Compiles queries."""

    def subquery(self, node: exp.Expr) -> tuple[str, list[SqlType], bool]:
        """A query within an expression."""
        clause = self.clause
        found = self.query(node)
        self.clause = clause
        return found.sql, [output.type for output in found.outputs], found.single

    def query(self, node: exp.Expr, names: tuple[str, ...] = ()) -> Query:
        """Any query, in the scope that is current. ``names``: others for its columns."""
        found = self._query(node)
        if names:
            if len(names) != len(found.outputs):
                raise failed(1353, "In definition of view, derived table or common table expression, SELECT list and "
                             "column names list have different column counts")  # fmt: skip
            outputs = tuple(Output(name, output.type) for name, output in zip(names, found.outputs, strict=True))
            return Query(found.sql, outputs, found.single)
        return found

    def named_query(self, node: exp.Expr, names: tuple[str, ...] = ()) -> Query:
        """A query whose columns all need names, as those of a view or a new table do."""
        self._depth += 1
        try:
            return self.query(node, names)
        finally:
            self._depth -= 1

    def _query(self, node: exp.Expr) -> Query:
        self._depth += 1
        outer, named, windows = self.scope, self._named, self.named_windows
        self.scope = Scope(parent=outer)
        self._named = dict(named)
        try:
            if isinstance(node, exp.Subquery):
                inner = self._query(node.this) if isinstance(node.this, exp.Query) else None
                if inner is None:
                    raise unsupported("joined tables in brackets")
                return self._tail(inner, node)
            head = self._with(node.args.get("with_"))
            if isinstance(node, exp.Select):
                found = self._select(node)
            elif isinstance(node, exp.SetOperation):
                found = self._set(node)
            elif isinstance(node, exp.Values):
                found = self._values_rows(node)
            else:
                raise unsupported(node.key.upper())
            return Query(head + found.sql, found.outputs, found.single)
        finally:
            self.scope, self._named, self.named_windows = outer, named, windows
            self._depth -= 1

    def _tail(self, found: Query, node: exp.Expr) -> Query:
        """ORDER BY and LIMIT behind a query in brackets."""
        if node.args.get("order") is None and node.args.get("limit") is None:
            return found
        name = self.state.alias()
        columns = ", ".join(f"{name}.c{at}" for at in range(len(found.outputs)))
        order = self._order_by_outputs(node.args.get("order"), found.outputs)
        return Query(f"SELECT {columns} FROM ({found.sql}) AS {name}{order}{self._limit(node)}", found.outputs)

    # WITH.

    def _with(self, node: exp.With | None) -> str:
        if node is None:
            return ""
        parts = []
        for cte in node.expressions:
            alias = cte.args["alias"]
            names = tuple(column.name for column in alias.args.get("columns") or ())
            inner = self.state.alias()
            if node.args.get("recursive") and isinstance(cte.this, exp.Union):
                found = self._recursive(cte.this, alias.name, names, inner)
            else:
                found = self.query(cte.this, names)
            inners = tuple(f"c{at}" for at in range(len(found.outputs)))
            self._named[alias.name] = Source(alias.name, inner, found.outputs, inners)
            parts.append(f"{inner}({', '.join(inners)}) AS ({found.sql})")
        return f"WITH RECURSIVE {', '.join(parts)} "

    def _recursive(self, node: exp.Union, name: str, names: tuple[str, ...], inner: str) -> Query:
        first = self.query(node.this, names)
        inners = tuple(f"c{at}" for at in range(len(first.outputs)))
        self._named[name] = Source(name, inner, first.outputs, inners)
        second = self.query(node.expression)
        if len(second.outputs) != len(first.outputs):
            raise failed(1222, "The used SELECT statements have a different number of columns")
        word = "UNION" if node.args.get("distinct") else "UNION ALL"
        return Query(f"{first.sql} {word} {second.sql}", first.outputs)

    # SELECT.

    def _select(self, node: exp.Select) -> Query:
        scope = self.scope
        if node.args.get("into") is not None:
            raise failed(1045, "Access denied for user (using password: YES)")
        if not node.expressions:
            raise syntax_error("")
        tables = self._from(node)
        self.named_windows = {window.name.lower(): window for window in node.args.get("windows") or ()}
        self.window_order = []
        columns: list[tuple[Output, Typed]] = []
        frees: list[list[Typed]] = []
        for item in node.expressions:
            self.clause = "field list"
            scope.free = []
            for column in self._projected(item):
                columns.append(column)
                frees.append([column[1]] if column[1].column and _star(item) else scope.free)
        scope.free = []
        where = self._where(node)
        scope.aliases = {output.name.casefold(): typed for output, typed in reversed(columns) if output.name}
        groups = self._groups(node, columns)
        having = self._having(node, columns, groups)
        scope.free = []
        order = self._order(node.args.get("order"), columns)
        grouped = bool(groups) or scope.aggregates > 0
        if grouped:
            self.check_groups(node, groups, columns, frees, scope.free)
        distinct = node.args.get("distinct") is not None
        shown = ", ".join(
            f"{typed.sql if typed.column or not distinct else typed.collated} AS c{at}"
            for at, (_, typed) in enumerate(columns)
        )
        sql = f"SELECT {'DISTINCT ' if distinct else ''}{shown}{tables}{where}"
        if groups:
            sql += f" GROUP BY {', '.join(_key(group) for group in groups)}"
            order = order or self.appearance(columns)
        if having:
            sql += f" HAVING {having}" if grouped else f"{' AND' if where else ' WHERE'} ({having})"
        if not order and self.window_order and not grouped and not distinct:
            order = f" ORDER BY {', '.join(self.window_order)}"
        sql += order + self._limit(node)
        single = (scope.aggregates > 0 and not groups) or not tables or _limit_one(node)
        return Query(sql, tuple(output for output, _ in columns), single)

    def _projected(self, item: exp.Expr) -> list[tuple[Output, Typed]]:
        if isinstance(item, exp.Star):
            if not self.scope.sources:
                raise failed(1096, "No tables used")
            return self.scope.stars()
        if isinstance(item, exp.Column) and isinstance(item.this, exp.Star):
            return self.scope.stars(item.table)
        name, inner = "", item
        if isinstance(item, exp.Alias):
            name, inner = item.alias, item.this
        if isinstance(inner, exp.Tuple):
            raise failed(1241, "Operand should contain 1 column(s)")
        typed = self.compile(inner)
        if not name:
            name = inner.name if isinstance(inner, exp.Column) else inner.sql("mysql") if self._depth > 1 else ""
        return [(Output(name, typed.type), typed)]

    def _where(self, node: exp.Expr) -> str:
        where = node.args.get("where")
        if where is None:
            return ""
        self.clause = "where clause"
        return f" WHERE {self.truth(where.this)}"

    def _groups(self, node: exp.Select, columns: list[tuple[Output, Typed]]) -> list[Typed]:
        group = node.args.get("group")
        if group is None:
            return []
        if group.args.get("rollup") or group.args.get("cube"):
            raise unsupported("WITH ROLLUP")
        self.clause = "group statement"
        found = []
        for item in group.expressions:
            place = _position(item)
            if place is not None:
                if not 1 <= place <= len(columns):
                    raise failed(1054, f"Unknown column '{place}' in 'group statement'")
                found.append(columns[place - 1][1])
            elif isinstance(item, exp.Column) and not item.table and not self._has(item.name):
                alias = self.scope.aliases.get(item.name.casefold())
                found.append(alias or self.compile(item))
            else:
                found.append(self.compile(item))
        return found

    def _has(self, name: str) -> bool:
        return any(source.find(name) is not None for source in self.scope.sources)

    def _having(self, node: exp.Select, columns: list[tuple[Output, Typed]], groups: list[Typed]) -> str:
        having = node.args.get("having")
        if having is None:
            return ""
        self.clause = "having clause"
        scope = self.scope
        scope.use_aliases, scope.free = True, []
        text = self.truth(having.this)
        known = {typed.sql for _, typed in columns} | {group.sql for group in groups}
        for free in scope.free:
            if free.sql not in known:
                raise failed(1054, f"Unknown column '{free.column.rpartition('.')[2]}' in 'having clause'")
        scope.use_aliases = False
        return text

    def _order(self, order: exp.Order | None, columns: list[tuple[Output, Typed]]) -> str:
        if order is None:
            return ""
        self.clause = "order clause"
        self.scope.use_aliases = True
        keys = []
        for item in order.expressions:
            place = _position(item.this)
            if place is not None and not 1 <= place <= len(columns):
                raise failed(1054, f"Unknown column '{place}' in 'order clause'")
            if place is None and isinstance(item.this, exp.Column) and not item.this.table:
                place = next(
                    (
                        at
                        for at, (output, _) in enumerate(columns, 1)
                        if output.name.casefold() == item.this.name.casefold()
                    ),
                    None,
                )
            if place is not None:
                typed = columns[place - 1][1]
                key = f"{place}{typed.type.collation}"
            else:
                key = _key(self.compile(item.this))
            keys.append(key + (" DESC" if item.args.get("desc") else ""))
        self.scope.use_aliases = False
        return f" ORDER BY {', '.join(keys)}"

    def _limit(self, node: exp.Expr) -> str:
        limit, offset = node.args.get("limit"), node.args.get("offset")
        if limit is None:
            return ""
        texts = [_count(limit.expression)]
        if offset is not None:
            texts.append(_count(offset.expression))
        return " LIMIT " + " OFFSET ".join(texts)

    # UNION and the like.

    def _set(self, node: exp.SetOperation) -> Query:
        first, second = self.query(node.this), self.query(node.expression)
        if len(first.outputs) != len(second.outputs):
            raise failed(1222, "The used SELECT statements have a different number of columns")
        types = [merged([one.type, two.type]) for one, two in zip(first.outputs, second.outputs, strict=True)]
        outputs = tuple(Output(output.name, kind) for output, kind in zip(first.outputs, types, strict=True))
        word = _SETS[type(node)] + ("" if node.args.get("distinct") else " ALL")
        if word in ("EXCEPT ALL", "INTERSECT ALL"):
            raise unsupported(word)
        sql = f"{self._fitted(first, types)} {word} {self._fitted(second, types)}"
        if word == "UNION":  # SQLite would sort; MySQL keeps the first of equal rows where it stands
            sql = self._first_ones(f"{self._fitted(first, types)} UNION ALL {self._fitted(second, types)}", types)
        if word == "UNION":  # SQLite would sort; MySQL keeps the first of equal rows where it stands
            sql = self._first_ones(f"{self._fitted(first, types)} UNION ALL {self._fitted(second, types)}", types)
        return Query(f"{sql}{self._order_by_outputs(node.args.get('order'), outputs)}{self._limit(node)}", outputs)

    def _first_ones(self, sql: str, types: list[SqlType]) -> str:
        name = self.state.alias()
        columns = ", ".join(f"{name}.c{at}{kind.collation} AS c{at}" for at, kind in enumerate(types))
        return f"SELECT DISTINCT {columns} FROM ({sql}) AS {name}"

    def _fitted(self, query: Query, types: list[SqlType]) -> str:
        name = self.state.alias()
        columns = ", ".join(
            f"{self.cast(Typed(f'{name}.c{at}', output.type), kind)}{kind.collation} AS c{at}"
            for at, (output, kind) in enumerate(zip(query.outputs, types, strict=True))
        )
        return f"SELECT {columns} FROM ({query.sql}) AS {name}"

    def _order_by_outputs(self, order: exp.Order | None, outputs: tuple[Output, ...]) -> str:
        if order is None:
            return ""
        keys = []
        for item in order.expressions:
            place = _position(item.this)
            if place is None and isinstance(item.this, exp.Column):
                wanted = item.this.name.casefold()
                place = next((at for at, output in enumerate(outputs, 1) if output.name.casefold() == wanted), None)
            if place is None or not 1 <= place <= len(outputs):
                raise failed(1054, f"Unknown column '{item.this.sql('mysql')}' in 'order clause'")
            keys.append(f"{place}{outputs[place - 1].type.collation}{' DESC' if item.args.get('desc') else ''}")
        return f" ORDER BY {', '.join(keys)}"

    def _values_rows(self, node: exp.Values) -> Query:
        rows = []
        for row in node.expressions:
            items = row.expressions
            if len(items) == 1 and isinstance(items[0], exp.Anonymous) and str(items[0].this).upper() == "ROW":
                items = items[0].expressions
            rows.append([self.compile(item) for item in items])
        if any(len(row) != len(rows[0]) for row in rows):
            raise failed(1136, "Column count doesn't match value count at row 1")
        types = [merged([row[at].type for row in rows]) for at in range(len(rows[0]))]
        names = ", ".join(f"column{at + 1} AS c{at}" for at in range(len(types)))
        values = ", ".join(
            "(" + ", ".join(self.cast(value, kind) for value, kind in zip(row, types, strict=True)) + ")"
            for row in rows
        )
        outputs = tuple(Output(f"column_{at}", kind) for at, kind in enumerate(types))
        return Query(f"SELECT {names} FROM (VALUES {values})", outputs)


def _star(item: exp.Expr) -> bool:
    return isinstance(item, exp.Star) or (isinstance(item, exp.Column) and isinstance(item.this, exp.Star))


def _key(typed: Typed) -> str:
    """A key of GROUP BY or ORDER BY: SQLite reads a bare number as a place."""
    return f"0+{typed.sql}" if typed.sql.strip("()-").isdigit() else typed.collated


def _position(node: exp.Expr) -> int | None:
    if isinstance(node, exp.Literal) and not node.is_string and str(node.this).isdigit():
        return int(node.this)
    return None


def _count(node: exp.Expr) -> str:
    if not isinstance(node, exp.Literal) or node.is_string or not str(node.this).isdigit():
        raise syntax_error(node.sql("mysql")[:80])
    return str(min(int(node.this), 2**62))


def _limit_one(node: exp.Expr) -> bool:
    limit = node.args.get("limit")
    return limit is not None and isinstance(limit.expression, exp.Literal) and str(limit.expression.this) in ("0", "1")
