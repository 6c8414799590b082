"""A cache for what is dear to make: each value is made once, however many threads ask for it at the same time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future

__all__ = ["Keep"]


class Keep[K: Hashable, V]:
    """The ``size`` most recently used values by key. Thread-safe."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[K, V] = OrderedDict()
        self._making: dict[K, Future[V]] = {}
        self._lock = threading.Lock()

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value, from ``make`` if it is not here; who asks meanwhile waits for it and gets the same.

        Raises what ``make`` raises, for all who waited; nothing is kept then.
        """
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            awaited = self._making.get(key)
            if awaited is None:
                made: Future[V] = Future()
                self._making[key] = made
        if awaited is not None:
            return awaited.result()
        try:
            value = make()
        except BaseException as error:
            with self._lock:
                del self._making[key]
            made.set_exception(error)
            raise
        with self._lock:
            del self._making[key]
            self._values[key] = value
            while len(self._values) > self._size:
                self._values.popitem(last=False)
        made.set_result(value)
        return value

    def clear(self) -> None:
        """Forget every value."""
        with self._lock:
            self._values.clear()
