"""One database and one user an episode, and nothing left of either.

An episode's user has rights on its database only, a random password and few connections. Teardown ends the episode's
sessions first (an open transaction or LOCK TABLES would block the DROP), then drops both. Some are made ahead, so that
an episode need not wait for its own. A janitor drops again what could not be dropped and, on a server that others use
too, what a crashed service has left (``leases.py``).
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from envs.dbbench.admin import Admin
from envs.dbbench.backend import PUBLIC_NAME
from envs.dbbench.external_server import ServerAddress
from envs.dbbench.leases import Leases
from envs.dbbench.quota import QuotaWatch
from envs.errors import BackendUnavailable, CapacityExceeded

__all__ = ["DATABASE_PATTERN", "EpisodeDatabase", "EpisodeDatabases"]

_log = logging.getLogger(__name__)

_PREFIX_LENGTH = len("envloop_")
DATABASE_PATTERN = re.compile(r"envloop_[0-9a-f]{16}")
# Everything on the own database but EVENT (it would run without a session) and GRANT OPTION.
_RIGHTS = (
    "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, REFERENCES, INDEX, ALTER, CREATE TEMPORARY TABLES, LOCK TABLES, "
    "CREATE VIEW, SHOW VIEW, CREATE ROUTINE, ALTER ROUTINE, EXECUTE, TRIGGER"
)
_RIGHTS_BEYOND_QUOTA = "SELECT, DELETE, DROP, SHOW VIEW"
_MAX_USER_CONNECTIONS = 6  # closing is asynchronous, so an episode needs more than one
# MySQL 8's default, and the one of MariaDB that compares most like it (accents and case ignored, trailing blanks not).
_COLLATIONS = ("utf8mb4_0900_ai_ci", "utf8mb4_uca1400_nopad_ai_ci")
_HEARTBEAT_S = 20
_HEARTBEAT_RETRY_S = 2
_UNENDING_S = 30


@dataclass(slots=True)
class EpisodeDatabase:
    """One episode's database and its user of the same name. ``pattern`` is the name as GRANT wants it.

    ``urgent`` are the administrator's connections for what must not wait behind a slow DROP: ending sessions.
    ``unending`` takes the server's sessions that have outlived their end, with the time.
    """

    name: str
    password: str = field(repr=False)
    host: str
    pattern: str
    admin: Admin = field(repr=False)
    urgent: Admin = field(repr=False)
    watch: QuotaWatch = field(repr=False)
    unending: dict[int, float] = field(repr=False)
    sessions: list[int] = field(default_factory=list)

    @property
    def user(self) -> str:
        """The user as SQL names it."""
        return f"`{self.name}`@`{self.host}`"

    def disguised(self, text: str) -> str:
        """A text for the policy: the public name for the real one, and nothing of the password."""
        text = text.replace(self.name, PUBLIC_NAME)
        if self.name[_PREFIX_LENGTH:] in text:  # as a pattern in SHOW GRANTS, printed or as it is
            for pattern in (self.name.replace("_", "\\\\_"), self.name.replace("_", "\\_")):
                text = text.replace(pattern, PUBLIC_NAME)
        if "PASSWORD '*" in text:
            inner = hashlib.sha1(self.password.encode(), usedforsecurity=False).digest()
            digest = hashlib.sha1(inner, usedforsecurity=False).hexdigest().upper()
            text = text.replace(f"*{digest}", "<secret>")
        return text

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

    def restrict(self, *, beyond_quota: bool) -> None:
        """Give the rights that go with the quota; sessions opened from now on have them. Raises BackendUnavailable."""
        rights = _RIGHTS_BEYOND_QUOTA if beyond_quota else _RIGHTS
        self.admin.run(
            (f"REVOKE ALL PRIVILEGES ON `{self.pattern}`.* FROM {self.user}", ()),
            (f"GRANT {rights} ON `{self.pattern}`.* TO {self.user}", ()),
        )

    def standing(self, since_s: float) -> bool:
        """Whether the server has run for ``since_s`` seconds at least and still knows the episode's user."""
        rows = self.admin.run(("SHOW GLOBAL STATUS LIKE 'Uptime'", ()))
        users = self.admin.run(("SELECT 1 FROM mysql.user WHERE user = %s", (self.name,)))
        return bool(users) and bool(rows) and float(rows[0][1]) >= since_s - 2


class EpisodeDatabases:
    """Creates and drops the episodes' databases on one server. Thread-safe.

    ``spare`` is how many are made ahead. ``shared``: others use the server too. ``memory`` gives the bytes that the
    server takes, ``stored`` those of a database's files, 0 where that is not known.
    """

    def __init__(
        self,
        address: ServerAddress,
        *,
        shared: bool,
        max_live: int = 256,
        admin_connections: int = 8,
        spare: int = 0,
        memory: Callable[[], int] = lambda: 0,
        stored: Callable[[str], int] = lambda _: 0,
    ) -> None:
        self.admin = Admin(address, admin_connections)
        self._memory, self._stored = memory, stored
        self._urgent = Admin(address, 2)
        self._host = "localhost" if address.local else "%"
        self._max_live = max_live
        self._spare_wanted = spare
        self._spare: deque[EpisodeDatabase] = deque()
        self._live: set[str] = set()
        self._undropped: set[str] = set()
        self._unending: dict[int, float] = {}
        self._lock = threading.Lock()
        self._short = threading.Event()  # a spare one has been taken
        self._stop = threading.Event()
        self._leases = Leases(self.admin) if shared else None
        self._escape = "\\_"
        self._collate = ""
        self.version = ""
        self.reported = False  # that a session cannot be ended, once
        self._watch: QuotaWatch | None = None
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def spare(self) -> int:
        """How many databases are made ahead now."""
        return len(self._spare)

    @property
    def live(self) -> int:
        """How many databases episodes hold now."""
        return len(self._live)

    @property
    def kind(self) -> str:
        """``mysql`` or ``mariadb``."""
        return "mariadb" if "mariadb" in self.version.lower() else "mysql"

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
        if self._leases is not None:
            self._leases.beat()
            self.sweep()
        self._watch = QuotaWatch(Admin(self.admin.address, 1), self.kind, self._memory, self._stored)
        self._watch.start()
        self._run_thread("dbbench-janitor", self._keep)
        if self._spare_wanted:
            self._short.set()
            self._run_thread("dbbench-spare", self._fill)

    def ping(self) -> None:
        """Raise BackendUnavailable unless the server answers."""
        self._urgent.run(("SELECT 1", ()))

    def wedged(self) -> bool:
        """Whether a session still works that was ended half a minute ago: a server asks between rows, not within a
        function, and one that calls itself for hours asks hardly ever. Raises BackendUnavailable.
        """
        for session, since in list(self._unending.items()):
            if not self._urgent.alive(session):
                self._unending.pop(session, None)
            elif time.monotonic() - since >= _UNENDING_S:
                return True
        return False

    def _run_thread(self, name: str, work: Any) -> None:
        thread = threading.Thread(target=work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def create(self) -> EpisodeDatabase:
        """A new, empty database with its user. Raises CapacityExceeded, BackendUnavailable."""
        with self._lock:
            if len(self._live) >= self._max_live:
                raise CapacityExceeded(
                    f"{self._max_live} databases are in use", hint="close episodes, or raise max_connections of dbbench"
                )
            ready = self._spare.popleft() if self._spare else None
            name = ready.name if ready is not None else f"envloop_{secrets.token_hex(8)}"
            self._live.add(name)
        if ready is not None:
            self._short.set()
            return ready
        try:
            return self._make(name)
        except BaseException:
            with self._lock:
                self._live.discard(name)
            raise

    def _make(self, name: str) -> EpisodeDatabase:
        assert self._watch is not None, "opened first"
        database = EpisodeDatabase(
            name,
            secrets.token_urlsafe(18),
            self._host,
            name.replace("_", self._escape),
            self.admin,
            self._urgent,
            self._watch,
            self._unending,
        )
        user = database.user.replace("%", "%%")  # beside a value the driver reads % as its own
        try:
            self.admin.run(
                *([self._leases.record(name)] if self._leases is not None else ()),
                (f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4{self._collate}", ()),
                (
                    f"CREATE USER {user} IDENTIFIED BY %s WITH MAX_USER_CONNECTIONS {_MAX_USER_CONNECTIONS}",
                    (database.password,),
                ),
                (f"GRANT {_RIGHTS} ON `{database.pattern}`.* TO {database.user}", ()),
            )
        except BaseException:
            with contextlib.suppress(BackendUnavailable):  # the first error is the one to report
                self._drop(name)
            raise
        return database

    def drop(self, database: EpisodeDatabase) -> None:
        """End the episode's sessions, then drop database and user.

        Raises BackendUnavailable; the janitor tries again then.
        """
        try:
            for session in database.sessions:
                self._urgent.kill(session)
            self._drop(database.name)
        except BackendUnavailable:
            with self._lock:
                self._undropped.add(database.name)
            raise
        finally:
            with self._lock:
                self._live.discard(database.name)

    def _drop(self, name: str, hosts: Sequence[str] = ()) -> None:
        users = ", ".join(f"`{name}`@`{host}`" for host in hosts or (self._host,))
        statements: list[tuple[str, Sequence[object]]] = [
            (f"DROP USER IF EXISTS {users}", ()),
            (f"DROP DATABASE IF EXISTS `{name}`", ()),
        ]
        if self._leases is not None:
            statements.append(self._leases.forget(name))
        self.admin.run(*statements)

    def close(self) -> None:
        """Give the lease back and close the connections. What is live on a shared server is dropped. Idempotent."""
        if self._stop.is_set():
            return
        self._stop.set()
        self._short.set()
        for thread in self._threads:
            thread.join()
        if self._leases is not None:
            names = {*self._live, *self._undropped, *(database.name for database in self._spare)}
            for name in sorted(names):
                with contextlib.suppress(BackendUnavailable):  # the janitor of the next service gets it
                    self._end_sessions(name)
                    self._drop(name)
            with contextlib.suppress(BackendUnavailable):
                self._leases.leave()
        if self._watch is not None:
            self._watch.close()
        self._urgent.close()
        self.admin.close()

    # The threads.

    def _fill(self) -> None:
        """Keep as many spare databases as wanted."""
        while not self._stop.is_set():
            self._short.wait()
            self._short.clear()
            while len(self._spare) < self._spare_wanted and not self._stop.is_set():
                try:
                    database = self._make(f"envloop_{secrets.token_hex(8)}")
                except BackendUnavailable as error:
                    _log.warning("dbbench: no spare database could be made: %s", error)
                    self._stop.wait(_HEARTBEAT_RETRY_S)
                    continue
                with self._lock:
                    self._spare.append(database)

    def _keep(self) -> None:
        """The janitor: keep the lease alive, drop what could not be dropped, and what others have left."""
        pause = _HEARTBEAT_S
        while not self._stop.wait(pause):
            try:
                if self._leases is not None:
                    self._leases.beat()
                self.sweep()
                pause = _HEARTBEAT_S
            except BackendUnavailable as error:
                pause = _HEARTBEAT_RETRY_S
                _log.warning("dbbench: the server could not be tidied, tried again in %d s: %s", pause, error)

    def sweep(self) -> list[str]:
        """Drop what an earlier attempt could not, and the databases whose service is gone; their names.

        Raises BackendUnavailable.
        """
        left = self._leases.orphans() if self._leases is not None else []
        with self._lock:
            left += sorted(self._undropped)
        removed = []
        for name in left:
            if DATABASE_PATTERN.fullmatch(name):
                self._end_sessions(name)
                self._drop(name, ("localhost", "%"))  # another service may reach the server another way
                removed.append(name)
                with self._lock:
                    self._undropped.discard(name)
        if removed:
            _log.warning("dbbench: removed %d databases that had been left behind", len(removed))
        return removed

    def _end_sessions(self, user: str) -> None:
        for thread_id, owner in self.admin.sessions():
            if owner == user:
                self._urgent.kill(thread_id)
