"""Splits that follow a published list, and games that are told in one dialect."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from alfworld_games import kitchen

from envs.alfworld import lists
from envs.alfworld.dialect import retell
from envs.alfworld.export import write_generated_games
from envs.alfworld.family import AlfworldFamily
from envs.alfworld.lists import AGENTBENCH_LISTS, OFFICIAL_SPLITS, official_names
from envs.alfworld.native_engine import NativeEngine
from envs.alfworld.tasks import Tasks
from envs.errors import ConfigError, TaskDataError, UnknownTask
from envs.registry import ALFWORLD
from envs.types import SplitRole


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """12 games of train and 3 of valid_unseen, none of them ALFWorld's own."""
    write_generated_games(tmp_path, 12, difficulty="easy")
    write_generated_games(tmp_path, 3, first_seed=50, difficulty="easy", split="valid_unseen")
    return tmp_path


def make(data_dir: Path, **how) -> Tasks:
    return Tasks("alfworld", ALFWORLD.task_types, data_dir, **how)


def put(data_dir: Path, name: str, **changes) -> Path:
    """Some game under the name of an official one."""
    source = next((data_dir / "json_2.1.1" / "train").glob("*/*"))
    trial = data_dir / "json_2.1.1" / "valid_unseen" / name
    shutil.copytree(source, trial)
    game = json.loads((trial / "game.tw-pddl").read_text())
    (trial / "game.tw-pddl").write_text(json.dumps(game | changes))
    return trial


def described(tasks: Tasks, name: str) -> str:
    return next(split.description for split in tasks.splits() if split.name == name)


def test_without_an_official_game_the_folder_is_ones_own(data_dir: Path) -> None:
    tasks = make(data_dir)
    assert tasks.page("valid_unseen").total == 3
    assert described(tasks, "valid_unseen") == "games of your own in the place of ALFWorld's valid_unseen"
    assert described(tasks, "train") == "ALFWorld's official train games (12 of 3553 are here)"


def test_with_official_games_other_files_are_left_out(data_dir: Path) -> None:
    here = [official_names("valid_unseen")[n] for n in (70, 3)]
    for name in here:
        put(data_dir, name)
    tasks = make(data_dir)
    assert [task.id for task in tasks.page("valid_unseen").tasks] == [f"valid_unseen/{name}" for name in sorted(here)]
    assert described(tasks, "valid_unseen") == (
        "ALFWorld's official valid_unseen games (2 of 134 are here; 3 other files are left out)"
    )
    (files,) = [files for files in tasks.build_index() if files.split == "valid_unseen"]
    assert (files.num_games, files.num_expected, files.num_others) == (2, 134, 3)
    assert set(files.missing) == set(official_names("valid_unseen")) - set(here)
    other = next((data_dir / "json_2.1.1" / "valid_unseen").glob("*/trial_generated*"))
    with pytest.raises(UnknownTask):
        tasks.task(f"valid_unseen/{other.parent.name}/{other.name}")


def test_agentbench_keeps_its_own_order_and_games(data_dir: Path) -> None:
    """What alfworld's loader would skip is played all the same: slices, games that it does not know as solvable."""
    found = AGENTBENCH_LISTS["agentbench_new_std"]
    games = [game.name for game in found.games()]
    sliced = next(name for name in games if "Sliced" in name)
    unsolvable = next(name for name in games if "Egg-None-SinkBasin" in name)
    usual = games[0]
    for name in (sliced, usual):
        put(data_dir, name)
    put(data_dir, unsolvable, solvable=False)
    put(data_dir, games[-1], pddl_problem="(define")
    tasks = make(data_dir)
    page = tasks.page("agentbench_new_std")
    assert [task.id for task in page.tasks] == [f"agentbench_new_std/{n}" for n in (usual, unsolvable, sliced)]
    assert [task.metadata["plan_length"] is not None for task in page.tasks] == [True] * 3
    assert NativeEngine().open(tasks.source(page.tasks[2])).reset()
    assert described(tasks, "agentbench_new_std") == (
        "AgentBench's new_std list, the test set with function calls "
        "(3 of its 109 games are here; 1 refused, see `envloop env index`)"
    )
    assert [task.id for task in tasks.page("valid_unseen").tasks] == [f"valid_unseen/{usual}"]
    for name in (sliced, unsolvable):
        with pytest.raises(UnknownTask, match="leaves it out"):
            tasks.task(f"valid_unseen/{name}")
    with pytest.raises(TaskDataError, match="unbalanced"):
        tasks.task(f"agentbench_new_std/{games[-1]}")
    kind = page.tasks[0].type
    assert tasks.page("agentbench_new_std", type=kind).tasks == page.tasks[:1]
    assert tasks.sample("agentbench_new_std", 3).id in {task.id for task in page.tasks}


def test_a_game_that_is_listed_twice_is_played_twice(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    games = AGENTBENCH_LISTS["agentbench_standard"].games()[:2]
    monkeypatch.setattr(lists, "_read_agentbench", lambda _: (games[1], games[0], games[1]))
    for game in games:
        put(data_dir, game.name)
    page = make(data_dir).page("agentbench_standard")
    assert page.total == 3
    assert [task.id.partition("/")[2] for task in page.tasks] == [games[1].name, games[0].name, games[1].name]


def test_no_game_of_an_evaluation_is_in_a_list_for_training() -> None:
    by_role = {role: [found for found in AGENTBENCH_LISTS.values() if found.role is role] for role in SplitRole}
    held_out = {(game.split, game.name) for found in by_role[SplitRole.EVALUATION] for game in found.games()}
    held_out |= {("valid_unseen", name) for name in official_names("valid_unseen")}
    assert {split for split, _ in held_out} == {"valid_unseen"}
    trained_on = {(game.split, game.name) for found in by_role[SplitRole.TRAIN] for game in found.games()}
    assert all(split == "train" for split, _ in trained_on)
    assert not {name for _, name in held_out} & {name for _, name in trained_on}


@pytest.mark.parametrize("dialect", ["0.2", "0.4"])
def test_a_dialect_retells_every_game(data_dir: Path, dialect: str) -> None:
    """Official and generated ones; the content hash says so; each way of reading has rows of its own."""
    plain, told = make(data_dir), make(data_dir, dialect=dialect)
    for split in ("train", "generated_easy"):
        before, after = plain.page(split, limit=4).tasks, told.page(split, limit=4).tasks
        assert [task.id for task in before] == [task.id for task in after]
        assert [task.metadata for task in before] == [task.metadata for task in after]
        for old, new in zip(before, after, strict=True):
            assert new.content_hash == hashlib.sha256(f"{dialect}\n{old.content_hash}".encode()).hexdigest()
            source = told.source(new)
            assert source.content_hash == new.content_hash
            assert source.load() == retell(plain.source(old).load(), dialect)
            game = NativeEngine().game(source)
            assert game.dialect.name == dialect
            assert game.goal_text == NativeEngine().game(plain.source(old)).goal_text
    assert told.index_path != plain.index_path


def test_a_game_of_an_unknown_grammar_is_playable_once_retold(data_dir: Path) -> None:
    name = official_names("valid_unseen")[0]
    foreign = kitchen()
    put(data_dir, name, **(foreign | {"grammar": foreign["grammar"].replace("You open", "You unlock")}))
    put(data_dir, official_names("valid_unseen")[1], grammar="")
    plain, told = make(data_dir), make(data_dir, dialect="0.4")
    with pytest.raises(TaskDataError, match="grammar"):
        plain.task(f"valid_unseen/{name}")
    assert NativeEngine().open(told.source(told.task(f"valid_unseen/{name}"))).reset()
    with pytest.raises(TaskDataError, match=r"game\.tw-pddl: it cannot be told in dialect 0\.4"):
        told.task(f"valid_unseen/{official_names('valid_unseen')[1]}")


def test_the_family_takes_the_settings(data_dir: Path, tmp_path: Path) -> None:
    family = AlfworldFamily(ALFWORLD, data_dir=data_dir, dialect="0.2", index_dir=tmp_path / "index")
    env = family.make()
    task = family.tasks("train").tasks[0]
    env.reset(task)
    actions = []
    while (action := env.expert_action()) is not None:
        actions.append(action.arguments["action"])
        env.step(action)
    assert not [action for action in actions if action.startswith("move ")]
    assert family.by_difficulty("train")[0].metadata["plan_length"] == min(
        task.metadata["plan_length"] for task in family.tasks("train").tasks
    )
    family.close()
    assert len(list((tmp_path / "index").glob("*.sqlite3"))) == 1
    with pytest.raises(ConfigError, match=r"no dialect '0\.3'"):
        AlfworldFamily(ALFWORLD, dialect="0.3")


def test_the_trainers_guard_knows_every_split_by_its_role(data_dir: Path) -> None:
    splits = pytest.importorskip("trainer.splits")
    known = splits.KNOWN_SPLITS["alfworld"]
    roles = {name: found.role for name, found in (*OFFICIAL_SPLITS.items(), *AGENTBENCH_LISTS.items())}
    roles |= {split.name: split.role for split in make(data_dir).splits()}
    assert {name: known.get(name) for name in roles} == roles
