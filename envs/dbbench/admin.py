"""The administrator's connections to one server: a bounded pool that never runs a policy's text."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator, Sequence
from typing import Any

import pymysql
from pymysql.connections import Connection
from pymysql.constants import CLIENT

from envs.dbbench.connection import TidyConnection
from envs.dbbench.external_server import ServerAddress
from envs.errors import BackendUnavailable

__all__ = ["Admin"]

_UNKNOWN_THREAD = 1094
_TIMEOUT_S = 30
# The server's answer to a connection that is cut; anything else is an answer to the statement.
_CONNECTION_ERRORS = frozenset(
    {2002, 2003, 2005, 2006, 2013, 2014, 2055, 1040, 1053, 1077, 1079, 1080, 1152, 1158, 1159, 1160, 1161, 3169, 4031}
)


class Admin:
    """A bounded pool of the administrator's connections. Never runs a policy's text, nor reads what a policy has
    defined (a view may call a function that runs with the reader's rights).
    """

    def __init__(self, address: ServerAddress, size: int = 8) -> None:
        self.address = address
        self._slots: queue.LifoQueue[Connection[Any] | None] = queue.LifoQueue()
        for _ in range(size):
            self._slots.put(None)
        self._closed = False

    def run(
        self, *statements: tuple[str, Sequence[object]], ignore: frozenset[int] = frozenset()
    ) -> list[tuple[Any, ...]]:
        """Run statements in turn and give the last one's rows. An error whose number is in ``ignore`` only ends them.

        Raises: BackendUnavailable where the server cannot be reached or refuses; the text names no secret.
        """
        with self._connection() as connection, connection.cursor() as cursor:
            rows: list[tuple[Any, ...]] = []
            # In one go: each trip costs as much as most of these statements.
            texts = [cursor.mogrify(text, values or None) for text, values in statements]
            try:
                cursor.execute("; ".join(texts))
                rows = list(cursor.fetchall())
                while cursor.nextset():
                    rows = list(cursor.fetchall())
            except pymysql.err.MySQLError as error:
                if not error.args or error.args[0] not in ignore:
                    raise
            return rows

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Connection[Any]]:
        connection = self._slots.get()
        good = False
        try:
            if self._closed:
                raise BackendUnavailable("the environment has been closed")
            if connection is None or not connection.open:
                connection = self._connect()
            yield connection
            good = True
        except pymysql.err.MySQLError as error:
            number = error.args[0] if error.args else 0
            good = connection is not None and number not in _CONNECTION_ERRORS
            raise BackendUnavailable(f"the database server: error {number}: {_message(error)}") from error
        finally:
            if connection is not None and (self._closed or not good):
                _drop(connection)
                connection = None
            self._slots.put(connection)

    def _connect(self) -> Connection[Any]:
        address = self.address
        return TidyConnection(
            user=address.user,
            password=address.password,
            autocommit=True,
            connect_timeout=10,
            read_timeout=_TIMEOUT_S,
            write_timeout=_TIMEOUT_S,
            client_flag=CLIENT.MULTI_STATEMENTS,  # its statements are our own
            init_command="SET SESSION lock_wait_timeout = 10",
            **address.connect_arguments(),
        )

    def kill(self, thread_id: int) -> None:
        """End a session and what it runs; one that is gone already is no error."""
        self.run((f"KILL {int(thread_id)}", ()), ignore=frozenset({_UNKNOWN_THREAD}))

    def kill_query(self, thread_id: int) -> None:
        """End what a session runs and keep the session."""
        self.run((f"KILL QUERY {int(thread_id)}", ()), ignore=frozenset({_UNKNOWN_THREAD}))

    def alive(self, thread_id: int) -> bool:
        """Whether a session is still there (a killed one may be rolling back)."""
        return any(number == thread_id for number, _ in self.sessions())

    def sessions(self) -> list[tuple[int, str]]:
        """Every session's number and user.

        MySQL cannot read information_schema.processlist while any session runs a statement with a character beyond
        utf8mb3, and what it shows of a statement need not be valid text.
        """
        with self._connection() as connection, connection.cursor() as cursor:
            connection.use_unicode = False
            try:
                cursor.execute("SHOW PROCESSLIST")
                return [(int(row[0]), (row[1] or b"").decode()) for row in cursor.fetchall()]
            finally:
                connection.use_unicode = True

    def close(self) -> None:
        """Close the idle connections; those in use close when they come back."""
        self._closed = True
        idle: list[Connection[Any]] = []
        with contextlib.suppress(queue.Empty):
            while True:
                connection = self._slots.get_nowait()
                if connection is not None:
                    idle.append(connection)
        for connection in idle:
            _drop(connection)
        self._slots.put(None)


def _drop(connection: Connection[Any]) -> None:
    with contextlib.suppress(pymysql.err.Error):
        connection.close()


def _message(error: pymysql.err.MySQLError) -> str:
    return str(error.args[1]) if len(error.args) > 1 else type(error).__name__
