"""A SQL database of ours by URL: SQLite in write-ahead mode, MySQL, MariaDB or PostgreSQL."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import StaticPool

from envs.errors import ConfigError

__all__ = ["open_database"]

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
