"""Reading PDDL problems of the domain ``alfred``: s-expressions, typed lists, facts. Strict, and lower-case throughout.

TextWorld's own parser (Fast Downward's translator) lower-cases everything, so names are lower-case from here on. It
takes much that makes no sense (facts of no predicate, two agents); here a problem either describes a household in which
every step is defined, or is refused with the reason.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

__all__ = [
    "PREDICATES",
    "TYPES",
    "Fact",
    "GameFormatError",
    "Problem",
    "SExpr",
    "parse_problem",
    "parse_sexpr",
    "parse_typed_list",
]

type SExpr = str | list[SExpr]
type Fact = tuple[str, ...]

# The domain's types. In Fast Downward every other one is a kind of "object" too, which matters to quantifiers.
TYPES = frozenset({"agent", "location", "receptacle", "object", "rtype", "otype"})

# The domain's predicates with the types of their arguments; the same in every dialect.
PREDICATES: Mapping[str, tuple[str, ...]] = {
    "atlocation": ("agent", "location"),
    "receptacleatlocation": ("receptacle", "location"),
    "objectatlocation": ("object", "location"),
    "openable": ("receptacle",),
    "opened": ("receptacle",),
    "inreceptacle": ("object", "receptacle"),
    "isreceptacleobject": ("object",),
    "inreceptacleobject": ("object", "object"),
    "isreceptacleobjectfull": ("object",),
    "wasinreceptacle": ("object", "receptacle"),
    "checked": ("receptacle",),
    "examined": ("location",),
    "receptacletype": ("receptacle", "rtype"),
    "cancontain": ("rtype", "otype"),
    "objecttype": ("object", "otype"),
    "holds": ("agent", "object"),
    "holdsany": ("agent",),
    "holdsanyreceptacleobject": ("agent",),
    "full": ("receptacle",),
    "isclean": ("object",),
    "cleanable": ("object",),
    "ishot": ("object",),
    "heatable": ("object",),
    "iscool": ("object",),
    "coolable": ("object",),
    "pickupable": ("object",),
    "moveable": ("object",),
    "toggleable": ("object",),
    "ison": ("object",),
    "istoggled": ("object",),
    "sliceable": ("object",),
    "issliced": ("object",),
}

_COMMENT = re.compile(r";[^\n]*")
_NAME = re.compile(r"[a-z0-9_-]+")
_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?")
_SECTIONS = ("problem", ":domain", ":objects", ":init", ":goal")  # in this order, as Fast Downward wants them
_DOMAIN = "alfred"
_MAX_DEPTH = 100


class GameFormatError(ValueError):
    """A game's text cannot be understood. The loader turns it into a TaskDataError that names the file."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A PDDL problem: the type of each declared object, the facts by predicate, the goal's expression."""

    types: Mapping[str, str]
    facts: Mapping[str, frozenset[Fact]]
    goal: SExpr


def parse_sexpr(text: str) -> SExpr:
    """The one s-expression that the text holds, comments left out, lower-cased. Raises GameFormatError."""
    text = _COMMENT.sub("", text)
    if not text.isascii():
        strange = next(letter for letter in text if not letter.isascii())
        msg = f"a letter that PDDL does not know: {strange!a}"
        raise GameFormatError(msg)
    current: list[SExpr] = []
    stack: list[list[SExpr]] = []
    for piece in text.lower().replace("(", " ( ").replace(")", " ) ").split():
        if piece == "(":
            stack.append(current)
            current = []
            if len(stack) > _MAX_DEPTH:
                msg = f"parentheses are nested more than {_MAX_DEPTH} deep"
                raise GameFormatError(msg)
        elif piece == ")":
            if not stack:
                msg = "unbalanced parentheses: a ')' closes nothing"
                raise GameFormatError(msg)
            stack[-1].append(current)
            current = stack.pop()
        else:
            current.append(piece)
    if stack:
        msg = f"unbalanced parentheses: {len(stack)} left open at the end"
        raise GameFormatError(msg)
    if len(current) != 1:
        msg = f"expected one expression, found {len(current)}"
        raise GameFormatError(msg)
    return current[0]


def parse_typed_list(items: list[SExpr], *, default: str = "") -> list[tuple[str, str]]:
    """``[a, b, -, t]`` → ``[(a, t), (b, t)]``. Raises GameFormatError, also for a name without a type or a default."""
    typed: list[tuple[str, str]] = []
    waiting: list[str] = []
    pieces = iter(items)
    for piece in pieces:
        if not isinstance(piece, str):
            msg = f"expected a name in a typed list, found {_shown(piece)}"
            raise GameFormatError(msg)
        if piece != "-":
            waiting.append(piece)
            continue
        kind = next(pieces, None)
        if not isinstance(kind, str) or not waiting:
            msg = "a '-' in a typed list stands without names before it or a type behind it"
            raise GameFormatError(msg)
        typed += [(name, kind) for name in waiting]
        waiting = []
    if waiting and not default:
        msg = f"no type is given for {', '.join(waiting)[:80]}"
        raise GameFormatError(msg)
    return typed + [(name, default) for name in waiting]


def parse_problem(text: str) -> Problem:
    """Parse a problem.

    Raises GameFormatError, with the reason: broken text; sections that are missing or out of order; names that nothing
    declares, or two things declare; facts of no predicate of the domain or about things of another type; a household in
    which some step would not be defined (see ``_check_household``).
    """
    root = parse_sexpr(text)
    if not isinstance(root, list) or not root or root[0] != "define":
        msg = "the problem does not begin with (define"
        raise GameFormatError(msg)
    sections = _sections(root[1:])
    if len(sections[":goal"]) != 2:
        msg = "the goal section must hold exactly one expression"
        raise GameFormatError(msg)
    if len(sections["problem"]) != 2 or not isinstance(sections["problem"][1], str):
        msg = f"the problem must have one name, not {_shown(sections['problem'][1:])}"
        raise GameFormatError(msg)
    if sections[":domain"][1:] != [_DOMAIN]:
        msg = f"the problem must be one of the domain {_DOMAIN}, not {_shown(sections[':domain'][1:])}"
        raise GameFormatError(msg)
    types = _parse_objects(sections[":objects"][1:])
    facts, named = _parse_facts(sections[":init"][1:], types)
    _check_household(types, facts, named)
    return Problem(types, facts, sections[":goal"][1])


def _sections(items: list[SExpr]) -> dict[str, list[SExpr]]:
    sections: dict[str, list[SExpr]] = {}
    for section in items:
        if not isinstance(section, list) or not section or not isinstance(section[0], str):
            msg = f"not a section of a problem: {_shown(section)}"
            raise GameFormatError(msg)
        if section[0] not in (*_SECTIONS, ":metric") or section[0] in sections:
            msg = f"section {_shown(section[0])} is unknown or stands twice"
            raise GameFormatError(msg)
        sections[section[0]] = section
    for name in _SECTIONS:
        if name not in sections:
            msg = f"the problem has no {name} section"
            raise GameFormatError(msg)
    if tuple(sections)[: len(_SECTIONS)] != _SECTIONS:
        msg = f"the sections must stand in this order: {', '.join(_SECTIONS)}"
        raise GameFormatError(msg)
    if ":metric" in sections and sections[":metric"] != [":metric", "minimize", ["total-cost"]]:
        msg = "the only metric known is (:metric minimize (total-cost))"
        raise GameFormatError(msg)
    return sections


def _parse_objects(items: list[SExpr]) -> dict[str, str]:
    declared = parse_typed_list(items)
    types = dict(declared)
    if len(types) != len(declared):
        name, _ = Counter(name for name, _ in declared).most_common(1)[0]
        msg = f":objects declares {_shown(name)} twice"
        raise GameFormatError(msg)
    if unknown := set(types.values()) - TYPES:
        msg = f":objects declares things of the type {_shown(min(unknown))}, which the domain does not have"
        raise GameFormatError(msg)
    for name in types:
        if not name.isidentifier() and not _NAME.fullmatch(name):  # the former is quick and true of nearly all
            msg = f":objects declares {_shown(name)}, which is no name in PDDL"
            raise GameFormatError(msg)
    if len(agents := [name for name, kind in types.items() if kind == "agent"]) != 1:
        msg = f"there must be one agent, and :objects declares {len(agents)}"
        raise GameFormatError(msg)
    return types


def _parse_facts(items: list[SExpr], types: Mapping[str, str]) -> tuple[dict[str, frozenset[Fact]], set[str]]:
    """The facts by predicate, and whatever they name."""
    facts: defaultdict[str, set[Fact]] = defaultdict(set)
    costs: list[list[SExpr]] = []
    for item in items:
        if not isinstance(item, list) or not item or not isinstance(item[0], str):
            msg = f"not a fact: {_shown(item)}"
            raise GameFormatError(msg)
        predicate = item[0]
        if predicate == "=":
            costs.append(item)
            continue
        fact = cast("Fact", tuple(item[1:]))
        try:
            sound = tuple(map(types.get, fact)) == PREDICATES.get(predicate)
        except TypeError:  # an expression in the place of a name
            sound = False
        if not sound:
            raise _no_fact(item, types)
        facts[predicate].add(fact)
    named = {name for found in facts.values() for fact in found for name in fact}
    if costs:
        _check_costs(costs, named)
    return {name: frozenset(found) for name, found in facts.items()}, named


def _no_fact(item: list[SExpr], types: Mapping[str, str]) -> GameFormatError:
    """Why something is no fact of the domain."""
    predicate = str(item[0])
    kinds = PREDICATES.get(predicate)
    if kinds is None:
        return GameFormatError(f"the fact {_shown(item)} is of no predicate of the domain")
    for name in item[1:]:
        if not isinstance(name, str) or name not in types:
            return GameFormatError(f"the fact {predicate} names {_shown(name)}, which :objects does not declare")
    if len(kinds) != len(item) - 1:
        return GameFormatError(f"the fact {_shown(item)} must name {len(kinds)} things")
    found = [types[str(name)] for name in item[1:]]
    return GameFormatError(f"the fact {predicate} is about {', '.join(kinds)}, not about {', '.join(found)}")


def _check_costs(costs: Iterable[list[SExpr]], named: set[str]) -> None:
    """Costs, ``(= (distance a b) 3)``, which play never reads. TextWorld gives numbers to the things that they name, so
    a thing that stands in costs alone would shift the numbers that the player reads.
    """
    given: dict[Fact, SExpr] = {}
    for cost in costs:
        match cost:
            case ["=", ["total-cost" | "distance" as function, *names], str() as value] if _NUMBER.fullmatch(value):
                key = (function, *[str(name) for name in names])
                if not named.issuperset(key[1:]) or given.setdefault(key, value) != value:
                    msg = f"the cost {_shown(cost)} names what no fact names, or differs from another cost"
                    raise GameFormatError(msg)
            case _:
                msg = f"not a cost: {_shown(cost)}"
                raise GameFormatError(msg)


def _check_household(types: Mapping[str, str], facts: Mapping[str, frozenset[Fact]], named: set[str]) -> None:
    """Whatever must be so for each step to be defined: one agent in one place, things in the places that they name."""
    if (count := len(facts.get("atlocation", ()))) != 1:
        msg = f"the agent must start at exactly one location, found {count}"
        raise GameFormatError(msg)
    places = Counter(receptacle for receptacle, _ in facts.get("receptacleatlocation", ()))
    typed = {name for name, _ in facts.get("objecttype", ())}
    for name, kind in types.items():
        if name not in named:  # real files declare hundreds of things that no fact is about
            continue
        if kind == "receptacle" and places[name] != 1:
            msg = f"the receptacle {name} must be at exactly one location, found {places[name]}"
            raise GameFormatError(msg)
        # A receptacle may be without a type: alfworld's generator can leave it out where it doubts that one opens.
        if kind == "object" and name not in typed:
            msg = f"no fact gives the object {name} a type"
            raise GameFormatError(msg)
        if kind in ("receptacle", "object") and "_bar_" not in name:
            # What the player reads would end in a blank, which no command may.
            msg = f"the {kind} {name} has no '_bar_' in its id, so that no command could name it"
            raise GameFormatError(msg)
    held = {name for _, name in facts.get("holds", ())}
    if len(held) != len(facts.get("holdsany", ())):
        msg = f"the agent holds {len(held)} objects at the start, which does not fit the fact holdsAny"
        raise GameFormatError(msg)
    if lying := held & {name for name, _ in facts.get("inreceptacle", ())}:
        msg = f"{min(lying)} is in the agent's hands and in a receptacle at once"
        raise GameFormatError(msg)


def _shown(item: SExpr | list[SExpr]) -> str:
    """An expression for a message, cut where it is long."""
    return f"{item!r:.80}"
