"""Column types of typed tasks: what a declared type is in MySQL, and whether a value is one of it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal, InvalidOperation

from envs.dbbench.tables import known_type

__all__ = ["KEY_CHARACTERS", "Value", "column_texts", "key_type", "narrow_type", "normal_type", "value_text"]

type Value = str | int | float | bool | None
"""A cell as JSON or SQLite has it."""

KEY_CHARACTERS = 768  # of all columns of a key together: InnoDB's 3072 bytes, four a character

_TEXT_BYTES = {"TINYTEXT": 255, "TEXT": 65_535, "MEDIUMTEXT": 2**24 - 1, "LONGTEXT": 2**32 - 1}
_INTEGER_BITS = {"TINYINT": 8, "SMALLINT": 16, "MEDIUMINT": 24, "INT": 32, "INTEGER": 32, "BIGINT": 64}
_INTEGER = re.compile(r"[+-]?[0-9]{1,30}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_SIZED = re.compile(r"([A-Z ]+?)\s*\(\s*([0-9]{1,5})\s*(?:,\s*([0-9]{1,2})\s*)?\)")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}")
_TIME = re.compile(r"[0-9]{2}:[0-5][0-9]:[0-5][0-9]")
_BOOLEANS = {"true": "1", "false": "0", "1": "1", "0": "0"}
_REALS = frozenset({"REAL", "FLOAT", "DOUBLE", "DOUBLE PRECISION"})
_NUMBERS = frozenset({"NUMBER", "NUMERIC", "DECIMAL", "DEC", "MONEY"})
_SIZED_TEXTS = frozenset(
    {"CHAR", "VARCHAR", "CHARACTER", "NCHAR", "NVARCHAR", "CHARACTER VARYING", "VARYING CHARACTER"}
)


def normal_type(declared: str, values: Sequence[Value] = ()) -> str:
    """The MySQL type of a declared one. A ``known_type`` stays (in upper case); ``real`` is DOUBLE; ``number`` and a
    DECIMAL without digits are INT, BIGINT or DOUBLE, the first that takes all ``values``; an unknown one is TEXT.
    """
    name = " ".join(declared.upper().split())
    compact = name.replace(" ", "")
    sized = _SIZED.fullmatch(name)
    base, size, scale = (
        (sized[1].strip(), int(sized[2]), int(sized[3] or 0)) if sized else (name.removesuffix(" UNSIGNED"), 0, 0)
    )
    if known_type(compact) and base != "DECIMAL":
        return compact
    if base in _SIZED_TEXTS and 0 < size < 10_000:
        return f"VARCHAR({size})"
    if base in ("DECIMAL", "NUMERIC", "DEC") and 0 < size <= 65 and scale <= min(size, 30):
        return f"DECIMAL({size},{scale})"
    if base in _INTEGER_BITS:
        return base
    if base in _REALS:
        return "DOUBLE"
    if base in _NUMBERS:
        return _first_that_takes(values, ("INT", "BIGINT", "DOUBLE"))
    return "TEXT"


def narrow_type(declared: str, values: Sequence[Value]) -> str:
    """The MySQL type for data that may not keep to their declared type, as SQLite's: like ``normal_type``, but one that
    takes every value, TEXT and MEDIUMTEXT in the end. A FLOAT is DOUBLE, so that 1.1 = 1.1.
    """
    wanted = normal_type(declared, values)
    if wanted in ("FLOAT", "YEAR", "TIMESTAMP"):
        wanted = {"FLOAT": "DOUBLE", "YEAR": "INT", "TIMESTAMP": "DATETIME"}[wanted]
    if wanted in _INTEGER_BITS:
        wider: tuple[str, ...] = ("INT", "BIGINT", "DOUBLE")
    elif wanted.startswith("DECIMAL"):
        # SQLite keeps such a column as floating point, and its sums and means are what the gold answer was made with.
        wanted, wider = "INT", ("BIGINT", "DOUBLE")
    elif wanted.startswith(("VARCHAR", "CHAR")) and int(wanted[wanted.index("(") + 1 : -1]) > 255:
        wanted, wider = "TEXT", ()
    else:
        wider = ()
    return _first_that_takes(values, (wanted, *wider, "TEXT", "MEDIUMTEXT"))


def _first_that_takes(values: Sequence[Value], kinds: Sequence[str]) -> str:
    for kind in kinds[:-1]:
        if _takes(values, kind):
            return kind
    return kinds[-1]


def _takes(values: Sequence[Value], kind: str) -> bool:
    textual = kind in _TEXT_BYTES or kind.startswith(("VARCHAR", "CHAR"))
    if not textual and any(isinstance(value, str) and value != value.strip() for value in values):
        return False
    try:
        column_texts(values, kind)
    except ValueError:
        return False
    return True


def key_type(kind: str, values: Sequence[Value], columns: int) -> str:
    """The type of a column in a key of so many columns: a text has a length there. Raises ValueError: too long."""
    if kind not in _TEXT_BYTES and not kind.startswith("VARCHAR"):
        return kind
    most = KEY_CHARACTERS // max(columns, 1)
    longest = max((len(str(value)) for value in values if value is not None), default=1)
    if longest > most:
        raise ValueError(f"a text of {longest} characters in a key: {most} at most")
    if kind.startswith("VARCHAR") and int(kind[8:-1]) <= most:
        return kind
    return f"VARCHAR({max(longest, min(255, most))})"


def column_texts(values: Sequence[Value], kind: str) -> list[str | None]:
    """``value_text`` of a column's values. Raises ValueError for the first that is none of the type."""
    # The common cases for a whole column at once: files hold millions of values.
    there = values if None not in values else [value for value in values if value is not None]
    found = set(map(type, there))
    if kind in _TEXT_BYTES and found <= {str}:
        longest = max((len(str(value)) for value in there), default=0)
        if 4 * longest <= _TEXT_BYTES[kind]:  # four bytes a character at most
            return [None if value is None else str(value) for value in values]
    elif kind in _INTEGER_BITS and found <= {int}:
        half = 2 ** (_INTEGER_BITS[kind] - 1)
        numbers = [value for value in there if isinstance(value, int)]
        if not numbers or (-half <= min(numbers) and max(numbers) < half):
            return [None if value is None else str(value) for value in values]
    elif found <= {str}:
        texts = {value: value_text(value, kind) for value in set(there)}
        return [None if value is None else texts[value] for value in values]
    return [value_text(value, kind) for value in values]


def value_text(value: Value, kind: str) -> str | None:
    """A value as the text of a literal that the type takes; None is NULL. Raises ValueError where it is none of it."""
    if value is None:
        return None
    text = str(int(value)) if isinstance(value, bool) else str(value)
    if kind in _TEXT_BYTES:
        good = len(text.encode("utf-8", "surrogatepass")) <= _TEXT_BYTES[kind]
    elif kind in _INTEGER_BITS:
        if isinstance(value, float) and value.is_integer():
            text = str(int(value))
        half = 2 ** (_INTEGER_BITS[kind] - 1)
        good = _INTEGER.fullmatch(text) is not None and -half <= int(text) < half
    elif kind in ("FLOAT", "DOUBLE"):
        good = _NUMBER.fullmatch(text) is not None and math.isfinite(float(text))
    elif kind.startswith("DECIMAL"):
        good = _is_decimal(text, kind)
    elif kind in ("BOOLEAN", "BOOL"):
        found = _BOOLEANS.get(text.lower())
        text, good = found or text, found is not None
    elif kind.startswith(("VARCHAR", "CHAR")):
        good = len(text) <= int(kind[kind.index("(") + 1 : -1])
    else:
        good = _is_moment(text, kind)
    if not good:
        raise ValueError(f"{text[:60]!r} is no {kind}")
    return text


def _is_decimal(text: str, kind: str) -> bool:
    digits, scale = map(int, kind[8:-1].split(","))
    try:
        _, figures, exponent = Decimal(text).normalize().as_tuple()
    except InvalidOperation:
        return False
    if not isinstance(exponent, int) or _NUMBER.fullmatch(text) is None:  # nan, inf
        return False
    return -exponent <= scale and len(figures) + exponent <= digits - scale


def _is_moment(text: str, kind: str) -> bool:
    try:
        match kind:
            case "DATE":
                return _DATE.fullmatch(text) is not None and date.fromisoformat(text).year > 0
            case "DATETIME":
                return _MOMENT.fullmatch(text) is not None and datetime.fromisoformat(text).year > 0
            case "TIMESTAMP":
                return _MOMENT.fullmatch(text) is not None and 1970 < datetime.fromisoformat(text).year < 2038
            case "TIME":
                return _TIME.fullmatch(text) is not None
            case "YEAR":
                return _INTEGER.fullmatch(text) is not None and 1901 <= int(text) <= 2155
    except ValueError:
        return False
    raise ValueError(f"{kind!r} is no type of a column")
