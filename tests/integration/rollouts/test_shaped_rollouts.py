"""Shaping terms from the environment over its API into the episode's record and reward parts."""

from __future__ import annotations

import pytest

from envs.errors import InvalidOption
from rollout_server.agent_loop import play_episode
from rollout_server.engines.scripted import ScriptedEngine
from rollout_server.replay import verify
from rollout_server.serialize import episode_from_json, episode_to_json
from rollout_server.types import RewardWeights

WEIGHTS = RewardWeights(
    shaping={
        "alfworld": {"potential": 0.5, "subgoals": 0.25, "step_cost": 0.01, "invalid_cost": 0.125},
        "dbbench": {"no_term_of_alfworld": 7.0},
    }
)


async def test_terms_come_back_as_named_parts_of_the_training_reward(houses, plan) -> None:
    episode = await play_episode(houses, ScriptedEngine("expert"), await plan(houses, 3, rewards=WEIGHTS))
    assert episode.options["shaping"] == ["invalid_cost", "potential", "step_cost", "subgoals"]
    assert episode.reward == 1.0  # the benchmark's own
    assert episode.reward_parts == {
        "task": 1.0,
        "invalid_action": 0.0,
        "shaping.potential": pytest.approx(0.5),
        "shaping.subgoals": pytest.approx(0.25),
        "shaping.step_cost": pytest.approx(-0.01 * len(episode.steps)),
        "shaping.invalid_cost": 0.0,
    }
    assert episode.training_reward == pytest.approx(sum(episode.reward_parts.values()))
    assert all(set(step.shaping) == set(episode.options["shaping"]) for step in episode.steps)
    assert episode_from_json(episode_to_json(episode)) == episode


async def test_such_an_episode_is_verified_and_forked_like_any_other(houses, plan) -> None:
    episode = await play_episode(houses, ScriptedEngine("expert"), await plan(houses, 3, rewards=WEIGHTS))
    assert (await verify(episode_from_json(episode_to_json(episode)), houses)).ok
    view = await houses.create("alfworld", task_id=episode.task.id, options=dict(episode.options))
    for step in episode.steps[:3]:
        view = await houses.step(view, step.action)
    for at_step in (3, 1):  # copied, and played again
        (fork,) = await houses.fork(view, at_step=at_step)
        for step in episode.steps[at_step:]:
            fork = await houses.step(fork, step.action)
            assert fork.info["shaping"] == step.shaping
        assert fork.reward == 1.0


async def test_an_episode_that_fails_is_told_apart_by_how_far_it_came(houses, plan) -> None:
    rewards = []
    for turns in (1, 3):
        cut = await plan(houses, 3, rewards=WEIGHTS, max_turns=turns)
        episode = await play_episode(houses, ScriptedEngine("expert"), cut)
        assert episode.reward == 0.0
        rewards.append(episode.training_reward)
    assert rewards[0] < rewards[1]


async def test_the_policy_reads_nothing_of_it(houses, plan) -> None:
    shaped = await play_episode(houses, ScriptedEngine("expert"), await plan(houses, 3, rewards=WEIGHTS))
    plain = await play_episode(houses, ScriptedEngine("expert"), await plan(houses, 3))
    assert (shaped.prompt_ids, shaped.completion_ids) == (plain.prompt_ids, plain.completion_ids)
    assert "shaping" not in plain.options
    assert set(plain.reward_parts) == {"task", "invalid_action"}
    assert not any(step.shaping for step in plain.steps)


async def test_an_evaluation_task_is_not_played_with_it(houses, plan) -> None:
    task = await houses.sample("alfworld", "generated_eval", 1)
    with pytest.raises(InvalidOption, match="evaluation split"):
        await play_episode(houses, ScriptedEngine("expert"), await plan(houses, rewards=WEIGHTS, task=task))
    episode = await play_episode(houses, ScriptedEngine("expert"), await plan(houses, task=task))
    assert episode.reward_parts == {"task": 1.0, "invalid_action": 0.0}
