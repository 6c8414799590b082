"""What a policy reads in a result: the printed rows as values again, and a value as the text of an answer."""

from __future__ import annotations

import ast
import datetime
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from envs.dbbench.backend import TRUNCATED

__all__ = ["answer_text", "read_rows"]

_CUTS = 8  # how many row ends are tried in a text that was cut


def read_rows(text: str) -> tuple[list[tuple[Any, ...]], bool] | None:
    """The rows of a printed result, and whether they are all; of a text that was cut, the rows that stand there whole.

    None for any other text (an error, ``No response from database.``). Reads literals, ``Decimal('1.5')``,
    ``datetime.date(…)``, ``datetime.datetime(…)``, ``datetime.timedelta(…)`` and sets; evaluates nothing.
    """
    whole = not text.endswith(TRUNCATED)
    if not text.startswith("["):
        return None
    if whole:
        rows = _rows(text)
        return None if rows is None else (rows, True)
    end = len(text)
    for _ in range(_CUTS):  # "), (" may also stand within a value
        end = text.rfind("), (", 0, end)
        if end < 0:
            break
        rows = _rows(f"{text[: end + 1]}]")
        if rows is not None:
            return rows, False
    return [], False


def answer_text(value: object) -> str:
    """A value of a result as an answer's text: a number plain, a date in ISO's form, NULL as ``none``."""
    if value is None:
        return "none"
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, set):
        return ",".join(sorted(map(str, value)))
    return str(value)


def _rows(text: str) -> list[tuple[Any, ...]] | None:
    try:
        tree = ast.parse(text, mode="eval").body
        if not isinstance(tree, ast.List):
            return None
        rows = [_value(item) for item in tree.elts]
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError, OverflowError, InvalidOperation):
        return None
    return rows if all(isinstance(row, tuple) for row in rows) else None


def _value(node: ast.expr) -> Any:
    """Raises ValueError for what a result does not print."""
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Tuple(elts=items):
            return tuple(map(_value, items))
        case ast.Set(elts=items):
            return set(map(_value, items))
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.Name(id="inf" | "nan" as name):
            return float(name)
        case ast.Call(func=ast.Name(id="set"), args=[], keywords=[]):
            return set()
        case ast.Call(func=ast.Name(id="Decimal"), args=[ast.Constant(value=str() as digits)], keywords=[]):
            return Decimal(digits)
        case ast.Call(func=ast.Attribute(value=ast.Name(id="datetime"), attr=kind), args=args, keywords=keywords):
            return _moment(kind, args, keywords)
        case _:
            raise ValueError("not a value of a result")


def _moment(kind: str, args: Sequence[ast.expr], keywords: Sequence[ast.keyword]) -> Any:
    numbers = [_value(item) for item in args]
    named = {item.arg: _value(item.value) for item in keywords if item.arg is not None}
    if kind == "date" and not named:
        return datetime.date(*numbers)
    if kind == "datetime" and not named:
        return datetime.datetime(*numbers)
    if kind == "timedelta" and set(named) <= {"days", "seconds", "microseconds"}:
        return datetime.timedelta(*numbers, **named)
    raise ValueError("not a value of a result")
