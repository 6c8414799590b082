"""Goals of every form in both engines: TextWorld decides which there are, and when they are reached."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path
from typing import Any

import pytest
from alfworld_games import ALL_TASKS, kitchen
from alfworld_mutations import mutate

from envs.alfworld.admission import admit
from envs.alfworld.dialect import write_in_dialect
from envs.alfworld.engine import GameSource
from envs.alfworld.expert import plan
from envs.alfworld.game import GameData, parse_game
from envs.alfworld.households import load_households
from envs.alfworld.textworld_engine import TextWorldEngine
from envs.errors import TaskDataError

pytestmark = [
    pytest.mark.textworld,
    pytest.mark.skipif(importlib.util.find_spec("textworld") is None, reason="the alfworld extra is not installed"),
]

slow = pytest.mark.slow

AGENT = "agent1"
MUG = "mug_bar__plus_01_dot_20_bar__plus_00_dot_95_bar__plus_00_dot_00"
PAN = "pan_bar__plus_02_dot_00_bar__plus_00_dot_95_bar__plus_00_dot_00"
FRIDGE = "fridge_bar__minus_01_dot_00_bar__plus_00_dot_00_bar__plus_00_dot_00"
SINK = "sink_bar__plus_00_dot_00_bar__plus_00_dot_90_bar__plus_02_dot_00_bar_sinkbasin"
COUNTER = "countertop_bar__plus_01_dot_00_bar__plus_00_dot_90_bar__plus_00_dot_00"
MUG_IN_PAN = """(and (exists (?r - receptacle) (and (receptacleType ?r CounterTopType)
    (exists (?o - object) (and (objectType ?o MugType) (exists (?mo - object) (and (objectType ?mo PanType)
    (isReceptacleObject ?mo) (inReceptacleObject ?o ?mo) (inReceptacle ?mo ?r))))))))"""

# Goals that both engines play, from a state in which they do not hold yet.
TO_REACH = (
    f"(holds {AGENT} {MUG})",
    f"(and (holds {AGENT} {MUG}) (not (opened {FRIDGE})))",
    f"(and (openable {FRIDGE}) (opened {FRIDGE}))",
    f"(or (holds {AGENT} {MUG}) (opened {FRIDGE}))",
    f"(and (or (isClean {MUG}) (isHot {MUG})) (imply (opened {FRIDGE}) (isCool {MUG})))",
    f"(not (or (not (opened {FRIDGE})) (not (holds {AGENT} {MUG}))))",
    f"(not (exists (?o - object) (and (objectType ?o AppleType) (inReceptacle ?o {COUNTER}))))",
    f"(forall (?o - object) (imply (objectType ?o AppleType) (inReceptacle ?o {FRIDGE})))",
    "(forall (?r - receptacle) (imply (openable ?r) (opened ?r)))",
    "(exists (?r - receptacle) (and (openable ?r) (forall (?o - object) (not (inReceptacle ?o ?r))) (opened ?r)))",
    "(exists (?r - receptacle) (and (opened ?r) (exists (?r - object) (isClean ?r))))",
    "(and (exists (?o - object) (isClean ?o)) (exists (?o - object) (isSliced ?o)))",
    "(exists (?o - object ?p - object) (and (not (= ?o ?p)) (isClean ?o) (isHot ?p)))",
    f"(exists (?o - object) (and (= ?o {MUG}) (isClean ?o)))",
    "(exists (?o) (isHot ?o))",
    "(exists (?x) (opened ?x))",
    f"(exists (?t - otype) (and (objectType {MUG} ?t) (inReceptacle {MUG} {SINK})))",
    f"(holdsAny {AGENT})",
    f"(and (exists (?o - object) (isClean ?o)) (not (holdsAny {AGENT})))",
    f"(and (holds {AGENT} {MUG}) (forall (?l - location) (not (examined ?l))))",
    f"(and (holds {AGENT} {MUG}) (forall (?x) (or (not (holds {AGENT} ?x)) (= ?x {MUG}))))",
    "(exists (?o - object ?l - location) (and (isHot ?o) (objectAtLocation ?o ?l) (atLocation agent1 ?l)))",
    "(exists (?o - object) (and (isToggled ?o) (forall (?r - receptacle) (imply (openable ?r) (not (opened ?r))))))",
)
# Goals that hold at first: both engines play them, and neither is admitted.
HELD = (
    f"(not (holds {AGENT} {MUG}))",
    f"(imply (opened {FRIDGE}) (holds {AGENT} {MUG}))",
    "(forall (?o - object) (or (not (isHot ?o)) (isClean ?o)))",
    "(and)",
    "(exists (?r - receptacle) (openable ?r))",
)
# What neither loads: TextWorld's planner fails on them, and here the reason is told.
REFUSED = (
    (f"(openable {SINK})", "no commands"),
    ("(exists (?l - location) (examined ?l))", "examined"),
    ("(or)", "no commands"),
    (MUG_IN_PAN, "inreceptacleobject"),
    ("(exists (?o - thing) (isHot ?o))", "thing"),
    ("(exists (?o - (either object receptacle)) (isClean ?o))", "typed list"),
    ("(exists (?o - object) (isHottest ?o))", "ishottest"),
    ("(exists (?o - object) (isHot ?o ?o))", "2 arguments"),
    ("(exists (?o - object) (isClean ?o) (isHot ?o))", "3 parts"),
    (f"(not (opened {FRIDGE}) (opened {SINK}))", "2 parts"),
    (f"(holds ?a {MUG})", "no quantifier binds"),
    (f"(when (opened {FRIDGE}) (holds {AGENT} {MUG}))", "when"),
    (f"(preference p (opened {FRIDGE}))", "preference"),
    ("()", "not a part of a goal"),
)
# What TextWorld plays and the native engine leaves to it, with the reason.
LEFT_TO_TEXTWORLD = (
    (f"(checked {FRIDGE})", "does not track"),
    ("(exists (?o - object) (isOn ?o))", "does not track"),
    ("(exists (?x) (and (receptacle ?x) (opened ?x)))", "never true in TextWorld"),
    ("(exists (?o - object) (or (isHot ?o) (isHot nothing9)))", "does not declare"),
    ("(exists (?o - object ?o - receptacle) (opened ?o))", "twice"),
)


def mostly_slow(cases: tuple[Any, ...], *, every: int) -> list[Any]:
    """One case of so many by default, and all of them in the slow set."""
    values = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [pytest.param(*value, marks=[slow] if number % every else []) for number, value in enumerate(values)]


def game(condition: str, *, fact: str = "") -> dict[str, Any]:
    data = kitchen(goal=f"(:goal {condition}))")
    data["pddl_problem"] = data["pddl_problem"].replace("(:init", f"(:init {fact}", 1)
    return data


def source(data: GameData) -> GameSource:
    return GameSource("game", "game", lambda: data)


def play_both(data: GameData, engine: TextWorldEngine, *, ways: int, steps: int) -> list[bool]:
    """Play the expert's way, then at random; whether the native engine said won, at every step of every episode."""
    judge = engine.open(source(data))
    parsed = parse_game(data)
    way = plan(parsed.start())
    won: list[bool] = []
    try:
        for seed in range(ways):
            rng = random.Random(seed)
            state = parsed.start()
            judge.reset()
            to_do = list(way or []) if seed == 0 else []
            for _ in range(steps):
                won.append(state.won)
                assert judge.won is state.won
                assert judge.admissible() == list(state.admissible())
                near = [command for command in state.admissible() if not command.startswith("go to ")]
                command = to_do.pop(0) if to_do else rng.choice(near if rng.random() < 0.7 else state.admissible())
                assert state.step(command) == judge.step(command), command
    finally:
        judge.close()
    return won


@pytest.mark.parametrize("condition", mostly_slow(TO_REACH, every=3))
def test_goals_are_reached_at_the_same_step(fast: TextWorldEngine, condition: str) -> None:
    data = game(condition)
    admit(parse_game(data), data, path="game")
    won = play_both(data, fast, ways=2, steps=25)
    assert True in won
    assert won[0] is False


@pytest.mark.parametrize("condition", mostly_slow(HELD, every=3))
def test_goals_that_hold_at_first_do_so_in_both(fast: TextWorldEngine, condition: str) -> None:
    data = game(condition)
    assert play_both(data, fast, ways=2, steps=20)[0] is True
    with pytest.raises(TaskDataError, match="holds at the start"):
        admit(parse_game(data), data, path="game")


@pytest.mark.parametrize(("condition", "reason"), mostly_slow(REFUSED, every=len(REFUSED)))
def test_what_textworld_cannot_load_is_refused_with_the_reason(
    fast: TextWorldEngine, condition: str, reason: str
) -> None:
    data = game(condition)
    with pytest.raises(TaskDataError, match="TextWorld cannot load it"):
        fast.open(source(data))
    with pytest.raises(TaskDataError) as caught:
        admit(parse_game(data, path="some/game"), data, path="some/game")
    assert caught.value.message.startswith("some/game: ")
    assert reason in caught.value.message


@pytest.mark.parametrize(("condition", "reason"), mostly_slow(LEFT_TO_TEXTWORLD, every=3))
def test_what_only_textworld_plays_is_refused_with_the_reason(
    fast: TextWorldEngine, condition: str, reason: str
) -> None:
    data = game(condition)
    session = fast.open(source(data))
    assert session.reset().startswith("-= Welcome")
    session.close()
    with pytest.raises(TaskDataError, match="engine='textworld' may load") as caught:
        parse_game(data)
    assert reason in caught.value.message


def test_movable_receptacles_are_played_where_a_fact_fills_them(fast: TextWorldEngine) -> None:
    data = game(MUG_IN_PAN, fact=f"(inReceptacleObject {MUG} {PAN})")
    admit(parse_game(data), data, path="game")
    assert True in play_both(data, fast, ways=3, steps=25)


@pytest.mark.parametrize("text", ["it's a \\ or a \\t, // so.", "50% & more: of it?", "äöü 看.", "a\tb\n\u2028c.", ""])
def test_goal_texts_are_shown_as_they_stand(fast: TextWorldEngine, text: str) -> None:
    domain, grammar = write_in_dialect("0.4", text)
    data = kitchen() | {"pddl_domain": domain, "grammar": grammar}
    session = fast.open(source(data))
    assert session.reset().endswith(f"Your task is to: {text}")
    session.close()
    assert parse_game(data).goal_text == text


@slow
def test_dialect_0_2_means_what_alfworlds_own_does(shared_dir: Path) -> None:
    """Read by TextWorld's and Fast Downward's own parsers, whatever blanks and comments either has."""
    import sys

    arguments = sys.argv
    sys.argv = ["translate.py", "domain", "task"]  # the translator reads its options when it is imported
    try:
        from fast_downward.translate.pddl_parser import lisp_parser
    finally:
        sys.argv = arguments
    from textworld.envs.pddl.logic import _parse_and_convert

    logic = shared_dir / "data/alfworld/logic-0.2"
    domain, grammar = write_in_dialect("0.2", "UNKNOWN GOAL.")
    theirs = (logic / "alfred.pddl").read_text()
    assert lisp_parser.parse_nested_list(domain.split("\n")) == lisp_parser.parse_nested_list(theirs.split("\n"))

    def meaning(text: str) -> tuple[Any, ...]:
        actions, rules = _parse_and_convert(text, rule_name="pddlStart")
        return (
            {name: (action.template, action.feedback_rule, action.grammar) for name, action in actions.items()},
            {name: [repr(rule) for rule in found] for name, found in rules._rules.items()},
        )

    old, new = meaning((logic / "alfred.twl2").read_text()), meaning(load_households().grammar)
    assert meaning(grammar) == old
    assert new != old


@slow
def test_what_is_broken_and_admitted_all_the_same_plays_alike(fast: TextWorldEngine) -> None:
    """Games broken at random: those that the native engine takes, TextWorld loads, and nothing in them differs."""
    rng = random.Random(7)
    played = 0
    while played < 60:
        original = kitchen(rng.choice(ALL_TASKS), dialect=rng.choice(("0.2", "0.4")))
        data = mutate(rng, original)
        try:
            admit(parse_game(data), data, path="game")
        except TaskDataError:
            continue
        if data != original:
            play_both(data, fast, ways=1, steps=12)
            played += 1


@slow
@pytest.mark.parametrize("kind", ["CounterTop", "Fridge", "SinkBasin"])
def test_a_receptacle_without_a_type_plays_alike(fast: TextWorldEngine, kind: str) -> None:
    data = game(f"(holds {AGENT} {MUG})")
    lines = data["pddl_problem"].splitlines()
    untyped = [line for line in lines if not (line.startswith("(receptacleType") and line.endswith(f"{kind}Type)"))]
    assert len(untyped) == len(lines) - 1
    assert True in play_both(data | {"pddl_problem": "\n".join(untyped)}, fast, ways=3, steps=30)
