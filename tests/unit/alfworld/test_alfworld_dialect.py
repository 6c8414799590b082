from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from alfworld_games import generated_source, kitchen

from envs.alfworld.dialect import identify_dialect, read_goal_text, replace_goal_text, retell, write_in_dialect
from envs.alfworld.expert import plan
from envs.alfworld.game import parse_game, read_game_file
from envs.alfworld.pddl import GameFormatError, parse_sexpr
from envs.errors import TaskDataError


def test_both_dialects_are_told_by_the_grammar_alone() -> None:
    new, old = (identify_dialect(*reversed(write_in_dialect(name, "put a mug in shelf."))) for name in ("0.4", "0.2"))
    assert (new.name, new.move, new.arrive_at_receptacle) == ("0.4", True, True)
    assert (old.name, old.move, old.arrive_at_receptacle, old.help_text) == ("0.2", False, False, None)
    assert new.help_text is not None
    assert new.help_text.startswith("Available commands:\n  look:")


@pytest.mark.parametrize("goal", ["it's a \\ or a \t, // so.", "look: 50% of it?", "äöü 看.", ""])
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


@pytest.mark.parametrize("letter", [*';|"<>[]#{}', "\ud800"])
def test_a_goal_that_textworld_would_read_as_code_is_refused(letter: str) -> None:
    """TextWorld evaluates ``{…}`` as Python."""
    with pytest.raises(GameFormatError, match="does not show as it stands"):
        write_in_dialect("0.4", f"put {letter} away.")
    _, grammar = write_in_dialect("0.4", "put it away.")
    quoted = json.dumps(f"put {letter} away.")[1:-1]
    with pytest.raises(GameFormatError, match="does not show as it stands"):
        read_goal_text(grammar.replace("put it away.", quoted))


@pytest.mark.parametrize("text", [r"a \q b", "a\nb", r"\u12"])
def test_a_goal_that_is_no_json_is_refused(text: str) -> None:
    _, grammar = write_in_dialect("0.4", "put it away.")
    with pytest.raises(GameFormatError, match="no text in JSON"):
        read_goal_text(grammar.replace("put it away.", text))


def test_a_grammar_without_a_goal_is_not_given_one() -> None:
    with pytest.raises(GameFormatError, match="no 'Your task is to"):
        replace_goal_text("grammar", "x.")


def test_blanks_count_within_texts_only() -> None:
    domain, grammar = write_in_dialect("0.4", "x.")
    assert identify_dialect(grammar.replace("\n", "\n\n  "), domain).name == "0.4"
    with pytest.raises(GameFormatError, match="grammar"):
        identify_dialect(grammar.replace("You open the", "You  open the"), domain)


@pytest.mark.parametrize("broken", ["\ud800", "\u212a"])  # lower-case Kelvin is a k
def test_a_domain_beyond_ascii_is_unknown(broken: str) -> None:
    domain, grammar = write_in_dialect("0.4", "x.")
    assert identify_dialect(grammar, f"{domain}\n; {broken}").name == "0.4"
    with pytest.raises(GameFormatError, match="domain"):
        identify_dialect(grammar, domain.replace("(checked", "(chec" + broken + "ed"))
    with pytest.raises(GameFormatError, match="grammar"):
        identify_dialect(grammar + broken, domain)


def test_help_is_both_in_the_domain_and_in_the_grammar_or_not_at_all() -> None:
    domain, grammar = write_in_dialect("0.4", "x.")
    old_domain, old_grammar = write_in_dialect("0.2", "x.")
    assert identify_dialect(grammar, old_domain).help_text is None
    assert identify_dialect(grammar, old_domain).name == "mixed"
    with pytest.raises(GameFormatError, match="no text for it"):
        identify_dialect(old_grammar, domain)
    other = identify_dialect(grammar.replace("look around your current location", "look about"), domain)
    assert other.help_text is not None
    assert "look about" in other.help_text
    for text, reason in (("{1}", "stands"), (r"\q", "JSON"), ("// x", "comment")):
        with pytest.raises(GameFormatError, match=reason):
            identify_dialect(re.sub(r"\\nAvailable commands.*\n", lambda _, text=text: f'{text}"\n', grammar), domain)


def test_an_unknown_grammar_is_rebuilt_on_request() -> None:
    known = kitchen(dialect="0.4") | {"walkthrough": ["go to desk 1", "move mug 1 to desk 1", "look"]}
    unknown = known | {"grammar": str(known["grammar"]).replace("You open the", "You unlock the")}
    with pytest.raises(TaskDataError, match=r"x\.tw-pddl: its grammar is none .*digest [0-9a-f]{16}.*retell"):
        parse_game(unknown, path="x.tw-pddl")
    assert retell(unknown, "0.4") == known
    told = retell(unknown, "0.2")
    assert told == kitchen(dialect="0.2") | {"walkthrough": ["go to desk 1", "put mug 1 in/on desk 1", "look"]}
    assert retell(told, "0.4") == known
    assert parse_game(told).goal_text == "do it."
    with pytest.raises(GameFormatError, match="Your task"):
        retell(known | {"grammar": "lost"}, "0.2")
    with pytest.raises(GameFormatError, match="no grammar"):
        retell({"pddl_problem": ""}, "0.2")
    with pytest.raises(GameFormatError, match=r"0\.3"):
        retell(known, "0.3")


@pytest.mark.parametrize("seed", range(3))
def test_generated_games_speak_new_and_win_in_both(seed: int) -> None:
    data = generated_source(seed, difficulty="easy").load()
    assert identify_dialect(data["grammar"], data["pddl_domain"]).name == "0.4"
    for name in ("0.2", "0.4"):
        game = parse_game(retell(data, name))
        assert game.dialect.name == name
        assert plan(game.start())


def test_official_files_speak_the_dialect_that_is_written(shared_dir: Path) -> None:
    paths = sorted((shared_dir / "data/alfworld/json_2.1.1").rglob("game.tw-pddl"))
    assert len(paths) == 93
    for path in paths:
        game, _ = read_game_file(path)
        assert identify_dialect(game["grammar"], game["pddl_domain"]).name == "0.2"
        new, old = retell(game, "0.4"), retell(game, "0.2")
        assert identify_dialect(new["grammar"], new["pddl_domain"]).name == "0.4"
        assert read_goal_text(new["grammar"]) == read_goal_text(old["grammar"]) == read_goal_text(game["grammar"])
        assert old["grammar"].split() == game["grammar"].split()
        assert old["pddl_domain"].split() == game["pddl_domain"].split()


def test_dialect_0_2_is_alfworlds_own(shared_dir: Path) -> None:
    """The release's own domain and grammar, byte for byte but for blanks, and the domain as a whole for its meaning."""
    logic = shared_dir / "data/alfworld/logic-0.2"
    domain, grammar = write_in_dialect("0.2", "UNKNOWN GOAL.")
    assert grammar.split() == (logic / "alfred.twl2").read_text().split()
    assert domain.split() == (logic / "alfred.pddl").read_text().split()
    assert parse_sexpr(domain) == parse_sexpr((logic / "alfred.pddl").read_text())
    assert identify_dialect((logic / "alfred.twl2").read_text(), (logic / "alfred.pddl").read_text()).name == "0.2"
