"""Paired comparisons: the tests' values are published or counted by hand, and the pairs are those of the same task."""

from __future__ import annotations

import dataclasses
import itertools
import math
from fractions import Fraction

import pytest
from episode_samples import sample_episode
from hypothesis import given
from hypothesis import strategies as st

from envs.types import EpisodeStatus, Task
from rollout_server.episode_store import summarize
from rollout_server.paired_stats import least_discordant, mcnemar_exact, paired_interval, sign_flip_test
from rollout_server.replay_compare import compare_episodes


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [
        (0, 0, 1.0),
        (0, 1, 1.0),
        (0, 5, 2 / 2**5),
        (0, 6, 2 / 2**6),
        (1, 9, 2 * (1 + 10) / 2**10),
        (2, 12, 2 * (1 + 14 + 91) / 2**14),
        (5, 5, 1.0),
        (15, 5, 0.041389465332031),  # R: binom.test(5, 20)$p.value
    ],
)
def test_mcnemar(only_first, only_second, p):
    assert mcnemar_exact(only_first, only_second) == pytest.approx(p, rel=1e-12)
    assert mcnemar_exact(only_second, only_first) == mcnemar_exact(only_first, only_second)


def test_mcnemar_of_a_published_table():
    """statsmodels' own example, [[101, 121], [59, 33]]: 4.434e-06."""
    assert mcnemar_exact(121, 59) == pytest.approx(4.434e-06, rel=1e-3)
    assert mcnemar_exact(3000, 3000) == 1.0
    assert 0 < mcnemar_exact(0, 1000) < 1e-300


def test_six_pairs_must_differ_before_anything_can_be_shown():
    assert least_discordant() == 6
    assert mcnemar_exact(0, 5) > 0.05 > mcnemar_exact(0, 6)


def test_the_interval_of_a_published_table():
    """Newcombe, Improved confidence intervals for ... paired data, Statist. Med. 17 (1998): 36, 12, 2, 0, method 10."""
    assert paired_interval(36, 2, 12, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)
    low, high = paired_interval(36, 12, 2, 0)
    assert (low, high) == pytest.approx((-0.3404, -0.0569), abs=5e-5)


@given(*[st.integers(0, 60)] * 4)
def test_an_interval_holds_the_difference_and_mirrors(both, only_first, only_second, neither):
    low, high = paired_interval(both, only_first, only_second, neither)
    n = both + only_first + only_second + neither
    assert -1 <= low <= (only_second - only_first) / n + 1e-12 if n else (low, high) == (-1, 1)
    assert high >= ((only_second - only_first) / n if n else 1) - 1e-12
    assert paired_interval(both, only_second, only_first, neither) == pytest.approx((-high, -low), abs=1e-12)
    assert paired_interval(neither, only_second, only_first, both) == pytest.approx((-high, -low), abs=1e-9)


def by_hand(values):
    """Every sign pattern, in exact numbers."""
    exact = [Fraction(value) for value in values]
    least = abs(sum(exact))
    patterns = itertools.product((1, -1), repeat=len(exact))
    sums = [abs(sum(sign * value for sign, value in zip(signs, exact, strict=True))) for signs in patterns]
    return sum(total >= least for total in sums) / len(sums)


@given(st.lists(st.sampled_from([-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0]), max_size=9))
def test_the_permutation_test_counts_every_pattern(values):
    assert sign_flip_test(values) == pytest.approx(by_hand(values))


def test_the_permutation_test_of_known_cases():
    assert sign_flip_test([]) == sign_flip_test([0.0, 0.0]) == 1.0
    assert sign_flip_test([1.0] * 6) == 2 / 2**6
    assert sign_flip_test([0.1, 0.2, 0.3]) == 2 / 2**3  # whatever 0.1 + 0.2 rounds to
    # Fisher's (1935) test of Darwin's 15 pairs of Zea mays: 1,726 of 32,768 patterns, 863 on either side.
    darwin = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
    assert sign_flip_test(darwin) == pytest.approx(1726 / 32768, abs=0.006)
    assert sign_flip_test(darwin) == sign_flip_test(darwin)
    assert sign_flip_test([1.0] * 100) == pytest.approx(1 / 20_001)


def played(task, reward, *, kind="heat", start="1", status=EpisodeStatus.COMPLETED, **fields):
    name = f"{task}-{reward}-{start}-{fields}"
    whole = Task("alfworld", f"generated/{task}", "generated", kind, "h")
    episode = sample_episode(id=name, task=whole, reward=reward, started_at=start, status=status)
    return dataclasses.replace(summarize(episode), **fields)


def test_pairs_are_of_one_task_and_in_the_order_of_their_starts():
    first = [played(1, 0.0, start="2"), played(1, 1.0, start="1"), played(2, 0.0, kind="cool"), played(9, 1.0)]
    second = [played(1, 1.0, start="5"), played(1, 1.0, start="6"), played(2, 1.0, kind="cool"), played(8, 1.0)]
    second += [played(2, 0.0, start="9", kind="cool"), played(2, 0.5, env="other")]
    first.append(played(3, None, status=EpisodeStatus.INFRASTRUCTURE_ERROR))
    found = compare_episodes(first, second)
    whole = found.overall
    assert (whole.tasks, whole.pairs, whole.only_a, whole.only_b) == (2, 3, 0, 2)
    assert (whole.success_a, whole.success_b, whole.difference) == (1 / 3, 1.0, pytest.approx(2 / 3))
    assert whole.reward_difference == pytest.approx((0.5 + 1.0) / 2)
    assert (found.unpaired_a, found.unpaired_b, found.unscored) == (1, 3, 1)
    assert [(t.type, t.pairs, t.difference) for t in found.types] == [("cool", 1, 1.0), ("heat", 2, 0.5)]
    assert [(f.task_id, f.gained) for f in found.flips] == [("generated/1", True), ("generated/2", True)]
    assert found.flips[0].episode_a == first[0].id
    assert "too few: 2 of 3 pairs differ, and below 6" in whole.note
    assert "3 pairs of 2 tasks are not independent" in whole.note
    mirrored = compare_episodes(second, first)
    assert (mirrored.overall.difference, mirrored.overall.p_reward) == (-whole.difference, whole.p_reward)
    assert [f.gained for f in mirrored.flips] == [False, False]


def test_many_pairs_that_differ_one_way_are_significant():
    first = [played(n, float(n < 10)) for n in range(60)]
    second = [played(n, float(n < 30)) for n in range(60)]
    result = compare_episodes(first, second).overall
    assert (result.difference, result.only_a, result.only_b) == (pytest.approx(1 / 3), 0, 20)
    assert result.p_success == 2 / 2**20
    assert result.p_reward < 0.001
    assert 0 < result.low < 1 / 3 < result.high
    assert result.note == ""


def test_nothing_in_common_is_said():
    result = compare_episodes([played(1, 1.0)], [played(2, 1.0)]).overall
    assert (result.pairs, result.note, result.p_success, result.p_reward) == (0, "no task was played by both", 1.0, 1.0)
    assert math.isfinite(result.low)


def test_rewards_between_differ_where_success_does_not():
    first = [played(n, 0.0) for n in range(8)]
    second = [played(n, 0.5) for n in range(8)]
    result = compare_episodes(first, second).overall
    assert (result.p_success, result.p_reward, result.reward_difference) == (1.0, 2 / 2**8, 0.5)
