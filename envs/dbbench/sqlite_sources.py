"""FROM: tables, views, derived tables and their joins."""

# ruff: noqa: S608 - names are SQLite's own (t1, c0), values are parameters or escaped literals

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from envs.dbbench.backend import PUBLIC_NAME
from envs.dbbench.sqlite_calls import Calls
from envs.dbbench.sqlite_catalog import TableDef
from envs.dbbench.sqlite_errors import failed, syntax_error, unsupported
from envs.dbbench.sqlite_schema import schema_table
from envs.dbbench.sqlite_scope import Output, Scope, Source, literal

__all__ = ["Query", "Sources"]

_MAX_VIEWS = 20  # views within views


@dataclass(frozen=True, slots=True)
class Query:
    """A compiled query: its columns are called ``c0``, ``c1`` …; ``single``: it has at most one row."""

    sql: str
    outputs: tuple[Output, ...]
    single: bool = False


class Sources(Calls):
    """Enters what FROM names into the scope, and writes it in SQLite's words."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._named: dict[str, Source] = {}  # WITH
        self._depth = 0
        self.targets: set[str] = set()  # tables that the statement writes to, which its subqueries must not read

    def query(self, node: exp.Expr, names: tuple[str, ...] = ()) -> Query:
        """Any query. See ``Queries``."""
        raise NotImplementedError

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
