"""The index of official games: what it saves, when it is trusted, and what becomes of one that is broken."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from indexed_games import LONG_AGO_NS, age, index_file, listed, make, trials

from envs.alfworld import index as index_module
from envs.alfworld import official
from envs.alfworld.family import AlfworldFamily
from envs.alfworld.game import load_game
from envs.alfworld.native_engine import NativeEngine
from envs.alfworld.tasks import Tasks
from envs.errors import TaskDataError, UnknownTask
from envs.registry import ALFWORLD


def test_a_built_index_spares_every_read(old_games: Path, index_dir: Path, reads: list[str]) -> None:
    before = listed(old_games, index_dir)
    assert sorted(reads) == sorted(task.id.partition("/")[2] for task in before)
    reads.clear()
    assert listed(old_games, index_dir) == before
    assert reads == []
    for task in before:
        path = old_games / "json_2.1.1" / task.id / "game.tw-pddl"
        game = load_game(path)
        assert task.metadata["plan_length"] == len(json.loads(path.read_text())["walkthrough"])
        assert NativeEngine().game(make(old_games, index_dir).source(task)).names == game.names


def test_a_game_is_opened_without_its_file(old_games: Path, index_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed(old_games, index_dir)
    monkeypatch.setattr(official, "read_game_file", None)
    monkeypatch.setattr(official, "parse_game", None)
    family = AlfworldFamily(ALFWORLD, data_dir=old_games, index_dir=index_dir)
    for task in family.tasks("train").tasks:
        env = family.make()
        env.reset(task)
        reward = 0.0
        while (action := env.expert_action()) is not None:
            reward = env.step(action).reward
        assert reward == 1.0
    family.close()


def test_the_index_lies_where_caches_lie(
    old_games: Path, cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert index_module.default_index_dir() == cache_dir / "alfworld"
    monkeypatch.delenv("ENVLOOP_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    tasks = Tasks("alfworld", ALFWORLD.task_types, old_games)
    tasks.build_index()
    assert tasks.index_path == index_file(tmp_path / "xdg" / "envloop" / "alfworld")
    assert [path.name for path in old_games.iterdir()] == ["json_2.1.1"]
    other = Tasks("alfworld", ALFWORLD.task_types, shutil.copytree(old_games, tmp_path / "other"))
    other.build_index()
    assert other.index_path != tasks.index_path


# Freshness


@pytest.mark.parametrize("running", [False, True])
def test_a_changed_file_is_read_anew(old_games: Path, index_dir: Path, reads: list[str], running: bool) -> None:
    """Another size, or the same size at another time; in a new process and in one that runs on."""
    tasks = make(old_games, index_dir)
    first, second, *rest = tasks.page("train").tasks
    engine = NativeEngine()
    for task, change in (
        (first, lambda text: text + " "),
        (second, lambda text: text.replace("Your task", "Your TASK")),
    ):
        path = old_games / "json_2.1.1" / task.id / "game.tw-pddl"
        path.write_text(change(path.read_text()))
        os.utime(path, ns=(LONG_AGO_NS + 1, LONG_AGO_NS + 1))
    reads.clear()
    if not running:
        tasks = make(old_games, index_dir)
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


def test_games_that_come_and_go_are_noticed(old_games: Path, index_dir: Path) -> None:
    tasks = make(old_games, index_dir)
    before = tasks.page("train").tasks
    shutil.move(
        trials(old_games)[0], old_games / "json_2.1.1" / "valid_seen" / "pick_and_place_simple-A-None-B-1" / "t1"
    )
    assert [task.id for task in tasks.page("train").tasks] == [task.id for task in before[1:]]
    assert "valid_seen/pick_and_place_simple-A-None-B-1/t1" in [task.id for task in tasks.page("valid_seen").tasks]
    assert [task.id for task in listed(old_games, index_dir)] == [
        *(task.id for task in before[1:]),
        *(task.id for task in tasks.page("valid_seen").tasks),
    ]
    with pytest.raises(UnknownTask):
        tasks.task(before[0].id)
    shutil.rmtree(trials(old_games)[0])
    with pytest.raises(UnknownTask):
        tasks.task(before[1].id)
    assert tasks.page("train").total == 6


def test_a_game_that_is_added_to_its_trial_is_noticed(old_games: Path, index_dir: Path) -> None:
    """As when the trajectories are unpacked first and the games later: no task's folder changes."""
    kept = {trial: (trial / "game.tw-pddl").read_bytes() for trial in trials(old_games)}
    for trial in kept:
        (trial / "game.tw-pddl").unlink()
    age(old_games)
    tasks = make(old_games, index_dir)
    assert "train" not in [split.name for split in tasks.splits()]
    for trial, content in kept.items():
        (trial / "game.tw-pddl").write_bytes(content)
    assert tasks.page("train").total == 8
    assert len(listed(old_games, index_dir)) == 11


def test_a_game_that_is_mended_is_noticed(old_games: Path, index_dir: Path) -> None:
    path = trials(old_games)[0] / "game.tw-pddl"
    sound = path.read_bytes()
    path.write_bytes(sound.replace(b"(define", b"(((define"))
    tasks = make(old_games, index_dir)
    assert tasks.page("train").total == 7
    path.write_bytes(sound)
    assert tasks.page("train").total == 8


def test_a_file_of_this_very_moment_is_not_trusted(old_games: Path, index_dir: Path, reads: list[str]) -> None:
    """It may be written again within the same tick of its clock: with the same size and the same time."""
    tasks = make(old_games, index_dir)
    path = trials(old_games)[0] / "game.tw-pddl"
    for old, new in ((b"Your task is", b"Your taSk is"), (b"Your taSk is", b"Your task is")):
        path.write_bytes(path.read_bytes().replace(old, new))
        stat = path.stat()
        assert tasks.page("train").total == (7 if new == b"Your taSk is" else 8)
    path.write_bytes(path.read_bytes().replace(b"Your task is", b"Your tasK is"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert tasks.page("train").total == 7


def test_what_alfworld_would_leave_out_is_read_when_it_changes(old_games: Path, index_dir: Path) -> None:
    path = trials(old_games)[0] / "game.tw-pddl"
    game = json.loads(path.read_text())
    path.write_text(json.dumps(game | {"solvable": False}))
    tasks = make(old_games, index_dir)
    assert tasks.page("train").total == 7
    path.write_text(json.dumps(game))
    (train,) = [files for files in tasks.build_index() if files.split == "train"]
    assert (train.num_games, train.skipped) == (8, {})


# Building


def test_an_interrupted_build_goes_on(
    old_games: Path, index_dir: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(official, "_CHUNK", 3)
    told: list[tuple[str, int, int]] = []

    def interrupt(split: str, read: int, total: int) -> None:
        told.append((split, read, total))
        if read >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(old_games, index_dir).build_index(interrupt)
    assert told == [("train", 3, 8), ("train", 6, 8)]
    assert len(reads) == 6
    tasks = make(old_games, index_dir)
    tasks.build_index(lambda split, read, total: told.append((split, read, total)))
    assert told[2:] == [("train", 2, 2), ("valid_seen", 3, 3)]
    assert len(reads) == len(set(reads)) == 11


def test_a_build_takes_over_what_another_has_read(
    old_games: Path, index_dir: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(official, "_CHUNK", 2)
    other = make(old_games, index_dir)

    def meanwhile(split: str, read: int, total: int) -> None:
        if (split, read) == ("train", 2):
            other.build_index()

    files = make(old_games, index_dir).build_index(meanwhile)
    assert [found.num_games for found in files[:2]] == [8, 3]
    assert len(reads) == len(set(reads)) == 11


def test_packed_games_of_files_that_are_gone_are_dropped(old_games: Path, index_dir: Path) -> None:
    listed(old_games, index_dir)
    shutil.rmtree(trials(old_games)[0])
    (trials(old_games)[0] / "game.tw-pddl").write_text("{}")
    age(old_games)
    for trial in trials(old_games):
        os.utime(trial.parent, ns=(LONG_AGO_NS + 5, LONG_AGO_NS + 5))
    assert len(listed(old_games, index_dir)) == 9
    with sqlite3.connect(index_file(index_dir)) as connection:
        assert connection.execute("SELECT count(*) FROM packed").fetchone() == (9,)
    connection.close()


def test_processes_build_together(old_games: Path, index_dir: Path, tmp_path: Path) -> None:
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
            [sys.executable, "-c", code, str(old_games), str(index_dir)],
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
        for task in make(old_games, tmp_path / "own").page("train").tasks
    ]
    assert all(json.loads(out) == expected for out, _ in outputs)
    assert len(listed(old_games, index_dir)) == 11


def test_a_child_of_a_process_has_a_connection_of_its_own(old_games: Path, index_dir: Path) -> None:
    games = official.OfficialGames(old_games / "json_2.1.1", ALFWORLD.task_types, index_dir=index_dir)
    games.games("train")
    mine = games.index._connection
    games.index._pid = -1  # as after a fork: the connection is another process's
    _, entries = games.index.load("train")
    assert len(entries) == 8
    assert games.index._connection is not mine
    assert mine is not None
    mine.close()
