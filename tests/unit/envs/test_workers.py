"""The env server's threads: how many there are, and what becomes of errors, of what waits, and of them at the end."""

from __future__ import annotations

import asyncio
import threading

import pytest

from envs.server.workers import Workers


def threads(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(name)]


async def test_work_one_after_the_other_needs_one_thread():
    workers = Workers(8, "test-steady")
    for number in range(200):
        assert await workers.run(lambda number=number: number) == number
    assert len(threads("test-steady")) == 1
    workers.close()


async def test_no_more_threads_than_the_limit_and_what_waits_is_done_in_order():
    workers, gate, order = Workers(2, "test-limit"), threading.Event(), []
    blocked = [workers.run(gate.wait) for _ in range(2)]
    later = [workers.run(lambda number=number: order.append(number)) for number in range(5)]
    await asyncio.sleep(0.05)
    assert (len(threads("test-limit")), order) == (2, [])
    gate.set()
    await asyncio.gather(*blocked, *later)
    assert sorted(order) == [0, 1, 2, 3, 4]
    workers.close()


async def test_an_error_reaches_who_waits_and_the_thread_goes_on():
    workers = Workers(1, "test-error")
    with pytest.raises(ZeroDivisionError):
        await workers.run(lambda: 1 // 0)
    assert await workers.run(lambda: 7) == 7
    workers.close()


async def test_closing_cancels_what_waits_lets_run_what_runs_and_ends_the_threads():
    workers, gate = Workers(1, "test-close"), threading.Event()
    runs, waits = workers.run(lambda: gate.wait(10)), workers.run(lambda: 1)
    workers.close()
    with pytest.raises(asyncio.CancelledError):
        await waits
    gate.set()
    assert await runs
    for thread in threads("test-close"):
        await asyncio.to_thread(thread.join, 10)
    assert not threads("test-close")
    with pytest.raises(RuntimeError):
        workers.run(lambda: 1)
