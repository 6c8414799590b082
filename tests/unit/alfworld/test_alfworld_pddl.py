from __future__ import annotations

from pathlib import Path

import pytest

from envs.alfworld.game import read_game_file
from envs.alfworld.households import load_households
from envs.alfworld.pddl import (
    PREDICATES,
    TYPES,
    GameFormatError,
    parse_problem,
    parse_sexpr,
    parse_typed_list,
)

PROBLEM = """
(define (problem p) (:domain alfred)  ; a comment with a ), and with ö
 (:objects Mug_bar_1 - object desk_bar_1 - receptacle MugType - otype DeskType - rtype a1 - agent l1 l2 - location)
 (:init (= (distance l1 l1) 3) (inReceptacle Mug_bar_1 desk_bar_1) (objectType mug_bar_1 mugtype) (atLocation a1 l1)
  (receptacleAtLocation desk_bar_1 l1) (receptacleType desk_bar_1 DeskType))
 (:goal (and (exists (?o - object) (objectType ?o MugType)))))
"""
IN_DESK = "(inReceptacle Mug_bar_1 desk_bar_1)"


def test_a_problem_is_read_in_lower_case_without_costs() -> None:
    problem = parse_problem(PROBLEM)
    assert problem.types["mug_bar_1"] == "object"
    assert problem.facts["inreceptacle"] == {("mug_bar_1", "desk_bar_1")}
    assert "=" not in problem.facts
    assert problem.goal == ["and", ["exists", ["?o", "-", "object"], ["objecttype", "?o", "mugtype"]]]


def test_the_signature_is_the_domains_own() -> None:
    domain = parse_sexpr(load_households().domain)
    assert isinstance(domain, list)
    sections = {section[0]: section[1:] for section in domain if isinstance(section, list)}
    assert set(sections[":types"]) == TYPES
    declared = {name: tuple(kind for _, kind in parse_typed_list(rest)) for name, *rest in sections[":predicates"]}  # type: ignore[misc]
    assert declared == PREDICATES


def test_typed_lists_share_a_type() -> None:
    assert parse_typed_list(["a", "b", "-", "t", "c", "-", "u"]) == [("a", "t"), ("b", "t"), ("c", "u")]
    assert parse_typed_list(["a", "-", "t", "b"], default="u") == [("a", "t"), ("b", "u")]


@pytest.mark.parametrize("items", [["a"], ["a", "-"], ["-", "t"], [["a"], "-", "t"], ["a", "-", ["either", "t"]]])
def test_a_broken_typed_list_is_refused(items: list[str]) -> None:
    with pytest.raises(GameFormatError):
        parse_typed_list(items)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(a (b)", "left open"),
        ("(a))", "closes nothing"),
        ("(a) (b)", "found 2"),
        ("(a ö)", r"\\xf6"),
        ("(a\u00a0b)", r"\\xa0"),
        ("(a \ud800)", r"\\ud800"),
        ("(" * 5000 + ")" * 5000, "nested"),
    ],
)
def test_unbalanced_text_is_refused(text: str, reason: str) -> None:
    with pytest.raises(GameFormatError, match=reason):
        parse_sexpr(text)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("(define", "(redefine", "begin"),
        ("(problem p)", "(problem)", "one name"),
        ("(problem p)", "(problem (p))", "one name"),
        (":goal", ":constraints", "unknown"),
        (":goal", ":init", "twice"),
        (":domain alfred", ":domain blocks", "domain alfred"),
        (IN_DESK, "(inReceptacle Mug_bar_9 desk_bar_1)", "mug_bar_9"),
        (IN_DESK, "(inReceptacle (Mug_bar_1) desk_bar_1)", "mug_bar_1"),
        (IN_DESK, "stray", "not a fact"),
        (IN_DESK, "(not (inReceptacle Mug_bar_1 desk_bar_1))", "no predicate"),
        (IN_DESK, "(inReceptacel Mug_bar_1 desk_bar_1)", "no predicate"),
        (IN_DESK, "(inReceptacle Mug_bar_1)", "must name 2"),
        (IN_DESK, "(inReceptacle desk_bar_1 Mug_bar_1)", "about object, receptacle, not about receptacle, object"),
        (IN_DESK, "(holds a1 mug_bar_1)", "holdsAny"),
        (IN_DESK, f"{IN_DESK} (holds a1 mug_bar_1) (holdsAny a1)", "at once"),
        (IN_DESK, f"{IN_DESK} (atLocation a1 l2)", "exactly one location, found 2"),
        ("(atLocation a1 l1)", "", "exactly one location, found 0"),
        ("(receptacleAtLocation desk_bar_1 l1)", "", "desk_bar_1 must be at exactly one location, found 0"),
        (IN_DESK, f"{IN_DESK} (receptacleAtLocation desk_bar_1 l2)", "desk_bar_1 must .* one location, found 2"),
        ("(objectType mug_bar_1 mugtype)", "", "mug_bar_1 a type"),
        ("a1 - agent", "a1 a2 - agent", "declares 2"),
        ("a1 - agent", "", "declares 0"),
        ("a1 - agent", "a1 - robot", "robot"),
        ("a1 - agent", "a1 - agent mug_bar_1 - object", "mug_bar_1' twice"),
        ("a1 - agent", "a1 - agent a,b - object", "a,b"),
        ("l1 l2 - location", "l1 l2", "no type"),
        ("(:goal (and", "(:goal (b) (and", "exactly one"),
        ("(= (distance l1 l1) 3)", "(= (distance l1 l2) 3)", "names what no fact names"),
        ("(= (distance l1 l1) 3)", "(= (distance l1 l1) 3) (= (distance l1 l1) 4)", "differs"),
        ("(= (distance l1 l1) 3)", "(= (distance l1 l1) far)", "not a cost"),
    ],
)  # fmt: skip
def test_a_broken_problem_is_refused_with_its_reason(old: str, new: str, reason: str) -> None:
    assert old in PROBLEM
    with pytest.raises(GameFormatError, match=reason):
        parse_problem(PROBLEM.replace(old, new, 1))


def test_a_receptacle_may_be_without_a_type() -> None:
    """As alfworld's generator can write one of which it doubts that it opens: nothing can be put there."""
    assert "receptacletype" not in parse_problem(PROBLEM.replace("(receptacleType desk_bar_1 DeskType)", "")).facts


@pytest.mark.parametrize("name", ["mug_bar_1", "desk_bar_1"])
def test_what_no_command_could_name_is_refused(name: str) -> None:
    """Without "_bar_" what the player reads ends in a blank, which TextWorld takes off every command."""
    with pytest.raises(GameFormatError, match="no command could name it"):
        parse_problem(PROBLEM.lower().replace(name, "thing"))


def test_sections_are_wanted_in_order() -> None:
    with pytest.raises(GameFormatError, match=":init"):
        parse_problem("(define (problem p) (:domain alfred) (:objects a - object) (:goal (x ?a)))")
    with pytest.raises(GameFormatError, match="order"):
        parse_problem("(define (problem p) (:domain alfred) (:init) (:objects a - object) (:goal (x ?a)))")
    metric = PROBLEM.rstrip().removesuffix(")") + "(:metric minimize (total-cost)))"
    assert parse_problem(metric) == parse_problem(PROBLEM)
    with pytest.raises(GameFormatError, match="metric"):
        parse_problem(metric.replace("minimize", "maximize"))


def test_official_problems_pass_every_check(shared_dir: Path) -> None:
    paths = sorted((shared_dir / "data/alfworld/json_2.1.1").rglob("game.tw-pddl"))
    problems = [parse_problem(read_game_file(path)[0]["pddl_problem"]) for path in paths]
    assert len(problems) == 93
    assert sum(len(found) for problem in problems for found in problem.facts.values()) > 30_000
