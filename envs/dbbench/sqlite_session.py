"""An episode on an SQLite database in memory: MySQL's statements run as well as SQLite can, within the same limits."""

# ruff: noqa: S608 - names are SQLite's own (t1, c0), values are parameters or escaped literals

from __future__ import annotations

import logging
import re
import sqlite3
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envs.dbbench.backend import (
    KEPT_ROWS,
    NO_RESPONSE,
    PUBLIC_NAME,
    TIMED_OUT,
    TOO_BIG,
    TRUNCATED,
    Limits,
    StatementFailed,
    StatementResult,
)
from envs.dbbench.sqlite_answers import Answer, Answers
from envs.dbbench.sqlite_connection import open_connection
from envs.dbbench.sqlite_errors import SlowStatement, TableFull, failed
from envs.dbbench.sqlite_parse import Parsed, parse
from envs.dbbench.sqlite_types import shown
from envs.dbbench.tables import Table, create_sql
from envs.errors import TaskDataError

__all__ = ["SqliteSession"]

_FULL = "1114 (HY000): The table is full"
_TOO_MANY = f"1226 (42000): User '{PUBLIC_NAME}' has exceeded the 'max_questions' resource (current value: {{}})"
_ODDITIES = (AttributeError, IndexError, KeyError, TypeError, ValueError, ArithmeticError)
_log = logging.getLogger(__name__)
_KEPT_BYTES = 2**20
_NO_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(slots=True)
class _Outcome:
    """What a statement did so far."""

    text: str = "[]"
    valid: bool = True
    limits: tuple[str, ...] = ()
    rows: list[tuple[Any, ...]] = field(default_factory=list)


class SqliteSession:
    """An episode's session, by the ``EpisodeSession`` protocol. Not shared between threads."""

    def __init__(self, limits: Limits, *, seed: int = 0, closed: Callable[[], None] = lambda: None) -> None:
        self._limits = limits
        self._closed: Callable[[], None] | None = closed
        self._state = open_connection(limits, seed)
        self._statements = 0

    @property
    def backend(self) -> str:
        """``sqlite``."""
        return "sqlite"

    def load(self, tables: Iterable[Table]) -> None:
        """Create the task's tables. Raises TaskDataError."""
        state = self._state
        state.deadline = time.monotonic() + max(self._limits.seconds, 60.0)
        try:
            state.run("BEGIN")
            for table in tables:
                self._load(table)
            state.run("COMMIT")
        except (StatementFailed, sqlite3.Error, TableFull, SlowStatement, UnicodeEncodeError) as error:
            raise TaskDataError(
                f"the database refuses the task's tables: {error}", hint="see the task's file"
            ) from error
        finally:
            state.written = 0

    def _load(self, table: Table) -> None:
        answers = Answers(self._state)
        answers.answer(parse(create_sql(table)))
        made = self._state.catalog.need(table.name)
        if table.types:
            answers.fill(made, table.rows)
            return
        marks = ", ".join("?" * len(table.columns))
        self._state.connection.executemany(f"INSERT INTO {made.inner} VALUES ({marks})", table.rows)

    def execute(self, statement: str) -> StatementResult:
        """Run one statement of the policy."""
        began = time.monotonic()
        outcome = _Outcome()
        try:
            self._admit(statement, outcome)
            self._run(statement, outcome, began)
        except StatementFailed as error:
            outcome.text, outcome.valid = str(error), False
            if outcome.text == TOO_BIG:
                outcome.limits = ("statement_bytes",)
        except SlowStatement:
            outcome.text, outcome.valid, outcome.limits = TIMED_OUT, False, ("seconds",)
        except TableFull as error:
            outcome.text, outcome.valid, outcome.limits = _FULL, False, (str(error),)
        except RecursionError:
            outcome.text, outcome.valid = str(failed(1436, "Thread stack overrun: the statement nests too deep")), False
        except UnicodeEncodeError as error:
            outcome.text, outcome.valid = f"Error executing query: {error}", False
        except _ODDITIES as error:
            # A tree that sqlglot makes of MySQL's syntax and that nobody here has foreseen: the policy's statement is
            # refused, and the log says where, without its words.
            _log.warning("dbbench: a statement could not be compiled for SQLite: %s", _where(error))
            outcome.text, outcome.valid = str(failed(1105, "Unknown error")), False
        text = outcome.text
        if len(text) > self._limits.text:
            text = text[: self._limits.text] + TRUNCATED
        seconds = time.monotonic() - began
        return StatementResult(text or NO_RESPONSE, outcome.valid, seconds, outcome.limits, outcome.rows)

    def _admit(self, statement: str, outcome: _Outcome) -> None:
        self._statements += 1
        if self._statements > self._limits.statements:
            outcome.limits = ("statements",)
            raise StatementFailed(_TOO_MANY.format(self._limits.statements))
        if len(statement.encode("utf-8", "surrogatepass")) > self._limits.statement_bytes:
            raise StatementFailed(TOO_BIG)
        if _NO_SURROGATES.search(statement):
            statement.encode("utf-8")

    def _run(self, statement: str, outcome: _Outcome, began: float) -> None:
        state = self._state
        state.begin()
        state.deadline = began + self._limits.seconds
        parsed = parse(statement, state.deadline)
        before = state.catalog.copy() if _writes(parsed) else None
        state.run("BEGIN")
        try:
            answer = Answers(state).answer(parsed)
            if answer is not None:
                self._fetch(answer, outcome)
            state.deadline = float("inf")
            state.run("COMMIT")
        except sqlite3.Error as error:
            self._undo(before)
            raise _reworded(error) from error
        except BaseException:
            self._undo(before)
            raise

    def _undo(self, before: Any) -> None:
        self._state.deadline = float("inf")
        self._state.fault = None
        if self._state.connection.in_transaction:
            self._state.connection.execute("ROLLBACK")
        if before is not None:
            self._state.catalog = before

    def _fetch(self, answer: Answer, outcome: _Outcome) -> None:
        """The result as text, and the first rows as values. What lies beyond the limits is not read."""
        rows, types = answer
        sets = [at for at, kind in enumerate(types) if kind.name == "set"]
        texts: list[str] = []
        length = count = size = 0
        for raw in rows:
            row = tuple(shown(value, kind) for value, kind in zip(raw, types, strict=True))
            count += 1
            if length <= self._limits.text:
                texts.append(_printed(row, sets))
                length += len(texts[-1]) + 2
            if count <= KEPT_ROWS and size <= _KEPT_BYTES:
                outcome.rows.append(row)
            size += sum(len(value) if isinstance(value, (str, bytes)) else 8 for value in row)
            if count >= self._limits.rows or size > self._limits.bytes:
                outcome.limits = ("rows",) if count >= self._limits.rows else ("bytes",)
                break
        outcome.text = f"[{', '.join(texts)}]"
        self._state.found_rows = count

    def rows_of(self, table: str, columns: Iterable[str]) -> Iterator[str | bytes | None]:
        """``CONCAT_WS(',', …)`` of every row, as MySQL prints its values. Raises StatementFailed."""
        state = self._state
        state.begin()
        state.deadline = time.monotonic() + self._limits.seconds
        answers = Answers(state)
        try:
            source = answers.tables(parse(f"SELECT 1 FROM {_tick(table)}").tree.args["from_"].this, [])  # type: ignore[union-attr]
            texts = [answers.text(answers.scope.column(name, "", "field list")) for name in columns]
            for count, row in enumerate(state.rows(f"SELECT {', '.join(texts)} FROM {source}"), start=1):
                if count > self._limits.rows:
                    raise StatementFailed("the table has too many rows")
                yield ",".join(str(value) for value in row if value is not None)
        except SlowStatement:
            raise StatementFailed(TIMED_OUT) from None
        except sqlite3.Error as error:
            raise StatementFailed(str(_reworded(error))) from error
        except (RecursionError, *_ODDITIES) as error:  # what a view in the table's place may be made of
            raise StatementFailed(f"the table cannot be read: {_where(error)}") from error
        finally:
            state.deadline = float("inf")

    def renew(self) -> None:
        """Drop temporary tables, forget variables."""
        state = self._state
        state.deadline = float("inf")
        for table in state.catalog.temporary.values():
            state.run(f"DROP TABLE {table.inner}")
        state.catalog.temporary.clear()
        state.renew()

    def close(self) -> None:
        """Let the database go. Idempotent."""
        closed, self._closed = self._closed, None
        if closed is not None:
            self._state.connection.close()
            closed()


def _tick(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _writes(parsed: Parsed) -> bool:
    return parsed.verb not in ("SELECT", "SHOW", "DESCRIBE", "DESC", "EXPLAIN", "WITH", "(")


def _printed(row: tuple[Any, ...], sets: list[int]) -> str:
    """A row as Python prints it; a SET's value as it prints a set, in the column's order."""
    if not sets:
        return str(row)
    texts = [
        (f"{{{', '.join(map(repr, value.split(',')))}}}" if value else "set()") if at in sets and value is not None
        else repr(value)
        for at, value in enumerate(row)
    ]  # fmt: skip
    return f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"


def _where(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"


def _reworded(error: sqlite3.Error) -> Exception:
    """SQLite's error in MySQL's words."""
    words = str(error)
    if isinstance(error, sqlite3.OperationalError) and words in ("database or disk is full", "interrupted"):
        return TableFull("database_bytes") if words.startswith("database") else SlowStatement()
    if words == "integer overflow":
        return failed(1690, "BIGINT value is out of range")
    if "too big" in words:
        return failed(1301, "Result of function was larger than max_allowed_packet - truncated")
    if "not authorized" in words or "prohibited" in words:
        return failed(1142, f"command denied to user '{PUBLIC_NAME}'@'localhost'")
    return failed(1105, words)
