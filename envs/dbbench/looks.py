"""What an explorer asks a database before and after the statements that matter. Import it late, as ``parsing.py``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlglot import exp

from envs.dbbench.parsing import parse, render, tables_in
from envs.dbbench.tables import Table, quote
from envs.dbbench.tasks import DbTask
from envs.draws import Draws

__all__ = ["concerned_tables", "explore"]

_TABLES = (
    "SHOW TABLES",
    "SHOW TABLES",
    "SHOW TABLES",
    # In order: a server lists them as it likes, and an episode must be the same when it is played again.
    "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() ORDER BY table_name",
)
_COLUMNS = ("DESCRIBE {}", "DESCRIBE {}", "SHOW COLUMNS FROM {}", "DESC {}")


@dataclass(frozen=True, slots=True)
class _Look:
    """A statement, and how soon it is given up where there is no room for all: the highest rank first."""

    query: str
    rank: int


def concerned_tables(task: DbTask) -> list[Table]:
    """The tables that the task's gold statements name, in their order; all where there are none that can be read."""
    by_name = {table.name.casefold(): table for table in task.tables}
    found: dict[str, Table] = {}
    for statement in task.gold_sql:
        tree = parse(statement)
        for name in tables_in(tree) if tree is not None else ():
            if name.casefold() in by_name:
                found.setdefault(name.casefold(), by_name[name.casefold()])
    return list(found.values()) or list(task.tables)


def explore(task: DbTask, draws: Draws, *, room: int) -> tuple[list[str], list[str]]:
    """Statements to run before the gold ones, and after them; at most ``room`` together.

    The tables, their columns and some of their rows; where a filter matters, the values of its column or the rows that
    will change; after a change, what has become of them. Which of these, and how they are put, is drawn.
    """
    before = list(_first_looks(concerned_tables(task), draws))
    trees = [tree for tree in map(parse, task.gold_sql) if tree is not None]
    after: list[_Look] = []
    if trees and task.mutates:
        before += [_Look(query, 3) for query in _rows_before(trees[0]) if draws.below(3)]
        after += [_Look(query, 3) for query in _check_after(trees[-1]) if draws.below(4)]
    elif trees:
        before += [_Look(query, 5) for query in _values(trees[-1]) if draws.below(3) == 0]
    while len(before) + len(after) > room:
        worst = max((*before, *after), key=lambda look: look.rank)
        (before if worst in before else after).remove(worst)
    return [look.query for look in before], [look.query for look in after]


def _first_looks(tables: Sequence[Table], draws: Draws) -> Iterator[_Look]:
    if len(tables) > 1 or draws.below(6):
        yield _Look(draws.choice(_TABLES), 2)
    for place, table in enumerate(tables):
        name = quote(table.name)
        described = draws.below(6) > 0
        if described:
            yield _Look(draws.choice(_COLUMNS).format(name), 1 + place)
        # Who skips the columns sees them in the rows.
        if not described or draws.below(5):
            yield _Look(f"SELECT * FROM {name} LIMIT {draws.choice((3, 3, 5))}", place)  # noqa: S608 - our own
        if draws.below(8) == 0:
            yield _Look(f"SELECT COUNT(*) FROM {name}", 6)  # noqa: S608 - our own


def _rows_before(tree: exp.Expr) -> Iterator[str]:
    """The rows that an UPDATE or DELETE by filter will change."""
    table, where = tree.this, tree.args.get("where")
    if isinstance(tree, exp.Update | exp.Delete) and _plain(tree, table) and where is not None:
        yield render(exp.select("*").from_(table.copy()).where(where.this.copy()).limit(10))


def _check_after(tree: exp.Expr) -> Iterator[str]:
    """What shows that a change has come about."""
    table, where = tree.this, tree.args.get("where")
    if isinstance(tree, exp.Delete) and _plain(tree, table) and where is not None:
        yield render(exp.select("COUNT(*)").from_(table.copy()).where(where.this.copy()))
    elif isinstance(tree, exp.Update) and _plain(tree, table) and where is not None:
        assigned = {node.this.name.casefold() for node in tree.expressions if isinstance(node, exp.EQ)}
        condition = where.this
        if assigned & {column.name.casefold() for column in condition.find_all(exp.Column)}:
            condition = tree.expressions[0]  # the filter no longer finds the rows; the new value does
        if isinstance(condition, exp.EQ) and isinstance(condition.expression, exp.Null):
            return
        yield render(exp.select("*").from_(table.copy()).where(condition.copy()).limit(10))
    elif isinstance(tree, exp.Insert) and isinstance(table, exp.Schema) and isinstance(tree.expression, exp.Values):
        first = tree.expression.expressions[0].expressions
        for column, value in zip(table.expressions, first, strict=False):
            if isinstance(value, exp.Literal):
                name = exp.column(exp.to_identifier(column.name, quoted=True))
                same = exp.EQ(this=name, expression=value.copy())
                yield render(exp.select("*").from_(table.this.copy()).where(same).limit(5))
                return


def _values(tree: exp.Expr) -> Iterator[str]:
    """How the values of a filtered column are spelt."""
    tables = list(tree.find_all(exp.Table))
    if not isinstance(tree, exp.Select) or len(tables) != 1:
        return
    where = tree.args.get("where")
    for node in where.find_all(exp.EQ) if where is not None else ():
        if isinstance(node.this, exp.Column) and isinstance(node.expression, exp.Literal) and node.expression.is_string:
            column = exp.column(exp.to_identifier(node.this.name, quoted=True))
            yield render(exp.select(column).distinct().from_(tables[0].copy()).limit(10))
            return


def _plain(tree: exp.Expr, table: object) -> bool:
    """Whether a change concerns one table, without joins."""
    return isinstance(table, exp.Table) and not table.args.get("joins") and not tree.args.get("from_")
