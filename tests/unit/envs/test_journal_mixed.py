"""What comes together in the journal's thread: steps and ends in one statement, the rest beside them, each once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from envs.errors import BackendUnavailable
from envs.server.journal import Journal
from envs.server.journal_records import Begun, Taken


def begun(number: int) -> Begun:
    return Begun(
        id=f"ep_{number}",
        key=None,
        asked="",
        env="counting",
        task_id="train/1",
        content_hash="",
        seed=0,
        options=b"{}",
        origin=None,
        origin_step=0,
        first_digest=0,
    )


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    made = Journal(f"sqlite:///{tmp_path / 'journal.sqlite'}")
    await asyncio.gather(*(made.begin(begun(n)) for n in range(4)))
    yield made
    await made.aclose()


class Held:
    """While it is held, what is asked of the journal gathers, and is done together afterwards."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._free = threading.Event()

    async def __aenter__(self) -> None:
        self._waits = self._journal._do(lambda _: self._free.wait(20))
        await asyncio.sleep(0.05)

    async def __aexit__(self, *_: Any) -> None:
        self._free.set()
        await self._waits


def end(journal: Journal, number: int, steps: int) -> asyncio.Future[bool]:
    return journal.end(f"ep_{number}", steps=steps, status="cancelled", reason="closed", failure=None, final=None)


async def test_steps_ends_beginnings_and_questions_come_together(journal: Journal) -> None:
    async with Held(journal):
        answers = [
            journal.take(Taken("ep_0", 0, 7, b"{}")),
            journal.begin(begun(9)),
            end(journal, 1, 0),
            journal.head("ep_2"),
            journal.take(Taken("ep_0", 1, 8, b"{}")),
        ]
    took, new, ended, head, again = await asyncio.gather(*answers)
    assert (took, new, ended, again) == (True, ("ep_9", ""), True, True)
    assert (head.status, head.steps) == ("running", 0)
    stands = [await journal.head(f"ep_{n}") for n in (0, 1, 9)]
    assert [(h.status, h.steps) for h in stands if h] == [("running", 2), ("cancelled", 0), ("running", 0)]


async def test_what_fails_beside_them_is_told_and_nothing_is_written_twice(journal: Journal) -> None:
    async with Held(journal):
        answers = [
            journal.take(Taken("ep_0", 0, 7, b"{}")),
            journal._do(lambda connection: connection.execute(text("SELECT nothing FROM nowhere"))),
            end(journal, 1, 0),
            journal.begin(begun(9)),
        ]
    took, failed, ended, new = await asyncio.gather(*answers, return_exceptions=True)
    assert (took, ended, new) == (True, True, ("ep_9", ""))
    assert isinstance(failed, BackendUnavailable)
    assert journal.failures == 1
    kept = await journal.load("ep_0")
    assert kept is not None
    assert (kept.head.steps, len(kept.steps)) == (1, 1)


async def test_where_one_does_not_stand_the_others_are_written_all_the_same(journal: Journal) -> None:
    async with Held(journal):
        answers = [
            journal.take(Taken("ep_0", 0, 7, b"{}")),
            end(journal, 1, 3),
            journal.take(Taken("ep_2", 1, 7, b"{}")),
            end(journal, 3, 0),
        ]
    assert await asyncio.gather(*answers) == [True, False, False, True]
    stands = [await journal.head(f"ep_{n}") for n in range(4)]
    assert [(h.status, h.steps) for h in stands if h] == [
        ("running", 1), ("running", 0), ("running", 0), ("cancelled", 0),
    ]  # fmt: skip
