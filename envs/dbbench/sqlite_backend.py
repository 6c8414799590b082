"""Episodes on SQLite, for machines without a database server. An approximation of MySQL: its scores do not compare."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from envs.dbbench.backend import EpisodeSession, Limits
from envs.errors import BackendUnavailable, CapacityExceeded

if TYPE_CHECKING:
    from envs.dbbench.sqlite_session import SqliteSession

__all__ = ["SqliteBackend"]

_log = logging.getLogger(__name__)
_WARNING = (
    "dbbench: episodes run on SQLite %s, which only approximates MySQL: scores do not compare with those of a server. "
    "Install MariaDB or MySQL for those."
)


class SqliteBackend:
    """Databases in this process's memory, by the ``Backend`` protocol; at most ``max_live`` at once. Thread-safe."""

    def __init__(self, *, max_live: int = 256) -> None:
        self._max_live = max_live
        self._lock = threading.Lock()
        self._live: set[SqliteSession] = set()
        self._reserved = 0
        self._warned = False
        self._closed = False

    def start(self) -> None:
        """Say, once, that this is no MySQL. Raises BackendUnavailable when closed."""
        with self._lock:
            if self._closed:
                raise BackendUnavailable("the environment has been closed")
            if not self._warned:
                self._warned = True
                _log.warning(_WARNING, sqlite3.sqlite_version)

    def version(self) -> str:
        """What it calls itself, as in ``sqlite 3.45.1 (approximates MySQL)``."""
        return f"sqlite {sqlite3.sqlite_version} (approximates MySQL)"

    def begin(self, limits: Limits, *, seed: int = 0) -> EpisodeSession:
        """A session on a new, empty database. Raises CapacityExceeded, BackendUnavailable."""
        self.start()
        # sqlglot is imported here: it takes a third of a second, which nobody without an episode pays.
        from envs.dbbench.sqlite_session import SqliteSession

        with self._lock:
            if self._reserved >= self._max_live:
                raise CapacityExceeded(
                    f"{self._max_live} episodes of dbbench are live", hint="close some, or raise max_connections"
                )
            self._reserved += 1
        try:
            session = SqliteSession(limits, seed=seed, closed=lambda: self._gone(session))
        except BaseException:
            with self._lock:
                self._reserved -= 1
            raise
        with self._lock:
            self._live.add(session)
        return session

    def _gone(self, session: SqliteSession) -> None:
        with self._lock:
            self._live.discard(session)
            self._reserved -= 1

    @property
    def live(self) -> int:
        """How many databases there are now."""
        return self._reserved

    def figures(self) -> Mapping[str, float]:
        """See ``Backend.figures``."""
        return {"databases_live": self.live, "databases_spare": 0, "servers": 0, "servers_up": 0}

    def problem(self) -> str:
        """Why no episode can begin now, or an empty text."""
        return "the environment has been closed" if self._closed else ""

    def close(self) -> None:
        """Let all databases go. Idempotent."""
        with self._lock:
            self._closed = True
            live = list(self._live)
        for session in live:
            session.close()
