"""The store keeps its promises on a real MySQL-compatible server, where texts, blobs and locks differ from SQLite's."""

from __future__ import annotations

import dataclasses
import random
import subprocess
import sys
from pathlib import Path

import episode_samples
import pymysql
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from episode_samples import sample_episode
from sqlalchemy import URL, create_engine, text

from envs.dbbench.mysql_server import PrivateServer
from envs.errors import BackendUnavailable, ConfigError, Conflict, UnknownEpisode
from rollout_server.episode_store import EpisodeStore
from rollout_server.episode_table import Base
from rollout_server.store_migrations import VERSION_TABLE

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


@pytest.fixture
def url(server, request):
    name = f"store_{abs(hash(request.node.nodeid)):x}"
    connection = pymysql.connect(user=server.user, password=server.password, unix_socket=server.unix_socket)
    with connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    query = {"unix_socket": server.unix_socket}
    made = URL.create("mysql", server.user, server.password, "localhost", database=name, query=query)
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


def test_iterating_crosses_batches(url):
    with EpisodeStore(url) as store:
        store.add_many([sample_episode(id=f"{i:04d}", started_at=str(i // 300)) for i in range(450)])
        assert [e.id for e in store.iter_episodes(env="alfworld")] == [f"{i:04d}" for i in range(450)]


def test_the_migrations_make_what_the_models_say(url):
    EpisodeStore(url).close()
    engine = create_engine(url.replace("mysql://", "mysql+pymysql://"))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_processes_may_open_a_new_store_at_once(url):
    tests = str(Path(episode_samples.__file__).parent)
    command = [sys.executable, "-c", f"import sys; sys.path.append({tests!r})\n{OPEN_AND_ADD}", url]
    opened = [subprocess.Popen([*command, f"e{i}"], stderr=subprocess.PIPE, text=True) for i in range(3)]
    assert [(process.communicate()[1], process.returncode) for process in opened] == [("", 0)] * 3
    with EpisodeStore(url) as store:
        assert store.count() == 3


def test_a_store_of_a_newer_version_is_refused(url):
    EpisodeStore(url).close()
    engine = create_engine(url.replace("mysql://", "mysql+pymysql://"))
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(ConfigError, match="'9999'"):
        EpisodeStore(url)


def test_a_database_that_is_not_there_is_reported(url):
    with pytest.raises(BackendUnavailable, match="Unknown database"):
        EpisodeStore(url.replace("/store_", "/no_store_"))
