"""What real training games hold and where it lies, counted: household_frequencies.json (see its NOTICE)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Any

from envs.draws import Weighted

__all__ = ["NOWHERE", "Frequencies", "load_frequencies"]

# On the floor, on a wall: in no receptacle.
NOWHERE = ""
# With fewer observations in its own kind of room, a class is counted in the other rooms as well.
_ENOUGH = 5


@dataclass(frozen=True, slots=True)
class Frequencies:
    """Counts of real games, as things to be drawn. Class names as in ALFRED (``SideTable``).

    ``pickupable``: the object classes that can be carried. ``places``: where an object of a class lies (a receptacle
    class or ``NOWHERE``), with weights against each other. ``_receptacles``: room → class → case → histogram.
    """

    pickupable: frozenset[str]
    places: Mapping[str, Mapping[str, int]]
    _receptacles: Mapping[str, Mapping[str, Mapping[str, list[int]]]]
    _copies: Mapping[str, Mapping[str, list[int]]]
    _second_places: Mapping[str, Mapping[str, Mapping[str, int]]]

    def more_receptacles(self, room: str, kind: str, *, alone: bool) -> Weighted[int]:
        """How many receptacles of a class stand in a room that has the class, beyond those whose pose its floor plan
        tells. ``alone``: it tells none of this class.
        """
        return _more_receptacles(room, kind, alone)

    def copies(self, room: str, name: str) -> Weighted[int]:
        """How many objects of a class are in a room that has the class."""
        return _copies(room, name)

    def second_places(self, name: str, kind: str) -> Weighted[tuple[str, ...]] | None:
        """Which receptacles besides hold an object that chiefly stands in one of class ``kind``; None: never any."""
        return _second_places(name, kind)


@lru_cache(maxsize=1)
def load_frequencies() -> Frequencies:
    """The counts, read once."""
    text = resources.files("envs.alfworld").joinpath("household_frequencies.json").read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    return Frequencies(
        pickupable=frozenset(data["pickupable"]),
        places=data["places"],
        _receptacles=data["receptacles"],
        _copies=data["copies"],
        _second_places=data["second_places"],
    )


@cache
def _more_receptacles(room: str, kind: str, alone: bool) -> Weighted[int]:
    case = "alone" if alone else "beside"
    tables = load_frequencies()._receptacles
    own = tables.get(room, {}).get(kind, {}).get(case, [])
    elsewhere = [kinds.get(kind, {}).get(case, []) for kinds in tables.values()]
    return _histogram(own, elsewhere, otherwise=[0, 1] if alone else [1])


@cache
def _copies(room: str, name: str) -> Weighted[int]:
    tables = load_frequencies()._copies
    own = tables.get(room, {}).get(name, [])
    return _histogram(own, [names.get(name, []) for names in tables.values()], otherwise=[0, 1])


@cache
def _second_places(name: str, kind: str) -> Weighted[tuple[str, ...]] | None:
    found = load_frequencies()._second_places.get(name, {}).get(kind)
    if found is None:
        return None
    return Weighted([tuple(kinds.split("+")) if kinds else () for kinds in found], list(found.values()))


def _histogram(own: list[int], elsewhere: list[list[int]], *, otherwise: list[int]) -> Weighted[int]:
    """The numbers 0, 1, 2, … by how often they were counted."""
    counts = own
    if sum(own) < _ENOUGH:
        length = max(map(len, elsewhere), default=0)
        counts = [sum(found[number] for found in elsewhere if number < len(found)) for number in range(length)]
    counts = counts if sum(counts) else otherwise
    return Weighted(range(len(counts)), counts)
