"""The journal: what every episode was asked, in a SQL database, so that any server can go on with any episode.

An episode is (environment, task, seed, options, actions), and an environment a pure function of them. Here they are
written before they are answered; a digest of each result tells a later replay whether it came to the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from envs.database import open_database
from envs.errors import BackendUnavailable, ConfigError
from envs.server.journal_tables import ADVANCE, EPISODES, META, METADATA, STEPS, TABLES_VERSION
from envs.types import EpisodeStatus

__all__ = ["Begun", "Head", "Journal", "Kept", "Taken"]

logger = logging.getLogger(__name__)

_RUNNING = EpisodeStatus.RUNNING.value
_NEW_EPISODE = insert(EPISODES)
_NEW_STEP = insert(STEPS)
_MOST_AT_ONCE = 512  # writes in one transaction
_OPEN_TRIES = 20
_HINT = "check that the journal's database runs, is reachable and writable, or name another with ENVLOOP_JOURNAL_URL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """An episode's beginning. ``key`` is the asker's idempotency key, ``asked`` a digest of what was asked with it."""

    id: str
    key: str | None
    asked: str
    env: str
    task_id: str
    content_hash: str
    seed: int
    options: bytes  # JSON
    origin: str | None
    origin_step: int
    first_digest: int
    steps: Sequence[tuple[int, bytes]] = ()  # digest and action of those that it was forked with


@dataclass(frozen=True, slots=True)
class Taken:
    """A step: its number counts from 0. ``ending``: status, reason and last view of the episode that it ended."""

    episode_id: str
    number: int
    digest: int
    action: bytes  # JSON
    ending: tuple[str, str, bytes] | None = None
    at: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class Head:
    """Where an episode stands."""

    status: str
    steps: int
    touched_at: float  # seconds since 1970, by the clock of the server that wrote it


@dataclass(frozen=True, slots=True)
class Kept:
    """All that is known of an episode."""

    begun: Begun
    head: Head
    reason: str
    failure: bytes | None  # JSON of the error that ended it
    final: bytes | None  # JSON of its last view, where it has ended with one
    steps: Sequence[tuple[int, bytes]]  # digest and action, in order


class _Work:
    """Something to do in the journal's thread, and the future that waits for it."""

    __slots__ = ("future", "what")

    def __init__(self, what: Begun | Taken | Callable[[Connection], Any]) -> None:
        self.what = what
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()


class Journal:
    """One connection in one thread: what is asked while a transaction runs goes into the next, all together.

    Used from one event loop. Several servers may share its database. ``url`` is an SQLAlchemy URL; opening makes the
    tables. Raises: ConfigError for a bad URL or another version's tables; BackendUnavailable where it cannot be had.
    """

    def __init__(self, url: str) -> None:
        self._engine, _ = open_database(url, "the journal")
        self._url = self._engine.url.render_as_string(hide_password=True)
        try:
            with self._reported():
                self._make_tables()
        except BaseException:
            self._engine.dispose()
            raise
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
        where = (EPISODES.c.id == episode_id, EPISODES.c.status == _RUNNING, EPISODES.c.steps == steps)
        # A model's words may stand in a reason, and no database takes every character as text.
        told = reason.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
        values = {"status": status, "reason": told, "failure": failure, "final": final, "touched_at": time.time()}
        return self._do(lambda c: c.execute(update(EPISODES).where(*where).values(**values)).rowcount == 1)

    def touch(self, episode_id: str) -> None:
        """Note that somebody still cares. Nobody waits for it."""
        where = (EPISODES.c.id == episode_id, EPISODES.c.status == _RUNNING)
        future = self._do(lambda c: c.execute(update(EPISODES).where(*where).values(touched_at=time.time())))
        future.add_done_callback(lambda done: done.cancelled() or done.exception())  # the next one will tell

    def head(self, episode_id: str) -> asyncio.Future[Head | None]:
        """Where an episode stands; None where there is none of this id."""
        return self._do(lambda connection: _head(connection, episode_id))

    def moved(self, held: Sequence[tuple[str, int]]) -> asyncio.Future[list[str]]:
        """Which of these episodes, held as running with so many steps done, have ended or gone on elsewhere."""

        def find(connection: Connection) -> list[str]:
            found = [(episode_id, _head(connection, episode_id)) for episode_id, _ in held]
            steps = dict(held)
            return [i for i, head in found if head is None or (head.status, head.steps) != (_RUNNING, steps[i])]

        return self._do(find)

    def keyed(self, keys: Sequence[str]) -> asyncio.Future[dict[str, tuple[str, str]]]:
        """The episodes that were begun with these keys: each with its id and what was asked."""
        chosen = select(EPISODES.c.key, EPISODES.c.id, EPISODES.c.asked).where(EPISODES.c.key.in_(keys))
        return self._do(lambda connection: {row.key: (row.id, row.asked) for row in connection.execute(chosen)})

    def load(self, episode_id: str) -> asyncio.Future[Kept | None]:
        """All of an episode; None where there is none of this id."""
        return self._do(lambda connection: _load(connection, episode_id))

    def newest(self, prefix: str) -> asyncio.Future[str | None]:
        """The id of the episode that was begun last with a key of this beginning (lower case); None without one."""
        chosen = select(EPISODES.c.id).where(EPISODES.c.key.startswith(prefix, autoescape=True))
        last = chosen.order_by(EPISODES.c.created_at.desc()).limit(1)
        return self._do(lambda connection: connection.execute(last).scalar())

    def sweep(self, *, idle_s: float, remember_s: float, reason: str) -> asyncio.Future[int]:
        """Cancel what nobody has touched for the idle time, forget what ended long ago; gives the number cancelled."""
        return self._do(lambda connection: _sweep(connection, idle_s, remember_s, reason))

    async def aclose(self) -> None:
        """Write what is pending and close. Idempotent."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _do(self, what: Begun | Taken | Callable[[Connection], Any]) -> asyncio.Future[Any]:
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
        self._engine.dispose()

    def _results(self, works: Sequence[_Work]) -> list[Any]:
        """All in one transaction; where something fails, each in its own. A failure stands as a result."""
        try:
            with self._reported(), self._engine.begin() as connection:
                return list(_together(connection, works))
        except Exception:  # noqa: BLE001 - tried again one by one, where it meets its own future
            return [self._result(work) for work in works]

    def _result(self, work: _Work) -> Any:
        try:
            with self._reported(), self._engine.connect() as connection:
                result = _alone(connection, work)
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


class _Stale(Exception):
    """Not every step of a transaction is the next of its episode."""


def _together(connection: Connection, works: Sequence[_Work]) -> Iterator[Any]:
    """The results in order. What follows one another and is of a kind is written with one statement."""
    for kind, run in itertools.groupby(works, lambda work: type(work.what)):
        whats = [work.what for work in run]
        if kind is Begun:
            begun = [what for what in whats if isinstance(what, Begun)]
            _begin(connection, begun)
            yield from ((one.id, one.asked) for one in begun)
        elif kind is Taken:
            yield from _take(connection, [what for what in whats if isinstance(what, Taken)])
        else:
            yield from (what(connection) for what in whats if not isinstance(what, (Begun, Taken)))


def _take(connection: Connection, steps: Sequence[Taken]) -> list[bool]:
    if not steps:
        return []
    rows = [{"b_id": t.episode_id, "b_number": t.number, "b_next": t.number + 1, "b_at": t.at} for t in steps]
    if connection.execute(ADVANCE, rows).rowcount != len(rows):
        raise _Stale
    for t in steps:
        if t.ending is not None:
            status, reason, final = t.ending
            values = {"status": status, "reason": reason, "final": final}
            connection.execute(update(EPISODES).where(EPISODES.c.id == t.episode_id).values(**values))
    connection.execute(
        _NEW_STEP,
        [{"episode_id": t.episode_id, "number": t.number, "digest": t.digest, "action": t.action} for t in steps],
    )
    return [True] * len(steps)


def _alone(connection: Connection, work: _Work) -> Any:
    """The result of one, in its own transaction."""
    what = work.what
    try:
        if isinstance(what, Taken):
            return _take(connection, [what])[0]
        if not isinstance(what, Begun):
            return what(connection)
        _begin(connection, [what])
    except _Stale:
        connection.rollback()
        return False
    except IntegrityError:
        if not isinstance(what, Begun):
            raise
        connection.rollback()
        chosen = select(EPISODES.c.id, EPISODES.c.asked).where(EPISODES.c.key == what.key)
        found = connection.execute(chosen).first()
        if found is None:
            raise
        return found.id, found.asked
    return what.id, what.asked


def _begin(connection: Connection, episodes: Sequence[Begun]) -> None:
    now = time.time()
    rows = [
        {
            "id": one.id, "key": one.key, "asked": one.asked, "env": one.env, "task_id": one.task_id,
            "content_hash": one.content_hash, "seed": one.seed, "options": one.options, "origin": one.origin,
            "origin_step": one.origin_step, "first_digest": one.first_digest, "status": _RUNNING,
            "steps": len(one.steps), "reason": "", "created_at": now, "touched_at": now,
        }
        for one in episodes
    ]  # fmt: skip
    connection.execute(_NEW_EPISODE, rows)
    steps = [
        {"episode_id": one.id, "number": number, "digest": digest, "action": action}
        for one in episodes
        for number, (digest, action) in enumerate(one.steps)
    ]
    if steps:
        connection.execute(_NEW_STEP, steps)


def _head(connection: Connection, episode_id: str) -> Head | None:
    columns = (EPISODES.c.status, EPISODES.c.steps, EPISODES.c.touched_at)
    row = connection.execute(select(*columns).where(EPISODES.c.id == episode_id)).first()
    return None if row is None else Head(row.status, row.steps, row.touched_at)


def _load(connection: Connection, episode_id: str) -> Kept | None:
    row = connection.execute(select(EPISODES).where(EPISODES.c.id == episode_id)).first()
    if row is None:
        return None
    chosen = select(STEPS.c.digest, STEPS.c.action).where(STEPS.c.episode_id == episode_id).order_by(STEPS.c.number)
    steps = [(step.digest, bytes(step.action)) for step in connection.execute(chosen)][: row.steps]
    begun = Begun(
        id=row.id, key=row.key, asked=row.asked, env=row.env, task_id=row.task_id, content_hash=row.content_hash,
        seed=row.seed, options=bytes(row.options), origin=row.origin, origin_step=row.origin_step,
        first_digest=row.first_digest,
    )  # fmt: skip
    failure = None if row.failure is None else bytes(row.failure)
    final = None if row.final is None else bytes(row.final)
    return Kept(begun, Head(row.status, row.steps, row.touched_at), row.reason, failure, final, steps)


def _sweep(connection: Connection, idle_s: float, remember_s: float, reason: str) -> int:
    now = time.time()
    idle = (EPISODES.c.status == _RUNNING, EPISODES.c.touched_at < now - idle_s)
    values = {"status": EpisodeStatus.CANCELLED.value, "reason": reason, "touched_at": now}
    cancelled: int = connection.execute(update(EPISODES).where(*idle).values(**values)).rowcount
    old = select(EPISODES.c.id).where(EPISODES.c.status != _RUNNING, EPISODES.c.touched_at < now - remember_s)
    for (episode_id,) in connection.execute(old.limit(10_000)).all():
        connection.execute(delete(STEPS).where(STEPS.c.episode_id == episode_id))
        connection.execute(delete(EPISODES).where(EPISODES.c.id == episode_id))
    return cancelled
