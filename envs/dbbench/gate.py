"""What a policy's statement may not say on a server that others share: a few words whose effects rights cannot confine.

Rights keep an episode in its own database. Three things escape them: user locks (``GET_LOCK``), whose names are the
whole server's; XA transactions, which outlive the session that prepared them; dynamic SQL, which could spell the other
two at run time. The first two are refused in the server's own words; dynamic SQL is allowed where the text that it will
run can be read first, which is everywhere but in a routine.

A statement is read by MySQL's lexical rules: words in strings and comments are no code. Where those rules may not hold
(after ``SET sql_mode`` or ``SET NAMES``, in a statement with an executable comment), every word counts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from envs.dbbench.backend import PUBLIC_NAME

__all__ = ["Gate", "Passage"]

_LOCKS = frozenset({"get_lock", "release_lock", "release_all_locks", "is_free_lock", "is_used_lock"})
_XA = frozenset({"start", "begin", "end", "prepare", "commit", "rollback", "recover"})
_MODES = frozenset(
    {"sql_mode", "names", "charset", "character", "character_set_client", "character_set_connection", "old_mode"}
)
_XA_WORDS = "1399 (XAE07): XAER_RMFAIL: The command cannot be executed when global transaction is in the  IDLE state"
_DYNAMIC_WORDS = "1336 (0A000): Dynamic SQL is not allowed in stored function or trigger"
# Strings, quoted names, comments, words; anything else is one character.
_TOKENS = re.compile(
    r"""
    (?P<string>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*")
    |(?P<name>`(?:[^`]|``)*`)
    |(?P<comment>\#[^\n]*|--(?=[\s\x00-\x1f]|\Z)[^\n]*|/\*.*?(?:\*/|\Z))
    |(?P<word>[\w$]+)
    |(?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
# A server may read these otherwise than the pattern above: executable comments, dollar quotes, a text that has a NUL.
_UNCERTAIN = re.compile(r"/\*M?!|\$\w*\$|\x00", re.IGNORECASE)
_WORDS = re.compile(r"[\w$]+")
_PREPARE = re.compile(r"\s*prepare\s+(?P<name>[\w$]+|`[^`]+`)\s+from\s+(?P<text>.+?)[;\s]*", re.IGNORECASE | re.DOTALL)
_IMMEDIATE = re.compile(
    r"\s*execute\s+immediate\s+(?P<text>'[^'\\]*'|\"[^\"\\]*\"|@[\w$.]+|concat\w*\s*\(.*\))(?P<using>\s+using\s+.+)?[;\s]*",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Passage:
    """How a statement goes on: refused with these words; or as it is; or, dynamic SQL, in steps.

    ``dynamic`` is the expression whose value would be run; ``before`` and ``after`` surround it in the statement.
    """

    refusal: str = ""
    dynamic: str = ""
    before: str = ""
    after: str = ""


class Gate:
    """Reads the statements of one session, in order."""

    def __init__(self) -> None:
        self._uncertain = False

    def check(self, statement: str, *, nested: bool = False) -> Passage:
        """What becomes of a statement. ``nested``: it is the text of a dynamic one and may hold none itself."""
        words = list(self._words(statement))
        passage = self._judge(statement, words, nested=nested)
        if not passage.refusal and "set" in words and not _MODES.isdisjoint(words):
            self._uncertain = True
        return passage

    def _judge(self, statement: str, words: list[str], *, nested: bool) -> Passage:
        lock = next((word for word in words if word in _LOCKS), None)
        if lock is None and not statement.isascii() and any(map(_resembles_lock, _WORDS.findall(statement))):
            lock = "get_lock"
        if lock is not None:
            return Passage(f"1305 (42000): FUNCTION {PUBLIC_NAME}.{lock.upper()} does not exist")
        if any(word == "xa" and after in _XA for word, after in pairwise(words)):
            return Passage(_XA_WORDS)
        if _has_dynamic(words):
            found = None if nested else _PREPARE.fullmatch(statement) or _IMMEDIATE.fullmatch(statement)
            if found is None:
                return Passage(_DYNAMIC_WORDS)
            text = found["text"]
            using = found.groupdict().get("using") or ""
            return Passage(dynamic=text, before=statement[: found.start("text")], after=using)
        return Passage()

    def _words(self, statement: str) -> Iterator[str]:
        """The code's words, folded as the server's name comparison folds them, in order."""
        if self._uncertain or _UNCERTAIN.search(statement):
            yield from map(_folded, _WORDS.findall(statement))
            return
        for token in _TOKENS.finditer(statement):
            if token.lastgroup == "word":
                yield _folded(token.group())
            elif token.lastgroup == "name":
                yield _folded(token.group().strip("`"))
            elif token.lastgroup == "other" and token.group() in "'\"`":
                # A quote that does not close: the server refuses the statement, but let nothing hang on that.
                yield from map(_folded, _WORDS.findall(statement, token.end()))
                return


def _has_dynamic(words: list[str]) -> bool:
    for place, word in enumerate(words):
        if word == "prepare" and words[place + 2 : place + 3] == ["from"]:
            return True
        if word == "execute" and words[place + 1 : place + 2] == ["immediate"]:
            return True
    return False


def _folded(word: str) -> str:
    if word.isascii():
        return word.lower()
    plain = unicodedata.normalize("NFKD", word)
    return "".join(char for char in plain if not unicodedata.combining(char)).casefold()


def _resembles_lock(word: str) -> bool:
    """Whether a name with letters beyond ASCII could be a lock's: collations hold more letters equal than Unicode."""
    return not word.isascii() and any(
        len(word) == len(lock) and all(a == b or not a.isascii() for a, b in zip(word.lower(), lock, strict=False))
        for lock in _LOCKS
    )
