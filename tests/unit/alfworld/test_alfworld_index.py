"""The index of official games: what it saves, when it is trusted, and what becomes of one that is broken."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from envs.alfworld import index as index_module
from envs.alfworld import official
from envs.alfworld.export import write_generated_games
from envs.alfworld.family import AlfworldFamily
from envs.alfworld.game import load_game
from envs.alfworld.native_engine import NativeEngine
from envs.alfworld.tasks import Tasks
from envs.errors import TaskDataError, UnknownTask
from envs.registry import ALFWORLD
from envs.types import Task

LONG_AGO_NS = 1_600_000_000_000_000_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Official layout, made of generated games: 8 of train and 3 of valid_seen."""
    root = tmp_path_factory.mktemp("alfworld")
    write_generated_games(root, 8, difficulty="easy")
    write_generated_games(root, 3, first_seed=50, difficulty="easy", split="valid_seen")
    return root


@pytest.fixture
def data_dir(made: Path, tmp_path: Path) -> Path:
    """A copy to change, old enough for its times to be trusted."""
    root = tmp_path / "data"
    shutil.copytree(made, root)
    age(root)
    return root


@pytest.fixture
def index_dir(tmp_path: Path) -> Path:
    return tmp_path / "index"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the games that are read from their files."""
    seen: list[str] = []
    read = official.OfficialGames._read

    def count(self: official.OfficialGames, split: str, name: str):
        seen.append(name)
        return read(self, split, name)

    monkeypatch.setattr(official.OfficialGames, "_read", count)
    return seen


def age(root: Path) -> None:
    for path in (root, *root.rglob("*")):
        os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))


def make(data_dir: Path, index_dir: Path, **how) -> Tasks:
    return Tasks("alfworld", ALFWORLD.task_types, data_dir, index_dir=index_dir, **how)


def listed(data_dir: Path, index_dir: Path) -> tuple[Task, ...]:
    """What a new process would list."""
    tasks = make(data_dir, index_dir)
    found = (*tasks.page("train").tasks, *tasks.page("valid_seen").tasks)
    tasks.close()
    return found


def trials(data_dir: Path, split: str = "train") -> list[Path]:
    return sorted((data_dir / "json_2.1.1" / split).glob("*/*"))


def index_file(index_dir: Path) -> Path:
    (path,) = index_dir.glob("*.sqlite3")
    return path


def test_a_built_index_spares_every_read(data_dir: Path, index_dir: Path, reads: list[str]) -> None:
    before = listed(data_dir, index_dir)
    assert sorted(reads) == sorted(task.id.partition("/")[2] for task in before)
    reads.clear()
    assert listed(data_dir, index_dir) == before
    assert reads == []
    for task in before:
        path = data_dir / "json_2.1.1" / task.id / "game.tw-pddl"
        game = load_game(path)
        assert task.metadata["plan_length"] == len(json.loads(path.read_text())["walkthrough"])
        assert NativeEngine().game(make(data_dir, index_dir).source(task)).names == game.names


def test_a_game_is_opened_without_its_file(data_dir: Path, index_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed(data_dir, index_dir)
    monkeypatch.setattr(official, "read_game_file", None)
    monkeypatch.setattr(official, "parse_game", None)
    family = AlfworldFamily(ALFWORLD, data_dir=data_dir, index_dir=index_dir)
    for task in family.tasks("train").tasks:
        env = family.make()
        env.reset(task)
        reward = 0.0
        while (action := env.expert_action()) is not None:
            reward = env.step(action).reward
        assert reward == 1.0
    family.close()


def test_the_index_lies_where_caches_lie(
    data_dir: Path, cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert index_module.default_index_dir() == cache_dir / "alfworld"
    monkeypatch.delenv("ENVLOOP_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    tasks = Tasks("alfworld", ALFWORLD.task_types, data_dir)
    tasks.build_index()
    assert tasks.index_path == index_file(tmp_path / "xdg" / "envloop" / "alfworld")
    assert [path.name for path in data_dir.iterdir()] == ["json_2.1.1"]
    other = Tasks("alfworld", ALFWORLD.task_types, shutil.copytree(data_dir, tmp_path / "other"))
    other.build_index()
    assert other.index_path != tasks.index_path


# Freshness


@pytest.mark.parametrize("running", [False, True])
def test_a_changed_file_is_read_anew(data_dir: Path, index_dir: Path, reads: list[str], running: bool) -> None:
    """Another size, or the same size at another time; in a new process and in one that runs on."""
    tasks = make(data_dir, index_dir)
    first, second, *rest = tasks.page("train").tasks
    engine = NativeEngine()
    for task, change in (
        (first, lambda text: text + " "),
        (second, lambda text: text.replace("Your task", "Your TASK")),
    ):
        path = data_dir / "json_2.1.1" / task.id / "game.tw-pddl"
        path.write_text(change(path.read_text()))
        os.utime(path, ns=(LONG_AGO_NS + 1, LONG_AGO_NS + 1))
    reads.clear()
    if not running:
        tasks = make(data_dir, index_dir)
    assert tasks.task(first.id).content_hash != first.content_hash
    page = tasks.page("train")
    assert [task.id for task in page.tasks] == [first.id, *(task.id for task in rest)]  # the second is broken now
    assert list(page.tasks[1:]) == rest
    assert sorted(reads) == sorted(task.id.partition("/")[2] for task in (first, second))
    source = tasks.source(page.tasks[0])
    assert source.content_hash == page.tasks[0].content_hash
    assert source.load_packed is not None
    assert engine.open(source).reset()
    with pytest.raises(TaskDataError, match="grammar"):
        tasks.task(second.id)


def test_games_that_come_and_go_are_noticed(data_dir: Path, index_dir: Path) -> None:
    tasks = make(data_dir, index_dir)
    before = tasks.page("train").tasks
    shutil.move(trials(data_dir)[0], data_dir / "json_2.1.1" / "valid_seen" / "pick_and_place_simple-A-None-B-1" / "t1")
    assert [task.id for task in tasks.page("train").tasks] == [task.id for task in before[1:]]
    assert "valid_seen/pick_and_place_simple-A-None-B-1/t1" in [task.id for task in tasks.page("valid_seen").tasks]
    assert [task.id for task in listed(data_dir, index_dir)] == [
        *(task.id for task in before[1:]),
        *(task.id for task in tasks.page("valid_seen").tasks),
    ]
    with pytest.raises(UnknownTask):
        tasks.task(before[0].id)
    shutil.rmtree(trials(data_dir)[0])
    with pytest.raises(UnknownTask):
        tasks.task(before[1].id)
    assert tasks.page("train").total == 6


def test_a_game_that_is_added_to_its_trial_is_noticed(data_dir: Path, index_dir: Path) -> None:
    """As when the trajectories are unpacked first and the games later: no task's folder changes."""
    kept = {trial: (trial / "game.tw-pddl").read_bytes() for trial in trials(data_dir)}
    for trial in kept:
        (trial / "game.tw-pddl").unlink()
    age(data_dir)
    tasks = make(data_dir, index_dir)
    assert "train" not in [split.name for split in tasks.splits()]
    for trial, content in kept.items():
        (trial / "game.tw-pddl").write_bytes(content)
    assert tasks.page("train").total == 8
    assert len(listed(data_dir, index_dir)) == 11


def test_a_game_that_is_mended_is_noticed(data_dir: Path, index_dir: Path) -> None:
    path = trials(data_dir)[0] / "game.tw-pddl"
    sound = path.read_bytes()
    path.write_bytes(sound.replace(b"(define", b"(((define"))
    tasks = make(data_dir, index_dir)
    assert tasks.page("train").total == 7
    path.write_bytes(sound)
    assert tasks.page("train").total == 8


def test_a_file_of_this_very_moment_is_not_trusted(data_dir: Path, index_dir: Path, reads: list[str]) -> None:
    """It may be written again within the same tick of its clock: with the same size and the same time."""
    tasks = make(data_dir, index_dir)
    path = trials(data_dir)[0] / "game.tw-pddl"
    for old, new in ((b"Your task is", b"Your taSk is"), (b"Your taSk is", b"Your task is")):
        path.write_bytes(path.read_bytes().replace(old, new))
        stat = path.stat()
        assert tasks.page("train").total == (7 if new == b"Your taSk is" else 8)
    path.write_bytes(path.read_bytes().replace(b"Your task is", b"Your tasK is"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert tasks.page("train").total == 7


def test_what_alfworld_would_leave_out_is_read_when_it_changes(data_dir: Path, index_dir: Path) -> None:
    path = trials(data_dir)[0] / "game.tw-pddl"
    game = json.loads(path.read_text())
    path.write_text(json.dumps(game | {"solvable": False}))
    tasks = make(data_dir, index_dir)
    assert tasks.page("train").total == 7
    path.write_text(json.dumps(game))
    (train,) = [files for files in tasks.build_index() if files.split == "train"]
    assert (train.num_games, train.skipped) == (8, {})


# Building


def test_an_interrupted_build_goes_on(
    data_dir: Path, index_dir: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(official, "_CHUNK", 3)
    told: list[tuple[str, int, int]] = []

    def interrupt(split: str, read: int, total: int) -> None:
        told.append((split, read, total))
        if read >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(data_dir, index_dir).build_index(interrupt)
    assert told == [("train", 3, 8), ("train", 6, 8)]
    assert len(reads) == 6
    tasks = make(data_dir, index_dir)
    tasks.build_index(lambda split, read, total: told.append((split, read, total)))
    assert told[2:] == [("train", 2, 2), ("valid_seen", 3, 3)]
    assert len(reads) == len(set(reads)) == 11


def test_a_build_takes_over_what_another_has_read(
    data_dir: Path, index_dir: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(official, "_CHUNK", 2)
    other = make(data_dir, index_dir)

    def meanwhile(split: str, read: int, total: int) -> None:
        if (split, read) == ("train", 2):
            other.build_index()

    files = make(data_dir, index_dir).build_index(meanwhile)
    assert [found.num_games for found in files[:2]] == [8, 3]
    assert len(reads) == len(set(reads)) == 11


def test_packed_games_of_files_that_are_gone_are_dropped(data_dir: Path, index_dir: Path) -> None:
    listed(data_dir, index_dir)
    shutil.rmtree(trials(data_dir)[0])
    (trials(data_dir)[0] / "game.tw-pddl").write_text("{}")
    age(data_dir)
    for trial in trials(data_dir):
        os.utime(trial.parent, ns=(LONG_AGO_NS + 5, LONG_AGO_NS + 5))
    assert len(listed(data_dir, index_dir)) == 9
    with sqlite3.connect(index_file(index_dir)) as connection:
        assert connection.execute("SELECT count(*) FROM packed").fetchone() == (9,)
    connection.close()


def test_processes_build_together(data_dir: Path, index_dir: Path, tmp_path: Path) -> None:
    code = (
        "import sys, json; from envs.alfworld import official; official._CHUNK = 1\n"
        "from envs.alfworld.tasks import Tasks; from envs.registry import ALFWORLD\n"
        "tasks = Tasks('alfworld', ALFWORLD.task_types, sys.argv[1], index_dir=sys.argv[2])\n"
        "sys.stdin.readline()\n"
        "tasks.build_index()\n"
        "print(json.dumps([[t.id, t.content_hash, dict(t.metadata)] for t in tasks.page('train').tasks]))\n"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(data_dir), str(index_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in running:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60) for process in running]
    assert [(process.returncode, err) for process, (_, err) in zip(running, outputs, strict=True)] == [(0, "")] * 3
    expected = [
        [task.id, task.content_hash, dict(task.metadata)]
        for task in make(data_dir, tmp_path / "own").page("train").tasks
    ]
    assert all(json.loads(out) == expected for out, _ in outputs)
    assert len(listed(data_dir, index_dir)) == 11


def test_a_child_of_a_process_has_a_connection_of_its_own(data_dir: Path, index_dir: Path) -> None:
    games = official.OfficialGames(data_dir / "json_2.1.1", ALFWORLD.task_types, index_dir=index_dir)
    games.games("train")
    mine = games.index._connection
    games.index._pid = -1  # as after a fork: the connection is another process's
    _, entries = games.index.load("train")
    assert len(entries) == 8
    assert games.index._connection is not mine
    assert mine is not None
    mine.close()


# What becomes of a broken index


def overwrite(path: Path) -> None:
    path.write_bytes(b"no database at all " * 500)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def scratch(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 8192))


def lose_a_table(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE games")
    connection.close()


def lose_the_version(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM meta")
    connection.close()


@pytest.mark.parametrize("damage", [overwrite, cut, scratch])
def test_a_broken_index_is_built_anew(
    data_dir: Path, index_dir: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    before = listed(data_dir, index_dir)
    damage(index_file(index_dir))
    assert listed(data_dir, index_dir) == before
    assert "the index is broken" in caplog.text
    assert "built anew" in caplog.text
    caplog.clear()
    assert listed(data_dir, index_dir) == before
    assert caplog.text == ""


@pytest.mark.parametrize("damage", [lose_a_table, lose_the_version])
def test_a_foreign_index_is_built_anew(
    data_dir: Path, index_dir: Path, damage: Callable[[Path], None], reads: list[str]
) -> None:
    before = listed(data_dir, index_dir)
    damage(index_file(index_dir))
    reads.clear()
    assert listed(data_dir, index_dir) == before
    assert len(reads) == 11


def test_an_index_of_another_version_is_built_anew(
    data_dir: Path,
    index_dir: Path,
    reads: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(index_module, "INDEX_VERSION", "0.1")
    before = listed(data_dir, index_dir)
    monkeypatch.undo()
    read = official.OfficialGames._read
    again: list[str] = []
    monkeypatch.setattr(
        official.OfficialGames, "_read", lambda self, split, name: (again.append(name), read(self, split, name))[1]
    )
    assert listed(data_dir, index_dir) == before
    assert len(again) == 11
    assert "an index of version 0.1: it is built anew as" in caplog.text


def test_a_damaged_packed_game_is_made_again(data_dir: Path, index_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    tasks = make(data_dir, index_dir)
    task = tasks.page("train").tasks[0]
    source = tasks.source(task)
    assert source.load_packed is not None
    sound = source.load_packed()
    with sqlite3.connect(index_file(index_dir)) as connection:
        connection.execute("UPDATE packed SET game = ? WHERE content_hash = ?", (sound[:-9], task.content_hash))
    connection.close()
    assert source.load_packed() == sound
    assert "is damaged" in caplog.text
    caplog.clear()
    assert source.load_packed() == sound
    assert caplog.text == ""


def test_a_row_that_lies_is_found_out_when_its_game_is_opened(data_dir: Path, index_dir: Path) -> None:
    sound = make(data_dir, index_dir).page("train").tasks[0]
    with sqlite3.connect(index_file(index_dir)) as connection:
        connection.execute("UPDATE games SET content_hash = ? WHERE name = ?", ("0" * 64, sound.id.partition("/")[2]))
    connection.close()
    tasks = make(data_dir, index_dir)
    source = tasks.source(tasks.task(sound.id))
    assert source.content_hash == "0" * 64
    with pytest.raises(TaskDataError, match="changed while it was being opened"):
        NativeEngine().open(source)
    assert tasks.task(sound.id) == sound
    assert NativeEngine().open(tasks.source(sound)).reset()


@pytest.mark.parametrize("how", ["no folder", "no file", "read only"])
def test_where_nothing_can_be_written_the_index_is_in_memory(
    data_dir: Path, index_dir: Path, how: str, caplog: pytest.LogCaptureFixture, reads: list[str]
) -> None:
    tasks = make(data_dir, index_dir)
    if how == "no folder":
        index_dir.write_text("a file, no folder")
    elif how == "no file":
        tasks._official.index.path.mkdir(parents=True)
    else:
        tasks.page("valid_seen")
        connection = tasks._official.index._connection
        assert connection is not None
        connection.execute("PRAGMA query_only = ON")  # a right that root does not lack either
    assert tasks.page("train").total == 8
    assert tasks.page("valid_seen").total == 3
    assert tasks.index_path is None
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "the index cannot be written" in warnings[0]
    assert "ENVLOOP_CACHE_DIR" in warnings[0]
    assert len(reads) == 11
    source = tasks.source(tasks.page("train").tasks[0])
    assert source.load_packed is not None
    assert NativeEngine().open(source).reset()
    tasks.close()
