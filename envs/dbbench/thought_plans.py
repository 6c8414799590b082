"""What a statement sets out to do, in words: for thoughts. Import it late, as ``parsing.py``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from sqlglot import exp

from envs.dbbench.parsing import parse, tables_in

__all__ = ["Plan", "listed", "plan_of"]

_TABLES = re.compile(r"\s*SHOW\s+(?:FULL\s+)?TABLES\b|.*\binformation_schema\.tables\b", re.IGNORECASE | re.DOTALL)
_COLUMNS = re.compile(
    r"\s*(?:DESC|DESCRIBE|SHOW\s+(?:FULL\s+)?COLUMNS\s+FROM|SHOW\s+CREATE\s+TABLE)\s+(?P<name>`(?:[^`]|``)+`|\S+?)\s*;?\s*",
    re.IGNORECASE,
)
_MOST_NAMES = 8
_ORDINALS = {1: "second", 2: "third", 3: "fourth"}
_AGGREGATES: dict[type[exp.Expr], str] = {
    exp.Sum: "add up",
    exp.Avg: "take the mean of",
    exp.Min: "take the smallest",
    exp.Max: "take the largest",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """A statement's plan.

    ``kind``: ``tables``, ``columns``, ``rows`` (some of a whole table's), ``filtered_rows``, ``count`` (of all rows),
    ``values`` (of one column), ``query``, ``insert``, ``update``, ``delete`` or ``other``. ``columns``: those that are
    read or set; ``filters``: those that choose rows; ``count``: rows of an INSERT; ``words``: what a query does.
    """

    kind: str
    tables: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()
    count: int = 0
    words: str = ""

    @property
    def changes(self) -> bool:
        """Whether it changes rows."""
        return self.kind in ("insert", "update", "delete")


def listed(names: Sequence[str]) -> str:
    """Names in backticks: "`a`, `b` and `c`"; from the ninth on only their number."""
    ticked = ["`" + name.replace("\n", " ") + "`" for name in names[:_MOST_NAMES]]
    if len(names) > _MOST_NAMES:
        ticked.append(f"{len(names) - _MOST_NAMES} more")
    return _joined(ticked)


@lru_cache(maxsize=256)
def plan_of(query: str) -> Plan:
    """The plan of any text; ``other`` where it is none that is known."""
    if found := _COLUMNS.fullmatch(query):
        name = found["name"]
        return Plan("columns", (name[1:-1].replace("``", "`") if name.startswith("`") else name,))
    if len(query) < 500 and _TABLES.match(query):
        return Plan("tables")
    tree = parse(query)
    if tree is None:
        return Plan("other")
    tables = tables_in(tree)
    filters = _names(clause for clause in (tree.args.get("where"),) if clause is not None)
    if isinstance(tree, exp.Insert):
        columns = tuple(node.name for node in tree.this.expressions) if isinstance(tree.this, exp.Schema) else ()
        count = len(tree.expression.expressions) if isinstance(tree.expression, exp.Values) else 1
        return Plan("insert", tables, columns, (), count)
    if isinstance(tree, exp.Update):
        targets = [node.this for node in tree.expressions if isinstance(node, exp.EQ)]
        return Plan("update", tables, _names(targets), filters)
    if isinstance(tree, exp.Delete):
        return Plan("delete", tables, (), filters)
    if not isinstance(tree, exp.Select):
        return Plan("query", tables, words="put several results together")
    return Plan(
        _kind(tree, tables), tables, _names(tree.expressions), filters, words=_joined(list(_steps(tree, filters)))
    )


def _kind(tree: exp.Select, tables: Sequence[str]) -> str:
    clauses = [key for key in ("where", "group", "having", "joins", "order") if tree.args.get(key)]
    bare = len(tables) == 1 and not clauses
    first = tree.expressions[0] if len(tree.expressions) == 1 else None
    if isinstance(first, exp.Star) and (bare or clauses == ["where"]):
        return "rows" if bare else "filtered_rows"
    if bare and isinstance(first, exp.Count) and isinstance(first.this, exp.Star):
        return "count"
    if bare and isinstance(first, exp.Column) and tree.args.get("distinct"):
        return "values"
    return "query"


def _steps(tree: exp.Select, filters: Sequence[str]) -> Iterator[str]:
    """What a SELECT does, in the order in which one would think of it."""
    if tree.args.get("joins"):
        yield f"join {listed(tables_in(tree))}"
    if filters:
        yield f"filter by {listed(filters)}"
    group, having, order = (tree.args.get(key) for key in ("group", "having", "order"))
    if group is not None and (names := _names([group])):
        yield f"group by {listed(names)}"
    told = list(dict.fromkeys(filter(None, map(_aggregate, tree.expressions))))
    yield from told
    if having is not None:
        yield "keep the groups that fit"
    if order is not None:
        yield from _ordering(order, tree)
    if not told and (names := _names(tree.expressions)):
        yield f"read {listed(names)}"


def _aggregate(node: exp.Expr) -> str:
    found = next(node.find_all(exp.AggFunc), None)
    if isinstance(found, exp.Count):
        return "count the different values" if isinstance(found.this, exp.Distinct) else "count the rows"
    words = _AGGREGATES.get(type(found)) if found is not None else None
    names = _names([found]) if found is not None else ()
    return f"{words} {listed(names)}" if words and names else ""


def _ordering(order: exp.Expr, tree: exp.Select) -> Iterator[str]:
    names = _names([order])
    falling = any(node.args.get("desc") for node in order.find_all(exp.Ordered))
    yield f"order by {listed(names)}{', the highest first' if falling else ''}" if names else "order the groups"
    limit, offset = (_number(tree.args.get(key)) for key in ("limit", "offset"))
    if limit == 1:
        yield f"take the {_ORDINALS.get(offset, 'first') if offset else 'first'}"
    elif limit:
        yield f"take the first {limit}"


def _number(clause: exp.Expr | None) -> int:
    literal = clause.expression if clause is not None else None
    return int(literal.name) if isinstance(literal, exp.Literal) and literal.name.isdecimal() else 0


def _names(nodes: Iterable[exp.Expr]) -> tuple[str, ...]:
    """The columns named in some nodes, each once."""
    found = (column.name for node in nodes for column in node.find_all(exp.Column) if column.name)
    return tuple(dict.fromkeys(name for name in found if name != "*"))


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + f" and {parts[-1]}" if parts else ""
