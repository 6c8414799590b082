from __future__ import annotations

import random
from pathlib import Path

import pytest
from alfworld_games import ALL_TASKS, MUG_IN_LIGHT, TWO_APPLES, kitchen

from envs.alfworld.expert import plan, read_task_goal
from envs.alfworld.game import load_game, parse_game
from envs.alfworld.generator import generate
from envs.alfworld.state import State
from envs.registry import ALFWORLD


def wins(state: State, commands: list[str] | None) -> bool:
    assert commands is not None
    state = state.clone()
    return [state.step(command)[1] for command in commands] == [False] * (len(commands) - 1) + [True]


def stroll(state: State, rng: random.Random, steps: int) -> None:
    for _ in range(steps):
        commands = state.admissible()
        staying = [command for command in commands if not command.startswith("go to ")]
        state.step(rng.choice(staying if rng.random() < 0.7 else commands))


@pytest.mark.parametrize("task", ALL_TASKS, ids=lambda task: task[0])
@pytest.mark.parametrize("dialect", ["0.2", "0.4"])
def test_every_task_type_is_won_in_both_dialects(task: tuple[str, dict[str, str]], dialect: str) -> None:
    state = parse_game(kitchen(task, dialect=dialect)).start()
    assert wins(state, plan(state))


@pytest.mark.parametrize("task_type", ALFWORLD.task_types)
def test_it_wins_from_wherever_the_agent_has_gone(task_type: str) -> None:
    """Objects of generated games always fit somewhere, so no state is lost."""
    rng = random.Random(task_type)
    for seed in range(6):
        state = parse_game(generate(seed, type=task_type, difficulty=("easy", "normal")[seed % 2]).data).start()
        for _ in range(8):
            stroll(state, rng, 7)
            if state.won:
                assert plan(state) == []
                break
            assert wins(state, plan(state))


def test_a_held_object_is_used_or_put_away() -> None:
    state = parse_game(kitchen(MUG_IN_LIGHT)).start()
    for command in ("go to countertop 1", "take mug 1 from countertop 1"):
        state.step(command)
    assert plan(state) == ["use desklamp 1"]
    state = parse_game(kitchen(MUG_IN_LIGHT)).start()
    for command in ("go to countertop 1", "take knife 1 from countertop 1"):
        state.step(command)
    assert plan(state) == ["move knife 1 to countertop 1", "take mug 1 from countertop 1", "use desklamp 1"]


def test_what_is_done_already_is_not_done_again() -> None:
    state = parse_game(kitchen(TWO_APPLES)).start()
    for command in ("go to countertop 1", "take apple 1 from countertop 1", "go to sinkbasin 1"):
        state.step(command)
    state.step("move apple 1 to sinkbasin 1")
    assert plan(state) == [
        "go to fridge 1",
        "open fridge 1",
        "take apple 2 from fridge 1",
        "go to sinkbasin 1",
        "move apple 2 to sinkbasin 1",
    ]


def test_where_no_way_is_left_it_says_so() -> None:
    """An object that fits nowhere fills the hands for good: ALFWorld has such dead ends (paper towel rolls)."""
    data = kitchen(MUG_IN_LIGHT)
    problem = "\n".join(
        line for line in data["pddl_problem"].splitlines() if "KnifeType)" not in line or "can" not in line
    )
    state = parse_game(data | {"pddl_problem": problem}).start()
    for command in ("go to countertop 1", "take knife 1 from countertop 1"):
        state.step(command)
    assert state.held
    assert plan(state) is None


def test_another_goal_is_not_guessed_at() -> None:
    goal = "(:goal (exists (?o # object ?r # receptacle) (and (isSliced ?o) (inReceptacle ?o ?r)))))"
    game = parse_game(kitchen(goal=goal))
    assert read_task_goal(game) is None
    assert plan(game.start()) is None


def test_it_wins_the_shared_official_games(shared_dir: Path) -> None:
    """The bar is 95 % of valid_unseen within 50 steps."""
    paths = sorted((shared_dir / "data/alfworld/json_2.1.1").rglob("game.tw-pddl"))
    unseen = [path for path in paths if "valid_unseen" in path.parts]
    assert len(unseen) == 39
    lengths = {path: len(plan(load_game(path).start()) or range(99)) for path in paths}
    won = [path for path in unseen if lengths[path] <= 50]
    assert len(won) >= 0.95 * len(unseen)
    assert sum(length <= 50 for length in lengths.values()) >= 0.95 * len(paths)
