"""Which texts a game speaks, read from its own grammar.

ALFWorld's grammar has known wordings; what differs is how an arrival, a put and ``help`` are phrased: ``0.2`` (the
json_2.1.1 release, AgentBench) against ``0.4`` (alfworld >= 0.4.0). Everything else is fixed, and a digest of it tells
whether the native engine knows the grammar. An unknown one is refused, never guessed.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import lru_cache

from envs.alfworld.households import load_households
from envs.alfworld.pddl import GameFormatError

__all__ = ["Dialect", "identify_dialect", "read_goal_text", "replace_goal_text", "write_in_dialect"]

_GOAL = re.compile(r'"Your task is to: ((?:[^"\\]|\\.)*)"')
_COMMENT = re.compile(r";[^\n]*")
_HELP_FEEDBACK = re.compile(r'"help\.feedback"\s*:\s*\[\s*\{\s*"rhs"\s*:\s*("(?:[^"\\]|\\.)*")')
_HELP_IN_GRAMMAR = re.compile(
    r'action help \{\s*template :: "help";\s*feedback :: "#help\.feedback#";.*?"""\s*;\s*\}', re.S
)
_HELP_IN_DOMAIN = re.compile(r"\(:action help\s+:parameters \(\?a - agent\)\s+:precondition\s+\(\)\s+:effect\s+"
                             r"\(and\s+\(checked \?a\)\s*\)\s*\)")  # fmt: skip

# What is left of either grammar and of either domain when the points above are made equal (SHA-256).
_KNOWN_GRAMMAR = "01b08e82e84eaab5897d35b747cdba348fd67553971d82b781acb7891d5245c4"
_KNOWN_DOMAIN = "6eca02b13b273d84ef7f20bb79d194d4e0542ba3127af5a257c0115ebb5c1930"

_ARRIVE_RECEPTACLE = "You arrive at {r.name}. #examineReceptacle.feedback#"
_ARRIVE_LOCATION = "You arrive at {lend.name}. #examineReceptacle.feedback#"
_MOVED, _PUT = "You move the {o.name} to the {r.name}.", "You put the {o.name} in/on the {r.name}."
_MOVE_TEMPLATE, _PUT_TEMPLATE = 'template :: "move {o} to {r}";', 'template :: "put {o} in/on {r}";'


@dataclass(frozen=True, slots=True)
class Dialect:
    """The wording of one game.

    ``move``: ``move X to Y``, else ``put X in/on Y``.
    ``arrive_at_receptacle``: "You arrive at desk 1.", else "You arrive at loc 12.".
    ``help_text``: what ``help`` answers, or None where the game has no such command.
    """

    name: str
    move: bool
    arrive_at_receptacle: bool
    help_text: str | None


def read_goal_text(grammar: str) -> str:
    """The goal as the player reads it, from the grammar's task rule. Raises GameFormatError where there is none."""
    found = _GOAL.search(grammar)
    if found is None:
        msg = "the grammar holds no 'Your task is to: …' rule"
        raise GameFormatError(msg)
    return str(json.loads(f'"{found.group(1)}"'))


def replace_goal_text(grammar: str, goal: str) -> str:
    """The grammar with another goal text, which must end as it should read (``put a mug in shelf.``)."""
    quoted = json.dumps(f"Your task is to: {goal}")
    return _GOAL.sub(lambda _: quoted, grammar, count=1)


def write_in_dialect(name: str, goal: str) -> tuple[str, str]:
    """The (PDDL domain, grammar) that say a goal in dialect ``0.2`` or ``0.4``, made from alfworld 0.4's own texts.

    Raises GameFormatError for another name.
    """
    tables = load_households()
    domain, grammar = tables.domain, replace_goal_text(tables.grammar, goal)
    if name == "0.2":
        grammar = _HELP_IN_GRAMMAR.sub("", grammar, count=1)
        domain = _HELP_IN_DOMAIN.sub("", domain, count=1)
        for new, old in ((_ARRIVE_RECEPTACLE, _ARRIVE_LOCATION), (_MOVED, _PUT), (_MOVE_TEMPLATE, _PUT_TEMPLATE)):
            grammar = grammar.replace(new, old)
    elif name != "0.4":
        msg = f"there is no dialect {name!r}, only 0.2 and 0.4"
        raise GameFormatError(msg)
    return domain, grammar


def identify_dialect(grammar: str, domain: str) -> Dialect:
    """The dialect that a game's grammar and domain speak. Raises GameFormatError, naming what is unknown."""
    return _identify(_GOAL.sub('"Your task is to: "', grammar, count=1), domain)


@lru_cache(maxsize=16)
def _identify(grammar: str, domain: str) -> Dialect:
    help_rule = _HELP_IN_GRAMMAR.search(grammar)
    core = grammar.replace(help_rule.group(), "") if help_rule else grammar
    arrive, core = _either(core, _ARRIVE_RECEPTACLE, _ARRIVE_LOCATION)
    moved, core = _either(core, _MOVED, _PUT)
    move, core = _either(core, _MOVE_TEMPLATE, _PUT_TEMPLATE)
    if (digest := _digest(core)) != _KNOWN_GRAMMAR or moved != move:
        msg = f"its grammar is none that the native engine knows (core digest {digest[:16]})"
        raise GameFormatError(msg)
    domain_core = _HELP_IN_DOMAIN.sub("", _COMMENT.sub("", domain), count=1)
    if (digest := _digest(domain_core.lower())) != _KNOWN_DOMAIN:
        msg = f"its PDDL domain is none that the native engine knows (core digest {digest[:16]})"
        raise GameFormatError(msg)
    help_text = None
    if help_rule and _HELP_IN_DOMAIN.search(_COMMENT.sub("", domain)):
        feedback = _HELP_FEEDBACK.search(help_rule.group())
        if feedback is None:
            msg = "its help command has no feedback rule"
            raise GameFormatError(msg)
        help_text = str(json.loads(feedback.group(1))).lstrip()
    name = {(True, True): "0.4", (False, False): "0.2"}.get((move, arrive), "mixed")
    return Dialect(name, move=move, arrive_at_receptacle=arrive, help_text=help_text)


def _either(text: str, new: str, old: str) -> tuple[bool, str]:
    """Whether ``new`` stands in the text, and the text with every ``new`` turned into ``old``. Raises for a mixture."""
    if new in text and old in text:
        msg = f"its grammar says both {new!r} and {old!r}"
        raise GameFormatError(msg)
    return new in text, text.replace(new, old)


def _digest(text: str) -> str:
    return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()
