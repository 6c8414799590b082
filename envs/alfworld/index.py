"""The index of a folder of official games: one SQLite file in the user's cache folder, so that no start parses a game.

It is a cache and nothing else: every row can be made again from the game's file, and is used only while that file keeps
its size and time of change. A file that is damaged or of another version is emptied and filled anew; where none can be
written, the index is kept in memory. Processes may share one: a row is written whole, and any of them writes the same.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import threading
import weakref
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import platformdirs

from envs.alfworld.packed import PACKED_VERSION

__all__ = ["CACHE_DIR_VARIABLE", "INDEX_VERSION", "GameEntry", "GameIndex", "default_index_dir"]

CACHE_DIR_VARIABLE = "ENVLOOP_CACHE_DIR"
# Raise the first number when a row means something else: the tables, alfworld's filters, the measures.
INDEX_VERSION = f"1.{PACKED_VERSION}"

_BUSY_S = 30.0
_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE splits (split TEXT PRIMARY KEY, signature TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE games (
    split TEXT, name TEXT, type TEXT NOT NULL, content_hash TEXT NOT NULL,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, skipped TEXT NOT NULL, refused TEXT NOT NULL,
    plan_length INTEGER, receptacles_to_search INTEGER,
    PRIMARY KEY (split, name)
) WITHOUT ROWID;
CREATE TABLE packed (content_hash TEXT PRIMARY KEY, crc INTEGER NOT NULL, game BLOB NOT NULL);
"""
_TABLE_NAMES = ("meta", "splits", "games", "packed")
# What SQLite says of a file that is damaged, no database, or lacks our tables.
_BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH)

logger = logging.getLogger(__name__)


class GameEntry(NamedTuple):
    """What the index knows of a game's file.

    ``name`` is ``<task>/<trial>``, ``content_hash`` the file's SHA-256 (hex), "" where a file is missing. ``size``
    (bytes) and ``mtime_ns`` are the file's when it was read; 0 for a time that is not to be trusted. ``skipped`` says
    why alfworld's own loader leaves it out, ``refused`` why the native engine does; "" where they do not.
    """

    split: str
    name: str
    type: str
    content_hash: str
    size: int
    mtime_ns: int
    skipped: str
    refused: str
    plan_length: int | None
    receptacles_to_search: int | None


def default_index_dir() -> Path:
    """``ENVLOOP_CACHE_DIR``, or envloop's folder in the user's cache (``XDG_CACHE_HOME``), and there ``alfworld``."""
    chosen = os.environ.get(CACHE_DIR_VARIABLE)
    return (Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("envloop"))) / "alfworld"


class GameIndex:
    """The rows of one data folder. Thread-safe; opened when it is first asked, again after a fork.

    ``variant`` tells apart what is read from the same files in another way (games retold in a dialect).
    """

    def __init__(self, data_dir: Path, *, index_dir: str | Path | None = None, variant: str = "") -> None:
        key = hashlib.sha256(f"{data_dir.resolve()}\n{variant}".encode()).hexdigest()[:16]
        folder = Path(index_dir).expanduser() if index_dir is not None else default_index_dir()
        self.path = folder / f"games-{key}.sqlite3"
        self.in_memory = False
        self._data_dir = data_dir
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0
        self._data_version: int | None = None
        self._finalizer: weakref.finalize[Any, GameIndex] | None = None

    def load(self, split: str) -> tuple[str, dict[str, GameEntry]]:
        """The signature of a split's folder when all of it had been read, "" where that has not happened yet; and its
        rows by name, sorted.
        """
        signature = "SELECT signature FROM splits WHERE split = ?"
        rows = (
            "SELECT split, name, type, content_hash, size, mtime_ns, skipped, refused, plan_length,"
            " receptacles_to_search FROM games WHERE split = ? ORDER BY name"
        )

        def read(connection: sqlite3.Connection) -> tuple[str, dict[str, GameEntry]]:
            found = connection.execute(signature, (split,)).fetchone()
            entries = {row[1]: GameEntry._make(row) for row in connection.execute(rows, (split,))}
            return (found[0] if found else ""), entries

        loaded: tuple[str, dict[str, GameEntry]] = self._run(read, reads=True)
        return loaded

    def set_signature(self, split: str, signature: str) -> None:
        """Say that all of a split has been read."""
        sql = "INSERT OR REPLACE INTO splits VALUES (?, ?)"
        self._run(lambda connection: connection.execute(sql, (split, signature)))

    def store(self, entries: Iterable[GameEntry], packed: Iterable[tuple[str, bytes]] = ()) -> None:
        """Write rows, and packed games by content hash, in one transaction."""
        rows = list(entries)
        games = [(content_hash, zlib.crc32(game), game) for content_hash, game in packed]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany("INSERT OR REPLACE INTO games VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            connection.executemany("INSERT OR REPLACE INTO packed VALUES (?, ?, ?)", games)

        self._run(write)

    def remove(self, split: str, names: Iterable[str]) -> None:
        """Forget rows."""
        pairs = [(split, name) for name in names]
        sql = "DELETE FROM games WHERE split = ? AND name = ?"
        self._run(lambda connection: connection.executemany(sql, pairs))

    def packed(self, content_hash: str) -> bytes | None:
        """A packed game, or None where there is none, or only a damaged one."""
        sql = "SELECT crc, game FROM packed WHERE content_hash = ?"
        row = self._run(lambda connection: connection.execute(sql, (content_hash,)).fetchone(), reads=True)
        if row is None:
            return None
        crc, game = row
        if not isinstance(game, bytes) or zlib.crc32(game) != crc:
            logger.warning("%s: the packed game %s is damaged: it is made again", self.path, content_hash[:16])
            return None
        return game

    def changed_elsewhere(self) -> bool:
        """Whether another process has written since this was last asked."""
        now = self._run(lambda connection: connection.execute("PRAGMA data_version").fetchone()[0], reads=True)
        changed = self._data_version not in (None, now)
        self._data_version = now
        return changed

    def sweep(self) -> None:
        """Drop packed games that no row names any more."""
        sql = "DELETE FROM packed WHERE content_hash NOT IN (SELECT content_hash FROM games)"
        self._run(lambda connection: connection.execute(sql))

    def close(self) -> None:
        """Close the file. Idempotent; the next question opens it again."""
        with self._lock:
            if self._finalizer is not None and self._pid == os.getpid():
                self._finalizer()
            self._connection = self._finalizer = None

    def _run(self, work: Callable[[sqlite3.Connection], Any], *, reads: bool = False) -> Any:
        """Do ``work`` in a transaction; on a broken file once more on an empty one, else in memory."""
        with self._lock:
            for attempt in range(3):
                try:
                    return self._transact(self._open(), work, reads=reads)
                except sqlite3.Error as error:
                    if self.in_memory or attempt == 2:
                        raise
                    if _is_broken(error):
                        self._rebuild(error)
                    else:
                        self._move_to_memory(error)
        raise AssertionError

    @staticmethod
    def _transact(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], Any], *, reads: bool) -> Any:
        if reads:
            return work(connection)
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return result

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None and self._pid == os.getpid():
            return self._connection
        if not self.in_memory:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                self._move_to_memory(error)
        if self._connection is None or self._pid != os.getpid():
            self._use(_connect(":memory:" if self.in_memory else str(self.path)))
        assert self._connection is not None
        self._prepare(self._connection)
        return self._connection

    def _use(self, connection: sqlite3.Connection) -> None:
        self._connection, self._pid = connection, os.getpid()
        self._finalizer = weakref.finalize(self, connection.close)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Empty tables where there are none, or those of another version."""
        version = _version(connection)
        if version == INDEX_VERSION:
            return
        if version is not None:
            logger.info("%s: an index of version %s: it is built anew as %s", self.path, version, INDEX_VERSION)
        connection.execute("BEGIN IMMEDIATE")
        try:
            if _version(connection) != INDEX_VERSION:  # another process may have been faster
                for name in _TABLE_NAMES:
                    connection.execute(f"DROP TABLE IF EXISTS {name}")
                for statement in _TABLES.strip().split(";\n"):
                    connection.execute(statement.rstrip(";"))
                rows = [("version", INDEX_VERSION), ("data_dir", str(self._data_dir))]
                connection.executemany("INSERT INTO meta VALUES (?, ?)", rows)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _rebuild(self, error: sqlite3.Error) -> None:
        logger.warning("%s: the index is broken (%s): it is built anew", self.path, error)
        self.close()
        try:
            for suffix in ("", "-journal", "-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        except OSError as problem:
            self._move_to_memory(problem)

    def _move_to_memory(self, error: Exception) -> None:
        """Go on without a file, with what could be read from it."""
        logger.warning(
            "%s: the index cannot be written (%s): it is kept in memory, and every start reads the games again; "
            "set %s or alfworld's index_dir to a folder that can be written",
            self.path,
            error,
            CACHE_DIR_VARIABLE,
        )
        memory = _connect(":memory:")
        try:
            if self._connection is not None and self._pid == os.getpid():
                self._connection.backup(memory)
        except sqlite3.Error as problem:
            logger.info("%s: nothing could be taken over from it: %s", self.path, problem)
            memory.close()
            memory = _connect(":memory:")
        self.close()
        self.in_memory = True
        self._use(memory)
        self._prepare(memory)


def _connect(name: str) -> sqlite3.Connection:
    return sqlite3.connect(name, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)


def _version(connection: sqlite3.Connection) -> str | None:
    """The version that a database says it has; None for an empty one, "" for one that is not ours."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return None
    if not tables >= set(_TABLE_NAMES):
        return "unknown"
    row = connection.execute("SELECT value FROM meta WHERE name = 'version'").fetchone()
    return str(row[0]) if row else "unknown"


def _is_broken(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _BROKEN
