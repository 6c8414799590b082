"""How hard a task is: the plan's length, and how many receptacles may hold what is wanted."""

from __future__ import annotations

from pathlib import Path

import pytest
from alfworld_games import COOL_APPLE, KNIFE_IN_SINK, MUG_IN_LIGHT, TWO_APPLES, kitchen

from envs.alfworld.difficulty import TaskMeasure, measure
from envs.alfworld.expert import plan, read_task_goal
from envs.alfworld.export import write_generated_games
from envs.alfworld.game import Game, load_game, parse_game
from envs.alfworld.generator import generate
from envs.alfworld.tasks import Tasks
from envs.errors import InvalidOption, UnknownSplit, UnknownTaskType
from envs.registry import ALFWORLD


def tasks_in(data_dir: Path, index_dir: Path) -> Tasks:
    return Tasks("alfworld", ALFWORLD.task_types, data_dir, index_dir=index_dir)


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        # Go to the counter, take the knife, go to the sink, put it there. A knife fits on the counter and in the sink.
        (KNIFE_IN_SINK, TaskMeasure(plan_length=4, receptacles_to_search=1)),
        # An apple fits everywhere but on a burner: counter, fridge, microwave and sink, less the destination.
        (TWO_APPLES, TaskMeasure(plan_length=9, receptacles_to_search=3)),
        (COOL_APPLE, TaskMeasure(plan_length=7, receptacles_to_search=3)),
        # No destination: a mug may be on the counter, in the fridge, the microwave and the sink.
        (MUG_IN_LIGHT, TaskMeasure(plan_length=3, receptacles_to_search=4)),
    ],
)
def test_the_measures_of_a_known_kitchen(task: tuple[str, dict[str, str]], expected: TaskMeasure) -> None:
    assert measure(parse_game(kitchen(task))) == expected


def test_a_goal_of_no_known_type_has_no_measure() -> None:
    game = parse_game(
        kitchen(goal="(:goal (and (exists (?o - object) (and (objectType ?o KnifeType) (isSliced ?o))))))")
    )
    assert read_task_goal(game) is None
    assert measure(game).receptacles_to_search is None


def counted(game: Game) -> int:
    """The same number from the bare facts."""
    facts = game.problem.facts
    goal = read_task_goal(game)
    assert goal is not None
    kinds = {kind for name, kind in facts["objecttype"] if name in goal.wanted}
    accepting = {holder for holder, kind in facts["cancontain"] if kind in kinds}
    placed = {name for name, _ in facts["receptacleatlocation"]}
    return len(
        {name for name, kind in facts["receptacletype"] if kind in accepting and name in placed} - {*goal.destinations}
    )


@pytest.mark.parametrize("seed", range(12))
def test_generated_tasks_carry_their_measures(seed: int) -> None:
    kind = ALFWORLD.task_types[seed % 6]
    task = Tasks("alfworld", ALFWORLD.task_types).task(f"generated/{kind}/{seed}")
    game = parse_game(generate(seed, type=kind).data)
    found = TaskMeasure(task.metadata["plan_length"], task.metadata["receptacles_to_search"])
    assert found == measure(game)
    assert found == (len(plan(game.start()) or ()), counted(game))


def test_official_tasks_carry_their_measures(shared_dir: Path, tmp_path: Path) -> None:
    root = shared_dir / "data" / "alfworld"
    tasks = tasks_in(root, tmp_path)
    found = [*tasks.page("train").tasks, *tasks.page("valid_unseen").tasks]
    assert len(found) == 93
    for task in found:
        game = load_game(root / "json_2.1.1" / task.id / "game.tw-pddl")
        assert task.metadata["plan_length"] == len(plan(game.start()) or ())
        assert task.metadata["receptacles_to_search"] == counted(game)
    assert len({task.metadata["receptacles_to_search"] for task in found}) > 10


def test_a_split_is_ordered_from_easy_to_hard(tmp_path: Path) -> None:
    write_generated_games(tmp_path / "data", 12)
    tasks = tasks_in(tmp_path / "data", tmp_path / "index")
    ordered = tasks.by_difficulty("train")
    assert {task.id for task in ordered} == {task.id for task in tasks.page("train").tasks}
    keys = [(task.metadata["plan_length"], task.metadata["receptacles_to_search"]) for task in ordered]
    assert keys == sorted(keys)
    assert len(set(keys)) > 3
    low, high = keys[2][0], keys[-3][0]
    within = tasks.by_difficulty("train", plan_length=(low, high))
    assert within == tuple(task for task in ordered if low <= task.metadata["plan_length"] <= high)
    kind = ordered[0].type
    assert tasks.by_difficulty("train", type=kind) == tuple(task for task in ordered if task.type == kind)
    with pytest.raises(InvalidOption, match="endless"):
        tasks.by_difficulty("generated")
    with pytest.raises(UnknownSplit):
        tasks.by_difficulty("valid_seen")
    with pytest.raises(UnknownTaskType):
        tasks.by_difficulty("train", type="juggle")
