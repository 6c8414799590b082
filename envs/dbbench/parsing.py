"""SQL read by sqlglot: for experts, thoughts and shaping. Import it late: loading sqlglot takes a third of a second.

A statement may be anything that a model writes, so its length and depth are bounded, and what cannot be read is None.
"""

from __future__ import annotations

import re

from sqlglot import exp
from sqlglot.dialects.mysql import MySQL
from sqlglot.errors import ErrorLevel, SqlglotError

__all__ = ["MAX_STATEMENT", "parse", "render", "tables_in"]

MAX_STATEMENT = 5000
"""Characters of the longest statement that is read."""

_DEPTH = 60
# sqlglot logs the text of a statement that it does not know, and a statement may hold a gold answer.
_READ = re.compile(r"[\s(]*(?:SELECT|WITH|INSERT|UPDATE|DELETE)\b", re.IGNORECASE)


def parse(statement: str) -> exp.Expr | None:
    """The tree of one SELECT, INSERT, UPDATE or DELETE in MySQL's dialect; None for all else."""
    if len(statement) > MAX_STATEMENT or not _READ.match(statement) or _depth(statement) > _DEPTH:
        return None
    try:
        found = [tree for tree in MySQL().parse(statement) if tree is not None]
    except (SqlglotError, RecursionError, ValueError):
        return None
    known = (exp.Query, exp.Insert, exp.Update, exp.Delete)
    return found[0] if len(found) == 1 and isinstance(found[0], known) else None


def render(tree: exp.Expr) -> str:
    """The tree as MySQL's text, on one line."""
    return MySQL().generate(tree, unsupported_level=ErrorLevel.IGNORE, comments=False)


def tables_in(tree: exp.Expr) -> tuple[str, ...]:
    """The names of the tables that a statement reads or changes, in order, each once; no common table expression's."""
    own = {table.alias_or_name.casefold() for table in tree.find_all(exp.CTE)}
    names: dict[str, str] = {}
    for table in tree.find_all(exp.Table):
        if table.name and table.name.casefold() not in own:
            names.setdefault(table.name.casefold(), table.name)
    return tuple(names.values())


def _depth(statement: str) -> int:
    """How deep its parentheses go, those in texts counted too: a bound, not a measure."""
    depth = deepest = 0
    for char in statement:
        if char == "(":
            depth += 1
            deepest = max(deepest, depth)
        elif char == ")":
            depth -= 1
    return deepest
