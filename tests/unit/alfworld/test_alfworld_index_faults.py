"""An index that is broken, foreign, out of date or nowhere to be written: it is made again, and said."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from indexed_games import index_file, listed, make, trials

from envs.alfworld import index as index_module
from envs.alfworld import official
from envs.alfworld.lists import AGENTBENCH_LISTS
from envs.alfworld.native_engine import NativeEngine
from envs.errors import TaskDataError


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
    old_games: Path, index_dir: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    before = listed(old_games, index_dir)
    damage(index_file(index_dir))
    assert listed(old_games, index_dir) == before
    assert "the index is broken" in caplog.text
    assert "built anew" in caplog.text
    caplog.clear()
    assert listed(old_games, index_dir) == before
    assert caplog.text == ""


@pytest.mark.parametrize("damage", [lose_a_table, lose_the_version])
def test_a_foreign_index_is_built_anew(
    old_games: Path, index_dir: Path, damage: Callable[[Path], None], reads: list[str]
) -> None:
    before = listed(old_games, index_dir)
    damage(index_file(index_dir))
    reads.clear()
    assert listed(old_games, index_dir) == before
    assert len(reads) == 11


def test_an_index_of_another_version_is_built_anew(
    old_games: Path,
    index_dir: Path,
    reads: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(index_module, "INDEX_VERSION", "0.1")
    before = listed(old_games, index_dir)
    monkeypatch.undo()
    read = official.OfficialGames._read
    again: list[str] = []
    monkeypatch.setattr(
        official.OfficialGames, "_read", lambda self, split, name: (again.append(name), read(self, split, name))[1]
    )
    assert listed(old_games, index_dir) == before
    assert len(again) == 11
    assert "an index of version 0.1: it is built anew as" in caplog.text


def test_a_damaged_packed_game_is_made_again(
    old_games: Path, index_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = make(old_games, index_dir)
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


def test_a_row_that_lies_is_found_out_when_its_game_is_opened(old_games: Path, index_dir: Path) -> None:
    sound = make(old_games, index_dir).page("train").tasks[0]
    with sqlite3.connect(index_file(index_dir)) as connection:
        connection.execute("UPDATE games SET content_hash = ? WHERE name = ?", ("0" * 64, sound.id.partition("/")[2]))
    connection.close()
    tasks = make(old_games, index_dir)
    source = tasks.source(tasks.task(sound.id))
    assert source.content_hash == "0" * 64
    with pytest.raises(TaskDataError, match="changed while it was being opened"):
        NativeEngine().open(source)
    assert tasks.task(sound.id) == sound
    assert NativeEngine().open(tasks.source(sound)).reset()


@pytest.mark.parametrize("how", ["no folder", "no file", "read only"])
def test_where_nothing_can_be_written_the_index_is_in_memory(
    old_games: Path, index_dir: Path, how: str, caplog: pytest.LogCaptureFixture, reads: list[str]
) -> None:
    tasks = make(old_games, index_dir)
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


@pytest.mark.parametrize("content", [b"[" * 200_000, b'{"a":' * 200_000, b"[]", b"null", b"{}", b"\xff", b"1" * 5000])
def test_a_file_that_is_no_game_takes_no_other_with_it(old_games: Path, index_dir: Path, content: bytes) -> None:
    """Also one that AgentBench's list names, which no filter of alfworld's may leave out."""
    sound = trials(old_games)[0]
    name = AGENTBENCH_LISTS["agentbench_standard"].games()[0].name
    for split, names in {"train": (name,), "valid_unseen": (name, "pick_and_place_simple-A-B-C-1/trial_1")}.items():
        for place in names:
            trial = old_games / "json_2.1.1" / split / place
            trial.mkdir(parents=True)
            (trial / "game.tw-pddl").write_bytes(content)
            (trial / "traj_data.json").write_text("{}")
    tasks = make(old_games, index_dir)
    assert f"train/{sound.parent.name}/{sound.name}" in {task.id for task in tasks.page("train").tasks}
    assert tasks.page("train").total == 8
    found = {files.split: files for files in tasks.build_index()}
    assert name in found["agentbench_standard"].refused
    assert "game" in found["agentbench_standard"].refused[name]
    with pytest.raises(TaskDataError):
        tasks.task(f"agentbench_standard/{name}")


def test_a_folder_whose_name_is_no_text_is_no_task(old_games: Path, index_dir: Path) -> None:
    before = listed(old_games, index_dir)
    trial = trials(old_games)[0]
    os.rename(os.fsencode(trial), os.fsencode(trial.parent) + b"/trial_\xff")
    left = listed(old_games, index_dir)
    assert [task for task in before if not task.id.endswith(f"/{trial.name}")] == list(left)
    assert len(left) == len(before) - 1


def test_games_that_come_are_seen_beside_a_link_to_nothing(old_games: Path, index_dir: Path, tmp_path: Path) -> None:
    folder = old_games / "json_2.1.1" / "train"
    (folder / "pick_and_place_simple-Gone-None-Shelf-1").symlink_to(tmp_path / "nowhere")
    task = trials(old_games)[0].parent
    task.rename(tmp_path / task.name)
    tasks = make(old_games, index_dir)
    few = tasks.page("train").total
    (tmp_path / task.name).rename(task)
    assert few is not None
    assert few < 8
    assert tasks.page("train").total == 8
