"""A SQL database of ours by URL: SQLite in write-ahead mode, MySQL, MariaDB or PostgreSQL."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import StaticPool

from envs.errors import ConfigError

__all__ = ["Turns", "open_database"]

try:
    import fcntl as _fcntl
except ImportError:  # Windows: SQLite's own waiting must do
    _fcntl = None  # type: ignore[assignment]

_BUSY_TIMEOUT_MS = 30_000
_DRIVERS = {"mysql": "mysql+pymysql", "mariadb": "mariadb+pymysql", "postgresql": "postgresql+psycopg"}


def open_database(url: str, what: str) -> tuple[Engine, bool]:
    """The engine of a database, and whether it keeps everything in memory. ``what`` names it in errors.

    A SQLite file is shared by several processes: write-ahead mode, waiting for locks. Raises ConfigError for a bad URL
    or a missing driver.
    """
    try:
        parsed = make_url(url)
        name = parsed.drivername
        parsed = parsed.set(drivername=_DRIVERS.get(name, name))
        dialect = parsed.get_backend_name()
        memory = dialect == "sqlite" and parsed.database in (None, "", ":memory:")
        if dialect in ("mysql", "mariadb"):
            engine = create_engine(parsed.update_query_dict({"charset": "utf8mb4"}), pool_pre_ping=True)
        elif memory:
            engine = create_engine(parsed, poolclass=StaticPool, connect_args={"check_same_thread": False})
        elif dialect == "sqlite":
            _make_folder(parsed, what)
            engine = create_engine(parsed)
        else:
            engine = create_engine(parsed, pool_pre_ping=True)
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigError(
            f"{what}'s address is no database URL", hint="such as sqlite:///episodes.db or mysql://user@host/database"
        ) from error
    except ModuleNotFoundError as error:
        hint = "pip install 'envloop[postgres]'" if error.name == "psycopg" else "install it"
        raise ConfigError(f"{what}'s database driver {error.name!r} is not installed", hint=hint) from error
    if dialect == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    return engine, memory


class Turns:
    """A context in which one process at a time works on a SQLite file; for any other database it is none.

    SQLite makes whoever finds the file locked sleep, for up to a tenth of a second at a time, while nobody works on it;
    here the next one goes on at once. For one thread of each process; the lock lies in a file beside the database.
    """

    def __init__(self, engine: Engine) -> None:
        path = engine.url.database or ""
        self._file: int | None = None
        in_a_file = engine.dialect.name == "sqlite" and path not in ("", ":memory:") and not path.startswith("file:")
        if in_a_file and _fcntl is not None:
            self._file = os.open(f"{path}-turn", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @property
    def needed(self) -> bool:
        """Whether it is a file of SQLite."""
        return self._file is not None

    def __enter__(self) -> None:
        if self._file is not None:
            _fcntl.flock(self._file, _fcntl.LOCK_EX)

    def __exit__(self, *exc: object) -> None:
        if self._file is not None:
            _fcntl.flock(self._file, _fcntl.LOCK_UN)

    def close(self) -> None:
        """Give the file back. Idempotent."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


def _make_folder(url: URL, what: str) -> None:
    path = url.database or ""
    if path.startswith("file:"):
        return
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{what}'s folder cannot be made: {error}", hint="name another place") from error


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    # SQLite changes the journal's mode without waiting for other connections, whatever its busy timeout says.
    deadline = time.monotonic() + _BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    connection.execute("PRAGMA synchronous = NORMAL")
