from __future__ import annotations

import math
import random

import pytest

from trainer.diagnose.stats import beyond, mad, noise, shift, trend_z, two_rates_z


def test_mad_is_the_standard_deviation_of_normal_values_and_ignores_outliers() -> None:
    draw = random.Random(0)
    values = [draw.gauss(0, 2) for _ in range(4000)]
    assert mad(values) == pytest.approx(2, rel=0.1)
    assert mad([*values, *[1e9] * 40]) == pytest.approx(2, rel=0.1)


def test_noise_does_not_see_a_trend() -> None:
    draw = random.Random(0)
    assert noise([0.5 * i + draw.gauss(0, 1) for i in range(2000)]) == pytest.approx(1, rel=0.15)
    assert noise([1.0, 2.0]) == 0.0


def test_shift_rarely_sees_what_is_not_there_even_in_correlated_noise() -> None:
    draw = random.Random(0)
    beyond_4 = 0
    for _ in range(2000):
        values, at = [], 0.0
        for _ in range(60):
            at = 0.5 * at + draw.gauss(0, 1)
            values.append(at)
        beyond_4 += abs(shift(values[:10], values[-10:]).z) >= 4
    assert beyond_4 <= 20
    assert shift([1.0, 1.1, 0.9, 1.0], [3.0, 3.1, 2.9, 3.0]).z > 10
    assert shift([1.0] * 5, [2.0] * 5).z == math.inf
    assert shift([1.0] * 5, [1.0] * 5).z == 0.0
    assert shift([], [1.0]).z == 0.0


def test_trend_of_ranks() -> None:
    assert trend_z([float(i) for i in range(60)]) > 3
    assert trend_z([float(-i) for i in range(60)]) < -3
    assert trend_z([1.0] * 60) == 0.0
    assert trend_z([1.0, 2.0, 3.0]) == 0.0


def test_beyond_asks_for_a_share_of_the_values() -> None:
    assert beyond([1, 1, 1, 1, 0], 1, share=0.8)
    assert not beyond([1, 1, 1, 0, 0], 1, share=0.8)
    assert not beyond([], 0, share=0.8)


def test_rates() -> None:
    assert two_rates_z(50, 100, 10, 100) < -5
    assert two_rates_z(0, 0, 10, 100) == 0.0
