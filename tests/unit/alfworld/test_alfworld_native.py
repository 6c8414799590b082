"""The native engine's rules and texts on a kitchen whose every answer is known (checked against TextWorld as well)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from alfworld_games import COOL_APPLE, HOT_MUG, KNIFE_IN_SINK, MUG_IN_LIGHT, TWO_APPLES, kitchen

from envs.alfworld.engine import Engine, GameSource
from envs.alfworld.game import display_names, load_game, parse_game
from envs.alfworld.native_engine import NativeEngine
from envs.alfworld.state import State
from envs.alfworld.text import introduction, listing
from envs.errors import ConfigError, TaskDataError

ROOM = "-= Welcome to TextWorld, ALFRED! =-\n\nYou are in the middle of a room. Looking quickly around you, you see "


def start(task: tuple[str, dict[str, str]] = KNIFE_IN_SINK, **how: Any) -> State:
    return parse_game(kitchen(task, **how)).start()


def play(state: State, *commands: str) -> list[str]:
    return [state.step(command)[0] for command in commands]


def test_introduction_names_every_receptacle_and_the_task() -> None:
    assert introduction(start()) == (
        f"{ROOM}a countertop 1, a fridge 1, a microwave 1, a sinkbasin 1, a stoveburner 2, and a stoveburner 1.\n\n"
        "Your task is to: do it."
    )


def test_texts_of_dialect_04() -> None:
    state = start()
    assert play(state, "look", "inventory", "go to countertop 1", "look", "take mug 1 from countertop 1") == [
        "You are in the middle of a room. Looking quickly around you, you see nothing.",
        "You are not carrying anything.",
        "You arrive at countertop 1. On the countertop 1, you see a apple 1, a desklamp 1, a knife 1, and a mug 1.",
        "You are facing the countertop 1, and microwave 1. Next to it, you see nothing.",
        "You pick up the mug 1 from the countertop 1.",
    ]
    assert play(
        state, "inventory", "examine mug 1", "open microwave 1", "examine microwave 1", "close microwave 1"
    ) == [
        "You are carrying: a mug 1.",
        "This is a normal mug 1. In it, you see nothing.",
        "You open the microwave 1. The microwave 1 is open. In it, you see nothing.",
        "The microwave 1 is open. In it, you see nothing.",
        "You close the microwave 1.",
    ]
    assert play(
        state, "heat mug 1 with microwave 1", "use desklamp 1", "go to sinkbasin 1", "clean mug 1 with sinkbasin 1"
    ) == [
        "You heat the mug 1 using the microwave 1.",
        "You turn on the desklamp 1.",
        "You arrive at sinkbasin 1. On the sinkbasin 1, you see nothing.",
        "You clean the mug 1 using the sinkbasin 1.",
    ]
    assert play(state, "move mug 1 to sinkbasin 1") == ["You move the mug 1 to the sinkbasin 1."]
    assert play(state, "help")[0].startswith("Available commands:")


def test_texts_of_dialect_02() -> None:
    state = start(dialect="0.2")
    assert play(
        state, "go to countertop 1", "take mug 1 from countertop 1", "put mug 1 in/on countertop 1", "help"
    ) == [
        "You arrive at loc 4. On the countertop 1, you see a apple 1, a desklamp 1, a knife 1, and a mug 1.",
        "You pick up the mug 1 from the countertop 1.",
        "You put the mug 1 in/on the countertop 1.",
        "Nothing happens.",
    ]


@pytest.mark.parametrize(
    ("commands", "text"),
    [
        ((), "There's nothing special about apple 1."),
        (("clean",), "This is a clean apple 1."),
        (("heat",), "This is a hot apple 1."),
        (("cool",), "This is a cold apple 1."),
        (("heat", "cool"), "This is a cold apple 1."),
        (("cool", "heat"), "This is a hot apple 1."),
        (("clean", "heat"), "This is a hot and clean apple 1."),
        (("clean", "cool"), "This is a cool and clean apple 1."),
        (("slice",), "This is a sliced apple 1."),
        (("slice", "clean"), "This is a clean sliced apple 1."),
        (("slice", "heat"), "This is a hot sliced apple 1."),
        (("slice", "cool"), "This is a cool sliced apple 1."),
        (("slice", "clean", "heat"), "This is a hot and clean sliced apple 1."),
        (("slice", "clean", "cool"), "This is a cool and clean sliced apple 1."),
    ],
)
def test_an_object_tells_what_was_done_to_it(commands: tuple[str, ...], text: str) -> None:
    state = start()
    devices = {"clean": "sinkbasin 1", "heat": "microwave 1", "cool": "fridge 1"}
    play(state, "go to countertop 1")
    if "slice" in commands:
        play(state, "take knife 1 from countertop 1")
        assert play(state, "slice apple 1 with knife 1") == ["You sliced the apple 1 with the knife 1."]
        play(state, "move knife 1 to countertop 1")
    play(state, "take apple 1 from countertop 1")
    for command in commands:
        if command != "slice":
            play(state, f"go to {devices[command]}")
            assert play(state, f"{command} apple 1 with {devices[command]}") != ["Nothing happens."]
    assert play(state, "examine apple 1") == [text]


def test_admissible_commands_at_the_counter() -> None:
    state = start()
    play(state, "go to countertop 1")
    go = [f"go to {name}" for name in ("fridge 1", "sinkbasin 1", "stoveburner 1", "stoveburner 2")]
    assert list(state.admissible()) == sorted(
        [*go, "examine countertop 1", "examine microwave 1", "open microwave 1", "look", "inventory", "help"]
        + [f"take {name} from countertop 1" for name in ("apple 1", "knife 1", "mug 1")]
        + ["use desklamp 1"]
    )
    play(state, "take knife 1 from countertop 1")
    holding = ["examine knife 1", "move knife 1 to countertop 1", "slice apple 1 with knife 1", "use desklamp 1"]
    assert list(state.admissible()) == sorted(
        [*go, "examine countertop 1", "examine microwave 1", "open microwave 1", "look", "inventory", "help", *holding]
    )


def test_objects_are_examinable_only_while_held() -> None:
    state = start()
    assert play(state, "go to countertop 1", "examine mug 1")[1] == "Nothing happens."


def test_what_is_shut_in_can_neither_be_taken_nor_filled() -> None:
    state = start()
    text = play(state, "go to fridge 1")[0]
    assert text == "You arrive at fridge 1. The fridge 1 is closed."
    assert "take apple 2 from fridge 1" not in state.admissible()
    play(state, "open fridge 1")
    assert "take apple 2 from fridge 1" in state.admissible()
    play(state, "take apple 2 from fridge 1", "close fridge 1")
    assert "move apple 2 to fridge 1" not in state.admissible()
    assert "cool apple 2 with fridge 1" in state.admissible()


def test_only_one_object_is_carried() -> None:
    state = start()
    play(state, "go to countertop 1", "take mug 1 from countertop 1")
    assert play(state, "take knife 1 from countertop 1") == ["Nothing happens."]


def test_an_object_in_two_receptacles_leaves_one_at_a_time() -> None:
    state = start()
    assert play(state, "go to stoveburner 1") == ["You arrive at stoveburner 1. On the stoveburner 1, you see a pan 1."]
    play(state, "take pan 1 from stoveburner 1")
    assert play(state, "examine stoveburner 1", "examine stoveburner 2", "look") == [
        "On the stoveburner 1, you see nothing.",
        "On the stoveburner 2, you see a pan 1.",
        "You are facing the stoveburner 2, and stoveburner 1. Next to it, you see nothing.",
    ]
    play(state, "move pan 1 to stoveburner 2")
    assert play(state, "look") == ["You are facing the stoveburner 2, and stoveburner 1. Next to it, you see a pan 1."]


@pytest.mark.parametrize(
    "command",
    ["", "   ", "Go to countertop 1", "go  to countertop 1", "go to countertop 9", "go to countertop 1.", "\x00", "看"],
)
def test_nonsense_changes_nothing(command: str) -> None:
    state = start()
    before = state.hash()
    assert state.step(command) == ("Nothing happens.", False)
    assert state.hash() == before


def test_blanks_around_a_command_do_not_matter() -> None:
    assert play(start(), " \tgo to fridge 1\n")[0].startswith("You arrive")


@pytest.mark.parametrize(
    ("task", "commands"),
    [
        (
            KNIFE_IN_SINK,
            [
                "go to countertop 1",
                "take knife 1 from countertop 1",
                "go to sinkbasin 1",
                "move knife 1 to sinkbasin 1",
            ],
        ),
        (MUG_IN_LIGHT, ["go to countertop 1", "take mug 1 from countertop 1", "use desklamp 1"]),
        (MUG_IN_LIGHT, ["go to countertop 1", "use desklamp 1", "take mug 1 from countertop 1"]),
        (
            HOT_MUG,
            [
                "go to countertop 1",
                "take mug 1 from countertop 1",
                "heat mug 1 with microwave 1",
                "go to sinkbasin 1",
                "move mug 1 to sinkbasin 1",
            ],
        ),
        (
            COOL_APPLE,
            [
                "go to fridge 1",
                "open fridge 1",
                "take apple 2 from fridge 1",
                "cool apple 2 with fridge 1",
                "go to microwave 1",
                "open microwave 1",
                "move apple 2 to microwave 1",
            ],
        ),
        (
            TWO_APPLES,
            [
                "go to countertop 1",
                "take apple 1 from countertop 1",
                "go to sinkbasin 1",
                "move apple 1 to sinkbasin 1",
                "go to fridge 1",
                "open fridge 1",
                "take apple 2 from fridge 1",
                "go to sinkbasin 1",
                "move apple 2 to sinkbasin 1",
            ],
        ),
    ],
)
def test_a_goal_is_reached_with_its_last_step_and_not_before(
    task: tuple[str, dict[str, str]], commands: list[str]
) -> None:
    state = start(task)
    assert [state.step(command)[1] for command in commands] == [False] * (len(commands) - 1) + [True]


@pytest.mark.parametrize(
    ("task", "undone"),
    [(COOL_APPLE, "heat apple 1 with microwave 1"), (HOT_MUG, "cool mug 1 with fridge 1")],
)
def test_heat_undoes_cold_and_cold_heat(task: tuple[str, dict[str, str]], undone: str) -> None:
    """Not to be seen in any text, but the goal knows."""
    thing, destination = ("apple 1", "microwave 1") if task is COOL_APPLE else ("mug 1", "sinkbasin 1")
    state = start(task)
    play(state, "go to countertop 1", f"take {thing} from countertop 1")
    done = ["go to fridge 1", f"cool {thing} with fridge 1", "go to microwave 1", f"heat {thing} with microwave 1"]
    for command in done if undone.startswith("heat") else [*done[2:], *done[:2]]:
        text = state.step(command)[0]
        assert text != "Nothing happens." or command == "go to microwave 1"  # the agent stands before it already
    play(state, f"go to {destination}", f"open {destination}")
    assert state.step(f"move {thing} to {destination}") == (f"You move the {thing} to the {destination}.", False)


def test_one_object_twice_is_not_two_objects() -> None:
    state = start(TWO_APPLES)
    play(
        state,
        "go to countertop 1",
        "take apple 1 from countertop 1",
        "go to sinkbasin 1",
        "move apple 1 to sinkbasin 1",
    )
    play(state, "take apple 1 from sinkbasin 1", "move apple 1 to sinkbasin 1")
    assert not state.won


def test_names_count_down_in_the_order_of_ids() -> None:
    assert display_names(["mug_bar_b", "mug_bar_a", "sink_bar_1_bar_sinkbasin", "sink_bar_2", "agent1"]) == {
        "agent1": "agent1 ",
        "mug_bar_a": "mug 2",
        "mug_bar_b": "mug 1",
        "sink_bar_1_bar_sinkbasin": "sinkbasin 1",
        "sink_bar_2": "sink 1",
    }


@pytest.mark.parametrize(
    ("items", "text"), [([], "nothing"), (["a"], "a"), (["a", "b"], "a, and b"), (["a", "b", "c"], "a, b, and c")]
)
def test_listing(items: list[str], text: str) -> None:
    assert listing(items) == text


@pytest.mark.parametrize(
    ("goal", "reason"),
    [
        ("(:goal (exists (?o # object) (isOn ?o))))", "ison"),
        ("(:goal (exists (?o # object) (isClean ?x))))", r"\?x"),
        ("(:goal (exists (?o # object) (isClean ?o)))", "unbalanced"),
        ("(:goal (exists (?o # object) (isClean ?o))))))", "unbalanced"),
    ],
)
def test_an_unsupported_goal_is_refused_with_path_and_reason(goal: str, reason: str) -> None:
    with pytest.raises(TaskDataError, match=f"some/game.tw-pddl.*{reason}"):
        parse_game(kitchen(goal=goal), path="some/game.tw-pddl")


def test_a_broken_file_is_refused_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "game.tw-pddl"
    game = kitchen()
    cases = {
        "missing or no text": json.dumps({key: text for key, text in game.items() if key != "grammar"}),
        "cannot be read": json.dumps(game)[:-20],
        "no object": "[]",
        "unbalanced": json.dumps(game | {"pddl_problem": game["pddl_problem"][:-40]}),
        "Your task is to": json.dumps(game | {"grammar": game["grammar"].replace("Your task is to", "Do")}),
        "start at exactly one": json.dumps(
            game | {"pddl_problem": game["pddl_problem"].replace("(atLocation", "; (atLocation")}
        ),
    }
    for reason, text in cases.items():
        path.write_text(text)
        with pytest.raises(TaskDataError, match=reason) as caught:
            load_game(path)
        assert str(path) in caught.value.message
    with pytest.raises(TaskDataError, match="cannot be read"):
        load_game(tmp_path / "absent")


def test_the_engine_parses_a_game_once_and_forgets_the_oldest() -> None:
    loads: list[str] = []

    def source(name: str) -> GameSource:
        def load() -> dict[str, Any]:
            loads.append(name)
            return kitchen()

        return GameSource(name, name, load)

    engine = NativeEngine(cache_size=2)
    for name in ("a", "b", "a", "c", "a", "b"):
        engine.open(source(name))
    assert loads == ["a", "b", "c", "b"]
    with pytest.raises(ConfigError):
        NativeEngine(cache_size=0)


def test_sessions_of_one_game_do_not_touch_each_other() -> None:
    engine: Engine = NativeEngine()
    source = GameSource("k", "k", kitchen)
    one, two = engine.open(source), engine.open(source)
    intro = one.reset()
    assert two.reset() == intro
    one.step("go to countertop 1")
    assert one.state_hash() != two.state_hash()
    assert one.reset() == intro
    assert one.state_hash() == two.state_hash()
    assert engine.ready().ready
