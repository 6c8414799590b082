"""Which texts a game speaks, read from its own grammar.

ALFWorld's grammar has known wordings; what differs is how an arrival, a put and ``help`` are phrased: ``0.2`` (the
json_2.1.1 release, AgentBench) against ``0.4`` (alfworld >= 0.4.0). Everything else is fixed, and a digest of it tells
whether the native engine knows the grammar. An unknown one is refused, never guessed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from envs.alfworld.households import load_households
from envs.alfworld.pddl import GameFormatError

__all__ = [
    "DIALECTS",
    "Dialect",
    "identify_dialect",
    "read_goal_text",
    "replace_goal_text",
    "retell",
    "write_in_dialect",
]

# What games can be retold in.
DIALECTS = ("0.2", "0.4")

_GOAL = re.compile(r'"Your task is to: ((?:[^"\\]|\\.)*)"')
_COMMENT = re.compile(r";[^\n]*")
_HELP_IN_GRAMMAR = re.compile(
    r'action help \{\s*template :: "help";\s*feedback :: "#help\.feedback#";\s*'
    r'grammar :: """\s*\{\s*"help\.feedback"\s*:\s*\[\s*\{\s*"rhs"\s*:\s*("(?:[^"\\\n]|\\.)*")\s*'
    r'\}\s*\]\s*\}\s*"""\s*;\s*\}'
)
_HELP_IN_DOMAIN = re.compile(r"\(:action help\s+:parameters \(\?a - agent\)\s+:precondition\s+\(\)\s+:effect\s+"
                             r"\(and\s+\(checked \?a\)\s*\)\s*\)")  # fmt: skip
# A grammar's pieces: blanks count within its texts, not between them.
_PIECE = re.compile(r'"""|"(?:[^"\\\n]|\\.)*"|[^\s"]+|"')
# What TextWorld takes for commands of its grammar (it would even run what stands in braces), so that no text holds it.
_NOT_TEXT = re.compile(r'[;|"<>\[\]#{}\ud800-\udfff]')
_PUT_COMMAND, _MOVE_COMMAND = re.compile(r"put (.+) in/on (.+)"), re.compile(r"move (.+) to (.+)")

# What is left of either grammar and of either domain when the points above are made equal (SHA-256).
_KNOWN_GRAMMAR = "002d034911122d21467a2523b8c3af6df30371134407cffdb285c577d882472a"
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
    """The goal as the player reads it, from the grammar's task rule.

    Raises GameFormatError where there is none, or one that TextWorld would not show as it stands.
    """
    found = _GOAL.search(grammar)
    if found is None:
        msg = "the grammar holds no 'Your task is to: …' rule"
        raise GameFormatError(msg)
    return _read_text(f'"{found.group(1)}"', "goal")


def replace_goal_text(grammar: str, goal: str) -> str:
    """The grammar with another goal text, which must end as it should read (``put a mug in shelf.``).

    Raises GameFormatError for a text that TextWorld would not show as it stands, and for a grammar without a goal.
    """
    quoted = json.dumps(f"Your task is to: {_plain(goal, 'goal')}")
    replaced, count = _GOAL.subn(lambda _: quoted, grammar, count=1)
    if not count:
        msg = "the grammar holds no 'Your task is to: …' rule"
        raise GameFormatError(msg)
    return replaced


def write_in_dialect(name: str, goal: str) -> tuple[str, str]:
    """The (PDDL domain, grammar) that say a goal in dialect ``0.2`` or ``0.4``, made from alfworld 0.4's own texts.

    Raises GameFormatError for another name, or a goal that no grammar can say.
    """
    tables = load_households()
    domain, grammar = tables.domain, replace_goal_text(tables.grammar, goal)
    if name == "0.2":
        grammar = _HELP_IN_GRAMMAR.sub("", grammar, count=1)
        domain = _HELP_IN_DOMAIN.sub("", domain, count=1)
        for new, old in ((_ARRIVE_RECEPTACLE, _ARRIVE_LOCATION), (_MOVED, _PUT), (_MOVE_TEMPLATE, _PUT_TEMPLATE)):
            grammar = grammar.replace(new, old)
    elif name != "0.4":
        msg = f"there is no dialect {name!r}, only {' and '.join(DIALECTS)}"
        raise GameFormatError(msg)
    return domain, grammar


def retell(data: Mapping[str, Any], dialect: str) -> dict[str, Any]:
    """A game file's JSON told in dialect ``0.2`` or ``0.4``: its problem and its goal's text with that dialect's domain
    and grammar, whatever its own are, even unknown ones; its walkthrough in that dialect's commands.

    Raises GameFormatError where the game's grammar holds no goal, or for a dialect that does not exist.
    """
    grammar = data.get("grammar")
    if not isinstance(grammar, str):
        msg = "the game has no grammar to read its goal from"
        raise GameFormatError(msg)
    domain, told = write_in_dialect(dialect, read_goal_text(grammar))
    game = dict(data) | {"pddl_domain": domain, "grammar": told}
    walkthrough = game.get("walkthrough")
    if isinstance(walkthrough, list):
        game["walkthrough"] = [_retell_command(command, dialect) for command in walkthrough]
    return game


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
    if (digest := _digest(_PIECE.findall(core))) != _KNOWN_GRAMMAR or moved != move:
        raise _unknown("grammar", digest)
    uncommented = _COMMENT.sub("", domain)
    help_in_domain = _HELP_IN_DOMAIN.search(uncommented) is not None
    domain_core = _HELP_IN_DOMAIN.sub("", uncommented, count=1)
    if (digest := _digest(domain_core.lower().split())) != _KNOWN_DOMAIN or not domain_core.isascii():
        raise _unknown("PDDL domain", digest)
    help_text = None
    if help_in_domain:
        if help_rule is None:
            msg = "its PDDL domain has the command help, and its grammar has no text for it"
            raise GameFormatError(msg)
        help_text = _read_text(help_rule.group(1), "help").lstrip()
        if help_text.startswith("//"):
            msg = "its help text begins with '//', which TextWorld takes for a comment"
            raise GameFormatError(msg)
    name = {(True, True, True): "0.4", (False, False, False): "0.2"}.get((move, arrive, help_in_domain), "mixed")
    return Dialect(name, move=move, arrive_at_receptacle=arrive, help_text=help_text)


def _unknown(what: str, digest: str) -> GameFormatError:
    return GameFormatError(
        f"its {what} is none that the native engine knows (core digest {digest[:16]}); "
        "envs.alfworld.dialect.retell rebuilds the game with one that it knows"
    )


def _either(text: str, new: str, old: str) -> tuple[bool, str]:
    """Whether ``new`` stands in the text, and the text with every ``new`` turned into ``old``. Raises for a mixture."""
    if new in text and old in text:
        msg = f"its grammar says both {new!r} and {old!r}"
        raise GameFormatError(msg)
    return new in text, text.replace(new, old)


def _read_text(quoted: str, what: str) -> str:
    """A text of the grammar out of its JSON."""
    try:
        text = str(json.loads(quoted))
    except ValueError as error:
        msg = f"its {what} text is no text in JSON: {error}"
        raise GameFormatError(msg) from error
    return _plain(text, what)


def _plain(text: str, what: str) -> str:
    found = _NOT_TEXT.search(text)
    if found is not None:
        msg = f"its {what} text holds {found.group()!a}, which TextWorld's grammar does not show as it stands"
        raise GameFormatError(msg)
    return text


def _retell_command(command: Any, dialect: str) -> Any:
    source, form = (_PUT_COMMAND, r"move \1 to \2") if dialect == "0.4" else (_MOVE_COMMAND, r"put \1 in/on \2")
    if isinstance(command, str) and (found := source.fullmatch(command)):
        return found.expand(form)
    return command


def _digest(pieces: list[str]) -> str:
    return hashlib.sha256(" ".join(pieces).encode(errors="surrogatepass")).hexdigest()
