"""The training reward's parts."""

from __future__ import annotations

import math

import pytest

from envs.types import Action, Observation
from rollout_server.rewards import reward_parts, shaping_options
from rollout_server.types import RewardWeights, StepRecord


def test_each_invalid_turn_costs_and_the_task_counts_by_weight() -> None:
    parts = reward_parts(1.0, 3, RewardWeights(task=2.0, invalid_action=0.1))
    assert parts["task"] == 2.0
    assert math.isclose(parts["invalid_action"], -0.3)


def test_by_default_the_training_reward_is_the_benchmarks() -> None:
    parts = reward_parts(1.0, 5, RewardWeights())
    assert parts == {"task": 1.0, "invalid_action": 0.0}
    assert math.copysign(1.0, parts["invalid_action"]) == 1.0


def step(**shaping: float) -> StepRecord:
    return StepRecord(Action("take_action"), Observation(""), 0.0, False, False, True, shaping=shaping)


def test_each_shaping_term_is_a_part_of_its_own() -> None:
    weights = RewardWeights(shaping={"alfworld": {"potential": 0.5, "step_cost": 0.01}, "other": {"charm": 9.0}})
    steps = [step(potential=0.25, step_cost=-1.0), step(potential=-0.125, step_cost=-1.0), step()]
    parts = reward_parts(1.0, 0, weights, env="alfworld", steps=steps)
    assert parts == {
        "task": 1.0,
        "invalid_action": 0.0,
        "shaping.potential": pytest.approx(0.0625),
        "shaping.step_cost": pytest.approx(-0.02),
    }
    assert reward_parts(1.0, 0, weights, env="dbbench", steps=steps) == {"task": 1.0, "invalid_action": 0.0}
    # Told, but not asked for by a weight: no part of the reward.
    assert reward_parts(1.0, 0, RewardWeights(), env="alfworld", steps=steps) == {"task": 1.0, "invalid_action": 0.0}


def test_an_environment_is_asked_for_the_terms_that_have_a_weight() -> None:
    weights = RewardWeights(shaping={"alfworld": {"step_cost": 0.01, "potential": 0.5}, "other": {}}, shaping_gamma=0.9)
    assert shaping_options(weights, "alfworld") == {"shaping": ["potential", "step_cost"], "shaping_gamma": 0.9}
    assert shaping_options(weights, "other") == shaping_options(weights, "dbbench") == {}
    assert shaping_options(RewardWeights(), "alfworld") == {}
