"""An episode's session that outlives its server: where the server fails, the episode is played again on another.

A database is a pure function of its tables, the seed and the statements, so it can be built anew: on the same server
once it is back, on another one, or on the private server that has taken the dead one's place. Every statement must
answer as it did the first time; where one does not (it told the time, or numbered something), the episode ends as an
infrastructure error: its policy has seen what cannot be brought back.

An episode that has left work behind that its server could not end is not brought back: it has lost its database by its
own doing, every statement says so, and what depends on the database scores 0.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator

from envs.dbbench.backend import StatementFailed, StatementResult
from envs.dbbench.server_errors import LOST_TEXT
from envs.dbbench.session import Session
from envs.dbbench.tables import Table
from envs.errors import BackendUnavailable, InfrastructureError

__all__ = ["RecoveringSession"]

_log = logging.getLogger(__name__)
_PATIENCE_S = 15.0  # for how long a server may be away
_PAUSE_S = 0.1
_MOST_TRIES = 2  # of one statement: it may be what brings servers down
_MOST_RECOVERIES = 8  # of one episode; others may have brought the servers down
_LOG_BYTES = 256 * 1024


class RecoveringSession:
    """A session by the ``EpisodeSession`` protocol. ``begin`` gives one on a new, empty database."""

    def __init__(self, begin: Callable[[], Session]) -> None:
        self._begin = begin
        self._inner = begin()
        self._tables: tuple[Table, ...] = ()
        self._played: list[tuple[str, int]] = []  # statements, and a number that equal results share
        self._size = 0
        self._recoveries = 0
        self._ruined = False
        self._closed = False

    @property
    def inner(self) -> Session:
        """The session on the database of now."""
        return self._inner

    @property
    def backend(self) -> str:
        """``mysql`` or ``mariadb``."""
        return self._inner.backend

    def load(self, tables: Iterable[Table]) -> None:
        """Create the task's tables. Raises TaskDataError, InfrastructureError."""
        self._tables = tuple(tables)
        try:
            self._inner.load(self._tables)
        except BackendUnavailable as error:
            self._recover(error)

    def execute(self, statement: str) -> StatementResult:
        """Run a statement. Raises InfrastructureError where no server can be had, or answers otherwise than before."""
        try:
            result = self._somewhere(lambda: self._inner.execute(statement))
        except StatementFailed as error:
            return StatementResult(str(error), valid=False, seconds=0.0)
        self._size += len(statement)
        if self._size <= _LOG_BYTES:
            self._played.append((statement, _digest(result)))
        else:
            self._played.clear()  # too long to be played again
        return result

    def rows_of(self, table: str, columns: Iterable[str]) -> Iterator[str | bytes | None]:
        """``CONCAT_WS(',', …)`` of every row. Raises StatementFailed, InfrastructureError."""
        wanted = tuple(columns)
        yield from self._somewhere(lambda: list(self._inner.rows_of(table, wanted)))

    def renew(self) -> None:
        """End the session; the next statement opens a new one."""
        with contextlib.suppress(StatementFailed):  # told by what is asked next
            self._somewhere(lambda: self._inner.renew())  # noqa: PLW0108 - the inner one of then, not of now

    def close(self) -> None:
        """Drop the database. Idempotent."""
        self._closed = True
        self._inner.close()

    def _somewhere[T](self, work: Callable[[], T]) -> T:
        """The work's result, from another server where this one fails. Raises StatementFailed in a ruined episode."""
        for _ in range(_MOST_TRIES):
            if self._ruined:
                raise StatementFailed(LOST_TEXT)
            try:
                return work()
            except BackendUnavailable as error:
                self._ruined = self._inner.unending
                if self._ruined:
                    raise StatementFailed(LOST_TEXT) from error
                self._recover(error)
        return work()

    def _recover(self, reason: BackendUnavailable) -> None:
        if self._recoveries >= _MOST_RECOVERIES or self._size > _LOG_BYTES or self._closed:
            raise reason
        self._recoveries += 1
        _log.warning("dbbench: an episode is played again on a new database: %s", reason.message)
        until = time.monotonic() + _PATIENCE_S
        while True:
            self._inner.close()
            try:
                self._inner = self._begin()
                self._inner.load(self._tables)
                self._replay()
            except BackendUnavailable as error:
                if time.monotonic() >= until:
                    raise error from reason
                time.sleep(_PAUSE_S)
            else:
                return

    def _replay(self) -> None:
        for number, (statement, expected) in enumerate(self._played, 1):
            if _digest(self._inner.execute(statement)) != expected:
                raise InfrastructureError(
                    f"the database server failed, and statement {number}, run again, gives another result",
                    hint="it does not depend on the database alone; begin the episode anew",
                )


def _digest(result: StatementResult) -> int:
    return hash((result.text, result.valid))
