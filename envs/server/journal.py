"""The journal: what every episode was asked, in a SQL database, so that any server can go on with any episode.

An episode is (environment, task, seed, options, actions), and an environment a pure function of them. Here they are
written before they are answered; a digest of each result tells a later replay whether it came to the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from queue import SimpleQueue
from typing import Any

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from envs.database import Turns, open_database
from envs.errors import BackendUnavailable, ConfigError
from envs.server.journal_bulk import StepWriter
from envs.server.journal_log import LogMover, leave_log_alone
from envs.server.journal_records import Begun, Ended, Head, Kept, Taken
from envs.server.journal_sql import What, alone, head, load, row, sweep, together
from envs.server.journal_tables import EPISODES, META, METADATA, TABLES_VERSION
from envs.types import EpisodeStatus

__all__ = ["Journal"]

logger = logging.getLogger(__name__)

_RUNNING = EpisodeStatus.RUNNING.value
_MOST_AT_ONCE = 512  # writes in one transaction
_OPEN_TRIES = 20
_HINT = "check that the journal's database runs, is reachable and writable, or name another with ENVLOOP_JOURNAL_URL"


class _Work:
    """Something to do in the journal's thread, and the future that waits for it."""

    __slots__ = ("future", "what")

    def __init__(self, what: What) -> None:
        self.what = what
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()


class Journal:
    """One connection in one thread: what is asked while a transaction runs goes into the next, all together.

    Used from one event loop. Several servers may share its database. ``url`` is an SQLAlchemy URL; opening makes the
    tables. Raises: ConfigError for a bad URL or another version's tables; BackendUnavailable where it cannot be had.
    """

    def __init__(self, url: str) -> None:
        self._engine, _ = open_database(url, "the journal")
        if self._engine.dialect.name == "sqlite":
            leave_log_alone(self._engine)
        self._url = self._engine.url.render_as_string(hide_password=True)
        try:
            with self._reported():
                self._make_tables()
        except BaseException:
            self._engine.dispose()
            raise
        self._turns = Turns(self._engine)
        self._steps = StepWriter(self._engine) if self._turns.needed else None
        self._mover = LogMover(self._engine) if self._turns.needed else None
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._closed = False
        self.failures = 0
        self._thread = threading.Thread(target=self._serve, name="envs-journal", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Its address, its password masked."""
        return self._url

    @property
    def pending(self) -> int:
        """What waits to be written or read, about."""
        return self._queue.qsize()

    def begin(self, begun: Begun) -> asyncio.Future[tuple[str, str]]:
        """Write an episode down; gives the id and ``asked`` of that which has the key: another's where it was there."""
        return self._do(begun)

    def take(self, taken: Taken) -> asyncio.Future[bool]:
        """Write a step down; False where the episode does not stand before this step any more, and nothing is done."""
        return self._do(taken)

    def end(
        self, episode_id: str, *, steps: int, status: str, reason: str, failure: bytes | None, final: bytes | None
    ) -> asyncio.Future[bool]:
        """Write down that an episode has ended after so many steps; False where it had, or stands elsewhere."""
        # A model's words may stand in a reason, and no database takes every character as text.
        told = reason.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
        return self._do(Ended(episode_id, steps, status, told, failure, final))

    def touch(self, episode_id: str) -> None:
        """Note that somebody still cares. Nobody waits for it."""
        where = (EPISODES.c.id == episode_id, EPISODES.c.status == _RUNNING)
        future = self._do(lambda c: c.execute(update(EPISODES).where(*where).values(touched_at=time.time())))
        future.add_done_callback(lambda done: done.cancelled() or done.exception())  # the next one will tell

    def head(self, episode_id: str) -> asyncio.Future[Head | None]:
        """Where an episode stands; None where there is none of this id."""
        return self._do(lambda connection: head(connection, episode_id))

    def moved(self, held: Sequence[tuple[str, int]]) -> asyncio.Future[list[str]]:
        """Which of these episodes, held as running with so many steps done, have ended or gone on elsewhere."""

        def find(connection: Connection) -> list[str]:
            found = [(episode_id, head(connection, episode_id)) for episode_id, _ in held]
            steps = dict(held)
            return [i for i, head in found if head is None or (head.status, head.steps) != (_RUNNING, steps[i])]

        return self._do(find)

    def keyed(self, keys: Sequence[str]) -> asyncio.Future[dict[str, tuple[str, str]]]:
        """The episodes that were begun with these keys: each with its id and what was asked."""
        chosen = select(EPISODES.c.key, EPISODES.c.id, EPISODES.c.asked).where(EPISODES.c.key.in_(keys))
        return self._do(lambda connection: {row.key: (row.id, row.asked) for row in connection.execute(chosen)})

    def load(self, episode_id: str) -> asyncio.Future[Kept | None]:
        """All of an episode; None where there is none of this id."""
        return self._do(lambda connection: load(connection, episode_id))

    def newest(self, prefix: str) -> asyncio.Future[str | None]:
        """The id of the episode that was begun last with a key of this beginning (lower case); None without one."""
        chosen = select(EPISODES.c.id).where(EPISODES.c.key.startswith(prefix, autoescape=True))
        last = chosen.order_by(EPISODES.c.created_at.desc()).limit(1)
        return self._do(lambda connection: connection.execute(last).scalar())

    def sweep(self, *, idle_s: float, remember_s: float, reason: str) -> asyncio.Future[int]:
        """Cancel what nobody has touched for the idle time, forget what ended long ago; gives the number cancelled."""
        return self._do(lambda connection: sweep(connection, idle_s, remember_s, reason))

    async def aclose(self) -> None:
        """Write what is pending and close. Idempotent."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _do(self, what: What) -> asyncio.Future[Any]:
        work = _Work(what)
        self._put(work)
        return work.future

    def _put(self, work: _Work) -> None:
        if self._closed:
            work.future.set_exception(BackendUnavailable("the journal is closed"))
        else:
            self._queue.put(work)

    def _serve(self) -> None:
        going = True
        while going:
            works = [self._queue.get()]
            while not self._queue.empty() and len(works) < _MOST_AT_ONCE:
                works.append(self._queue.get())
            going = None not in works
            pending = [work for work in works if work is not None]
            if pending:
                self._settle(pending, self._results(pending))
                if self._mover is not None:
                    self._mover.wrote()
        if self._mover is not None:
            self._mover.close()
        if self._steps is not None:
            self._steps.close()
        self._engine.dispose()
        self._turns.close()

    def _results(self, works: Sequence[_Work]) -> list[Any]:
        """What was asked of them, in order. A failure stands as a result."""
        done = self._in_one_statement(works)
        left = [work for work in works if work not in done]
        results = dict.fromkeys(done, True) | dict(zip(left, self._in_one_transaction(left), strict=True))
        return [results[work] for work in works]

    def _in_one_statement(self, works: Sequence[_Work]) -> set[_Work]:
        """Those that were written so: all steps and ends, or none where one does not stand as it says."""
        chosen = {work: row(work.what) for work in works if isinstance(work.what, (Taken, Ended))}
        if self._steps is None or not chosen:
            return set()
        try:
            with self._turns:
                written = self._steps.write(list(chosen.values()))
        except sqlite3.Error:  # asked again below, which says why
            return set()
        return set(chosen) if written else set()

    def _in_one_transaction(self, works: Sequence[_Work]) -> list[Any]:
        """The results of all; where something fails, each in a transaction of its own."""
        if not works:
            return []
        try:
            with self._turns, self._reported(), self._engine.begin() as connection:
                return list(together(connection, [work.what for work in works]))
        except Exception:  # noqa: BLE001 - tried again one by one, where it meets its own future
            return [self._result(work) for work in works]

    def _result(self, work: _Work) -> Any:
        try:
            with self._reported(), self._engine.connect() as connection:
                result = alone(connection, work.what)
                connection.commit()
                return result
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            self.failures += 1
            return error

    def _settle(self, works: Sequence[_Work], results: Sequence[Any]) -> None:
        def settle() -> None:
            for work, result in zip(works, results, strict=True):
                if work.future.done():
                    continue
                if isinstance(result, BaseException):
                    work.future.set_exception(result)
                else:
                    work.future.set_result(result)

        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile: nobody waits
            works[0].future.get_loop().call_soon_threadsafe(settle)

    def _make_tables(self) -> None:
        """Make them where they are missing; other servers may do so at the same time."""
        for last in (*[False] * _OPEN_TRIES, True):
            try:
                METADATA.create_all(self._engine)
                with self._engine.begin() as connection:
                    found = connection.execute(select(META.c.value).where(META.c.name == "version")).scalar()
                    if found is None:
                        connection.execute(insert(META).values(name="version", value=TABLES_VERSION))
                break
            except DBAPIError:
                if last:
                    raise
                time.sleep(0.05)
        if found not in (None, TABLES_VERSION):
            raise ConfigError(
                f"the journal {self._url} was made by another version of envloop", hint="name another journal"
            )

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            reason = f"{type(error.orig).__name__}: {error.orig}" if isinstance(error, DBAPIError) else str(error)
            raise BackendUnavailable(f"the journal {self._url} failed: {reason}", hint=_HINT) from error
