"""The named terms of a training reward. The benchmark's own reward is never changed."""

from __future__ import annotations

from rollout_server.types import RewardWeights

__all__ = ["reward_parts"]


def reward_parts(reward: float, invalid_turns: int, weights: RewardWeights) -> dict[str, float]:
    """``{"task": weight * reward, "invalid_action": -weight * invalid_turns}``.

    Args:
        reward: the benchmark's own, 0 or 1.
        invalid_turns: turns whose action was invalid or missing.
        weights: the request's.
    """
    # `0.0 -` and not a minus sign: a weight of 0 gives 0.0, not -0.0.
    return {"task": weights.task * reward, "invalid_action": 0.0 - weights.invalid_action * invalid_turns}
