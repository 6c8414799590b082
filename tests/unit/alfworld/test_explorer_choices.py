"""Which way the explorer takes where there are several."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest
from explorer_walks import play

from envs.alfworld.explorer import Explorer
from envs.alfworld.explorer_prior import Prior, load_prior
from envs.alfworld.game import parse_game
from envs.alfworld.generator import generate
from envs.alfworld.text import introduction

FITS = {name: frozenset({"egg", "pen", "desklamp"}) for name in ("desk", "drawer", "fridge", "safe", "shelf")}


def explorer(room: str, task: str, **rates: int) -> Explorer:
    """An explorer that expects so many eggs and pens in ten receptacles of each kind."""
    counts = {thing: {place: (number, 10) for place, number in rates.items()} for thing in ("egg", "pen", "desklamp")}
    prior = Prior(counts, FITS, frozenset({"drawer", "fridge", "safe"}))
    listed = ", ".join(f"a {name}" for name in room.split(", "))
    return Explorer(f"Looking quickly around you, you see {listed}.\n\nYour task is to: {task}.", prior=prior)


def test_the_likeliest_place_comes_first_unless_it_takes_more_steps_than_it_is_worth() -> None:
    assert explorer("desk 1, shelf 1", "put a pen in safe", desk=2, shelf=8).choose() == "go to shelf 1"
    assert explorer("drawer 1, shelf 1", "put a pen in safe", drawer=8, shelf=6).choose() == "go to shelf 1"
    assert explorer("drawer 1, shelf 1", "put a pen in safe", drawer=9, shelf=1).choose() == "go to drawer 1"


def test_a_place_where_the_thing_can_be_treated_as_well_is_worth_more() -> None:
    for task, first in (("put a pen in safe", "go to shelf 1"), ("put a cool egg in safe", "go to fridge 1")):
        assert explorer("fridge 1, shelf 1", task, fridge=14, shelf=9).choose() == first


def test_a_destination_that_must_be_opened_anyway_costs_a_step_less() -> None:
    for task, first in (("put two pen in safe", "go to shelf 1"), ("put two pen in drawer", "go to drawer 1")):
        assert explorer("drawer 1, shelf 1", task, drawer=8, shelf=6).choose() == first


def test_what_has_only_to_be_put_somewhere_is_not_looked_for_there() -> None:
    """By lying there it would have won the game at the start."""
    assert explorer("desk 1, shelf 1", "put a pen on shelf", desk=1, shelf=9).choose() == "go to desk 1"
    assert explorer("desk 1, shelf 1", "put a clean pen on shelf", desk=1, shelf=9).choose() == "go to shelf 1"


def test_a_lamp_that_is_still_to_be_found_counts_in_a_search() -> None:
    seeker = explorer("desk 1, shelf 1", "look at pen under the desklamp", desk=4, shelf=5)
    assert seeker.choose() == "go to shelf 1"
    only_lamps = Prior({"pen": {"desk": (3, 10), "shelf": (4, 10)}, "desklamp": {"desk": (9, 10), "shelf": (0, 10)}},
                       FITS, frozenset())  # fmt: skip
    room = "Looking quickly around you, you see a desk 1, and a shelf 1.\n\n"
    assert (
        Explorer(f"{room}Your task is to: look at pen under the desklamp.", prior=only_lamps).choose() == "go to desk 1"
    )


def test_the_second_thing_joins_the_first() -> None:
    two = explorer("shelf 2, shelf 1, desk 1", "put two pen on shelf", desk=9, shelf=1)
    for command, answer in (
        ("go to desk 1", "You arrive at loc 1. On the desk 1, you see a pen 1, and a pen 2."),
        ("take pen 1 from desk 1", "You pick up the pen 1 from the desk 1."),
        ("go to shelf 2", "You arrive at loc 3. On the shelf 2, you see nothing."),
        ("put pen 1 in/on shelf 2", "You put the pen 1 in/on the shelf 2."),
        ("take pen 2 from desk 1", "Nothing happens."),
        ("go to desk 1", "You arrive at loc 1. On the desk 1, you see a pen 2."),
        ("take pen 2 from desk 1", "You pick up the pen 2 from the desk 1."),
    ):
        two.observe(command, answer)
    assert two.choose() == "go to shelf 2"


def test_after_the_first_of_two_it_says_that_one_is_missing() -> None:
    two = Explorer(
        "Looking quickly around you, you see a desk 1.\n\nYour task is to: put two pen on shelf.", thoughts=0
    )
    two.observe("take pen 1 from desk 1", "You pick up the pen 1 from the desk 1.")
    two.observe("put pen 1 in/on shelf 1", "You put the pen 1 in/on the shelf 1.")
    assert any(words in two.thought() for words in ("one more", "the second one", "another pen"))


def test_a_lamp_that_is_on_is_not_switched_on_again() -> None:
    light = explorer("desk 1, shelf 1", "look at pen under the desklamp", desk=1, shelf=1)
    light.observe("go to desk 1", "You arrive at loc 1. On the desk 1, you see a desklamp 1, and a pen 1.")
    light.observe("use desklamp 1", "You turn on the desklamp 1.")
    light.observe("take pen 1 from desk 1", "You pick up the pen 1 from the desk 1.")
    assert light.choose() != "use desklamp 1"


def test_what_was_missed_is_looked_for_again() -> None:
    """Nothing is left to search: it goes round once more and finds what somebody has brought meanwhile."""
    seeker = explorer("desk 1, shelf 1", "put a pen in safe", desk=9, shelf=9)
    for command, place in (("go to desk 1", "desk 1"), ("go to shelf 1", "shelf 1")):
        seeker.observe(command, f"You arrive at {place}. On the {place}, you see nothing.")
    assert seeker.choose() == "go to desk 1"
    seeker.observe("go to desk 1", "You arrive at desk 1. On the desk 1, you see a pen 1.")
    assert seeker.choose() == "take pen 1 from desk 1"


def test_a_prior_without_any_count_still_wins() -> None:
    """The tables alone say what fits where."""
    tables = load_prior()
    blind = Prior({}, tables._fits_in, tables.openable)
    won = 0
    for seed in range(20):
        state = parse_game(generate(seed, difficulty="easy").data).start()
        won += play(Explorer(introduction(state), prior=blind), state) is not None
    assert won == 20


def test_rates_lean_on_counts_and_never_reach_zero() -> None:
    prior = load_prior()
    assert prior.rate("pan", "stoveburner") > prior.rate("pan", "cabinet") > prior.rate("pan", "garbagecan") > 0
    assert prior.rate("desklamp", "desk") > prior.rate("desklamp", "bed")
    assert prior.rate("floorlamp", "desk") > prior.rate("floorlamp", "bed") > 0, "lamps that were never counted, too"
    assert prior.rate("unicorn", "stable") > 0
    assert {"fridge", "drawer", "cabinet", "safe", "microwave"} <= prior.openable


def test_the_counts_come_from_training_games_alone(shared_dir: Path, repo_root: Path) -> None:
    """Counted anew from the split train they are the same, to the byte."""
    import runpy

    script = runpy.run_path(str(repo_root / "scripts" / "learn_explorer_prior.py"))
    paths = sorted((shared_dir / "data" / "alfworld").glob("**/train/*/*/game.tw-pddl"))
    shipped = json.loads(resources.files("envs.alfworld").joinpath("explorer_prior.json").read_text("utf-8"))
    assert script["SPLIT"] == "train"
    assert shipped == script["learn"](paths)
    assert shipped["games"] == len(paths) == 54


@pytest.mark.parametrize("name", ["explorer_prior.NOTICE"])
def test_the_licence_goes_with_the_counts(name: str) -> None:
    notice = resources.files("envs.alfworld").joinpath(name).read_text("utf-8")
    assert "MIT License" in notice
    assert "Mohit Shridhar" in notice
