"""The store gives back exactly what it was given, finds it, and refuses what it cannot keep."""

from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from episode_samples import episodes, sample_episode
from hypothesis import HealthCheck, assume, given, settings
from sqlalchemy import create_engine, event, inspect, text

from envs.errors import BackendUnavailable, ConfigError, Conflict, InvalidOption, UnknownEpisode
from envs.types import EpisodeStatus
from rollout_server.episode_store import EpisodeStore
from rollout_server.episode_table import Base
from rollout_server.store_migrations import VERSION_TABLE, upgrade


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'new folder' / 'episodes.db'}"


@pytest.fixture
def store(url):
    with EpisodeStore(url) as opened:
        yield opened


def numbered(count, **changes):
    return [
        sample_episode(id=f"{i:04d}-episode", started_at=f"2026-01-01T00:00:{i % 60:02d}+00:00", **changes)
        for i in range(count)
    ]


def test_what_was_stored_comes_back_equal_after_reopening(url):
    episode = sample_episode()
    with EpisodeStore(url) as store:
        store.add(episode)
    with EpisodeStore(url) as store:
        assert store.get(episode.id) == episode


@pytest.fixture(scope="module")
def one_store():
    with EpisodeStore("sqlite://") as opened:
        yield opened


@given(episode=episodes)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_any_episode_comes_back_equal(one_store, episode):
    episode = dataclasses.replace(episode, id=uuid.uuid4().hex, task=sample_episode().task)
    try:
        one_store.add(episode)
    except InvalidOption:
        assume(False)  # a text that is too long for its column
    assert one_store.get(episode.id) == episode


def test_a_store_in_memory_works_and_is_shared_by_threads():
    with EpisodeStore("sqlite://") as store, ThreadPoolExecutor(8) as pool:
        list(pool.map(store.add, numbered(30)))
        assert store.count() == 30


def test_the_beginning_of_an_id_is_enough_where_it_is_unique(store):
    store.add_many([sample_episode(id="abc1"), sample_episode(id="abd2"), sample_episode(id="ab%3")])
    assert store.get("abc").id == "abc1"
    assert store.get("ab%").id == "ab%3"
    with pytest.raises(UnknownEpisode, match="more than one"):
        store.get("ab")


@pytest.mark.parametrize("name", ["", "zzz", "%", "_"])
def test_an_unknown_id_is_said(store, name):
    store.add(sample_episode())
    with pytest.raises(UnknownEpisode, match="no stored episode"):
        store.get(name)


def test_an_id_is_stored_once(store):
    store.add(sample_episode())
    with pytest.raises(Conflict, match="stored already"):
        store.add(sample_episode(reward=0.0))
    assert store.get(sample_episode().id).reward == 1.0


def test_add_many_stores_all_or_nothing(store):
    store.add(sample_episode(id="taken"))
    with pytest.raises(Conflict, match="one of 2"):
        store.add_many([sample_episode(id="fresh"), sample_episode(id="taken")])
    assert store.count() == 1


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"env": "alfworld"}, ["a", "b"]),
        ({"env": "dbbench"}, ["c"]),
        ({"env": "ALFWORLD"}, []),
        ({"task_id": "generated/7"}, ["a", "b", "c"]),
        ({"task_type": "pick_and_place_simple", "split": "generated"}, ["a", "b", "c"]),
        ({"policy": "step-1"}, ["b"]),
        ({"status": EpisodeStatus.INFRASTRUCTURE_ERROR}, ["c"]),
        ({"status": "completed"}, ["a", "b"]),
        ({"run": "second"}, ["b"]),
        ({"group_id": "g2"}, ["c"]),
        ({"min_reward": 1.0}, ["a"]),
        ({"engine": "scripted", "model": "expert", "protocol": "agentbench_fc", "env": None}, ["a", "b", "c"]),
    ],
)
def test_filters(store, filters, expected):
    failed = EpisodeStatus.INFRASTRUCTURE_ERROR
    store.add_many(
        [
            sample_episode(id="a", started_at="1"),
            sample_episode(id="b", started_at="2", policy="step-1", reward=0.0, metadata={"run": "second"}),
            sample_episode(id="c", started_at="3", env="dbbench", group_id="g2", status=failed, reward=None),
        ]
    )
    assert [s.id for s in store.query(**filters, newest_first=False)] == expected
    assert [e.id for e in store.iter_episodes(**filters)] == expected
    assert store.count(**filters) == len(expected)


def test_a_summary_counts_the_episode(store):
    store.add(sample_episode(seed=2**70))
    (summary,) = store.query()
    assert (summary.turns, summary.steps, summary.tokens, summary.policy_tokens) == (2, 2, 12, 5)
    assert (summary.reward, summary.training_reward) == (1.0, 0.9)
    assert (summary.status, summary.seed, summary.run) == (EpisodeStatus.COMPLETED, 2**70, "first")


def test_pages_go_from_new_to_old(store):
    store.add_many(numbered(5))
    assert [s.id[:4] for s in store.query(limit=2)] == ["0004", "0003"]
    assert [s.id[:4] for s in store.query(limit=2, offset=4)] == ["0000"]


def test_iterating_crosses_batches_and_ties(store):
    store.add_many(numbered(450))
    seen = [(e.started_at, e.id) for e in store.iter_episodes()]
    assert len(seen) == 450
    assert seen == sorted(seen)


def test_an_unknown_filter_is_refused(store):
    with pytest.raises(InvalidOption, match="no filter colour"):
        store.query(colour="red")


@pytest.mark.parametrize(
    ("changes", "what"), [({"id": ""}, "without an id"), ({"policy": "p" * 129}, "policy is longer than 128")]
)
def test_what_does_not_fit_is_refused_with_its_name(store, changes, what):
    with pytest.raises(InvalidOption, match=what):
        store.add(sample_episode(**changes))


async def test_many_threads_and_an_event_loop_write_at_once(store):
    await asyncio.gather(*(store.aadd(episode) for episode in numbered(60)))
    assert await asyncio.to_thread(store.count) == 60


def test_a_new_store_may_be_opened_many_times_at_once(url):
    def use(i):
        with EpisodeStore(url) as store:
            store.add(sample_episode(id=f"e{i}"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(16)))
    with EpisodeStore(url) as store:
        assert store.count() == 16


def test_a_new_store_waits_for_whoever_holds_the_file(url, tmp_path):
    """SQLite refuses at once to change the journal's mode under another's lock: the busy timeout does not apply."""
    path = tmp_path / "held.db"
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    holder.execute("CREATE TABLE t (x)")
    holder.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(0.3, holder.rollback)
    release.start()
    try:
        with EpisodeStore(f"sqlite:///{path}") as store:
            assert store.count() == 0
    finally:
        release.join()
        holder.close()


def test_a_migration_holds_the_write_lock_from_its_first_statement(url, tmp_path):
    path = tmp_path / "locked.db"
    engine = create_engine(f"sqlite:///{path}")
    refused = []

    @event.listens_for(engine, "before_cursor_execute")
    def try_to_write(connection, cursor, statement, parameters, context, many):
        if "CREATE" in statement:
            other = sqlite3.connect(path, timeout=0)
            try:
                with pytest.raises(sqlite3.OperationalError, match="locked"):
                    other.execute("BEGIN IMMEDIATE")
            finally:
                other.close()
            refused.append(statement)

    upgrade(engine)
    engine.dispose()
    assert len(refused) >= 2  # the version table and the episodes


def test_sqlite_runs_in_write_ahead_mode(url):
    EpisodeStore(url).close()
    engine = create_engine(url)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    engine.dispose()


def test_the_migrations_make_what_the_models_say(url):
    EpisodeStore(url).close()
    engine = create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
        assert set(inspect(connection).get_table_names()) == {*Base.metadata.tables, VERSION_TABLE}
    engine.dispose()


def test_a_store_of_a_newer_version_is_refused_and_left_alone(url):
    with EpisodeStore(url) as store:
        store.add(sample_episode())
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(ConfigError, match=r"'9999'.*upgrade envloop"):
        EpisodeStore(url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM episodes")).scalar() == 1
        assert connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar() == "9999"
    engine.dispose()


def test_an_older_store_is_brought_up_to_date(url):
    EpisodeStore(url).close()
    engine = create_engine(url)
    with engine.begin() as connection:
        for table in Base.metadata.tables:
            connection.execute(text(f"DROP TABLE {table}"))
        connection.execute(text(f"DELETE FROM {VERSION_TABLE}"))
    engine.dispose()
    with EpisodeStore(url) as store:
        store.add(sample_episode())
        assert store.count() == 1


@pytest.mark.parametrize("bad", ["nonsense", "nosuchdb://x", "postgresql+asyncpg://u@h/d"])
def test_a_bad_address_is_a_setting_to_correct(bad):
    with pytest.raises(ConfigError):
        EpisodeStore(bad)


def test_a_file_that_is_no_database_is_reported(tmp_path):
    path = tmp_path / "episodes.db"
    path.write_bytes(b"not a database, " * 100)
    with pytest.raises(BackendUnavailable, match="not a database"):
        EpisodeStore(f"sqlite:///{path}")


def test_an_unreachable_server_is_reported_without_the_password():
    with pytest.raises(BackendUnavailable) as caught:
        EpisodeStore("mysql://someone:hunter22@127.0.0.1:1/envloop")
    assert "hunter22" not in str(caught.value)
    assert "someone" in str(caught.value)


def test_a_changed_record_is_another_record(store):
    episode = sample_episode()
    store.add(episode)
    assert store.get(episode.id) != dataclasses.replace(episode, duration_s=2.0)
