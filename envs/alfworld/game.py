"""A game: everything of a game file that no step changes, parsed once and shared by any number of episodes."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from envs.alfworld.dialect import Dialect, identify_dialect, read_goal_text
from envs.alfworld.goal import compile_goal
from envs.alfworld.pddl import Fact, GameFormatError, Problem, parse_problem
from envs.alfworld.rules import Command, View, go_to
from envs.alfworld.state import State
from envs.errors import TaskDataError

__all__ = [
    "Game",
    "GameData",
    "decode_game",
    "display_names",
    "game_texts",
    "load_game",
    "parse_game",
    "read_game_file",
]

# A game file's JSON: pddl_domain, grammar, pddl_problem (texts), solvable, walkthrough.
type GameData = Mapping[str, Any]

_TEXTS = ("pddl_domain", "grammar", "pddl_problem")


class Game:
    """The constant part of a game. Built by ``parse_game``, ``unpack_game`` or ``GeneratedGame.build``; shared by
    threads, and never changed afterwards but for the answers that it remembers.

    Names are PDDL ids in lower case; ``names`` gives what the player reads (``mug 2``).
    """

    def __init__(
        self, problem: Problem, dialect: Dialect, goal_text: str, *, names: Mapping[str, str] | None = None
    ) -> None:
        facts = problem.facts
        self.problem = problem
        self.dialect = dialect
        self.goal_text = goal_text
        self.names = names or display_names({name for found in facts.values() for fact in found for name in fact})
        # Where the receptacles are. The order is the alphabet's, and so is that of every list the player reads.
        self.receptacle_places: tuple[tuple[str, str], ...] = tuple(
            (receptacle, location) for receptacle, location in sorted(facts.get("receptacleatlocation", ()))
        )
        self.receptacles = tuple(sorted({receptacle for receptacle, _ in self.receptacle_places}))
        self.receptacles_at = _group((location, receptacle) for receptacle, location in self.receptacle_places)
        # What things are and what can be done with them.
        self.receptacle_types = _group(facts.get("receptacletype", ()))
        self.object_types = _group(facts.get("objecttype", ()))
        self.openable = _ones(facts, "openable")
        self.pickupable = _ones(facts, "pickupable")
        self.toggleable = _ones(facts, "toggleable")
        self.cleanable = _ones(facts, "cleanable")
        self.heatable = _ones(facts, "heatable")
        self.coolable = _ones(facts, "coolable")
        self.sliceable = _ones(facts, "sliceable")
        self.receptacle_objects = _ones(facts, "isreceptacleobject")
        self.inside_objects = _group((outer, inner) for inner, outer in sorted(facts.get("inreceptacleobject", ())))
        self.sinks = self.receptacles_of_type("sinkbasintype")
        self.microwaves = self.receptacles_of_type("microwavetype")
        self.fridges = self.receptacles_of_type("fridgetype")
        self.knives = self.objects_of_type("knifetype") | self.objects_of_type("butterknifetype")
        self.goal = compile_goal(problem)
        self.first_contents, self.first_places = _sorted_groups(facts)
        self.views: dict[tuple[Hashable, ...], View] = {}  # what has been found acceptable so far: see rules.view
        self._commands: dict[str, tuple[str, Command]] = {}
        self._go_commands: dict[str, Mapping[str, Command]] = {}
        self._fact_digests: dict[Fact, int] = {}
        self.initial = self._initial_state(problem)  # to be read, never stepped

    def start(self) -> State:
        """A new episode's state."""
        return self.initial.clone()

    @cached_property
    def first_digest(self) -> int:
        """A digest (128 bits) of the first state's changing facts, equal on every machine."""
        lines = sorted(" ".join(fact) for fact in self.initial.facts())
        return _digest("\n".join(lines))

    def fact_digest(self, *fact: str) -> int:
        """A digest (128 bits) of one fact. A state's is the exclusive or of the first state's and of what changed."""
        found = self._fact_digests.get(fact)
        if found is None:
            found = self._fact_digests[fact] = _digest(" ".join(fact))
        return found

    @cached_property
    def fits_in(self) -> dict[str, frozenset[str]]:
        """The receptacles that accept each object, by the types of both."""
        by_type = _group((kind, name) for name in self.receptacles for kind in self.receptacle_types.get(name, ()))
        accepting: dict[str, set[str]] = {}
        for receptacle_type, object_type in self.problem.facts.get("cancontain", ()):
            accepting.setdefault(object_type, set()).update(by_type.get(receptacle_type, ()))
        by_kinds: dict[tuple[str, ...], frozenset[str]] = {}
        for kinds in self.object_types.values():
            if kinds not in by_kinds:
                by_kinds[kinds] = frozenset().union(*(accepting.get(kind, ()) for kind in kinds))
        return {name: by_kinds[kinds] for name, kinds in self.object_types.items()}

    def objects_of_type(self, kind: str) -> frozenset[str]:
        """The objects that the facts give this type (``mugtype``)."""
        return frozenset(name for name, kinds in self.object_types.items() if kind in kinds)

    def receptacles_of_type(self, kind: str) -> frozenset[str]:
        """The receptacles that the facts give this type (``desktype``)."""
        return frozenset(name for name, kinds in self.receptacle_types.items() if kind in kinds)

    def go_commands(self, location: str) -> Mapping[str, Command]:
        """The ``go to …`` commands that a location offers. Built once for each location."""
        commands = self._go_commands.get(location)
        if commands is None:
            commands = {}
            for receptacle, place in self.receptacle_places:
                if place != location:
                    text, command = self.share(f"go to {self.names[receptacle]}", (go_to, receptacle, place))
                    commands[text] = command
            self._go_commands[location] = commands
        return commands

    def share(self, text: str, command: Command) -> tuple[str, Command]:
        """The same text and command as one object each for all views: there are thousands of them."""
        shared = self._commands.setdefault(text, (text, command))
        return shared if shared[1] == command else (text, command)

    def forget_views(self) -> None:
        """Free what ``rules.view`` has found; states that are alive keep theirs."""
        self.views.clear()
        self._commands.clear()
        self._go_commands.clear()

    @cached_property
    def locations(self) -> Mapping[str, str]:
        """Where ``go to`` leads for each receptacle."""
        return MappingProxyType(dict(reversed(self.receptacle_places)))

    def _initial_state(self, problem: Problem) -> State:
        facts = problem.facts
        agents = facts.get("atlocation", frozenset())
        if len(agents) != 1:
            msg = f"the agent must start at exactly one location, found {len(agents)}"
            raise GameFormatError(msg)
        ((_, location),) = agents
        state = State(self, location)
        state.held = tuple(name for _, name in sorted(facts.get("holds", ())))
        state.hands_full = bool(facts.get("holdsany"))
        state.opened = _ones(facts, "opened")
        state.clean = _ones(facts, "isclean")
        state.hot = _ones(facts, "ishot")
        state.cool = _ones(facts, "iscool")
        state.toggled = _ones(facts, "istoggled")
        state.sliced = _ones(facts, "issliced")
        state.won = self.goal.reached(state)
        return state


def display_names(ids: Iterable[str]) -> dict[str, str]:
    """What the player reads for each PDDL id, as alfworld's ``AlfredDemangler`` gives it (no shuffling).

    ``mug_bar_…`` becomes ``mug N``: counted down in the ids' sorted order, so that the first gets the highest number;
    ``basin`` anywhere in the id is added to the name. An id without ``_bar_`` keeps its text and gains a blank.
    """
    ordered = sorted(ids)
    bases = {name: _base_name(name) for name in ordered}
    left = Counter(base for base in bases.values() if base is not None)
    names: dict[str, str] = {}
    for name in ordered:
        base = bases[name]
        if base is None:
            names[name] = f"{name} "
        else:
            names[name] = f"{base} {left[base]}"
            left[base] -= 1
    return names


def parse_game(data: GameData, *, path: str | Path = "<game>") -> Game:
    """Build a game from a game file's JSON.

    Raises TaskDataError, which names the path and the reason: broken or unbalanced PDDL, an unsupported goal, a grammar
    that the native engine does not know.
    """
    texts = game_texts(data, path=path)
    try:
        goal_text = read_goal_text(texts["grammar"])
        dialect = identify_dialect(texts["grammar"], texts["pddl_domain"])
        return Game(parse_problem(texts["pddl_problem"]), dialect, goal_text)
    except GameFormatError as error:
        msg = f"{path}: {error}"
        raise TaskDataError(msg, hint="engine='textworld' may load what the native engine refuses") from error


def read_game_file(path: str | Path) -> tuple[GameData, str]:
    """A game file's JSON and the SHA-256 (hex) of its bytes. Raises TaskDataError."""
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        msg = f"{path}: cannot be read as a game: {error}"
        raise TaskDataError(msg) from error
    return decode_game(raw, path=path), hashlib.sha256(raw).hexdigest()


def decode_game(raw: bytes, *, path: str | Path) -> GameData:
    """The JSON of a game file's bytes. Raises TaskDataError."""
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        msg = f"{path}: cannot be read as a game: {error}"
        raise TaskDataError(msg) from error
    if not isinstance(data, dict):
        msg = f"{path}: not an ALFWorld game: its JSON is no object"
        raise TaskDataError(msg)
    return data


def game_texts(data: GameData, *, path: str | Path) -> dict[str, str]:
    """The texts that a game is made of: ``pddl_domain``, ``grammar``, ``pddl_problem``. Raises TaskDataError."""
    for key in _TEXTS:
        if not isinstance(data.get(key), str):
            msg = f"{path}: not an ALFWorld game: {key!r} is missing or no text"
            raise TaskDataError(msg, hint="game files are called game.tw-pddl")
    return {key: data[key] for key in _TEXTS}


def load_game(path: str | Path) -> Game:
    """Read and parse a game file (``game.tw-pddl``). Raises TaskDataError."""
    data, _ = read_game_file(path)
    return parse_game(data, path=path)


def _base_name(name: str) -> str | None:
    base, bar, _ = name.partition("_bar_")
    if not bar:
        return None
    return f"{base}basin" if "basin" in name else base


def _sorted_groups(
    facts: Mapping[str, frozenset[Fact]],
) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """What lies in each receptacle at first, and at which locations each object is."""
    contents = _group((receptacle, name) for name, receptacle in sorted(facts.get("inreceptacle", ())))
    return contents, _group(sorted(facts.get("objectatlocation", ())))


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest())


def _ones(facts: Mapping[str, frozenset[Fact]], predicate: str) -> frozenset[str]:
    return frozenset(fact[0] for fact in facts.get(predicate, ()))


def _group(pairs: Iterable[Fact]) -> dict[str, tuple[str, ...]]:
    grouped: dict[str, list[str]] = {}
    for key, value in pairs:
        grouped.setdefault(key, []).append(value)
    return {key: tuple(values) for key, values in grouped.items()}
