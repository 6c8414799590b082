"""Rates and their intervals."""

from __future__ import annotations

import itertools
import random
from statistics import fmean

import pytest

from trainer.eval_stats import (
    TaskTrials,
    bootstrap_interval,
    clustered_interval,
    paired_mean,
    pass_at_k,
    pass_curve,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("trials", "successes", "k"), [(5, 2, 1), (5, 2, 3), (5, 0, 5), (5, 5, 1), (6, 4, 3), (1, 1, 1)]
)
def test_pass_at_k_is_the_share_of_subsets_with_a_success(trials: int, successes: int, k: int) -> None:
    """The estimator's meaning, counted: over all ways to choose k of the samples, how often one of them succeeds."""
    samples = [True] * successes + [False] * (trials - successes)
    share = fmean(any(chosen) for chosen in itertools.combinations(samples, k))
    assert pass_at_k(trials, successes, k) == pytest.approx(share)


def test_pass_at_k_is_unbiased() -> None:
    """1 - (1 - p)^k on average, where the plug-in 1 - (1 - c/n)^k is not."""
    draw = random.Random(0)
    p, n, k = 0.2, 6, 4
    counts = [sum(draw.random() < p for _ in range(n)) for _ in range(20_000)]
    truth = 1 - (1 - p) ** k
    assert fmean(pass_at_k(n, c, k) for c in counts) == pytest.approx(truth, abs=0.006)
    assert fmean(1 - (1 - c / n) ** k for c in counts) < truth - 0.02


@pytest.mark.parametrize(("trials", "successes", "k"), [(3, 1, 4), (3, 4, 1), (3, -1, 1), (3, 1, 0)])
def test_nonsense_is_refused(trials: int, successes: int, k: int) -> None:
    with pytest.raises(ValueError, match="pass@"):
        pass_at_k(trials, successes, k)


def test_the_curve_has_powers_of_two_and_the_samples_and_leaves_out_what_was_not_played() -> None:
    trials = [TaskTrials(6, 3), TaskTrials(6, 0), TaskTrials(3, 3)]
    curve = pass_curve(trials, samples=6)
    assert [(p.k, p.tasks) for p in curve] == [(1, 3), (2, 3), (4, 2), (6, 2)]
    assert curve[0].value == pytest.approx(0.5)
    assert curve[3].value == 0.5
    assert all(p.low <= p.value <= p.high for p in curve)
    assert pass_curve([TaskTrials(2, 1)], samples=4)[-1].k == 2
    assert pass_curve([], samples=4) == ()


def test_once_played_tasks_have_wilsons_interval_and_others_a_bootstrap_over_tasks() -> None:
    once = [TaskTrials(1, n % 2) for n in range(40)]
    (curve,) = pass_curve(once, samples=1)
    assert (curve.low, curve.high) == wilson_interval(20, 40)
    # Eight samples of a task that are all alike say no more than one: the interval is as wide as with one.
    alike = [TaskTrials(8, 8 * (n % 2)) for n in range(40)]
    clustered = pass_curve(alike, samples=8)[0]
    assert clustered.high - clustered.low == pytest.approx(curve.high - curve.low, abs=0.03)
    as_if_independent = wilson_interval(160, 320)
    assert clustered.high - clustered.low > 2 * (as_if_independent[1] - as_if_independent[0])


def test_bootstrap_is_seeded_and_covers() -> None:
    values = [float(n % 3 == 0) for n in range(60)]
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval([float(n % 4 == 0) for n in range(60)], seed=1)
    draw = random.Random(3)
    covered = 0
    for trial in range(40):
        sample = [float(draw.random() < 0.4) for _ in range(40)]
        low, high = bootstrap_interval(sample, seed=trial)
        covered += low <= 0.4 <= high
    assert covered >= 34, "about 95 of 100"
    assert bootstrap_interval([1.0, 1.0]) == (1.0, 1.0)
    assert clustered_interval([1.0, 1.0]) == wilson_interval(2, 2), "no width would say that two tasks prove everything"
    assert clustered_interval([0.5] * 30) == wilson_interval(15, 30)
    assert clustered_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    with pytest.raises(ValueError, match="no value"):
        bootstrap_interval([])


def test_paired_mean_is_over_common_tasks() -> None:
    first = {"a": TaskTrials(2, 0), "b": TaskTrials(2, 1), "only": TaskTrials(1, 1)}
    second = {"a": TaskTrials(4, 2), "b": TaskTrials(1, 1), "c": TaskTrials(1, 0)}
    mean, low, high = paired_mean(first, second)
    assert mean == 0.5
    assert low < 0.5 < high
    assert low < 0, "two tasks that rose alike prove little"
    assert paired_mean(first, {}) == (0.0, -1.0, 1.0)
