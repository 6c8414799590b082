"""Where a step's time went, and how far two sets of logprobs are apart."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from episode_samples import sample_episode

from envs.types import Task
from rollout_server.types import Group
from trainer.timing import StepClock, waiting_share
from trainer.trl_seams import mismatch_figures


def test_the_rest_of_a_step_is_overhead() -> None:
    ticks: Iterator[float] = iter([0.0, 100.0, 101.0, 109.0, 120.0])
    clock = StepClock(now=lambda: next(ticks))
    clock.begin()  # at 100
    with clock.measure("train"):  # 8 s, of which
        clock.add("prepare", 5.0)
        clock.add("score", 1.0)
        clock.add("rollout", 3.5)
        clock.add("waited", 3.0)
    clock.add("optimizer", 0.5)
    clock.add("publish", 2.0)
    figures = clock.figures()  # at 120
    assert figures == pytest.approx(
        {
            "time/rollout": 3.5,
            "time/update": 4.5,  # 3 s forward and backward, 1 s scoring, the optimizer
            "time/publish": 2.0,
            "time/step": 20.0,
            "time/overhead_share": (20 - 3 - 4) / 20,
        }
    )


def test_the_next_step_begins_with_nothing() -> None:
    ticks = iter([0.0, 1.0, 5.0, 7.0])
    clock = StepClock(now=lambda: next(ticks))
    clock.begin()
    clock.add("rollout", 3.0)
    clock.begin()
    assert clock.figures() == pytest.approx(
        {"time/rollout": 0, "time/update": 0, "time/publish": 0, "time/step": 2.0, "time/overhead_share": 1.0}
    )


def test_waiting_is_what_engine_and_environment_took() -> None:
    episode = sample_episode(duration_s=1.0)
    turns = tuple(replace(t, generate_s=0.3, environment_s=0.1) for t in episode.turns)
    task = Task("alfworld", "generated/1", "generated", "pick", "h")
    assert waiting_share([Group("g", task, (replace(episode, turns=turns),))]) == pytest.approx(0.8)
    assert waiting_share([Group("g", task, (replace(episode, duration_s=0.0),))]) == 1.0


def test_mismatch_by_hand() -> None:
    own, sampled = torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([-1.5, -2.0, float("nan")])
    figures = mismatch_figures(own, sampled)
    assert figures["mismatch/kl"] == pytest.approx((math.exp(0.5) - 1 - 0.5) / 2)
    assert figures["mismatch/logp_mean"] == pytest.approx(0.25)
    assert figures["mismatch/logp_max"] == pytest.approx(0.5)
    assert mismatch_figures(torch.tensor([]), torch.tensor([])) == {}


def test_the_estimate_is_that_of_the_divergence() -> None:
    """Over all tokens, weighted as the engine samples them, it is KL(engine || trainer) itself."""
    engine, trainer = torch.tensor([0.5, 0.3, 0.2]).log(), torch.tensor([0.2, 0.2, 0.6]).log()
    exact = (engine.exp() * (engine - trainer)).sum().item()
    each = [mismatch_figures(trainer[i : i + 1], engine[i : i + 1])["mismatch/kl"] for i in range(3)]
    assert sum(p * k for p, k in zip(engine.exp().tolist(), each, strict=True)) == pytest.approx(exact, rel=1e-5)
