"""The journal's statements, in SQL that every database knows."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from envs.server.journal_bulk import Row
from envs.server.journal_records import Begun, Ended, Head, Kept, Taken
from envs.server.journal_tables import ADVANCE, EPISODES, STEPS
from envs.types import EpisodeStatus

__all__ = ["What", "alone", "head", "load", "row", "sweep", "together"]

type What = Begun | Taken | Ended | Callable[[Connection], Any]
"""Something to write, or something else to do with the connection."""

_RUNNING = EpisodeStatus.RUNNING.value
_NEW_EPISODE = insert(EPISODES)
_NEW_STEP = insert(STEPS)


class _Stale(Exception):
    """Not every step of a transaction is the next of its episode."""


def together(connection: Connection, whats: Sequence[What]) -> Iterator[Any]:
    """The results in order. What follows one another and is of a kind is written with one statement."""
    for kind, run in itertools.groupby(whats, type):
        alike = list(run)
        if kind is Begun:
            begun = [what for what in alike if isinstance(what, Begun)]
            _begin(connection, begun)
            yield from ((one.id, one.asked) for one in begun)
        elif kind is Taken:
            yield from _take(connection, [what for what in alike if isinstance(what, Taken)])
        else:
            for what in alike:
                if isinstance(what, Ended):
                    yield _end(connection, what)
                elif not isinstance(what, (Begun, Taken)):
                    yield what(connection)


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


def _end(connection: Connection, ended: Ended) -> bool:
    where = (EPISODES.c.id == ended.episode_id, EPISODES.c.status == _RUNNING, EPISODES.c.steps == ended.steps)
    values = {
        "status": ended.status, "reason": ended.reason, "failure": ended.failure, "final": ended.final,
        "touched_at": ended.at,
    }  # fmt: skip
    return connection.execute(update(EPISODES).where(*where).values(**values)).rowcount == 1


def row(what: Taken | Ended) -> Row:
    """A step or an end for a ``StepWriter``."""
    if isinstance(what, Ended):
        end = (what.status, what.reason, what.final, what.failure)
        return (what.episode_id, what.steps, None, None, what.at, *end)
    ending = what.ending or (None, None, None)
    return (what.episode_id, what.number, what.digest, what.action, what.at, *ending, None)


def alone(connection: Connection, what: What) -> Any:
    """The result of one, in its own transaction."""
    try:
        if isinstance(what, Taken):
            return _take(connection, [what])[0]
        if isinstance(what, Ended):
            return _end(connection, what)
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


def head(connection: Connection, episode_id: str) -> Head | None:
    """Where an episode stands."""
    columns = (EPISODES.c.status, EPISODES.c.steps, EPISODES.c.touched_at)
    found = connection.execute(select(*columns).where(EPISODES.c.id == episode_id)).first()
    return None if found is None else Head(found.status, found.steps, found.touched_at)


def load(connection: Connection, episode_id: str) -> Kept | None:
    """All of an episode."""
    found = connection.execute(select(EPISODES).where(EPISODES.c.id == episode_id)).first()
    if found is None:
        return None
    chosen = select(STEPS.c.digest, STEPS.c.action).where(STEPS.c.episode_id == episode_id).order_by(STEPS.c.number)
    steps = [(step.digest, bytes(step.action)) for step in connection.execute(chosen)][: found.steps]
    begun = Begun(
        id=found.id, key=found.key, asked=found.asked, env=found.env, task_id=found.task_id,
        content_hash=found.content_hash,
        seed=found.seed, options=bytes(found.options), origin=found.origin, origin_step=found.origin_step,
        first_digest=found.first_digest,
    )  # fmt: skip
    failure = None if found.failure is None else bytes(found.failure)
    final = None if found.final is None else bytes(found.final)
    return Kept(begun, Head(found.status, found.steps, found.touched_at), found.reason, failure, final, steps)


def sweep(connection: Connection, idle_s: float, remember_s: float, reason: str) -> int:
    """Cancel what is idle and forget what is old; the number cancelled."""
    now = time.time()
    idle = (EPISODES.c.status == _RUNNING, EPISODES.c.touched_at < now - idle_s)
    values = {"status": EpisodeStatus.CANCELLED.value, "reason": reason, "touched_at": now}
    cancelled: int = connection.execute(update(EPISODES).where(*idle).values(**values)).rowcount
    # What was touched so long ago was begun before: that is what an index can find.
    begun = EPISODES.c.created_at < now - remember_s
    old = select(EPISODES.c.id).where(begun, EPISODES.c.status != _RUNNING, EPISODES.c.touched_at < now - remember_s)
    for (episode_id,) in connection.execute(old.limit(10_000)).all():
        connection.execute(delete(STEPS).where(STEPS.c.episode_id == episode_id))
        connection.execute(delete(EPISODES).where(EPISODES.c.id == episode_id))
    return cancelled
