"""Episodes that outlive their server: two servers on one journal, as replicas and one after the other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from counting_env import CountingFamily, counting_registry
from sqlalchemy import create_engine, text

from envs.client import EnvClient, NewEpisode
from envs.config import EnvServerSettings
from envs.errors import (
    ConfigError,
    Conflict,
    EpisodeOver,
    InfrastructureError,
    TryAgain,
    UnknownEpisode,
)
from envs.server.app import create_app
from envs.types import Action, EpisodeStatus
from envs.wire import EpisodeView

ENVS = ("counting", "blocking_counting")
JSON = {"content-type": "application/json"}


def count(number: int) -> Action:
    return Action("count", {"number": number})


class Replica:
    """One server in this process, and a client of it."""

    def __init__(self, app: Any, client: EnvClient) -> None:
        self.app = app
        self.client = client

    async def family(self, env: str) -> CountingFamily:
        family: CountingFamily = await self.app.state.families.get(env)
        return family


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres").database("postgresql+psycopg"))
    return f"sqlite:///{tmp_path / 'journal.sqlite'}"


@contextlib.asynccontextmanager
async def replica(url: str, **settings: Any) -> AsyncIterator[Replica]:
    app = create_app(EnvServerSettings(envs=ENVS, journal_url=url, **settings), counting_registry())
    async with EnvClient.in_process(app, patience_s=0.0) as client:
        yield Replica(app, client)


@pytest.fixture
async def pair(url: str) -> AsyncIterator[tuple[Replica, Replica]]:
    async with replica(url) as one, replica(url) as two:
        yield one, two


def shown(view: EpisodeView) -> Any:
    return replace(view, id="", info={})


async def played(client: EnvClient, env: str) -> list[EpisodeView]:
    views = [await client.create(env, task_id="train/3")]
    for number in (1, 5, 2, 3, 4):
        views.append(await client.step(views[-1], count(number)))
    return views


@pytest.mark.parametrize("env", ENVS)
async def test_an_episode_goes_from_server_to_server_at_every_step(pair: tuple[Replica, Replica], env: str) -> None:
    expected = await played(pair[0].client, env)
    view = await pair[0].client.create(env, task_id="train/3")
    assert shown(view) == shown(expected[0])
    for place, number in enumerate((1, 5, 2, 3, 4), 1):
        view = await pair[place % 2].client.step(view, count(number))
        assert shown(view) == shown(expected[place])
    assert (view.status, view.reward) == (EpisodeStatus.COMPLETED, 1.0)
    for one in pair:
        assert shown(await one.client.read(view.id)) == shown(view)
        assert not (await one.family(env)).live


@pytest.mark.parametrize("env", ENVS)
async def test_an_episode_goes_on_after_its_server_has_ended(url: str, env: str) -> None:
    async with replica(url) as first:
        view = await first.client.create(env, task_id="train/3")
        view = await first.client.step(view, count(1))
        family = await first.family(env)
    assert not family.live
    async with replica(url) as second:
        assert shown(await second.client.read(view.id)) == shown(view)
        view = await second.client.step(view, count(2))
        assert (view.steps, view.observation.text) == (2, "You are at 2.")


async def test_a_step_whose_server_died_before_it_was_written_is_taken_once(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with replica(url) as dying, replica(url) as next_one:
        view = await dying.client.create("counting", task_id="train/3")
        monkeypatch.setattr(
            dying.app.state.journal, "take", lambda _: asyncio.get_running_loop().create_future()
        )  # killed in between
        lost = asyncio.create_task(dying.client.step(view, count(1)))
        await asyncio.sleep(0.05)
        assert not lost.done(), "nothing is told that is not written"
        lost.cancel()
        again = await next_one.client.step(view, count(1))
        assert (again.steps, again.observation.text) == (1, "You are at 1.")


@pytest.mark.parametrize("env", ENVS)
async def test_the_same_step_at_two_servers_is_one_step(pair: tuple[Replica, Replica], env: str) -> None:
    view = await pair[0].client.create(env, task_id="train/5")
    await pair[1].client.read(view.id)  # both hold it
    for number in range(1, 5):
        answers = await asyncio.gather(*(one.client.step(view, count(number)) for one in pair for _ in range(3)))
        assert {(a.steps, a.observation.text) for a in answers} == {(number, f"You are at {number}.")}
        view = answers[0]


async def test_a_stored_step_is_answered_and_another_action_or_a_gap_refused(pair: tuple[Replica, Replica]) -> None:
    one, two = pair
    view = await one.client.create("counting", task_id="train/5")
    done = await one.client.step(view, count(1))
    assert await two.client.step(view, count(1)) == done
    with pytest.raises(Conflict, match="already taken with another action"):
        await two.client.step(view, count(2))
    with pytest.raises(Conflict, match="step 3 does not follow"):
        await two.client.step(view.id, count(2), step=3)
    ahead = await two.client.step(done, count(2))
    with pytest.raises(Conflict, match="step 0 does not follow"):
        await two.client.step(view, count(1))
    assert await one.client.read(view.id) == ahead


async def test_an_unnumbered_step_goes_on_from_where_the_episode_stands(pair: tuple[Replica, Replica]) -> None:
    one, two = pair
    view = await one.client.create("counting", task_id="train/5")
    for number in range(1, 6):
        place = number % 2
        assert (await pair[place].client.step(view.id, count(number))).steps == number
    assert (await two.client.step(view.id, count(6))).reward == 1.0
    del one


@pytest.mark.parametrize("env", ENVS)
async def test_one_key_is_one_episode(pair: tuple[Replica, Replica], env: str) -> None:
    made = await asyncio.gather(*(one.client.create(env, task_id="train/3", key="k") for one in pair for _ in range(4)))
    assert len({view.id for view in made}) == 1
    assert sum([len((await one.family(env)).live) for one in pair]) <= 2
    (again,) = await pair[1].client.create_many([NewEpisode(env=env, task_id="train/3", key="k")])
    assert isinstance(again, EpisodeView)
    assert again.id == made[0].id
    for one in pair:
        with pytest.raises(Conflict, match="idempotency key 'k' was used for another request"):
            await one.client.create(env, task_id="train/2", key="k")
    assert (await pair[0].client.create(env, task_id="train/3")).id != made[0].id


async def test_a_key_whose_creation_failed_can_be_used_again(url: str) -> None:
    async with replica(url) as one:
        family = await one.family("counting")
        family.max_made = 0
        with pytest.raises(InfrastructureError):
            await one.client.create("counting", task_id="train/3", key="k")
        family.max_made = 10
        assert (await one.client.create("counting", task_id="train/3", key="k")).steps == 0


async def test_the_key_may_come_in_the_header(url: str) -> None:
    async with replica(url) as one:
        headers = {"Idempotency-Key": "from-the-header"}
        body = {"env": "counting", "task_id": "train/3"}
        made = [await one.client._exchange._http.post("/v1/episodes", json=body, headers=headers) for _ in range(2)]
        assert made[0].json() == made[1].json()


@pytest.mark.parametrize("copies", [True, False])
async def test_forks_with_a_key_are_the_same_everywhere(pair: tuple[Replica, Replica], copies: bool) -> None:
    one, two = pair
    for replica_ in pair:
        (await replica_.family("counting")).copies = copies
    view = await one.client.create("counting", task_id="train/5")
    view = await one.client.step(view, count(1))
    forks = await one.client.fork(view.id, count=3, key="k")
    ahead = await one.client.step(view, count(2))
    assert [await replica_.client.fork(view.id, count=3, key="k") for replica_ in pair] == [forks, forks]
    assert {fork.steps for fork in forks} == {1}
    for replica_ in pair:
        with pytest.raises(Conflict, match="idempotency key 'k' was used for another request"):
            await replica_.client.fork(view.id, count=2, key="k")
    assert (await two.client.fork(ahead.id, count=1, key="other"))[0].steps == 2


async def test_forks_that_a_server_did_not_come_to_are_made_where_they_stood(url: str) -> None:
    """It died after the first of two: here the second is taken out of the journal."""
    async with replica(url) as one:
        view = await one.client.create("counting", task_id="train/5")
        forks = await one.client.fork(view.id, count=2, key="k")
        await one.client.step(view, count(1))
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM envloop_journal_episodes WHERE id = :id"), {"id": forks[1].id})
    engine.dispose()
    async with replica(url) as two:
        again = await two.client.fork(view.id, count=2, key="k")
        assert again[0] == forks[0]
        assert (again[1].steps, again[1].forked_from) == (0, forks[1].forked_from)


async def test_what_is_closed_at_one_server_is_over_at_the_other(pair: tuple[Replica, Replica]) -> None:
    one, two = pair
    view = await one.client.create("counting", task_id="train/5")
    held = await two.client.step(view, count(1))
    closed = await one.client.close_episode(view.id)
    assert (closed.status, closed.steps) == (EpisodeStatus.CANCELLED, 1)
    with pytest.raises(EpisodeOver, match="closed by the client"):
        await two.client.step(held, count(2))
    assert await two.client.read(view.id) == closed
    assert not (await two.family("counting")).live


async def test_an_ended_episode_can_be_read_and_forked_after_a_restart(url: str) -> None:
    async with replica(url) as first:
        ended = (await played(first.client, "counting"))[-1]
    async with replica(url) as second:
        assert await second.client.read(ended.id) == ended
        with pytest.raises(EpisodeOver):
            await second.client.step(ended.id, count(1))
        (fork,) = await second.client.fork(ended.id, at_step=4)
    async with replica(url) as third:
        assert (await third.client.step(fork, count(4))).reward == 1.0


async def test_a_batch_of_steps_is_written_and_goes_on_elsewhere(pair: tuple[Replica, Replica]) -> None:
    views = await pair[0].client.create_many([NewEpisode(env="counting", task_id="train/3")] * 40)
    for number in range(1, 5):
        steps = [(view, count(number)) for view in views if isinstance(view, EpisodeView)]
        views = await pair[number % 2].client.step_many([*steps, (steps[0][0], count(number))])
        assert views.pop() == views[0], "the same step twice"
    assert [view.reward for view in views if isinstance(view, EpisodeView)] == [1.0] * 40


async def test_an_environment_that_does_otherwise_ends_its_episode_without_a_reward(
    pair: tuple[Replica, Replica],
) -> None:
    one, two = pair
    (await two.family("counting")).drift = " It is noon."
    view = await one.client.create("counting", task_id="train/5")
    view = await one.client.step(view, count(1))
    with pytest.raises(InfrastructureError, match="cannot be restored: played again, step 1 gives another result"):
        await two.client.step(view, count(2))
    read = await two.client.read(view.id)
    assert (read.status, read.reward) == (EpisodeStatus.INFRASTRUCTURE_ERROR, None)
    with pytest.raises(InfrastructureError):
        await one.client.step(view, count(2))


async def test_a_failed_step_is_the_same_failure_everywhere(pair: tuple[Replica, Replica]) -> None:
    one, two = pair
    view = await one.client.create("blocking_counting", task_id="train/5")
    (await one.family("blocking_counting")).fail_with = InfrastructureError("the engine broke", hint="mend it")
    for place in (one, two, one):
        with pytest.raises(InfrastructureError, match="the engine broke"):
            await place.client.step(view, count(1))


async def test_a_failure_s_reason_may_hold_any_character(pair: tuple[Replica, Replica]) -> None:
    one, two = pair
    view = await one.client.create("blocking_counting", task_id="train/5")
    (await one.family("blocking_counting")).fail_with = InfrastructureError("it said \0, \ud800 and \U0001f600")
    with pytest.raises(InfrastructureError):
        await one.client.step(view, count(1))
    assert (await two.client.read(view.id)).status is EpisodeStatus.INFRASTRUCTURE_ERROR


async def test_a_key_is_what_every_database_can_hold(url: str) -> None:
    app = create_app(EnvServerSettings(envs=ENVS, journal_url=url), counting_registry())
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            for key in ('"a\\u0000b"', '"a\\ud800b"', '"a\\nb"', '""'):
                body = f'{{"env": "counting", "task_id": "train/0", "idempotency_key": {key}}}'
                answer = await http.post("/v1/episodes", content=body, headers=JSON)
                assert (answer.status_code, "idempotency_key" in answer.text) == (422, True), key
            for key in ('"ä🙂"', '"' + "k" * 255 + '"'):
                body = f'{{"env": "counting", "task_id": "train/0", "idempotency_key": {key}}}'
                assert (await http.post("/v1/episodes", content=body, headers=JSON)).status_code == 201


async def test_what_nobody_touches_is_cancelled_by_whoever_is_left(url: str) -> None:
    async with replica(url) as gone:
        abandoned = await gone.client.create("counting", task_id="train/5")
        abandoned = await gone.client.step(abandoned, count(1))
    async with replica(url, idle_timeout_s=1.0) as left:
        used = await left.client.create("counting", task_id="train/5")
        for _ in range(15):
            await asyncio.sleep(0.1)
            await left.client.read(used.id)
        read = await left.client.read(abandoned.id)
        assert (read.status, read.info["ended_because"]) == (EpisodeStatus.CANCELLED, "idle for 1 s")
        assert (read.steps, read.observation) == (1, abandoned.observation)
        assert (await left.client.read(used.id)).status is EpisodeStatus.RUNNING
        await asyncio.sleep(1.8)
        assert (await left.client.read(used.id)).status is EpisodeStatus.CANCELLED
        assert not (await left.family("counting")).live


async def test_a_copy_of_what_was_played_on_elsewhere_is_dropped(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envs.server.lives._COPY_S", 0.2)
    async with replica(url, idle_timeout_s=20) as one, replica(url, idle_timeout_s=20) as two:
        moved, kept = [await one.client.create("blocking_counting", task_id="train/5") for _ in range(2)]
        moved = await two.client.step(moved, count(1))
        family = await one.family("blocking_counting")
        for _ in range(100):
            await asyncio.sleep(0.1)
            if len(family.live) == 1:
                break
        assert len(family.live) == 1
        assert (await one.client.step(moved, count(2))).observation.text == "You are at 2."
        assert (await one.client.step(kept, count(1))).steps == 1


async def test_what_ended_long_ago_is_forgotten(url: str) -> None:
    async with replica(url, idle_timeout_s=0.5, remember_ended_s=0.2, remember_ended=1) as one:
        ended = (await played(one.client, "counting"))[-1]
        with pytest.raises(UnknownEpisode, match="ended long ago"):
            await read_for_ten_seconds(one.client, ended.id)
        assert rows(url, "steps") == rows(url, "episodes") == 0


async def read_for_ten_seconds(client: EnvClient, episode_id: str) -> None:
    for _ in range(100):
        await asyncio.sleep(0.1)
        await client.read(episode_id)


def rows(url: str, table: str) -> int:
    engine = create_engine(url)
    with engine.begin() as connection:
        found: int = connection.execute(text(f"SELECT COUNT(*) FROM envloop_journal_{table}")).scalar_one()
    engine.dispose()
    return found


async def test_a_journal_that_fails_loses_nothing(url: str) -> None:
    async with replica(url) as one:
        view = await one.client.create("counting", task_id="train/5")
        view = await one.client.step(view, count(1))
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE envloop_journal_steps RENAME TO away"))
        for call in (
            lambda: one.client.step(view, count(2)),
            lambda: one.client.step_many([(view, count(2))]),
        ):
            outcome: Any = None
            try:
                outcome = (await call())[0]  # type: ignore[index]
            except TryAgain as error:
                outcome = error
            assert isinstance(outcome, TryAgain), outcome
            assert "journal" in outcome.message
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE away RENAME TO envloop_journal_steps"))
        engine.dispose()
        assert (await one.client.step(view, count(2))).observation.text == "You are at 2."


async def test_a_journal_of_another_version_or_address_is_named(url: str) -> None:
    async with replica(url):
        pass
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE envloop_journal SET value = '0'"))
    engine.dispose()
    with pytest.raises(ConfigError, match="made by another version"):
        create_app(EnvServerSettings(envs=ENVS, journal_url=url), counting_registry())
    with pytest.raises(ConfigError, match="the journal's address is no database URL"):
        create_app(EnvServerSettings(envs=ENVS, journal_url="nonsense"), counting_registry())
