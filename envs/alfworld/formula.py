"""Conditions of PDDL in a normal form: ``and``, ``or``, ``exists``, ``forall`` over tests that are wanted or unwanted.

``imply`` and ``not`` are worked into the tests, every variable has a name of its own, and what the constants decide is
decided. The meaning is Fast Downward's, which plays the games in TextWorld: a variable of the type ``object`` stands
for everything that is declared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from envs.alfworld.pddl import PREDICATES, TYPES, GameFormatError, Problem, SExpr, parse_typed_list

__all__ = [
    "CHANGING",
    "FALSE",
    "TRUE",
    "Both",
    "Either",
    "Exists",
    "Forall",
    "Formula",
    "Literal",
    "Test",
    "free_variables",
    "is_variable",
    "negate",
    "read_condition",
    "tests_of",
]

# A predicate and its arguments, variables beginning with "?".
type Literal = tuple[str, ...]

# Predicates that a step can change. The rest of the facts are constant.
CHANGING = frozenset(
    {"atlocation", "holds", "holdsany", "inreceptacle", "objectatlocation", "opened", "checked"}
    | {"isclean", "ishot", "iscool", "ison", "istoggled", "issliced"}
)
# Those of them that no text and no command depends on, so that the native engine keeps no account of them.
_UNTRACKED = frozenset({"checked", "ison"})
_MAX_DEPTH = 60


@dataclass(frozen=True, slots=True)
class Test:
    """One literal, wanted (``positive``) or not wanted."""

    __test__ = False  # no test case, whatever pytest thinks of its name

    literal: Literal
    positive: bool = True


@dataclass(frozen=True, slots=True)
class Both:
    """All parts hold; true where there is none."""

    parts: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """One part holds at least; false where there is none."""

    parts: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Exists:
    """The part holds for some values of the variables (name, type)."""

    variables: tuple[tuple[str, str], ...]
    part: Formula


@dataclass(frozen=True, slots=True)
class Forall:
    """The part holds for all values of the variables (name, type)."""

    variables: tuple[tuple[str, str], ...]
    part: Formula


type Formula = Test | Both | Either | Exists | Forall

TRUE, FALSE = Both(()), Either(())


def is_variable(name: str) -> bool:
    """Whether a name in a literal is a variable's."""
    return name.startswith("?")


def negate(formula: Formula) -> Formula:
    """What holds exactly where the formula does not, in the same normal form."""
    match formula:
        case Test(literal, positive):
            return Test(literal, not positive)
        case Both(parts):
            return Either(tuple(negate(part) for part in parts))
        case Either(parts):
            return Both(tuple(negate(part) for part in parts))
        case Exists(variables, part):
            return Forall(variables, negate(part))
        case Forall(variables, part):
            return Exists(variables, negate(part))


def tests_of(formula: Formula) -> Iterator[Test]:
    """The tests within a formula."""
    match formula:
        case Test():
            yield formula
        case Both(parts) | Either(parts):
            for part in parts:
                yield from tests_of(part)
        case Exists(_, part) | Forall(_, part):
            yield from tests_of(part)


def free_variables(formula: Formula) -> set[str]:
    """The variables that the formula uses and does not bind itself."""
    match formula:
        case Test(literal, _):
            return {name for name in literal[1:] if is_variable(name)}
        case Both(parts) | Either(parts):
            return {name for part in parts for name in free_variables(part)}
        case Exists(variables, part) | Forall(variables, part):
            return free_variables(part) - {name for name, _ in variables}


def read_condition(expression: SExpr, problem: Problem) -> Formula:
    """The normal form of a condition without free variables.

    Raises GameFormatError for anything else than PDDL's conditions over the domain's predicates, and for predicates
    that the native engine does not track.
    """
    return _Reader(problem).read(expression, {}, wanted=True, depth=0)


@dataclass(slots=True)
class _Reader:
    problem: Problem
    taken: set[str] = field(default_factory=set)  # names of variables, so that each is bound once

    def read(self, expression: SExpr, scope: Mapping[str, str], *, wanted: bool, depth: int) -> Formula:
        """The normal form of the expression, or of its opposite. ``scope``: variable → its own name."""
        if depth > _MAX_DEPTH:
            msg = f"its goal is nested more than {_MAX_DEPTH} deep"
            raise GameFormatError(msg)
        if not isinstance(expression, list) or not expression or not isinstance(expression[0], str):
            msg = f"not a part of a goal: {expression!r:.80}"
            raise GameFormatError(msg)

        def inner(part: SExpr, *, opposite: bool = False) -> Formula:
            return self.read(part, scope, wanted=wanted is not opposite, depth=depth + 1)

        match expression:
            case ["and" | "or" as head, *parts]:
                join = _both if (head == "and") is wanted else _either
                return join([inner(part) for part in parts])
            case ["not", part]:
                return inner(part, opposite=True)
            case ["imply", condition, result]:
                join = _either if wanted else _both
                return join([inner(condition, opposite=True), inner(result)])
            case ["exists" | "forall" as head, list() as variables, part]:
                return self._quantified(
                    variables, part, scope, exists=(head == "exists") is wanted, wanted=wanted, depth=depth
                )
            case ["and" | "or" | "not" | "imply" | "exists" | "forall" as head, *rest]:
                msg = f"the '{head}' of its goal has not the {len(rest)} parts that it is given"
                raise GameFormatError(msg)
            case [str() as head, *arguments]:
                return self._literal(head, arguments, scope, wanted=wanted)
        raise AssertionError  # a list that begins with a text matches the last case

    def _quantified(
        self, items: list[SExpr], part: SExpr, scope: Mapping[str, str], *, exists: bool, wanted: bool, depth: int
    ) -> Formula:
        variables = parse_typed_list(items, default="object")
        names = [name for name, _ in variables]
        if len(set(names)) != len(names):
            msg = "a quantifier of the goal binds a variable twice"
            raise GameFormatError(msg)
        for name, kind in variables:
            if kind not in TYPES or not is_variable(name):
                msg = f"its goal speaks of {name:.80} as of a {kind:.80}: the domain has no such variable or type"
                raise GameFormatError(msg)
        own = {name: self._own_name(name) for name in names}
        inside = self.read(part, {**scope, **own}, wanted=wanted, depth=depth + 1)
        bound = tuple((own[name], kind) for name, kind in variables)
        if not bound:
            return inside
        # Whether there is anything for a variable to stand for counts too, so that a decided part decides only one way.
        if inside == (FALSE if exists else TRUE):
            return inside
        return Exists(bound, inside) if exists else Forall(bound, inside)

    def _own_name(self, name: str) -> str:
        own, number = name, 1
        while own in self.taken:
            number += 1
            own = f"{name}/{number}"
        self.taken.add(own)
        return own

    def _literal(self, predicate: str, items: list[SExpr], scope: Mapping[str, str], *, wanted: bool) -> Formula:
        kinds = self._kinds(predicate)
        if len(items) != len(kinds):
            msg = f"its goal gives '{predicate:.80}' {len(items)} arguments, and it has {len(kinds)}"
            raise GameFormatError(msg)
        arguments: list[str] = []
        for item in items:
            if not isinstance(item, str) or (item not in scope and item not in self.problem.types):
                what = (
                    "no quantifier binds"
                    if isinstance(item, str) and is_variable(item)
                    else ":objects does not declare"
                )
                msg = f"its goal says '{predicate:.80}' of {item!r:.80}, which {what}"
                raise GameFormatError(msg)
            arguments.append(scope.get(item, item))
        decided = self._decide(predicate, arguments, kinds)
        if decided is None:
            return Test((predicate, *arguments), wanted)
        return TRUE if decided is wanted else FALSE

    def _kinds(self, predicate: str) -> tuple[str, ...]:
        if predicate in _UNTRACKED:
            msg = f"its goal asks for '{predicate}', which the native engine does not track"
            raise GameFormatError(msg)
        if predicate == "=":
            return ("object", "object")
        if predicate in TYPES:
            msg = f"its goal uses the type '{predicate}' as a predicate, which is never true in TextWorld"
            raise GameFormatError(msg)
        if predicate not in PREDICATES:
            msg = f"its goal asks for '{predicate:.80}', which neither the domain nor the language of goals knows"
            raise GameFormatError(msg)
        return PREDICATES[predicate]

    def _decide(self, predicate: str, arguments: list[str], kinds: tuple[str, ...]) -> bool | None:
        """What a literal is at any time; None where that depends on variables or on the state."""
        types = self.problem.types
        if predicate in PREDICATES and any(
            types.get(name, kind) != kind for name, kind in zip(arguments, kinds, strict=True)
        ):
            return False  # facts are only about things of the predicate's types
        if any(map(is_variable, arguments)):
            return None
        if predicate == "=":
            return arguments[0] == arguments[1]
        return None if predicate in CHANGING else tuple(arguments) in self.problem.facts.get(predicate, ())


def _both(parts: list[Formula]) -> Formula:
    return _join(parts, Both, neutral=TRUE, deciding=FALSE)


def _either(parts: list[Formula]) -> Formula:
    return _join(parts, Either, neutral=FALSE, deciding=TRUE)


def _join[J: (Both, Either)](
    parts: list[Formula], join: Callable[[tuple[Formula, ...]], J], *, neutral: Formula, deciding: Formula
) -> Formula:
    flat: list[Formula] = []
    for part in parts:
        if isinstance(part, (Both, Either)) and type(part) is type(neutral):
            flat += part.parts
        elif part == deciding:
            return deciding
        else:
            flat.append(part)
    return flat[0] if len(flat) == 1 else join(tuple(flat))
