from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from alfworld_games import ALL_TASKS, HOT_MUG, KNIFE_IN_SINK, MUG_IN_LIGHT, generated_source, kitchen

from envs.alfworld import admission
from envs.alfworld.admission import admit
from envs.alfworld.game import parse_game, read_game_file
from envs.errors import TaskDataError

AGENT = "agent1"
MUG = "mug_bar__plus_01_dot_20_bar__plus_00_dot_95_bar__plus_00_dot_00"
PAN = "pan_bar__plus_02_dot_00_bar__plus_00_dot_95_bar__plus_00_dot_00"
FRIDGE = "fridge_bar__minus_01_dot_00_bar__plus_00_dot_00_bar__plus_00_dot_00"
COUNTER = "countertop_bar__plus_01_dot_00_bar__plus_00_dot_90_bar__plus_00_dot_00"
BURNER = "stoveburner_bar__plus_02_dot_01_bar__plus_00_dot_90_bar__plus_00_dot_00"
MUG_IN_PAN = """(:goal (and (exists (?r - receptacle) (and (receptacleType ?r CounterTopType)
    (exists (?o - object) (and (objectType ?o MugType) (exists (?mo - object) (and (objectType ?mo PanType)
    (isReceptacleObject ?mo) (inReceptacleObject ?o ?mo) (inReceptacle ?mo ?r))))))))) )"""


def refusal(data: dict[str, Any]) -> str:
    with pytest.raises(TaskDataError) as caught:
        admit(parse_game(data), data, path="some/game.tw-pddl")
    assert caught.value.message.startswith("some/game.tw-pddl: ")
    assert caught.value.hint
    return caught.value.message


def goal(condition: str, **changed: Any) -> dict[str, Any]:
    return kitchen(goal=f"(:goal {condition}))") | changed


def without(data: dict[str, Any], *words: str) -> dict[str, Any]:
    """The game without the lines of its problem that hold one of the words."""
    lines = data["pddl_problem"].lower().splitlines()
    return data | {"pddl_problem": "\n".join(line for line in lines if not any(word in line for word in words))}


@pytest.mark.parametrize("task", ALL_TASKS)
def test_games_of_the_six_types_are_admitted(task: tuple[str, dict[str, str]]) -> None:
    data = kitchen(task)
    admit(parse_game(data), data, path="x")


def test_official_and_generated_games_are_admitted(shared_dir: Path) -> None:
    for path in sorted((shared_dir / "data/alfworld/json_2.1.1").rglob("game.tw-pddl")):
        data, _ = read_game_file(path)
        admit(parse_game(data), data, path=path)
    for seed in range(12):
        source = generated_source(seed)
        admit(parse_game(source.load()), source.load(), path=source.path)


def test_what_the_file_says_of_itself_counts() -> None:
    assert "not solvable" in refusal(kitchen() | {"solvable": False})
    assert "neither true nor false" in refusal(kitchen() | {"solvable": "yes"})
    data = kitchen()
    del data["solvable"]
    admit(parse_game(data), data, path="x")


@pytest.mark.parametrize(
    "condition", ["(and)", f"(not (holds {AGENT} {MUG}))", f"(openable {FRIDGE})", f"(inReceptacle {MUG} {COUNTER})"]
)
def test_a_goal_that_holds_at_the_start_is_refused(condition: str) -> None:
    assert "holds at the start" in refusal(goal(condition))


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("(or)", "no commands"),
        (f"(openable {COUNTER})", "no commands"),
        ("(exists (?l - location) (examined ?l))", r"(examined ?l)"),
        ("(exists (?o - object) (and (objectType ?o ButterKnifeType) (isClean ?o)))", "(objecttype ?o"),
        (f"(isHot {PAN})", "no commands"),  # cannot be heated
        (f"(opened {COUNTER})", "no commands"),
        (f"(and (opened {FRIDGE}) (isHot {PAN}))", "no commands"),
        (f"(or (opened {COUNTER}) (isHot {PAN}))", "no commands"),
        ("(exists (?l - receptacle) (and (opened ?l) (not (openable ?l))))", "no commands"),
        ("(forall (?o - object) (imply (objectType ?o PanType) (isHot ?o)))", "no commands"),
        (f"(inReceptacle {MUG} {BURNER})", "no commands"),
    ],
)  # fmt: skip
def test_a_goal_that_no_command_can_reach_is_refused(condition: str, reason: str) -> None:
    assert reason in refusal(goal(condition))


@pytest.mark.parametrize(
    "condition",
    [
        f"(opened {FRIDGE})",
        f"(and (opened {FRIDGE}) (not (holds {AGENT} {MUG})) (isHot {MUG}))",
        f"(or (opened {COUNTER}) (isHot {MUG}))",
        "(forall (?o - object) (imply (objectType ?o AppleType) (isCool ?o)))",
        "(exists (?o - object) (and (isSliced ?o) (isHot ?o)))",
        f"(and (not (inReceptacle {MUG} {COUNTER})) (not (holdsAny {AGENT})))",
    ],
)
def test_other_goals_within_reach_are_admitted(condition: str) -> None:
    data = goal(condition)
    admit(parse_game(data), data, path="x")


def test_movable_receptacles_need_a_fact() -> None:
    """No command of the domain changes inReceptacleObject: TextWorld has no commands in such a game."""
    data = kitchen(goal=MUG_IN_PAN)
    assert "inreceptacleobject ?o ?mo), which no fact gives and no command brings about" in refusal(data)
    data["pddl_problem"] = data["pddl_problem"].replace("(:init", f"(:init (inReceptacleObject {MUG} {PAN})", 1)
    game = parse_game(data)
    admit(game, data, path="x")
    state = game.start()
    commands = [
        "go to stoveburner 1",
        "take pan 1 from stoveburner 1",
        "go to countertop 1",
        "move pan 1 to countertop 1",
    ]
    assert [state.step(command)[1] for command in commands] == [False, False, False, True]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (without(kitchen(HOT_MUG), "(heatable mug"), "(heatable ?o) (objecttype ?o mugtype), which no fact gives"),
        (without(kitchen(HOT_MUG), "(receptacletype microwave", "microwave_bar"), "no commands"),
        (without(kitchen(HOT_MUG), "(cancontain sinkbasintype mugtype"), "no commands"),
        (without(kitchen(KNIFE_IN_SINK), "(pickupable knife"), "no commands"),
        (without(kitchen(MUG_IN_LIGHT), "(inreceptacle desklamp"), "no commands"),
    ],
)
def test_an_unsolvable_game_of_the_six_types_is_refused(data: dict[str, Any], reason: str) -> None:
    assert reason in refusal(data)


def test_a_winning_walkthrough_counts_where_the_expert_knows_no_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "plan", lambda state: None)
    data = kitchen(KNIFE_IN_SINK)
    assert "in no way" in refusal(data)
    assert "in no way" in refusal(data | {"walkthrough": ["look", 3, "go to sinkbasin 1"]})
    assert "in no way" in refusal(data | {"walkthrough": "look"})
    way = ["go to countertop 1", "take knife 1 from countertop 1", "go to sinkbasin 1", "move knife 1 to sinkbasin 1"]
    admit(parse_game(data), data | {"walkthrough": way}, path="x")


@pytest.mark.parametrize("seed", range(6))
def test_reach_never_misses_what_play_brings_about(seed: int) -> None:
    """Whatever becomes true or false on a long walk must have been thought possible."""
    data = kitchen(ALL_TASKS[seed]) if seed < 3 else generated_source(seed, difficulty="easy").load()
    game = parse_game(data)
    reach = admission._Reach(game)
    rng = random.Random(seed)
    state = game.start()
    first = facts(state)
    seen: set[tuple[str, ...]] = set()
    for _ in range(400):
        commands = state.admissible()
        near = [command for command in commands if not command.startswith("go to ")]
        state.step(rng.choice(near if rng.random() < 0.6 else commands))
        now = facts(state)
        for fact in now - seen:
            assert reach._may_be(fact, True), fact
        for fact in first - now:
            assert reach._may_be(fact, False), fact
        seen |= now
    assert len(seen - first) > 20


def facts(state: Any) -> set[tuple[str, ...]]:
    agent = {"atlocation", "holds", "holdsany"}
    found = {(name, AGENT, *rest) if name in agent else (name, *rest) for name, *rest in state.facts()}
    return {fact for fact in found if fact[0] != "takenout"}
