"""One database and one user an episode, and nothing left of either.

An episode's user has rights on its database only, a random password and few connections. Teardown ends the episode's
sessions first (an open transaction or LOCK TABLES would block the DROP), then drops both. On a server that others use
too, each database is written down beforehand in ``envloop_registry`` together with the service that owns it and that
service's heartbeat, so that a later janitor removes what a crash left, and only that: a name is ours by prefix, pattern
and record, and is touched only when its owner's lease has run out.
"""

# ruff: noqa: S608 - names are our own and fit a pattern

from __future__ import annotations

import contextlib
import logging
import queue
import re
import secrets
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import pymysql
from pymysql.connections import Connection

from envs.dbbench.connection import TidyConnection
from envs.dbbench.external_server import ServerAddress
from envs.errors import BackendUnavailable, CapacityExceeded

__all__ = ["DATABASE_PATTERN", "Admin", "EpisodeDatabase", "EpisodeDatabases"]

_log = logging.getLogger(__name__)

DATABASE_PATTERN = re.compile(r"envloop_[0-9a-f]{16}")
_REGISTRY = "envloop_registry"
_UNKNOWN_THREAD = 1094
# Everything on the own database but EVENT (it would run without a session) and GRANT OPTION.
_RIGHTS = (
    "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, REFERENCES, INDEX, ALTER, CREATE TEMPORARY TABLES, LOCK TABLES, "
    "CREATE VIEW, SHOW VIEW, CREATE ROUTINE, ALTER ROUTINE, EXECUTE, TRIGGER"
)
_MAX_USER_CONNECTIONS = 6  # closing is asynchronous, so an episode needs more than one
_ADMIN_TIMEOUT_S = 30
# MySQL 8's default, and the one of MariaDB that compares most like it (accents and case ignored, trailing blanks not).
_COLLATIONS = ("utf8mb4_0900_ai_ci", "utf8mb4_uca1400_nopad_ai_ci")
_LEASE_S = 120
_HEARTBEAT_S = 20
_HEARTBEAT_RETRY_S = 2
_REGISTRY_TABLES = (
    f"CREATE DATABASE IF NOT EXISTS {_REGISTRY}",
    f"CREATE TABLE IF NOT EXISTS {_REGISTRY}.services (id VARCHAR(64) PRIMARY KEY, heartbeat TIMESTAMP(3) NOT NULL)",
    f"CREATE TABLE IF NOT EXISTS {_REGISTRY}.episodes (name VARCHAR(64) PRIMARY KEY, service VARCHAR(64) NOT NULL)",
)
_HEARTBEAT = (
    f"INSERT INTO {_REGISTRY}.services (id, heartbeat) VALUES (%s, CURRENT_TIMESTAMP(3)) "
    "ON DUPLICATE KEY UPDATE heartbeat = CURRENT_TIMESTAMP(3)"
)
_FORGET_STALE = f"DELETE FROM {_REGISTRY}.services WHERE heartbeat < CURRENT_TIMESTAMP(3) - INTERVAL %s SECOND"
_ORPHANS = (
    f"SELECT name FROM {_REGISTRY}.episodes e LEFT JOIN {_REGISTRY}.services s ON s.id = e.service "
    "WHERE s.id IS NULL ORDER BY name"
)
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
        """Run statements in turn on one connection and give the last one's rows. A number in ``ignore`` is no error.

        Raises: BackendUnavailable where the server cannot be reached or refuses; the text names no secret.
        """
        with self._connection() as connection, connection.cursor() as cursor:
            rows: list[tuple[Any, ...]] = []
            for text, values in statements:
                try:
                    cursor.execute(text, values or None)
                except pymysql.err.MySQLError as error:
                    if error.args and error.args[0] in ignore:
                        continue
                    raise
                rows = list(cursor.fetchall())
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
            if not good and connection is not None:
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
            read_timeout=_ADMIN_TIMEOUT_S,
            write_timeout=_ADMIN_TIMEOUT_S,
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
        rows = self.run(("SELECT 1 FROM information_schema.processlist WHERE id = %s", (thread_id,)))
        return bool(rows)

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


@dataclass(slots=True)
class EpisodeDatabase:
    """One episode's database and its user of the same name."""

    name: str
    password: str = field(repr=False)
    host: str
    admin: Admin = field(repr=False)
    sessions: list[int] = field(default_factory=list)

    @property
    def user(self) -> str:
        """The user as SQL names it."""
        return f"`{self.name}`@`{self.host}`"

    def connect_arguments(self) -> dict[str, Any]:
        """Keywords for ``pymysql.connect`` as the episode's user."""
        arguments = self.admin.address.connect_arguments()
        return arguments | {"user": self.name, "password": self.password, "database": self.name}

    def restore(self) -> None:
        """Make the login work again, whatever the episode did to its password or its database.

        Raises BackendUnavailable, also where the user is gone: the episode's database has been taken down from outside.
        """
        self.admin.run(
            (f"ALTER USER {self.user} IDENTIFIED BY %s", (self.password,)),
            (f"CREATE DATABASE IF NOT EXISTS `{self.name}`", ()),
        )

    def standing(self, since_s: float) -> bool:
        """Whether the server has run for ``since_s`` seconds at least and still knows the episode's user."""
        rows = self.admin.run(("SHOW GLOBAL STATUS LIKE 'Uptime'", ()))
        users = self.admin.run(("SELECT 1 FROM mysql.user WHERE user = %s", (self.name,)))
        return bool(users) and bool(rows) and float(rows[0][1]) >= since_s - 2


class EpisodeDatabases:
    """Creates and drops the episodes' databases on one server. Thread-safe."""

    def __init__(
        self, address: ServerAddress, *, shared: bool, max_live: int = 256, admin_connections: int = 8
    ) -> None:
        self.admin = Admin(address, admin_connections)
        self._host = "localhost" if address.local else "%"
        self._shared = shared
        self._max_live = max_live
        self._live: set[str] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._service = f"service_{secrets.token_hex(8)}"
        self._escape = "\\_"
        self._collate = ""
        self.version = ""
        self._heart: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def live(self) -> int:
        """How many databases there are now."""
        return len(self._live)

    def open(self) -> None:
        """See that the server answers; on a shared one, take a lease and remove what crashed services left."""
        self.version = str(self.admin.run(("SELECT VERSION()", ()))[0][0])
        rows = self.admin.run(("SHOW VARIABLES LIKE 'partial_revokes'", ()))
        if rows and rows[0][1] == "ON":  # then the names in GRANT are no patterns
            self._escape = "_"
        for collation in _COLLATIONS:
            if self.admin.run(("SHOW COLLATION LIKE %s", (collation,))):
                self._collate = f" COLLATE {collation}"
                break
        if self._shared:
            self._take_lease()
            self.sweep()
            self._heart = threading.Thread(target=self._beat, name="dbbench-heartbeat", daemon=True)
            self._heart.start()

    def create(self) -> EpisodeDatabase:
        """A new, empty database with its user. Raises CapacityExceeded, BackendUnavailable."""
        name = f"envloop_{secrets.token_hex(8)}"
        with self._lock:
            if len(self._live) >= self._max_live:
                raise CapacityExceeded(
                    f"{self._max_live} databases are in use", hint="close episodes, or raise max_connections of dbbench"
                )
            self._live.add(name)
        database = EpisodeDatabase(name, secrets.token_urlsafe(18), self._host, self.admin)
        pattern = name.replace("_", self._escape)
        user = database.user.replace("%", "%%")  # beside a value the driver reads % as its own
        record = [(f"INSERT INTO {_REGISTRY}.episodes (name, service) VALUES (%s, %s)", (name, self._service))]
        try:
            self.admin.run(
                *(record if self._shared else ()),
                (f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4{self._collate}", ()),
                (
                    f"CREATE USER {user} IDENTIFIED BY %s WITH MAX_USER_CONNECTIONS {_MAX_USER_CONNECTIONS}",
                    (database.password,),
                ),
                (f"GRANT {_RIGHTS} ON `{pattern}`.* TO {database.user}", ()),
            )
        except BaseException:
            with contextlib.suppress(BackendUnavailable):  # the first error is the one to report
                self.drop(database)
            raise
        return database

    def drop(self, database: EpisodeDatabase) -> None:
        """End the episode's sessions, then drop database and user. Raises BackendUnavailable."""
        try:
            for session in database.sessions:
                self.admin.kill(session)
            self._drop(database.name)
        finally:
            with self._lock:
                self._live.discard(database.name)

    def _drop(self, name: str) -> None:
        statements: list[tuple[str, Sequence[object]]] = [
            (f"DROP USER IF EXISTS `{name}`@`{self._host}`", ()),
            (f"DROP DATABASE IF EXISTS `{name}`", ()),
        ]
        if self._shared:
            statements.append((f"DELETE FROM {_REGISTRY}.episodes WHERE name = %s", (name,)))
        self.admin.run(*statements)

    def close(self) -> None:
        """Give the lease back and close the connections. Databases still live are dropped. Idempotent."""
        if self._stop.is_set():
            return
        self._stop.set()
        if self._heart is not None:
            self._heart.join()
        for name in sorted(self._live) if self._shared else ():
            with contextlib.suppress(BackendUnavailable):  # the janitor of the next service gets it
                self._end_sessions(name)
                self._drop(name)
        if self._shared:
            with contextlib.suppress(BackendUnavailable):
                self.admin.run((f"DELETE FROM {_REGISTRY}.services WHERE id = %s", (self._service,)))
        self.admin.close()

    # Leases, on a shared server.

    def _take_lease(self) -> None:
        self.admin.run(*((text, ()) for text in _REGISTRY_TABLES), (_HEARTBEAT, (self._service,)))

    def _beat(self) -> None:
        pause = _HEARTBEAT_S
        while not self._stop.wait(pause):
            try:
                self._take_lease()  # with its tables: a server whose data lie in memory comes back without them
                pause = _HEARTBEAT_S
            except BackendUnavailable as error:
                pause = _HEARTBEAT_RETRY_S
                _log.warning("dbbench: no heartbeat could be written, tried again in %d s: %s", pause, error)

    def sweep(self) -> list[str]:
        """Remove the databases whose service has not been heard of for two minutes; their names."""
        rows = self.admin.run((_FORGET_STALE, (_LEASE_S,)), (_ORPHANS, ()))
        removed = []
        for (name,) in rows:
            if DATABASE_PATTERN.fullmatch(str(name)):
                self._end_sessions(name)
                self._drop(name)
                removed.append(str(name))
        if removed:
            _log.warning("dbbench: removed %d databases that a service had left behind", len(removed))
        return removed

    def _end_sessions(self, user: str) -> None:
        rows = self.admin.run(("SELECT id FROM information_schema.processlist WHERE user = %s", (user,)))
        for (thread_id,) in rows:
            self.admin.kill(int(thread_id))
