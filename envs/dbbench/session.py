"""Run a policy's statements as the episode's own user: one at a time, through the gate, within the limits.

What comes back is text as AgentBench's worker prints it: ``str()`` of the list of rows as mysql-connector gives them,
or the server's error as mysql-connector words it (``1064 (42000): You have an error …``), cut at 800 characters.
"""

# ruff: noqa: S608 - names are quoted; a policy's statement is run as its own user, never built into another

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NoReturn

import pymysql

from envs.dbbench.backend import (
    NO_RESPONSE,
    PUBLIC_NAME,
    TIMED_OUT,
    TOO_BIG,
    TRUNCATED,
    Limits,
    StatementFailed,
    StatementResult,
)
from envs.dbbench.connection import CONVERSIONS, StreamCursor, TimedConnection
from envs.dbbench.gate import Gate, Passage
from envs.dbbench.isolation import EpisodeDatabase
from envs.dbbench.loading import load_statements
from envs.dbbench.quota import REFUSALS, Budget
from envs.dbbench.results import ResultReader
from envs.dbbench.server_errors import LOST, LOST_TEXT, SERVER_SHORTAGES, SHORTAGES, error_code, error_words
from envs.dbbench.tables import Table, quote
from envs.errors import BackendUnavailable, InfrastructureError, TaskDataError

__all__ = ["Session"]

_log = logging.getLogger(__name__)
_PUBLIC = re.compile(rf"\b{PUBLIC_NAME}\b")
# The same actions must give the same observations: the clock stands still (2024-01-01 00:00 UTC) and RAND() repeats.
_CLOCK_S = 1704067200
_TOUCHES_SESSION = re.compile(r"\bkill\b|_timeout\b", re.IGNORECASE)
_KILL_WAIT_S = 5
_RESET_S = 10
_TOO_MANY = f"1226 (42000): User '{PUBLIC_NAME}' has exceeded the 'max_questions' resource (current value: {{}})"
_TOO_MANY_SESSIONS = 1226
_DYNAMIC = "@envloop_dynamic"
# MySQL 8's default, which AgentBench runs with, on every server.
_SQL_MODE = (
    "ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,"
    "ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
)


@dataclass(slots=True)
class _Outcome:
    """What a statement did so far. ``limits``: those it met."""

    text: str = ""
    valid: bool = True
    affected: int = 0
    limits: tuple[str, ...] = ()
    reader: ResultReader | None = None


class _TimedOut(Exception):
    """The time limit is over; the session is gone."""


class Session:
    """An episode's session on its database. Not shared between threads."""

    def __init__(
        self,
        database: EpisodeDatabase,
        limits: Limits,
        *,
        seed: int = 0,
        backend: str = "mysql",
        drop: Callable[[EpisodeDatabase], None],
    ) -> None:
        self._database = database
        self._backend = backend
        self._gate = Gate()
        self._budget = Budget(limits, database.name, database.watch)
        self._drop: Callable[[EpisodeDatabase], None] | None = drop
        self._limits = limits
        self._seed = seed % 2**24
        self._connection: TimedConnection | None = None
        self._opened = 0.0
        self._unending = False
        self._touched = False  # a statement of the episode may have ended or changed the session

    @property
    def backend(self) -> str:
        """``mysql`` or ``mariadb``."""
        return self._backend

    @property
    def database(self) -> EpisodeDatabase:
        """The episode's database and user."""
        return self._database

    @property
    def unending(self) -> bool:
        """Whether the episode has left work behind that the server could not end."""
        return self._unending

    def load(self, tables: Iterable[Table]) -> None:
        """Create the task's tables. Raises TaskDataError, InfrastructureError."""
        with self._attributed("the task's tables"):
            connection = self._connect()
            connection.deadline = time.monotonic() + max(self._limits.seconds, 60.0)
            with connection.cursor(StreamCursor) as cursor:
                for table in tables:
                    for statement in load_statements(table):
                        cursor.execute(statement)

    @contextlib.contextmanager
    def _attributed(self, what: str) -> Iterator[None]:
        try:
            yield
        except pymysql.err.MySQLError as error:
            self._forget()
            if 1000 <= error_code(error) < 2000 and error_code(error) not in LOST | SHORTAGES:
                raise TaskDataError(
                    f"the database refuses {what}: {error_words(error)}", hint="see the task's file"
                ) from error
            raise BackendUnavailable(f"the database server failed on {what}: {error_words(error)}") from error

    def execute(self, statement: str) -> StatementResult:
        """Run one statement. Raises InfrastructureError where the server, not the statement, failed."""
        began = time.monotonic()
        outcome = _Outcome()
        try:
            self._admit(statement, outcome)
            self._run(statement, outcome)
        except StatementFailed as error:
            outcome.text, outcome.valid = str(error), False
        except _TimedOut:
            outcome.text, outcome.valid, outcome.limits = TIMED_OUT, False, ("seconds",)
        except UnicodeEncodeError as error:
            outcome.text, outcome.valid = f"Error executing query: {error}", False
        self._account(statement, outcome, time.monotonic() - began)
        text = self._database.disguised(outcome.text)
        if len(text) > self._limits.text:
            text = text[: self._limits.text] + TRUNCATED
        return StatementResult(
            text or NO_RESPONSE,
            valid=outcome.valid,
            seconds=time.monotonic() - began,
            limits=outcome.limits,
            rows=() if outcome.reader is None else outcome.reader.rows,
        )

    def _admit(self, statement: str, outcome: _Outcome) -> None:
        """Raise StatementFailed where an episode may not run a statement at all."""
        if not self._budget.begin(statement):
            outcome.limits = ("statements",)
            raise StatementFailed(_TOO_MANY.format(self._limits.statements))
        if len(statement.encode("utf-8", "surrogatepass")) > self._limits.statement_bytes:
            outcome.limits = ("statement_bytes",)
            raise StatementFailed(TOO_BIG)

    def _run(self, statement: str, outcome: _Outcome) -> None:
        self._touched = self._touched or _TOUCHES_SESSION.search(statement) is not None
        self._alive()  # the gate's knowledge is of the session that will run it
        passage = self._gate.check(statement)
        if passage.refusal:
            raise StatementFailed(passage.refusal)
        statement = _PUBLIC.sub(self._database.name, statement)
        with self._statement(outcome) as (connection, cursor):
            if passage.dynamic:
                statement = self._read_dynamic(cursor, passage)
            cursor.execute(statement)
            outcome.affected = 0 if cursor.description is not None else cursor.rowcount
            outcome.reader = ResultReader(self._limits)
            outcome.reader.read(cursor)
            if outcome.reader.limit:
                outcome.limits = (outcome.reader.limit,)
                self._end_session(connection)
        outcome.text = outcome.reader.text

    def _read_dynamic(self, cursor: StreamCursor, passage: Passage) -> str:
        """The statement with a variable in place of the text that it runs, once that text has passed the gate."""
        value = _PUBLIC.sub(self._database.name, passage.dynamic)
        cursor.execute(f"SET {_DYNAMIC} = {value}")
        cursor.execute("SET character_set_results = utf8mb4")  # else it could be read wrongly
        cursor.execute(f"SELECT CONVERT({_DYNAMIC} USING utf8mb4)")
        rows = cursor.fetchall()
        text = rows[0][0] if rows else None
        if isinstance(text, (bytes, bytearray)):
            text = text.decode("utf-8", "replace")
        refusal = self._gate.check(str(text), nested=True).refusal
        if refusal:
            raise StatementFailed(refusal)
        return f"{_PUBLIC.sub(self._database.name, passage.before)}{_DYNAMIC}{passage.after}"

    def _account(self, statement: str, outcome: _Outcome, seconds: float) -> None:
        """Count what was written, and give the rights that go with it."""
        if self._budget.holds_much(statement):
            self._reopen()
        before = self._budget.over
        killed = "database_bytes" in outcome.limits or "database_rows" in outcome.limits
        if not self._budget.wrote(statement, outcome.affected, seconds) and not killed:
            return
        over = self._budget.look()
        if over and over != before:
            outcome.limits = (*outcome.limits, *(limit for limit in over if limit not in outcome.limits))
        if bool(over) != bool(before):
            self._database.restrict(beyond_quota=bool(over))
            self._reopen()  # a session keeps the rights that it began with

    @contextlib.contextmanager
    def _statement(self, outcome: _Outcome | None = None) -> Iterator[tuple[TimedConnection, StreamCursor]]:
        """A cursor with the time limit, under watch; tells the statement's errors from the connection's."""
        connection = self._alive()
        connection.deadline = time.monotonic() + self._limits.seconds
        cursor = StreamCursor(connection)
        name, wide = self._database.name, self._budget.wide
        with self._database.watch.running(connection.session_id, name, self._limits, wide=wide) as running:
            try:
                yield connection, cursor
                if connection.open:
                    cursor.drain()
                    # AgentBench's worker commits after every statement, so a transaction never spans two.
                    if connection.in_transaction:
                        connection.commit()
            except (pymysql.err.MySQLError, ValueError, ArithmeticError) as error:  # the latter: values of no sense
                if running.hit and outcome is not None:
                    outcome.limits = (running.hit,)
                    self._end_session(connection)
                    raise StatementFailed(REFUSALS[running.hit]) from error
                self._explain(connection, error)
            finally:
                cursor.leave()

    def _explain(self, connection: TimedConnection, error: Exception) -> NoReturn:
        """Raise what a failed statement means."""
        if time.monotonic() >= connection.deadline:
            self._end_session(connection)
            raise _TimedOut from error
        if not isinstance(error, pymysql.err.MySQLError):  # the rest of the answer is unread
            self._end_session(connection)
        elif error_code(error) in LOST or not connection.open:
            self._forget()
            if self._ended_itself():
                raise StatementFailed(LOST_TEXT) from error
            raise BackendUnavailable(f"the connection to the database server was lost: {error_words(error)}") from error
        else:
            try:
                connection.rollback()  # as AgentBench's worker does
            except pymysql.err.MySQLError:
                self._forget()
        raise StatementFailed(error_words(error), error_code(error)) from error

    def _ended_itself(self) -> bool:
        """Whether the session was ended by the episode's own statements (``KILL``, a lowered ``wait_timeout``).

        Otherwise an episode could turn a lost cause into an infrastructure error. The server must have run on all the
        while; over a network, where a connection may break by itself, a statement must also speak of such things.
        """
        if not self._touched and not self._database.admin.address.local:
            return False
        try:
            return self._database.standing(time.monotonic() - self._opened)
        except InfrastructureError:
            return False

    def _end_session(self, connection: TimedConnection) -> None:
        """End what runs beyond its time: the query, then the session (only that ends a looping procedure)."""
        thread_id = connection.session_id
        self._forget()
        admin = self._database.urgent
        admin.kill_query(thread_id)
        admin.kill(thread_id)
        until = time.monotonic() + _KILL_WAIT_S
        while admin.alive(thread_id):
            if time.monotonic() >= until:
                self._unending = True
                self._database.unending[thread_id] = time.monotonic()
                return
            time.sleep(0.005)

    def rows_of(self, table: str, columns: Iterable[str]) -> Iterator[str | bytes | None]:
        """``CONCAT_WS(',', …)`` of every row, read as the episode's user in a new session.

        A new session, because temporary tables and session settings are not the database; the episode's user, because a
        table may have become a view that calls a function. Raises StatementFailed where the table cannot be read, also
        in time; BackendUnavailable where the server is short of memory or disk, which is no fault of the policy's.
        """
        query = f"SELECT CONCAT_WS(',', {', '.join(map(quote, columns))}) FROM {quote(table)}"
        count = 0
        try:
            with self._statement() as (connection, cursor):
                cursor.execute(query)
                while (row := cursor.fetchone()) is not None:
                    count += 1
                    if count > self._limits.rows:
                        self._end_session(connection)
                        raise StatementFailed("the table has too many rows")
                    yield row[0]
        except _TimedOut:
            raise StatementFailed(TIMED_OUT) from None
        except StatementFailed as error:
            if error.code in SERVER_SHORTAGES and self._plain(table):
                raise BackendUnavailable(f"the database server cannot read the task's tables: {error}") from error
            raise

    def _plain(self, table: str) -> bool:
        """Whether it still is a table: a view may call a function of the policy's that signals any error."""
        query = (
            "SELECT 1 FROM information_schema.tables WHERE table_schema = %s AND table_name = %s AND table_type = %s"
        )
        return bool(self._database.admin.run((query, (self._database.name, table, "BASE TABLE"))))

    def renew(self) -> None:
        """Give the session back its first state, or end it: the next statement opens a new one then."""
        connection = self._connection
        if connection is None or not connection.open:
            return
        connection.deadline = time.monotonic() + _RESET_S
        try:
            connection.reset()
            self._gate = Gate()
        except pymysql.err.MySQLError:
            self._reopen()

    def _reopen(self) -> None:
        """End the session; the next statement opens a new one."""
        if self._connection is not None:
            thread_id = self._connection.session_id
            self._forget()
            self._database.urgent.kill(thread_id)

    def _alive(self) -> TimedConnection:
        if self._connection is not None and self._connection.open:
            return self._connection
        try:
            return self._connect()
        except pymysql.err.MySQLError as error:
            if error_code(error) == _TOO_MANY_SESSIONS and self._unending:
                raise _TimedOut from error  # its own, which still work
            if error_code(error) in LOST | SHORTAGES or not 1000 <= error_code(error) < 2000:
                raise BackendUnavailable(f"the database server cannot be reached: {error_words(error)}") from error
        # The login is refused: the episode has changed its own password or dropped its own database.
        self._database.restore()
        try:
            return self._connect()
        except pymysql.err.MySQLError as error:
            raise BackendUnavailable(f"the episode's login no longer works: {error_words(error)}") from error

    def _connect(self) -> TimedConnection:
        connection = TimedConnection(
            autocommit=True,
            conv=CONVERSIONS,
            connect_timeout=10,
            write_timeout=30,
            init_command=(
                f"SET NAMES utf8mb4, sql_mode = '{_SQL_MODE}', time_zone = '+00:00', timestamp = {_CLOCK_S}, "
                f"rand_seed1 = {self._seed + 1}, rand_seed2 = {self._seed + 2}"
            ),
            **self._database.connect_arguments(),
        )
        self._connection = connection
        self._gate = Gate()
        self._opened = time.monotonic()
        self._database.sessions.append(connection.session_id)
        return connection

    def _forget(self) -> None:
        if self._connection is not None:
            self._connection.abandon()
            self._connection = None

    def close(self) -> None:
        """Take leave of the server and drop the database, which ends what still runs. Idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None and connection.open:
            connection.deadline = time.monotonic() + _RESET_S
            number = connection.session_id
            connection.quit()
            self._database.sessions.remove(number)  # ended, or about to be: it runs nothing
        drop, self._drop = self._drop, None
        if drop is not None:
            try:
                drop(self._database)
            except BackendUnavailable as error:
                # The server is gone, and a private one's data with it; a shared one is swept when the lease is over.
                _log.warning("dbbench: the database %s could not be dropped: %s", self._database.name, error)
