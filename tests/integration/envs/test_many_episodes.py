"""Many episodes of ALFWorld at once and one after the other: small while they live, and nothing left of them."""

from __future__ import annotations

import gc
import os
import random
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from envs.client import EnvClient, EpisodeView, NewEpisode
from envs.config import EnvServerSettings
from envs.server.app import create_app
from envs.server_process import server_process
from envs.types import Action

GAMES = 10


async def begin(client: EnvClient, count: int) -> list[EpisodeView]:
    items = [NewEpisode(env="alfworld", split="generated", sample_seed=k % GAMES) for k in range(count)]
    return sound(await client.create_many(items))


async def step(client: EnvClient, views: Sequence[EpisodeView], rng: random.Random) -> list[EpisodeView]:
    live = [view for view in views if not view.status.over]
    return sound(await client.step_many((view, take(rng.choice(view.observation.admissible_actions))) for view in live))


def take(command: str) -> Action:
    return Action("take_action", {"action": command})


def sound(results: Sequence[Any]) -> list[EpisodeView]:
    assert [result for result in results if not isinstance(result, EpisodeView)] == []
    return list(results)


async def test_a_live_episode_takes_less_than_8_kilobytes() -> None:
    app = create_app(EnvServerSettings(envs=("alfworld",)))
    async with EnvClient.in_process(app) as client:
        rng = random.Random(0)

        async def play(count: int) -> None:
            views = await begin(client, count)
            for _ in range(10):
                views = await step(client, views, rng)

        await play(3 * GAMES)  # what is shared is made now
        tracemalloc.start()
        try:
            await play(200)
            gc.collect()
            size, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert 1024 < size / 200 < 8 * 1024


async def test_nothing_is_left_of_300_episodes(tmp_path: Path) -> None:
    """There is room for one round of them: a place that is not given back would be missed."""
    settings = {
        "ENVLOOP_ENV_MAX_EPISODES": "60",
        "ENVLOOP_ENV_REMEMBER_ENDED": "60",
        "ENVLOOP_ENV_THREADS": "4",
        "TMPDIR": str(tmp_path),
    }
    with server_process(["--env", "alfworld"], env=settings) as server:
        process = psutil.Process(server.pid)
        async with EnvClient(server.url, max_connections=1) as client:
            rng, open_after = random.Random(0), []
            for _ in range(6):
                views = begun = await begin(client, 50)
                forks = await client.fork(begun[0], count=10)
                for _ in range(4):
                    views = await step(client, views, rng)
                sound(await client.close_many(view.id for view in [*begun, *forks]))
                open_after.append(process.num_fds())
            assert open_after == open_after[:1] * 6
            assert process.num_threads() <= 16
            (journal,) = os.listdir(tmp_path)
            assert (process.children(recursive=True), journal.startswith("envloop-journal-")) == ([], True)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_fork_at_any_step_goes_on_as_the_original_did(seed: int) -> None:
    async with EnvClient.in_process(create_app(EnvServerSettings(envs=("alfworld",)))) as client:
        rng = random.Random(seed)
        view = await client.create("alfworld", split="generated_easy", sample_seed=seed, options={"max_steps": 12})
        views, commands = [view], []
        while not view.status.over:
            commands.append(take(rng.choice([*view.observation.admissible_actions, "sing"])))
            view = await client.step(view, commands[-1])
            views.append(view)
        for at_step in range(len(commands)):
            (fork,) = await client.fork(view, at_step=at_step)
            assert (fork.steps, fork.observation, fork.task, fork.options) == (
                at_step,
                views[at_step].observation,
                view.task,
                view.options,
            )
            for known, command in zip(views[at_step + 1 :], commands[at_step:], strict=True):
                fork = await client.step(fork, command)
                assert same(fork, known)
        assert await client.read(view.id) == view


async def test_forks_of_a_live_game_part_ways() -> None:
    async with EnvClient.in_process(create_app(EnvServerSettings(envs=("alfworld",)))) as client:
        view = await client.create("alfworld", split="generated", sample_seed=7)
        first, second = await client.fork(view, count=2)
        moves = [text for text in view.observation.admissible_actions if text.startswith("go to ")]
        gone = [await client.step(one, take(move)) for one, move in zip((first, second), moves, strict=False)]
        assert len({one.state_hash for one in gone}) == 2
        assert await client.read(view.id) == view
        while not first.status.over:
            action = await client.expert_action(first.id)
            assert action is not None
            first = await client.step(first.id, action)
        assert (first.reward, (await client.read(second.id)).steps) == (1.0, 1)


def same(one: EpisodeView, other: EpisodeView) -> bool:
    return (one.observation, one.reward, one.status, one.valid, one.state_hash, one.steps) == (
        other.observation,
        other.reward,
        other.status,
        other.valid,
        other.state_hash,
        other.steps,
    )
