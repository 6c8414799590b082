from __future__ import annotations

import pytest

from envs.alfworld.pddl import GameFormatError, parse_problem, parse_sexpr, parse_typed_list

PROBLEM = """
(define (problem p) (:domain d)  ; a comment with a )
 (:objects Mug_bar_1 - object desk_bar_1 - receptacle MugType - otype a1 - agent l1 - location)
 (:init (= (distance l1 l1) 3) (inReceptacle Mug_bar_1 desk_bar_1) (objectType mug_bar_1 mugtype) (atLocation a1 l1))
 (:goal (and (exists (?o - object) (objectType ?o MugType)))))
"""


def test_a_problem_is_read_in_lower_case_without_costs() -> None:
    problem = parse_problem(PROBLEM)
    assert problem.types["mug_bar_1"] == "object"
    assert problem.facts["inreceptacle"] == {("mug_bar_1", "desk_bar_1")}
    assert "=" not in problem.facts
    assert problem.goal == ["and", ["exists", ["?o", "-", "object"], ["objecttype", "?o", "mugtype"]]]


def test_typed_lists_share_a_type() -> None:
    assert parse_typed_list(["a", "b", "-", "t", "c", "-", "u"]) == [("a", "t"), ("b", "t"), ("c", "u")]


@pytest.mark.parametrize("items", [["a"], ["a", "-"], ["-", "t"], [["a"], "-", "t"]])
def test_a_broken_typed_list_is_refused(items: list[str]) -> None:
    with pytest.raises(GameFormatError):
        parse_typed_list(items)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "reason"), [("(a (b)", "left open"), ("(a))", "closes nothing"), ("(a) (b)", "found 2")]
)
def test_unbalanced_text_is_refused(text: str, reason: str) -> None:
    with pytest.raises(GameFormatError, match=reason):
        parse_sexpr(text)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("(define", "(redefine", "begin"),
        (":goal", ":constraints", "unknown"),
        (":goal", ":init", "twice"),
        ("(inReceptacle Mug_bar_1 desk_bar_1)", "(inReceptacle Mug_bar_9 desk_bar_1)", "mug_bar_9"),
        ("(inReceptacle Mug_bar_1 desk_bar_1)", "stray", "not a fact"),
        ("l1 - location", "l1", "no type"),
        ("(:goal (and", "(:goal (b) (and", "exactly one"),
    ],
)
def test_a_broken_problem_is_refused_with_its_reason(old: str, new: str, reason: str) -> None:
    assert old in PROBLEM
    with pytest.raises(GameFormatError, match=reason):
        parse_problem(PROBLEM.replace(old, new, 1))


def test_a_missing_section_is_named() -> None:
    with pytest.raises(GameFormatError, match=":init"):
        parse_problem("(define (problem p) (:objects a - t) (:goal (x ?a)))")
