"""What statements would do to a task's tables as they are at the start, found out on databases of their own.

The episode's own database is not touched: asking an expert must leave no trace in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from envs.dbbench.backend import EpisodeSession, StatementFailed
from envs.dbbench.scoring import TableHasher, combine_hashes
from envs.dbbench.tasks import DbTask
from envs.errors import BackendUnavailable, CapacityExceeded

__all__ = ["Outcome", "Trials"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """``valid``: every statement was accepted. ``text`` is what the last one showed. ``tables`` is the hash of the
    task's tables afterwards, and empty where the task asks no change or they cannot be read.
    """

    valid: bool
    text: str = ""
    tables: str = ""


class Trials:
    """A context in which statements are tried out. ``begin`` gives a session on a new, empty database."""

    def __init__(self, task: DbTask, begin: Callable[[], EpisodeSession]) -> None:
        self._task = task
        self._begin = begin
        self._session: EpisodeSession | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def run(self, statements: Sequence[str]) -> Outcome:
        """Run the statements in order, up to one that is refused. Raises InfrastructureError, TaskDataError."""
        session = self._session or self._fresh()
        text = ""
        for statement in statements:
            result = session.execute(statement)
            if not result.valid:
                self._end()  # what went before may have changed something
                return Outcome(valid=False)
            text = result.text
        if not self._task.mutates:
            if len(statements) > 1:
                self._end()
            return Outcome(valid=True, text=text)
        tables = self._hash(session)
        if statements:
            self._end()
        return Outcome(valid=True, text=text, tables=tables)

    def refused(self, statement: str) -> bool:
        """Whether the database refuses a statement, which changes nothing then. Raises as ``run``."""
        session = self._session or self._fresh()
        if session.execute(statement).valid:
            self._end()
            return False
        return True

    def _fresh(self) -> EpisodeSession:
        try:
            session = self._begin()
        except CapacityExceeded as error:
            msg = f"no database is free to try an expert's statements out: {error.message}"
            raise BackendUnavailable(
                msg, hint="an expert that errs needs a second database; play fewer at once"
            ) from error
        try:
            session.load(self._task.tables)
        except BaseException:
            session.close()
            raise
        self._session = session
        return session

    def _hash(self, session: EpisodeSession) -> str:
        hashes = []
        for table in self._task.tables:
            hasher = TableHasher()
            try:
                for row in session.rows_of(table.name, table.columns):
                    hasher.add(row)
            except StatementFailed:
                return ""
            hashes.append(hasher.digest())
        return combine_hashes(hashes)

    def _end(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()
