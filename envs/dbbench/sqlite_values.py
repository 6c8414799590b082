"""Values as MySQL reads and writes them: numbers at the beginning of a text, doubles as text, dates in many spellings.

Python sees what SQLite holds: int, float, str, bytes, None.
"""

from __future__ import annotations

import datetime
import re
from decimal import Decimal, InvalidOperation
from typing import Any

from envs.dbbench.sqlite_types import quantized

__all__ = [
    "CLOCK", "Moment", "as_decimal", "as_int", "as_number", "as_text", "decimal_text", "double_text", "format_moment",
    "format_span", "is_number", "leading_number", "moment_of", "span_of",
]  # fmt: skip

# The clock stands still, as on the servers.
CLOCK = datetime.datetime(2024, 1, 1)
_LEADING = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)")
_NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*")
_DIGITS = 400  # of a number's text that are read; MySQL's own numbers end far before
_PARTS = re.compile(
    r"\s*(\d{4}|\d{1,2})[^\w\s]+(\d{1,2})[^\w\s]+(\d{1,2})"
    r"(?:(?:\s+|T)(\d{1,2})(?:[^\w\s](\d{1,2})(?:[^\w\s](\d{1,2})(?:\.(\d{0,9}))?)?)?)?\s*"
)
_PACKED = re.compile(r"\s*(\d{14}|\d{12}|\d{8}|\d{6})(?:\.(\d{0,9}))?\s*")
_SPAN = re.compile(r"\s*(-)?(?:(\d{1,2})\s+)?(\d{1,3})(?::(\d{1,2}))?(?::(\d{1,2}))?(?:\.(\d{0,6})\d*)?\s*")

type Moment = datetime.datetime


def as_text(value: Any) -> str:
    """A value as text."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return double_text(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return str(value)


def double_text(value: float) -> str:
    """A double as MySQL writes it: as few digits as tell it from others, an exponent from 1e15."""
    if value == 0:
        return "0" if str(value)[0] != "-" else "-0"
    digits = Decimal(repr(value)).normalize()
    if -15 <= digits.adjusted() < 15:
        return f"{digits:f}"
    sign, figures, exponent = digits.as_tuple()
    text = "".join(map(str, figures))
    mantissa = text[0] + ("." + text[1:] if len(text) > 1 else "")
    return f"{'-' if sign else ''}{mantissa}e{int(exponent) + len(text) - 1}"


def leading_number(text: str) -> str:
    """The number at the beginning of a text, ``0`` where there is none."""
    found = _LEADING.match(text[:_DIGITS])
    return found[1] if found else "0"


def is_number(text: str) -> bool:
    """Whether the whole text is a number."""
    return _NUMBER.fullmatch(text[:_DIGITS]) is not None


def as_number(value: Any) -> float | int:
    """A value as a number: an int stays one, all else is a double; a text is read as far as it is a number."""
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, bytes):
        value = as_text(value)
    try:
        return float(value) if value[:1].isdigit() and "_" not in value else float(leading_number(value))
    except ValueError:
        return float(leading_number(value))


def as_int(value: Any) -> int:
    """A value as an integer: a double is rounded to even, a decimal half up, a text read up to its point."""
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(max(min(round(value), 2**63 - 1), -(2**63)))
    found = leading_number(as_text(value))
    if "." in found or "e" in found or "E" in found:
        return int(max(min(quantized(as_decimal(found), 0), Decimal(2**64)), Decimal(-(2**63))))
    return int(found)


def as_decimal(value: Any) -> Decimal:
    """A value as a decimal of any scale; a text as far as it is a number, zero where that is none or too great."""
    if isinstance(value, int):
        return Decimal(value)
    text = repr(value) if isinstance(value, float) else as_text(value)
    try:
        found = Decimal(text if text[:1].isdigit() else leading_number(text))
    except InvalidOperation:
        found = Decimal(leading_number(text))
    if found.is_finite() and -200 < found.adjusted() < 80:
        return found
    return Decimal(0) if not found.is_finite() or found.adjusted() < 0 else Decimal(10) ** 65 - 1


def decimal_text(value: Decimal, scale: int) -> str:
    """A decimal as a DECIMAL column of this scale holds it."""
    return f"{quantized(value, scale):f}"


def moment_of(value: Any) -> Moment | None:
    """The date and time that a text or a number spells in any way that MySQL reads; None for another."""
    if value is None:
        return None
    text = as_text(value)
    found = _PARTS.fullmatch(text)
    if found is not None:
        year, month, day, *rest, part = found.groups()
        clock = [int(item or 0) for item in rest]
    else:
        packed = _PACKED.fullmatch(text)
        if packed is None:
            return None
        digits, part = packed.groups()
        width = 4 if len(digits) in (8, 14) else 2
        year, month, day = digits[:width], digits[width : width + 2], digits[width + 2 : width + 4]
        clock = [int(digits[at : at + 2] or 0) for at in range(width + 4, width + 10, 2)]
    number = int(year)
    if len(year) <= 2:
        number += 2000 if number < 70 else 1900
    try:
        found_at = datetime.datetime(number, int(month), int(day), clock[0], clock[1], clock[2])
    except ValueError:
        return None
    if part:
        found_at += datetime.timedelta(microseconds=round(int(part) * 10 ** (6 - len(part))))
    return found_at


def format_moment(moment: Moment, digits: int = 0) -> str:
    """A date and time as DATETIME holds it."""
    text = f"{moment.year:04d}-{moment.month:02d}-{moment.day:02d} {moment:%H:%M:%S}"
    return f"{text}.{moment.microsecond:06d}"[: 20 + digits] if digits else text


def span_of(value: Any) -> datetime.timedelta | None:
    """The time of day or the span that a text or a number spells; None for another."""
    if isinstance(value, (int, float)):
        sign, number = (-1, -value) if value < 0 else (1, value)
        whole = int(number)
        parts = whole // 10000, whole // 100 % 100, whole % 100
        if parts[1] > 59 or parts[2] > 59:
            return None
        return sign * datetime.timedelta(hours=parts[0], minutes=parts[1], seconds=parts[2])
    text = as_text(value)
    found = _SPAN.fullmatch(text)
    if found is None or (found[4] is None and found[2] is None):
        moment = moment_of(text)
        if moment is not None and len(text.strip()) > 6:
            return moment - datetime.datetime(moment.year, moment.month, moment.day)
        return span_of(int(text)) if text.strip().isdecimal() and len(text) < 10 else None
    sign_text, days, hours, minutes, seconds, part = found.groups()
    if int(minutes or 0) > 59 or int(seconds or 0) > 59:
        return None
    span = datetime.timedelta(
        days=int(days or 0),
        hours=int(hours),
        minutes=int(minutes or 0),
        seconds=int(seconds or 0),
        microseconds=int((part or "0").ljust(6, "0")),
    )
    return -span if sign_text else span


def format_span(span: datetime.timedelta) -> str:
    """A span as TIME holds it, at most 838:59:59."""
    total = min(abs(span), datetime.timedelta(hours=838, minutes=59, seconds=59))
    seconds = total.days * 86400 + total.seconds
    text = (
        f"{'-' if span < datetime.timedelta() else ''}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    )
    return f"{text}.{total.microseconds:06d}" if total.microseconds else text
