"""An event loop on a thread of its own: how synchronous training code calls an asynchronous service.

Everything of a service (its clients, its engine) is bound to one loop, so it is opened, used and closed on the same.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

__all__ = ["LoopThread"]


class LoopThread:
    """Runs coroutines on a background event loop and waits for them. A context manager; ``close`` is idempotent."""

    def __init__(self, name: str = "envloop-rollouts") -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run[T](self, work: Coroutine[Any, Any, T]) -> T:
        """Run to the end and give the result. An interrupt (Ctrl-C) cancels the work, waits for it and is raised."""
        box: list[asyncio.Task[T]] = []

        async def start() -> None:
            box.append(asyncio.ensure_future(work))
            await asyncio.wait(box)

        async def stop() -> None:  # runs after start: the loop takes both in their order
            for task in box:
                task.cancel()
            if box:
                await asyncio.wait(box)

        try:
            asyncio.run_coroutine_threadsafe(start(), self._loop).result()
        except KeyboardInterrupt:
            asyncio.run_coroutine_threadsafe(stop(), self._loop).result()
            raise
        return box[0].result()

    async def _drain(self) -> None:
        me = asyncio.current_task()
        tasks = [t for t in asyncio.all_tasks() if t is not me]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def close(self) -> None:
        """Cancel what still runs, stop the loop and join the thread."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._drain(), self._loop).result()
        asyncio.run_coroutine_threadsafe(self._loop.shutdown_asyncgens(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
