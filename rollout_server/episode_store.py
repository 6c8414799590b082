"""The store of played episodes: SQLite by default, MySQL, MariaDB or PostgreSQL by URL.

Safe to use from many threads; several processes may share one store (SQLite in write-ahead mode, waiting for locks).
"""

from __future__ import annotations

import asyncio
import json
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Unpack

from sqlalchemy import String, func, select, tuple_
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.orm import Session, load_only, sessionmaker

from envs.database import open_database
from envs.errors import BackendUnavailable, Conflict, InvalidOption, UnknownEpisode
from rollout_server.episode_filters import EpisodeFilters, conditions
from rollout_server.episode_table import BodyRow, EpisodeRow, ScoreRow
from rollout_server.serialize import dumps, episode_from_json, episode_to_json
from rollout_server.store_migrations import upgrade
from rollout_server.store_retention import PruneReport, Retention, prune_rows, release_space
from rollout_server.store_stats import EpisodeStats, read_stats, stats_statement
from rollout_server.types import Episode, EpisodeStatus

__all__ = ["EpisodeFilters", "EpisodeStore", "EpisodeSummary", "summarize", "summary_from_json"]

_BATCH = 200


@dataclass(frozen=True, slots=True)
class EpisodeSummary:
    """An episode's row without its body. ``tokens`` counts all, ``policy_tokens`` what the policy sampled.

    ``run`` is ``metadata["run"]``, or empty.
    """

    id: str
    group_id: str
    env: str
    task_id: str
    task_type: str
    split: str
    protocol: str
    engine: str
    model: str
    policy: str
    status: EpisodeStatus
    reward: float | None
    training_reward: float | None
    turns: int
    steps: int
    tokens: int
    policy_tokens: int
    seed: int
    started_at: str
    duration_s: float
    run: str

    def to_json(self) -> dict[str, Any]:
        """Its fields, by name."""
        return {name: getattr(self, name) for name in _SUMMARY}


class EpisodeStore:
    """Episodes by id and by what they were.

    ``url`` is an SQLAlchemy URL (``sqlite:///episodes.db``, ``sqlite://`` for memory, ``mysql://user:password@host/db``).
    Opening makes or migrates the tables. Raises: ConfigError for a bad URL, a missing driver or a newer store;
    BackendUnavailable where the database cannot be reached.
    """

    def __init__(self, url: str) -> None:
        self._engine, self._memory = open_database(url, "the store")
        self._lock = threading.Lock()
        self._sessions = sessionmaker(self._engine, expire_on_commit=False)
        try:
            with self._reported(), self._guard(write=True):
                upgrade(self._engine)
        except BaseException:
            self._engine.dispose()
            raise

    @property
    def url(self) -> str:
        """The store's address, its password masked."""
        return self._engine.url.render_as_string(hide_password=True)

    def add(self, episode: Episode) -> None:
        """Store an episode. Raises: Conflict where its id is stored already; InvalidOption; BackendUnavailable."""
        self.add_many((episode,))

    def add_many(self, episodes: Iterable[Episode]) -> None:
        """Store all or, on an error, none of the episodes."""
        rows = [_row(episode) for episode in episodes]
        with self._session(write=True) as session:
            session.add_all([row for row, _ in rows])
            session.add_all([body for _, body in rows])
            try:
                session.commit()
            except IntegrityError as error:
                session.rollback()
                shown = rows[0][0].id if len(rows) == 1 else f"one of {len(rows)} episodes"
                raise Conflict(f"episode {shown} is stored already", hint="an id names one episode for ever") from error

    async def aadd(self, episode: Episode) -> None:
        """``add`` in a thread, for callers on an event loop."""
        await asyncio.to_thread(self.add, episode)

    def get(self, episode_id: str) -> Episode:
        """The episode with this id, or the only one whose id begins with it. Raises: UnknownEpisode."""
        with self._session() as session:
            body = session.scalar(select(BodyRow.body).where(BodyRow.id == episode_id))
            if body is None and episode_id:
                begins = BodyRow.id.startswith(episode_id, autoescape=True)
                found = session.execute(select(BodyRow.id, BodyRow.body).where(begins).limit(3)).all()
                if len(found) > 1:
                    ids = ", ".join(row.id for row in found)
                    raise UnknownEpisode(f"more than one episode begins with {episode_id!r}", hint=f"such as {ids}")
                body = found[0].body if found else None
        if body is None:
            raise UnknownEpisode(f"no stored episode has the id {episode_id!r}", hint="envloop replay list shows them")
        return _episode(body)

    def query(
        self, *, limit: int = 100, offset: int = 0, newest_first: bool = True, **filters: Unpack[EpisodeFilters]
    ) -> list[EpisodeSummary]:
        """A page of what matches, by start time. Raises InvalidOption for an unknown filter or status."""
        order = (EpisodeRow.started_at, EpisodeRow.id)
        columns = [getattr(EpisodeRow, name) for name in _SUMMARY]
        chosen = select(EpisodeRow).options(load_only(*columns)).where(*conditions(filters))
        chosen = chosen.order_by(*(c.desc() for c in order) if newest_first else order)
        with self._session() as session:
            return [_summary(row) for row in session.scalars(chosen.limit(limit).offset(offset))]

    def count(self, **filters: Unpack[EpisodeFilters]) -> int:
        """How many episodes match."""
        with self._session() as session:
            return session.scalar(select(func.count()).select_from(EpisodeRow).where(*conditions(filters))) or 0

    def iter_episodes(self, **filters: Unpack[EpisodeFilters]) -> Iterator[Episode]:
        """Every matching episode, oldest first, a batch at a time: no transaction stays open between two of them."""
        where = conditions(filters)
        order = (EpisodeRow.started_at, EpisodeRow.id)
        after: tuple[str, str] | None = None
        while True:
            chosen = select(*order, BodyRow.body).join(BodyRow, BodyRow.id == EpisodeRow.id)
            chosen = chosen.where(*where).order_by(*order).limit(_BATCH)
            if after is not None:
                chosen = chosen.where(tuple_(*order) > tuple_(*after))
            with self._session() as session:
                rows = session.execute(chosen).all()
            for row in rows:
                yield _episode(row.body)
            if len(rows) < _BATCH:
                return
            after = (rows[-1].started_at, rows[-1].id)

    def stats(self, by: Sequence[str] = (), **filters: Unpack[EpisodeFilters]) -> list[EpisodeStats]:
        """Figures of what matches, one row for each combination of the keys ``by`` (``STATS_KEYS``), ordered by it.

        Without keys: one row. Raises InvalidOption for an unknown key or filter.
        """
        statement = stats_statement(by, conditions(filters))
        with self._session() as session:
            return [read_stats(by, row) for row in session.execute(statement)]

    def prune(
        self,
        retention: Retention,
        *,
        dry_run: bool = False,
        stop: threading.Event | None = None,
        **filters: Unpack[EpisodeFilters],
    ) -> PruneReport:
        """Delete matching episodes that ``retention`` does not keep, in small transactions, and give the space back.

        ``dry_run`` only counts; ``stop``, once set, ends it after the transaction under way. Raises InvalidOption where
        no rule is given: nothing goes by accident.
        """
        if not retention.bounds:
            raise InvalidOption("nothing says which episodes may go", hint="an age, a number or a size to keep")
        report = prune_rows(self._session, conditions(filters), retention, dry_run=dry_run, stop=stop)
        if dry_run or not report.deleted or self._memory or (stop is not None and stop.is_set()):
            return report
        with self._reported(), self._guard(write=True):
            return replace(report, space=release_space(self._engine))

    def add_score(self, episode_id: str, rules: str, reward: float) -> None:
        """Keep what the reward of an episode is under other rules; the episode's own reward never changes.

        Raises: UnknownEpisode; InvalidOption for a name of rules that is too long or empty.
        """
        if not 0 < len(rules) <= 64:
            raise InvalidOption("the name of rules has 1 to 64 characters")
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self._session(write=True) as session:
            if session.get(EpisodeRow, episode_id) is None:
                raise UnknownEpisode(f"no stored episode has the id {episode_id!r}")
            session.merge(ScoreRow(episode_id=episode_id, rules=rules, reward=reward, scored_at=now))
            session.commit()

    def scores(self, episode_id: str) -> dict[str, float]:
        """The rewards under other rules that were kept, by the rules' names."""
        chosen = select(ScoreRow).where(ScoreRow.episode_id == episode_id).order_by(ScoreRow.rules)
        with self._session() as session:
            return {row.rules: row.reward for row in session.scalars(chosen)}

    def close(self) -> None:
        """Close every connection. Idempotent."""
        self._engine.dispose()

    def __enter__(self) -> EpisodeStore:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @contextmanager
    def _session(self, *, write: bool = False) -> Iterator[Session]:
        with self._reported(), self._guard(write=write), self._sessions() as session:
            yield session

    @contextmanager
    def _guard(self, *, write: bool) -> Iterator[None]:
        # A store in memory is one connection. For a file, this process's writers queue here, not in SQLite.
        if self._memory or (write and self._engine.dialect.name == "sqlite"):
            with self._lock:
                yield
        else:
            yield

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except DataError as error:
            hint = "a text is too long, or holds a NUL"
            raise InvalidOption(f"the store takes no such value: {error.orig}", hint=hint) from error
        except DBAPIError as error:
            raise BackendUnavailable(
                f"the episode store {self.url} failed: {type(error.orig).__name__}: {error.orig}",
                hint="check that the database runs, is reachable and writable, or name another with ENVLOOP_STORE_URL",
            ) from error


_SUMMARY = tuple(EpisodeSummary.__dataclass_fields__)
_LENGTHS = {c.name: c.type.length for c in EpisodeRow.__table__.columns if isinstance(c.type, String) and c.type.length}


def summarize(episode: Episode) -> EpisodeSummary:
    """An episode's summary, without any store."""
    return EpisodeSummary(
        id=episode.id,
        group_id=episode.group_id,
        env=episode.env,
        task_id=episode.task.id,
        task_type=episode.task.type,
        split=episode.task.split,
        protocol=episode.protocol,
        engine=episode.engine,
        model=episode.model,
        policy=episode.policy,
        status=episode.status,
        reward=episode.reward,
        training_reward=episode.training_reward,
        turns=len(episode.turns),
        steps=len(episode.steps),
        tokens=len(episode.prompt_ids) + len(episode.completion_ids),
        policy_tokens=sum(episode.mask),
        seed=episode.seed,
        started_at=episode.started_at,
        duration_s=episode.duration_s,
        run=str(episode.metadata.get("run", "")),
    )


def summary_from_json(document: Any) -> EpisodeSummary:
    """Inverse of ``EpisodeSummary.to_json``. Raises TypeError, ValueError."""
    return EpisodeSummary(**{**document, "status": EpisodeStatus(document["status"])})


def _row(episode: Episode) -> tuple[EpisodeRow, BodyRow]:
    fields = summarize(episode).to_json()
    fields |= {"status": episode.status.value, "seed": str(episode.seed)}
    body = zlib.compress(dumps(episode_to_json(episode)).encode())
    row = EpisodeRow(**fields, body_bytes=len(body))
    for name, length in _LENGTHS.items():
        if len(getattr(row, name)) > length:
            raise InvalidOption(f"episode {episode.id[:64]}: {name} is longer than {length} characters")
    if not episode.id:
        raise InvalidOption("an episode without an id cannot be stored")
    return row, BodyRow(id=episode.id, body=body)


def _summary(row: EpisodeRow) -> EpisodeSummary:
    fields = {name: getattr(row, name) for name in _SUMMARY}
    return EpisodeSummary(**fields | {"status": EpisodeStatus(row.status), "seed": int(row.seed)})


def _episode(body: bytes) -> Episode:
    text = zlib.decompress(body)
    return episode_from_json(json.loads(text), marked=b"$float" in text)
