"""Regular expressions of a policy's, that end: Python's matcher for those whose work is bounded, an error for others.

Python's matcher cannot be interrupted and some patterns take it for ever, so a pattern is judged before it is run: a
repetition inside of a repetition, a reference to a group, or too much work for the text's length is refused with
MySQL's own words for a pattern that takes too long.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from envs.dbbench.sqlite_errors import failed

__all__ = ["Matcher", "matcher"]

_WORK = 30_000_000  # steps of the matcher, some 50 million of which it makes a second
_LONGEST = 1000  # characters of a pattern
_MOST_TIMES = 200  # of a counted repetition
_CLASSES = {
    "alpha": "^\\W\\d_", "digit": "\\d", "alnum": "^\\W_", "space": "\\s", "upper": "A-Z", "lower": "a-z",
    "punct": "!-/:-@\\[-`{-~", "blank": " \\t", "xdigit": "0-9A-Fa-f", "cntrl": "\\x00-\\x1f", "word": "\\w",
}  # fmt: skip
_LIMIT = "Timeout exceeded in regular expression match."


class Matcher:
    """A pattern that may be run on texts up to some length."""

    def __init__(self, compiled: re.Pattern[str], loops: int, ways: int) -> None:
        self._compiled = compiled
        self._loops = loops
        self._ways = ways

    def found(self, text: str) -> bool:
        """Whether it matches anywhere. Raises StatementFailed where that could take too long."""
        self._check(text)
        return self._compiled.search(text) is not None

    def all(self, text: str, start: int = 0) -> Iterator[re.Match[str]]:
        """All matches from ``start`` on, in order."""
        self._check(text)
        return self._compiled.finditer(text, start)

    def _check(self, text: str) -> None:
        # A search begins anew at every character, and each loop may end at every one.
        if self._ways * (len(text) + 1) ** min(self._loops + 1, 6) > _WORK and len(text) > 1:
            raise failed(3699, _LIMIT)


@lru_cache(maxsize=256)
def matcher(pattern: str, mode: str = "") -> Matcher:
    """The matcher of a pattern in ICU's syntax. Raises StatementFailed for a broken or an unbounded one."""
    if not pattern:
        raise failed(3685, "Illegal argument to a regular expression.")
    if len(pattern) > _LONGEST:
        raise failed(3699, _LIMIT)
    text, loops, ways = _judged(pattern)
    flags = 0 if "c" in mode else re.IGNORECASE
    flags |= (re.MULTILINE if "m" in mode else 0) | (re.DOTALL if "n" in mode else 0)
    try:
        return Matcher(re.compile(text, flags), loops, ways)
    except (re.error, OverflowError, RecursionError):
        raise failed(3692, "The regular expression contains an error.") from None


def _judged(pattern: str) -> tuple[str, int, int]:
    """Python's spelling, how many loops it has, and how many ways there are to choose between its alternatives.

    Raises StatementFailed for loops in loops.
    """
    written: list[str] = []
    # For each open group: whether it holds a loop or a choice, and its alternatives.
    groups, choices = [False], [1]
    ways, loops, at, closed = 1, 0, 0, False
    while at < len(pattern):
        char = pattern[at]
        if char == "[":
            text, at = _class(pattern, at)
            written.append(text)
            closed = False
            continue
        if char == "\\":
            follows = pattern[at + 1 : at + 2]
            if follows.isdigit() or follows in ("k", "g", "X", "R", "p", "P"):
                raise failed(3699, _LIMIT) if follows.isdigit() else failed(3692, "Unsupported escape.")
            written.append({"Z": r"\Z", "z": r"\Z", "h": r"[ \t]"}.get(follows, char + follows))
            at, closed = at + 2, False
            continue
        if char == "(":
            groups.append(False)
            choices.append(1)
            if pattern.startswith("(?", at) and not re.match(r"\(\?(?::|i\)|=|!)", pattern[at : at + 4]):
                raise failed(3692, "The regular expression contains an unsupported group.")
            if pattern.startswith("(?i)", at):
                groups.pop()
                choices.pop()
                at += 4
                continue
        elif char == ")" and len(groups) > 1:
            risky = groups.pop()
            ways *= choices.pop()
            groups[-1] = groups[-1] or risky
            written.append(char)
            at += 1
            closed = risky
            continue
        elif char == "|":
            groups[-1] = True
            choices[-1] += 1
        elif char in "*+{?":
            bounded = re.match(r"\{(\d{1,4})(?:,(\d{0,4}))?\}", pattern[at : at + 12]) if char == "{" else None
            if char == "{" and bounded is None:
                raise failed(3692, "The regular expression contains an error.")
            endless = char in "*+" or (bounded is not None and bounded[2] == "")
            most = max(int(bounded[1]), int(bounded[2] or 0)) if bounded else 1
            if most > _MOST_TIMES or (closed and (endless or most > 1)):
                raise failed(3699, _LIMIT)
            if endless or most > 1:
                loops += 1
            else:
                ways *= 2
            groups = [True] * len(groups)
            written.append(bounded[0] if bounded else char)
            at += len(bounded[0]) if bounded else 1
            if pattern[at : at + 1] in ("?", "+"):
                written.append("?" if pattern[at] == "?" else "+")
                at += 1
            closed = False
            continue
        written.append(char)
        at += 1
        closed = False
    return "".join(written), loops, ways * choices[0]


def _class(pattern: str, at: int) -> tuple[str, int]:
    """A bracket expression in Python's spelling, and where it ends."""
    place = at + 1
    negative = pattern.startswith("^", place)
    place += negative
    inside: list[str] = []
    first = True
    while place < len(pattern):
        named = re.match(r"\[:(\^?)([a-z]+):\]", pattern[place : place + 12])
        if named:
            members = _CLASSES.get(named[2])
            if members is None:
                raise failed(3692, "The regular expression contains an unknown class.")
            if members.startswith("^"):
                members = {"alpha": "A-Za-z\u00c0-\u024f", "alnum": "0-9A-Za-z\u00c0-\u024f"}[named[2]]
            inside.append(members)
            place += len(named[0])
        elif pattern[place] == "]" and not first:
            return f"[{'^' if negative else ''}{''.join(inside)}]", place + 1
        elif pattern[place] == "\\":
            inside.append(pattern[place : place + 2])
            place += 2
        else:
            inside.append("\\" + pattern[place] if pattern[place] in "[]&~|" else pattern[place])
            place += 1
        first = False
    raise failed(3696, "The regular expression contains an unclosed bracket expression.")
