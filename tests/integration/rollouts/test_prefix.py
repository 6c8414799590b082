"""Going on from an earlier episode: its turns are played again as they were, and another policy takes over."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rollout_doubles import WatchedEngine

from envs.errors import Conflict, InvalidOption
from envs.types import EpisodeStatus, Observation
from rollout_server.agent_loop import play_episode
from rollout_server.engines.scripted import ScriptedEngine
from rollout_server.prefix import Prefix
from rollout_server.serialize import episode_from_json, episode_to_json
from rollout_server.tokenizer import HFTokenizer
from rollout_server.types import RewardWeights


@pytest.mark.parametrize("protocol", ["agentbench_fc", "agentbench_classic"])
async def test_another_policy_goes_on_from_the_same_tokens(houses, plan, protocol) -> None:
    todo = await plan(houses, 3, protocol=protocol, rewards=RewardWeights(invalid_action=0.5))
    lost = await play_episode(houses, ScriptedEngine("random"), replace(todo, max_turns=4))
    expert = WatchedEngine("expert")
    begun = replace(todo, prefix=Prefix.of(lost, 2))
    won = await play_episode(houses, expert, begun)
    assert (won.status, won.reward) == (EpisodeStatus.COMPLETED, 1.0)
    assert [turn.given for turn in won.turns] == [True, True] + [False] * (len(won.turns) - 2)
    assert [turn.index for turn in won.turns] == list(range(len(won.turns)))
    before = [i for turn in lost.turns[:2] for i in turn.completion_ids + turn.environment_ids]
    assert won.prompt_ids == lost.prompt_ids
    assert list(won.completion_ids[: len(before)]) == before
    assert expert.requests[0].prompt_ids == won.prompt_ids + tuple(before)
    # Nothing is learnt from what was given, and nothing of it is charged.
    assert sum(won.mask[: len(before)]) == 0
    assert set(won.policy_versions[: len(before)]) == {""}
    assert set(won.logprobs[: len(before)]) == {0.0}
    assert won.reward_parts["invalid_action"] == 0.0
    assert [step.observation for step in won.steps[:2]] == [step.observation for step in lost.steps[:2]]
    assert episode_from_json(episode_to_json(won)) == won


async def test_with_another_tokenizer_the_words_stay(houses, plan, smollm2_dir) -> None:
    todo = await plan(houses, 3)
    lost = await play_episode(houses, ScriptedEngine("random"), replace(todo, max_turns=2))
    expert = ScriptedEngine("expert", HFTokenizer(smollm2_dir))
    won = await play_episode(houses, expert, replace(todo, prefix=Prefix.of(lost, 1)))
    assert won.success
    assert won.turns[0].text == lost.turns[0].text
    assert expert.tokenizer.decode(won.turns[0].completion_ids) == lost.turns[0].text + "<|im_end|>"


async def test_an_environment_that_answers_otherwise_is_told(houses, plan) -> None:
    todo = await plan(houses, 3)
    played = await play_episode(houses, ScriptedEngine("random"), replace(todo, max_turns=3))
    step = replace(played.turns[1].steps[0], observation=Observation("Another world."))
    turns = (played.turns[0], replace(played.turns[1], steps=(step,)))
    with pytest.raises(Conflict, match=r"turn 1 .*Another world"):
        await play_episode(houses, ScriptedEngine("expert"), replace(todo, prefix=Prefix(played.prompt_ids, turns)))
    turns = (replace(played.turns[0], reply="Hello."), played.turns[1])
    with pytest.raises(Conflict, match=r"turn 0 .*Hello"):
        await play_episode(houses, ScriptedEngine("expert"), replace(todo, prefix=Prefix(played.prompt_ids, turns)))


async def test_nothing_follows_an_end(houses, plan) -> None:
    todo = await plan(houses, 3)
    won = await play_episode(houses, ScriptedEngine("expert"), todo)
    with pytest.raises(Conflict, match=f"ends with its turn {len(won.turns) - 1}"):
        await play_episode(houses, ScriptedEngine("expert"), replace(todo, prefix=Prefix.of(won, len(won.turns))))
    with pytest.raises(InvalidOption, match="cannot be begun after 99"):
        Prefix.of(won, 99)
