"""MySQL's functions on dates and times, for SQLite to call."""

from __future__ import annotations

import calendar
import datetime
import re
from collections.abc import Callable
from typing import Any

from envs.dbbench.sqlite_dates import DAYS, MONTHS, formatted, str_to_date, week_of
from envs.dbbench.sqlite_function import Function
from envs.dbbench.sqlite_values import (
    CLOCK,
    Moment,
    as_int,
    as_number,
    as_text,
    format_moment,
    format_span,
    moment_of,
    span_of,
)

__all__ = ["TIME_FUNCTIONS", "UNITS"]

_EPOCH = datetime.datetime(1970, 1, 1)
_PARTS = {"microsecond": 1, "second": 10**6, "minute": 60 * 10**6, "hour": 3600 * 10**6, "day": 86400 * 10**6}
_COMPOUND = {
    "second_microsecond": ("second", "microsecond"),
    "minute_microsecond": ("minute", "second", "microsecond"),
    "minute_second": ("minute", "second"),
    "hour_microsecond": ("hour", "minute", "second", "microsecond"),
    "hour_second": ("hour", "minute", "second"),
    "hour_minute": ("hour", "minute"),
    "day_microsecond": ("day", "hour", "minute", "second", "microsecond"),
    "day_second": ("day", "hour", "minute", "second"),
    "day_minute": ("day", "hour", "minute"),
    "day_hour": ("day", "hour"),
}
UNITS = frozenset({*_PARTS, *_COMPOUND, "week", "month", "quarter", "year", "year_month"})


def _part(how: Callable[[Moment], Any]) -> Callable[[Any], Any]:
    def run(value: Any) -> Any:
        moment = moment_of(value)
        return None if moment is None else how(moment)

    return run


def _yearweek(moment: Moment, mode: int) -> int:
    year, week = week_of(moment, mode | 2)
    return year * 100 + week


def _clock(how: Callable[[int, datetime.timedelta], int]) -> Callable[[Any], int | None]:
    """A part of a time of day or a span: hours are not cut at 24."""

    def run(value: Any) -> int | None:
        span = span_of(value)
        if span is None:
            return None
        span = abs(span)
        return how(span.days * 86400 + span.seconds, span)

    return run


def _date_format(value: Any, pattern: str) -> str | None:
    moment = moment_of(value)
    return None if moment is None else formatted(moment, pattern)


def _time_format(value: Any, pattern: str) -> str | None:
    span = span_of(value)
    return None if span is None else formatted(_EPOCH + abs(span), pattern)


def _add(value: Any, amount: Any, unit: str, sign: int, kind: str) -> str | None:
    """``value`` moved by an INTERVAL; a date stays one where the unit is a day or more. ``kind``: that of ``value``."""
    moment = moment_of(value) if kind != "time" else None
    if kind == "time":
        span = span_of(value)
        moved = None if span is None else _shift(amount, unit, sign)
        return None if span is None or not isinstance(moved, datetime.timedelta) else format_span(span + moved)
    if moment is None:
        return None
    moved = _shift(amount, unit, sign)
    try:
        if isinstance(moved, int):
            months = moment.year * 12 + moment.month - 1 + moved
            year, month = months // 12, months % 12 + 1
            moment = moment.replace(year=year, month=month, day=min(moment.day, calendar.monthrange(year, month)[1]))
        else:
            moment += moved
    except (ValueError, OverflowError, calendar.IllegalMonthError):
        return None
    whole = kind == "date" or (kind != "datetime" and len(as_text(value).strip()) <= 10)
    if whole and unit in ("day", "week", "month", "quarter", "year", "year_month"):
        return format_moment(moment)[:10]
    return format_moment(moment, 6 if moment.microsecond else 0)


def _shift(amount: Any, unit: str, sign: int) -> int | datetime.timedelta:
    """Months, or a span."""
    if unit in ("month", "quarter", "year"):
        return sign * as_int(amount) * {"month": 1, "quarter": 3, "year": 12}[unit]
    numbers = [int(number) for number in re.findall(r"\d{1,9}", as_text(amount))]
    negative = as_text(amount).strip().startswith("-")
    if unit == "year_month":
        numbers = [0, 0, *numbers][-2:]
        return sign * (-1 if negative else 1) * (numbers[0] * 12 + numbers[1])
    if unit in _COMPOUND:
        units = _COMPOUND[unit]
        numbers = ([0] * len(units) + numbers)[-len(units) :]
        total = sum(number * _PARTS[name] for number, name in zip(numbers, units, strict=True))
        total *= -1 if negative else 1
    elif unit == "second":
        total = round(as_number(amount) * 10**6)
    else:
        total = as_int(amount) * (7 * _PARTS["day"] if unit == "week" else _PARTS[unit])
    # Beyond what a date can be moved by.
    return datetime.timedelta(microseconds=max(min(sign * total, 10**18), -(10**18)))


def _difference(unit: str, first: Any, second: Any) -> int | None:
    one, two = moment_of(first), moment_of(second)
    if one is None or two is None:
        return None
    if unit in ("month", "quarter", "year"):
        sign, early, late = (1, one, two) if two >= one else (-1, two, one)
        months = (late.year - early.year) * 12 + late.month - early.month
        rest = (late.day, late.time()) < (early.day, early.time())
        return sign * ((months - rest) // {"month": 1, "quarter": 3, "year": 12}[unit])
    span = (two - one) // datetime.timedelta(microseconds=1)
    size = 7 * _PARTS["day"] if unit == "week" else _PARTS[unit]
    return span // size if span >= 0 else -(-span // size)


def _extract(unit: str, value: Any) -> int | None:
    if unit in ("hour", "minute", "second", "microsecond"):
        return _CLOCKS[unit](value)
    moment = moment_of(value)
    if moment is None:
        return None
    simple: dict[str, int] = {
        "year": moment.year, "month": moment.month, "day": moment.day, "quarter": (moment.month + 2) // 3,
        "week": week_of(moment, 0)[1], "year_month": moment.year * 100 + moment.month,
    }  # fmt: skip
    if unit in simple:
        return simple[unit]
    found = 0
    for part in _COMPOUND[unit]:
        found = found * (10**6 if part == "microsecond" else 100) + int(getattr(moment, part))
    return found


_CLOCKS: dict[str, Callable[[Any], int | None]] = {
    "hour": _clock(lambda seconds, _: seconds // 3600),
    "minute": _clock(lambda seconds, _: seconds // 60 % 60),
    "second": _clock(lambda seconds, _: seconds % 60),
    "microsecond": _clock(lambda _, span: span.microseconds),
}


def _datediff(one: Any, two: Any) -> int | None:
    first, second = moment_of(one), moment_of(two)
    return None if first is None or second is None else (first.date() - second.date()).days


def _timediff(one: Any, two: Any) -> str | None:
    first, second = moment_of(one), moment_of(two)
    if first is not None and second is not None and len(as_text(one)) > 8 and len(as_text(two)) > 8:
        return format_span(first - second)
    start, end = span_of(one), span_of(two)
    return None if start is None or end is None else format_span(start - end)


def _makedate(year: int, day: int) -> str | None:
    if day < 1 or not 0 <= year <= 9999:
        return None
    year += 0 if year > 99 else 2000 if year < 70 else 1900
    try:
        return f"{datetime.date(year, 1, 1) + datetime.timedelta(days=day - 1):%Y-%m-%d}"
    except OverflowError:
        return None


def _maketime(hour: int, minute: int, second: float) -> str | None:
    if not 0 <= minute < 60 or not 0 <= second < 60:
        return None
    span = datetime.timedelta(hours=min(abs(hour), 839), minutes=minute, seconds=second)
    return format_span(-span if hour < 0 else span)


def _from_unixtime(seconds: float, pattern: str | None = None) -> str | None:
    if not 0 <= seconds < 2**35:
        return None
    moment = _EPOCH + datetime.timedelta(seconds=seconds)
    return format_moment(moment, 6 if moment.microsecond else 0) if pattern is None else formatted(moment, pattern)


def _from_days(days: int) -> str | None:
    return f"{datetime.date.fromordinal(days - 365):%Y-%m-%d}" if 366 <= days < 3652000 else None


def _last_day(moment: Moment) -> str:
    return format_moment(moment.replace(day=calendar.monthrange(moment.year, moment.month)[1]))[:10]


def _period_add(period: int, months: int) -> int:
    count = period // 100 * 12 + period % 100 - 1 + months
    return count // 12 * 100 + count % 12 + 1


def _datetime_number(value: Any, kind: str) -> int | None:
    moment = moment_of(value)
    if kind == "time":
        span = span_of(value)
        return None if span is None else int(format_span(span).replace(":", "")[:6])
    if moment is None:
        return None
    return int(f"{moment.year}{moment:%m%d}" if kind == "date" else f"{moment.year}{moment:%m%d%H%M%S}")


def _of_kind(value: Any, kind: str) -> str | None:
    """A value as a DATE, a DATETIME or a TIME; None where it is none."""
    if kind == "time":
        span = span_of(value)
        return None if span is None else format_span(span)
    moment = moment_of(value)
    if moment is None:
        return None
    return format_moment(moment)[:10] if kind == "date" else format_moment(moment, 6 if moment.microsecond else 0)


def _functions() -> dict[str, Function]:
    made = Function
    found = {
        "of_kind": made(_of_kind, 2, 2, "v", "datetime", inner=True),
        "moment_number": made(_datetime_number, 2, 2, "v", "int", inner=True),
        "add_interval": made(_add, 5, 5, "vvtit", "datetime", inner=True),
        "extract_unit": made(_extract, 2, 2, "v", "int", inner=True),
        "timestampdiff3": made(_difference, 3, 3, "v", "int", inner=True),
        "date": made(lambda v: _of_kind(v, "date"), 1, 1, "v", "date"),
        "time": made(lambda v: _of_kind(v, "time"), 1, 1, "v", "time"),
        "date_format": made(_date_format, 2, 2, "vt", "text"),
        "time_format": made(_time_format, 2, 2, "vt", "text"),
        "str_to_date": made(str_to_date, 2, 2, "t", "datetime"),
        "datediff": made(_datediff, 2, 2, "v", "int"),
        "timediff": made(_timediff, 2, 2, "v", "time"),
        "year": made(_part(lambda m: m.year), 1, 1, "v", "int"),
        "month": made(_part(lambda m: m.month), 1, 1, "v", "int"),
        "day": made(_part(lambda m: m.day), 1, 1, "v", "int"),
        "quarter": made(_part(lambda m: (m.month + 2) // 3), 1, 1, "v", "int"),
        "dayofweek": made(_part(lambda m: (m.weekday() + 1) % 7 + 1), 1, 1, "v", "int"),
        "weekday": made(_part(lambda m: m.weekday()), 1, 1, "v", "int"),
        "dayofyear": made(_part(lambda m: m.timetuple().tm_yday), 1, 1, "v", "int"),
        "dayname": made(_part(lambda m: DAYS[m.weekday()]), 1, 1, "v", "text"),
        "monthname": made(_part(lambda m: MONTHS[m.month]), 1, 1, "v", "text"),
        "week": made(lambda v, mode=0: _part(lambda m: week_of(m, mode)[1])(v), 1, 2, "vi", "int"),
        "weekofyear": made(_part(lambda m: week_of(m, 3)[1]), 1, 1, "v", "int"),
        "yearweek": made(lambda v, mode=0: _part(lambda m: _yearweek(m, mode))(v), 1, 2, "vi", "int"),
        "last_day": made(_part(_last_day), 1, 1, "v", "date"),
        "to_days": made(_part(lambda m: m.toordinal() + 365), 1, 1, "v", "int"),
        "from_days": made(_from_days, 1, 1, "i", "date"),
        "makedate": made(_makedate, 2, 2, "i", "date"),
        "maketime": made(_maketime, 3, 3, "iin", "time"),
        "sec_to_time": made(lambda n: format_span(datetime.timedelta(seconds=min(n, 10**8))), 1, 1, "n", "time"),
        "time_to_sec": made(_clock(lambda seconds, _: seconds), 1, 1, "v", "int"),
        "from_unixtime": made(_from_unixtime, 1, 2, "nt", "datetime"),
        "unix_timestamp": made(
            lambda v=None: (int((CLOCK - _EPOCH).total_seconds()) if v is None
                            else _part(lambda m: int((m - _EPOCH).total_seconds()))(v)), 0, 1, "v", "int",
        ),
        "period_add": made(_period_add, 2, 2, "i", "int"),
    }  # fmt: skip
    for unit, run in _CLOCKS.items():
        found[unit] = made(run, 1, 1, "v", "int")
    return found


TIME_FUNCTIONS: dict[str, Function] = _functions()
