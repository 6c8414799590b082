"""A gate that lets only one kind of work through at a time, in order of arrival."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

__all__ = ["KindGate"]


class KindGate:
    """Any number of holders of one kind are inside at once; another kind enters when they have left.

    Who arrives while another waits queues up behind it, so that no kind starves. For one event loop.
    """

    def __init__(self) -> None:
        self._kind: Hashable = None
        self._inside = 0
        self._queue: deque[tuple[Hashable, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self, kind: Hashable) -> AsyncIterator[None]:
        """Wait for the turn of ``kind``, and be inside for the length of the block."""
        ticket = (kind, asyncio.get_running_loop().create_future())
        self._queue.append(ticket)
        self._admit()
        try:
            await ticket[1]
        except asyncio.CancelledError:
            if ticket in self._queue:
                self._queue.remove(ticket)
                self._admit()
            else:  # let in and cancelled in the same turn of the loop
                self._leave()
            raise
        try:
            yield
        finally:
            self._leave()

    def _admit(self) -> None:
        while self._queue and (not self._inside or self._queue[0][0] == self._kind):
            self._kind, admitted = self._queue.popleft()
            self._inside += 1
            if not admitted.done():
                admitted.set_result(None)

    def _leave(self) -> None:
        self._inside -= 1
        self._admit()
