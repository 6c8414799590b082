"""Reading PDDL problems: s-expressions, typed lists, facts. Strict: balanced, declared, and lower-cased throughout.

TextWorld's own parser (Fast Downward's translator) lower-cases everything, so names are lower-case from here on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Fact", "GameFormatError", "Problem", "SExpr", "parse_problem", "parse_sexpr", "parse_typed_list"]

type SExpr = str | list[SExpr]
type Fact = tuple[str, ...]

_COMMENT = re.compile(r";[^\n]*")
_TOKEN = re.compile(r"[()]|[^\s()]+")
_SECTIONS = frozenset({"problem", ":domain", ":objects", ":init", ":goal", ":metric"})


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
    stack: list[list[SExpr]] = [[]]
    for piece in _TOKEN.findall(_COMMENT.sub("", text).lower()):
        if piece == "(":
            stack.append([])
        elif piece == ")":
            if len(stack) == 1:
                msg = "unbalanced parentheses: a ')' closes nothing"
                raise GameFormatError(msg)
            closed = stack.pop()
            stack[-1].append(closed)
        else:
            stack[-1].append(piece)
    if len(stack) > 1:
        msg = f"unbalanced parentheses: {len(stack) - 1} left open at the end"
        raise GameFormatError(msg)
    if len(stack[0]) != 1:
        msg = f"expected one expression, found {len(stack[0])}"
        raise GameFormatError(msg)
    return stack[0][0]


def parse_typed_list(items: list[SExpr]) -> list[tuple[str, str]]:
    """``[a, b, -, t]`` → ``[(a, t), (b, t)]``. Raises GameFormatError where a name has no type."""
    typed: list[tuple[str, str]] = []
    waiting: list[str] = []
    pieces = iter(items)
    for piece in pieces:
        if not isinstance(piece, str):
            msg = f"expected a name in a typed list, found {piece!r}"
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
    if waiting:
        msg = f"no type is given for {', '.join(waiting)}"
        raise GameFormatError(msg)
    return typed


def parse_problem(text: str) -> Problem:
    """Parse a problem. Raises GameFormatError for broken text, missing sections and names that nothing declares."""
    root = parse_sexpr(text)
    if not isinstance(root, list) or not root or root[0] != "define":
        msg = "the problem does not begin with (define"
        raise GameFormatError(msg)
    sections: dict[str, list[SExpr]] = {}
    for section in root[1:]:
        if not isinstance(section, list) or not section or not isinstance(section[0], str):
            msg = f"not a section of a problem: {section!r:.80}"
            raise GameFormatError(msg)
        if section[0] not in _SECTIONS or section[0] in sections:
            msg = f"section {section[0]!r} is unknown or stands twice"
            raise GameFormatError(msg)
        sections[section[0]] = section
    for name in (":objects", ":init", ":goal"):
        if name not in sections:
            msg = f"the problem has no {name} section"
            raise GameFormatError(msg)
    if len(sections[":goal"]) != 2:
        msg = "the goal section must hold exactly one expression"
        raise GameFormatError(msg)
    types = dict(parse_typed_list(sections[":objects"][1:]))
    return Problem(types, _parse_facts(sections[":init"][1:], types), sections[":goal"][1])


def _parse_facts(items: list[SExpr], types: Mapping[str, str]) -> dict[str, frozenset[Fact]]:
    facts: dict[str, set[Fact]] = {}
    for item in items:
        if not isinstance(item, list) or not item or not isinstance(item[0], str):
            msg = f"not a fact: {item!r:.80}"
            raise GameFormatError(msg)
        if item[0] == "=":  # a cost, which play never reads
            continue
        arguments: list[str] = []
        for argument in item[1:]:
            if not isinstance(argument, str) or argument not in types:
                msg = f"the fact {item[0]} names {argument!r:.80}, which :objects does not declare"
                raise GameFormatError(msg)
            arguments.append(argument)
        facts.setdefault(item[0], set()).add(tuple(arguments))
    return {name: frozenset(found) for name, found in facts.items()}
