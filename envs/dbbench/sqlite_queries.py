"""MySQL's queries as SQLite's: FROM with its joins, grouping with MySQL's strictness, UNION, WITH."""

# ruff: noqa: S608 - names are SQLite's own (t1, c0), values literals that are escaped here

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from envs.dbbench.backend import PUBLIC_NAME
from envs.dbbench.sqlite_calls import Calls
from envs.dbbench.sqlite_catalog import TableDef
from envs.dbbench.sqlite_errors import failed, syntax_error, unsupported
from envs.dbbench.sqlite_schema import schema_table
from envs.dbbench.sqlite_scope import Output, Scope, Source, Typed, literal
from envs.dbbench.sqlite_types import SqlType, merged

__all__ = ["Queries", "Query"]

_SETS = {exp.Union: "UNION", exp.Except: "EXCEPT", exp.Intersect: "INTERSECT"}
_MAX_VIEWS = 20  # views within views


@dataclass(frozen=True, slots=True)
class Query:
    """A compiled query: its columns are called ``c0``, ``c1`` …; ``single``: it has at most one row."""

    sql: str
    outputs: tuple[Output, ...]
    single: bool = False


class Queries(Calls):
    """Compiles queries."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._named: dict[str, Source] = {}  # WITH
        self._depth = 0
        self.targets: set[str] = set()  # tables that the statement writes to, which its subqueries must not read

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
        where = self._where(node)
        scope.aliases = {output.name.casefold(): typed for output, typed in reversed(columns) if output.name}
        groups = self._groups(node, columns)
        having = self._having(node, columns, groups)
        scope.free = []
        order = self._order(node.args.get("order"), columns)
        grouped = bool(groups) or scope.aggregates > 0
        if grouped:
            self._check_groups(node, groups, columns, frees, scope.free)
        distinct = node.args.get("distinct") is not None
        shown = ", ".join(
            f"{typed.sql if typed.column or not distinct else typed.collated} AS c{at}"
            for at, (_, typed) in enumerate(columns)
        )
        sql = f"SELECT {'DISTINCT ' if distinct else ''}{shown}{tables}{where}"
        if groups:
            sql += f" GROUP BY {', '.join(_key(group) for group in groups)}"
            order = order or self._appearance(columns)
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

    def _appearance(self, columns: list[tuple[Output, Typed]]) -> str:
        """Groups in the order in which MySQL meets them, where the rows of the first table tell it."""
        if not self.scope.sources or self.scope.sorts:
            return ""
        source = self.scope.sources[0]
        if source.table is None:
            return ""
        key = source.table.row_key
        if key == ("rowid",) or (len(key) == 1 and source.table.column(source.table.primary[0]).type.kind == "int"):
            return f" ORDER BY min({source.inner}.{key[0]})"
        return ""

    def _check_groups(
        self,
        node: exp.Select,
        groups: list[Typed],
        columns: list[tuple[Output, Typed]],
        frees: list[list[Typed]],
        ordered: list[Typed],
    ) -> None:
        """ONLY_FULL_GROUP_BY: what is shown must be grouped by, or hang on what is."""
        known = {group.sql for group in groups} | self._constants(node)
        whole = {
            source.inner
            for source in self.scope.sources
            if source.table is not None
            and source.table.primary
            and all(f"{source.inner}.{key}" in known for key in source.table.row_key)
        }
        spelled = [group.sql for group in groups if not group.column]
        for place, ((_, typed), free) in enumerate(zip(columns, frees, strict=True), start=1):
            rest = typed.sql
            for text in spelled:
                rest = rest.replace(text, "")
            for column in free:
                if column.sql in known or column.sql.partition(".")[0] in whole:
                    continue
                if re.search(rf"\b{re.escape(column.sql)}\b", rest):
                    raise _not_grouped(f"Expression #{place} of SELECT list", column, bool(groups))
        for column in ordered:
            if groups and column.sql not in known and column.sql.partition(".")[0] not in whole and not spelled:
                raise _not_grouped("Expression #1 of ORDER BY clause", column, True)

    def _constants(self, node: exp.Select) -> set[str]:
        """Columns that WHERE ties to a value."""
        where = node.args.get("where")
        found = set()
        for part in where.this.flatten() if where is not None and isinstance(where.this, exp.And) else []:
            found |= self._constant(part)
        if where is not None and isinstance(where.this, exp.EQ):
            found |= self._constant(where.this)
        return found

    def _constant(self, part: exp.Expr) -> set[str]:
        while isinstance(part, exp.Paren):
            part = part.this
        if isinstance(part, exp.EQ):
            for one, two in ((part.this, part.expression), (part.expression, part.this)):
                if isinstance(one, exp.Column) and isinstance(two, exp.Literal):
                    return {self.scope.column(one.name, one.table, "where clause").sql}
        return set()

    def _limit(self, node: exp.Expr) -> str:
        limit, offset = node.args.get("limit"), node.args.get("offset")
        if limit is None:
            return ""
        texts = [_count(limit.expression)]
        if offset is not None:
            texts.append(_count(offset.expression))
        return " LIMIT " + " OFFSET ".join(texts)

    # FROM.

    def _from(self, node: exp.Expr) -> str:
        source = node.args.get("from_")
        if source is None:
            return ""
        first = source.this
        if isinstance(first, exp.Table) and first.name.upper() == "DUAL" and not first.this.args.get("quoted"):
            return ""
        return " FROM " + self.tables(first, [*(first.args.get("joins") or ()), *(node.args.get("joins") or ())])

    def tables(self, first: exp.Expr, joins: list[exp.Expr]) -> str:
        """FROM's first table and its joins; enters them into the scope."""
        text = self.table(first)
        for join in joins:
            text += self._join(join)
        return text

    def _join(self, join: exp.Expr) -> str:
        scope = self.scope
        before = list(scope.sources)
        side = str(join.args.get("side") or "").upper()
        kind = str(join.args.get("kind") or "").upper()
        method = str(join.args.get("method") or "").upper()
        if kind in ("SEMI", "ANTI") or side == "FULL":
            raise syntax_error("JOIN")
        inner = join.this
        text = self.table(inner)
        inner_joins = inner.args.get("joins") if isinstance(inner, exp.Table) else None
        if inner_joins:
            raise unsupported("joined tables in brackets")
        using = [item.name for item in join.args.get("using") or ()]
        new = scope.sources[len(before) :]
        if method == "NATURAL":
            using = [output.name for output in new[0].outputs if any(source.find(output.name) for source in before)]
        self.clause = "on clause"
        condition = ""
        if using:
            condition = " ON " + " AND ".join(self._merged(name, before, new[0], side) for name in using)
        elif join.args.get("on") is not None:
            condition = f" ON {self.truth(join.args['on'])}"
        word = f" {side} JOIN " if side else " JOIN " if condition else " CROSS JOIN "
        if side and not condition:
            raise syntax_error("")
        return word + text + condition

    def _merged(self, name: str, before: list[Source], new: Source, side: str) -> str:
        left = next((found for source in before if (found := source.find(name)) is not None), None)
        right = new.find(name)
        if left is None or right is None:
            raise failed(1054, f"Unknown column '{name}' in 'from clause'")
        if side == "RIGHT":
            for source in before:
                source.hidden.add(name.casefold())
        else:
            new.hidden.add(name.casefold())
        return self.compared("=", left, right)

    def table(self, node: exp.Expr) -> str:
        """One table, view or query of FROM; enters it into the scope."""
        alias = node.args.get("alias")
        name = alias.name if alias is not None else ""
        if isinstance(node, exp.Lateral):
            return self._derived(node.this, name, ())
        if isinstance(node, (exp.Subquery, exp.Values)):
            if isinstance(node.this, exp.Table):
                return self.tables(node.this, node.this.args.get("joins") or [])
            names = tuple(column.name for column in alias.args.get("columns") or ()) if alias is not None else ()
            inner = node.this if isinstance(node, exp.Subquery) and not node.args.get("order") else node
            return self._derived(inner, name, names)
        if not isinstance(node, exp.Table) or not isinstance(node.this, exp.Identifier):
            raise unsupported("table function")
        return self._table(node, name)

    def _table(self, node: exp.Table, alias: str) -> str:
        name, schema = node.name, node.db
        if schema.lower() == "information_schema":
            return self._listed(name, alias or name)
        if schema:
            self.state.own_schema(schema, name)
        elif name in self._named:
            known = self._named[name]
            inner = self.state.alias()
            self._enter(Source(alias or name, inner, known.outputs, known.inners))
            return f"{known.inner} AS {inner}"
        view = self.state.catalog.views.get(name)
        if view is not None and self.state.catalog.table(name) is None:
            if self._depth > _MAX_VIEWS:
                raise failed(1462, f"`{PUBLIC_NAME}`.`{name}` contains view recursion")
            return self._derived(view.query, alias or name, view.columns, isolated=True)
        table = self.state.catalog.need(name)
        if table.inner in self.targets:
            raise failed(1093, f"You can't specify target table '{name}' for update in FROM clause")
        source = self.source_of(table, alias or name)
        self._enter(source)
        return f"{table.inner} AS {source.inner}"

    def source_of(self, table: TableDef, name: str) -> Source:
        """A table as a source under a name."""
        outputs = tuple(Output(column.name, column.type) for column in table.columns)
        return Source(name, self.state.alias(), outputs, tuple(column.inner for column in table.columns), table)

    def _listed(self, name: str, alias: str) -> str:
        outputs, rows = schema_table(self.state, name)
        inner = self.state.alias()
        inners = tuple(f"c{at}" for at in range(len(outputs)))
        self._enter(Source(alias, inner, outputs, inners))
        names = ", ".join(f"column{at + 1} AS c{at}" for at in range(len(outputs)))
        values = ", ".join("(" + ", ".join(literal(value) for value in row) + ")" for row in rows)
        if not rows:
            values = "(" + ", ".join(["NULL"] * len(outputs)) + ")"
        return f"(SELECT {names} FROM (VALUES {values}){'' if rows else ' WHERE 0'}) AS {inner}"

    def _derived(self, query: exp.Expr, name: str, names: tuple[str, ...], isolated: bool = False) -> str:
        if not name:
            raise failed(1248, "Every derived table must have its own alias")
        outer, named, targets = self.scope, self._named, self.targets
        self.targets = set()
        # A derived table does not see the tables beside it; a view not even the queries around it.
        self.scope = Scope(parent=None if isolated else outer.parent)
        if isolated:
            self._named = {}
        try:
            found = self.query(query, names)
        finally:
            self.scope, self._named, self.targets = outer, named, targets
        seen: set[str] = set()
        for output in found.outputs:
            if output.name.casefold() in seen:
                raise failed(1060, f"Duplicate column name '{output.name}'")
            seen.add(output.name.casefold())
        inner = self.state.alias()
        self._enter(Source(name, inner, found.outputs, tuple(f"c{at}" for at in range(len(found.outputs)))))
        return f"({found.sql}) AS {inner}"

    def _enter(self, source: Source) -> None:
        if any(other.name == source.name for other in self.scope.sources):
            raise failed(1066, f"Not unique table/alias: '{source.name}'")
        self.scope.sources.append(source)

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


def _not_grouped(where: str, column: Typed, grouped: bool) -> Exception:
    if not grouped:
        place = where[0].lower() + where[1:]
        return failed(1140, f"In aggregated query without GROUP BY, {place} contains nonaggregated column "
                      f"'{column.column}'; this is incompatible with sql_mode=only_full_group_by")  # fmt: skip
    return failed(1055, f"{where} is not in GROUP BY clause and contains nonaggregated column '{column.column}' "
                  "which is not functionally dependent on columns in GROUP BY clause; this is incompatible with "
                  "sql_mode=only_full_group_by")  # fmt: skip
