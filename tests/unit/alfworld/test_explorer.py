"""The explorer wins by what it reads alone; with the text of an episode it finds its way from anywhere."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from alfworld_games import ALL_TASKS, COOL_APPLE, MUG_IN_LIGHT, TWO_APPLES, kitchen
from explorer_walks import Walk, play

from envs.alfworld.engine import GameSource
from envs.alfworld.env import AlfworldEnv, Workshop
from envs.alfworld.explorer import Explorer
from envs.alfworld.game import Game, load_game, parse_game
from envs.alfworld.generator import generate
from envs.alfworld.native_engine import NativeEngine
from envs.alfworld.state import State
from envs.alfworld.text import introduction
from envs.registry import ALFWORLD
from envs.types import Task

GOALS = {
    "pick_clean_then_place_in_recep": "clean some apple and put it in fridge.",
    "pick_heat_then_place_in_recep": "put a hot mug in sinkbasin.",
    "pick_cool_then_place_in_recep": "put a cool apple in microwave.",
    "pick_two_obj_and_place": "find two apple and put them in sinkbasin.",
    "pick_and_place_simple": "put some knife on sinkbasin.",
    "look_at_obj_in_light": "look at mug under the desklamp.",
}


def intro_of(task: tuple[str, dict[str, str]], state: State) -> str:
    return introduction(state).replace("do it.", GOALS[task[0]])


def wins(game: Game, **how: Any) -> Walk | None:
    state = game.start()
    return play(Explorer(introduction(state)), state, **how)


@pytest.mark.parametrize("task", ALL_TASKS, ids=lambda task: task[0])
@pytest.mark.parametrize("dialect", ["0.2", "0.4"])
def test_every_task_type_is_won_in_both_dialects(task: tuple[str, dict[str, str]], dialect: str) -> None:
    state = parse_game(kitchen(task, dialect=dialect)).start()
    walk = play(Explorer(intro_of(task, state)), state)
    assert walk is not None
    assert len(walk) <= 12
    refused = [command for command, text in walk if text == "Nothing happens."]
    assert all(command.startswith("go to ") for command in refused), "it speaks the dialect that it has read"


@pytest.mark.parametrize("split", ["valid_unseen", "train"])
def test_the_bars_on_official_games(shared_dir: Path, split: str) -> None:
    paths = sorted((shared_dir / "data" / "alfworld" / "json_2.1.1" / split).rglob("game.tw-pddl"))
    walks = [wins(load_game(path)) for path in paths]
    lengths = [len(walk) for walk in walks if walk is not None]
    assert len(lengths) >= 0.98 * len(paths)
    assert sum(length <= 20 for length in lengths) >= 0.9 * len(paths)
    assert sum(lengths) / len(lengths) <= 12


@pytest.mark.parametrize("admissible", [False, True])
def test_generated_games_are_won(admissible: bool) -> None:
    games = [parse_game(generate(seed, difficulty=("easy", "normal")[seed % 2]).data) for seed in range(40)]
    walks = [wins(game, admissible=admissible) for game in games]
    assert None not in walks
    assert sum(len(walk) <= 20 for walk in walks if walk) >= 0.9 * len(walks)


def test_it_knows_nothing_of_what_it_has_not_seen() -> None:
    """Two games that differ where nobody has looked yet: command and thought are equal up to the first difference."""
    compared = 0
    for seed in range(12):
        data = generate(seed, type="pick_two_obj_and_place").data
        games = [parse_game(data), parse_game(with_other_contents(data, seed))]
        states = [game.start() for game in games]
        explorers = [Explorer(introduction(state), thoughts=seed) for state in states]
        for _ in range(40):
            commands = [explorer.choose() for explorer in explorers]
            assert commands[0] == commands[1]
            assert explorers[0].thought() == explorers[1].thought()
            answers = [state.step(command) for state, command in zip(states, commands, strict=True)]
            if answers[0] != answers[1]:
                compared += 1
                break
            for explorer, command, (text, _) in zip(explorers, commands, answers, strict=True):
                explorer.observe(command, text)
    assert compared >= 8, "the games must differ somewhere along the way"


def with_other_contents(data: dict[str, Any], seed: int) -> dict[str, Any]:
    """The game with its objects' places dealt anew among the receptacles that hold any."""
    facts, goal, rest = data["pddl_problem"].partition("(:goal")
    lines = facts.splitlines()
    spots = [i for i, line in enumerate(lines) if line.strip().lower().startswith("(inreceptacle ")]
    receptacles = [lines[i].split()[2] for i in spots]
    random.Random(seed).shuffle(receptacles)
    for i, receptacle in zip(spots, receptacles, strict=True):
        lines[i] = f"(inReceptacle {lines[i].split()[1]} {receptacle}"
    return {**data, "pddl_problem": "\n".join(lines) + "\n" + goal + rest}


def test_what_was_seen_on_the_way_is_remembered() -> None:
    """The second of two apples, and the lamp, are fetched without another search."""
    explorer = Explorer("You are in the middle of a room. Looking quickly around you, you see a desk 1, a drawer 1, "
                        "a safe 1, and a shelf 1.\n\nYour task is to: put two cd in safe.")  # fmt: skip
    explorer.observe("go to shelf 1", "You arrive at loc 4. On the shelf 1, you see a cd 3, and a vase 1.")
    explorer.observe("go to desk 1", "You arrive at loc 2. On the desk 1, you see a cd 1.")
    for command, answer in (
        ("take cd 1 from desk 1", "You pick up the cd 1 from the desk 1."),
        ("go to safe 1", "You arrive at loc 3. The safe 1 is closed."),
        ("open safe 1", "You open the safe 1. The safe 1 is open. In it, you see nothing."),
        ("put cd 1 in/on safe 1", "You put the cd 1 in/on the safe 1."),
    ):
        assert explorer.choose() == command
        explorer.observe(command, answer)
    assert explorer.choose() == "go to shelf 1"
    explorer = Explorer("Looking quickly around you, you see a bed 1, a desk 1, and a dresser 1.\n\n"
                        "Your task is to: examine the book with the desklamp.")  # fmt: skip
    explorer.observe("go to dresser 1", "You arrive at dresser 1. On the dresser 1, you see a desklamp 1.")
    explorer.observe("go to bed 1", "You arrive at bed 1. On the bed 1, you see a book 2.")
    assert explorer.choose() == "take book 2 from bed 1"
    explorer.observe("take book 2 from bed 1", "You pick up the book 2 from the bed 1.")
    assert explorer.choose() == "go to dresser 1"


@pytest.mark.parametrize("task_type", ALFWORLD.task_types)
@pytest.mark.parametrize("admissible", [False, True])
def test_it_goes_on_from_wherever_somebody_else_has_gone(task_type: str, admissible: bool) -> None:
    for seed in range(4):
        rng = random.Random(f"{task_type}/{seed}")
        state = parse_game(generate(seed, type=task_type, difficulty=("easy", "normal")[seed % 2]).data).start()
        explorer = Explorer(introduction(state))
        for _ in range(15):
            commands = state.admissible()
            staying = [command for command in commands if not command.startswith("go to ")]
            command = rng.choice(staying if rng.random() < 0.6 else commands)
            text, _ = state.step(command)
            explorer.observe(command, text, state.admissible() if admissible else ())
        assert state.won or play(explorer, state, admissible=admissible) is not None


def test_a_refused_command_is_followed_by_another_one() -> None:
    """A game that refuses everything: never the same command twice on end, and each one more and more rarely."""
    for task in ALL_TASKS:
        state = parse_game(kitchen(task)).start()
        explorer = Explorer(intro_of(task, state))
        commands = []
        for _ in range(300):
            commands.append(explorer.choose())
            explorer.observe(commands[-1], "Nothing happens.")
        assert all(one != other for one, other in pairwise(commands))
        tried = Counter(command for command in commands if command not in ("look", "inventory"))
        assert max(tried.values()) <= 6


def test_refusals_by_chance_do_not_stop_it() -> None:
    """Every fifth command is lost; it still wins, if later."""
    won = 0
    for seed in range(30):
        rng = random.Random(seed)
        state = parse_game(generate(seed, difficulty="easy").data).start()
        explorer = Explorer(introduction(state))
        for _ in range(100):
            command = explorer.choose()
            text = "Nothing happens." if rng.random() < 0.2 else state.step(command)[0]
            if state.won:
                won += 1
                break
            explorer.observe(command, text)
    assert won >= 28


def test_one_place_of_two_receptacles_is_found_out() -> None:
    """The kitchen's microwave stands on the counter: who is there cannot go to it, but can open it."""
    state = parse_game(kitchen(COOL_APPLE, dialect="0.2")).start()
    explorer = Explorer(intro_of(COOL_APPLE, state))
    commands = ("go to countertop 1", "go to microwave 1", "go to fridge 1", "open fridge 1",
                "take apple 2 from fridge 1", "cool apple 2 with fridge 1", "go to countertop 1")  # fmt: skip
    for command in commands:
        explorer.observe(command, state.step(command)[0])
    assert explorer.choose() == "open microwave 1"


def test_a_list_of_commands_tells_what_is_within_reach() -> None:
    room = "Looking quickly around you, you see a drawer 2, and a drawer 1.\n\nYour task is to: put a pen in drawer."
    arrival = ("go to drawer 1", "You arrive at loc 3. The drawer 1 is closed.")
    opened = ("open drawer 1", "You open the drawer 1. The drawer 1 is open. In it, you see nothing.")
    for admissible, command in (((), "go to drawer 2"), (("close drawer 1", "open drawer 2"), "open drawer 2")):
        explorer = Explorer(room.replace("pen in drawer", "pen in desk"))
        for said, answer in (arrival, opened):
            explorer.observe(said, answer, admissible)
        assert explorer.choose() == command


@pytest.mark.parametrize(
    "text", ["", "x", "Your task is to: ", "Your task is to: dance.", "\x00\ud800 a 1, a b 2.", "a " * 5000]
)
def test_nothing_that_it_reads_makes_it_raise(text: str) -> None:
    explorer = Explorer(text, thoughts=1)
    assert explorer.problem
    for command in ("", "go to", "go to moon 1", "take a from b", "open desk 1", "\ud800"):
        assert explorer.choose() in ("look", "inventory")
        assert explorer.thought()
        explorer.observe(command, text, (command, "open", "go to desk 1"))
        explorer.observe(command, "Nothing happens.")
    explorer = Explorer("Your task is to: put a mug in desk.")
    for _ in range(50):
        explorer.observe(explorer.choose(), text)
    assert explorer.problem == ""


def test_a_room_that_is_not_listed_is_guessed() -> None:
    """An episode may begin beside a receptacle; then the room is unknown and its receptacles are tried by name."""
    state = parse_game(kitchen(MUG_IN_LIGHT)).start()
    state.step("go to fridge 1")
    explorer = Explorer(intro_of(MUG_IN_LIGHT, state))
    assert "middle of a room" not in introduction(state)
    told = Explorer(intro_of(MUG_IN_LIGHT, state), admissible=state.admissible())
    walks = [play(one, state.clone()) for one in (explorer, told)]
    assert all(walks)
    refused = [sum(text == "Nothing happens." for _, text in walk or ()) for walk in walks]
    assert refused[0] > refused[1] == 0, "the list of commands names the room's receptacles"


def test_an_episode_whose_task_it_does_not_understand_gets_no_advice_from_it() -> None:
    """The oracle reads the goal itself; the explorer has only the sentence, which says nothing here: "do it"."""
    source = GameSource("0" * 64, "kitchen", kitchen)
    engine = NativeEngine()
    workshop = Workshop(ALFWORLD, lambda _: source, lambda _: engine, engine.game, engine="native")
    env = AlfworldEnv(workshop)
    env.reset(Task("alfworld", "kitchen", "generated", "pick_and_place_simple", source.content_hash))
    assert env.expert_action("oracle") is not None
    assert env.expert_action("explorer") is None


def test_two_apples_end_up_together() -> None:
    state = parse_game(kitchen(TWO_APPLES)).start()
    walk = play(Explorer(intro_of(TWO_APPLES, state)), state)
    assert walk is not None
    assert {command.rpartition(" to ")[2] for command, _ in walk if command.startswith("move ")} == {"sinkbasin 1"}
