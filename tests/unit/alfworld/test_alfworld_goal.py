from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from alfworld_games import ALL_TASKS, TWO_APPLES, kitchen

from envs.alfworld import admission
from envs.alfworld.formula import CHANGING, FALSE, TRUE, Both, Exists, Forall, Test, negate, read_condition
from envs.alfworld.game import Game, parse_game
from envs.alfworld.goal import compile_goal
from envs.alfworld.pddl import PREDICATES, GameFormatError, Problem, SExpr, parse_sexpr
from envs.alfworld.state import State

AGENT = "agent1"
MUG = "mug_bar__plus_01_dot_20_bar__plus_00_dot_95_bar__plus_00_dot_00"
KNIFE = "knife_bar__plus_01_dot_10_bar__plus_00_dot_95_bar__plus_00_dot_00"
FRIDGE = "fridge_bar__minus_01_dot_00_bar__plus_00_dot_00_bar__plus_00_dot_00"


def problem_with(goal: str) -> Problem:
    return Problem(GAME.problem.types, GAME.problem.facts, parse_sexpr(goal))


GAME = parse_game(kitchen())


# The meaning of a condition, as slowly and as plainly as can be.


def facts_of(state: State) -> set[tuple[str, ...]]:
    found = {
        (name, *fact) for name, facts in state.game.problem.facts.items() if name not in CHANGING for fact in facts
    }
    agent = {"atlocation", "holds", "holdsany"}
    return found | {(name, AGENT, *rest) if name in agent else (name, *rest) for name, *rest in state.facts()}


def holds(condition: SExpr, bound: dict[str, str], facts: set[tuple[str, ...]], types: dict[str, str]) -> bool:
    match condition:
        case ["and", *parts]:
            return all(holds(part, bound, facts, types) for part in parts)
        case ["or", *parts]:
            return any(holds(part, bound, facts, types) for part in parts)
        case ["not", part]:
            return not holds(part, bound, facts, types)
        case ["imply", first, second]:
            return not holds(first, bound, facts, types) or holds(second, bound, facts, types)
        case ["exists" | "forall" as head, [str() as name, "-", str() as kind], part]:
            values = [thing for thing, own in types.items() if kind in ("object", own)]
            found = (holds(part, {**bound, name: value}, facts, types) for value in values)
            return any(found) if head == "exists" else all(found)
        case [str() as predicate, *names]:
            arguments = tuple(bound.get(str(name), str(name)) for name in names)
            return arguments[0] == arguments[1] if predicate == "=" else (predicate, *arguments) in facts
    raise AssertionError(condition)


def random_condition(rng: random.Random, scope: dict[str, str], depth: int) -> SExpr:
    """A condition over the kitchen; ``scope``: variable → type."""
    kind = rng.choice(("and", "or", "not", "imply", "exists", "exists", "forall") if depth else ("test",))
    match kind:
        case "and" | "or":
            return [kind, *[random_condition(rng, scope, depth - 1) for _ in range(rng.choice((1, 2, 2, 3)))]]
        case "not":
            return [kind, random_condition(rng, scope, depth - 1)]
        case "imply":
            return [kind, random_condition(rng, scope, depth - 1), random_condition(rng, scope, depth - 1)]
        case "exists" | "forall":
            name = rng.choice(("?x", "?y", "?z"))
            wanted = rng.choice(("object", "object", "receptacle", "location", "agent", "otype"))
            return [kind, [name, "-", wanted], random_condition(rng, {**scope, name: wanted}, depth - 1)]
    predicate = rng.choice(
        (*[name for name in PREDICATES if name not in ("checked", "ison")], *CHANGING - {"checked", "ison"}, "=")
    )
    return [predicate, *[random_argument(rng, wanted, scope) for wanted in PREDICATES.get(predicate, ("object",) * 2)]]


def random_argument(rng: random.Random, kind: str, scope: dict[str, str]) -> str:
    fitting = [name for name, own in scope.items() if own == kind] or list(scope)
    if fitting and rng.random() < 0.8:
        return rng.choice(fitting)
    return rng.choice([name for name, own in GAME.problem.types.items() if own == kind or rng.random() < 0.02])


def walk(game: Game, rng: random.Random, steps: int) -> Iterator[State]:
    state = game.start()
    for _ in range(steps):
        yield state
        near = [command for command in state.admissible() if not command.startswith("go to ")]
        state.step(rng.choice(near if rng.random() < 0.7 else state.admissible()))


def test_random_goals_mean_what_they_say() -> None:
    """Against the plain meaning, in states of a random walk; and what is once reached was thought possible."""
    rng = random.Random(0)
    states = [(state.clone(), facts_of(state)) for state in walk(GAME, rng, 60)]
    types = dict(GAME.problem.types)
    reach = admission._Reach(GAME)
    both: list[int] = []
    for _ in range(400):
        condition = random_condition(rng, {}, depth=rng.choice((1, 2, 3)))
        goal = compile_goal(Problem(types, GAME.problem.facts, condition))
        assert goal.reads <= CHANGING
        answers = []
        for state, facts in rng.sample(states, 4):
            answers.append(goal.reached(state))
            assert answers[-1] is holds(condition, {}, facts, types), condition
        if any(answers):
            assert goal.possible(reach._may_be), condition
        both.append(sum(answers))
        assert negate(negate(goal.formula)) == goal.formula
    assert 50 < both.count(0) < 350  # goals of either answer, and some that change it
    assert set(both) - {0, 4}


@pytest.mark.parametrize("fact", [f"(holds ?x {MUG})", "(holdsAny ?x)", "(atLocation ?x ?l)"])
def test_only_the_agent_holds_and_is_somewhere(fact: str) -> None:
    """Though a variable of the type ``object`` stands for everything."""
    other = f"(exists (?x) (and (not (= ?x {AGENT})) (exists (?l - location) (or {fact} (isHot ?x)))))"
    goal = compile_goal(problem_with(other))
    own = compile_goal(problem_with(other.replace("not (=", "or (=")))
    state = GAME.start()
    for command in ("go to countertop 1", "take mug 1 from countertop 1"):
        state.step(command)
    assert own.reached(state)
    assert not goal.reached(state)


@pytest.mark.parametrize("task", ALL_TASKS)
def test_the_six_types_are_simple(task: tuple[str, dict[str, str]]) -> None:
    goal = parse_game(kitchen(task)).goal
    assert goal.simple
    assert len(goal.blocks) == (2 if "light" in task[0] else 1)
    assert goal.missing() == ()
    for block in goal.blocks:
        assert {name for name, _ in block.variables} == {binding.variable for binding in block.bindings}
        assert all(binding.candidates for binding in block.bindings)


def test_blocks_tell_what_an_expert_needs() -> None:
    goal = parse_game(kitchen(TWO_APPLES)).goal
    (block,) = goal.blocks
    assert block.predicates() == {"objecttype", "receptacletype", "inreceptacle", "!="}
    assert block.argument("inreceptacle", 0) == "?o1"
    assert block.argument("ishot", 0) is None
    assert [name.split("_bar_")[0] for name in block.candidates("?o2")] == ["apple", "apple"]
    assert block.candidates("?nothing") == ()
    assert goal.reads == {"inreceptacle"}


@pytest.mark.parametrize(
    "goal",
    [
        f"(holds {AGENT} {MUG})",
        "(or (exists (?o - object) (isHot ?o)) (exists (?o - object) (isClean ?o)))",
        "(exists (?o - object) (not (isHot ?o)))",
        f"(exists (?o - object) (and (= ?o {MUG}) (isHot ?o)))",
        "(forall (?o - object) (isHot ?o))",
        "(and)",
    ],
)
def test_any_other_goal_has_no_blocks(goal: str) -> None:
    compiled = compile_goal(problem_with(goal))
    assert not compiled.simple
    assert compiled.blocks == ()


def test_variables_are_bound_apart() -> None:
    formula = read_condition(
        parse_sexpr("(and (exists (?o - object) (isHot ?o)) (forall (?o) (isCool ?o)))"), GAME.problem
    )
    assert formula == Both(
        (
            Exists((("?o", "object"),), Test(("ishot", "?o"))),
            Forall((("?o/2", "object"),), Test(("iscool", "?o/2"))),
        )
    )


@pytest.mark.parametrize(
    ("condition", "meaning"),
    [
        ("(and)", TRUE),
        ("(or)", FALSE),
        (f"(= {MUG} {MUG})", TRUE),
        (f"(not (= {MUG} {KNIFE}))", TRUE),
        (f"(openable {FRIDGE})", TRUE),
        (f"(not (openable {MUG}))", TRUE),  # of another type
        (f"(opened {MUG})", FALSE),
        (f"(and (opened {FRIDGE}) (or))", FALSE),
        (f"(or (opened {FRIDGE}) (and))", TRUE),
        ("(exists (?o - object) (or))", FALSE),
        ("(forall (?o - object) (and))", TRUE),
        (f"(imply (opened {MUG}) (isHot {MUG}))", TRUE),
        (f"(exists () (opened {FRIDGE}))", Test(("opened", FRIDGE))),
        (f"(not (and (opened {FRIDGE})))", Test(("opened", FRIDGE), positive=False)),
    ],
)
def test_what_constants_decide_is_decided(condition: str, meaning: Any) -> None:
    assert read_condition(parse_sexpr(condition), GAME.problem) == meaning


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("mug", "not a part of a goal"),
        ("((and))", "not a part of a goal"),
        ("(not)", "0 parts"),
        ("(imply (and))", "1 parts"),
        ("(exists ?o (isHot ?o))", "2 parts"),
        ("(exists (o - object) (isHot o))", "no such variable"),
        ("(exists (?o - object) (isHot (?o)))", "does not declare"),
        ("(isHot nothing)", "does not declare"),
        ("(isHot ?o)", "no quantifier binds"),
        ("(checked agent1)", "does not track"),
        ("(object agent1)", "never true in TextWorld"),
        ("(" + "not (" * 70 + "and" + ")" * 71, "deep"),
    ],
)
def test_what_is_no_goal_is_refused(condition: str, reason: str) -> None:
    with pytest.raises(GameFormatError, match=reason):
        read_condition(parse_sexpr(condition), GAME.problem)
