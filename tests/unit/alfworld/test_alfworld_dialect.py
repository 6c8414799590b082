from __future__ import annotations

import json
from pathlib import Path

import pytest

from envs.alfworld.dialect import identify_dialect, read_goal_text, replace_goal_text, write_in_dialect
from envs.alfworld.pddl import GameFormatError


def test_both_dialects_are_told_by_the_grammar_alone() -> None:
    new, old = (identify_dialect(*reversed(write_in_dialect(name, "put a mug in shelf."))) for name in ("0.4", "0.2"))
    assert (new.name, new.move, new.arrive_at_receptacle) == ("0.4", True, True)
    assert (old.name, old.move, old.arrive_at_receptacle, old.help_text) == ("0.2", False, False, None)
    assert new.help_text is not None
    assert new.help_text.startswith("Available commands:\n  look:")


@pytest.mark.parametrize("goal", ['say "hello" \\ to {obj}.', "look: 50% of it?", "äöü 看."])
def test_any_goal_text_comes_back(goal: str) -> None:
    domain, grammar = write_in_dialect("0.4", goal)
    assert read_goal_text(grammar) == goal
    assert read_goal_text(replace_goal_text(grammar, "other.")) == "other."
    assert identify_dialect(grammar, domain).name == "0.4"


def test_an_intermediate_wording_is_understood() -> None:
    domain, grammar = write_in_dialect("0.2", "x.")
    mixed = identify_dialect(grammar.replace("You arrive at {lend.name}.", "You arrive at {r.name}."), domain)
    assert (mixed.name, mixed.move, mixed.arrive_at_receptacle) == ("mixed", False, True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("You heat the {o.name}", "You warm the {o.name}"),
        ('template :: "open {r}"', 'template :: "unlock {r}"'),
        ("You move the {o.name} to the {r.name}.", "You put the {o.name} in/on the {r.name}."),
        ('template :: "move {o} to {r}"', 'template :: "put {o} in/on {r}"'),
    ],
)
def test_an_unknown_grammar_is_refused(old: str, new: str) -> None:
    domain, grammar = write_in_dialect("0.4", "x.")
    assert old in grammar
    with pytest.raises(GameFormatError, match="grammar"):
        identify_dialect(grammar.replace(old, new, 1), domain)


def test_an_unknown_domain_is_refused() -> None:
    domain, grammar = write_in_dialect("0.4", "x.")
    changed = domain.replace("(not (holdsAny ?a))  ; agent's hands are empty.", "", 1)
    assert changed != domain
    with pytest.raises(GameFormatError, match="domain"):
        identify_dialect(grammar, changed)


def test_there_is_no_third_dialect() -> None:
    with pytest.raises(GameFormatError, match=r"0\.3"):
        write_in_dialect("0.3", "x.")


def test_official_files_speak_the_dialect_that_is_written(shared_dir: Path) -> None:
    path = next((shared_dir / "data/alfworld/json_2.1.1").rglob("game.tw-pddl"))
    game = json.loads(path.read_text())
    assert identify_dialect(game["grammar"], game["pddl_domain"]).name == "0.2"
    domain, grammar = write_in_dialect("0.2", read_goal_text(game["grammar"]))
    assert grammar.split() == game["grammar"].split()
    assert domain.split() == game["pddl_domain"].split()
