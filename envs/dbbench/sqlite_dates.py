"""Dates as text in MySQL's letters, both ways, and its eight ways of counting weeks."""

from __future__ import annotations

import calendar
import datetime
import re
from collections.abc import Callable

from envs.dbbench.sqlite_values import (
    Moment,
    format_moment,
)

__all__ = ["DAYS", "MONTHS", "formatted", "str_to_date", "week_of"]

MONTHS = tuple(calendar.month_name)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def week_of(moment: Moment, mode: int) -> tuple[int, int]:
    """Year and week by MySQL's modes (bit 0: Monday first; bit 1: 1 to 53; bit 2: the first week has the year's first
    such day instead of four days)."""
    monday, ranged, first = bool(mode & 1), bool(mode & 2), bool(mode & 4)
    if not monday:
        first = not first
    first_day = datetime.date(moment.year, 1, 1)
    days = moment.timetuple().tm_yday - 1
    weekday = first_day.weekday() if monday else (first_day.weekday() + 1) % 7
    year = moment.year
    # ``first``: weeks begin with the first Sunday (or Monday); otherwise with the week that has four days.
    if moment.month == 1 and moment.day <= 7 - weekday:
        outside = (first and weekday != 0) or (not first and weekday >= 4)
        if not ranged and outside:
            return year, 0
        if ranged and outside:
            year -= 1
            length = 366 if calendar.isleap(year) else 365
            days += length
            weekday = (weekday + 53 * 7 - length) % 7
    skipped = (first and weekday != 0) or (not first and weekday >= 4)
    since = days + weekday - (7 if skipped else 0)
    if ranged and since >= 52 * 7:
        weekday = (weekday + (366 if calendar.isleap(year) else 365)) % 7
        if (not first and weekday < 4) or (first and weekday == 0):
            return year + 1, 1
    return year, since // 7 + 1


_FORMATS: dict[str, Callable[[Moment], str]] = {
    "a": lambda m: DAYS[m.weekday()][:3],
    "b": lambda m: MONTHS[m.month][:3],
    "c": lambda m: str(m.month),
    "D": lambda m: f"{m.day}{_ordinal(m.day)}",
    "d": lambda m: f"{m.day:02d}",
    "e": lambda m: str(m.day),
    "f": lambda m: f"{m.microsecond:06d}",
    "H": lambda m: f"{m.hour:02d}",
    "h": lambda m: f"{m.hour % 12 or 12:02d}",
    "I": lambda m: f"{m.hour % 12 or 12:02d}",
    "i": lambda m: f"{m.minute:02d}",
    "j": lambda m: f"{m.timetuple().tm_yday:03d}",
    "k": lambda m: str(m.hour),
    "l": lambda m: str(m.hour % 12 or 12),
    "M": lambda m: MONTHS[m.month],
    "m": lambda m: f"{m.month:02d}",
    "p": lambda m: "AM" if m.hour < 12 else "PM",
    "r": lambda m: f"{m.hour % 12 or 12:02d}:{m.minute:02d}:{m.second:02d} {'AM' if m.hour < 12 else 'PM'}",
    "S": lambda m: f"{m.second:02d}",
    "s": lambda m: f"{m.second:02d}",
    "T": lambda m: f"{m:%H:%M:%S}",
    "U": lambda m: f"{week_of(m, 0)[1]:02d}",
    "u": lambda m: f"{week_of(m, 1)[1]:02d}",
    "V": lambda m: f"{week_of(m, 2)[1]:02d}",
    "v": lambda m: f"{week_of(m, 3)[1]:02d}",
    "W": lambda m: DAYS[m.weekday()],
    "w": lambda m: str((m.weekday() + 1) % 7),
    "X": lambda m: f"{week_of(m, 2)[0]:04d}",
    "x": lambda m: f"{week_of(m, 3)[0]:04d}",
    "Y": lambda m: f"{m.year:04d}",
    "y": lambda m: f"{m.year % 100:02d}",
}


def _ordinal(day: int) -> str:
    return "th" if 11 <= day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")


def formatted(moment: Moment, pattern: str) -> str:
    """A moment in DATE_FORMAT's letters."""
    parts = re.split(r"%(.)", pattern, flags=re.DOTALL)
    return "".join(_FORMATS[part](moment) if at % 2 and part in _FORMATS else part for at, part in enumerate(parts))


_READS = {
    "Y": r"(\d{4})", "y": r"(\d{2})", "m": r"(\d{1,2})", "c": r"(\d{1,2})", "d": r"(\d{1,2})", "e": r"(\d{1,2})",
    "D": r"(\d{1,2})(?:st|nd|rd|th)", "H": r"(\d{1,2})", "k": r"(\d{1,2})", "h": r"(\d{1,2})", "I": r"(\d{1,2})",
    "l": r"(\d{1,2})", "i": r"(\d{1,2})", "S": r"(\d{1,2})", "s": r"(\d{1,2})", "f": r"(\d{1,6})", "p": r"([AaPp][Mm])",
    "M": "(" + "|".join(MONTHS[1:]) + ")", "b": "(" + "|".join(name[:3] for name in MONTHS[1:]) + ")",
    "W": "(" + "|".join(DAYS) + ")", "a": "(" + "|".join(name[:3] for name in DAYS) + ")", "j": r"(\d{1,3})",
}  # fmt: skip


def str_to_date(text: str, pattern: str) -> str | None:
    """The date, the time or both, whichever the pattern names; None where the text does not fit."""
    pattern = pattern.replace("%T", "%H:%i:%s").replace("%r", "%h:%i:%s %p")
    parts = re.split(r"%(.)", pattern[:200])
    letters = parts[1::2]
    if any(letter not in _READS for letter in letters):
        return None
    expression = "".join(
        _READS[part] if at % 2 else re.sub(r"\s+", r"\\s*", re.escape(part).replace("\\ ", " "))
        for at, part in enumerate(parts)
    )
    found = re.match(r"\s*" + expression, text[:200], re.IGNORECASE)
    if found is None:
        return None
    return _assembled(dict(zip(letters, found.groups(), strict=True)))


def _assembled(found: dict[str, str]) -> str | None:
    year = int(found.get("Y", 0)) if "Y" in found else _two_digits(found.get("y"))
    month = int(found.get("m") or found.get("c") or 0)
    for letter, length in (("M", 9), ("b", 3)):
        if letter in found:
            names = [name[:length].lower() for name in MONTHS]
            month = names.index(found[letter].lower())
    day = int(found.get("d") or found.get("e") or found.get("D") or 0)
    dated = any(letter in found for letter in "YymcMbdeDj")
    timed = any(letter in found for letter in "HkhIliSsfp")
    hour = int(found.get("H") or found.get("k") or found.get("h") or found.get("I") or found.get("l") or 0)
    if "p" in found:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if found["p"].lower() == "pm" else 0)
    minute, second = int(found.get("i") or 0), int(found.get("s") or found.get("S") or 0)
    try:
        clock = datetime.time(hour, minute, second, int(found.get("f", "0").ljust(6, "0")))
        if not dated:
            return f"{clock:%H:%M:%S}" if timed else None
        if "j" in found and year:
            date = datetime.date(year, 1, 1) + datetime.timedelta(days=int(found["j"]) - 1)
        else:
            date = datetime.date(year, month, day)
    except ValueError:
        return None
    moment = datetime.datetime.combine(date, clock)
    return format_moment(moment, 6 if "f" in found else 0) if timed else f"{moment:%Y-%m-%d}".rjust(10, "0")


def _two_digits(text: str | None) -> int:
    return 0 if text is None else int(text) + (2000 if int(text) < 70 else 1900)
