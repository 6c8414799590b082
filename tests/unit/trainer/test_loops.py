from __future__ import annotations

import asyncio
import signal
import threading

import pytest

from trainer.loops import LoopThread


def test_results_and_errors_come_back() -> None:
    async def double(n: int) -> int:
        await asyncio.sleep(0)
        return 2 * n

    async def fail() -> None:
        raise ValueError("no")

    with LoopThread() as loop:
        assert loop.run(double(4)) == 8
        with pytest.raises(ValueError, match="no"):
            loop.run(fail())
    loop.close()


def test_an_interrupt_cancels_the_work_alone_and_waits_for_its_end() -> None:
    ended = []

    async def background() -> None:
        await asyncio.Event().wait()

    async def begin() -> asyncio.Task[None]:
        return asyncio.create_task(background())

    async def work() -> None:
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("work")

    with LoopThread() as loop:
        other = loop.run(begin())
        with pytest.raises(KeyboardInterrupt):
            loop.run(work())
        assert ended == ["work"]
        assert not other.done(), "what a service runs beside the work must live on: it is closed in order"
    assert other.cancelled()
