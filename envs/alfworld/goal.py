"""Goals, compiled once so that a check after a step costs microseconds.

A goal is any condition of PDDL over what the native engine tracks. Its quantifiers become searches: each binds its
variables one after another, tries only the things that the constant facts leave, and tests whatever can be tested as
soon as a variable is bound. The goals of the six task types are also told as blocks, which is what experts read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from envs.alfworld.formula import (
    CHANGING,
    Both,
    Either,
    Exists,
    Forall,
    Formula,
    Literal,
    Test,
    free_variables,
    is_variable,
    negate,
    read_condition,
    tests_of,
)
from envs.alfworld.pddl import PREDICATES, Fact, GameFormatError, Problem

if TYPE_CHECKING:
    from envs.alfworld.state import State

__all__ = ["Binding", "Goal", "GoalBlock", "compile_goal"]

# Whether something holds, given what stands for the variables (and constants for themselves) and a state, or whatever
# else the tests were made to look at.
type _Check[S] = Callable[[dict[str, str], S], bool]
type _MakeTest[S] = Callable[[Test], _Check[S]]


@dataclass(frozen=True, slots=True)
class Binding:
    """A variable and the things that the constant facts leave for it."""

    variable: str
    candidates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GoalBlock:
    """One conjunct of a simple goal: its variables with their types, its literals ("!=" for two things that must
    differ), and what each variable may stand for.
    """

    variables: tuple[tuple[str, str], ...]
    literals: tuple[Literal, ...]
    bindings: tuple[Binding, ...]

    def predicates(self) -> set[str]:
        """The predicates of its literals."""
        return {literal[0] for literal in self.literals}

    def argument(self, predicate: str, place: int) -> str | None:
        """The argument at a place (from 0) of the first literal with this predicate, or None."""
        return next((literal[place + 1] for literal in self.literals if literal[0] == predicate), None)

    def candidates(self, variable: str) -> tuple[str, ...]:
        """The objects that the constant facts allow for a variable."""
        return next((binding.candidates for binding in self.bindings if binding.variable == variable), ())


class Goal:
    """A compiled goal.

    ``simple``: it is exactly its ``blocks``, conjuncts of ``exists`` and ``and`` over what must be so, as the goals of
    the six task types are. Any other goal has no blocks. ``formula`` is its normal form, ``reads`` the changing
    predicates in it: a step that changes none of them leaves ``reached`` as it was.
    """

    __slots__ = ("_constants", "_reached", "_things", "blocks", "formula", "reads", "simple")

    def __init__(self, formula: Formula, problem: Problem) -> None:
        self._things = things = _Things(problem)
        self.formula = formula
        literals = [test.literal for test in tests_of(formula)]
        self.reads = frozenset(literal[0] for literal in literals) & CHANGING
        self._constants = {name: name for literal in literals for name in literal[1:] if not is_variable(name)}
        self.blocks = _blocks(formula, things) or ()
        self.simple = bool(self.blocks)
        self._reached = _compile(formula, things, lambda test: _test_state(test, problem))

    def reached(self, state: State) -> bool:
        """Whether the goal holds in the state."""
        return self._reached(self._constants.copy(), state)

    def possible(self, may_be: Callable[[Literal, bool], bool]) -> bool:
        """Whether the goal could hold where each literal of a changing predicate, all arguments given, could be true or
        false (the second argument) by itself: False is a proof that it never holds, True proves nothing.
        """

        def make_test(test: Test) -> _Check[None]:
            predicate, *arguments = test.literal
            if predicate not in CHANGING:
                return _test_constant(test, self._things.problem)
            return lambda bound, _: may_be((predicate, *[bound[name] for name in arguments]), test.positive)

        return _compile(self.formula, self._things, make_test)(self._constants.copy(), None)

    def missing(self) -> tuple[Literal, ...]:
        """Literals of a simple goal that nothing meets and no command changes: one, or some that no one thing meets at
        once. Empty where there are none.
        """
        for block in self.blocks:
            fixed = [literal for literal in block.literals if literal[0] not in CHANGING and literal[0] != "!="]
            for literal in fixed:
                if not self._things.matching(literal):
                    return (literal,)
            for binding in block.bindings:
                if not binding.candidates:
                    return tuple(literal for literal in fixed if binding.variable in literal)
        return ()


def compile_goal(problem: Problem) -> Goal:
    """Compile a problem's goal. Raises GameFormatError, with the reason, for what the native engine cannot play."""
    return Goal(read_condition(problem.goal, problem), problem)


def _blocks(formula: Formula, things: _Things) -> tuple[GoalBlock, ...] | None:
    """A simple goal's blocks; None for any other."""
    found: list[GoalBlock] = []
    for part in formula.parts if isinstance(formula, Both) else (formula,):
        if not isinstance(part, Exists):
            return None
        variables, conjuncts = _flatten(part)
        literals: list[Literal] = []
        for test in conjuncts:
            if not isinstance(test, Test) or not free_variables(test) or (test.literal[0] == "=") is test.positive:
                return None
            literals.append(test.literal if test.positive else ("!=", *test.literal[1:]))
        bindings = tuple(Binding(name, things.candidates(name, kind, conjuncts)) for name, kind in variables)
        found.append(GoalBlock(tuple(variables), tuple(literals), bindings))
    return tuple(found)


def _flatten(formula: Formula) -> tuple[list[tuple[str, str]], list[Formula]]:
    """Nested ``exists`` and ``and`` as one list of variables and one of conjuncts."""
    match formula:
        case Exists(own, part):
            variables, conjuncts = _flatten(part)
            return [*own, *variables], conjuncts
        case Both(parts):
            flat = [_flatten(part) for part in parts]
            return [name for names, _ in flat for name in names], [part for _, found in flat for part in found]
        case _:
            return [], [formula]


def _compile[S](formula: Formula, things: _Things, make_test: _MakeTest[S]) -> _Check[S]:
    """The formula as a function."""
    match formula:
        case Test():
            return make_test(formula)
        case Either(parts):
            options = [_compile(part, things, make_test) for part in parts]
            return lambda bound, state: any(option(bound, state) for option in options)
        case Forall():
            counterexample = _compile(negate(formula), things, lambda test: _not(make_test(_opposite(test))))
            return _not(counterexample)
        case Both(parts):
            return _all([_compile(part, things, make_test) for part in parts])
        case Exists():
            variables, conjuncts = _flatten(formula)
            return _search(variables, conjuncts, things, make_test)


def _opposite(test: Test) -> Test:
    return Test(test.literal, not test.positive)


def _not[S](check: _Check[S]) -> _Check[S]:
    return lambda bound, state: not check(bound, state)


def _search[S](
    variables: Sequence[tuple[str, str]], conjuncts: Sequence[Formula], things: _Things, make_test: _MakeTest[S]
) -> _Check[S]:
    """Whether some values of the variables meet all conjuncts: a loop for each variable, one within the other."""
    left = {name: things.candidates(name, kind, conjuncts) for name, kind in variables}
    waiting = [
        (free_variables(part) & left.keys(), _compile(part, things, make_test))
        for part in conjuncts
        if not _settled(part, left)
    ]
    order: list[tuple[str, list[_Check[S]]]] = []
    bound: set[str] = set()
    at_once = _ready(waiting, bound)
    while len(bound) < len(left):
        # Next the variable that lets the most be tested; of equals, the one that has the fewest things to try.
        def rank(name: str) -> tuple[int, int]:
            return -sum(needed <= bound | {name} for needed, _ in waiting), len(left[name])

        name = min((name for name in left if name not in bound), key=rank)
        bound.add(name)
        order.append((name, _ready(waiting, bound)))
    inner: _Check[S] | None = None
    for name, checks in reversed(order):
        inner = _loop(name, left[name], checks, inner)
    if inner is not None:
        at_once.append(inner)
    return _all(at_once)


def _all[S](checks: list[_Check[S]]) -> _Check[S]:
    return checks[0] if len(checks) == 1 else lambda bound, state: all(check(bound, state) for check in checks)


def _ready[S](waiting: list[tuple[set[str], _Check[S]]], bound: set[str]) -> list[_Check[S]]:
    """Take out of the waiting checks those whose variables are bound."""
    ready = [check for needed, check in waiting if needed <= bound]
    waiting[:] = [(needed, check) for needed, check in waiting if not needed <= bound]
    return ready


def _loop[S](variable: str, candidates: tuple[str, ...], checks: list[_Check[S]], inner: _Check[S] | None) -> _Check[S]:
    """One variable's loop."""

    def search(bound: dict[str, str], state: S) -> bool:
        for candidate in candidates:
            bound[variable] = candidate
            for check in checks:
                if not check(bound, state):
                    break
            else:
                if inner is None or inner(bound, state):
                    return True
        return False

    return search


def _settled(part: Formula, left: Mapping[str, object]) -> bool:
    """Whether a conjunct's candidates are already exact: a constant predicate of one variable."""
    if not isinstance(part, Test) or part.literal[0] in CHANGING:
        return False
    variables = [name for name in part.literal[1:] if is_variable(name)]
    return len(variables) == 1 and variables[0] in left


def _test_constant(test: Test, problem: Problem) -> _Check[object]:
    """A test of what no step changes."""
    predicate, first, *others = test.literal
    wanted = test.positive
    if predicate == "=":
        return lambda bound, _: (bound[first] == bound[others[0]]) is wanted
    facts = problem.facts.get(predicate, frozenset())
    if not others:
        return lambda bound, _: ((bound[first],) in facts) is wanted
    second = others[0]
    return lambda bound, _: ((bound[first], bound[second]) in facts) is wanted


def _test_state(test: Test, problem: Problem) -> _Check[State]:
    """A test of a state."""
    if test.literal[0] not in CHANGING:
        return _test_constant(test, problem)
    check = _test_fact(test.literal, problem)
    return check if test.positive else _not(check)


def _test_fact(literal: Literal, problem: Problem) -> _Check[State]:
    match literal:
        case ("inreceptacle", thing, receptacle):
            return lambda bound, state: bound[thing] in state.contents_of(bound[receptacle])
        case ("objectatlocation", thing, location):
            return lambda bound, state: state.is_at(bound[thing], bound[location])
        case ("isclean", thing):
            return lambda bound, state: bound[thing] in state.clean
        case ("ishot", thing):
            return lambda bound, state: bound[thing] in state.hot
        case ("iscool", thing):
            return lambda bound, state: bound[thing] in state.cool
        case ("istoggled", thing):
            return lambda bound, state: bound[thing] in state.toggled
        case ("issliced", thing):
            return lambda bound, state: bound[thing] in state.sliced
        case ("opened", receptacle):
            return lambda bound, state: bound[receptacle] in state.opened
        # There is one agent, and a variable may stand for anything else.
        case ("holds", agent, thing):
            return lambda bound, state: bound[thing] in state.held and problem.types[bound[agent]] == "agent"
        case ("atlocation", agent, location):
            return lambda bound, state: bound[location] == state.location and problem.types[bound[agent]] == "agent"
        case ("holdsany", agent):
            return lambda bound, state: state.hands_full and problem.types[bound[agent]] == "agent"
    msg = f"its goal asks for '{literal[0]}', which the native engine does not track"
    raise GameFormatError(msg)


class _Things:
    """What variables may stand for, each question answered once: every variable is bound in one place of a goal."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._declared: dict[str, list[str]] = {}
        self._candidates: dict[str, tuple[str, ...]] = {}

    def of_kind(self, kind: str) -> list[str]:
        """The things of a type, in the order of declaration: all of them are of the type ``object``."""
        found = self._declared.get(kind)
        if found is None:
            types = self.problem.types
            found = list(types) if kind == "object" else [name for name, declared in types.items() if declared == kind]
            self._declared[kind] = found
        return found

    def candidates(self, variable: str, kind: str, conjuncts: Iterable[Formula]) -> tuple[str, ...]:
        """The things of the variable's type that the constant facts allow, in the order of declaration."""
        known = self._candidates.get(variable)
        if known is None:
            known = self._candidates[variable] = tuple(self._allowed(variable, kind, conjuncts))
        return known

    def matching(self, literal: Literal) -> list[Fact]:
        """The facts of a constant predicate that fit the constants among a literal's arguments."""
        places = [(place, name) for place, name in enumerate(literal[1:]) if not is_variable(name)]
        facts = list(self.problem.facts.get(literal[0], ()))
        for place, name in places:
            facts = [fact for fact in facts if fact[place] == name]
        return facts

    def _allowed(self, variable: str, kind: str, conjuncts: Iterable[Formula]) -> Iterable[str]:
        found = self.of_kind(kind)
        tests = [part for part in conjuncts if isinstance(part, Test) and variable in part.literal[1:]]
        for test in tests:
            predicate, *arguments = test.literal
            place = arguments.index(variable)
            if predicate == "=":
                other = arguments[1 - place]
                if is_variable(other):
                    continue
                allowed = {other}
            elif predicate in CHANGING:
                if not test.positive or PREDICATES[predicate][place] == kind != "object":
                    continue  # nothing is constant about it
                allowed = set(self.of_kind(PREDICATES[predicate][place]))
            else:
                allowed = {fact[place] for fact in self.matching(test.literal)}
            if test.positive:
                found = [name for name in found if name in allowed]
            elif len(free_variables(test)) == 1 and arguments.count(variable) == 1:
                found = [name for name in found if name not in allowed]
        return found
