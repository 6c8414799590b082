"""The changing part of a game: one episode's state. A kilobyte, cloned in a microsecond, hashed as it changes.

Every value is immutable and replaced when it changes, so that clones share whatever they have in common; what lies
where is kept as the difference to the game's first state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from envs.alfworld.rules import Command, View, nothing_happens, view

if TYPE_CHECKING:
    from envs.alfworld.game import Game

__all__ = ["State"]

_NONE: frozenset[str] = frozenset()
_NO_PAIRS: frozenset[tuple[str, str]] = frozenset()
_NO_CHANGES: Mapping[str, tuple[str, ...]] = {}

# What can be said of one thing: predicate of the domain → attribute of the state.
_MARKS = {
    "opened": "opened",
    "isclean": "clean",
    "ishot": "hot",
    "iscool": "cool",
    "istoggled": "toggled",
    "issliced": "sliced",
}


class State:
    """Where the agent is, what it holds, what lies where and what has been done to it.

    Changed through ``step`` and, by the rules, through the methods ``move``, ``mark``, ``take`` and ``put`` alone: they
    keep the digest. An object may stand in two receptacles at first: so do some of the official games'.
    """

    __slots__ = (
        "_contents",
        "_digest",
        "_places",
        "_view",
        "clean",
        "cool",
        "game",
        "hands_full",
        "held",
        "hot",
        "location",
        "opened",
        "sliced",
        "taken_out",
        "toggled",
        "won",
    )

    def __init__(self, game: Game, location: str) -> None:
        self.game = game
        self.location = location
        self.held: tuple[str, ...] = ()
        self.hands_full = False
        self.opened = self.clean = self.hot = self.cool = self.toggled = self.sliced = _NONE
        self.taken_out = _NO_PAIRS  # (object, receptacle), until it is put back there
        self.won = False
        self._contents = _NO_CHANGES  # receptacle → its objects, where they are not those of the first state
        self._places = _NO_CHANGES  # object → its locations, likewise
        self._digest = 0  # of the facts that differ from the first state's
        self._view: View | None = None

    def clone(self) -> State:
        """An independent copy."""
        copy = State.__new__(State)
        copy.game = self.game
        copy.location = self.location
        copy.held = self.held
        copy.hands_full = self.hands_full
        copy.opened = self.opened
        copy.clean = self.clean
        copy.hot = self.hot
        copy.cool = self.cool
        copy.toggled = self.toggled
        copy.sliced = self.sliced
        copy.taken_out = self.taken_out
        copy.won = self.won
        copy._contents = self._contents
        copy._places = self._places
        copy._digest = self._digest
        copy._view = self._view
        return copy

    # Reading

    def contents_of(self, receptacle: str) -> tuple[str, ...]:
        """The objects in or on a receptacle, sorted."""
        found = self._contents.get(receptacle)
        return self.game.first_contents.get(receptacle, ()) if found is None else found

    def places_of(self, thing: str) -> list[str]:
        """The receptacles that hold an object, sorted."""
        return [receptacle for receptacle in self.game.receptacles if thing in self.contents_of(receptacle)]

    def locations_of(self, thing: str) -> tuple[str, ...]:
        """The locations at which the facts put an object."""
        found = self._places.get(thing)
        return self.game.first_places.get(thing, ()) if found is None else found

    def is_at(self, thing: str, location: str) -> bool:
        """Whether the facts put an object at a location."""
        return location in self.locations_of(thing)

    def commands(self) -> dict[str, Command]:
        """Every command that the game accepts now, with the rule it would apply."""
        return self._seen().commands()

    def admissible(self) -> tuple[str, ...]:
        """Every command that the game accepts now, sorted."""
        return self._seen().admissible

    def step(self, command: str) -> tuple[str, bool]:
        """Apply a command; (what the player reads, whether the goal is reached now).

        A command must match an admissible one exactly, blanks around it aside; any other text changes nothing and
        answers "Nothing happens.".
        """
        rule, first, second = self._seen().find(command.strip()) or nothing_happens
        text, changed = rule(self, first, second)
        if changed:
            self._view = None
            goal = self.game.goal
            if not changed.isdisjoint(goal.reads):
                self.won = goal.reached(self)
        return text, self.won

    def facts(self) -> Iterator[tuple[str, ...]]:
        """The facts that steps can change, in no order."""
        game = self.game
        yield ("atlocation", self.location)
        if self.hands_full:
            yield ("holdsany",)
        yield from (("holds", name) for name in self.held)
        for receptacle in game.first_contents.keys() | self._contents.keys():
            yield from (("inreceptacle", name, receptacle) for name in self.contents_of(receptacle))
        for thing in game.first_places.keys() | self._places.keys():
            yield from (("objectatlocation", thing, location) for location in self.locations_of(thing))
        yield from (("takenout", *pair) for pair in self.taken_out)
        for predicate, attribute in _MARKS.items():
            yield from ((predicate, name) for name in getattr(self, attribute))

    def hash(self) -> str:
        """A digest (hex) of the game's first state and of what is different now.

        Equal for equal states of a game, on every machine. It is kept with every change, so that asking costs nothing.
        """
        return f"{self.game.first_digest ^ self._digest:032x}"

    # Changing

    def move(self, location: str) -> None:
        """The agent goes to a location."""
        digest = self.game.fact_digest
        self._digest ^= digest("atlocation", self.location) ^ digest("atlocation", location)
        self.location = location

    def mark(self, predicate: str, name: str, *, on: bool = True) -> None:
        """Something becomes ``opened``, ``isclean``, ``ishot``, ``iscool``, ``istoggled``, ``issliced``, or not so."""
        attribute = _MARKS[predicate]
        marked: frozenset[str] = getattr(self, attribute)
        if (name in marked) is not on:
            setattr(self, attribute, marked | {name} if on else marked - {name})
            self._digest ^= self.game.fact_digest(predicate, name)

    def take(self, thing: str, receptacle: str) -> None:
        """An object goes from a receptacle into the hands. Any other place that the facts give it stays."""
        digest = self.game.fact_digest
        self._digest ^= digest("inreceptacle", thing, receptacle) ^ digest("holds", thing)
        left = tuple([name for name in self.contents_of(receptacle) if name != thing])
        self._contents = {**self._contents, receptacle: left}
        if (thing, receptacle) not in self.taken_out:
            self.taken_out |= {(thing, receptacle)}
            self._digest ^= digest("takenout", thing, receptacle)
        self._set_at(thing, at=False)
        self.held = (*self.held, thing)
        self._set_hands(full=True)

    def put(self, thing: str, receptacle: str) -> None:
        """A held object goes into a receptacle at the agent's location."""
        digest = self.game.fact_digest
        contents = self.contents_of(receptacle)
        if thing not in contents:
            self._contents = {**self._contents, receptacle: tuple(sorted((*contents, thing)))}
            self._digest ^= digest("inreceptacle", thing, receptacle)
        if (thing, receptacle) in self.taken_out:
            self.taken_out -= {(thing, receptacle)}
            self._digest ^= digest("takenout", thing, receptacle)
        self._set_at(thing, at=True)
        self.held = tuple([name for name in self.held if name != thing])
        self._digest ^= digest("holds", thing)
        self._set_hands(full=False)

    def _set_at(self, thing: str, *, at: bool) -> None:
        """Whether the facts put an object at the agent's location."""
        before, here = self.locations_of(thing), self.location
        if (here in before) is not at:
            after = tuple(sorted((*before, here))) if at else tuple([place for place in before if place != here])
            self._places = {**self._places, thing: after}
            self._digest ^= self.game.fact_digest("objectatlocation", thing, here)

    def _set_hands(self, *, full: bool) -> None:
        if self.hands_full is not full:
            self.hands_full = full
            self._digest ^= self.game.fact_digest("holdsany")

    def _seen(self) -> View:
        """What can be done now, found again among the game's views where any episode has been in such a place."""
        if self._view is None:
            self._view = view(self)
        return self._view
