"""Brings an episode store's tables to this version's schema, with the Alembic migrations that ship in the package."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, Engine, text

from envs.errors import BackendUnavailable, ConfigError

__all__ = ["VERSION_TABLE", "upgrade"]

VERSION_TABLE = "envloop_alembic_version"
_SCRIPTS = Path(__file__).with_name("migrations")
_LOCK = "envloop_store_migration"
_LOCK_NUMBER = 0x656E766C  # PostgreSQL's advisory locks have numbers
_LOCK_WAIT_S = 60
# Alembic keeps the migration that runs in module globals (its `op` and `context`): one at a time in a process.
_ALEMBIC = threading.Lock()


def upgrade(engine: Engine) -> None:
    """Bring the store to the newest schema. Safe when many processes open a new store at once: one migrates.

    Raises: ConfigError where a newer envloop wrote the store; BackendUnavailable where another process holds the lock.
    """
    scripts = ScriptDirectory(str(_SCRIPTS))
    with engine.connect() as connection:
        if _current(connection, scripts) == scripts.get_current_head():
            return
    with _ALEMBIC, engine.connect() as connection, _only_one(connection):
        if _current(connection, scripts) == scripts.get_current_head():
            return
        config = Config()
        # ConfigParser reads % as its own; a path may hold one.
        config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _current(connection: Connection, scripts: ScriptDirectory) -> str | None:
    """The store's revision, None for a new store. Raises ConfigError for a revision that this version does not have."""
    revision = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()
    if revision is not None:
        try:
            scripts.get_revision(revision)
        except CommandError as error:
            raise ConfigError(
                f"the episode store has schema {revision!r}, which this version of envloop does not know",
                hint="a newer envloop wrote it: upgrade envloop, or name another store with ENVLOOP_STORE_URL",
            ) from error
    return revision


@contextmanager
def _only_one(connection: Connection) -> Iterator[None]:
    """Hold a lock that every other opener of this store waits for, and commit at the end."""
    dialect = connection.dialect.name
    if dialect == "sqlite":
        # The write lock of the file is the lock: SQLite's DDL is transactional, so the migration commits as a whole.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield
        connection.commit()
        return
    if dialect == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK_NUMBER})
        yield
        connection.commit()
        return
    got = connection.execute(text("SELECT GET_LOCK(:name, :wait)"), {"name": _LOCK, "wait": _LOCK_WAIT_S}).scalar()
    if got != 1:
        raise BackendUnavailable(
            f"another process has been migrating the episode store for {_LOCK_WAIT_S} s", hint="try again later"
        )
    try:
        yield
        connection.commit()
    finally:
        connection.rollback()
        connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": _LOCK})
