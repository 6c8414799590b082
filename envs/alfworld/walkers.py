"""Who plays when engines are compared: walkers, each of which chooses the next command."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from envs.alfworld.expert import plan
from envs.alfworld.native_engine import NativeSession

__all__ = ["NONSENSE", "WALKERS", "Walker", "distortions"]

# Chooses the next command from (random source, the native session, the commands played so far).
type Walker = Callable[[random.Random, NativeSession, Sequence[str]], str]

_MEGABYTE = 1 << 20

# What no game accepts: nothing, noise, other games' and other dialects' words, and whatever a grammar, a parser, a pipe
# or a terminal might take for its own.
NONSENSE: Mapping[str, str] = MappingProxyType(
    {
        "empty": "",
        "one blank": " ",
        "blanks of every kind": " \t\r\n\v\f\x1c\x1d\x1e\x1f\x85\xa0\u2003\u3000",
        "ten thousand blanks": " " * 10_000,
        "a zero-width blank": "\u200blook",
        "a byte order mark": "\ufefflook",
        "a megabyte of one letter": "x" * _MEGABYTE,
        "a megabyte of words": "look " * (_MEGABYTE // 5),
        "a megabyte beyond ASCII": "看" * (_MEGABYTE // 3),
        "NUL": "\x00",
        "a command and NUL": "look\x00",
        "NUL and a command": "\x00look",
        "control characters": "\x01\x02\x1b[2J\x7f",
        "two lines": "look\ninventory",
        "a line broken within": "go to\ndesk 1",
        "a tab within": "go\tto\tdesk 1",
        "upper case": "LOOK",
        "mixed case": "Look",
        "case that grows when folded": "\u0131nventory \xdf \u0130",
        "letters that look alike": "l\u043e\u043ek",
        "wide letters": "\uff4c\uff4f\uff4f\uff4b",
        "a composed letter": "caf\u00e9",
        "a decomposed letter": "cafe\u0301",
        "right to left": "\u202elook",
        "an emoji": "look 🧹",
        "a lone high surrogate": "\ud800",
        "a lone low surrogate": "look\udfff",
        "surrogates in disorder": "\udc00\ud800",
        "surrogates in pairs, unjoined": "\ud83e\uddf9",
        "the last code point": "\U0010ffff",
        "a full stop": "look.",
        "quoted": '"look"',
        "as JSON": '{"action": "look"}',
        "as a protocol's request": '{"op": "reset"}\n',
        "a grammar's rule": "#look.feedback#",
        "a grammar's introduction": "#intro#",
        "a grammar's variable": "examine {o}",
        "a grammar's variable with its field": "go to {r.name}",
        "a grammar's condition": "{look | atlocation(a, l)}",
        "a grammar's list": "[{r.name|receptacleatlocation(r,l)}]",
        "a backslash and what follows": "look\\n\\x00\\u0041",
        "as PDDL": "(and (atlocation agent1 loc_bar_1) (not (holdsany agent1)))",
        "an operator of the planner": "gotolocation agent1 loc1 loc2 desk1",
        "a format field": "%s %n {0} {}",
        "Python": "__import__('os').getpid()",
        "a comment": "; look",
        "half a command": "go to",
        "the other half": "desk 1",
        "a command of no dialect": "put mug 1 on desk 1",
        "a verb of other games": "drop mug 1",
        "short for look": "l",
        "short for inventory": "i",
        "a movement of other games": "go north",
        "restart": "restart",
        "undo": "undo",
        "quit": "quit",
        "a number": "1",
        "a minus": "-",
        "an agent's format": "ACTION: look",
        "a tool call": '<tool_call>{"name": "take_action", "arguments": {"action": "look"}}</tool_call>',
        "an end of text": "<|im_end|>",
    }
)


def distortions(command: str) -> dict[str, str]:
    """A command as careless hands write it, by what they do to it; with blanks around it it must still be accepted."""
    return {
        "as it is": command,
        "blanks around": f"  {command}\t",
        "a line's end": f"{command}\n",
        "lines' ends around": f"\r\n{command}\r\n",
        "blanks beyond ASCII around": f"\u3000\xa0\x1c{command}\x1f\x85\u2003",
        "very many blanks around": " " * 5000 + command + " " * 5000,
        "a zero-width blank in front": f"\u200b{command}",
        "NUL behind": f"{command}\x00",
        "upper case": command.upper(),
        "capital first": command.capitalize(),
        "title case": command.title(),
        "two blanks within": command.replace(" ", "  ", 1),
        "a tab within": command.replace(" ", "\t", 1),
        "a no-break space within": command.replace(" ", "\xa0", 1),
        "a full stop behind": f"{command}.",
        "an exclamation mark behind": f"{command}!",
        "in quotes": f'"{command}"',
        "twice": f"{command} {command}",
        "twice, in two lines": f"{command}\n{command}",
        "then another": f"{command}, then look",
        "its last letter missing": command[:-1],
        "its first letter missing": command[1:],
        "backwards": command[::-1],
        "without blanks": command.replace(" ", ""),
        "with an article": command.replace(" ", " the ", 1),
        "without numbers": "".join(letter for letter in command if not letter.isdigit()),
        "zeros before the numbers": " ".join(f"0{word}" if word.isdigit() else word for word in command.split(" ")),
        "numbers in another script": command.translate({ord("0") + digit: 0x0660 + digit for digit in range(10)}),
        "a surrogate behind": f"{command}\udc80",
        "in the other dialect": _in_other_dialect(command),
        "as a grammar's symbol": f"#{command}#",
    }


def _in_other_dialect(command: str) -> str:
    if command.startswith("move "):
        return command.replace("move ", "put ", 1).replace(" to ", " in/on ", 1)
    if command.startswith("put "):
        return command.replace("put ", "move ", 1).replace(" in/on ", " to ", 1)
    return f"move {command}" if command != "help" else "help me"


def _walk_at_random(rng: random.Random, session: NativeSession, played: Sequence[str]) -> str:
    """Any admissible command, going elsewhere less often than the many ``go to`` would have it."""
    commands = session.admissible()
    staying = [command for command in commands if not command.startswith("go to ")]
    return rng.choice(staying if staying and rng.random() < 0.6 else commands)


def _walk_curiously(rng: random.Random, session: NativeSession, played: Sequence[str]) -> str:
    """Do things to objects and look at what came of it: what a random walk reaches too seldom to compare."""
    game, state = session.game, session.state
    commands = session.admissible()

    def some(*verbs: str) -> list[str]:
        return [command for command in commands if command.startswith(verbs)]

    last = played[-1] if played else ""
    if last.startswith(("move ", "put ", "take ")) and rng.random() < 0.6:
        return rng.choice([*some("examine "), "look"])
    if last.startswith(("clean ", "heat ", "cool ", "slice ", "use ")) and rng.random() < 0.5:
        return rng.choice([*some("examine "), *some(last)])
    devices = {game.names[name] for name in game.sinks | game.microwaves | game.fridges}
    if state.held:
        chances = (
            (0.4, some("clean ", "heat ", "cool ", "slice ")),
            (0.5, [command for command in some("go to ") if command.removeprefix("go to ") in devices]),
            (0.5, some("move ", "put ")),
        )
    else:
        chances = ((0.6, some("open ")), (0.6, some("take ")), (0.3, some("use ")))
    for chance, options in chances:
        if options and rng.random() < chance:
            return rng.choice(options)
    return rng.choice(commands)


def _walk_to_the_goal(rng: random.Random, session: NativeSession, played: Sequence[str]) -> str:
    """The expert's way, with glances aside; at random once it is won."""
    if rng.random() < 0.15:
        return rng.choice(["look", "inventory", *(c for c in session.admissible() if c.startswith("examine "))])
    commands = plan(session.state)
    return commands[0] if commands else _walk_at_random(rng, session, played)


def _walk_as_an_adversary(rng: random.Random, session: NativeSession, played: Sequence[str]) -> str:
    """What a model might write: almost right commands, stale ones, impossible ones, the other dialect's, and noise."""
    command = _walk_at_random(rng, session, played)
    kind = rng.random()
    if kind < 0.35:
        return command
    if kind < 0.6:
        return rng.choice(list(distortions(command).values()))
    if kind < 0.7:
        return rng.choice(_SMALL_NONSENSE)
    if kind < 0.75:
        return rng.choice(played[-20:]) if played else ""
    return _impossible(rng, list(session.game.names.values()))


def _impossible(rng: random.Random, names: Sequence[str]) -> str:
    """A command of the right form about any things of the game, PDDL's own names among them."""

    def name() -> str:
        return rng.choice(names)

    forms: Iterable[Callable[[], str]] = (
        lambda: f"go to {name()}",
        lambda: f"take {name()} from {name()}",
        lambda: f"put {name()} in/on {name()}",
        lambda: f"move {name()} to {name()}",
        lambda: f"examine {name()}",
        lambda: f"use {name()}",
        lambda: f"open {name()}",
        lambda: f"close {name()}",
        lambda: f"{rng.choice(('clean', 'heat', 'cool', 'slice'))} {name()} with {name()}",
    )
    return rng.choice(tuple(forms))()


# A megabyte is sent once by a test, not at every turn.
_SMALL_NONSENSE = [text for text in NONSENSE.values() if len(text) < 20_000]

WALKERS: Mapping[str, Walker] = MappingProxyType(
    {
        "random": _walk_at_random,
        "curious": _walk_curiously,
        "expert": _walk_to_the_goal,
        "adversarial": _walk_as_an_adversary,
    }
)
