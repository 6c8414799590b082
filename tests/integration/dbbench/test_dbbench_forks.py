"""Forks of database episodes: played again on databases of their own, and refused where the database does otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from envs.client import EnvClient, EpisodeView
from envs.config import EnvServerSettings
from envs.dbbench.family import DbBenchFamily
from envs.errors import InfrastructureError
from envs.server.app import create_app
from envs.types import Action

TABLE = "CREATE TABLE notes (id INT AUTO_INCREMENT PRIMARY KEY, word TEXT)"
READ = "SELECT word FROM notes ORDER BY id"


def sql(query: str) -> Action:
    return Action("execute_sql", {"query": query})


def insert(word: str) -> Action:
    return sql(f"INSERT INTO notes (word) VALUES ('{word}')")


@pytest.fixture
async def served(binary: str) -> AsyncIterator[tuple[EnvClient, DbBenchFamily]]:
    app = create_app(EnvServerSettings(envs=("dbbench",), dbbench={"server_binary": binary}))
    async with EnvClient.in_process(app) as client:
        yield client, await app.state.families.get("dbbench")


async def begun(client: EnvClient, *actions: Action) -> EpisodeView:
    episode = await client.create("dbbench", task_id="generated/0", seed=3)
    for action in actions:
        episode = await client.step(episode, action)
        assert episode.valid
    return episode


async def words(client: EnvClient, episode: EpisodeView) -> str:
    return (await client.step(episode, sql(READ))).observation.text


async def test_forks_have_databases_of_their_own(served: tuple[EnvClient, DbBenchFamily]) -> None:
    client, family = served
    episode = await begun(client, sql(TABLE), insert("one"), sql("SELECT RAND()"), insert("two"), sql(READ))
    assert episode.observation.text == "[('one',), ('two',)]"
    now = await client.fork(episode, count=3)
    assert [fork.observation for fork in now] == [episode.observation] * 3
    (early,) = await client.fork(episode, at_step=2)
    assert family.live_databases == 5
    changed = await asyncio.gather(
        *(client.step(view, insert(f"new {k}")) for k, view in enumerate([*now, early, episode]))
    )
    assert [await words(client, view) for view in changed] == [
        *(f"[('one',), ('two',), ('new {k}',)]" for k in range(3)),
        "[('one',), ('new 3',)]",
        "[('one',), ('two',), ('new 4',)]",
    ]
    await client.close_many([episode.id, early.id, *(fork.id for fork in now)])
    assert family.live_databases == 0


async def test_a_fork_of_an_ended_episode_can_still_win(served: tuple[EnvClient, DbBenchFamily]) -> None:
    client, family = served
    episode = await begun(client)
    lost = await client.step(episode, Action("commit_final_answer", {"answers": ["no idea"]}))
    assert lost.reward == 0.0
    (fork,) = await client.fork(lost, at_step=0)
    while not fork.status.over:
        action = await client.expert_action(fork.id)
        assert action is not None
        fork = await client.step(fork, action)
    assert fork.reward == 1.0
    assert family.live_databases == 0


async def test_a_statement_that_answers_otherwise_refuses_the_fork(served: tuple[EnvClient, DbBenchFamily]) -> None:
    client, family = served
    episode = await begun(client, sql("SELECT 1"), sql("SELECT UUID()"), sql("SELECT 2"))
    with pytest.raises(InfrastructureError, match="played again, step 2 gives another result"):
        await client.fork(episode, count=2)
    assert family.live_databases == 1
    (fork,) = await client.fork(episode, at_step=1)
    assert fork.observation.text == "[(1,)]"
    assert (await client.read(episode.id)) == episode
