"""What a policy's statement may not say on a server that others share: a few words whose effects rights cannot confine.

Rights keep an episode in its own database. Three things escape them: user locks (``GET_LOCK``), whose names are the
whole server's; XA transactions, which outlive the session that prepared them; dynamic SQL, which could spell the other
two at run time. The first two are refused in the server's own words, as are two functions that can end a server;
dynamic SQL is allowed where the text that it will run can be read first, which is everywhere but in a routine.

A statement is read by MySQL's lexical rules: words in strings and comments are no code. Where those rules may not hold
(after ``SET sql_mode`` or ``SET NAMES``, in a statement with an executable comment), every word counts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import pairwise

from envs.dbbench.backend import PUBLIC_NAME

__all__ = ["Gate", "Passage"]

_REFUSED = frozenset(
    {
        *("get_lock", "release_lock", "release_all_locks", "is_free_lock", "is_used_lock"),
        *("extractvalue", "updatexml"),  # a deep XPath runs MariaDB's parser out of its stack, and the server ends
    }
)
_XA = frozenset({"start", "begin", "end", "prepare", "commit", "rollback", "recover"})
_MODES = frozenset(
    {"sql_mode", "names", "charset", "character", "character_set_client", "character_set_connection", "old_mode"}
)
# MySQL lets anyone put a table into the file that all share and that never shrinks.
_SYSTEM_SPACE = "innodb_system"
_SYSTEM_SPACE_WORDS = (
    "1227 (42000): Access denied; you need (at least one of) the CREATE TABLESPACE privilege(s) for this operation"
)
# MySQL's disabled_storage_engines does not hold for CREATE TABLE … SELECT.
_ENGINES = frozenset(
    ("memory", "heap", "myisam", "mrg_myisam", "merge", "csv", "archive", "blackhole", "federated", "aria", "ndb")
)
# These tell the names of others' databases, on MySQL to anyone.
_PROCESS_WORDS = "1227 (42000): Access denied; you need (at least one of) the PROCESS privilege(s) for this operation"
_TABLESPACES_WORDS = (
    f"1142 (42000): SELECT command denied to user '{PUBLIC_NAME}'@'localhost' for table 'tablespaces_extensions'"
)
# MySQL lets an owner close a database so that its administrator cannot drop it either.
_DATABASE = frozenset({"database", "schema"})
_READ_ONLY_WORDS = f"1044 (42000): Access denied for user '{PUBLIC_NAME}'@'localhost' to database '{PUBLIC_NAME}'"
_XA_WORDS = "1399 (XAE07): XAER_RMFAIL: The command cannot be executed when global transaction is in the  IDLE state"
_DYNAMIC_WORDS = "1336 (0A000): Dynamic SQL is not allowed in stored function or trigger"
# Strings, quoted names, comments, words; anything else is one character.
_TOKENS = re.compile(
    r"""
    (?P<string>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*")
    |(?P<name>`(?:[^`]|``)*`)
    |(?P<comment>\#[^\n]*|--(?=[\x00-\x20]|\Z)[^\n]*|/\*.*?(?:\*/|\Z))
    |(?P<word>[\w$]+)
    |(?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
# A server may read these otherwise than the pattern above: executable comments, dollar quotes, a text that has a NUL.
_UNCERTAIN = re.compile(r"/\*M?!|\$\w*\$|\x00", re.IGNORECASE)
_EXECUTABLE = re.compile(r"/\*M?!\d*", re.IGNORECASE)
_WORDS = re.compile(r"[\w$]+")
_PREPARE = re.compile(r"\s*prepare\s+(?P<name>[\w$]+|`[^`]+`)\s+from\s+(?P<text>.+)", re.IGNORECASE | re.DOTALL)
_SHORT = 24  # characters of a string that is kept: no name is longer
_ENDS = "; \t\r\n"
_IMMEDIATE = re.compile(
    r"\s*execute\s+immediate\s+(?P<text>'[^'\\]*'|\"[^\"\\]*\"|@[\w$.]+|concat\w*\s*\(.*\))(?P<using>\s+using\s+.+)?",
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
        loose = self._uncertain or _UNCERTAIN.search(statement) is not None
        words = list(_all_words(statement) if loose else _code_words(statement))
        passage = _judge(statement, words, loose=loose, nested=nested)
        if not passage.refusal and "set" in words and not _MODES.isdisjoint(words):
            self._uncertain = True
        return passage


def _judge(statement: str, words: list[str], *, loose: bool, nested: bool) -> Passage:
    function = _refused_among(statement, words, loose=loose)
    if function:
        return Passage(f"1305 (42000): FUNCTION {PUBLIC_NAME}.{function.upper()} does not exist")
    if _SYSTEM_SPACE in words:
        return Passage(_SYSTEM_SPACE_WORDS)
    engine = _engine_among(words, loose=loose)
    if engine:
        return Passage(f"3161 (HY000): Storage engine {engine} is disabled (Table creation is disallowed).")
    if "show" in words and _has_pair(words, "open", ("tables",), loose=loose):
        return Passage(_PROCESS_WORDS)
    if "tablespaces_extensions" in words:
        return Passage(_TABLESPACES_WORDS)
    if "alter" in words and not _DATABASE.isdisjoint(words) and _has_pair(words, "read", ("only",), loose=loose):
        return Passage(_READ_ONLY_WORDS)
    if _has_pair(words, "xa", _XA, loose=loose):
        return Passage(_XA_WORDS)
    if _has_dynamic(words, loose=loose):
        whole = statement.rstrip(_ENDS)
        found = None if nested else _PREPARE.fullmatch(whole) or _IMMEDIATE.fullmatch(whole)
        if found is None:
            return Passage(_DYNAMIC_WORDS)
        using = found.groupdict().get("using") or ""
        return Passage(dynamic=found["text"], before=statement[: found.start("text")], after=using)
    return Passage()


def _code_words(statement: str) -> Iterator[str]:
    """The code's words, folded as the server's name comparison folds them, and what stands between them, in order."""
    for token in _TOKENS.finditer(statement):
        if token.lastgroup == "word":
            yield _folded(token.group())
        elif token.lastgroup == "name":
            yield _folded(token.group().strip("`"))
        elif token.lastgroup == "other" and token.group() in "'\"`":
            # A quote that does not close: the server refuses the statement, but let nothing hang on that.
            yield from _all_words(statement[token.end() :])
            return
        elif token.lastgroup == "string":
            yield _folded(token.group()) if len(token.group()) <= _SHORT else "''"
        elif token.lastgroup != "comment" and not token.group().isspace():
            yield token.group()


def _all_words(statement: str) -> Iterator[str]:
    """Every word, those in strings and comments too; the version in an executable comment is part of none."""
    return map(_folded, _WORDS.findall(_EXECUTABLE.sub(" ", statement)))


def _refused_among(statement: str, words: list[str], *, loose: bool) -> str:
    """The refused function that a statement calls, or an empty text."""
    if loose:  # another character set may part words otherwise
        text = _folded(statement)
        found = next((name for name in _REFUSED if name in text), "")
    else:
        found = next((word for word in words if word in _REFUSED), "")
    if not found and not statement.isascii() and any(map(_resembles_refused, _WORDS.findall(statement))):
        return "get_lock"
    return found


def _engine_among(words: list[str], *, loose: bool) -> str:
    """The storage engine other than InnoDB that a statement names after ENGINE, or an empty text."""
    for at, word in enumerate(words):
        if word == "engine":
            following = words[at + 1 :] if loose else [one for one in words[at + 1 : at + 3] if one != "="][:1]
            found = next((one.strip("'\"") for one in following if one.strip("'\"") in _ENGINES), "")
            if found:
                return found.upper()
    return ""


def _has_pair(words: list[str], first: str, seconds: Collection[str], *, loose: bool) -> bool:
    """Whether one of the second words follows the first; ``loose``: at any distance."""
    if not loose:
        return any(one == first and two in seconds for one, two in pairwise(words))
    return first in words and any(word in seconds for word in words[words.index(first) + 1 :])


def _has_dynamic(words: list[str], *, loose: bool) -> bool:
    if _has_pair(words, "execute", ("immediate",), loose=loose):
        return True
    if loose:
        return _has_pair(words, "prepare", ("from",), loose=True)
    # PREPARE name FROM; a quoted name may hold several words, and counts as one.
    return any(word == "prepare" and words[at + 2 : at + 3] == ["from"] for at, word in enumerate(words))


def _folded(word: str) -> str:
    if word.isascii():
        return word.lower()
    plain = unicodedata.normalize("NFKD", word)
    return "".join(char for char in plain if not unicodedata.combining(char)).casefold()


def _resembles_refused(word: str) -> bool:
    """Whether a name with letters beyond ASCII could be one of theirs: collations hold more letters equal."""
    return not word.isascii() and any(
        len(word) == len(name) and all(a == b or not a.isascii() for a, b in zip(word.lower(), name, strict=False))
        for name in _REFUSED
    )
