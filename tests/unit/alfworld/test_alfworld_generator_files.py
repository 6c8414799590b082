"""Generated games as files: the layout, what happens on the second call, and the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import envs.alfworld.export as export
from envs.alfworld.export import write_generated_games
from envs.alfworld.game import load_game, parse_game
from envs.alfworld.generator import generate
from envs.alfworld.native_engine import NativeEngine
from envs.alfworld.packed import pack_game
from envs.alfworld.tasks import Tasks
from envs.commands import app
from envs.errors import ConfigError, EnvloopError, InvalidOption, UnknownTaskType
from envs.registry import ALFWORLD


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_are_written_in_the_official_layout(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    written = write_generated_games(tmp_path, 3, first_seed=5, difficulty="easy", progress=lambda *at: seen.append(at))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert len(contents(tmp_path)) == 6
    for seed, file in zip(range(5, 8), written, strict=True):
        game = generate(seed, difficulty="easy")
        assert file.path.read_bytes() == game.to_bytes()
        assert file.path.relative_to(tmp_path).parts[:2] == ("json_2.1.1", "train")
        assert file.path.parent.parent.name.startswith(f"{game.type}-")
        assert load_game(file.path).goal_text == file.goal == game.goal
        assert (file.seed, file.type, file.content_hash, file.kept) == (seed, game.type, game.content_hash, False)
        assert (file.plan_length, file.receptacles_to_search) == (len(game.walkthrough), game.searched)
        traj = json.loads((file.path.parent / "traj_data.json").read_text())
        assert traj["task_type"] == game.type
        assert traj["generator"]["seed"] == seed


def test_a_folder_of_generated_games_is_played_like_the_official_ones(tmp_path: Path) -> None:
    written = write_generated_games(tmp_path, 12, difficulty="very_easy", split="valid_unseen")
    tasks = Tasks(ALFWORLD.name, ALFWORLD.task_types, tmp_path)
    found = tasks.page("valid_unseen").tasks
    assert {task.content_hash for task in found} == {file.content_hash for file in written}


def test_files_are_the_games_that_the_service_makes_of_the_same_numbers(tmp_path: Path) -> None:
    tasks = Tasks(ALFWORLD.name, ALFWORLD.task_types, None)
    written = write_generated_games(tmp_path, 6, first_seed=12)
    made = tasks.page("generated", offset=12, limit=6).tasks
    assert [file.content_hash for file in written] == [task.content_hash for task in made]


def test_the_service_plays_generated_games_without_writing_and_parsing_them() -> None:
    tasks = Tasks(ALFWORLD.name, ALFWORLD.task_types, None)
    (task,) = tasks.page("generated", offset=3, limit=1).tasks
    source = tasks.source(task)

    def load() -> Any:
        raise AssertionError("its file is not needed")

    game = NativeEngine().game(replace(source, load=load))
    assert pack_game(game) == pack_game(parse_game(source.load()))


def test_the_types_take_turns(tmp_path: Path) -> None:
    types = ["pick_two_obj_and_place", "pick_and_place_simple"]
    written = write_generated_games(tmp_path, 4, first_seed=7, types=types, difficulty="easy")
    assert [file.type for file in written] == [types[1], types[0]] * 2


def test_the_same_call_goes_on_where_it_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = write_generated_games(tmp_path / "whole", 4, difficulty="easy")

    def stop(done: int, _: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_generated_games(tmp_path / "cut", 4, difficulty="easy", progress=stop)
    assert len(contents(tmp_path / "cut")) == 4
    again = write_generated_games(tmp_path / "cut", 4, difficulty="easy")
    assert [file.kept for file in again] == [True, True, False, False]
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert [file.content_hash for file in again] == [file.content_hash for file in whole]

    def no_space(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export.Path, "replace", no_space)
    with pytest.raises(ConfigError, match="No space left") as refusal:
        write_generated_games(tmp_path / "full", 4, difficulty="easy")
    assert "0 of 4 games are written" in refusal.value.hint
    assert contents(tmp_path / "full") == {}, "no half file is left"


def test_foreign_files_are_never_overwritten_and_games_not_mixed(tmp_path: Path) -> None:
    (first,) = write_generated_games(tmp_path, 1, difficulty="easy")
    first.path.write_text("{}")
    with pytest.raises(ConfigError, match="there already, with another content"):
        write_generated_games(tmp_path, 1, difficulty="easy")
    assert first.path.read_text() == "{}"
    official = tmp_path / "other" / "json_2.1.1" / "train" / "look_at_obj_in_light-CD-None-DeskLamp-317" / "trial_T2019"
    official.mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"not generated.*trial_T2019") as refusal:
        write_generated_games(tmp_path / "other", 1)
    assert "another folder" in refusal.value.hint
    assert write_generated_games(tmp_path / "other", 1, difficulty="easy", split="mine")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written to"):
        write_generated_games(tmp_path / "file", 1)
    for split in ("", "../up", "a/b", ".hidden"):
        with pytest.raises(InvalidOption, match="no name for a split"):
            write_generated_games(tmp_path, 1, split=split)


def command(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["generate", *map(str, arguments)])


def test_the_command_makes_what_it_is_asked_for(tmp_path: Path) -> None:
    how = [
        "--seed",
        4,
        "--count",
        3,
        "--types",
        "pick_and_place_simple, pick_two_obj_and_place",
        "--difficulty",
        "easy",
    ]
    bounds = ["--receptacles", "4:6", "--objects", "2:4", "--targets", "2", "--plan-length", "3:12", "--searched", "1:"]
    rest = ["--classes", "1:3", "--phrasing", "varied", "--rooms", "evaluation", "--split", "valid_seen", "--json"]
    result = command("alfworld", "--dest", tmp_path, *how, *bounds, *rest)
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["seed"] for line in lines] == [4, 5, 6]
    assert [line["type"] for line in lines] == [
        "pick_and_place_simple",
        "pick_two_obj_and_place",
        "pick_and_place_simple",
    ]
    for line in lines:
        game = load_game(line["path"])
        assert 4 <= len(game.receptacles) <= 6
        assert 4 <= len(game.object_types) <= 6
        assert 3 <= line["plan_length"] <= 12
        assert line["receptacles_to_search"] >= 1
        assert "/json_2.1.1/valid_seen/" in line["path"]
        traj = json.loads((Path(line["path"]).parent / "traj_data.json").read_text())
        assert (traj["generator"]["rooms"], traj["generator"]["phrasing"]) == ("evaluation", "varied")
    again = command("alfworld", "--dest", tmp_path, *how, *bounds, *rest)
    assert all(json.loads(line)["kept"] for line in again.stdout.splitlines())


def test_the_command_takes_a_folder_alone_as_it_first_did(tmp_path: Path) -> None:
    for arguments in ([tmp_path / "a"], ["alfworld", tmp_path / "b"], ["--dest", tmp_path / "c"]):
        result = command(*arguments, "--count", 1, "--difficulty", "easy", "--type", "pick_and_place_simple")
        assert result.exit_code == 0, result.output
        assert "1 games are in" in result.output
    assert contents(tmp_path / "a") == contents(tmp_path / "b") == contents(tmp_path / "c")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ([], InvalidOption, "no folder"),
        (["dbbench"], ConfigError, "dbbench"),
        (["alfworld", "x", "--dest", "y"], InvalidOption, "two folders"),
        (["--dest", "x", "--receptacles", "many"], InvalidOption, "no range"),
        (["--dest", "x", "--receptacles", "8:4"], InvalidOption, "no possible range"),
        (["--dest", "x", "--difficulty", "absurd"], InvalidOption, "absurd"),
        (["--dest", "x", "--types", "juggle"], UnknownTaskType, "juggle"),
        (["--dest", "x", "--phrasing", "rude"], InvalidOption, "rude"),
        (["--dest", "x", "--rooms", "attic"], InvalidOption, "attic"),
    ],
)
def test_the_command_refuses_what_it_cannot_make(
    arguments: list[str], error: type[EnvloopError], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = command(*arguments)
    assert isinstance(result.exception, error)
    assert message in str(result.exception)
    assert contents(tmp_path) == {}
