"""Goals: PDDL's ``exists`` and ``and`` over literals, compiled once so that a check after a step costs microseconds.

The goal becomes blocks that must all hold. A block binds its variables one after another; for each it knows the
candidates that the constant facts leave, and the literals that can be tested as soon as the variable is bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from envs.alfworld.pddl import Fact, GameFormatError, Problem, SExpr, parse_typed_list

if TYPE_CHECKING:
    from envs.alfworld.state import State

__all__ = ["Goal", "GoalBlock", "Literal", "compile_goal"]

# A predicate and its arguments, variables beginning with "?". "!=" stands for (not (= ?x ?y)).
type Literal = tuple[str, ...]

_UNSUPPORTED = frozenset({"or", "forall", "imply", "not", "when"})
# Predicates that a step can change. The rest of the facts are constant.
_CHANGING = frozenset(
    {"atlocation", "holds", "holdsany", "inreceptacle", "objectatlocation", "opened", "checked"}
    | {"isclean", "ishot", "iscool", "ison", "istoggled", "issliced"}
)
_TRACKED = _CHANGING - {"checked", "ison", "holdsany"}


@dataclass(frozen=True, slots=True)
class _Binding:
    variable: str
    candidates: tuple[str, ...]
    tests: tuple[Literal, ...]


@dataclass(frozen=True, slots=True)
class GoalBlock:
    """One conjunct: its variables with their types, its literals, and the order in which they are bound."""

    variables: tuple[tuple[str, str], ...]
    literals: tuple[Literal, ...]
    bindings: tuple[_Binding, ...]

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
    """A compiled goal."""

    __slots__ = ("_constants", "blocks")

    def __init__(self, blocks: Iterable[GoalBlock], constants: Mapping[str, frozenset[Fact]]) -> None:
        self.blocks = tuple(blocks)
        self._constants = constants

    def reached(self, state: State) -> bool:
        """Whether every block holds in the state."""
        return all(self._bind(block.bindings, 0, {}, state) for block in self.blocks)

    def _bind(self, bindings: tuple[_Binding, ...], index: int, bound: dict[str, str], state: State) -> bool:
        if index == len(bindings):
            return True
        binding = bindings[index]
        for candidate in binding.candidates:
            bound[binding.variable] = candidate
            for test in binding.tests:
                if not self._holds(test, bound, state):
                    break
            else:
                if self._bind(bindings, index + 1, bound, state):
                    return True
        bound.pop(binding.variable, None)
        return False

    def _holds(self, literal: Literal, bound: Mapping[str, str], state: State) -> bool:
        predicate = literal[0]
        arguments = tuple([bound.get(argument, argument) for argument in literal[1:]])
        match predicate:
            case "inreceptacle":
                return arguments[0] in state.contents_of(arguments[1])
            case "!=":
                return arguments[0] != arguments[1]
            case "holds":
                return arguments[1] in state.held
            case "atlocation":
                return arguments[1] == state.location
            case "isclean":
                return arguments[0] in state.clean
            case "ishot":
                return arguments[0] in state.hot
            case "iscool":
                return arguments[0] in state.cool
            case "istoggled":
                return arguments[0] in state.toggled
            case "issliced":
                return arguments[0] in state.sliced
            case "opened":
                return arguments[0] in state.opened
            case "objectatlocation":
                return state.is_at(*arguments)
            case _:
                return arguments in self._constants.get(predicate, ())


def compile_goal(problem: Problem) -> Goal:
    """Compile a problem's goal. Raises GameFormatError for what the native engine does not support (or, forall, …)."""
    return Goal((_compile_block(part, problem) for part in _conjuncts(problem.goal)), problem.facts)


def _conjuncts(expression: SExpr) -> Iterator[SExpr]:
    if isinstance(expression, list) and expression and expression[0] == "and":
        for part in expression[1:]:
            yield from _conjuncts(part)
    else:
        yield expression


def _compile_block(expression: SExpr, problem: Problem) -> GoalBlock:
    variables: list[tuple[str, str]] = []
    literals: list[Literal] = []
    _flatten(expression, variables, literals)
    names = [name for name, _ in variables]
    if len(set(names)) != len(names):
        msg = "the goal binds a variable twice"
        raise GameFormatError(msg)
    for literal in literals:
        for argument in literal[1:]:
            if argument.startswith("?") and argument not in names:
                msg = f"the goal's literal {' '.join(literal)} uses {argument}, which nothing binds"
                raise GameFormatError(msg)
    candidates = {name: _candidates(name, kind, literals, problem) for name, kind in variables}
    bindings: list[_Binding] = []
    bound: set[str] = set()
    for name in sorted(names, key=lambda variable: len(candidates[variable])):
        bound.add(name)
        tests = tuple(
            literal
            for literal in literals
            if name in literal and _variables(literal) <= bound and not _settled(literal)
        )
        bindings.append(_Binding(name, candidates[name], tests))
    return GoalBlock(tuple(variables), tuple(literals), tuple(bindings))


def _flatten(expression: SExpr, variables: list[tuple[str, str]], literals: list[Literal]) -> None:
    """Nested ``exists`` and ``and`` into one list of variables and one of literals."""
    if not isinstance(expression, list) or not expression or not isinstance(expression[0], str):
        msg = f"not a part of a goal: {expression!r:.80}"
        raise GameFormatError(msg)
    head, rest = expression[0], expression[1:]
    if head == "and":
        for part in rest:
            _flatten(part, variables, literals)
    elif head == "exists":
        if len(rest) != 2 or not isinstance(rest[0], list):
            msg = "an exists of the goal needs a list of variables and one condition"
            raise GameFormatError(msg)
        variables += parse_typed_list(rest[0])
        _flatten(rest[1], variables, literals)
    elif head == "not" and len(rest) == 1 and isinstance(rest[0], list) and rest[0][:1] == ["="]:
        literals.append(_literal("!=", rest[0][1:], arity=2))
    elif head in _UNSUPPORTED:
        msg = f"its goal uses '{head}', which the native engine does not support"
        raise GameFormatError(msg)
    elif head in _CHANGING - _TRACKED:
        msg = f"its goal asks for '{head}', which the native engine does not track"
        raise GameFormatError(msg)
    else:
        literals.append(_literal(head, rest))


def _literal(predicate: str, arguments: list[SExpr], *, arity: int | None = None) -> Literal:
    names = [argument for argument in arguments if isinstance(argument, str)]
    if len(names) != len(arguments) or (arity is not None and len(names) != arity) or not any(map(_is_variable, names)):
        msg = f"the goal's literal {predicate} has arguments that the native engine does not support"
        raise GameFormatError(msg)
    return (predicate, *names)


def _candidates(variable: str, kind: str, literals: list[Literal], problem: Problem) -> tuple[str, ...]:
    """The objects of the variable's type that the constant facts allow, in the order of declaration."""
    found = [name for name, declared in problem.types.items() if declared == kind]
    for literal in literals:
        if literal[0] in _CHANGING or literal[0] == "!=" or variable not in literal[1:]:
            continue
        place = literal.index(variable, 1) - 1
        allowed = {
            fact[place]
            for fact in problem.facts.get(literal[0], ())
            if len(fact) == len(literal) - 1
            and all(_is_variable(wanted) or wanted == given for wanted, given in zip(literal[1:], fact, strict=True))
        }
        found = [name for name in found if name in allowed]
    return tuple(found)


def _settled(literal: Literal) -> bool:
    """Whether a literal's candidates are already exact: a constant predicate of one variable."""
    return literal[0] not in _CHANGING and literal[0] != "!=" and len(_variables(literal)) == 1


def _variables(literal: Literal) -> set[str]:
    return {argument for argument in literal[1:] if _is_variable(argument)}


def _is_variable(name: str) -> bool:
    return name.startswith("?")
