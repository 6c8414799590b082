"""TextWorld's worker processes: leased, reused, recycled, given up, never left behind. Needs the ``alfworld`` extra."""

from __future__ import annotations

import gc
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from alfworld_games import ALL_TASKS, generated_source, kitchen

from envs.alfworld.engine import Engine, GameSource
from envs.alfworld.textworld_engine import FAST_WORKER, TextWorldEngine
from envs.errors import BackendUnavailable, CapacityExceeded, ConfigError, TaskDataError

KITCHEN_GAME = kitchen()
KITCHEN = GameSource("kitchen", "kitchen", lambda: KITCHEN_GAME)
MEGABYTE = 1 << 20

pytestmark = [
    pytest.mark.textworld,
    pytest.mark.skipif(importlib.util.find_spec("textworld") is None, reason="the alfworld extra is not installed"),
]


def in_time(condition: Any, seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return bool(condition())


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def invisible_files(pid: int) -> set[str]:
    """Deleted files that a process still keeps on disk: mapped, or open."""
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    mapped = {line.split(maxsplit=5)[5] for line in maps if line.endswith("(deleted)")}
    opened = {os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir()}
    return mapped | {name for name in opened if name.endswith("(deleted)")}


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_workers_are_leased_reused_and_counted(fast: TextWorldEngine) -> None:
    source = generated_source(0, difficulty="easy")
    one, two = fast.open(source), fast.open(source)
    assert not fast.ready().ready
    with pytest.raises(CapacityExceeded):
        fast.open(source)
    pids = fast.worker_pids()
    one.close()
    one.close()
    three = fast.open(source)
    assert fast.worker_pids() == pids
    assert three.reset() == two.reset()
    three.close()
    two.close()
    with pytest.raises(BackendUnavailable, match="closed"):
        two.step("look")


def test_a_broken_game_is_a_task_error_and_leaves_the_engine_usable(fast: TextWorldEngine) -> None:
    broken = kitchen() | {"pddl_problem": "(define (problem x)"}
    with pytest.raises(TaskDataError, match=r"broken\.tw-pddl"):
        fast.open(GameSource("broken", "broken.tw-pddl", lambda: broken))
    session = fast.open(generated_source(0, difficulty="easy"))
    assert session.reset().startswith("-= Welcome")
    session.close()


@pytest.mark.parametrize("lost", ["pddl_domain", "grammar", "pddl_problem"])
def test_a_file_without_a_games_texts_starts_no_worker(lost: str) -> None:
    engine = TextWorldEngine(command=(sys.executable, "-c", "raise SystemExit('never started')"))
    source = GameSource("broken", "broken.tw-pddl", lambda: {**KITCHEN_GAME, lost: None})
    with pytest.raises(TaskDataError, match=rf"broken\.tw-pddl: not an ALFWorld game: '{lost}'"):
        engine.open(source)
    engine.close()


@pytest.mark.parametrize("said", ["hello", "[]", "3"])
def test_a_worker_that_says_what_is_no_answer_is_ended(said: str) -> None:
    code = f"import os, sys, time; print(os.getpid(), file=sys.stderr, flush=True); print('{said}'); time.sleep(60)"
    engine = TextWorldEngine(command=(sys.executable, "-u", "-c", code))
    with pytest.raises(BackendUnavailable, match="said what is no answer") as caught:
        engine.open(KITCHEN)
    assert not alive(int(caught.value.hint))
    assert engine.worker_pids() == []


def test_a_killed_worker_is_an_infrastructure_error_and_is_replaced() -> None:
    answer = '{"memory": 0, "text": "-= Welcome", "won": false, "admissible": []}'
    code = f"import sys; print('{answer}', flush=True)\nfor _ in sys.stdin: print('{answer}', flush=True)"
    engine = TextWorldEngine(max_workers=1, command=(sys.executable, "-c", code))
    session = engine.open(KITCHEN)
    session.reset()
    (pid,) = engine.worker_pids()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(BackendUnavailable, match=str(pid)):
        session.step("look")
    session.close()
    again = engine.open(KITCHEN)
    assert again.reset() == "-= Welcome"
    assert engine.worker_pids() != [pid]
    again.close()
    (pid,) = engine.worker_pids()
    os.kill(pid, signal.SIGKILL)  # while nobody uses it
    assert in_time(lambda: Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z")
    assert engine.open(KITCHEN).reset() == "-= Welcome"
    assert engine.worker_pids() != [pid]
    engine.close()
    assert engine.worker_pids() == []


def test_a_worker_that_has_grown_is_recycled_and_none_is_left_behind() -> None:
    """With a stand-in for the worker's program: what is under test is how processes are kept and ended."""
    answers = """import sys
print('{"memory": 0}', flush=True)
for _ in sys.stdin:
    print('{"memory": %d}', flush=True)"""
    for memory, kept in ((1 << 20, True), ((1 << 20) + 1, False)):
        engine = TextWorldEngine(max_workers=1, memory_limit_mb=1, command=(sys.executable, "-c", answers % memory))
        session = engine.open(KITCHEN)
        (pid,) = engine.worker_pids()
        session.close()
        assert engine.worker_pids() == ([pid] if kept else [])
        assert alive(pid) == kept
        session = engine.open(KITCHEN)
        (pid,) = engine.worker_pids()
        engine.close()
        engine.close()
        assert not alive(pid)
        session.close()
        with pytest.raises(BackendUnavailable, match="closed"):
            engine.open(KITCHEN)


def test_a_silent_worker_is_given_up() -> None:
    engine: Engine = TextWorldEngine(command=(sys.executable, "-c", "import time; time.sleep(60)"), timeout_s=0.5)
    with pytest.raises(BackendUnavailable, match="no answer"):
        engine.open(KITCHEN)
    engine.close()


def test_a_worker_that_cannot_start_says_why() -> None:
    engine = TextWorldEngine(command=(sys.executable, "-c", "raise SystemExit('no planner here')"))
    with pytest.raises(BackendUnavailable, match="died") as caught:
        engine.open(KITCHEN)
    assert "no planner here" in caught.value.hint
    engine.close()


def test_a_worker_ends_when_its_parent_does(tmp_path: Path, repo_root: Path) -> None:
    code = (
        "import os, sys; from envs.alfworld.textworld_engine import TextWorldEngine as T;"
        "from envs.alfworld.engine import GameSource; from envs.alfworld.generator import generate;"
        "g = generate(0, difficulty='easy'); e = T(command=sys.argv[1:]); e.open(GameSource('g', 'g', lambda: g.data));"
        "print(e.worker_pids()[0], flush=True); os._exit(9)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, *FAST_WORKER],
        cwd=repo_root,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 9, run.stderr
    assert in_time(lambda: not alive(int(run.stdout)))
    assert list(tmp_path.iterdir()) == []


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError):
        TextWorldEngine(max_workers=0)


def test_a_stopped_worker_is_given_up_even_in_the_middle_of_a_long_command() -> None:
    """A pipe holds 64 KB: writing a megabyte to a process that reads only its beginning must not wait for ever."""
    code = (
        "import os, time; print('{}', flush=True); input(); print('{}', flush=True);"
        "time.sleep(0.1); os.read(0, 8192); time.sleep(60)"
    )
    engine = TextWorldEngine(command=(sys.executable, "-c", code), timeout_s=0.5)
    session = engine.open(KITCHEN)
    with pytest.raises(BackendUnavailable, match=r"no answer within 0\.5 s"):
        session.step("x" * MEGABYTE)
    assert engine.worker_pids() == []
    engine.close()


def test_half_an_answer_is_given_up() -> None:
    code = "import time; print('{\"memory\"', end='', flush=True); time.sleep(60)"
    engine = TextWorldEngine(command=(sys.executable, "-c", code), timeout_s=0.5)
    with pytest.raises(BackendUnavailable, match="no answer"):
        engine.open(KITCHEN)
    engine.close()


def test_an_answer_in_pieces_is_put_together() -> None:
    code = """import sys, time
for piece in ('{"mem', 'ory": 0, "text": "', 'x' * 300_000, '"}\\n'):
    print(piece, end='', flush=True); time.sleep(0.01)
for _ in sys.stdin:
    print('{"memory": 0, "text": "' + 'y' * 300_000 + '", "won": false, "admissible": []}', flush=True)"""
    engine = TextWorldEngine(command=(sys.executable, "-c", code))
    session = engine.open(KITCHEN)
    assert session.step("look")[0] == "y" * 300_000
    session.close()
    engine.close()


def test_closing_the_engine_frees_who_waits_for_an_answer() -> None:
    code = "print('{}', flush=True); input(); print('{}', flush=True); import time; time.sleep(60)"
    engine = TextWorldEngine(command=(sys.executable, "-c", code), timeout_s=50)
    session = engine.open(KITCHEN)
    failures: list[str] = []

    def wait() -> None:
        try:
            session.step("look")
        except BackendUnavailable as error:
            failures.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.3)
    engine.close()
    thread.join(timeout=20)
    assert not thread.is_alive()
    assert len(failures) == 1


def test_a_program_that_is_not_there_is_an_infrastructure_error() -> None:
    engine = TextWorldEngine(command=("/no/such/program",))
    with pytest.raises(BackendUnavailable, match="/no/such/program"):
        engine.open(KITCHEN)
    assert engine.ready().ready
    engine.close()


@pytest.mark.slow
def test_a_real_worker_above_the_limit_is_replaced_after_its_episode() -> None:
    engine = TextWorldEngine(max_workers=1, memory_limit_mb=1, command=FAST_WORKER)
    session = engine.open(KITCHEN)
    (pid,) = engine.worker_pids()
    session.reset()
    assert session.step("look")[0].startswith("You are in the middle of a room.")  # never in mid-episode
    assert engine.worker_pids() == [pid]
    session.close()
    assert not alive(pid)
    assert engine.worker_pids() == []
    again = engine.open(KITCHEN)
    assert again.reset().startswith("-= Welcome")
    again.close()
    engine.close()


def test_fifty_episodes_leave_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """TextWorld keeps 32 MB of invisible disk and 1 MB of memory for every environment: here there is only one."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    gc.collect()
    before = descriptors(os.getpid())
    engine = TextWorldEngine(max_workers=1, command=FAST_WORKER)
    games = [kitchen(task, dialect=dialect) for task in ALL_TASKS for dialect in ("0.2", "0.4")]
    seen: list[tuple[int, set[str], int, int]] = []
    for number in range(50):
        game = games[number % len(games)]
        session = engine.open(GameSource(f"{number}", f"{number}", lambda game=game: game))  # type: ignore[misc]
        session.reset()
        for command in ("look", "go to countertop 1", "take mug 1 from countertop 1"):
            session.step(command)
        session.close()
        (pid,) = engine.worker_pids()
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        seen.append((pid, invisible_files(pid), descriptors(pid), sum(path.stat().st_size for path in files)))
    assert len({pid for pid, _, _, _ in seen}) == 1
    # One library on disk, unlinked and mapped, and the log: as many after fifty episodes as after one.
    assert all(files == seen[0][1] and count == seen[0][2] for _, files, count, _ in seen)
    assert len([name for name in seen[0][1] if "libdownward" in name]) == 1
    assert {size for _, _, _, size in seen} == {0}
    assert resident_bytes(pid) < 600 * MEGABYTE
    engine.close()
    assert not alive(pid)
    assert list(tmp_path.iterdir()) == []
    assert descriptors(os.getpid()) == before


@pytest.mark.skipif(sys.platform != "linux", reason="stops a process while it starts")
def test_a_worker_killed_while_it_starts_leaves_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """TextWorld's copy of its library lies open on disk for a moment: whoever ends a worker then must remove it."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    code = (
        "import tempfile, pathlib, time; folder = pathlib.Path(tempfile.mkdtemp());"
        "(folder / 'libdownward.so').write_bytes(b'x'); print(end='', flush=True); time.sleep(60)"
    )
    engine = TextWorldEngine(command=(sys.executable, "-c", code), timeout_s=1.0)
    with pytest.raises(BackendUnavailable):
        engine.open(KITCHEN)
    engine.close()
    assert list(tmp_path.iterdir()) == []
