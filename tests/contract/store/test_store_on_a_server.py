"""The store keeps its promises on real MySQL and PostgreSQL, where texts, blobs and locks differ from SQLite's."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import subprocess
import sys
import zlib
from pathlib import Path

import episode_samples
import pymysql
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from episode_samples import sample_episode
from sqlalchemy import URL, create_engine, inspect, text

import rollout_server.store_migrations as migrations
from envs.dbbench.mysql_server import PrivateServer
from envs.errors import BackendUnavailable, ConfigError, Conflict, InvalidOption, UnknownEpisode
from envs.types import EpisodeStatus
from rollout_server.episode_store import EpisodeStore, summarize
from rollout_server.episode_table import Base
from rollout_server.serialize import dumps, episode_to_json
from rollout_server.store_migrations import VERSION_TABLE
from rollout_server.store_retention import Retention

OPEN_AND_ADD = """
import sys
from episode_samples import sample_episode
from rollout_server.episode_store import EpisodeStore
with EpisodeStore(sys.argv[1]) as store:
    store.add(sample_episode(id=sys.argv[2]))
"""


@pytest.fixture(scope="module")
def server():
    private = PrivateServer()
    if private.problem():
        pytest.skip(private.problem())
    try:
        yield private.start()
    finally:
        private.close()


@pytest.fixture(params=["mysql", "postgresql"])
def url(request):
    if request.param == "postgresql":
        return request.getfixturevalue("postgres").database("postgresql+psycopg")
    server = request.getfixturevalue("server")
    name = f"store_{abs(hash(request.node.nodeid)):x}"
    connection = pymysql.connect(user=server.user, password=server.password, unix_socket=server.unix_socket)
    with connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    query = {"unix_socket": server.unix_socket}
    made = URL.create("mysql+pymysql", server.user, server.password, "localhost", database=name, query=query)
    return made.render_as_string(hide_password=False)


def large_episode():
    """About a megabyte of JSON that hardly compresses: more than MySQL's plain BLOB of 64 KiB."""
    draw = random.Random(0)
    first, last = sample_episode().turns
    ids = tuple(draw.randrange(150_000) for _ in range(60_000))
    turn = dataclasses.replace(first, completion_ids=ids, logprobs=tuple(-draw.random() for _ in ids))
    return sample_episode(turns=(turn, last))


def test_a_large_episode_comes_back_equal_after_reopening(url):
    episode = large_episode()
    with EpisodeStore(url) as store:
        store.add(episode)
    with EpisodeStore(url) as store:
        assert store.get(episode.id[:4]) == episode
        assert store.query(split="generated")[0].policy_tokens == 60_002


def test_texts_are_compared_by_their_bytes(url):
    with EpisodeStore(url) as store:
        store.add_many([sample_episode(id="a", policy="Step"), sample_episode(id="A", policy="step \U0001f600")])
        assert [s.id for s in store.query(policy="Step")] == ["a"]
        assert store.count(policy="step") == 0
        assert store.count(policy="step \U0001f600") == 1
        assert store.get("A").policy == "step \U0001f600"
        with pytest.raises(UnknownEpisode):
            store.get("b")
        with pytest.raises(Conflict):
            store.add(sample_episode(id="a"))


def test_characters_that_a_text_cannot_hold_are_kept_or_refused(url):
    odd = sample_episode(id="odd", model="a\0b")
    with EpisodeStore(url) as store:
        with contextlib.suppress(InvalidOption):  # PostgreSQL's texts hold no NUL
            store.add(odd)
            assert store.get("odd") == odd
        with contextlib.suppress(InvalidOption):
            assert store.query(run="a\0b") == []
        assert store.count(policy="nothing") == 0


def test_iterating_crosses_batches(url):
    with EpisodeStore(url) as store:
        store.add_many([sample_episode(id=f"{i:04d}", started_at=str(i // 300)) for i in range(450)])
        assert [e.id for e in store.iter_episodes(env="alfworld")] == [f"{i:04d}" for i in range(450)]


def test_the_migrations_make_what_the_models_say(url):
    EpisodeStore(url).close()
    engine = create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_processes_may_open_a_new_store_at_once(url):
    tests = str(Path(episode_samples.__file__).parent)
    opener = [sys.executable, "-c", f"import sys; sys.path.append({tests!r})\n{OPEN_AND_ADD}", url]
    opened = [subprocess.Popen([*opener, f"e{i}"], stderr=subprocess.PIPE, text=True) for i in range(3)]
    assert [(process.communicate()[1], process.returncode) for process in opened] == [("", 0)] * 3
    with EpisodeStore(url) as store:
        assert store.count() == 3


def test_a_store_of_a_newer_version_is_refused(url):
    EpisodeStore(url).close()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(ConfigError, match="'9999'"):
        EpisodeStore(url)


def test_a_database_that_is_not_there_is_reported(url):
    with pytest.raises(BackendUnavailable, match=r"Unknown database|database .* does not exist"):
        EpisodeStore(url.replace("/store_", "/no_store_").replace("/test_", "/no_test_"))


def test_filters_figures_and_retention(url):
    failed = EpisodeStatus.INFRASTRUCTURE_ERROR
    with EpisodeStore(url) as store:
        store.add_many(
            [
                sample_episode(id=f"{i:04d}", started_at=f"2026-01-{1 + i // 20:02d}T00:00:00.{i % 20:03d}+00:00")
                for i in range(450)
            ]
        )
        store.add(sample_episode(id="f", status=failed, reward=None, policy="Step", started_at="2026-02-01"))
        assert store.count(since="2026-01-03", until="2026-01-04") == 20
        assert store.count(status=[failed, "cancelled"], max_reward=None) == 1
        assert [(r.key["policy"], r.episodes, r.success) for r in store.stats(["policy"])] == [
            ("Step", 1, None),
            ("base", 450, 1.0),
        ]
        (whole,) = store.stats(["day"], since="2026-01-02", until="2026-01-03")
        assert (whole.key, whole.turns, whole.tokens) == ({"day": "2026-01-02"}, 2.0, 12.0)
        report = store.prune(Retention(keep_last=30), policy="base")
        assert (report.matched, report.deleted) == (450, 420)
        assert "the database server keeps the space" in report.space
        assert store.prune(Retention(max_bytes=0), env="alfworld").deleted == 31
        assert store.count() == 0


def older_store(url, episodes):
    """A store of the first schema with these episodes."""
    engine = create_engine(url)
    with engine.connect() as connection, migrations._only_one(connection):
        config = Config()
        config.set_main_option("script_location", str(migrations._SCRIPTS))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    with engine.begin() as connection:
        for episode in episodes:
            fields = summarize(episode).to_json() | {"seed": str(episode.seed), "status": episode.status.value}
            fields["body"] = zlib.compress(dumps(episode_to_json(episode)).encode())
            statement = f"INSERT INTO episodes ({', '.join(fields)}) VALUES (:{', :'.join(fields)})"
            connection.execute(text(statement), fields)
    return engine


def test_a_store_of_the_first_schema_keeps_every_record_wherever_its_migration_stopped(url):
    """A server's table definitions commit at once: what a killed migration has done must be gone on with."""
    episodes = [sample_episode(id=f"{i}") for i in range(3)]
    engine = older_store(url, episodes)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE episodes ADD COLUMN body_bytes BIGINT NOT NULL DEFAULT 0"))
        connection.execute(text("CREATE TABLE episode_bodies (LIKE episodes)"))
        for name in [c["name"] for c in inspect(connection).get_columns("episodes") if c["name"] not in ("id", "body")]:
            connection.execute(text(f"ALTER TABLE episode_bodies DROP COLUMN {name}"))
        connection.execute(text("INSERT INTO episode_bodies SELECT id, body FROM episodes LIMIT 1"))
        connection.execute(text("CREATE INDEX ix_episodes_run_started_at_id ON episodes (run, started_at, id)"))
    engine.dispose()
    with EpisodeStore(url) as store:
        assert list(store.iter_episodes()) == episodes
        (figures,) = store.stats()
        assert figures.bytes > 3 * 100
