"""What a store lets go of: old episodes, in small transactions, and the space that they took."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Connection, Engine, delete, func, select, tuple_
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from envs.errors import InvalidOption
from rollout_server.episode_filters import parse_time
from rollout_server.episode_table import BodyRow, EpisodeRow, ScoreRow

__all__ = ["PruneReport", "Retention", "prune_rows", "release_space"]

_BATCH = 200  # episodes deleted in one transaction: writers wait for no more
_PAGES = 4096  # pages given back in one transaction
_ORDER = (EpisodeRow.started_at, EpisodeRow.id)


@dataclass(frozen=True, slots=True)
class Retention:
    """What to keep. An episode goes where any of the rules says so.

    ``older_than``: by the time of its start. ``keep_last``: only so many of the newest stay. ``max_bytes``: the newest
    stay whose records take no more than that together. Raises InvalidOption for a negative number.
    """

    older_than: timedelta | None = None
    keep_last: int | None = None
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in ("keep_last", "max_bytes"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise InvalidOption(f"{name} is {value}", hint="0 or more")

    @property
    def bounds(self) -> bool:
        """Whether there is any rule."""
        return (self.older_than, self.keep_last, self.max_bytes) != (None, None, None)


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What went, or would go: ``deleted`` episodes of ``matched``, whose records took ``bytes``.

    ``space``: what became of the space, in words. ``oldest_kept``: the start of the oldest matching episode that stays.
    """

    matched: int
    deleted: int
    bytes: int
    dry_run: bool
    oldest_kept: str
    space: str = ""

    def to_json(self) -> dict[str, Any]:
        """Its fields, by name."""
        return asdict(self)

    def line(self) -> str:
        """The report as a sentence."""
        what = "would delete" if self.dry_run else "deleted"
        kept = f"; the oldest kept began {self.oldest_kept}" if self.oldest_kept else ""
        space = f"; {self.space}" if self.space else ""
        return f"{what} {self.deleted} of {self.matched} episodes, {self.bytes:,} bytes of records{kept}{space}"


class _Sessions(Protocol):
    def __call__(self, *, write: bool = False) -> AbstractContextManager[Session]: ...


def prune_rows(
    sessions: _Sessions,
    where: Sequence[ColumnElement[bool]],
    retention: Retention,
    *,
    dry_run: bool,
    now: datetime | None = None,
    stop: threading.Event | None = None,
) -> PruneReport:
    """Delete what ``retention`` does not keep among the matching episodes, the oldest first, until ``stop`` is set."""
    with sessions() as session:
        matched = session.scalar(select(func.count()).select_from(EpisodeRow).where(*where)) or 0
        last = _last_to_go(session, where, retention, now or datetime.now(UTC))
        if last is None:
            return PruneReport(matched, 0, 0, dry_run, _oldest(session, where))
        going = [*where, tuple_(*_ORDER) <= tuple_(*last)]
        count, size = session.execute(
            select(func.count(), func.coalesce(func.sum(EpisodeRow.body_bytes), 0)).where(*going)
        ).one()
        oldest = _oldest(session, [*where, tuple_(*_ORDER) > tuple_(*last)])
    if dry_run:
        return PruneReport(matched, count, int(size), dry_run, oldest)
    deleted = freed = 0
    while stop is None or not stop.is_set():
        with sessions(write=True) as session:
            chosen = select(EpisodeRow.id, EpisodeRow.body_bytes).where(*going).order_by(*_ORDER).limit(_BATCH)
            rows = session.execute(chosen).all()
            if not rows:
                break
            ids = [row.id for row in rows]
            for column in (BodyRow.id, ScoreRow.episode_id, EpisodeRow.id):
                session.execute(delete(column.class_).where(column.in_(ids)))
            session.commit()
        deleted += len(rows)
        freed += sum(row.body_bytes for row in rows)
    return PruneReport(matched, deleted, freed, dry_run, oldest)


def release_space(engine: Engine) -> str:
    """Give the space of deleted rows back to the disk where the database is a SQLite file; says what was done.

    The first time the whole file is written anew (so that later ones need not); others wait for that.
    """
    if engine.dialect.name != "sqlite":
        return "the database server keeps the space for what comes next"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        before = _file_bytes(connection)
        try:
            if _pragma(connection, "auto_vacuum") != 2:
                connection.exec_driver_sql("PRAGMA auto_vacuum = 2")  # incremental, from the next VACUUM on
                connection.exec_driver_sql("VACUUM")
            while _pragma(connection, "freelist_count"):
                # SQLAlchemy reads no rows of it, and each row is a step of the work.
                with closing(connection.connection.cursor()) as cursor:
                    cursor.execute(f"PRAGMA incremental_vacuum({_PAGES})")
                    cursor.fetchall()
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except (DBAPIError, sqlite3.Error) as error:
            reason = error.orig if isinstance(error, DBAPIError) else error
            return f"the file keeps its {before:,} bytes for what comes next ({reason})"
        return f"the file has {_file_bytes(connection):,} bytes, before {before:,}"


def _last_to_go(
    session: Session, where: Sequence[ColumnElement[bool]], retention: Retention, now: datetime
) -> tuple[str, str] | None:
    """Start and id of the newest episode that goes; everything before it goes too."""
    newest_first = [column.desc() for column in _ORDER]
    found: list[tuple[str, str]] = []
    chosen = select(*_ORDER).where(*where).order_by(*newest_first).limit(1)
    if retention.older_than is not None:
        try:
            bound = now - retention.older_than
        except OverflowError:  # longer ago than there are dates: nothing is
            bound = datetime.min.replace(tzinfo=UTC)
        older = session.execute(chosen.where(EpisodeRow.started_at < parse_time(bound)))
        found += [(row.started_at, row.id) for row in older]
    if retention.keep_last is not None:
        beyond = session.execute(chosen.offset(retention.keep_last))
        found += [(row.started_at, row.id) for row in beyond]
    if retention.max_bytes is not None:
        total = 0
        sizes = select(*_ORDER, EpisodeRow.body_bytes).where(*where).order_by(*newest_first)
        for start, episode_id, size in session.execute(sizes).yield_per(1000):
            total += size
            if total > retention.max_bytes:
                found.append((start, episode_id))
                break
    return max(found, default=None)


def _oldest(session: Session, where: Sequence[ColumnElement[bool]]) -> str:
    return session.scalar(select(func.min(EpisodeRow.started_at)).where(*where)) or ""


def _pragma(connection: Connection, name: str) -> int:
    return int(connection.exec_driver_sql(f"PRAGMA {name}").scalar() or 0)


def _file_bytes(connection: Connection) -> int:
    return _pragma(connection, "page_count") * _pragma(connection, "page_size")
