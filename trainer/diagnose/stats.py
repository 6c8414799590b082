"""Robust statistics over the steps of a run: medians, MAD, shifts between windows, rank trends. No library needed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

__all__ = ["Series", "Shift", "beyond", "mad", "noise", "poisson_tail", "shift", "trend_z", "two_rates_z"]

_TO_SIGMA = 1.4826  # of a normal distribution's MAD
_MEDIAN_COST = 1.2533  # standard error of a median against that of a mean
_CORRELATION = 1.5  # neighbouring steps are alike: a window holds fewer independent values than steps


@dataclass(frozen=True, slots=True)
class Series:
    """One metric over the steps that have it. ``len(steps) == len(values)``."""

    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.values)

    def last(self, count: int) -> Series:
        """The newest ``count`` values."""
        return Series(self.name, self.steps[-count:], self.values[-count:])

    def first(self, count: int) -> Series:
        """The oldest ``count`` values."""
        return Series(self.name, self.steps[:count], self.values[:count])

    def between(self, start: int, stop: int) -> Series:
        """Values by position, as a slice."""
        return Series(self.name, self.steps[start:stop], self.values[start:stop])

    @property
    def span(self) -> tuple[int, int]:
        """Its first and its last step; (0, 0) for none."""
        return (self.steps[0], self.steps[-1]) if self.steps else (0, 0)

    @property
    def median(self) -> float:
        """Its median; NaN for none."""
        return median(self.values) if self.values else math.nan

    @property
    def mean(self) -> float:
        """Its mean; NaN for none."""
        return fmean(self.values) if self.values else math.nan


def mad(values: Sequence[float]) -> float:
    """Median absolute deviation, scaled to a normal distribution's standard deviation."""
    centre = median(values)
    return _TO_SIGMA * median(abs(v - centre) for v in values)


def noise(values: Sequence[float]) -> float:
    """Standard deviation of the steps around a slow curve, from the differences of neighbours; 0 for under 3 values."""
    if len(values) < 3:
        return 0.0
    return mad([b - a for a, b in itertools.pairwise(values)]) / math.sqrt(2)


@dataclass(frozen=True, slots=True)
class Shift:
    """Two windows compared: their medians, and the difference in robust standard errors."""

    before: float
    after: float
    z: float

    @property
    def change(self) -> float:
        """After less before."""
        return self.after - self.before


def shift(before: Sequence[float], after: Sequence[float]) -> Shift:
    """Compare two windows of one metric. ``z`` is 0 where either is empty, and infinite for a change without noise."""
    if not before or not after:
        return Shift(math.nan, math.nan, 0.0)
    a, b = median(before), median(after)
    spread = max(mad(before), mad(after), noise(before), noise(after))
    error = _MEDIAN_COST * _CORRELATION * spread * math.sqrt(1 / len(before) + 1 / len(after))
    if error == 0:
        return Shift(a, b, math.copysign(math.inf, b - a) if b != a else 0.0)
    return Shift(a, b, (b - a) / error)


def beyond(values: Sequence[float], bound: float, *, share: float) -> bool:
    """Whether at least ``share`` of the values are at or above the bound. False for none."""
    return bool(values) and sum(v >= bound for v in values) >= share * len(values)


def trend_z(values: Sequence[float], *, block: int = 5) -> float:
    """Mann and Kendall's rank test for a trend, over medians of blocks, which are nearly independent.

    Above 0 for a rise; about standard normal without one. 0 for under 4 blocks.
    """
    points = [median(values[i : i + block]) for i in range(0, len(values) - block + 1, block)]
    n = len(points)
    if n < 4:
        return 0.0
    s = sum((b > a) - (b < a) for i, a in enumerate(points) for b in points[i + 1 :])
    return (s - (s > 0) + (s < 0)) / math.sqrt(n * (n - 1) * (2 * n + 5) / 18)


def two_rates_z(wins_a: float, total_a: float, wins_b: float, total_b: float) -> float:
    """Standard errors by which the rate of b is above that of a (pooled two-proportion test); 0 without data."""
    if min(total_a, total_b) <= 0:
        return 0.0
    pooled = (wins_a + wins_b + 1) / (total_a + total_b + 2)
    error = math.sqrt(pooled * (1 - pooled) * (1 / total_a + 1 / total_b))
    return (wins_b / total_b - wins_a / total_a) / error


def poisson_tail(count: int, expected: float) -> float:
    """The chance of at most ``count`` events where ``expected`` are expected."""
    term = total = math.exp(-expected)
    for k in range(1, count + 1):
        term *= expected / k
        total += term
    return min(1.0, total)
