"""Going on from an earlier episode: its turns are played again as they were, and another policy takes over."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rollout_doubles import SayingEngine, WatchedEngine

from envs.errors import Conflict, InvalidOption
from envs.types import EpisodeStatus, Observation
from rollout_server.agent_loop import play_episode
from rollout_server.engines.scripted import ScriptedEngine
from rollout_server.episode_store import summarize
from rollout_server.export_html import episode_to_html
from rollout_server.export_messages import chat_row
from rollout_server.prefix import Prefix
from rollout_server.serialize import episode_from_json, episode_to_json
from rollout_server.tokenizer import HFTokenizer
from rollout_server.types import RewardWeights


@pytest.mark.parametrize("protocol", ["agentbench_fc", "agentbench_classic"])
async def test_another_policy_goes_on_from_the_same_tokens(houses, plan, protocol) -> None:
    todo = await plan(houses, 3, protocol=protocol, rewards=RewardWeights(invalid_action=0.5))
    lost = await play_episode(houses, ScriptedEngine("random"), replace(todo, max_turns=4))
    expert = WatchedEngine("expert")
    begun = replace(todo, prefix=Prefix(lost, 2))
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


async def test_with_another_tokenizer_nothing_is_encoded_anew(houses, plan, smollm2_dir) -> None:
    todo = await plan(houses, 3)
    lost = await play_episode(houses, ScriptedEngine("random"), replace(todo, max_turns=2))
    expert = WatchedEngine("expert", tokenizer=HFTokenizer(smollm2_dir))
    for length in (0, 1):
        with pytest.raises(Conflict, match="tokens differ from the recorded ones at 0") as refused:
            await play_episode(houses, expert, replace(todo, prefix=Prefix(lost, length)))
        assert "--model" in refused.value.hint
    assert expert.requests == []


async def test_what_other_tokens_are_called_names_their_place(houses, plan) -> None:
    todo = await plan(houses, 3)
    lost = await play_episode(houses, ScriptedEngine("random"), replace(todo, max_turns=3))
    first, second, last = lost.turns
    shown = (*second.environment_ids[:5], 7, *second.environment_ids[6:])
    other = replace(lost, turns=(first, replace(second, environment_ids=shown), last))
    before = len(lost.prompt_ids) + len(first.completion_ids) + len(first.environment_ids)
    with pytest.raises(Conflict, match=f"before turn 2 .* at {before + len(second.completion_ids) + 5} "):
        await play_episode(houses, ScriptedEngine("expert"), replace(todo, prefix=Prefix(other, 2)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"observation": Observation("Another world.")}, r"(?s)turn 1\): observation.text differs.*Another world"),
        ({"terminated": True}, r"turn 1\): terminated differs"),
        ({"truncated": True}, r"turn 1\): truncated differs"),
    ],
)
async def test_an_environment_that_answers_otherwise_is_told(houses, plan, change, said) -> None:
    todo = await plan(houses, 3)
    played = await play_episode(houses, ScriptedEngine("random"), replace(todo, max_turns=3))
    step = replace(played.turns[1].steps[0], **change)
    other = replace(played, turns=(played.turns[0], replace(played.turns[1], steps=(step,)), played.turns[2]))
    with pytest.raises(Conflict, match=said):
        await play_episode(houses, ScriptedEngine("expert"), replace(todo, prefix=Prefix(other, 2)))


async def test_a_reply_of_another_text_is_told(houses, plan) -> None:
    todo = await plan(houses, 3)
    played = await play_episode(houses, ScriptedEngine("random"), replace(todo, max_turns=2))
    other = replace(played, turns=(replace(played.turns[0], reply="Hello."), played.turns[1]))
    with pytest.raises(Conflict, match=r"(?s)the reply \(turn 0\).*Hello"):
        await play_episode(houses, ScriptedEngine("expert"), replace(todo, prefix=Prefix(other, 2)))


async def test_nothing_follows_an_end(houses, plan) -> None:
    todo = await plan(houses, 3)
    won = await play_episode(houses, ScriptedEngine("expert"), todo)
    length = len(won.turns)
    expert = WatchedEngine("expert")
    with pytest.raises(Conflict, match=f"ends before turn {length}: completed"):
        await play_episode(houses, expert, replace(todo, prefix=Prefix(won, length)))
    with pytest.raises(Conflict, match="ends before turn 2: truncated_turns"):
        await play_episode(houses, expert, replace(todo, prefix=Prefix(won, 2), max_turns=2))
    for room in (len(won.prompt_ids), len(won.prompt_ids) + todo.sampling.max_tokens + 1):
        with pytest.raises(Conflict, match="ends before turn 2: truncated_tokens"):
            await play_episode(houses, expert, replace(todo, prefix=Prefix(won, 2), max_episode_tokens=room))
    assert expert.requests == []
    with pytest.raises(InvalidOption, match="turn 99 is not in"):
        Prefix(won, 99)


async def test_invalid_turns_that_were_given_are_noted_and_not_charged(houses, plan) -> None:
    todo = await plan(houses, 3, rewards=RewardWeights(invalid_action=0.5))
    lost = await play_episode(houses, SayingEngine(lambda turn: f"I wonder {turn}"), replace(todo, max_turns=2))
    begun = replace(todo, prefix=Prefix(lost, 2), max_invalid_turns=2)
    won = await play_episode(houses, ScriptedEngine("expert"), begun)
    assert (won.reward, won.metadata["invalid_turns"]) == (1.0, [0, 1])
    assert won.reward_parts["invalid_action"] == 0.0
    worse = await play_episode(houses, SayingEngine(lambda turn: f"I wonder {turn}"), begun)
    assert (worse.status, len(worse.turns)) == (EpisodeStatus.INVALID_ACTION, 4)


async def test_pages_and_summaries_tell_given_turns_from_sampled_ones(houses, plan) -> None:
    todo = await plan(houses, 3)
    lost = await play_episode(houses, ScriptedEngine("random"), replace(todo, max_turns=2))
    expert = ScriptedEngine("expert")
    won = await play_episode(houses, expert, replace(todo, prefix=Prefix(lost, 1)))
    assert isinstance(chat_row(won), str)
    assert summarize(won).policy_tokens == sum(len(turn.completion_ids) for turn in won.turns[1:])
    page = episode_to_html(won, expert.tokenizer)
    assert f"{sum(won.mask)} sampled" in page
    assert page.count('class="p s') == sum(won.mask)
    assert page.count(" · given ·") == 1
