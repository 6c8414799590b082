"""Queries and changes as SQL: one sqlglot expression each, written in MySQL's dialect and in SQLite's.

Imported where it is needed: sqlglot takes a third of a second to load.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Literal

from sqlglot import exp
from sqlglot.dialects.mysql import MySQL
from sqlglot.dialects.sqlite import SQLite

from envs.dbbench.generator_change import Arithmetic, Change, Delete, Insert, Update
from envs.dbbench.generator_query import Condition, Difference, Having, Query, Ref, Term
from envs.dbbench.generator_scene import Field, Scene

__all__ = ["change_expression", "query_expression", "write"]

# Made here: while one thread loads a dialect, sqlglot's registry gives it to others by its name before it is whole.
_DIALECTS = {"mysql": MySQL(), "sqlite": SQLite()}
_COMPARE: dict[str, type[exp.Expression]] = {
    "=": exp.EQ, "<>": exp.NEQ, ">": exp.GT, ">=": exp.GTE, "<": exp.LT, "<=": exp.LTE,
}  # fmt: skip
_FUNCTIONS: dict[str, type[exp.Expression]] = {
    "COUNT": exp.Count, "SUM": exp.Sum, "MIN": exp.Min, "MAX": exp.Max, "AVG": exp.Avg,
}  # fmt: skip


def write(tree: exp.Expression, dialect: Literal["mysql", "sqlite"]) -> str:
    """The statement's text, in one line."""
    # A generator of its own: one that is shared holds state between threads. The tree is ours: no copy.
    return _DIALECTS[dialect].generator().generate(tree, copy=False)


def query_expression(scene: Scene, query: Query | Difference) -> exp.Expression:
    """The query as a SELECT."""
    if isinstance(query, Difference):
        one, two = (
            exp.Subquery(this=_Writer(scene, qualified=bool(part.joins)).select(part, numbers=True))
            for part in (query.first, query.second)
        )
        return exp.Select(expressions=[exp.Abs(this=exp.Sub(this=one, expression=two))])
    return _Writer(scene, qualified=bool(query.joins)).select(query)


def change_expression(scene: Scene, change: Change) -> exp.Expression:
    """The change as a statement."""
    writer = _Writer(scene, qualified=False, changed=change.table)
    table = scene.tables[change.table]
    match change:
        case Insert(columns=columns, rows=rows):
            names = [_name(table.fields[column].name) for column in columns]
            tuples = [
                exp.Tuple(expressions=[writer.value(table.fields[c], v) for c, v in zip(columns, row, strict=True)])
                for row in rows
            ]
            target = exp.Schema(this=_table(table.table.name), expressions=names)
            return exp.Insert(this=target, expression=exp.Values(expressions=tuples))
        case Update(sets=sets, where=where):
            assigned: list[exp.Expression] = [
                exp.EQ(this=writer.column(Ref(change.table, column)), expression=writer.new(column, value))
                for column, value in sets
            ]
            return exp.Update(this=_table(table.table.name), expressions=assigned, where=writer.where(where))
        case Delete(where=where):
            return exp.Delete(this=_table(table.table.name), where=writer.where(where))


def _name(name: str) -> exp.Identifier:
    return exp.Identifier(this=name, quoted=True)


def _table(name: str) -> exp.Table:
    return exp.Table(this=_name(name))


def _string(text: str) -> exp.Literal:
    return exp.Literal.string(text)


def _number(text: str) -> exp.Expression:
    if text.startswith("-"):
        return exp.Neg(this=exp.Literal.number(text[1:]))
    return exp.Literal.number(text)


def _cast(inner: exp.Expression, places: int) -> exp.Expression:
    if not places:
        return exp.Cast(this=inner, to=exp.DataType(this=exp.DataType.Type.BIGINT))
    size = [exp.DataTypeParam(this=exp.Literal.number(number)) for number in (20, places)]
    return exp.Cast(this=inner, to=exp.DataType(this=exp.DataType.Type.DECIMAL, expressions=size))


class _Writer:
    """Expressions of one statement. ``changed``: the table that it changes, which MySQL does not let a plain subquery
    read.
    """

    def __init__(self, scene: Scene, *, qualified: bool, changed: int | None = None) -> None:
        self._scene = scene
        self._qualified = qualified
        self._changed = changed

    def field(self, ref: Ref) -> Field:
        return self._scene.tables[ref.table].fields[ref.column]

    def column(self, ref: Ref) -> exp.Expression:
        table = _name(self._scene.tables[ref.table].table.name) if self._qualified else None
        return exp.Column(this=_name(self.field(ref).name), table=table)

    def number(self, ref: Ref) -> exp.Expression:
        """The column, as a number where it holds numbers."""
        field, column = self.field(ref), self.column(ref)
        if not field.numeric or not field.text:
            return column
        if field.thousands:
            column = exp.Replace(this=column, expression=_string(","), replacement=_string(""))
        return _cast(column, field.places)

    def term(self, term: Term) -> exp.Expression:
        if isinstance(term, Ref):
            return self.column(term)
        if term.ref is None:
            return exp.Count(this=exp.Star())
        # What is only counted needs no number.
        inner = self.column(term.ref) if term.function == "COUNT" else self.number(term.ref)
        return _FUNCTIONS[term.function](this=exp.Distinct(expressions=[inner]) if term.distinct else inner)

    def select(self, query: Query, *, numbers: bool = False) -> exp.Select:
        """The query. ``numbers``: what it finds is calculated with or compared, so that text becomes a number."""
        tables = self._scene.tables
        joins = [self._join(query, position) for position in range(len(query.joins))]
        order = None
        if query.order is not None:
            by = self.number(query.order) if isinstance(query.order, Ref) else self.term(query.order)
            order = exp.Order(
                expressions=[exp.Ordered(this=by, desc=query.descending, nulls_first=not query.descending)]
            )
        return exp.Select(
            expressions=[
                self.number(term) if numbers and isinstance(term, Ref) else self.term(term) for term in query.select
            ],
            distinct=exp.Distinct() if query.distinct else None,
            from_=exp.From(this=_table(tables[query.base].table.name)),
            joins=joins,
            where=self.where(query.where),
            group=exp.Group(expressions=[self.column(query.group)]) if query.group is not None else None,
            having=self._having(query.having),
            order=order,
            limit=exp.Limit(expression=exp.Literal.number(query.limit)) if query.limit is not None else None,
            offset=exp.Offset(expression=exp.Literal.number(query.offset)) if query.offset else None,
        )

    def _join(self, query: Query, position: int) -> exp.Join:
        join = query.joins[position]
        present = {query.base}
        for earlier in query.joins[:position]:
            present |= {earlier.child, earlier.parent}
        new = join.parent if join.child in present else join.child
        on = exp.EQ(this=self.column(Ref(join.child, join.column)), expression=self.column(Ref(join.parent, 0)))
        return exp.Join(this=_table(self._scene.tables[new].table.name), on=on)

    def _having(self, having: Having | None) -> exp.Having | None:
        if having is None:
            return None
        return exp.Having(this=_COMPARE[having.op](this=self.term(having.agg), expression=_number(having.value)))

    def where(self, conditions: Sequence[Condition]) -> exp.Where | None:
        if not conditions:
            return None
        return exp.Where(this=reduce(lambda a, b: exp.And(this=a, expression=b), map(self.condition, conditions)))

    def condition(self, condition: Condition) -> exp.Expression:
        field, op, value = self.field(condition.ref), condition.op, condition.value
        column = self.column(condition.ref)
        number = self.number(condition.ref)
        match value:
            case Query():
                return _COMPARE[op](this=number, expression=self._subquery(value))
            case (low, high) if op == "between":
                return exp.Between(this=number, low=self.literal(field, low), high=self.literal(field, high))
            case tuple():
                return exp.In(this=number, expressions=[self.literal(field, text) for text in value])
        match op:
            case "null":
                return exp.Is(this=column, expression=exp.Null())
            case "not null":
                return exp.Not(this=exp.Is(this=column, expression=exp.Null()))
            case "contains":
                return exp.Like(this=column, expression=_string(f"%{value}%"))
            case "year" if not field.text:
                return exp.EQ(this=exp.Year(this=column), expression=_number(value))
            case "year":
                return exp.Like(this=column, expression=_string(f"% {value}" if field.long else f"{value}-%"))
        return _COMPARE[op](this=number, expression=self.literal(field, value))

    def _subquery(self, query: Query) -> exp.Expression:
        inner = _Writer(self._scene, qualified=bool(query.joins)).select(query, numbers=True)
        if query.base == self._changed:  # error 1093: a table cannot be changed and read by a plain subquery
            inner.set("expressions", [exp.Alias(this=inner.expressions[0], alias=_name("value"))])
            derived = exp.Subquery(this=inner, alias=exp.TableAlias(this=_name("found")))
            inner = exp.Select(expressions=[exp.Column(this=_name("value"))], from_=exp.From(this=derived))
        return exp.Subquery(this=inner)

    @staticmethod
    def literal(field: Field, text: str) -> exp.Expression:
        return _number(text) if field.numeric else _string(text)

    def value(self, field: Field, value: str | Query | None) -> exp.Expression:
        if isinstance(value, Query):
            return self._subquery(value)
        if value is None:
            return exp.Null()
        return _number(value) if field.numeric and not field.text else _string(value)

    def new(self, column: int, value: str | Arithmetic | None) -> exp.Expression:
        assert self._changed is not None
        ref = Ref(self._changed, column)
        if not isinstance(value, Arithmetic):
            return self.value(self.field(ref), value)
        kinds: dict[str, type[exp.Expression]] = {"+": exp.Add, "-": exp.Sub, "*": exp.Mul}
        return kinds[value.op](this=self.number(ref), expression=_number(value.amount))
