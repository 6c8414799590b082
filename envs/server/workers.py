"""Threads for what may block: the one that was idle last works next, and a new one starts only where none is idle."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

__all__ = ["Workers"]


class _Job:
    """Work, and the future that its event loop waits for."""

    __slots__ = ("_error", "_future", "_loop", "_result", "_work")

    def __init__(self, work: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        self._work = work
        self._future = future
        self._loop = future.get_loop()
        self._result: Any = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Do it here."""
        try:
            self._result = self._work()
        except BaseException as failure:  # noqa: BLE001 - handed to whoever waits
            self._error = failure

    def tell(self) -> None:
        """Tell the loop what came of it."""
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile: nobody waits
            self._loop.call_soon_threadsafe(self._settle)

    def refuse(self) -> None:
        """It will not be done."""
        self._future.cancel()

    def _settle(self) -> None:
        if self._future.done():
            return
        if self._error is not None:
            self._future.set_exception(self._error)
        else:
            self._future.set_result(self._result)


class Workers:
    """At most ``limit`` threads. Used from one event loop.

    A ThreadPoolExecutor starts a thread for work that a busy one is about to take, and wakes the thread that has been
    idle longest: under a steady load it grows to its limit, and every piece of work finds another cold thread.
    """

    def __init__(self, limit: int, name: str) -> None:
        self._limit = limit
        self._name = name
        self._lock = threading.Lock()
        self._idle: list[SimpleQueue[_Job | None]] = []
        self._waiting: deque[_Job] = deque()
        self._threads: list[threading.Thread] = []
        self._closed = False

    @property
    def waiting(self) -> int:
        """Work that no thread has taken yet."""
        return len(self._waiting)

    @property
    def threads(self) -> int:
        """Threads there are, idle ones included."""
        return len(self._threads)

    def run[T](self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Have it done by a thread. Raises RuntimeError after ``close``."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        job = _Job(work, future)
        with self._lock:
            if self._closed:
                raise RuntimeError("the workers have been told to stop")
            if self._idle:
                self._idle.pop().put(job)
            elif len(self._threads) < self._limit:
                thread = threading.Thread(
                    target=self._work, args=(job,), name=f"{self._name}_{len(self._threads)}", daemon=True
                )
                thread.start()
                self._threads.append(thread)
            else:
                self._waiting.append(job)
        return future

    def _work(self, job: _Job | None) -> None:
        inbox: SimpleQueue[_Job | None] = SimpleQueue()
        while job is not None:
            job.run()
            done, job = job, None
            with self._lock:
                if self._waiting:
                    job = self._waiting.popleft()
                elif not self._closed:
                    self._idle.append(inbox)  # before the loop hears of it, and has more: or another thread would start
                ends = job is None and self._closed
            done.tell()
            del done  # its result may be large
            if ends:
                return
            if job is None:
                job = inbox.get()

    def close(self) -> None:
        """What runs goes on, what waits is cancelled, idle threads end. Idempotent."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            waiting, self._waiting = self._waiting, deque()
        for job in waiting:
            job.refuse()
        for inbox in idle:
            inbox.put(None)
