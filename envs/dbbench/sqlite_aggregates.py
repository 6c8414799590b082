"""MySQL's aggregates that SQLite lacks or counts otherwise: exact sums, GROUP_CONCAT with an order, variances."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from functools import cmp_to_key
from typing import Any

from envs.dbbench.sqlite_collation import compare_texts, sort_key
from envs.dbbench.sqlite_function import MAX_TEXT
from envs.dbbench.sqlite_types import EXACT
from envs.dbbench.sqlite_values import as_decimal, as_int, as_number, as_text, decimal_text

__all__ = ["AGGREGATES", "CONCAT_BYTES"]

CONCAT_BYTES = 1024  # group_concat_max_len


class _Sum:
    """SUM of decimals and integers, exact; a window may take values away again."""

    def __init__(self) -> None:
        self._count = 0
        self._sum = Decimal(0)

    def step(self, value: Any) -> None:
        if value is not None:
            self._count += 1
            self._sum = EXACT.add(self._sum, as_decimal(value))

    def inverse(self, value: Any) -> None:
        if value is not None:
            self._count -= 1
            self._sum = EXACT.subtract(self._sum, as_decimal(value))

    def value(self) -> str | None:
        return f"{self._sum:f}" if self._count else None

    def finalize(self) -> str | None:
        return self.value()


class _Average(_Sum):
    """AVG with four digits more than what it averages."""

    def __init__(self) -> None:
        super().__init__()
        self._scale = 4

    def step(self, value: Any) -> None:
        super().step(value)
        if isinstance(value, str):
            self._scale = max(self._scale, len(value.partition(".")[2]) + 4)

    def value(self) -> str | None:
        if not self._count:
            return None
        return decimal_text(EXACT.divide(self._sum, Decimal(self._count)), min(self._scale, 30))


class _RealSum:
    """SUM of doubles in the order of the rows, as MySQL adds them."""

    def __init__(self) -> None:
        self._count = 0
        self._sum = 0.0

    def step(self, value: Any) -> None:
        if value is not None:
            self._count += 1
            self._sum += float(as_number(value))

    def inverse(self, value: Any) -> None:
        if value is not None:
            self._count -= 1
            self._sum -= float(as_number(value))

    def value(self) -> float | None:
        return self._sum if self._count else None

    def finalize(self) -> float | None:
        return self.value()


class _RealAverage(_RealSum):
    def value(self) -> float | None:
        return self._sum / self._count if self._count else None


def _spread(sample: bool, root: bool) -> type:
    class Spread:
        """Welford's recurrence, as MySQL has it, and its inverse."""

        def __init__(self) -> None:
            self._count = 0
            self._mean = self._square = 0.0

        def step(self, value: Any) -> None:
            if value is not None:
                number = float(as_number(value))
                self._count += 1
                before = self._mean
                self._mean += (number - before) / self._count
                self._square += (number - before) * (number - self._mean)

        def inverse(self, value: Any) -> None:
            if value is not None:
                number = float(as_number(value))
                self._count -= 1
                before = self._mean
                self._mean = before + (before - number) / self._count if self._count else 0.0
                self._square = (
                    max(self._square - (number - before) * (number - self._mean), 0.0) if self._count else 0.0
                )

        def value(self) -> float | None:
            if self._count <= sample:
                return None
            found = self._square / (self._count - sample)
            return math.sqrt(found) if root else found

        def finalize(self) -> float | None:
            return self.value()

    return Spread


def _bits(start: int, how: Callable[[int, int], int]) -> type:
    class Bits:
        def __init__(self) -> None:
            self._bits = start

        def step(self, value: Any) -> None:
            if value is not None:
                self._bits = how(self._bits, as_int(value) & (2**64 - 1))

        def finalize(self) -> int:
            return self._bits if self._bits < 2**63 else self._bits - 2**64

    return Bits


class _GroupConcat:
    """``(value, separator, distinct, then for each ORDER BY: value, descending)``."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, tuple[Any, ...]]] = []
        self._size = 0
        self._separator = ","
        self._distinct = False
        self._descending: tuple[Any, ...] = ()

    def step(self, value: Any, separator: str, distinct: int, *order: Any) -> None:
        self._separator, self._distinct, self._descending = separator, bool(distinct), order[1::2]
        if value is not None:
            text = as_text(value)
            self._size += len(text) + 8
            if self._size <= MAX_TEXT:
                self._rows.append((text, order[::2]))

    def _compared(self, one: tuple[str, tuple[Any, ...]], two: tuple[str, tuple[Any, ...]]) -> int:
        for first, second, down in zip(one[1], two[1], self._descending, strict=True):
            found = _ordered(first, second)
            if found:
                return -found if down else found
        return 0

    def finalize(self) -> str | None:
        if not self._rows:
            return None
        rows = self._rows
        if self._distinct:
            seen: dict[str, tuple[str, tuple[Any, ...]]] = {}
            for row in rows:
                seen.setdefault(sort_key(row[0]), row)
            rows = list(seen.values())
        if self._descending:
            rows = sorted(rows, key=cmp_to_key(self._compared))
        text = self._separator.join(row[0] for row in rows)
        return text.encode("utf-8", "surrogatepass")[:CONCAT_BYTES].decode("utf-8", "ignore")


def _ordered(one: Any, two: Any) -> int:
    if one is None or two is None:
        return (one is not None) - (two is not None)
    if isinstance(one, str) and isinstance(two, str):
        return compare_texts(one, two)
    first, second = as_number(one), as_number(two)
    return (first > second) - (first < second)


# name -> (number of arguments, class, whether it is one for windows)
AGGREGATES: dict[str, tuple[int, type, bool]] = {
    "sum_exact": (1, _Sum, True),
    "avg_exact": (1, _Average, True),
    "sum_real": (1, _RealSum, True),
    "avg_real": (1, _RealAverage, True),
    "std_pop": (1, _spread(False, True), True),
    "std_samp": (1, _spread(True, True), True),
    "var_pop": (1, _spread(False, False), True),
    "var_samp": (1, _spread(True, False), True),
    "agg_bit_and": (1, _bits(2**64 - 1, int.__and__), False),
    "agg_bit_or": (1, _bits(0, int.__or__), False),
    "agg_bit_xor": (1, _bits(0, int.__xor__), False),
    "concat_group": (-1, _GroupConcat, False),
}
