"""How the journal writes to SQLite: many steps in one statement or none, its log moved beside, processes in turns."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from envs.database import Turns, open_database
from envs.server.journal_bulk import Row, StepWriter
from envs.server.journal_log import LogMover, leave_log_alone
from envs.server.journal_records import Begun
from envs.server.journal_sql import head, load, together
from envs.server.journal_tables import METADATA


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made, _ = open_database(f"sqlite:///{tmp_path / 'journal.sqlite'}", "the journal")
    leave_log_alone(made)
    METADATA.create_all(made)
    with made.begin() as connection:
        list(together(connection, [begun(f"ep_{n}") for n in range(300)]))
    yield made
    made.dispose()


def begun(episode_id: str) -> Begun:
    return Begun(
        id=episode_id, key=None, asked="", env="toy-v1", task_id="toy/0", content_hash="0", seed=0, options=b"{}",
        origin=None, origin_step=0, first_digest=7,
    )  # fmt: skip


def step(episode: int, number: int = 0, *, ends: bool = False) -> Row:
    ending = ("completed", "won", b"{}") if ends else (None, None, None)
    return (f"ep_{episode}", number, 100 + number, b'{"a":1}', 5.0 + number, *ending, None)


def end(episode: int, steps: int = 0) -> Row:
    return (f"ep_{episode}", steps, None, None, 9.0, "cancelled", "closed", b"{}", b'{"code":"x"}')


def stands(engine: Engine, episode: int) -> tuple[str, int, int]:
    with engine.begin() as connection:
        kept = load(connection, f"ep_{episode}")
    assert kept is not None
    return (kept.head.status, kept.head.steps, len(kept.steps))


@pytest.mark.parametrize("count", [1, 2, 3, 255, 300])
def test_all_steps_are_written(engine: Engine, count: int) -> None:
    writer = StepWriter(engine)
    assert writer.write([step(n) for n in range(count)])
    assert writer.write([step(n, 1, ends=n == 0) for n in range(count)])
    writer.close()
    assert stands(engine, 0) == ("completed", 2, 2)
    assert {stands(engine, n) for n in range(1, count)} <= {("running", 2, 2)}
    with engine.begin() as connection:
        kept = load(connection, "ep_0")
        assert kept is not None
        assert (kept.reason, kept.final, kept.head.touched_at) == ("won", b"{}", 6.0)
        assert kept.steps == [(100, b'{"a":1}'), (101, b'{"a":1}')]
        assert connection.execute(text("SELECT count(*) FROM envloop_journal_steps")).scalar() == 2 * count


def test_steps_of_one_episode_may_follow_one_another(engine: Engine) -> None:
    writer = StepWriter(engine)
    assert writer.write([step(0, 0), step(1, 0), step(0, 1), step(0, 2, ends=True)])
    writer.close()
    assert (stands(engine, 0), stands(engine, 1)) == (("completed", 3, 3), ("running", 1, 1))


def test_ends_are_written_among_steps(engine: Engine) -> None:
    writer = StepWriter(engine)
    assert writer.write([step(0), end(1), step(2), end(0, 1)])
    writer.close()
    assert [stands(engine, n) for n in range(3)] == [("cancelled", 1, 1), ("cancelled", 0, 0), ("running", 1, 1)]
    with engine.begin() as connection:
        kept = load(connection, "ep_1")
    assert kept is not None
    assert (kept.reason, kept.final, kept.failure, kept.head.touched_at) == ("closed", b"{}", b'{"code":"x"}', 9.0)


@pytest.mark.parametrize(
    "bad",
    [step(5, 1), step(999), step(3, 0), step(4), end(5, 1), end(999), end(4, 1)],
    ids=["ahead", "unknown", "twice", "ended", "end ahead", "end unknown", "end ended"],
)
def test_where_one_does_not_stand_none_is_written(engine: Engine, bad: Row) -> None:
    writer = StepWriter(engine)
    assert writer.write([step(4, ends=True)])
    assert not writer.write([*(step(n) for n in range(4)), bad])
    writer.close()
    assert {stands(engine, n) for n in (0, 1, 2, 3, 5)} == {("running", 0, 0)}
    assert stands(engine, 4) == ("completed", 1, 1)


def test_more_than_a_statement_takes_is_refused_and_nothing_written(engine: Engine) -> None:
    writer = StepWriter(engine)
    assert not writer.write([step(0, n) for n in range(3000)])
    writer.close()
    assert stands(engine, 0) == ("running", 0, 0)


def test_the_log_is_moved_and_begins_anew(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envs.server.journal_log._PAUSE_S", 0.01)
    monkeypatch.setattr("envs.server.journal_log._LONGEST", 50)
    log = tmp_path / "journal.sqlite-wal"
    writer = StepWriter(engine)
    for number in range(60):
        assert writer.write([step(n, number) for n in range(300)])
    unmoved = log.stat().st_size
    mover = LogMover(engine)
    for number in range(60, 240):
        assert writer.write([step(n, number) for n in range(300)])
        mover.wrote()
        time.sleep(0.01)
    mover.close()
    assert log.stat().st_size < 2 * unmoved, "without a mover it would be four times as long"
    writer.close()
    with engine.begin() as connection:
        found = head(connection, "ep_299")
    assert found is not None
    assert found.steps == 240


def test_processes_take_turns(tmp_path: Path) -> None:
    made, _ = open_database(f"sqlite:///{tmp_path / 'journal.sqlite'}", "the journal")
    turns = Turns(made)
    code = (
        "import sys; from envs.database import Turns, open_database\n"
        "turns = Turns(open_database(sys.argv[1], 'x')[0])\n"
        "print('asks', flush=True)\n"
        "with turns:\n    print('has it', flush=True)\n"
    )
    url = f"sqlite:///{tmp_path / 'journal.sqlite'}"
    with turns, subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "asks\n"
        time.sleep(0.2)
        assert other.poll() is None
        turns.__exit__()
        assert other.stdout.readline() == "has it\n"
    turns.close()
    made.dispose()


def test_other_databases_need_no_turns() -> None:
    made, _ = open_database("sqlite:///:memory:", "the journal")
    with Turns(made) as turn:
        assert turn is None
    assert not Turns(made).needed
    made.dispose()
