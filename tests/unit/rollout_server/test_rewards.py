"""The training reward's parts."""

from __future__ import annotations

import math

from rollout_server.rewards import reward_parts
from rollout_server.types import RewardWeights


def test_each_invalid_turn_costs_and_the_task_counts_by_weight() -> None:
    parts = reward_parts(1.0, 3, RewardWeights(task=2.0, invalid_action=0.1))
    assert parts["task"] == 2.0
    assert math.isclose(parts["invalid_action"], -0.3)


def test_by_default_the_training_reward_is_the_benchmarks() -> None:
    parts = reward_parts(1.0, 5, RewardWeights())
    assert parts == {"task": 1.0, "invalid_action": 0.0}
    assert math.copysign(1.0, parts["invalid_action"]) == 1.0
