"""Run a policy's statements as the episode's own user: one at a time, with limits on time, rows and bytes.

What comes back is text as AgentBench's worker prints it: ``str()`` of the list of rows as mysql-connector gives them,
or the server's error as mysql-connector words it (``1064 (42000): You have an error …``), cut at 800 characters.
"""

# ruff: noqa: S608 - names are quoted; a policy's statement is run as its own user, never built into another

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NoReturn

import pymysql
from pymysql.constants import FIELD_TYPE, FLAG

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
from envs.dbbench.connection import CONVERSIONS, StreamCursor, TimedConnection
from envs.dbbench.isolation import EpisodeDatabase
from envs.dbbench.tables import Table, create_sql, quote
from envs.errors import BackendUnavailable, InfrastructureError, TaskDataError

__all__ = ["Session"]

_log = logging.getLogger(__name__)
_PUBLIC = re.compile(rf"\b{PUBLIC_NAME}\b")
# For the same reason the clock stands still (2024-01-01 00:00 UTC) and RAND() repeats.
_CLOCK_S = 1704067200
_LOST = frozenset({2006, 2013, 2014, 2055, 1053, 1152, 1158, 1159, 1160, 1161, 1927, 4031})
_LOST_TEXT = "2013 (HY000): Lost connection to MySQL server during query"
# On loading, these say that the server is short of something; other refusals are the task's.
_SHORTAGES = frozenset({1021, 1030, 1037, 1038, 1040, 1041, 1114, 1203, 1205, 1213, 1226})
# Of these, what a plain read of a table can only meet when the whole server is short: disk, memory.
_SERVER_SHORTAGES = frozenset({1021, 1037, 1038, 1041})
_TOUCHES_SESSION = re.compile(r"\bkill\b|_timeout\b", re.IGNORECASE)
_KILL_WAIT_S = 15
_ROW_BATCH_BYTES = 2**20
_KEPT_BYTES = 2**20
# MySQL 8's default, which AgentBench runs with, on every server.
_SQL_MODE = (
    "ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,"
    "ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
)


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
        self._drop: Callable[[EpisodeDatabase], None] | None = drop
        self._limits = limits
        self._seed = seed % 2**24
        self._connection: TimedConnection | None = None
        self._opened = 0.0
        self._touched = False  # a statement of the episode may have ended or changed the session

    @property
    def backend(self) -> str:
        """``mysql`` or ``mariadb``."""
        return self._backend

    @property
    def database(self) -> EpisodeDatabase:
        """The episode's database and user."""
        return self._database

    def load(self, tables: Iterable[Table]) -> None:
        """Create the task's tables. Raises TaskDataError, InfrastructureError."""
        with self._attributed("the task's tables"):
            connection = self._connect()
            connection.deadline = time.monotonic() + max(self._limits.seconds, 60.0)
            with connection.cursor(StreamCursor) as cursor:
                for table in tables:
                    self._load(connection, cursor, table)

    @contextlib.contextmanager
    def _attributed(self, what: str) -> Iterator[None]:
        try:
            yield
        except pymysql.err.MySQLError as error:
            self._forget()
            if 1000 <= _code(error) < 2000 and _code(error) not in _LOST | _SHORTAGES:
                raise TaskDataError(
                    f"the database refuses {what}: {_words(error)}", hint="see the task's file"
                ) from error
            raise BackendUnavailable(f"the database server failed on {what}: {_words(error)}") from error

    @staticmethod
    def _load(connection: TimedConnection, cursor: StreamCursor, table: Table) -> None:
        cursor.execute(create_sql(table))
        names = ", ".join(map(quote, table.columns))
        head = f"INSERT INTO {quote(table.name)} ({names}) VALUES "
        batch: list[str] = []
        size = 0
        for row in table.rows:
            text = "(" + ",".join("NULL" if value is None else connection.escape(value) for value in row) + ")"
            batch.append(text)
            size += len(text)
            if size > _ROW_BATCH_BYTES:
                cursor.execute(head + ",".join(batch))
                batch, size = [], 0
        if batch:
            cursor.execute(head + ",".join(batch))

    def execute(self, statement: str) -> StatementResult:
        """Run one statement. Raises InfrastructureError where the server, not the statement, failed."""
        began = time.monotonic()
        if len(statement.encode("utf-8", "surrogatepass")) > self._limits.statement_bytes:
            return StatementResult(TOO_BIG, valid=False, seconds=0.0)
        rows: Sequence[tuple[Any, ...]] = ()
        try:
            (text, rows), valid = self._run(_PUBLIC.sub(self._database.name, statement)), True
        except StatementFailed as error:
            text, valid = str(error), False
        except _TimedOut:
            text, valid = TIMED_OUT, False
        except UnicodeEncodeError as error:
            text, valid = f"Error executing query: {error}", False
        text = text.replace(self._database.name, PUBLIC_NAME)
        if len(text) > self._limits.text:
            text = text[: self._limits.text] + TRUNCATED
        return StatementResult(text or NO_RESPONSE, valid=valid, seconds=time.monotonic() - began, rows=rows)

    def _run(self, statement: str) -> tuple[str, Sequence[tuple[Any, ...]]]:
        self._touched = self._touched or _TOUCHES_SESSION.search(statement) is not None
        with self._statement() as (connection, cursor):
            cursor.execute(statement)
            return self._fetch(connection, cursor)

    def _fetch(self, connection: TimedConnection, cursor: StreamCursor) -> tuple[str, Sequence[tuple[Any, ...]]]:
        """The first result's rows as text, and the first of them as values.

        What lies beyond the limits is not fetched: the query is ended.
        """
        if cursor.description is None:
            return "[]", ()
        sets = [
            index
            for index, column in enumerate(cursor._result.fields)
            if column.flags & FLAG.SET and column.type_code in (FIELD_TYPE.STRING, FIELD_TYPE.SET)
        ]
        shown: list[str] = []
        kept: list[tuple[Any, ...]] = []
        length = rows = size = 0
        while (row := cursor.fetchone()) is not None:
            rows += 1
            if length <= 4 * self._limits.text:  # the names below get shorter
                shown.append(_printed(row, sets))
                length += len(shown[-1]) + 2
            if rows <= KEPT_ROWS and size <= _KEPT_BYTES:
                kept.append(row)
            size += sum(len(value) if isinstance(value, (str, bytes)) else 8 for value in row)
            if rows >= self._limits.rows or size > self._limits.bytes:
                self._end_session(connection)
                break
        return f"[{', '.join(shown)}]", kept

    @contextlib.contextmanager
    def _statement(self) -> Iterator[tuple[TimedConnection, StreamCursor]]:
        """A cursor with the time limit; tells the statement's errors from the connection's."""
        connection = self._alive()
        connection.deadline = time.monotonic() + self._limits.seconds
        cursor = StreamCursor(connection)
        try:
            yield connection, cursor
            if connection.open:
                cursor.drain()
                # AgentBench's worker commits after every statement, so a transaction never spans two.
                if connection.in_transaction:
                    connection.commit()
        except (pymysql.err.MySQLError, UnicodeDecodeError) as error:
            self._explain(connection, error)
        finally:
            cursor.leave()

    def _explain(self, connection: TimedConnection, error: Exception) -> NoReturn:
        """Raise what a failed statement means."""
        if time.monotonic() >= connection.deadline:
            self._end_session(connection)
            raise _TimedOut from error
        if isinstance(error, UnicodeDecodeError):  # the rest of the answer is unread
            self._end_session(connection)
        elif _code(error) in _LOST or not connection.open:
            self._forget()
            if self._ended_itself():
                raise StatementFailed(_LOST_TEXT) from error
            raise BackendUnavailable(f"the connection to the database server was lost: {_words(error)}") from error
        else:
            try:
                connection.rollback()  # as AgentBench's worker does
            except pymysql.err.MySQLError:
                self._forget()
        raise StatementFailed(_words(error), _code(error)) from error

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
        admin = self._database.admin
        admin.kill_query(thread_id)
        admin.kill(thread_id)
        until = time.monotonic() + _KILL_WAIT_S
        while admin.alive(thread_id) and time.monotonic() < until:
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
            if error.code in _SERVER_SHORTAGES and self._plain(table):
                raise BackendUnavailable(f"the database server cannot read the task's tables: {error}") from error
            raise

    def _plain(self, table: str) -> bool:
        """Whether it still is a table: a view may call a function of the policy's that signals any error."""
        query = (
            "SELECT 1 FROM information_schema.tables WHERE table_schema = %s AND table_name = %s AND table_type = %s"
        )
        return bool(self._database.admin.run((query, (self._database.name, table, "BASE TABLE"))))

    def renew(self) -> None:
        """End the session; the next statement opens a new one."""
        if self._connection is not None:
            thread_id = self._connection.session_id
            self._forget()
            self._database.admin.kill(thread_id)

    def _alive(self) -> TimedConnection:
        if self._connection is not None and self._connection.open:
            return self._connection
        try:
            return self._connect()
        except pymysql.err.MySQLError as error:
            if _code(error) in _LOST | _SHORTAGES or not 1000 <= _code(error) < 2000:
                raise BackendUnavailable(f"the database server cannot be reached: {_words(error)}") from error
        # The login is refused: the episode has changed its own password or dropped its own database.
        self._database.restore()
        try:
            return self._connect()
        except pymysql.err.MySQLError as error:
            raise BackendUnavailable(f"the episode's login no longer works: {_words(error)}") from error

    def _connect(self) -> TimedConnection:
        connection = TimedConnection(
            autocommit=True,
            conv=CONVERSIONS,
            connect_timeout=10,
            write_timeout=30,
            init_command=(
                f"SET SESSION sql_mode = '{_SQL_MODE}', time_zone = '+00:00', timestamp = {_CLOCK_S}, "
                f"rand_seed1 = {self._seed + 1}, rand_seed2 = {self._seed + 2}"
            ),
            **self._database.connect_arguments(),
        )
        self._connection = connection
        self._opened = time.monotonic()
        self._database.sessions.append(connection.session_id)
        return connection

    def _forget(self) -> None:
        if self._connection is not None:
            self._connection.abandon()
            self._connection = None

    def close(self) -> None:
        """Let go of the connection without waiting, and drop the database, which ends what still runs. Idempotent."""
        self._forget()
        drop, self._drop = self._drop, None
        if drop is not None:
            try:
                drop(self._database)
            except BackendUnavailable as error:
                # The server is gone, and a private one's data with it; a shared one is swept when the lease is over.
                _log.warning("dbbench: the database %s could not be dropped: %s", self._database.name, error)


class _Set(tuple[str, ...]):
    """A SET column's value, printed as Python prints a set but always in the column's order."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{{{', '.join(map(repr, self))}}}" if self else "set()"


def _printed(row: tuple[Any, ...], sets: list[int]) -> str:
    if sets:
        values = list(row)
        for index in sets:
            if isinstance(values[index], str):
                values[index] = _Set(filter(None, values[index].split(",")))
        row = tuple(values)
    return str(row)


def _code(error: Exception) -> int:
    """The server's or the driver's number of an error; 0 where it has none."""
    number = error.args[0] if error.args else 0
    return number if isinstance(number, int) else 0


def _words(error: Exception) -> str:
    """The error as mysql-connector words it: ``1146 (42S02): Table … doesn't exist``."""
    if not isinstance(error, pymysql.err.MySQLError) or len(error.args) < 2:
        return str(error)
    state = getattr(error, "sqlstate", None)
    return f"{error.args[0]} ({state}): {error.args[1]}" if state else f"{error.args[0]}: {error.args[1]}"
