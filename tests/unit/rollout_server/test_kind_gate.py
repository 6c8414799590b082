"""Kinds never meet inside, none starves, and a cancelled one leaves no trace."""

from __future__ import annotations

import asyncio

import pytest

from rollout_server.engines.gate import KindGate


async def test_one_kind_shares_and_kinds_never_meet() -> None:
    gate, inside, most = KindGate(), [], 0

    async def work(kind: str) -> None:
        nonlocal most
        async with gate.hold(kind):
            inside.append(kind)
            assert len(set(inside)) == 1
            most = max(most, len(inside))
            for _ in range(3):
                await asyncio.sleep(0)
            inside.remove(kind)

    await asyncio.gather(*(work(kind) for kind in "aaabbabaab"))
    assert most == 3


async def test_who_waits_is_not_overtaken() -> None:
    gate, order, release = KindGate(), [], asyncio.Event()

    async def work(kind: str, name: str) -> None:
        async with gate.hold(kind):
            order.append(name)
            await release.wait()

    tasks = [asyncio.create_task(work(k, n)) for k, n in (("a", "first"), ("b", "second"), ("a", "third"))]
    for _ in range(5):
        await asyncio.sleep(0)
    assert order == ["first"]
    release.set()
    await asyncio.gather(*tasks)
    assert order == ["first", "second", "third"]


@pytest.mark.parametrize("turns", range(5))
async def test_cancelling_at_any_moment_frees_the_gate(turns: int) -> None:
    gate, release = KindGate(), asyncio.Event()

    async def work(kind: str) -> str:
        async with gate.hold(kind):
            await release.wait()
            return kind

    first = asyncio.create_task(work("a"))
    await asyncio.sleep(0)
    waiting, last = asyncio.create_task(work("b")), asyncio.create_task(work("a"))
    if turns == 4:
        release.set()  # the next one is let in and cancelled in the same breath
        await first
    for _ in range(turns):
        await asyncio.sleep(0)
    waiting.cancel()
    release.set()
    await asyncio.gather(first, waiting, last, return_exceptions=True)
    assert last.result() == "a"
    assert await asyncio.create_task(work("c")) == "c"
