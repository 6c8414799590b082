"""How much an episode may write: counted after its statements, and watched from outside while one runs.

A server has no quota for a database, and a looping procedure is one statement. So a thread of each server looks ten
times a second at what has run for a while: the size of the episode's files, of its temporary ones where the server
tells, the rows of its transaction. A statement beyond the quota is killed, and until the database is below it again the
episode keeps the rights to read, delete and drop alone; every refusal is then the server's own.

Memory is looked at all the time, where the server is of this machine: when the server has grown beyond its share, the
session that holds most (MariaDB tells) or the statement that began last (MySQL does not) is ended.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from envs.dbbench.admin import Admin
from envs.dbbench.backend import Limits
from envs.errors import BackendUnavailable

__all__ = ["REFUSALS", "Budget", "QuotaWatch"]

# What a statement is told that was killed for a limit, in the server's words for the like.
REFUSALS = {
    "database_bytes": "1114 (HY000): The table is full",
    "database_rows": "1114 (HY000): The table is full",
    "session_bytes": "1041 (HY000): Out of memory.",
}
_LOOK_S = 0.1
_READS = re.compile(r"[\s(]*(?:select|show|describe|desc|explain|help|use|set|start|begin|commit|rollback)\b", re.I)
_CREATES = re.compile(r"[\s(]*(?:create|alter)\b|/\*", re.I)
# A statement is looked into when it wrote much, took long, or when this much has come together since the last look.
_MANY_ROWS = 500
_LONG_S = 0.01
_STATEMENTS = 16
_TEXT_BYTES = 4 * 2**20
_SIZES = {
    "mariadb": "SELECT name, file_size FROM information_schema.innodb_sys_tablespaces WHERE name LIKE %s",
    "mysql": "SELECT name, file_size FROM information_schema.innodb_tablespaces WHERE name LIKE %s",
}
_TEMPORARY = "SELECT id, size FROM information_schema.innodb_session_temp_tablespaces WHERE state = 'ACTIVE'"
_HOLDERS = (
    "SELECT id, memory_used FROM information_schema.processlist WHERE user LIKE 'envloop\\_%' "
    "ORDER BY memory_used DESC LIMIT 1"
)
# A server's memory is no concern below this, with every buffer and hundreds of sessions in it.
_SERVER_BYTES = 640 * 2**20
_VARIABLES = 64  # set in one session, each of a packet's size at most
_MODIFIED = "SELECT 0, 0 UNION ALL SELECT trx_mysql_thread_id, trx_rows_modified FROM information_schema.innodb_trx"
# MySQL cannot tell of any transaction while one runs a statement with a character that utf8mb3 does not have.
_UNTOLD = frozenset({3854})
_UNTOLD_S = 1.0
_WIDE = re.compile(r"[^\x00-\x7f]|\b(?:prepare|execute|names|char(?:set|acter\w*))\b", re.I)

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Running:
    """A statement under way."""

    name: str
    limits: Limits
    since: float
    hit: str = ""
    killed: bool = False
    memory: int = 0  # the server's when it began
    wide: bool = False  # it may be why MySQL does not tell of transactions


class QuotaWatch:
    """The thread of one server. Its administrator's connection is its own: it must not wait behind others' work.

    ``memory`` gives the bytes that the server takes now, ``stored`` those of a database's files, 0 where that is not
    known: MariaDB does not tell of a table that is still being made.
    """

    def __init__(
        self, admin: Admin, kind: str, memory: Callable[[], int], stored: Callable[[str], int] = lambda _: 0
    ) -> None:
        self._admin = admin
        self._kind = kind
        self._memory = memory
        self._stored = stored
        self._lock = threading.Lock()
        self._running: dict[int, _Running] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="dbbench-quota", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Look no more. Idempotent."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._admin.close()

    @contextmanager
    def running(self, session_id: int, name: str, limits: Limits, *, wide: bool = False) -> Iterator[_Running]:
        """While a statement runs. The value's ``hit`` names the limit for which it was killed, if any.

        ``wide``: its text may have characters beyond utf8mb3.
        """
        entry = _Running(name, limits, time.monotonic(), memory=self._memory(), wide=wide)
        with self._lock:
            self._running[session_id] = entry
        try:
            yield entry
        finally:
            with self._lock:  # a kill under way is done before the session's next statement begins
                self._running.pop(session_id, None)

    def size(self, name: str) -> int:
        """Bytes of the files of a database. Raises BackendUnavailable."""
        rows = self._admin.run((_SIZES[self._kind], (name.replace("_", "\\_") + "/%",)))
        return max(sum(int(size or 0) for _, size in rows), self._stored(name))

    def _watch(self) -> None:
        while not self._stop.wait(_LOOK_S):
            now = time.monotonic()
            with self._lock:
                long = {number: entry for number, entry in self._running.items() if now - entry.since >= _LOOK_S}
            try:
                if self._memory() > _SERVER_BYTES:
                    self._relieve(long)
                if long:
                    self._look(long)
            except BackendUnavailable as error:
                if not self._stop.is_set():
                    _log.warning("dbbench: what episodes take of the server could not be read: %s", error)
                    self._stop.wait(1.0)

    def _relieve(self, running: dict[int, _Running]) -> None:
        """End the session that most likely has the server's memory."""
        if self._kind == "mariadb":
            for session_id, used in self._admin.run((_HOLDERS, ())):
                with self._lock:
                    entry = self._running.get(session_id)
                    if int(used) > (entry.limits if entry is not None else Limits()).session_bytes:
                        if entry is not None:
                            entry.hit = "session_bytes"
                        self._admin.kill(session_id)
            return
        # MySQL keeps what it has taken once: only growth while a statement ran can be that statement's.
        now = self._memory()
        guilty = {n: entry for n, entry in running.items() if now - entry.memory > entry.limits.session_bytes}
        if guilty:
            session_id = max(guilty, key=lambda number: guilty[number].since)
            self._kill(session_id, guilty[session_id], "session_bytes")

    def _look(self, running: dict[int, _Running]) -> None:
        sizes: dict[str, int] = {}
        for name, size in self._admin.run((_SIZES[self._kind], ("envloop\\_%",))):
            database = str(name).partition("/")[0]
            sizes[database] = sizes.get(database, 0) + int(size or 0)
        temporary = self._numbers(_TEMPORARY) if self._kind == "mysql" else {}
        modified = self._numbers(_MODIFIED)
        now = time.monotonic()
        for session_id, entry in running.items():
            size = max(sizes.get(entry.name, 0), self._stored(entry.name)) + temporary.get(session_id, 0)
            if size > entry.limits.database_bytes:
                self._kill(session_id, entry, "database_bytes")
            elif modified.get(session_id, 0) > entry.limits.database_rows or (
                not modified and entry.wide and now - entry.since > _UNTOLD_S
            ):
                self._kill(session_id, entry, "database_rows")

    def _numbers(self, query: str) -> dict[int, int]:
        found: dict[int, int] = {}
        for number, value in self._admin.run((query, ()), ignore=_UNTOLD):
            found[int(number or 0)] = found.get(int(number or 0), 0) + int(value or 0)
        return found

    def _kill(self, session_id: int, entry: _Running, limit: str) -> None:
        with self._lock:
            if self._running.get(session_id) is not entry:
                return
            entry.hit = limit
            if entry.killed or limit == "session_bytes":  # the query's end was not, or is not, enough
                self._admin.kill(session_id)
            else:
                entry.killed = True
                self._admin.kill_query(session_id)


@dataclass(slots=True)
class Budget:
    """What one episode has used of its limits. ``over`` names the limits that it is beyond now.

    ``wide``: a statement or routine of it may have characters beyond utf8mb3.
    """

    limits: Limits
    name: str
    watch: QuotaWatch
    statements: int = 0
    rows: int = 0
    over: tuple[str, ...] = ()
    wide: bool = False
    _variables: int = field(default=0, repr=False)
    _in_routines: int = field(default=0, repr=False)
    _pending: int = field(default=0, repr=False)
    _pending_bytes: int = field(default=0, repr=False)

    def begin(self, statement: str) -> bool:
        """Count a statement; False where there may be no more."""
        self.wide = self.wide or _WIDE.search(statement) is not None
        self.statements += 1
        return self.statements <= self.limits.statements

    def holds_much(self, statement: str) -> bool:
        """Count the variables that a statement may set; whether the session must be ended before it holds too many."""
        count = statement.count("@")
        if not count and not self._in_routines:
            return False
        self._variables += count + self._in_routines
        if count and _CREATES.match(statement):
            self._in_routines += count
        if self._variables <= _VARIABLES:
            return False
        self._variables = 0
        return True

    def wrote(self, statement: str, affected: int, seconds: float) -> bool:
        """Note a statement that was run: rows affected, seconds taken. Whether the database must be looked into."""
        if 0 < affected < 2**63:
            self.rows += affected
        elif _READS.match(statement) and not self.over and seconds < _LONG_S:
            return False
        self._pending += 1
        self._pending_bytes += len(statement)
        return (
            bool(self.over)
            or affected > _MANY_ROWS
            or seconds >= _LONG_S
            or self._pending >= _STATEMENTS
            or self._pending_bytes >= _TEXT_BYTES
            or self.rows > self.limits.database_rows
        )

    def look(self) -> tuple[str, ...]:
        """Measure the database and give the limits that it is beyond. Raises BackendUnavailable."""
        self._pending = self._pending_bytes = 0
        over = []
        if self.watch.size(self.name) > self.limits.database_bytes:
            over.append("database_bytes")
        if self.rows > self.limits.database_rows:
            over.append("database_rows")
        self.over = tuple(over)
        return self.over
