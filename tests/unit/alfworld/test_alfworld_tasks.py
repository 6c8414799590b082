from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from envs.alfworld.export import write_generated_games
from envs.alfworld.tasks import DATA_DIR_VARIABLE, Tasks, default_data_dir
from envs.errors import ConfigError, TaskDataError, UnknownSplit, UnknownTask, UnknownTaskType
from envs.registry import ALFWORLD
from envs.types import SplitRole

TYPES = ALFWORLD.task_types
SORTS = ["generated", "generated_easy", "generated_very_easy", "generated_hard"]
GENERATED = [*SORTS, *(f"{name}_eval" for name in SORTS)]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Official layout, made of generated games: 12 of train and 4 of valid_unseen."""
    root = tmp_path_factory.mktemp("alfworld")
    write_generated_games(root, 12, difficulty="easy")
    write_generated_games(root, 4, first_seed=50, difficulty="easy", split="valid_unseen")
    return root


@pytest.fixture(autouse=True)
def nothing_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.delenv(DATA_DIR_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("home")))


def make(data_dir: Path | None = None) -> Tasks:
    return Tasks("alfworld", TYPES, data_dir)


def test_without_data_there_are_the_generated_splits() -> None:
    splits = {split.name: split for split in make().splits()}
    assert list(splits) == GENERATED
    assert {name: split.role for name, split in splits.items()} == {
        "generated": SplitRole.TRAIN,
        "generated_easy": SplitRole.TRAIN,
        "generated_very_easy": SplitRole.TRAIN,
        "generated_hard": SplitRole.TRAIN,
        "generated_eval": SplitRole.EVALUATION,
        "generated_easy_eval": SplitRole.EVALUATION,
        "generated_very_easy_eval": SplitRole.EVALUATION,
        "generated_hard_eval": SplitRole.EVALUATION,
    }
    assert all(split.size is None for split in splits.values())
    with pytest.raises(UnknownSplit, match="valid_unseen") as caught:
        make().page("valid_unseen")
    assert "envloop env fetch alfworld" in caught.value.hint


def test_official_splits_have_roles_and_sizes(data_dir: Path) -> None:
    splits = {split.name: (split.role, split.size) for split in make(data_dir).splits()}
    assert splits["train"] == (SplitRole.TRAIN, 12)
    assert splits["valid_unseen"] == (SplitRole.EVALUATION, 4)
    assert "valid_seen" not in splits
    assert "agentbench_dev" not in splits


def test_the_folder_may_be_named_by_the_variable_or_directly(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert make(data_dir / "json_2.1.1").data_dir == make(data_dir).data_dir
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(data_dir))
    assert make().data_dir == data_dir / "json_2.1.1"


def test_games_are_found_where_they_are_fetched_to(data_dir: Path) -> None:
    assert make().data_dir is None
    shutil.copytree(data_dir, default_data_dir())
    assert make().data_dir == default_data_dir() / "json_2.1.1"


def test_a_folder_without_games_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none of ALFWorld's splits"):
        make(tmp_path)


def test_pages_are_stable_and_complete(data_dir: Path) -> None:
    tasks = make(data_dir)
    first, second = tasks.page("train", limit=7), tasks.page("train", offset=7, limit=7)
    assert (first.total, len(first.tasks), len(second.tasks)) == (12, 7, 5)
    ids = [task.id for task in (*first.tasks, *second.tasks)]
    assert ids == sorted(set(ids))
    for task in first.tasks:
        assert task.id.startswith("train/")
        assert task.type == task.id.split("/")[1].partition("-")[0]
        assert make(data_dir).task(task.id) == task
        assert tasks.source(task).content_hash == task.content_hash
    for split in ("train", "generated"):
        assert tasks.page(split, offset=-3, limit=2) == tasks.page(split, limit=2)
        assert tasks.page(split, limit=-1).tasks == ()
    kind = first.tasks[0].type
    of_type = tasks.page("train", type=kind)
    assert of_type.total == len(of_type.tasks) == sum(f"/{kind}-" in name for name in ids)


def test_a_broken_game_is_left_out_and_its_reason_told(tmp_path: Path, data_dir: Path) -> None:
    shutil.copytree(data_dir, tmp_path, dirs_exist_ok=True)
    path = next((tmp_path / "json_2.1.1" / "train").glob("*/*/game.tw-pddl"))
    game = json.loads(path.read_text())
    path.write_text(json.dumps(game | {"pddl_problem": "(define"}))
    tasks = make(tmp_path)
    assert tasks.page("train").total == 11
    (split,) = [split for split in tasks.splits() if split.name == "train"]
    assert "1 refused, see `envloop env index`" in split.description
    name = f"{path.parent.parent.name}/{path.parent.name}"
    with pytest.raises(TaskDataError, match=re.escape(str(path))):
        tasks.task(f"train/{name}")
    (files,) = [files for files in tasks.build_index() if files.split == "train"]
    assert str(path) in files.refused[name]
    other = Tasks("alfworld", TYPES, tmp_path, keep_refused=True)  # for an engine that may take it
    assert other.page("train").total == 12
    assert other.source(other.task(f"train/{name}")).load_packed is None
    path.write_bytes(b"{")
    with pytest.raises(TaskDataError, match="cannot be read as a game"):
        tasks.task(f"train/{name}")


@pytest.mark.parametrize(
    ("lost", "reason"),
    [
        (r"\(canContain[^)]*\)", "no commands can bring about"),
        ("", "holds at the start"),
    ],
)
def test_a_game_not_worth_starting_is_left_out(lost: str, reason: str, tmp_path: Path, data_dir: Path) -> None:
    """One that cannot be won and one that any command would win: found when the index is made, before any play."""
    shutil.copytree(data_dir, tmp_path, dirs_exist_ok=True)
    path = next((tmp_path / "json_2.1.1" / "train").glob("pick_and_place_simple-*/*/game.tw-pddl"))
    game = json.loads(path.read_text())
    if lost:
        problem = re.sub(lost, "", game["pddl_problem"])
    else:
        head, goal, _ = game["pddl_problem"].partition("(:goal")
        problem = f"{head}{goal} (not (holdsAny agent1))))"
    path.write_text(json.dumps(game | {"pddl_problem": problem}))
    tasks = make(tmp_path)
    assert tasks.page("train").total == 11
    with pytest.raises(TaskDataError, match=reason) as caught:
        tasks.task(f"train/{path.parent.parent.name}/{path.parent.name}")
    assert str(path) in caught.value.message
    assert "not worth starting" in caught.value.message


REASONS = {
    "movable": "a movable receptacle",
    "sliced": "a sliced object",
    "unsolvable": "known as unsolvable",
    "unknown": "not known as solvable",
    "no key": "not known as solvable",
    "no trajectory": "no traj_data.json",
    "no game": "no game.tw-pddl",
    "other type": "another task type",
}


@pytest.mark.parametrize("how", REASONS)
def test_what_alfworlds_loader_skips_is_skipped(tmp_path: Path, data_dir: Path, how: str) -> None:
    shutil.copytree(data_dir, tmp_path, dirs_exist_ok=True)
    trial = next((tmp_path / "json_2.1.1" / "train").glob("*/*"))
    game = json.loads((trial / "game.tw-pddl").read_text())
    if how == "movable":
        trial.parent.rename(trial.parent.with_name("pick_and_place_with_movable_recep-Apple-Bowl-Desk-301"))
    elif how == "sliced":
        trial.parent.rename(trial.parent.with_name("pick_and_place_simple-AppleSliced-None-Fridge-3"))
    elif how == "other type":
        trial.parent.rename(trial.parent.with_name("juggle-Apple-None-Fridge-3"))
    elif how == "no trajectory":
        (trial / "traj_data.json").unlink()
    elif how == "no game":
        (trial / "game.tw-pddl").unlink()
    elif how == "no key":
        (trial / "game.tw-pddl").write_text(json.dumps({key: game[key] for key in game if key != "solvable"}))
    else:
        game["solvable"] = {"unsolvable": False, "unknown": None}[how]
        (trial / "game.tw-pddl").write_text(json.dumps(game))
    tasks = make(tmp_path)
    kept = tasks.page("train").total
    assert kept is not None
    assert kept < 12
    left_out = next(files for files in tasks.build_index() if files.split == "train").skipped
    assert left_out == {REASONS[how]: 12 - kept}
    if how in ("movable", "unsolvable"):
        name = next(row.name for row in tasks._official.games("train").values() if row.skipped)
        with pytest.raises(UnknownTask, match=f"leaves it out \\({REASONS[how]}\\)"):
            tasks.task(f"train/{name}")


def test_solvable_is_found_wherever_it_stands(tmp_path: Path, data_dir: Path) -> None:
    shutil.copytree(data_dir, tmp_path, dirs_exist_ok=True)
    for path in (tmp_path / "json_2.1.1" / "train").glob("*/*/game.tw-pddl"):
        game = json.loads(path.read_text())
        path.write_text(json.dumps({"solvable": True} | game))
    assert make(tmp_path).page("train").total == 12


def test_a_changed_file_is_another_task(tmp_path: Path, data_dir: Path) -> None:
    shutil.copytree(data_dir, tmp_path, dirs_exist_ok=True)
    tasks = make(tmp_path)
    task = tasks.page("train").tasks[0]
    path = Path(tasks.source(task).path)
    path.write_text(path.read_text() + " ")
    assert tasks.task(task.id).content_hash != task.content_hash
    path.unlink()
    with pytest.raises(TaskDataError, match="cannot be read"):
        tasks.task(task.id)


def test_agentbench_dev_is_the_published_list(tmp_path: Path, data_dir: Path) -> None:
    source = next((data_dir / "json_2.1.1/train").glob("*/*"))
    listed = "pick_and_place_simple-SoapBottle-None-Toilet-424/trial_T20190907_004404_604165"
    shutil.copytree(source, tmp_path / "valid_unseen" / listed)
    tasks = make(tmp_path)
    split = next(split for split in tasks.splits() if split.name == "agentbench_dev")
    assert (split.role, split.size) == (SplitRole.EVALUATION, 1)
    assert "1 of its 20" in split.description
    (task,) = tasks.page("agentbench_dev").tasks
    assert task.id == f"agentbench_dev/{listed}"
    assert task.content_hash == tasks.task(f"valid_unseen/{listed}").content_hash


def test_generated_ids_rebuild_their_games() -> None:
    for split in GENERATED:
        page = make().page(split, offset=4, limit=8)
        assert page.total is None
        assert [task.type for task in page.tasks] == [TYPES[number % 6] for number in range(4, 12)]
        for task in page.tasks:
            assert task.id.startswith(f"{split}/")
            assert make().task(task.id) == task
    kind = TYPES[3]
    page = make().page("generated_easy", type=kind, limit=3)
    assert [task.id for task in page.tasks] == [f"generated_easy/{kind}/{number}" for number in range(3)]


def test_training_and_evaluation_games_share_no_seed_and_no_room() -> None:
    tasks = make()
    plans = {split: {task.metadata["floor_plan"] for task in tasks.page(split, limit=60).tasks} for split in GENERATED}
    training, evaluation = ({plan for name in SORTS for plan in plans[f"{name}{end}"]} for end in ("", "_eval"))
    assert not training & evaluation
    hashes = [task.content_hash for split in GENERATED for task in tasks.page(split, limit=20).tasks]
    assert len(set(hashes)) == len(hashes)


def test_samples_are_drawn_by_seed(data_dir: Path) -> None:
    for split in ("train", "generated_easy"):
        drawn = [make(data_dir).sample(split, seed) for seed in range(12)]
        assert drawn == [make(data_dir).sample(split, seed) for seed in range(12)]
        assert len({task.id for task in drawn}) > 4
        kind = drawn[0].type
        assert {make(data_dir).sample(split, seed, type=kind).type for seed in range(5)} == {kind}


@pytest.mark.parametrize(
    "task_id",
    [
        "generated/juggle/1",
        "generated/pick_and_place_simple/-1",
        "generated/pick_and_place_simple/01",
        "generated/pick_and_place_simple/2147483648",
        "generated/pick_and_place_simple/1/2",
        "generated/pick_and_place_simple",
        "train/a/b",
        "train/../../../etc/passwd",
        "nowhere/1",
        "",
    ],
)
def test_an_unknown_task_is_refused(task_id: str, data_dir: Path) -> None:
    with pytest.raises(UnknownTask):
        make(data_dir).task(task_id)


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(UnknownTaskType):
        make().page("generated", type="juggle")
    with pytest.raises(UnknownTaskType):
        make().sample("generated", 1, type="juggle")


def test_the_shared_official_games_are_found(shared_dir: Path) -> None:
    tasks = make(shared_dir / "data" / "alfworld")
    assert {split.name: split.size for split in tasks.splits() if split.size} == {
        "train": 54,
        "valid_unseen": 39,
        "agentbench_dev": 5,
        "agentbench_standard": 17,
        "agentbench_new_std": 30,
        "agentbench_train_valid": 41,
    }
    listed = (shared_dir / "data/alfworld/valid_unseen.txt").read_text().split()
    assert {task.id for task in tasks.page("valid_unseen").tasks} <= {
        line.removesuffix("/game.tw-pddl") for line in listed
    }
