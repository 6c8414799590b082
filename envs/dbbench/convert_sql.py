"""SQLite's gold statements in MySQL's words, and what kind of question they answer.

sqlglot parses and writes; what the two servers mean differently by the same words is mended here: text in double
quotes, the case of tables' names, division of whole numbers, columns beside GROUP BY. Import it only where it is used:
sqlglot takes 0.3 s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlglot
from sqlglot import exp
from sqlglot.errors import ErrorLevel, SqlglotError

__all__ = ["NoMysqlForm", "Schema", "Statement", "read_statement"]

type Schema = Mapping[str, Mapping[str, str]]
"""Declared types by table and column, as the database spells them."""

_COMPARISONS = (exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between)
_AGGREGATIONS: Sequence[tuple[type[exp.Expression], str]] = (
    (exp.Count, "counting"),
    (exp.Sum, "aggregation-SUM"),
    (exp.Min, "aggregation-MIN"),
    (exp.Max, "aggregation-MAX"),
    (exp.Avg, "aggregation-AVG"),
)
_CLOCK_AND_CHANCE = (exp.CurrentDate, exp.CurrentTime, exp.CurrentTimestamp, exp.Rand)
_HIDDEN = frozenset({"rowid", "_rowid_", "oid"})


class NoMysqlForm(Exception):
    """Why a statement is left out; never its text."""


class Statement:
    """One query of SQLite's, with the tables that it reads. ``tables`` are spelled as the schema spells them."""

    def __init__(self, tree: exp.Query, schema: Schema) -> None:
        self._tree = tree
        self._schema = schema
        self._ctes = {cte.alias.casefold(): cte.alias for cte in tree.find_all(exp.CTE)}
        known = {name.casefold(): name for name in schema}
        tables: list[str] = []
        for node in tree.find_all(exp.Table):
            key = node.name.casefold()
            if key in self._ctes:
                continue
            if not isinstance(node.this, exp.Identifier) or key not in known:
                raise NoMysqlForm("it reads a table that the database does not have")
            if known[key] not in tables:
                tables.append(known[key])
        if not tables:
            raise NoMysqlForm("it reads no table")
        self.tables: tuple[str, ...] = tuple(tables)
        self._columns = {column.casefold() for name in tables for column in schema[name]}

    @property
    def kind(self) -> str:
        """AgentBench's type of such a question, by its outer shape."""
        tree = self._tree
        if isinstance(tree, exp.Select):
            if tree.args.get("order") and tree.args.get("limit"):
                return "ranking"
            if len(tree.expressions) == 1:
                found = tree.expressions[0].unalias()
                for kind, name in _AGGREGATIONS:
                    if isinstance(found, kind) and not found.args.get("expressions"):
                        return name
        for name in ("where", "having"):
            clause = tree.args.get(name)
            if clause is not None and clause.find(*_COMPARISONS) is not None:
                return "comparison"
        return "other"

    def mysql(self, *, widen_groups: bool = False) -> str:
        """The statement in MySQL's dialect, every name quoted. Raises NoMysqlForm.

        ``widen_groups`` adds columns that are selected beside aggregates to GROUP BY, where MySQL wants to see them.
        Whether the statement then still finds the same must be tried.
        """
        return self._written("mysql", widen_groups=widen_groups)

    def sqlite(self, *, widen_groups: bool = False) -> str:
        """The same statement for SQLite, to try what ``widen_groups`` changes."""
        return self._written("sqlite", widen_groups=widen_groups)

    def _written(self, dialect: str, *, widen_groups: bool) -> str:
        tree = self._tree.copy()
        self._spell_names(tree)
        self._refuse(tree)
        if dialect == "mysql":
            self._divide(tree)
        if widen_groups:
            for select in list(tree.find_all(exp.Select)):
                _widen(select)
        for number, subquery in enumerate(tree.find_all(exp.Subquery), start=1):
            if isinstance(subquery.parent, (exp.From, exp.Join)) and not subquery.alias:
                subquery.set("alias", exp.TableAlias(this=exp.to_identifier(f"derived_{number}")))
        try:
            return str(tree.sql(dialect, identify=True, unsupported_level=ErrorLevel.RAISE))
        except (SqlglotError, RecursionError):
            raise NoMysqlForm("MySQL has no such construct") from None

    def _spell_names(self, tree: exp.Query) -> None:
        """Tables as the schema spells them, aliases in lower case: both are told apart by case on MySQL. A name in
        double quotes that no column has is a text, as SQLite reads it.
        """
        spelled = {name.casefold(): name for name in self._schema}
        aliases = {node.alias.casefold() for node in tree.find_all(exp.Table, exp.Subquery, exp.CTE) if node.alias}
        outputs = {node.alias.casefold() for node in tree.find_all(exp.Alias)}
        for table in tree.find_all(exp.Table):
            key = table.name.casefold()
            table.this.set("this", key if key in self._ctes else spelled.get(key, table.name))
        for alias in tree.find_all(exp.TableAlias):
            if alias.this is not None:
                alias.this.set("this", alias.name.casefold())
        for column in list(tree.find_all(exp.Column)):
            if column.table:
                key = column.table.casefold()
                column.args["table"].set("this", key if key in aliases else spelled.get(key, column.table))
                continue
            identifier = column.this
            if not isinstance(identifier, exp.Identifier) or column.name.casefold() in self._columns | outputs:
                continue
            if column.name.casefold() in _HIDDEN:
                raise NoMysqlForm("it reads SQLite's hidden row number")
            if identifier.args.get("quoted"):
                column.replace(exp.Literal.string(column.name))

    @staticmethod
    def _refuse(tree: exp.Query) -> None:
        if tree.find(*_CLOCK_AND_CHANCE) is not None:
            raise NoMysqlForm("it depends on the time or on chance")
        for literal in tree.find_all(exp.Literal):
            if literal.is_string and literal.this.casefold() == "now" and isinstance(literal.parent, exp.Func):
                raise NoMysqlForm("it depends on the time or on chance")
        if tree.find(exp.Anonymous, exp.Glob, exp.Typeof) is not None:
            raise NoMysqlForm("it calls a function of SQLite's own")
        for call in tree.find_all(exp.Date, exp.TsOrDsToDate):
            if call.args.get("expressions"):
                raise NoMysqlForm("it calls a function of SQLite's own")

    def _divide(self, tree: exp.Query) -> None:
        """``/`` of two whole numbers is DIV: SQLite gives a whole number there, MySQL does not."""
        integers = {
            column.casefold()
            for name in self.tables
            for column, declared in self._schema[name].items()
            if "INT" in declared.upper()
        }
        others = {
            column.casefold()
            for name in self.tables
            for column, declared in self._schema[name].items()
            if "INT" not in declared.upper()
        }
        certain = integers - others
        for division in reversed(list(tree.find_all(exp.Div))):
            if _is_whole(division.this, certain) and _is_whole(division.expression, certain):
                division.replace(exp.IntDiv(this=division.this.copy(), expression=division.expression.copy()))


def _is_whole(node: exp.Expression, columns: set[str]) -> bool:
    """Whether it is surely a whole number in SQLite."""
    match node:
        case exp.Literal():
            return bool(node.is_int)
        case exp.Column():
            return node.name.casefold() in columns
        case exp.Count() | exp.Length():
            return True
        case exp.Sum() | exp.Max() | exp.Min() | exp.Abs() | exp.Neg() | exp.Paren() | exp.Distinct():
            inner = node.expressions if isinstance(node, exp.Distinct) else [node.this, *(node.expressions or ())]
            return all(_is_whole(item, columns) for item in inner)
        case exp.Add() | exp.Sub() | exp.Mul() | exp.IntDiv() | exp.Div():
            return _is_whole(node.this, columns) and _is_whole(node.expression, columns)
        case exp.Cast():
            return node.to.is_type(*exp.DataType.INTEGER_TYPES)
        case exp.Case():
            branches = [branch.args["true"] for branch in node.args.get("ifs", ())]
            default = node.args.get("default")
            return all(_is_whole(item, columns) for item in (*branches, *([default] if default else [])))
        case _:
            return False


def _widen(select: exp.Select) -> None:
    group = select.args.get("group")
    if group is None or not group.expressions:
        return
    there = {item.sql() for item in group.expressions}
    order = select.args.get("order")
    shown = [item.unalias() for item in select.expressions] + [
        item.this for item in (order.expressions if order else ())
    ]
    for item in shown:
        for column in [item] if isinstance(item, exp.Column) else item.find_all(exp.Column):
            inside = column.find_ancestor(exp.AggFunc, exp.Select)
            outputs = {one.alias.casefold() for one in select.expressions if isinstance(one, exp.Alias)}
            alias = not column.table and column.name.casefold() in outputs
            if isinstance(inside, exp.AggFunc) or inside is not select or alias or column.sql() in there:
                continue
            there.add(column.sql())
            group.append("expressions", column.copy())


def read_statement(sql: str, schema: Schema) -> Statement:
    """One query. Raises NoMysqlForm where the text is none, or reads what the schema does not have."""
    try:
        found = [tree for tree in sqlglot.parse(sql, read="sqlite") if tree is not None]
    except (SqlglotError, RecursionError):
        raise NoMysqlForm("it cannot be parsed") from None
    if len(found) != 1 or not isinstance(found[0], exp.Query):
        raise NoMysqlForm("it is not one query")
    return Statement(found[0], schema)
