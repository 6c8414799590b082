"""SQLite's write-ahead log is moved into its file beside the writing, and not by whoever happens to write."""

from __future__ import annotations

import logging
import sqlite3
import threading
from typing import Any

from sqlalchemy import Engine, event

from envs.database import Turns

__all__ = ["LogMover", "leave_log_alone"]

_log = logging.getLogger(__name__)
_PAUSE_S = 0.5
_LONGEST = 8192  # pages of the log, 32 MiB: then it is begun anew, for which writers wait a moment
_SAFETY = 262144  # pages after which a writer moves it all the same


def leave_log_alone(engine: Engine) -> None:
    """Let no connection of this engine move the log at its commits: it waits for the disk then, and others with it."""

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.execute(f"PRAGMA wal_autocheckpoint = {_SAFETY}")


class LogMover:
    """A thread with a connection of its own. Several processes may each have one."""

    def __init__(self, engine: Engine) -> None:
        self._held = engine.raw_connection()
        connection = self._held.driver_connection
        assert isinstance(connection, sqlite3.Connection), "only SQLite has such a log"
        self._connection = connection
        self._turns = Turns(engine)
        self._stop, self._written = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="envs-journal-log", daemon=True)
        self._thread.start()

    def wrote(self) -> None:
        """Something was written."""
        self._written.set()

    def _run(self) -> None:
        while not self._stop.wait(_PAUSE_S):
            self._written.wait()
            self._written.clear()
            if self._stop.is_set():
                break
            try:
                self._move()
            except sqlite3.Error as error:
                _log.warning("the journal's log could not be moved: %s", error)
        self._held.detach()
        self._connection.close()
        self._turns.close()

    def _move(self) -> None:
        _, pages, _ = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if pages > _LONGEST:  # little is left to move; with nobody writing, the log can begin anew
            with self._turns:
                self._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()

    def close(self) -> None:
        """End the thread. Idempotent."""
        self._stop.set()
        self._written.set()
        self._thread.join()
