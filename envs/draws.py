"""Random draws that are the same on every machine and in every version of Python.

Python promises this for ``random()`` after an integer seed and for nothing built on it: all draws are made from that.
"""

from __future__ import annotations

import hashlib
import random
from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate

__all__ = ["Draws", "Weighted"]


class Weighted[T]:
    """Things with whole weights, to be drawn from."""

    __slots__ = ("_bounds", "_things", "total")

    def __init__(self, things: Sequence[T], weights: Sequence[int]) -> None:
        self._things = things
        self._bounds = list(accumulate(weights))
        self.total = self._bounds[-1] if self._bounds else 0

    def at(self, point: int) -> T:
        """The thing whose share of 0 … total - 1 holds the point."""
        return self._things[bisect(self._bounds, point)]


class Draws:
    """A source of draws, given by a name."""

    __slots__ = ("_random",)

    def __init__(self, name: str) -> None:
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest())
        self._random = random.Random(seed).random  # noqa: S311 - reproducible, no secret

    def below(self, bound: int) -> int:
        """A whole number from 0 to below ``bound``."""
        return int(self._random() * bound)

    def between(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        return low + int(self._random() * (high - low + 1))

    def choice[T](self, things: Sequence[T]) -> T:
        """One of the things."""
        return things[int(self._random() * len(things))]

    def sample[T](self, things: Sequence[T], count: int) -> list[T]:
        """``count`` of the things in a random order; all of them where there are no more."""
        left = list(things)
        for place in range(min(count, len(left))):
            other = place + int(self._random() * (len(left) - place))
            left[place], left[other] = left[other], left[place]
        return left[:count]

    def weighted[T](self, things: Weighted[T]) -> T:
        """One of the things by their weights, whose sum must be above 0."""
        return things.at(int(self._random() * things.total))
