"""The types of MySQL's columns and expressions, and the Python values in which their results are shown.

SQLite holds an integer as INTEGER, FLOAT and DOUBLE as REAL, and all else as TEXT: a DECIMAL with its scale's digits,
a date as ``2024-01-31``, a date with time as ``2024-01-31 10:00:00``. The type says what the text means.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

from envs.dbbench.sqlite_errors import failed

__all__ = [
    "BIGINT", "BINARY", "DATE", "DATETIME", "DOUBLE", "EXACT", "INT", "JSON", "NULL", "TEXT", "TIME", "YEAR",
    "SqlType", "decimal_type", "merged", "quantized", "shown",
]  # fmt: skip

EXACT = Context(prec=80, rounding=ROUND_HALF_UP)
_RANGES = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}
_TEMPORAL = frozenset({"date", "datetime", "time"})
_TIME = re.compile(r"(-?)(\d+):(\d\d):(\d\d)(?:\.(\d{1,6}))?")


@dataclass(frozen=True, slots=True)
class SqlType:
    """A type. ``kind``: int, decimal, double, float, text, binary, date, datetime, time, year, json, null.

    ``name`` is MySQL's word for a column's type (``varchar``); ``length`` its characters or digits; ``scale`` its
    digits after the point; ``values`` those of an ENUM.
    """

    kind: str
    name: str = ""
    length: int = 0
    scale: int = 0
    unsigned: bool = False
    values: tuple[str, ...] = ()
    binary: bool = False  # a text that is compared byte by byte
    loose: bool = False  # a DECIMAL that keeps the digits of each value, as CASE with an integer branch gives

    @property
    def exact(self) -> bool:
        """Whether a value is a number without rounding."""
        return self.kind in ("int", "decimal", "year")

    @property
    def numeric(self) -> bool:
        """Whether a value is a number."""
        return self.kind in ("int", "decimal", "double", "float", "year")

    @property
    def textual(self) -> bool:
        """Whether a value is text or bytes."""
        return self.kind in ("text", "binary", "json")

    @property
    def temporal(self) -> bool:
        """Whether a value is a date, a time or both."""
        return self.kind in _TEMPORAL

    @property
    def bounds(self) -> tuple[int, int]:
        """The least and the greatest integer."""
        bits = _RANGES.get(self.name, 64)
        return (0, 2**bits - 1) if self.unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)

    @property
    def ddl(self) -> str:
        """As DESCRIBE shows it."""
        text = self.name or {"int": "bigint", "text": "longtext"}.get(self.kind, self.kind)
        if text in ("varchar", "char", "varbinary", "binary") or (text == "tinyint" and self.length == 1):
            text += f"({self.length})"
        elif text == "decimal":
            text += f"({self.length},{self.scale})"
        elif text in ("datetime", "timestamp", "time") and self.scale:
            text += f"({self.scale})"
        elif text in ("enum", "set"):
            text += "(" + ",".join("'" + value.replace("'", "''") + "'" for value in self.values) + ")"
        return text + " unsigned" if self.unsigned else text

    @property
    def declared(self) -> str:
        """SQLite's type and collation of a column."""
        if self.kind in ("int", "year"):
            return "INTEGER"
        if self.kind in ("double", "float"):
            return "REAL"
        if self.kind == "decimal":
            return "TEXT COLLATE num"
        if self.kind in ("binary",):
            return "BLOB"
        return "TEXT" + self.collation

    @property
    def collation(self) -> str:
        """SQLite's COLLATE clause for a comparison, where its own is not meant."""
        if self.kind == "decimal":
            return " COLLATE num"
        return " COLLATE ai" if self.kind in ("text", "json") and not self.binary else ""


INT = SqlType("int", "int")
BIGINT = SqlType("int", "bigint")
DOUBLE = SqlType("double", "double")
TEXT = SqlType("text", "text")
BINARY = SqlType("binary", "blob")
DATE = SqlType("date", "date")
DATETIME = SqlType("datetime", "datetime")
TIME = SqlType("time", "time")
YEAR = SqlType("year", "year")
JSON = SqlType("json", "json")
NULL = SqlType("null", "binary")


def decimal_type(scale: int, length: int = 65) -> SqlType:
    """DECIMAL with at most 30 digits after the point."""
    return SqlType("decimal", "decimal", min(length, 65), min(scale, 30))


def merged(types: list[SqlType]) -> SqlType:
    """The type of a column that takes its values from all of these, as in CASE, COALESCE and UNION."""
    left = [kind for kind in types if kind.kind != "null"]
    if not left:
        return NULL
    if all(kind == left[0] for kind in left):
        return left[0]
    kinds = {kind.kind for kind in left}
    if kinds <= {"int", "year"}:
        return BIGINT
    if kinds <= {"int", "year", "decimal"}:
        scale = max(kind.scale for kind in left)
        whole = max(kind.length - kind.scale if kind.kind == "decimal" else 20 for kind in left)
        return decimal_type(scale, whole + scale)
    if kinds <= {"int", "year", "decimal", "double", "float"}:
        return DOUBLE
    if kinds <= {"date", "datetime"}:
        return DATETIME
    if len(kinds) == 1 and left[0].temporal:
        return left[0]
    return SqlType("text", "text", binary=any(kind.binary for kind in left))


def quantized(value: Decimal, scale: int) -> Decimal:
    """Rounded half up to ``scale`` digits; no negative zero. Raises StatementFailed beyond 80 digits."""
    if value.adjusted() + scale > 78 or not value.is_finite():
        raise failed(1690, "DECIMAL value is out of range")
    found = value.quantize(Decimal(1).scaleb(-scale), context=EXACT)
    return found or abs(found)


def shown(value: Any, kind: SqlType) -> Any:
    """What mysql-connector would give for a value that SQLite holds."""
    if value is None:
        return None
    match kind.kind:
        case "int" | "year":
            if isinstance(value, float):
                raise failed(1690, "BIGINT value is out of range")
            return int(value) + (2**64 if kind.unsigned and value < 0 else 0)
        case "decimal":
            if kind.name == "bigint":  # a number beyond SQLite's own
                return int(value)
            return Decimal(str(value)) if kind.loose else quantized(Decimal(str(value)), kind.scale)
        case "double":
            if value - value != 0:
                raise failed(1690, "DOUBLE value is out of range")
            return round(float(value), kind.scale) if kind.scale else float(value)
        case "float":
            return float(f"{value:.6g}")
        case "date":
            return _date(value)
        case "datetime":
            return _datetime(value)
        case "time":
            return _interval(value)
        case "binary":
            return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
        case "null":
            return value
    return value if isinstance(value, str) else _text(value)


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _date(value: str) -> datetime.date | None:
    try:
        return datetime.date.fromisoformat(value[:10])
    except ValueError:  # 0000-00-00 and the like
        return None


def _datetime(value: str) -> datetime.datetime | None:
    try:
        return datetime.datetime.fromisoformat(value)
    except ValueError:
        return None


def _interval(value: str) -> datetime.timedelta | str:
    found = _TIME.fullmatch(value)
    if found is None:
        return value
    sign, hours, minutes, seconds, part = found.groups()
    span = datetime.timedelta(
        hours=int(hours), minutes=int(minutes), seconds=int(seconds), microseconds=int((part or "0").ljust(6, "0"))
    )
    return -span if sign else span
