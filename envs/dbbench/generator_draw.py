"""Chance for generated tasks: the same numbers on every machine and every Python."""

from __future__ import annotations

import random
from collections.abc import Sequence
from hashlib import sha256

__all__ = ["Draw"]


class Draw:
    """Chance from ``random()`` alone, the one method whose sequence Python promises to keep. The key is its seed."""

    __slots__ = ("_random",)

    def __init__(self, *key: object) -> None:
        seed = sha256(":".join(map(str, key)).encode()).digest()
        self._random = random.Random(int.from_bytes(seed[:8], "big")).random  # noqa: S311 - tasks, not secrets

    def below(self, count: int) -> int:
        """A whole number from 0, below ``count``."""
        return int(self._random() * count)

    def between(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        return low + int(self._random() * (high - low + 1))

    def chance(self, share: float) -> bool:
        """True in this share of cases."""
        return self._random() < share

    def pick[T](self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[int(self._random() * len(items))]

    def some[T](self, items: Sequence[T], count: int) -> list[T]:
        """So many of the items, or all if there are fewer, in a new order."""
        left = list(items)
        return [left.pop(int(self._random() * len(left))) for _ in range(min(count, len(left)))]
