"""Many episodes are verified side by side: each gets the report that it would get alone."""

from __future__ import annotations

import dataclasses

import pytest

from envs.client import EnvClient
from envs.config import EnvServerSettings
from envs.errors import CapacityExceeded, InvalidOption, TransportError
from envs.server.app import create_app
from envs.types import Action, EpisodeStatus, Observation
from rollout_server.agent_loop import play_episode
from rollout_server.engines.scripted import ScriptedEngine
from rollout_server.local import LocalRollouts
from rollout_server.replay import verify
from rollout_server.replay_verify import verify_many
from rollout_server.types import RolloutRequest, SamplingParams, TaskRef

ROOM = 1_000_000


@pytest.fixture
async def played(houses, plan):
    found = [await play_episode(houses, ScriptedEngine("expert"), await plan(houses, number)) for number in range(3)]
    return [*found, await play_episode(houses, ScriptedEngine("random"), await plan(houses, max_turns=3))]


async def reports(episodes, client, **options):
    return {r.episode_id: r async for r in verify_many(episodes, client, **options)}


def step_changed(episode, number, **fields):
    """The episode with other fields in its last turn but ``number``."""
    turns = list(episode.turns)
    step = dataclasses.replace(turns[number].steps[0], **fields)
    turns[number] = dataclasses.replace(turns[number], steps=(step,))
    return dataclasses.replace(episode, turns=tuple(turns), id=f"changed-{next(iter(fields))}")


@pytest.mark.parametrize("window", [1, 2, 100])
async def test_every_report_is_the_one_that_an_episode_gets_alone(houses, played, window):
    won = played[0]
    others = [
        step_changed(won, 1, state_hash="00"),
        step_changed(won, 2, observation=Observation("Elsewhere.")),
        step_changed(won, 0, action=Action("no such tool", {})),
        step_changed(won, -1, reward=0.5),
        step_changed(won, -1, terminated=False),
        step_changed(won, 1, valid=False),
        dataclasses.replace(won, id="reward", reward=0.0),
        dataclasses.replace(won, id="start", initial=Observation("Elsewhere.")),
        dataclasses.replace(won, id="task", task=dataclasses.replace(won.task, content_hash="0")),
        dataclasses.replace(won, id="short", turns=won.turns[:2], status=EpisodeStatus.CANCELLED, reward=None),
        dataclasses.replace(won, id="no turn", turns=(), status=EpisodeStatus.TRUNCATED_TOKENS, reward=0.0),
    ]
    found = await reports(iter([*played, *others]), houses, window=window)
    assert len(found) == len(played) + len(others)
    for episode in (*played, *others):
        assert found[episode.id] == await verify(episode, houses)
    different = {name for name, report in found.items() if not report.ok}
    assert different == {e.id for e in others} - {"short", "no turn"}
    where = {name: (r.difference.where, r.difference.field) for name, r in found.items() if r.difference}
    assert where["changed-state_hash"] == ("step 1", "state_hash")
    assert where["reward"] == ("end", "reward")


async def test_what_never_began_is_skipped_and_what_is_gone_is_a_difference(houses, played):
    failed = dataclasses.replace(
        played[0], id="f", turns=(), prompt=(), status=EpisodeStatus.INFRASTRUCTURE_ERROR, reward=None
    )
    gone = dataclasses.replace(played[0], id="g", task=dataclasses.replace(played[0].task, id="generated/nowhere/1"))
    option = dataclasses.replace(played[0], id="o", options={"colour": "red"})
    found = await reports([failed, gone, option, played[1]], houses)
    assert (found["f"].ok, found["f"].skipped) == (True, "never began (infrastructure_error)")
    assert "no task" in found["g"].difference.diff
    assert "colour" in found["o"].difference.diff
    assert found[played[1].id].steps == len(played[1].steps)


async def test_a_full_server_is_waited_for_and_nothing_stays_live(played):
    app = create_app(EnvServerSettings(envs=("alfworld",), max_episodes=2))
    async with EnvClient.in_process(app) as client:
        found = await reports([dataclasses.replace(played[0], id=str(i)) for i in range(7)], client)
        assert [report.ok for report in found.values()] == [True] * 7
        held = [await client.create("alfworld", task_id=played[0].task.id) for _ in range(2)]  # all are free again
        with pytest.raises(CapacityExceeded):
            await reports(played, client)
        for view in held:
            await client.close_episode(view.id)


async def test_an_interruption_closes_what_was_live(played):
    app = create_app(EnvServerSettings(envs=("alfworld",), max_episodes=4))
    async with EnvClient.in_process(app) as client:
        running = verify_many(played, client)
        await anext(running)
        await running.aclose()
        for _ in range(4):
            await client.create("alfworld", task_id=played[0].task.id)


async def test_a_server_that_is_gone_is_no_difference(played):
    async with EnvClient("http://127.0.0.1:1", retries=0) as client:
        with pytest.raises(TransportError):
            await reports(played, client)


async def test_nonsense_is_refused(houses, played):
    with pytest.raises(InvalidOption, match="window is 0"):
        await reports(played, houses, window=0)
    assert await reports([], houses) == {}


async def test_databases_beside_households(houses, played):
    app = create_app(EnvServerSettings(dbbench={"url": "sqlite:"}))
    async with EnvClient.in_process(app) as client:
        request = RolloutRequest(
            tuple(TaskRef("dbbench", task_id=f"generated/{n}") for n in range(4)),
            max_episode_tokens=ROOM,
            sampling=SamplingParams(max_tokens=4096),
        )
        groups = await LocalRollouts(client, ScriptedEngine("explorer")).rollouts(request)
        databases = [episode for group in groups for episode in group.episodes]
        found = await reports([*played, *databases], client)
    assert [report.ok for report in found.values()] == [True] * 8
    assert sum(report.steps for report in found.values()) == sum(len(e.steps) for e in (*played, *databases))
