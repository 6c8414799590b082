"""Writing a household as the PDDL problem of a game file, in the form of ALFWorld's own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from envs.alfworld.households import Households

__all__ = ["Household", "Location", "Placed", "Receptacle", "write_problem"]

_ABILITIES = ("Cleanable", "Heatable", "Coolable", "Toggleable", "Sliceable")
# Types that the domain itself names, so that they must be declared in every problem.
_DOMAIN_OBJECT_TYPES = ("ButterKnife", "Knife")
_DOMAIN_RECEPTACLE_TYPES = ("Fridge", "Microwave", "SinkBasin")
_ESCAPES = str.maketrans({"-": "_minus_", "+": "_plus_", ".": "_dot_", "|": "_bar_"})


@dataclass(frozen=True, order=True, slots=True)
class Location:
    """A pose of the agent: grid cells of 0.25 m, rotation in quarter turns, horizon in degrees."""

    x: int
    z: int
    rotation: int
    horizon: int

    def __str__(self) -> str:
        return f"loc|{self.x}|{self.z}|{self.rotation}|{self.horizon}"


@dataclass(frozen=True, slots=True)
class Receptacle:
    """A receptacle: its ALFRED id (``Drawer|+00.95|…``), class and location."""

    id: str
    type: str
    location: Location


@dataclass(frozen=True, slots=True)
class Placed:
    """An object: its ALFRED id, class and the receptacles it stands in."""

    id: str
    type: str
    receptacles: tuple[Receptacle, ...]


@dataclass(frozen=True, slots=True)
class Household:
    """A room with everything in it, and where the agent starts."""

    name: str
    receptacles: Sequence[Receptacle]
    objects: Sequence[Placed]
    start: Location


def write_problem(household: Household, tables: Households, goal: str) -> str:
    """The PDDL problem. ``goal`` is alfworld's template, filled in: its ``#`` stands for ``-`` and its last
    parenthesis closes the problem.
    """
    lines = [f"(define (problem {household.name})", "(:domain alfred)", "(:objects", "agent1 - agent"]
    lines += _declarations(household)
    lines += [")", "(:init"]
    lines += _facts(household, tables)
    lines += [")"]
    return "\n".join(lines) + "\n" + goal.replace("#", "-")


def _declarations(household: Household) -> Iterable[str]:
    object_types = sorted({item.type for item in household.objects} | set(_DOMAIN_OBJECT_TYPES))
    receptacle_types = sorted({item.type for item in household.receptacles} | set(_DOMAIN_RECEPTACLE_TYPES))
    locations = sorted({item.location for item in household.receptacles} | {household.start})
    yield from (f"{name}Type - otype" for name in object_types)
    yield from (f"{name}Type - rtype" for name in receptacle_types)
    yield from (f"{_escape(item.id)} - object" for item in household.objects)
    yield from (f"{_escape(item.id)} - receptacle" for item in household.receptacles)
    yield from (f"{_escape(location)} - location" for location in locations)


def _facts(household: Household, tables: Households) -> Iterable[str]:
    for item in household.receptacles:
        name = _escape(item.id)
        yield f"(receptacleType {name} {item.type}Type)"
        yield f"(receptacleAtLocation {name} {_escape(item.location)})"
        if item.type in tables.openable:
            yield f"(openable {name})"
    object_types = sorted({item.type for item in household.objects})
    for receptacle_type in sorted({item.type for item in household.receptacles}):
        for object_type in object_types:
            if object_type in tables.fits_in[receptacle_type]:
                yield f"(canContain {receptacle_type}Type {object_type}Type)"
    for thing in household.objects:
        name = _escape(thing.id)
        yield f"(objectType {name} {thing.type}Type)"
        if thing.type not in tables.actions["Toggleable"]:  # lamps stay where they are
            yield f"(pickupable {name})"
        if thing.type in tables.movable_receptacles:
            yield f"(isReceptacleObject {name})"
        yield from (f"({ability.lower()} {name})" for ability in _ABILITIES if thing.type in tables.actions[ability])
        yield from (f"(inReceptacle {name} {_escape(place.id)})" for place in thing.receptacles)
        yield f"(objectAtLocation {name} {_escape(thing.receptacles[0].location)})"
    yield f"(atLocation agent1 {_escape(household.start)})"


def _escape(name: str | Location) -> str:
    return str(name).translate(_ESCAPES)
