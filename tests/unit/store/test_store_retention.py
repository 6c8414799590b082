"""What retention deletes, what it leaves, that it says so, and that the space comes back."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from episode_samples import sample_episode
from sqlalchemy import create_engine, event, inspect, text

import rollout_server.store_migrations as migrations
from envs.errors import BackendUnavailable, ConfigError, InvalidOption
from rollout_server.config import RolloutServerSettings
from rollout_server.episode_filters import parse_bytes
from rollout_server.episode_store import EpisodeStore
from rollout_server.serialize import dumps, episode_to_json
from rollout_server.server.retention import keep_pruned
from rollout_server.store_retention import Retention, prune_rows, release_space


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'episodes.db'}"


@pytest.fixture
def store(url):
    with EpisodeStore(url) as opened:
        yield opened


def numbered(count, **changes):
    """An episode an hour, the last one now; some begin at the same time."""
    now = datetime.now(UTC)
    return [
        sample_episode(
            id=f"{i:04d}",
            started_at=(now - timedelta(hours=count - 1 - i // 2 * 2)).isoformat(timespec="milliseconds"),
            **changes,
        )
        for i in range(count)
    ]


def ids(store):
    return [summary.id for summary in store.query(limit=10_000, newest_first=False)]


@pytest.mark.parametrize(
    ("retention", "kept"),
    [
        (Retention(keep_last=3), ["0007", "0008", "0009"]),
        (Retention(keep_last=0), []),
        (Retention(keep_last=10), [f"{i:04d}" for i in range(10)]),
        (Retention(older_than=timedelta(hours=4, minutes=30)), ["0006", "0007", "0008", "0009"]),
        (Retention(older_than=timedelta(days=400_000_000)), [f"{i:04d}" for i in range(10)]),
        (Retention(older_than=timedelta(hours=4, minutes=30), keep_last=3), ["0007", "0008", "0009"]),
        (Retention(older_than=timedelta(hours=4, minutes=30), keep_last=9), ["0006", "0007", "0008", "0009"]),
        (Retention(max_bytes=0), []),
        (Retention(max_bytes=10**9), [f"{i:04d}" for i in range(10)]),
    ],
)
def test_each_rule_and_all_together(store, retention, kept):
    store.add_many(numbered(10))
    told = store.prune(retention, dry_run=True)
    assert len(ids(store)) == 10
    report = store.prune(retention)
    assert ids(store) == kept
    assert (report.matched, report.deleted, told.deleted) == (10, 10 - len(kept), 10 - len(kept))
    assert (told.bytes, told.oldest_kept) == (report.bytes, report.oldest_kept)
    assert [e.id for e in store.iter_episodes()] == kept
    assert report.oldest_kept == (store.query(newest_first=False)[0].started_at if kept else "")
    assert store.prune(retention).deleted == 0


def test_the_newest_stay_that_fit_into_a_size(store):
    store.add_many(numbered(10))
    (whole,) = store.stats()
    report = store.prune(Retention(max_bytes=whole.bytes // 2))
    (left,) = store.stats()
    assert ids(store) == [f"{i:04d}" for i in range(10 - left.episodes, 10)]
    assert whole.bytes // 2 - whole.bytes // 6 < left.bytes <= whole.bytes // 2
    assert report.bytes == whole.bytes - left.bytes


def test_only_what_matches_goes(store):
    store.add_many(numbered(6))
    store.add_many([dataclasses.replace(e, id=f"x{e.id}", metadata={"run": "keep"}) for e in numbered(6)])
    report = store.prune(Retention(keep_last=1), run="first")
    assert (report.matched, report.deleted) == (6, 5)
    assert store.count(run="keep") == 6
    with pytest.raises(InvalidOption, match="no filter colour"):
        store.prune(Retention(keep_last=1), colour="red")


def test_scores_go_with_their_episode(store):
    store.add_many(numbered(2))
    for name in ("0000", "0001"):
        store.add_score(name, "classic", 1.0)
    store.prune(Retention(keep_last=1))
    assert (store.scores("0000"), store.scores("0001")) == ({}, {"classic": 1.0})


def test_nothing_goes_by_accident(store):
    store.add_many(numbered(2))
    with pytest.raises(InvalidOption, match="nothing says which"):
        store.prune(Retention())
    for bad in ({"keep_last": -1}, {"max_bytes": -5}):
        with pytest.raises(InvalidOption, match="is -"):
            Retention(**bad)
    assert store.count() == 2


def test_a_report_is_a_sentence(store):
    store.add_many(numbered(4))
    told = store.prune(Retention(keep_last=1), dry_run=True).line()
    assert told.startswith("would delete 3 of 4 episodes")
    said = store.prune(Retention(keep_last=1)).line()
    assert said.startswith("deleted 3 of 4 episodes")
    assert "the file has" in said


def test_the_file_shrinks_the_first_time_and_every_time(url, tmp_path):
    def size():
        return sum(path.stat().st_size for path in Path(tmp_path).glob("episodes.db*"))

    def large(first):
        text = "".join(chr(33 + (i * 7919 + first) % 90) * (1 + i % 3) for i in range(3000))
        return [sample_episode(id=f"{first + i:05d}", error=f"{i}{text}") for i in range(300)]

    with EpisodeStore(url) as store:
        for round_ in (0, 1000):
            store.add_many(large(round_))
            before = size()
            report = store.prune(Retention(keep_last=5))
            assert "bytes, before" in report.space
            assert size() < before / 2
        store.add_many(large(2000))
        assert store.count() == 305
    engine = create_engine(url)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA auto_vacuum").scalar() == 2
    engine.dispose()


def test_a_file_that_another_reads_keeps_its_space_and_says_why(url, monkeypatch):
    with EpisodeStore(url) as store:
        store.add_many(numbered(300))
        other = create_engine(url)
        with other.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            connection.exec_driver_sql("SELECT count(*) FROM episodes").fetchall()

            @event.listens_for(store._engine, "connect")
            def hurry(dbapi, _record):
                dbapi.execute("PRAGMA busy_timeout = 50")

            store._engine.dispose()
            report = store.prune(Retention(keep_last=5))
            assert report.deleted == 295
            assert "bytes" in report.space
        other.dispose()
        assert store.count() == 5
        assert "the file has" in release_space(store._engine)


def test_deletions_are_many_small_transactions_and_writers_go_between(store):
    store.add_many(numbered(1000))
    commits = []

    @event.listens_for(store._engine, "commit")
    def note(_connection):
        commits.append(1)

    going = threading.Thread(target=lambda: store.prune(Retention(keep_last=10)))
    going.start()
    for i in range(20):
        store.add(sample_episode(id=f"new{i}", started_at=datetime.now(UTC).isoformat()))
    going.join()
    assert len(commits) >= 5 + 20
    assert set(ids(store)) >= {f"new{i}" for i in range(20)}
    assert store.count() <= 30


def test_a_store_in_memory_is_pruned_too():
    with EpisodeStore("sqlite://") as store:
        store.add_many(numbered(4))
        assert store.prune(Retention(keep_last=1)).deleted == 3


def test_ages_are_counted_from_now(store):
    store.add_many(numbered(4))
    later = datetime.now(UTC) + timedelta(days=40)
    report = prune_rows(store._session, [], Retention(older_than=timedelta(days=30)), dry_run=False, now=later)
    assert report.deleted == 4


def test_sizes_as_texts():
    assert [parse_bytes(t) for t in ("10", "1K", "1.5k", "2MB", "1G", " 3 b ")] == [10, 1024, 1536, 2 << 20, 1 << 30, 3]
    for bad in ("", "-1", "ten", "1T", "1e3"):
        with pytest.raises(InvalidOption, match="no size"):
            parse_bytes(bad)


async def test_a_server_prunes_at_once_and_again_and_says_so(store, caplog):
    store.add_many(numbered(6))
    with caplog.at_level(logging.WARNING):
        pruning = asyncio.create_task(keep_pruned(store, Retention(keep_last=2), every_s=0.02))
        async with asyncio.timeout(30):
            while await asyncio.to_thread(store.count) != 2:  # noqa: ASYNC110 - the store tells nobody
                await asyncio.sleep(0.01)
        await asyncio.to_thread(store.add_many, numbered(3, group_id="more")[:1])
        pruning.cancel()
        await asyncio.wait([pruning])
    assert any("deleted 4 of 6 episodes" in record.message for record in caplog.records)
    await asyncio.wait_for(keep_pruned(store, Retention(), every_s=1e9), 5)


async def test_a_server_goes_on_where_its_store_is_away(store, caplog, monkeypatch):
    def away(_retention, *, stop):
        raise BackendUnavailable("the store is away")

    monkeypatch.setattr(store, "prune", away)
    with caplog.at_level(logging.WARNING):
        pruning = asyncio.create_task(keep_pruned(store, Retention(keep_last=1), every_s=0.01))
        async with asyncio.timeout(30):
            while len(caplog.records) < 2:  # noqa: ASYNC110 - nor does the log
                await asyncio.sleep(0.01)
        pruning.cancel()
        await asyncio.wait([pruning])
    assert "the store is away" in caplog.records[0].message


async def test_a_server_that_ends_ends_its_pruning_first(store):
    store.add_many(numbered(1000))
    began, may_go = threading.Event(), threading.Event()

    @event.listens_for(store._engine, "commit")
    def hold(_connection):
        began.set()
        may_go.wait(30)

    pruning = asyncio.create_task(keep_pruned(store, Retention(keep_last=0), every_s=1e9))
    await asyncio.to_thread(began.wait, 30)
    pruning.cancel()
    await asyncio.sleep(0)  # the cancellation arrives while a transaction is under way
    assert not pruning.done()
    may_go.set()
    await asyncio.wait([pruning])
    assert store.count() == 800


def test_the_servers_settings_are_a_retention():
    assert not RolloutServerSettings.load().retention().bounds
    settings = RolloutServerSettings.load(keep_for="30d", keep_last=100, keep_bytes=5)
    assert settings.retention() == Retention(timedelta(days=30), 100, 5)
    with pytest.raises(ConfigError, match="keep_for"):
        RolloutServerSettings.load(keep_for="a month").retention()


def at_revision(engine, revision):
    """Bring a new database to an older schema."""
    with engine.connect() as connection, migrations._only_one(connection):
        config = Config()
        config.set_main_option("script_location", str(migrations._SCRIPTS))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def test_a_store_of_the_first_schema_keeps_every_record(url):
    import zlib

    from rollout_server.episode_store import summarize

    engine = create_engine(url)
    at_revision(engine, "0001")
    episodes = numbered(5)
    with engine.begin() as connection:
        for episode in episodes:
            fields = summarize(episode).to_json() | {"seed": str(episode.seed), "status": episode.status.value}
            fields["body"] = zlib.compress(dumps(episode_to_json(episode)).encode())
            names = ", ".join(fields)
            connection.execute(text(f"INSERT INTO episodes ({names}) VALUES (:{', :'.join(fields)})"), fields)
    engine.dispose()
    with EpisodeStore(url) as store:
        assert list(store.iter_episodes()) == episodes
        assert store.get("0003") == episodes[3]
        (figures,) = store.stats()
        assert figures.bytes > 5 * 100
        store.add(sample_episode())
        assert store.prune(Retention(keep_last=2)).deleted == 4
    engine = create_engine(url)
    with engine.connect() as connection:
        assert "body" not in {column["name"] for column in inspect(connection).get_columns("episodes")}
    engine.dispose()
