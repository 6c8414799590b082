"""How many requests a second each caller may send: a bucket that fills steadily, and empties by one a request."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from envs.errors import TooManyRequests

__all__ = ["Pace"]

_CALLERS = 4096
_BURST_S = 2.0  # a caller that was silent for so long may send that much at once


class Pace:
    """Callers are told apart by their token, else by their address. ``per_s`` None: no limit."""

    def __init__(self, per_s: float | None) -> None:
        self._per_s = per_s
        self._buckets: OrderedDict[bytes, tuple[float, float]] = OrderedDict()  # what is left, and when that was so

    def check(self, scope: Mapping[str, Any]) -> None:
        """Count a request. Raises TooManyRequests, with the seconds to wait."""
        if self._per_s is None:
            return
        caller, now = _caller(scope), time.monotonic()
        most = max(1.0, self._per_s * _BURST_S)
        left, at = self._buckets.pop(caller, (most, now))
        left = min(most, left + (now - at) * self._per_s)
        self._buckets[caller] = (left - 1 if left >= 1 else left, now)
        while len(self._buckets) > _CALLERS:
            self._buckets.popitem(last=False)
        if left < 1:
            raise TooManyRequests(
                f"more than {self._per_s:g} requests a second",
                hint="send batches, or raise the setting max_requests_per_s",
                retry_after_s=(1 - left) / self._per_s,
            )


def _caller(scope: Mapping[str, Any]) -> bytes:
    for name, value in scope["headers"]:
        if name == b"authorization":
            return hashlib.blake2b(value, digest_size=16).digest()  # no token is kept
    client = scope.get("client")
    return str(client[0] if client else "").encode()
