"""One GPU for the trainer and for vLLM's own process: whose turn it is to hold its memory."""

from __future__ import annotations

import asyncio
import gc
import sys
from types import TracebackType
from typing import Protocol

__all__ = ["AwakeWhilePlaying", "SleepingEngine", "release_cached_memory"]


class SleepingEngine(Protocol):
    """An engine that can give its memory up for a time (``VllmProcessEngine``)."""

    async def start(self) -> None:
        """Begin, or begin again where it has died; awake then. Idempotent."""
        ...

    async def wake(self) -> None:
        """Take the memory back. Idempotent."""
        ...

    async def sleep(self) -> None:
        """Give it up. Idempotent."""
        ...


class AwakeWhilePlaying:
    """Inside, the engine is awake; it sleeps when the last who is inside leaves. An async context manager.

    Before it wakes, the memory that torch keeps for itself in this process goes back to the device. For one loop.
    """

    def __init__(self, engine: SleepingEngine) -> None:
        self._engine = engine
        self._inside = 0
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> None:
        async with self._turn:
            if self._inside == 0:
                release_cached_memory()
                await self._engine.start()
                await self._engine.wake()
            self._inside += 1

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with self._turn:
            self._inside -= 1
            if self._inside == 0:
                await self._engine.sleep()


def release_cached_memory() -> None:
    """Give back to the GPU what torch holds for later use. Does nothing where this process has used none."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return
    gc.collect()  # what a finished step still holds through cycles
    torch.cuda.empty_cache()
