"""One statement of MySQL's dialect, read into sqlglot's tree, within bounds of length, depth and time.

Functions stay as they are written (``exp.Anonymous``): what they mean is decided in ``sqlite_calls.py``, not by
sqlglot's own reading of them.
"""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any, ClassVar

from sqlglot import exp
from sqlglot.dialects.mysql import MySQL
from sqlglot.errors import SqlglotError
from sqlglot.parsers.mysql import MySQLParser
from sqlglot.tokenizer_core import Token, TokenType

from envs.dbbench.backend import TOO_BIG, StatementFailed
from envs.dbbench.sqlite_errors import SlowStatement, failed, syntax_error

__all__ = ["Parsed", "parse"]

MAX_PARSED = 256 * 1024  # characters; the tokenizer reads some 300,000 a second and cannot be ended
_MAX_DEPTH = 60  # of brackets, CASEs and signs
_MAX_RUN = 5000  # operators without a comma between them: each is a level of the tree
_NEAR = 80  # characters of the statement that MySQL's error shows
_SPECIAL = ("CAST", "CONVERT", "CHAR", "EXTRACT", "GROUP_CONCAT", "MATCH", "POSITION", "TRIM", "VALUES", "SUBSTRING")
# What may not follow a comma, where sqlglot is more lenient than MySQL.
_ENDS = frozenset({
    TokenType.COMMA, TokenType.R_PAREN, TokenType.FROM, TokenType.WHERE, TokenType.GROUP_BY, TokenType.ORDER_BY,
    TokenType.HAVING, TokenType.LIMIT,
})  # fmt: skip
_NESTS = frozenset({TokenType.NOT, TokenType.DASH, TokenType.TILDE, TokenType.PLUS})
_HINTS = frozenset({"IGNORE", "LOW_PRIORITY", "QUICK", "HIGH_PRIORITY", "DELAYED"})
_SHOWN = {"FIELDS": "COLUMNS", "KEYS": "INDEX", "INDEXES": "INDEX", "EXTENDED": ""}
_NAMES_FOLLOW = frozenset({TokenType.FROM, TokenType.JOIN, TokenType.INTO, TokenType.UPDATE, TokenType.TABLE})
_DESCRIBES = ("DESCRIBE", "DESC", "EXPLAIN")
_VERBS = frozenset({
    "SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "WITH", "CREATE", "ALTER", "DROP", "SHOW", "DESCRIBE", "DESC",
    "SET", "USE", "TRUNCATE", "TABLE", "VALUES", "(", "BEGIN", "START", "COMMIT", "ROLLBACK", "RENAME", "ANALYZE",
    "EXPLAIN", "CALL", "DO", "LOCK", "UNLOCK", "GRANT", "REVOKE", "LOAD", "PREPARE", "EXECUTE", "DEALLOCATE", "KILL",
    "FLUSH", "OPTIMIZE", "CHECK", "REPAIR", "SAVEPOINT", "RELEASE", "HANDLER", "HELP", "INSTALL", "UNINSTALL", "RESET",
    "PURGE", "SHUTDOWN",
})  # fmt: skip
_QUERIES = frozenset({"SELECT", "WITH", "INSERT", "UPDATE", "DELETE", "REPLACE", "(", "FORMAT", "ANALYZE", "TABLE"})
# What sqlglot does not read, or not as MySQL does: their words are enough.
_WORDS = frozenset({
    "CALL", "DO", "HELP", "LOCK", "UNLOCK", "OPTIMIZE", "CHECK", "REPAIR", "PREPARE", "EXECUTE", "DEALLOCATE", "RENAME",
    "FLUSH", "GRANT", "REVOKE", "KILL", "LOAD", "HANDLER", "INSTALL", "UNINSTALL", "RESET", "PURGE", "SHUTDOWN",
    "SAVEPOINT", "RELEASE",
})  # fmt: skip
_FILES = frozenset({"OUTFILE", "DUMPFILE"})
_NO_QUOTES = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "WITH"})


class Parsed:
    """A statement's tree and its words. ``verb``: its first word, upper case. Not to be changed: it is remembered."""

    __slots__ = ("ignore", "tokens", "tree", "verb")

    def __init__(self, verb: str, tree: exp.Expr | None, tokens: list[Token], ignore: bool) -> None:
        self.verb = verb
        self.tree = tree
        self.tokens = tokens
        self.ignore = ignore


class _Unreadable(Exception):
    pass


class _Parser(MySQLParser):
    FUNCTIONS: ClassVar[dict[str, Any]] = {}
    FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {
        **{name: MySQLParser.FUNCTION_PARSERS[name] for name in _SPECIAL if name in MySQLParser.FUNCTION_PARSERS},
        "SUBSTR": MySQLParser.FUNCTION_PARSERS["SUBSTRING"],
        "MID": MySQLParser.FUNCTION_PARSERS["SUBSTRING"],
    }
    deadline = float("inf")
    moves = 0

    def _advance(self, times: int = 1) -> None:
        self.moves += 1
        if self.moves % 512 == 0 and time.monotonic() > self.deadline:
            raise SlowStatement
        super()._advance(times)

    def _parse_as_command(self, start: Token) -> Any:
        raise _Unreadable

    @property
    def place(self) -> int:
        """Where in the statement it stands, in characters."""
        at = self._index
        # ``* word``: sqlglot takes the word for an alias and stops behind it.
        if 2 <= at <= len(self._tokens) and self._tokens[at - 2].token_type == TokenType.STAR:
            return self._tokens[at - 1].start
        return self._curr.start if self._curr else len(self.sql)


class _Dialect(MySQL):
    class Tokenizer(MySQL.Tokenizer):
        COMMANDS: ClassVar[set[TokenType]] = set()  # what sqlglot would leave unread


_DIALECT = _Dialect()


_REMEMBERED = 512
_SHORT_S = 2.0  # what a short statement may take at most, whoever reads it first
_MAX_REMEMBERED = 2000  # characters of a statement that is remembered


def parse(statement: str, deadline: float = float("inf")) -> Parsed:
    """Read exactly one statement. Raises StatementFailed (1064, 1065), SlowStatement after ``deadline`` (monotonic)."""
    if len(statement) > _MAX_REMEMBERED:
        return _parse(statement, deadline)
    return _short(statement)


@lru_cache(maxsize=_REMEMBERED)
def _short(statement: str) -> Parsed:
    return _parse(statement, time.monotonic() + _SHORT_S)


def _parse(statement: str, deadline: float) -> Parsed:
    if len(statement) > MAX_PARSED:
        raise StatementFailed(TOO_BIG, 1153)
    try:
        tokens = _DIALECT.tokenize(statement)
    except (SqlglotError, ValueError):
        raise _syntax(statement, _unclosed(statement)) from None
    while tokens and tokens[-1].token_type == TokenType.SEMICOLON:
        tokens.pop()
    if not tokens:
        raise failed(1065, "Query was empty")
    _bounded(statement, tokens)
    verb = tokens[0].text.upper().partition(" ")[0]  # LOCK TABLES is one word for sqlglot
    if verb not in _VERBS:
        raise _syntax(statement, tokens[0].start)
    if any(token.text.upper() in _FILES and token.token_type == TokenType.VAR for token in tokens):
        raise failed(1227, "Access denied; you need (at least one of) the FILE privilege(s) for this operation")
    if verb in _WORDS or (verb in _DESCRIBES and len(tokens) > 1 and _word(tokens[1]) not in _QUERIES):
        return Parsed(verb, None, tokens, False)
    tokens, ignore = _plain(verb, tokens)
    _refuse_texts_as_names(statement, verb, tokens)
    parser = _Parser(dialect=_DIALECT)
    parser.deadline = deadline
    tree: exp.Expr | None = None
    try:
        trees = parser.parse(list(tokens), statement)
        if len(trees) != 1 or trees[0] is None:
            raise _syntax(statement, parser.place)
        tree = trees[0]
    except _Unreadable:
        pass  # its words say enough: RENAME, LOCK and so on
    except RecursionError:
        raise _syntax(statement, tokens[0].start) from None
    except (SqlglotError, ValueError, TypeError, AttributeError, IndexError, KeyError):
        raise _syntax(statement, parser.place) from None
    return Parsed(verb, tree, tokens, ignore)


def _syntax(statement: str, place: int) -> StatementFailed:
    return syntax_error(statement[place : place + _NEAR], statement.count("\n", 0, place) + 1)


def _unclosed(statement: str) -> int:
    """Where the text that nothing ends begins."""
    quote, at = "", 0
    place = 0
    while place < len(statement):
        char = statement[place]
        if quote:
            if char == "\\" and quote != "`":
                place += 1
            elif char == quote:
                quote = ""
        elif char in "'\"`":
            quote, at = char, place
        place += 1
    return at if quote else 0


def _bounded(statement: str, tokens: list[Token]) -> None:
    depth = run = signs = 0
    for place, token in enumerate(tokens):
        kind = token.token_type
        if kind == TokenType.SEMICOLON:
            raise _syntax(statement, tokens[place + 1].start)
        if kind == TokenType.COMMA:
            follows = tokens[place + 1] if place + 1 < len(tokens) else None
            if follows is None or follows.token_type in _ENDS:
                raise _syntax(statement, len(statement) if follows is None else follows.start)
        signs = signs + 1 if kind in _NESTS else 0
        run = 0 if kind == TokenType.COMMA else run + 1
        if kind in (TokenType.L_PAREN, TokenType.CASE):
            depth += 1
        elif kind in (TokenType.R_PAREN, TokenType.END):
            depth = max(depth - 1, 0)
        if depth > _MAX_DEPTH or signs > _MAX_DEPTH or run > _MAX_RUN:
            raise _syntax(statement, token.start)


def _plain(verb: str, tokens: list[Token]) -> tuple[list[Token], bool]:
    """The statement in words that sqlglot reads, and whether it says IGNORE."""
    ignore = False
    if verb in ("INSERT", "REPLACE", "UPDATE", "DELETE"):
        at = 1
        while (
            len(tokens) > at + 1 and tokens[at].text.upper() in _HINTS and tokens[at].token_type != TokenType.IDENTIFIER
        ):
            ignore = ignore or tokens[at].text.upper() == "IGNORE"
            tokens = tokens[:at] + tokens[at + 1 :]
        if verb == "REPLACE":
            tokens = [_token(TokenType.INSERT, "INSERT", tokens[0]), *tokens[1:]]
        if verb in ("REPLACE", "INSERT") and len(tokens) > 1 and tokens[1].token_type != TokenType.INTO:
            tokens = [tokens[0], _token(TokenType.INTO, "INTO", tokens[1]), *tokens[1:]]
        if verb in ("REPLACE", "INSERT"):
            tokens = [
                _token(TokenType.VALUES, "VALUES", token) if _word(token) == "VALUE" and _opens(tokens, at) else token
                for at, token in enumerate(tokens)
            ]
    elif verb == "SHOW":
        tokens = [
            _token(TokenType.VAR, word, token) if (word := _SHOWN.get(token.text.upper(), token.text)) != token.text
            and at < 3 else token
            for at, token in enumerate(tokens)
            if at > 2 or _SHOWN.get(token.text.upper()) != ""
        ]  # fmt: skip
    return tokens, ignore


def _word(token: Token) -> str:
    """A token's word in upper case; nothing for a quoted name."""
    return "" if token.token_type in (TokenType.IDENTIFIER, TokenType.STRING) else token.text.upper()


def _opens(tokens: list[Token], at: int) -> bool:
    return at + 1 < len(tokens) and tokens[at + 1].token_type == TokenType.L_PAREN


def _token(kind: TokenType, text: str, at: Token) -> Token:
    return Token(kind, text, at.line, at.col, at.start, at.end)


def _refuse_texts_as_names(statement: str, verb: str, tokens: list[Token]) -> None:
    """sqlglot reads ``FROM 'a'`` as a table's name; MySQL does not."""
    if verb not in _NO_QUOTES:
        return
    for at, token in enumerate(tokens[1:], start=1):
        if token.token_type != TokenType.STRING:
            continue
        before = tokens[at - 1].token_type
        names = before in _NAMES_FOLLOW and not (before == TokenType.FROM and _within_call(tokens, at - 1))
        if names or (at == 1 and verb == "UPDATE"):
            raise _syntax(statement, token.start)


def _within_call(tokens: list[Token], at: int) -> bool:
    """Whether this FROM belongs to TRIM, SUBSTRING or EXTRACT."""
    depth = 0
    for place in range(at - 1, max(at - 60, -1), -1):
        kind = tokens[place].token_type
        if kind == TokenType.R_PAREN:
            depth += 1
        elif kind == TokenType.L_PAREN:
            if depth == 0:
                return tokens[place - 1].text.upper() in ("TRIM", "SUBSTRING", "SUBSTR", "MID", "EXTRACT")
            depth -= 1
    return False
