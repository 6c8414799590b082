"""The changing part of a game: one episode's state. Small, mutable, cloned in microseconds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from envs.alfworld.rules import Command, commands, nothing_happens

if TYPE_CHECKING:
    from envs.alfworld.game import Game

__all__ = ["State"]


class State:
    """Where the agent is, what it holds, what lies where and what has been done to it."""

    __slots__ = (
        "_commands",
        "clean",
        "contents",
        "cool",
        "game",
        "hands_full",
        "held",
        "hot",
        "location",
        "object_places",
        "opened",
        "sliced",
        "taken_out",
        "toggled",
        "won",
    )

    def __init__(self, game: Game, location: str) -> None:
        self.game = game
        self.location = location
        self.held: list[str] = []
        self.hands_full = False
        self.opened: set[str] = set()
        # Receptacle → its objects, sorted. An object may stand in two receptacles at first: so do some official games.
        self.contents: dict[str, list[str]] = {}
        self.object_places: set[tuple[str, str]] = set()  # (object, location)
        self.taken_out: set[tuple[str, str]] = set()  # (object, receptacle), until it is put back there
        self.clean: set[str] = set()
        self.hot: set[str] = set()
        self.cool: set[str] = set()
        self.toggled: set[str] = set()
        self.sliced: set[str] = set()
        self.won = False
        self._commands: dict[str, Command] | None = None

    def clone(self) -> State:
        """An independent copy."""
        copy = State.__new__(State)
        copy.game = self.game
        copy.location = self.location
        copy.held = self.held[:]
        copy.hands_full = self.hands_full
        copy.opened = self.opened.copy()
        copy.contents = {receptacle: objects[:] for receptacle, objects in self.contents.items()}
        copy.object_places = self.object_places.copy()
        copy.taken_out = self.taken_out.copy()
        copy.clean = self.clean.copy()
        copy.hot = self.hot.copy()
        copy.cool = self.cool.copy()
        copy.toggled = self.toggled.copy()
        copy.sliced = self.sliced.copy()
        copy.won = self.won
        copy._commands = self._commands
        return copy

    def contents_of(self, receptacle: str) -> tuple[str, ...]:
        """The objects in or on a receptacle, sorted."""
        return tuple(self.contents.get(receptacle, ()))

    def places_of(self, thing: str) -> list[str]:
        """The receptacles that hold an object, sorted."""
        return [name for name in self.game.receptacles if thing in self.contents.get(name, ())]

    def is_at(self, thing: str, location: str) -> bool:
        """Whether the facts put an object at a location."""
        return (thing, location) in self.object_places

    def commands(self) -> dict[str, Command]:
        """Every command that the game accepts now, with the rule it would apply. Not to be changed by the caller."""
        if self._commands is None:
            self._commands = commands(self)
        return self._commands

    def admissible(self) -> list[str]:
        """Every command that the game accepts now, sorted."""
        return sorted(self.commands())

    def step(self, command: str) -> tuple[str, bool]:
        """Apply a command; (what the player reads, whether the goal is reached now).

        A command must match an admissible one exactly, blanks around it aside; any other text changes nothing and
        answers "Nothing happens.".
        """
        rule, first, second = self.commands().get(command.strip(), nothing_happens)
        text, changed = rule(self, first, second)
        if changed:
            self._commands = None
            self.won = self.game.goal.reached(self)
        return text, self.won

    def facts(self) -> Iterator[tuple[str, ...]]:
        """The facts that steps can change, in no order."""
        yield ("atlocation", self.location)
        if self.hands_full:
            yield ("holdsany",)
        yield from (("holds", name) for name in self.held)
        yield from (("inreceptacle", name, place) for place, names in self.contents.items() for name in names)
        yield from (("objectatlocation", *pair) for pair in self.object_places)
        yield from (("takenout", *pair) for pair in self.taken_out)
        groups = (
            ("opened", self.opened),
            ("isclean", self.clean),
            ("ishot", self.hot),
            ("iscool", self.cool),
            ("istoggled", self.toggled),
            ("issliced", self.sliced),
        )
        for predicate, names in groups:
            yield from ((predicate, name) for name in names)

    def hash(self) -> str:
        """A digest (hex) of the game's first state and of what is different now.

        Equal for equal states of a game, on every machine; a few microseconds, since most facts never change.
        """
        start = self.game.initial
        changed = [" ".join(pair) for pair in self.object_places ^ start.object_places]
        changed += [f"{receptacle}: {' '.join(names)}" for receptacle, names in self._changed_contents(start)]
        changed.sort()
        parts = [self.game.initial_digest, self.location, f"{self.hands_full}", *self.held, *changed]
        groups = (self.opened, self.clean, self.hot, self.cool, self.toggled, self.sliced)
        for number, group in enumerate(groups):
            if group:
                parts += [f"{number}", *sorted(group)]
        parts += sorted(" out of ".join(pair) for pair in self.taken_out)
        return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()

    def _changed_contents(self, start: State) -> Iterator[tuple[str, list[str]]]:
        before = start.contents
        for receptacle, names in self.contents.items():
            if names != before.get(receptacle, []):
                yield receptacle, names
