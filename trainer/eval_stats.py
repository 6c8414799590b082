"""Rates and their intervals: Wilson's for single trials, pass@k for several, a bootstrap over tasks where trials of one
task are not independent."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

__all__ = [
    "PassAtK",
    "TaskTrials",
    "bootstrap_interval",
    "clustered_interval",
    "paired_mean",
    "pass_at_k",
    "pass_curve",
    "wilson_interval",
]

_DRAWS = 2_000


def wilson_interval(successes: float, total: float, *, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927); ``z`` 1.96 covers 95 %. (0, 1) for no trial.
    Trials that depend on each other count as fewer: neither number need be whole."""
    if total <= 0:
        return 0.0, 1.0
    p = successes / total
    centre = p + z * z / (2 * total)
    spread = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


@dataclass(frozen=True, slots=True)
class TaskTrials:
    """``successes`` of ``trials`` scored episodes of one task."""

    trials: int
    successes: int


def pass_at_k(trials: int, successes: int, k: int) -> float:
    """The unbiased estimate that one of ``k`` samples of a task succeeds, from ``trials`` samples of it.

    1 - C(n - c, k) / C(n, k) (Chen et al. 2021, Evaluating Large Language Models Trained on Code, equation 1). Raises
    ValueError unless 1 <= k <= trials and 0 <= successes <= trials.
    """
    if not 1 <= k <= trials or not 0 <= successes <= trials:
        raise ValueError(f"pass@{k} of {successes} successes in {trials} trials")
    return 1.0 - math.comb(trials - successes, k) / math.comb(trials, k)


@dataclass(frozen=True, slots=True)
class PassAtK:
    """pass@k over ``tasks`` tasks that have k scored episodes or more; a 95 % interval."""

    k: int
    value: float
    low: float
    high: float
    tasks: int


def pass_curve(trials: Sequence[TaskTrials], *, samples: int, seed: int = 0) -> tuple[PassAtK, ...]:
    """pass@k for k = 1, 2, 4, … and ``samples``, each with its interval: Wilson's where every task was tried once, else
    a bootstrap over tasks. A k for which no task has enough scored episodes is left out."""
    ks = sorted({samples, *(2**i for i in range(samples.bit_length()) if 2**i <= samples)})
    out = []
    for k in ks:
        enough = [t for t in trials if t.trials >= k]
        if not enough:
            continue
        values = [pass_at_k(t.trials, t.successes, k) for t in enough]
        if all(t.trials == 1 for t in enough):
            low, high = wilson_interval(sum(t.successes for t in enough), len(enough))
        else:
            low, high = clustered_interval(values, seed=seed)
        out.append(PassAtK(k, fmean(values), low, high, len(enough)))
    return tuple(out)


def bootstrap_interval(
    values: Sequence[float], *, seed: int = 0, statistic: Callable[[Sequence[float]], float] = fmean
) -> tuple[float, float]:
    """The 95 % percentile interval of a statistic of independent values (one a task), from 2,000 resamples; the same
    for the same ``seed`` (Efron 1979). Raises ValueError for no value.

    Where all values are equal it has no width: see ``clustered_interval``.
    """
    if not values:
        raise ValueError("no value to resample")
    draw = random.Random(seed)  # noqa: S311 - reproducible, nothing secret
    found = sorted(statistic(draw.choices(values, k=len(values))) for _ in range(_DRAWS))
    return found[round(0.025 * (_DRAWS - 1))], found[round(0.975 * (_DRAWS - 1))]


def clustered_interval(values: Sequence[float], *, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of the mean of rates in [0, 1], one a task: the bootstrap's, or, where all tasks have the same
    rate and a resample can say nothing, Wilson's with as many trials as tasks. (0, 1) for no task."""
    if len(set(values)) > 1:
        return bootstrap_interval(values, seed=seed)
    return wilson_interval(sum(values), len(values))


def paired_mean(
    first: Mapping[str, TaskTrials], second: Mapping[str, TaskTrials], *, seed: int = 0
) -> tuple[float, float, float]:
    """The mean over common tasks of the second success rate minus the first, with a bootstrap interval over tasks.

    (0, -1, 1) for no common task.
    """
    common = sorted(first.keys() & second.keys())
    differences = [
        second[n].successes / second[n].trials - first[n].successes / first[n].trials
        for n in common
        if first[n].trials and second[n].trials
    ]
    if not differences:
        return 0.0, -1.0, 1.0
    low, high = clustered_interval([(d + 1) / 2 for d in differences], seed=seed)  # as rates
    return fmean(differences), 2 * low - 1, 2 * high - 1
