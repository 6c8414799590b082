"""Steps and ends written to SQLite by one statement for all that have come together.

A statement for each row, as ``executemany`` runs them, takes Python's lock again after every row, for which a busy
event loop makes it wait; and all the while no other server process can write. Here the rows go into a view whose
trigger does the rest, so that the whole transaction is one call into C.
"""

from __future__ import annotations

import functools
import itertools
import sqlite3
from collections.abc import Sequence

from sqlalchemy import Engine

__all__ = ["Row", "StepWriter"]

_COLUMNS = 9
_MOST_ROWS = 2048  # SQLite takes 32,766 values

_VIEW = """
CREATE TEMP VIEW envloop_taken AS
SELECT NULL AS episode_id, NULL AS number, NULL AS digest, NULL AS action, NULL AS at, NULL AS status, NULL AS reason,
  NULL AS final, NULL AS failure
"""
_TRIGGER = """
CREATE TEMP TRIGGER envloop_take INSTEAD OF INSERT ON envloop_taken WHEN NEW.action IS NOT NULL
BEGIN
  UPDATE envloop_journal_episodes
    SET steps = NEW.number + 1, touched_at = NEW.at, status = coalesce(NEW.status, 'running'),
      reason = coalesce(NEW.reason, reason), final = coalesce(NEW.final, final)
    WHERE id = NEW.episode_id AND status = 'running' AND steps = NEW.number;
  SELECT RAISE(ABORT, 'stale') WHERE changes() = 0;
  INSERT INTO envloop_journal_steps (episode_id, number, digest, action)
    VALUES (NEW.episode_id, NEW.number, NEW.digest, NEW.action);
END
"""
_END_TRIGGER = """
CREATE TEMP TRIGGER envloop_end INSTEAD OF INSERT ON envloop_taken
WHEN NEW.action IS NULL AND NEW.episode_id IS NOT NULL
BEGIN
  UPDATE envloop_journal_episodes
    SET touched_at = NEW.at, status = NEW.status, reason = NEW.reason, failure = NEW.failure, final = NEW.final
    WHERE id = NEW.episode_id AND status = 'running' AND steps = NEW.number;
  SELECT RAISE(ABORT, 'stale') WHERE changes() = 0;
END
"""

type Row = tuple[str, int, int | None, bytes | None, float, str | None, str | None, bytes | None, bytes | None]
"""Episode, number, digest, action, time, status, reason, last view, failure. Without an action it is an end, and the
number that of the episode's steps."""


class StepWriter:
    """A connection of its own to the journal's file, for one thread."""

    def __init__(self, engine: Engine) -> None:
        self._held = engine.raw_connection()
        connection = self._held.driver_connection
        assert isinstance(connection, sqlite3.Connection), "only SQLite writes so"
        self._connection = connection
        self._connection.isolation_level = None  # a statement is a transaction
        self._connection.execute(_VIEW)
        self._connection.execute(_TRIGGER)
        self._connection.execute(_END_TRIGGER)

    def write(self, rows: Sequence[Row]) -> bool:
        """Write steps, each with its ending where it was the last, and ends.

        False, and nothing is written, where an episode does not stand where its row says, or there are too many.
        Raises sqlite3.Error.
        """
        if len(rows) > _MOST_ROWS:
            return False
        try:
            self._connection.execute(*_statement(rows))
        except sqlite3.IntegrityError:  # what RAISE says; or the step is there, and the episode is not: ask one by one
            return False
        return True

    def close(self) -> None:
        """Give the connection up."""
        self._held.detach()
        self._connection.close()


def _statement(rows: Sequence[Row]) -> tuple[str, tuple[object, ...]]:
    """With empty rows up to a power of two: SQLite then knows the few statements that there are prepared."""
    most = 1 << (len(rows) - 1).bit_length()
    values = (*itertools.chain.from_iterable(rows), *(None,) * (_COLUMNS * (most - len(rows))))
    return _insert(most), values


@functools.lru_cache(maxsize=16)
def _insert(rows: int) -> str:
    row = "(" + ",".join("?" * _COLUMNS) + ")"
    return "INSERT INTO envloop_taken VALUES " + ",".join([row] * rows)  # noqa: S608 - question marks
