"""The named terms of a training reward. The benchmark's own reward is never changed."""

from __future__ import annotations

import math
from collections.abc import Iterable

from envs.types import JsonObject
from rollout_server.types import RewardWeights, StepRecord

__all__ = ["reward_parts", "shaping_options"]


def reward_parts(
    reward: float, invalid_turns: int, weights: RewardWeights, *, env: str = "", steps: Iterable[StepRecord] = ()
) -> dict[str, float]:
    """``{"task": weight * reward, "invalid_action": -weight * invalid_turns}``, and ``shaping.TERM`` for each term that
    the weights name for the environment: its weight times its sum over the steps.

    Args:
        reward: the benchmark's own, 0 or 1.
        invalid_turns: turns whose action was invalid or missing.
        weights: the request's.
        env: the environment's name.
        steps: the episode's.
    """
    # `0.0 -` and not a minus sign: a weight of 0 gives 0.0, not -0.0.
    parts = {"task": weights.task * reward, "invalid_action": 0.0 - weights.invalid_action * invalid_turns}
    told = [step.shaping for step in steps]
    for term, weight in weights.shaping.get(env, {}).items():
        parts[f"shaping.{term}"] = weight * math.fsum(values.get(term, 0.0) for values in told)
    return parts


def shaping_options(weights: RewardWeights, env: str) -> JsonObject:
    """The options that make an environment tell the terms that the weights name for it; none where they name none."""
    terms = weights.shaping.get(env)
    return {"shaping": sorted(terms), "shaping_gamma": weights.shaping_gamma} if terms else {}
