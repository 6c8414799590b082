"""Tests for paired results, exact where that is cheap, from the standard library alone."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from fractions import Fraction

__all__ = ["least_discordant", "mcnemar_exact", "paired_interval", "sign_flip_test"]

_Z = 1.959963984540054  # the normal quantile of 0.975
_EXACT_UP_TO = 14  # differences that are not 0: 2^14 sign patterns are enumerated
_DRAWS = 20_000


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """The two-sided exact p-value of McNemar's test: the pairs that differ split like fair coins.

    Args: the pairs where only the first succeeded, and where only the second did. 1.0 where none differs.

    Source: the binomial form of McNemar (1947), as statsmodels' ``mcnemar(exact=True)`` has it.
    """
    n = only_first + only_second
    tail = sum(math.comb(n, k) for k in range(min(only_first, only_second) + 1))
    return float(min(Fraction(1), Fraction(2 * tail, 2**n)))


def least_discordant(alpha: float = 0.05) -> int:
    """How many pairs must differ before any split of them can have a p-value below ``alpha``: 6 for 0.05."""
    return next(n for n in itertools.count(1) if mcnemar_exact(0, n) < alpha)


def paired_interval(both: int, only_first: int, only_second: int, neither: int) -> tuple[float, float]:
    """The 95 % interval of the second success rate minus the first, of paired results: Newcombe's (1998) method 10.

    It combines Wilson's intervals of both rates with their correlation (its continuity correction included) and stays
    within [-1, 1]; (-1, 1) for no pair.
    """
    n = both + only_first + only_second + neither
    if n == 0:
        return -1.0, 1.0
    first, second = both + only_first, both + only_second
    difference = (second - first) / n
    low_1, high_1 = _wilson(first, n)
    low_2, high_2 = _wilson(second, n)
    down_1, up_1 = first / n - low_1, high_1 - first / n
    down_2, up_2 = second / n - low_2, high_2 - second / n
    phi = _phi(both, only_first, only_second, neither)
    low = math.sqrt(max(0.0, down_2**2 - 2 * phi * down_2 * up_1 + up_1**2))
    high = math.sqrt(max(0.0, up_2**2 - 2 * phi * up_2 * down_1 + down_1**2))
    return max(-1.0, difference - low), min(1.0, difference + high)


def sign_flip_test(differences: Sequence[float], *, seed: int = 0) -> float:
    """The two-sided p-value of a paired permutation test of the mean: under the null each difference may have either
    sign. Differences of 0 say nothing and change nothing.

    All sign patterns up to 14 differences that are not 0; above, 20,000 drawn ones and the observed (Phipson and Smyth,
    2010), the same for the same ``seed``.
    """
    values = [abs(float(value)) for value in differences if value]
    if not values:
        return 1.0
    # A sum that is equal but for rounding counts as extreme too.
    least = abs(math.fsum(differences)) - 1e-9 * math.fsum(values)
    if len(values) <= _EXACT_UP_TO:
        # The first keeps its sign: mirror images count alike.
        patterns = itertools.product(*((value, -value) for value in values[1:]))
        hits = sum(abs(math.fsum((values[0], *signed))) >= least for signed in patterns)
        return hits / float(2 ** (len(values) - 1))
    draw = random.Random(seed)  # noqa: S311 - no secret
    hits = 0
    for _ in range(_DRAWS):
        bits = draw.getrandbits(len(values))
        total = math.fsum(value if bits >> i & 1 else -value for i, value in enumerate(values))
        hits += abs(total) >= least
    return (hits + 1) / (_DRAWS + 1)


def _wilson(successes: int, n: int) -> tuple[float, float]:
    centre = successes + _Z**2 / 2
    spread = _Z * math.sqrt(successes * (n - successes) / n + _Z**2 / 4)
    return (centre - spread) / (n + _Z**2), (centre + spread) / (n + _Z**2)


def _phi(both: int, only_first: int, only_second: int, neither: int) -> float:
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    if margins == 0:
        return 0.0
    product = float(both * neither - only_first * only_second)
    if product > 0:  # the continuity correction
        product = max(product - (both + only_first + only_second + neither) / 2, 0.0)
    return product / math.sqrt(margins)
