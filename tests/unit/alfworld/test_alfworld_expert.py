from __future__ import annotations

import random
from pathlib import Path

import pytest
from alfworld_games import ALL_TASKS, MUG_IN_LIGHT, TWO_APPLES, kitchen

from envs.alfworld.expert import plan, read_task_goal, remaining
from envs.alfworld.game import load_game, parse_game
from envs.alfworld.generator import generate
from envs.alfworld.search import search
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


def goal_of(condition: str) -> str:
    return f"(:goal {condition}))"


SLICED_AND_COOL = """(exists (?o # object ?r # receptacle) (and (objectType ?o AppleType) (isSliced ?o) (isCool ?o)
    (receptacleType ?r FridgeType) (inReceptacle ?o ?r)))"""
EVERY_APPLE = """(forall (?o # object) (or (not (objectType ?o AppleType))
    (exists (?r # receptacle) (and (receptacleType ?r SinkBasinType) (inReceptacle ?o ?r)))))"""
NEVER = "(exists (?o # object) (and (objectType ?o KnifeType) (isHot ?o)))"


@pytest.mark.parametrize("condition", [SLICED_AND_COOL, EVERY_APPLE], ids=["slices", "forall"])
def test_a_goal_beyond_the_six_types_is_searched_for(condition: str) -> None:
    game = parse_game(kitchen(goal=goal_of(condition)))
    assert read_task_goal(game) is None
    assert wins(game.start(), plan(game.start()))
    # With the hands full of something else.
    state = game.start()
    for command in ("go to countertop 1", "take mug 1 from countertop 1", "go to sinkbasin 1"):
        state.step(command)
    assert wins(state, search(state))


def test_a_search_ends_where_it_finds_nothing() -> None:
    state = parse_game(generate(1).data | {"pddl_problem": kitchen(goal=goal_of(NEVER))["pddl_problem"]}).start()
    assert plan(state) is None
    far = parse_game(kitchen(goal=goal_of(EVERY_APPLE))).start()
    assert search(far, limit=50) is None


def test_the_rest_of_a_plan_is_one_shorter_after_each_of_its_commands() -> None:
    state = parse_game(generate(3).data).start()
    commands = plan(state)
    assert commands
    for number, command in enumerate(commands):
        assert remaining(state) == len(commands) - number
        state.step(command)
    assert remaining(state) == 0


def test_it_wins_the_shared_official_games(shared_dir: Path) -> None:
    """The bar is 95 % of valid_unseen within 50 steps."""
    paths = sorted((shared_dir / "data/alfworld/json_2.1.1").rglob("game.tw-pddl"))
    unseen = [path for path in paths if "valid_unseen" in path.parts]
    assert len(unseen) == 39
    lengths = {path: len(plan(load_game(path).start()) or range(99)) for path in paths}
    won = [path for path in unseen if lengths[path] <= 50]
    assert len(won) >= 0.95 * len(unseen)
    assert sum(length <= 50 for length in lengths.values()) >= 0.95 * len(paths)
