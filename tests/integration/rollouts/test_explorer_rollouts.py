"""Episodes of the explorer through the real loop: won, and without the expert's right."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from envs.client import EnvClient
from envs.config import EnvServerSettings
from envs.errors import Forbidden
from envs.server.app import create_app
from rollout_server.engines.scripted import ScriptedEngine
from rollout_server.runner import RolloutRunner
from rollout_server.types import RolloutRequest, TaskRef

ROOM = 1_000_000
TOKEN, EXPERT_TOKEN = "a-policy-s-token", "the-expert-s-token"


@pytest.fixture
async def guarded() -> AsyncIterator[EnvClient]:
    """An env server whose experts need a token that its client does not have."""
    app = create_app(EnvServerSettings(envs=("alfworld",), token=TOKEN, expert_token=EXPERT_TOKEN))  # type: ignore[arg-type]
    async with EnvClient.in_process(app, token=TOKEN) as client:
        yield client


def houses(count: int) -> tuple[TaskRef, ...]:
    return tuple(TaskRef("alfworld", split="generated", sample_seed=number) for number in range(count))


@pytest.mark.parametrize("protocol", ["agentbench_fc", "agentbench_classic"])
async def test_it_solves_households_without_the_experts_right(guarded: EnvClient, protocol: str) -> None:
    view = await guarded.create("alfworld", split="generated", sample_seed=0)
    with pytest.raises(Forbidden):
        await guarded.expert_action(view.id)
    engine = ScriptedEngine("explorer", thoughts=True)
    request = RolloutRequest(houses(24), protocol=protocol, max_turns=50, max_episode_tokens=ROOM)
    groups = await RolloutRunner(guarded, engine, max_concurrency=8).run(request)
    episodes = [episode for group in groups for episode in group.episodes]
    assert sum(episode.success for episode in episodes) >= 23
    for episode in episodes:
        assert episode.model == "scripted-explorer"
        for turn in episode.turns:
            thought = turn.text.removeprefix("THOUGHT: ").partition("\n")[0]
            assert thought
            assert "ACTION" not in thought
            assert "<tool_call>" not in thought


async def test_a_group_says_the_same_in_other_words(guarded: EnvClient) -> None:
    request = RolloutRequest(houses(1), group_size=4, max_turns=50, max_episode_tokens=ROOM)
    (group,) = await RolloutRunner(guarded, ScriptedEngine("explorer", thoughts=True)).run(request)
    actions = {
        tuple(step.action.arguments["action"] for turn in e.turns for step in turn.steps) for e in group.episodes
    }
    assert len(actions) == 1
    assert len({episode.turns[0].text for episode in group.episodes}) > 1
