"""Statements that nearly are the gold one, each with one mistake of the kind that policies make.

They are texts alone: whether one scores 0, and whether a database refuses a slip, is found out by running it
(``experts.py``). Import it late, as ``parsing.py``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from sqlglot import exp

from envs.dbbench.miss_columns import columns_of, known_names, wrong_columns
from envs.dbbench.parsing import parse, render
from envs.dbbench.tables import Table
from envs.draws import Draws

__all__ = ["NEAR_MISSES", "misses", "slips"]

_MOST = 12  # near misses of one statement that are worth a try

# Edits a node of a copy in place, or gives what stands in its place.
type _Edit = Callable[[exp.Expr], exp.Expr | None]
type _Make = Callable[[exp.Expr, Sequence[Table]], Iterator[exp.Expr]]


def misses(kind: str, statement: str, tables: Sequence[Table], draws: Draws) -> list[str]:
    """Near misses of a kind, at most 12, in a drawn order; none where the statement has nothing of that kind.

    ``wrong_column``: another column of the same type. ``missing_filter``: a condition of WHERE, HAVING or ON, DISTINCT,
    LIMIT or OFFSET, or a column of an INSERT left out. ``wrong_operator``: a comparison, an order, AND or arithmetic
    turned into another. ``wrong_aggregate``: another aggregate function.
    """
    tree = parse(statement)
    if tree is None:
        return []
    known = render(tree)
    found = dict.fromkeys(render(changed) for changed in _MAKERS[kind](tree, tables))
    found.pop(known, None)
    return draws.sample(list(found), _MOST)


def slips(statement: str, tables: Sequence[Table], draws: Draws) -> list[str]:
    """Versions of a statement that a database should refuse, in a drawn order.

    A name misspelt or without its backticks, a table that there is not, a keyword mistyped.
    """
    tree = parse(statement)
    if tree is None:
        return []
    found = [*map(render, _misspelt(tree, tables)), *_mistyped(render(tree))]
    return draws.sample(list(dict.fromkeys(found)), _MOST)


def _edits(tree: exp.Expr, kinds: type[exp.Expr], offer: Callable[[exp.Expr], Iterable[_Edit]]) -> Iterator[exp.Expr]:
    """A changed copy of the tree for every edit that is offered for a node of the kind."""
    for place, node in enumerate(tree.find_all(kinds)):
        for edit in offer(node):
            copy = tree.copy()
            twin = next(itertools.islice(copy.find_all(kinds), place, None))
            new = edit(twin)
            if new is not None:
                twin.replace(new)
            yield copy


# What is left out.


def _missing(tree: exp.Expr, tables: Sequence[Table]) -> Iterator[exp.Expr]:
    yield from _edits(tree, exp.Where, partial(_conditions, key="this"))
    yield from _edits(tree, exp.Having, partial(_conditions, key="this"))
    yield from _edits(tree, exp.Join, partial(_conditions, key="on"))
    yield from _edits(tree, exp.Distinct, _all)
    yield from _edits(tree, exp.Limit, lambda node: [_unlimited])
    yield from _edits(tree, exp.Offset, lambda node: [_drop])
    if isinstance(tree, exp.Insert):
        yield from _shorter_inserts(tree)


def _conditions(node: exp.Expr, *, key: str) -> Iterator[_Edit]:
    """Edits that leave out one conjunct of a clause, and with the last one the clause."""
    condition = node.args.get(key)
    for place in range(len(_conjuncts(condition)) if condition is not None else 0):
        yield partial(_leave_out, key=key, place=place)


def _conjuncts(condition: exp.Expr) -> list[exp.Expr]:
    return list(condition.flatten()) if isinstance(condition, exp.And) else [condition]


def _leave_out(node: exp.Expr, *, key: str, place: int) -> None:
    kept = [part.copy() for i, part in enumerate(_conjuncts(node.args[key])) if i != place]
    if kept:
        node.set(key, exp.and_(*kept, copy=False, wrap=False))
    elif key == "this":
        node.pop()
    else:
        node.set(key, None)


def _all(node: exp.Expr) -> Iterator[_Edit]:
    if not node.expressions:
        yield _drop
    elif len(node.expressions) == 1:  # within COUNT(DISTINCT …)
        yield lambda twin: twin.expressions[0].copy()


def _drop(node: exp.Expr) -> None:
    node.pop()


def _unlimited(node: exp.Expr) -> None:
    if node.parent is not None:
        node.parent.set("offset", None)  # MySQL has none without a LIMIT
    node.pop()


def _shorter_inserts(tree: exp.Insert) -> Iterator[exp.Expr]:
    schema, values = tree.this, tree.expression
    if not isinstance(schema, exp.Schema) or not isinstance(values, exp.Values):
        return
    width = len(schema.expressions)
    for place in range(width if width > 1 else 0):
        copy = tree.copy()
        for row in (copy.this, *copy.expression.expressions):
            if len(row.expressions) == width:
                row.expressions[place].pop()
        yield copy


# What is turned into another.

_OTHERS: Mapping[type[exp.Expr], Sequence[type[exp.Expr]]] = {
    exp.GT: (exp.GTE, exp.LT),
    exp.GTE: (exp.GT, exp.LTE),
    exp.LT: (exp.LTE, exp.GT),
    exp.LTE: (exp.LT, exp.GTE),
    exp.EQ: (exp.NEQ,),
    exp.NEQ: (exp.EQ,),
    exp.And: (exp.Or,),
    exp.Or: (exp.And,),
    exp.Add: (exp.Sub,),
    exp.Sub: (exp.Add,),
    exp.Mul: (exp.Add,),
    exp.Div: (exp.Mul,),
}


def _operators(tree: exp.Expr, tables: Sequence[Table]) -> Iterator[exp.Expr]:
    yield from _edits(tree, exp.Expr, _other_operators)
    yield from _edits(tree, exp.Between, lambda node: [_strictly_between, _from_low])
    yield from _edits(tree, exp.Ordered, lambda node: [_turn])
    yield from _edits(tree, exp.In, lambda node: [lambda twin: exp.Not(this=twin.copy())])


def _other_operators(node: exp.Expr) -> Iterator[_Edit]:
    # The = of SET assigns, and that of ON joins: turned round, they are another kind of mistake.
    if isinstance(node, exp.EQ) and isinstance(node.parent, exp.Update | exp.Join):
        return
    for other in _OTHERS.get(type(node), ()):
        yield partial(_as_binary, other)


def _as_binary(kind: type[exp.Expr], node: exp.Expr) -> exp.Expr:
    return kind(this=node.this.copy(), expression=node.expression.copy())


def _strictly_between(node: exp.Expr) -> exp.Expr:
    low = exp.GT(this=node.this.copy(), expression=node.args["low"].copy())
    high = exp.LT(this=node.this.copy(), expression=node.args["high"].copy())
    return exp.and_(low, high, copy=False, wrap=False)


def _from_low(node: exp.Expr) -> exp.Expr:
    return exp.GTE(this=node.this.copy(), expression=node.args["low"].copy())


def _turn(node: exp.Expr) -> None:
    falls = not node.args.get("desc")
    node.set("desc", falls)
    node.set("nulls_first", not falls)  # as MySQL has it; otherwise it is written out


_AGGREGATES: Mapping[type[exp.Expr], Sequence[type[exp.Expr]]] = {
    exp.Sum: (exp.Avg, exp.Max, exp.Count),
    exp.Avg: (exp.Sum, exp.Max, exp.Min),
    exp.Min: (exp.Max, exp.Avg),
    exp.Max: (exp.Min, exp.Avg),
}


def _aggregates(tree: exp.Expr, tables: Sequence[Table]) -> Iterator[exp.Expr]:
    names = [name for table in columns_of(tree, tables) for name in table.columns]
    yield from _edits(tree, exp.AggFunc, partial(_other_aggregates, names=names))


def _other_aggregates(node: exp.Expr, *, names: Sequence[str]) -> Iterator[_Edit]:
    if isinstance(node, exp.Count):
        columns = [exp.column(exp.to_identifier(name, quoted=True)) for name in names]
        counted = [node.this] if isinstance(node.this, exp.Column) else columns
        if isinstance(node.this, exp.Column | exp.Star):
            yield from (partial(_count_distinct, column) for column in counted)
    elif not isinstance(node.this, exp.Distinct):
        yield from (partial(_as_aggregate, other) for other in _AGGREGATES.get(type(node), ()))


def _count_distinct(column: exp.Expr, node: exp.Expr) -> exp.Expr:
    return exp.Count(this=exp.Distinct(expressions=[column.copy()]))


def _as_aggregate(kind: type[exp.Expr], node: exp.Expr) -> exp.Expr:
    return kind(this=node.this.copy())


_MAKERS: Mapping[str, _Make] = {
    "wrong_column": wrong_columns,
    "missing_filter": _missing,
    "wrong_operator": _operators,
    "wrong_aggregate": _aggregates,
}

NEAR_MISSES = tuple(_MAKERS)


# Slips.


def _misspelt(tree: exp.Expr, tables: Sequence[Table]) -> Iterator[exp.Expr]:
    taken = known_names(tables)
    names = {node.name for node in tree.find_all(exp.Identifier) if node.name.casefold() in taken}
    for name in sorted(names):
        if not name.isidentifier():
            yield _renamed(tree, name, name, quoted=False)
        for wrong in _spellings(name):
            if wrong.casefold() not in taken:
                yield _renamed(tree, name, wrong, quoted=True)


def _renamed(tree: exp.Expr, name: str, new: str, *, quoted: bool) -> exp.Expr:
    copy = tree.copy()
    for node in copy.find_all(exp.Identifier):
        if node.name == name:
            node.set("this", new)
            node.set("quoted", quoted)
    return copy


def _spellings(name: str) -> Iterator[str]:
    if " " in name:
        yield name.replace(" ", "_")
    elif "_" in name:
        yield name.replace("_", "")
    if name[-1].isalpha():
        yield name[:-1] if name.endswith("s") and len(name) > 3 else f"{name}s"
    if len(name) > 4:
        middle = len(name) // 2
        if name[middle] != " " and name[middle - 1] != " ":
            yield name[:middle] + name[middle + 1 :]


def _mistyped(text: str) -> Iterator[str]:
    for right, wrong in (("SELECT ", "SELCT "), ("UPDATE ", "UPDAT "), ("INSERT ", "INSRT "), ("DELETE ", "DELTE ")):
        if text.startswith(right):
            yield wrong + text.removeprefix(right)
    if text.endswith((")", "'")):
        yield text[:-1]
