"""How values of MySQL's types meet: compared, computed with, turned into one another, in SQLite's words."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sqlglot import exp

from envs.dbbench.sqlite_errors import failed, syntax_error, unsupported
from envs.dbbench.sqlite_scope import Typed, literal
from envs.dbbench.sqlite_time import UNITS
from envs.dbbench.sqlite_types import (
    BIGINT,
    BINARY,
    DATE,
    DATETIME,
    DOUBLE,
    INT,
    TEXT,
    TIME,
    SqlType,
    decimal_type,
    merged,
)
from envs.dbbench.sqlite_values import format_moment, format_span, moment_of, span_of

if TYPE_CHECKING:
    pass

__all__ = ["Conversions", "balanced", "loosened", "row_parts"]

_WORDS = {DATE.kind: "DATE", DATETIME.kind: "DATETIME", TIME.kind: "TIME"}
_DECIMALS = {"+": "dec_add", "-": "dec_sub", "*": "dec_mul", "%": "dec_mod"}


class Conversions:
    """Rules of types, which need no names. ``compile`` comes with ``Expressions``."""

    def __init__(self) -> None:
        # "_strict" in statements that write: a text that is no number, a division by zero are errors.
        self.strict = self.by_zero = ""

    def compile(self, node: exp.Expr | None) -> Typed:
        """One expression. See ``Expressions``."""
        raise NotImplementedError

    def truthful(self, found: Typed) -> str:
        """A compiled expression as a condition."""
        return found.sql if found.type.kind in ("int", "null") else f"({self.number(found).sql} <> 0)"

    def choice(self, conditions: list[str], values: list[Typed]) -> Typed:
        """CASE WHEN: a value more than conditions is the ELSE."""
        kind = loosened(values)
        parts = [
            f"WHEN {condition} THEN {self.cast(value, kind)}"
            for condition, value in zip(conditions, values, strict=False)
        ]
        rest = f" ELSE {self.cast(values[-1], kind)}" if len(values) > len(conditions) else ""
        return Typed(f"(CASE {' '.join(parts)}{rest} END)", kind)

    def compared(self, sign: str, one: Typed, two: Typed) -> str:
        """A condition by MySQL's rules for two types."""
        first, second, collation = self.comparable(one, two)
        return f"({first}{collation} {sign} {second})"

    def comparable(self, one: Typed, two: Typed) -> tuple[str, str, str]:
        """Both sides in forms that SQLite compares as MySQL would, and the collation for the first."""
        left, right = one.type, two.type
        if "null" in (left.kind, right.kind):
            return one.sql, two.sql, ""
        if left.temporal or right.temporal:
            return self._moments(one, two)
        if left.textual and right.textual:
            if "binary" in (left.kind, right.kind):
                return self.cast(one, BINARY), self.cast(two, BINARY), ""
            return one.sql, two.sql, " COLLATE BINARY" if left.binary or right.binary else " COLLATE ai"
        if left.exact and right.exact and "decimal" in (left.kind, right.kind):
            return self.text(one), self.text(two), " COLLATE num"
        if left.kind in ("int", "year") and right.kind in ("int", "year"):
            return one.sql, two.sql, ""
        return self.real(one), self.real(two), ""

    def _moments(self, one: Typed, two: Typed) -> tuple[str, str, str]:
        kinds = [side.type.kind for side in (one, two)]
        if one.type.numeric or two.type.numeric:
            return self.number(one).sql, self.number(two).sql, ""
        other = one if not one.type.temporal else two
        target = next(kind for kind in kinds if kind in _WORDS)
        if not other.type.temporal:
            if other.text is not None and target != "time":
                moment = moment_of(other.text)
                if moment is None:
                    raise failed(1525, f"Incorrect {_WORDS[target]} value: '{other.text}'")
                target = (
                    "date" if target == "date" and moment == moment.replace(hour=0, minute=0, second=0) else "datetime"
                )
        elif kinds[0] != kinds[1]:
            target = "datetime"
        kind = {"date": DATE, "datetime": DATETIME, "time": TIME}[target]
        return self.cast(one, kind), self.cast(two, kind), ""

    def number(self, value: Typed) -> Typed:
        """A value as a number: texts are doubles, dates whole numbers."""
        kind = value.type
        if kind.temporal:
            return Typed(f"f_moment_number({value.sql}, {literal(kind.kind)})", BIGINT)
        if kind.kind == "decimal":
            return Typed(f"CAST({value.sql} AS REAL)", DOUBLE)
        if kind.textual:
            # MySQL reads a TEXT column as far as it goes, and any other text strictly.
            strict = "" if value.column and kind.name.endswith("text") else self.strict
            return Typed(f"f_number{strict}({value.sql})", DOUBLE)
        return value

    def real(self, value: Typed) -> str:
        """A value as a double or an integer for SQLite's own arithmetic."""
        return self.number(value).sql

    def computed(self, sign: str, one: Typed, two: Typed) -> Typed:
        """An arithmetic expression by MySQL's rules of its types."""
        one, two = (self.number(side) if not side.type.numeric else side for side in (one, two))
        left, right = one.type, two.type
        if "null" in (left.kind, right.kind):
            return Typed(f"({one.sql} + {two.sql})", DOUBLE)
        if left.exact and right.exact:
            if sign == "/":
                scale = min(left.scale + 4, 30)
                return Typed(f"f_dec_div{self.by_zero}({one.sql}, {two.sql}, {scale})", decimal_type(scale))
            if "decimal" in (left.kind, right.kind):
                scale = left.scale + right.scale if sign == "*" else max(left.scale, right.scale)
                return Typed(f"f_{_DECIMALS[sign]}({one.sql}, {two.sql})", decimal_type(scale))
            return Typed(f"({one.sql} {sign} {two.sql})", BIGINT)
        first, second = self.real(one), self.real(two)
        if sign == "%":
            return Typed(f"f_mod_real({first}, {second})", DOUBLE)
        if sign == "/":
            return Typed(f"f_real_div{self.by_zero}({first}, {second})", DOUBLE)
        return Typed(f"(CAST({first} AS REAL) {sign} {second})", DOUBLE)

    def moved(self, value: Typed, interval: exp.Interval, sign: int) -> Typed:
        """A date moved by an INTERVAL."""
        unit = str(interval.args["unit"].name if interval.args.get("unit") is not None else "").lower()
        if unit not in UNITS:
            raise syntax_error(unit)
        amount = self.compile(interval.this)
        kind = value.type.kind if value.type.temporal else "text"
        whole = unit in ("day", "week", "month", "quarter", "year", "year_month")
        result = {"date": DATE if whole else DATETIME, "datetime": DATETIME, "time": TIME, "text": TEXT}[kind]
        return Typed(f"f_add_interval({value.sql}, {amount.sql}, {literal(unit)}, {sign}, {literal(kind)})", result)

    def text(self, value: Typed) -> str:
        """A value as text."""
        match value.type.kind:
            case "int" | "year":
                return f"CAST({value.sql} AS TEXT)"
            case "decimal":
                return value.sql if value.column else f"f_decimal({value.sql}, 65, {value.type.scale})"
            case "double":
                return f"f_to_text({value.sql})"
            case "float":
                return f"f_float_text({value.sql})"
            case "binary":
                return f"CAST({value.sql} AS TEXT)"
        return value.sql

    def cast(self, value: Typed, kind: SqlType) -> str:
        """A value in the form of another type, as where several types meet in a column."""
        own = value.type
        if own.kind in ("null", kind.kind):
            return value.sql
        match kind.kind:
            case "text" | "json":
                return self.text(value)
            case "decimal":
                return self.text(value) if own.exact else f"f_decimal({value.sql}, 65, {kind.scale})"
            case "double" | "float":
                return f"CAST({self.number(value).sql} AS REAL)"
            case "int" | "year":
                return f"f_integer({self.number(value).sql})"
            case "binary":
                return f"CAST({self.text(value)} AS BLOB)"
            case "date" | "datetime" | "time":
                if own.kind == "date" and kind.kind == "datetime":
                    return f"({value.sql} || ' 00:00:00')"
                if value.text is not None:
                    return literal(_moment_text(value.text, kind.kind))
                return f"f_of_kind({value.sql}, {literal(kind.kind)})"
        return value.sql

    def raw_number(self, value: Typed) -> str:
        """A value for ``signed``: a decimal is rounded first, a text read up to its point."""
        return f"f_integer({value.sql})" if value.type.kind in ("decimal", "double", "float") else value.sql

    def like(self, node: exp.Like, escape: str = "\\") -> Typed:
        """LIKE, without case where neither side is binary."""
        one, two = self.compile(node.this), self.compile(node.expression)
        name = (
            "like_binary"
            if one.type.binary or two.type.binary or "binary" in (one.type.kind, two.type.kind)
            else "like"
        )
        call = f"f_{name}({self.text(one)}, {self.text(two)}, {literal(escape)})"
        return Typed(f"(NOT {call})" if node.args.get("negate") else call, INT)

    def escaped_like(self, node: exp.Escape) -> Typed:
        """LIKE with ESCAPE."""
        inner = node.this
        if not isinstance(inner, exp.Like) or not isinstance(node.expression, exp.Literal):
            raise unsupported("ESCAPE")
        return self.like(inner, str(node.expression.this)[:1])

    def regexp(self, node: exp.RegexpLike) -> Typed:
        """REGEXP."""
        one, two = self.compile(node.this), self.compile(node.expression)
        mode = "'c'" if one.type.binary or two.type.binary else "''"
        return Typed(f"f_regexp_like({self.text(one)}, {self.text(two)}, {mode})", INT)


def loosened(values: list[Typed]) -> SqlType:
    """The type of a choice between values: a DECIMAL then keeps each value's own digits."""
    kind = merged([value.type for value in values])
    return replace(kind, loose=True) if kind.kind == "decimal" else kind


def _moment_text(text: str, kind: str) -> str | None:
    if kind == "time":
        span = span_of(text)
        return None if span is None else format_span(span)
    moment = moment_of(text)
    if moment is None:
        return None
    return format_moment(moment)[:10] if kind == "date" else format_moment(moment, 6 if moment.microsecond else 0)


def balanced(parts: list[str], word: str) -> str:
    """A chain of conditions as a tree of little depth, which SQLite bounds."""
    if len(parts) > 20:
        half = len(parts) // 2
        parts = [balanced(parts[:half], word), balanced(parts[half:], word)]
    return "(" + word.join(parts) + ")"


def row_parts(node: exp.Expr) -> list[exp.Expr] | None:
    """The parts of ``(a, b)`` or ``ROW(a, b)``; None for what is no row."""
    if isinstance(node, exp.Tuple):
        return list(node.expressions)
    if isinstance(node, exp.Anonymous) and str(node.this).upper() == "ROW":
        return list(node.expressions)
    return None
