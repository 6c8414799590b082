"""What an agent has seen of a household, kept from the texts of its observations alone, in whichever dialect."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["Memory", "Spot", "is_a", "kind_of", "room_and_task"]

_NAME = r"[a-z][a-z ]*? \d{1,9}(?!\d)"
_ITEM = re.compile(rf"\ba ({_NAME})(?=,|\.|$| and )")
_LISTED = re.compile(r"Looking quickly around you, you see ([^.]*)")
_TASK = re.compile(r"Your task is to: *(.*)", re.DOTALL)
_FACING = re.compile(r"You are facing the ([^.]*)\. Next to it, you see")
_ARRIVED = re.compile(r"You arrive at ([^.]+?)\.")
_CLOSED = re.compile(rf"The ({_NAME}) is closed\.")
_INSIDE = re.compile(rf"The ({_NAME}) is open\. In it, you see ([^.]*)")
_UPON = re.compile(rf"On the ({_NAME}), you see ([^.]*)")
_SHUT = re.compile(rf"You close the ({_NAME})\.")
_TAKEN = re.compile(rf"You pick up the ({_NAME}) from the ({_NAME})\.")
_PUT = re.compile(rf"You (put|move) the ({_NAME}) (?:in/on|to) the ({_NAME})\.")
_TREATED = re.compile(rf"You (clean|heat|cool) the ({_NAME}) using the ({_NAME})\.")
_LIT = re.compile(rf"You turn on the ({_NAME})\.")
_CARRYING = re.compile(r"You are carrying: ([^.]*)")
_EMPTY_HANDED = re.compile(r"You are not carrying anything")
_FAILED = re.compile(r"\s*nothing happen(?:s|ed)\b", re.IGNORECASE)
# Every command but "go to" that names a receptacle can be said only beside it.
_BESIDE = re.compile(
    rf"(?:open|close|examine|take {_NAME} from|put {_NAME} in/on|move {_NAME} to|(?:clean|heat|cool) {_NAME} with)"
    rf" ({_NAME})"
)
_GO = re.compile(rf"go to ({_NAME})")


@dataclass(slots=True)
class Spot:
    """A receptacle as far as it is known. ``open`` None: it need not be opened, or nobody has tried; ``contents`` None:
    not seen yet; ``place``: a label that receptacles of one location share, None where it is not known.
    """

    name: str
    open: bool | None = None
    contents: list[str] | None = None
    place: str | None = None
    visits: int = 0

    @property
    def kind(self) -> str:
        """Its kind, such as ``drawer``."""
        return kind_of(self.name)

    @property
    def number(self) -> int:
        """Its number among its kind; 0 where it has none."""
        last = self.name.rpartition(" ")[2]
        return int(last) if last.isdecimal() else 0


@dataclass(slots=True)
class Memory:
    """Everything that can be known by reading along. Never raises, whatever it reads."""

    spots: dict[str, Spot] = field(default_factory=dict)
    held: list[str] = field(default_factory=list)
    treated: dict[str, set[str]] = field(default_factory=lambda: {"clean": set(), "heat": set(), "cool": set()})
    lit: set[str] = field(default_factory=set)
    place: str | None = None  # where the agent stands
    moves: bool | None = None  # whether the game says "move … to …"; None: not known
    failed: bool = False  # whether the last command was not accepted

    def here(self, spot: Spot) -> bool:
        """Whether the agent is known to stand at a receptacle."""
        return spot.place is not None and spot.place == self.place

    def where(self, thing: str) -> list[Spot]:
        """The receptacles in or on which a thing was seen last."""
        return [spot for spot in self.spots.values() if spot.contents is not None and thing in spot.contents]

    def seen_things(self) -> list[tuple[str, Spot]]:
        """All things seen in or on receptacles, without what is held now."""
        return [
            (thing, spot)
            for spot in self.spots.values()
            for thing in spot.contents or ()
            if thing not in self.held  # one that stood in two receptacles stays behind in the other
        ]

    def read_room(self, text: str, admissible: Iterable[str] = ()) -> bool:
        """Note the receptacles that the introduction or the commands list; whether they list any."""
        for listed in _LISTED.finditer(text):
            for name in _items(listed.group(1)):
                self.spot(name)
        self._read_commands(admissible)
        listed_any = bool(self.spots)
        self._read_facing(text)
        return listed_any

    def observe(self, command: str, observation: str, admissible: Iterable[str] = ()) -> None:
        """Note what a command has led to, and what the list of commands gives away."""
        command = " ".join(command.lower().split())
        self.failed = _FAILED.match(observation) is not None
        going = _GO.fullmatch(command)
        if self.failed:
            self._read_failure(command)
        elif going is not None:
            self._arrive(self.spot(going.group(1)), observation)
        self._read_contents(observation)
        self._read_deeds(observation)
        self._read_facing(observation)
        self._read_commands(admissible)

    def spot(self, name: str) -> Spot:
        """The receptacle of this name, noted where it is new."""
        return self.spots.setdefault(name, Spot(name))

    def _arrive(self, spot: Spot, observation: str) -> None:
        arrived = _ARRIVED.search(observation)
        label = arrived.group(1) if arrived else ""
        if label.startswith("loc "):  # the older dialect says where a receptacle is
            spot.place = label
        elif spot.place is None or self.here(spot):  # one cannot go where one is: they do not share a place after all
            spot.place = spot.name
        if label:
            self.moves = not label.startswith("loc ")
        spot.visits += 1
        self.place = spot.place

    def _read_failure(self, command: str) -> None:
        """What a refusal tells: who cannot go somewhere is there already, and what cannot be opened may be open; but
        who cannot even look at something is not there."""
        verb, _, rest = command.partition(" ")
        if (going := _GO.fullmatch(command)) and going.group(1) in self.spots:
            spot = self.spots[going.group(1)]
            if self.place is None:
                self.place = spot.place or spot.name
            spot.place = self.place
        elif verb == "open" and rest in self.spots:
            self.spots[rest].open = True
        elif verb == "examine" and rest in self.spots:
            self.spots[rest].place = None

    def _read_contents(self, text: str) -> None:
        for closed in _CLOSED.finditer(text):
            self.spot(closed.group(1)).open = False
        for found in (*_INSIDE.finditer(text), *_UPON.finditer(text)):
            spot = self.spot(found.group(1))
            spot.contents = _items(found.group(2))
            if found.re is _INSIDE:
                spot.open = True
        for shut in _SHUT.finditer(text):
            self.spot(shut.group(1)).open = False

    def _read_deeds(self, text: str) -> None:
        for taken in _TAKEN.finditer(text):
            thing, name = taken.groups()
            contents = self.spot(name).contents
            if contents is not None and thing in contents:
                contents.remove(thing)
            if thing not in self.held:
                self.held.append(thing)
        for put in _PUT.finditer(text):
            verb, thing, name = put.groups()
            self.moves = verb == "move"
            spot = self.spot(name)
            spot.contents = sorted({*(spot.contents or ()), thing})
            if thing in self.held:
                self.held.remove(thing)
        for treated in _TREATED.finditer(text):
            how, thing, _ = treated.groups()
            self.treated[how].add(thing)
            if how in ("heat", "cool"):
                self.treated["cool" if how == "heat" else "heat"].discard(thing)
        self.lit.update(lit.group(1) for lit in _LIT.finditer(text))
        for carrying in _CARRYING.finditer(text):
            self.held = _items(carrying.group(1))
        if _EMPTY_HANDED.search(text):
            self.held = []

    def _read_facing(self, text: str) -> None:
        facing = _FACING.search(text)
        names = re.findall(_NAME, facing.group(1)) if facing else []
        if names:
            self._share([self.spot(name.removeprefix("and ").strip()) for name in names])

    def _read_commands(self, admissible: Iterable[str]) -> None:
        """Which receptacles are within reach, and those that ``go to`` can reach from elsewhere."""
        near: dict[str, Spot] = {}
        for command in admissible:
            if (beside := _BESIDE.fullmatch(command)) and (beside.group(1) in self.spots or command[0] == "o"):
                near[beside.group(1)] = self.spot(beside.group(1))
                if command.startswith(("open ", "close ")):
                    near[beside.group(1)].open = command.startswith("close ")
            elif going := _GO.fullmatch(command):
                self.spot(going.group(1))
        if near:
            self._share(list(near.values()))

    def _share(self, spots: list[Spot]) -> None:
        """The agent stands at these receptacles: they have one place."""
        known = [spot.place for spot in spots if spot.place is not None]
        place = self.place if self.place is not None else known[0] if known else spots[0].name
        others = set(known) - {place}
        for spot in self.spots.values():
            if spot.place in others:
                spot.place = place
        for spot in spots:
            spot.place = place
        self.place = place


def kind_of(name: str) -> str:
    """``mug`` of ``mug 2``."""
    return name.rpartition(" ")[0] or name


def is_a(name: str, kind: str) -> bool:
    """Whether a name's kind is this one. A toiletpaperroll is a toiletpaper: alfworld's tables say both."""
    return kind_of(name).removesuffix("roll") == kind.removesuffix("roll")


def room_and_task(introduction: str) -> tuple[str, str]:
    """The introduction's two parts: what is said of the room, and the task's sentence ("" where there is none)."""
    task = _TASK.search(introduction)
    if task is None:
        return introduction, ""
    return introduction[: task.start()], task.group(1).strip().partition("\n")[0]


def _items(listing: str) -> list[str]:
    return [found.group(1) for found in _ITEM.finditer(listing)]
