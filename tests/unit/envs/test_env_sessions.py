"""The session table: idle episodes, memory of ended ones, shutdown, cancelled requests."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import httpx
import pytest
from counting_env import AbsentFamily, CopyingEnv, CountingEnv, CountingFamily, counting_registry

from envs.config import EnvServerSettings
from envs.errors import BackendUnavailable, ConfigError, UnknownEnv, UnknownEpisode
from envs.registry import Registry
from envs.server.app import create_app
from envs.server.families import Families
from envs.server.sessions import SessionTable
from envs.types import Action, EpisodeStatus

ONE = Action("count", {"number": 1})


@pytest.fixture
async def make_table() -> Any:
    tables = []

    async def make(**settings: Any) -> tuple[SessionTable, CountingFamily]:
        families = Families(counting_registry(), EnvServerSettings(envs=("counting", "blocking_counting")))
        await families.start()
        given = {"max_episodes": 8, "idle_timeout_s": 60, "remember_ended": 8, "remember_ended_s": 60, "threads": 4}
        table = SessionTable(families, **(given | settings))
        tables.append((table, families))
        return table, await families.get("blocking_counting")

    yield make
    for table, families in tables:
        await families.close()
        await table.aclose()


async def begin(table: SessionTable, env: str = "blocking_counting") -> str:
    session = await table.create(env, lambda family: family.task("train/3"), seed=0, options={})
    return session.id


async def test_idle_episodes_are_cancelled_and_busy_ones_are_not(make_table: Any) -> None:
    table, family = await make_table(idle_timeout_s=60)
    idle, busy = await begin(table), await begin(table)
    family.release.clear()
    step = asyncio.create_task(table.step(busy, ONE))
    await asyncio.to_thread(family.entered.acquire)
    later = table.read(idle).touched_at + 61
    assert await table.reap(later) == 1
    assert table.read(idle).status is EpisodeStatus.CANCELLED
    assert b"idle for 60 s" in table.read(idle).body
    family.release.set()
    assert (await step).steps == 1
    assert len(family.live) == 1


async def test_the_idle_time_begins_when_a_step_is_done(make_table: Any) -> None:
    table, family = await make_table(idle_timeout_s=60)
    episode = await begin(table)
    family.release.clear()
    step = asyncio.create_task(table.step(episode, ONE))
    await asyncio.to_thread(family.entered.acquire)
    session = table.read(episode)
    session.touched_at -= 100  # so long the step takes
    family.release.set()
    await step
    assert await table.reap(time.monotonic()) == 0


async def test_an_episode_that_is_used_or_forgotten_during_the_sweep_is_let_be(
    make_table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, _ = await make_table(idle_timeout_s=60, remember_ended=1)
    slow, used, forgotten, other, last = [await begin(table) for _ in range(5)]
    environment = table.read(slow).environment
    entered, go_on = threading.Event(), threading.Event()
    close = CountingEnv.close

    def close_slowly(self: CountingEnv) -> None:
        if self is environment:
            entered.set()
            assert go_on.wait(30)
        close(self)

    monkeypatch.setattr(CountingEnv, "close", close_slowly)
    later = table.read(last).touched_at + 61
    sweep = asyncio.create_task(table.reap(later))
    assert await asyncio.to_thread(entered.wait, 30)
    table.read(used).touched_at = later  # as a request does that comes now
    await table.close(forgotten)
    await table.close(other)  # one ended episode is remembered
    with pytest.raises(UnknownEpisode):
        table.read(forgotten)
    go_on.set()
    assert await sweep == 2
    assert table.read(used).status is EpisodeStatus.RUNNING
    assert table.read(last).status is EpisodeStatus.CANCELLED


async def test_ended_episodes_are_remembered_for_a_while_and_not_without_bound(make_table: Any) -> None:
    table, _ = await make_table(remember_ended=2, remember_ended_s=60)
    ids = [await begin(table) for _ in range(3)]
    for episode in ids:
        await table.close(episode)
    with pytest.raises(UnknownEpisode):
        table.read(ids[0])
    ended = table.read(ids[2]).ended_at
    await table.reap(ended + 59)
    table.read(ids[2])
    await table.reap(ended + 61)
    with pytest.raises(UnknownEpisode):
        table.read(ids[2])


async def test_two_steps_of_one_episode_are_taken_in_turn(make_table: Any) -> None:
    table, family = await make_table()
    episode = await begin(table)
    family.release.clear()
    steps = [asyncio.create_task(table.step(episode, Action("count", {"number": n}))) for n in (1, 2)]
    await asyncio.to_thread(family.entered.acquire)
    await asyncio.sleep(0.01)
    assert not family.entered.acquire(blocking=False)
    family.release.set()
    await asyncio.gather(*steps)
    assert table.read(episode).steps == 2


async def test_a_step_cancelled_in_the_middle_ends_the_episode(make_table: Any) -> None:
    table, family = await make_table()
    episode = await begin(table)
    family.release.clear()
    step = asyncio.create_task(table.step(episode, ONE))
    await asyncio.to_thread(family.entered.acquire)
    step.cancel()
    await asyncio.sleep(0.01)
    assert not step.done()  # the environment is not free before its thread is
    family.release.set()
    with pytest.raises(asyncio.CancelledError):
        await step
    assert table.read(episode).status is EpisodeStatus.CANCELLED
    assert not family.live


async def test_a_creation_cancelled_in_the_middle_leaves_nothing(make_table: Any) -> None:
    table, family = await make_table()
    options = {"slow_s": 0.05}
    work = asyncio.create_task(table.create("blocking_counting", lambda f: f.task("train/1"), seed=0, options=options))
    await asyncio.sleep(0.01)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert not family.live
    assert table.num_live == 0


@pytest.mark.parametrize("env", ["counting", "blocking_counting"])
async def test_a_step_at_the_same_time_is_not_in_the_fork(make_table: Any, env: str) -> None:
    table, _ = await make_table()
    (await table._families.get(env)).copies = True
    episode = await begin(table, env)
    forking = asyncio.create_task(table.fork(episode))
    stepping = asyncio.create_task(table.step(episode, ONE))
    (fork,) = await forking
    assert ((await stepping).steps, fork.steps) == (1, 0)
    assert (await table.step(fork.id, ONE)).view.valid


@pytest.mark.parametrize("copies", [True, False])
async def test_a_fork_cancelled_in_the_middle_leaves_nothing(
    make_table: Any, monkeypatch: pytest.MonkeyPatch, copies: bool
) -> None:
    table, family = await make_table()
    family.copies = copies
    episode = await begin(table)
    await table.step(episode, ONE)
    entered, go_on = threading.Event(), threading.Event()

    def wait_in(kind: type[CountingEnv], name: str) -> None:
        work = getattr(kind, name)

        def slow(*args: Any, **more: Any) -> Any:
            entered.set()
            assert go_on.wait(30)
            return work(*args, **more)

        monkeypatch.setattr(kind, name, slow)

    wait_in(CopyingEnv, "fork") if copies else wait_in(CountingEnv, "reset")
    forking = asyncio.create_task(table.fork(episode, count=3))
    assert await asyncio.to_thread(entered.wait, 30)
    forking.cancel()
    await asyncio.sleep(0.01)
    assert not forking.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await forking
    assert (len(family.live), table.num_live) == (1, 1)
    assert (await table.step(episode, Action("count", {"number": 2}))).steps == 2


async def test_what_is_made_during_the_shutdown_is_closed(make_table: Any) -> None:
    table, family = await make_table()
    work = asyncio.create_task(
        table.create("blocking_counting", lambda f: f.task("train/1"), seed=0, options={"slow_s": 0.05})
    )
    await asyncio.sleep(0.01)
    await table.aclose()
    with pytest.raises(BackendUnavailable, match="shutting down"):
        await work
    assert not family.live


async def test_shutdown_closes_every_episode_and_family() -> None:
    app = create_app(EnvServerSettings(envs=("counting", "blocking_counting")), counting_registry())
    async with app.router.lifespan_context(app):
        families = [await app.state.families.get(name) for name in ("counting", "blocking_counting")]
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as http:
            for env in ("counting", "blocking_counting"):
                await http.post("/v1/episodes", json={"env": env, "task_id": "train/1"})
        assert all(len(family.live) == 1 for family in families)
    assert all(family.closed and not family.live for family in families)


async def test_a_start_that_fails_half_way_closes_what_was_built(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[CountingFamily] = []

    def make(self: Registry, name: str, **_: Any) -> CountingFamily:
        if name == "absent":
            raise ConfigError("the database's URL is wrong", hint="correct it")
        built.append(CountingFamily(self.spec(name)))
        return built[-1]

    monkeypatch.setattr(Registry, "make", make)
    app = create_app(EnvServerSettings(envs=("counting", "absent")), counting_registry())
    with pytest.raises(ConfigError, match="URL is wrong"):
        async with app.router.lifespan_context(app):
            raise AssertionError("started")
    assert [family.closed for family in built] == [True]


def test_an_unknown_environment_is_refused_at_once() -> None:
    with pytest.raises(UnknownEnv, match="chess"):
        create_app(EnvServerSettings(envs=("chess",)), counting_registry())
    assert not AbsentFamily.present


async def test_ids_are_in_the_order_of_time_and_cannot_be_guessed(make_table: Any) -> None:
    table, _ = await make_table()
    ids = []
    for _ in range(3):
        ids.append(await begin(table, "counting"))
        await asyncio.sleep(0.002)
    assert ids == sorted(ids)
    assert len({one[-20:] for one in ids}) == 3, "80 bits of chance each"
