"""How texts compare: utf8mb4_0900_ai_ci by Unicode's decomposition, in the order of its weights.

Case and accents say nothing, trailing blanks do; signs come before digits, digits before letters. Right for Latin,
Greek and Cyrillic; other scripts are in the order of their code points.
"""

# ruff: noqa: RUF001 - signs that look like others are what this is about

from __future__ import annotations

import unicodedata
from decimal import Decimal
from functools import lru_cache

from envs.dbbench.sqlite_values import as_decimal

__all__ = ["compare_numbers", "compare_texts", "sort_key"]

# The signs of Latin texts by their weight (Unicode 9.0's DUCET); equal ones stand beside each other in a group.
_SIGNS = (
    "\t", "\n", "\v", "\f", "\r", "\x85", "\u2028", "\u2029", " \xa0\u202f", "‾", "_", "‗", "-", "‐‑", "‒", "–",
    "—", "―",
    ",", ";", ":", "!", "¡", "?", "¿", ".․", "·", "'", "‘", "’", "‚", "‛", "‹", "›", '"', "“", "”", "„", "‟", "«", "»",
    "(", ")", "[", "]", "{", "}", "‖", "§", "¶", "@", "*", "/", "\\", "&", "#", "%", "‰", "†", "‡", "•", "′", "`", "´",
    "^", "¯", "¨", "¸", "°", "©", "®", "+", "±", "÷", "×", "<", "=", ">", "¬", "|", "¦", "~", "−", "⁄", "¤", "¢", "$",
    "£", "¥", "€",
)  # fmt: skip
_LETTERS = {"æ": "ae", "ð": "d", "ø": "o", "đ": "d", "ħ": "h", "ł": "l", "œ": "oe", "ς": "σ"}
_DIGIT, _LETTER = 0x200, 0x300
_TABLE: dict[int, int | str | None] = {
    **{code: None for code in (*range(1, 9), *range(14, 32), *range(127, 160), 0xAD) if code != 0x85},
    **{ord(sign): chr(0x100 + rank) for rank, group in enumerate(_SIGNS) for sign in group},
    **{ord("0") + digit: chr(_DIGIT + digit) for digit in range(10)},
    **{ord("a") + letter: chr(_LETTER + letter) for letter in range(26)},
    **{ord("A") + letter: chr(_LETTER + letter) for letter in range(26)},
}
# The same order among ASCII texts alone, in a table that Python reads fast.
_ASCII = {
    code: None if key is None else chr(1 + rank)
    for rank, key in enumerate(sorted({key for code, key in _TABLE.items() if code < 128 and isinstance(key, str)}))
    for code, other in _TABLE.items()
    if code < 128 and other == key
} | {code: None for code, key in _TABLE.items() if code < 128 and key is None}
_KEPT = 200  # characters of a text whose key is remembered


def sort_key(text: str) -> str:
    """A text that compares, code point by code point, as ``text`` does in MySQL."""
    return _remembered(text) if len(text) <= _KEPT else _key(text)


def _key(text: str) -> str:
    if text.isascii():
        return text.translate(_TABLE)
    # й is a letter of its own.
    plain = unicodedata.normalize("NFKD", text.casefold().replace("й", "\ue000")).casefold()
    kept = [_LETTERS.get(char, char) for char in plain if unicodedata.category(char) != "Mn"]
    return "".join(kept).replace("\ue000", "и\u0306").translate(_TABLE)


_remembered = lru_cache(maxsize=16384)(_key)


def compare_texts(one: str, two: str) -> int:
    """-1, 0 or 1, as SQLite wants it of a collation."""
    if one == two:
        return 0
    if one.isascii() and two.isascii():
        first, second = one.translate(_ASCII), two.translate(_ASCII)
    else:
        first, second = sort_key(one), sort_key(two)
    return (first > second) - (first < second)


def compare_numbers(one: str, two: str) -> int:
    """The same for texts that are decimals."""
    if one == two:
        return 0
    first, second = _decimal(one), _decimal(two)
    return (first > second) - (first < second)


@lru_cache(maxsize=16384)
def _decimal(text: str) -> Decimal:
    return as_decimal(text)
