"""How an answer and a changed table are judged, as AgentBench does, without evaluating any text as code.

Two sets of rules: ``fc`` (the function-calling version, ``result_processor.py`` of AgentBench: normalised values, a
tolerance of 0.01) and ``classic`` (v0.2: exact). A mutation is judged by a hash of the table in both.

Where the original calls ``eval`` on the policy's text, a literal parser stands here: arithmetic in an answer
(``[1+1]``) is therefore text, not a number; nothing else differs.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

__all__ = [
    "MUTATION_TYPES",
    "Answer",
    "Rules",
    "TableHasher",
    "answer_matches",
    "combine_hashes",
    "gold_hash",
    "hash_matches",
    "normalised",
    "rules_names",
]

type Answer = str | Sequence[object]
"""What was committed: a list of values, or one text that may itself spell a list."""

Rules = Literal["fc", "classic"]

MUTATION_TYPES = frozenset({"INSERT", "UPDATE", "DELETE"})

_TOLERANCE = 1e-2
_ZERO = frozenset({"none", "null", "undefined", "nan", "inf", "infinity", "-inf", "-infinity", ""})
_QUOTES = "'\""
_GROUP_CONCAT_BYTES = 1024  # MySQL's default group_concat_max_len, part of the stored hashes
_NO_ROWS = "None"  # what the original reads for the hash of an empty table (NULL)


def rules_names() -> tuple[str, ...]:
    """The names of the rules."""
    return get_args(Rules)


def answer_matches(answer: Answer | None, gold: Sequence[str], rules: Rules = "fc") -> bool:
    """Whether the committed answer is the gold one."""
    return _matches_fc(answer, gold) if rules == "fc" else _matches_classic(answer, gold)


def normalised(value: object) -> str:
    """One value of an answer or of a result as the FC rules compare it."""
    return _normalise(_unwrap(value))


# The FC rules.


def _matches_fc(answer: Answer | None, gold: Sequence[str]) -> bool:
    given = _values(answer)
    wanted = _values(gold)
    if given is None or wanted is None:
        return False
    if len(given) == 1 and len(wanted) == 1:
        if _is_float(given[0]) and _is_float(wanted[0]):
            return _close(given[0], wanted[0])
        return given[0] == wanted[0]
    if all(map(_is_float, given)) and all(map(_is_float, wanted)):
        return _same_numbers(given, wanted)
    return set(given) == set(wanted)


def _values(answer: Answer | None) -> list[str] | None:
    """The normalised values of an answer; None where its text is a literal that is no list, which never matches."""
    if answer is None:
        return ["0"]
    if not isinstance(answer, str):
        return [_normalise(_unwrap(item)) for item in answer]
    text = answer
    if text.startswith("[") and text.endswith("]"):
        found = _database_rows(text)
        if found is not None:
            return [_normalise(value) for value in found]
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return [_normalise(_bare(text))]
    known, literal = _literal(text)
    if not known:
        return [_normalise(value) for value in _split(text[1:-1])]
    if not isinstance(literal, list):
        return None
    return [_normalise(_unwrap(item)) for item in literal]


def _database_rows(text: str) -> list[str] | None:
    """The values of a result as the database prints it, ``[('a',), ('b',)]``: rows of one column, no others."""
    known, literal = _literal(text)
    if known and isinstance(literal, list) and all(isinstance(row, tuple) for row in literal):
        return [_bare(_text(row[0])) for row in literal if len(row) == 1]
    inner = text.strip("[]")
    if inner.count("(") == 1 and inner.startswith("(") and inner.endswith(",)"):
        return [_bare(inner[1:-2])]
    return None


def _literal(text: str) -> tuple[bool, object]:
    """Whether the text is a Python literal, and its value."""
    try:
        return True, ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False, None


def _split(text: str) -> list[str]:
    """The items of a list that is no literal: split at commas outside quotes; quotes and empty items are dropped."""
    items: list[str] = []
    current = ""
    quoted = False
    for char in text:
        if char in _QUOTES:
            quoted = not quoted
        elif char == "," and not quoted:
            if current:
                items.append(_bare(current))
                current = ""
        else:
            current += char
    if current:
        items.append(_bare(current))
    return items


def _unwrap(item: object) -> str:
    return _bare(_text(item[0] if isinstance(item, tuple) and len(item) == 1 else item))


def _text(value: object) -> str:
    try:
        return str(value)
    except ValueError:  # an integer of thousands of digits
        return "a number too long to print"


def _bare(text: str) -> str:
    return text.strip().strip("'\"")


def _normalise(value: str) -> str:
    """Percent sign, thousands' commas and the many spellings of nothing; a value with ``%`` keeps its commas."""
    value = value.strip()
    if value.endswith("%"):
        return value[:-1].strip()
    if "," in value and not value.startswith("[") and not value.endswith("]"):
        value = value.replace(",", "")
    return "0" if value.lower() in _ZERO else value


def _is_float(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _close(a: str, b: str) -> bool:
    return abs(float(a) - float(b)) <= _TOLERANCE


def _same_numbers(given: list[str], wanted: list[str]) -> bool:
    """Greedy matching of multisets, in the order given."""
    left = list(wanted)
    if len(given) != len(left):
        return False
    for value in given:
        match = next((i for i, other in enumerate(left) if _close(value, other)), None)
        if match is None:
            return False
        del left[match]
    return True


# The classic rules.


def _matches_classic(answer: Answer | None, gold: Sequence[str]) -> bool:
    given: list[object]
    if isinstance(answer, str):
        known, literal = _literal(answer.strip())
        given = list(literal) if known and isinstance(literal, (list, tuple, set, dict, str)) else [answer]
    else:
        given = [] if answer is None else list(answer)
    if len(given) == 1 and len(gold) == 1:
        number, wanted = _number(given[0]), _number(gold[0])
        if number is not None and wanted is not None:
            return number == wanted
        return given[0] == gold[0]
    try:
        return set(given) == set(gold)
    except TypeError:  # a list within the list
        return False


def _number(value: object) -> float | None:
    if not isinstance(value, (str, int, float)):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


# The hash of a table.


class TableHasher:
    """AgentBench's hash of one table, from the server's ``CONCAT_WS(',', …)`` of each row.

    The original lets the server compute ``md5(group_concat(rowhash order by rowhash))`` with
    ``rowhash = substring(md5(concat_ws(…)), 1, 5)``; MySQL 9.7 has no MD5() and servers cut GROUP_CONCAT at different
    lengths, so only the concatenation is theirs.
    """

    def __init__(self) -> None:
        self._rows: list[str] = []

    def add(self, row: str | bytes | None) -> None:
        """Add a row's text; None (the server could not build it) is left out, as GROUP_CONCAT does."""
        if row is not None:
            raw = row.encode() if isinstance(row, str) else row
            self._rows.append(hashlib.md5(raw, usedforsecurity=False).hexdigest()[:5])

    def digest(self) -> str:
        """The hash, 32 hex digits, or ``None`` (as text) of an empty table."""
        if not self._rows:
            return _NO_ROWS
        joined = ",".join(sorted(self._rows)).encode()[:_GROUP_CONCAT_BYTES]
        return hashlib.md5(joined, usedforsecurity=False).hexdigest()


def combine_hashes(hashes: Iterable[str]) -> str:
    """The hash of several tables."""
    return "_".join(sorted(hashes))


def gold_hash(stored: str) -> str:
    """The hash in a stored gold: the printed result ``[('03b2…',)]`` or the bare hash.

    Raises ValueError for another text.
    """
    values = _values(stored)
    if values is None or len(values) != 1:
        raise ValueError("not one hash")
    return values[0]


def hash_matches(found: str, gold: str) -> bool:
    """Whether the table's hash is the gold one; an empty table reads as 0, as in the original."""
    return _normalise(found) == _normalise(gold)
