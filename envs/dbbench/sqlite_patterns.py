"""LIKE and REGEXP, for SQLite to call."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from envs.dbbench.sqlite_collation import sort_key
from envs.dbbench.sqlite_errors import failed
from envs.dbbench.sqlite_function import Function, bounded
from envs.dbbench.sqlite_regex import matcher

__all__ = ["PATTERN_FUNCTIONS"]

_ANY = "\uffff"
_WORK = 50_000_000  # characters that a search may compare, about a second


@lru_cache(maxsize=1024)
def _parts(pattern: str, escape: str, exact: bool) -> tuple[str, ...]:
    """The fixed parts between the ``%``, as keys; ``_ANY`` in them is any one character."""
    parts, current, at = [], "", 0
    while at < len(pattern):
        char = pattern[at]
        if char == "%" and char != escape:
            parts.append(current)
            current = ""
        elif char == "_" and char != escape:
            current += _ANY
        else:
            if char == escape and at + 1 < len(pattern):
                at += 1
                char = pattern[at]
            current += char if exact else sort_key(char)
        at += 1
    return (*parts, current)


def _matches(text: str, pattern: str, escape: str, exact: bool) -> int:
    """LIKE in time that grows with the text's length times the pattern's."""
    keys = text if exact else sort_key(text)
    first, *middle = _parts(pattern, escape, exact)
    if not middle:
        return int(len(keys) == len(first) and _part_at(keys, first, 0))
    last = middle.pop()
    at, end = len(first), len(keys) - len(last)
    if at > end or not _part_at(keys, first, 0) or not _part_at(keys, last, end):
        return 0
    for part in middle:
        found = _find_part(keys, part, at, end)
        if found < 0:
            return 0
        at = found + len(part)
    return 1


def _like(text: str, pattern: str, escape: str = "\\") -> int:
    return _matches(text, pattern, escape, False)


def _like_binary(text: str, pattern: str, escape: str = "\\") -> int:
    return _matches(text, pattern, escape, True)


def _filled(given: tuple[Any, ...], defaults: tuple[Any, ...]) -> tuple[Any, ...]:
    return given + defaults[len(given) :]


def _regexp_replace(text: str, pattern: str, new: str, *rest: Any) -> str:
    start, nth, mode = _filled(rest, (1, 0, ""))
    plain = re.sub(r"\\(.)|\$(\d)", lambda found: found[1] or f"\0{found[2]}", new)
    place = max(start - 1, 0)
    shown = [text[:place]]
    size = place
    for count, match in enumerate(matcher(pattern, mode).all(text, place), start=1):
        if nth and count != nth:
            continue
        filled = "".join(
            _group(match, int(piece[1])) + piece[2:] if at else piece
            for at, piece in enumerate(plain.replace("\0", "\1\0").split("\1"))
        )
        shown += [text[place : match.start()], filled]
        place = match.end()
        size += len(filled) + len(shown[-2])
        bounded(size)
    return "".join(shown) + text[place:]


def _regexp_instr(text: str, pattern: str, *rest: Any) -> int:
    start, nth, after, mode = _filled(rest, (1, 1, 0, ""))
    for count, match in enumerate(matcher(pattern, mode).all(text, max(start - 1, 0)), start=1):
        if count == nth:
            return (match.end() if after else match.start()) + 1
    return 0


def _part_at(keys: str, part: str, at: int) -> bool:
    return len(keys) >= at + len(part) and all(wanted in (_ANY, keys[at + i]) for i, wanted in enumerate(part))


def _find_part(keys: str, part: str, start: int, end: int) -> int:
    if _ANY not in part:
        return keys.find(part, start, end)
    if (end - start) * len(part) > _WORK:
        raise failed(3699, "Timeout exceeded in pattern match.")
    found = _compiled(part).search(keys, start, end)
    return -1 if found is None else found.start()


@lru_cache(maxsize=256)
def _compiled(part: str) -> re.Pattern[str]:
    """A part of fixed length with characters that may be any."""
    return re.compile(re.escape(part).replace(_ANY, "."), re.DOTALL)


def _group(match: re.Match[str], number: int) -> str:
    if number > match.re.groups:
        raise failed(3686, "Index out of bounds in regular expression search.")
    return match[number] or ""


def _regexp_substr(text: str, pattern: str, start: int = 1, nth: int = 1, mode: str = "") -> str | None:
    for count, match in enumerate(matcher(pattern, mode).all(text, max(start - 1, 0)), start=1):
        if count == nth:
            return match[0]
    return None


PATTERN_FUNCTIONS: dict[str, Function] = {
    "like": Function(_like, 2, 3, "t", "int", inner=True),
    "like_binary": Function(_like_binary, 2, 3, "t", "int", inner=True),
    "regexp_like": Function(lambda s, p, m="": int(matcher(p, m).found(s)), 2, 3, "t", "int"),
    "regexp_replace": Function(_regexp_replace, 3, 6, "tttiit", "text"),
    "regexp_substr": Function(_regexp_substr, 2, 5, "ttiit", "text"),
    "regexp_instr": Function(_regexp_instr, 2, 6, "ttiiit", "int"),
}
