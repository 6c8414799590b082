"""Writing a household as the PDDL problem of a game file, in the form of ALFWorld's own, and reading it back.

What is written is one fact a line. Reading exactly that takes a fraction of the time of the general parser, which must
take any text; the two agree on everything written here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from operator import attrgetter

from envs.alfworld.frequencies import load_frequencies
from envs.alfworld.households import Households
from envs.alfworld.pddl import Fact, Problem, parse_sexpr
from envs.draws import Draws

__all__ = ["Household", "Location", "Placed", "Point", "Receptacle", "read_written_problem", "write_problem"]

_ABILITIES = ("Cleanable", "Heatable", "Coolable", "Toggleable", "Sliceable")
# Types that the domain itself names, so that they must be declared in every problem.
_DOMAIN_OBJECT_TYPES = ("ButterKnife", "Knife")
_DOMAIN_RECEPTACLE_TYPES = ("Fridge", "Microwave", "SinkBasin")
_BEFORE_OBJECTS, _BEFORE_FACTS, _BEFORE_GOAL = "(:objects\n", "\n)\n(:init\n", "\n)\n"


@dataclass(frozen=True, slots=True)
class Location:
    """A pose of the agent: grid cells of 0.25 m, rotation in quarter turns, horizon in degrees."""

    x: int
    z: int
    rotation: int
    horizon: int

    def __str__(self) -> str:
        return f"loc|{self.x}|{self.z}|{self.rotation}|{self.horizon}"


@dataclass(frozen=True, slots=True)
class Point:
    """A point of the room, in whole centimetres, as an id names it (``+00.95|+00.22|-02.20``, in metres)."""

    x: int
    y: int
    z: int

    def __str__(self) -> str:
        return f"{_metres(self.x)}|{_metres(self.y)}|{_metres(self.z)}"

    def distance(self, other: Point) -> int:
        """The square of the distance, in cm²."""
        return (self.x - other.x) ** 2 + (self.y - other.y) ** 2 + (self.z - other.z) ** 2

    def beside(self, draws: Draws) -> Point:
        """A point of the same height within 0.4 m each way."""
        return Point(self.x + draws.between(-40, 40), self.y, self.z + draws.between(-40, 40))


@dataclass(frozen=True, slots=True)
class Receptacle:
    """A receptacle: its ALFRED id (``Drawer|+00.95|…``), class and location. ``stuck``: one of a class that opens, but
    itself does not.
    """

    id: str
    type: str
    location: Location
    stuck: bool = False

    @property
    def point(self) -> Point:
        """Where it stands, as its id says."""
        x, y, z = (round(float(number) * 100) for number in self.id.split("|")[1:4])
        return Point(x, y, z)


@dataclass(frozen=True, slots=True)
class Placed:
    """An object: its ALFRED id, class, the receptacles it stands in (the first is where it is seen), and its location
    where it stands in none.
    """

    id: str
    type: str
    receptacles: tuple[Receptacle, ...]
    elsewhere: Location | None = None

    @property
    def location(self) -> Location:
        """Where it is. An object is in a receptacle or elsewhere."""
        if self.receptacles:
            return self.receptacles[0].location
        assert self.elsewhere is not None, self.id
        return self.elsewhere


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
    names = {location: _escape(str(location)) for location in _locations(household)}
    declared, facts = "\n".join(_declarations(household, names)), "\n".join(_facts(household, tables, names))
    head = f"(define (problem {household.name})\n(:domain alfred)\n{_BEFORE_OBJECTS}"
    return f"{head}{declared}{_BEFORE_FACTS}{facts}{_BEFORE_GOAL}{goal.replace('#', '-')}"


def read_written_problem(text: str) -> Problem:
    """What ``parse_problem`` reads of a text by ``write_problem``, and of no other."""
    _, _, rest = text.lower().partition(_BEFORE_OBJECTS)
    declared, _, rest = rest.partition(_BEFORE_FACTS)
    init, _, goal = rest.partition(_BEFORE_GOAL)
    types = dict([line.split(" - ") for line in declared.split("\n")])
    facts: dict[str, list[Fact]] = {}
    for line in init.split("\n"):
        predicate, *arguments = line[1:-1].split(" ")
        facts.setdefault(predicate, []).append(tuple(arguments))
    section = parse_sexpr(goal.rstrip().removesuffix(")"))
    return Problem(types, {name: frozenset(found) for name, found in facts.items()}, section[1])


def _locations(household: Household) -> list[Location]:
    found = {item.location for item in household.receptacles} | {thing.location for thing in household.objects}
    return sorted(found | {household.start}, key=attrgetter("x", "z", "rotation", "horizon"))


def _declarations(household: Household, names: dict[Location, str]) -> Iterator[str]:
    object_types = sorted({item.type for item in household.objects} | set(_DOMAIN_OBJECT_TYPES))
    receptacle_types = sorted({item.type for item in household.receptacles} | set(_DOMAIN_RECEPTACLE_TYPES))
    yield "agent1 - agent"
    yield from (f"{name}Type - otype" for name in object_types)
    yield from (f"{name}Type - rtype" for name in receptacle_types)
    yield from (f"{_escape(item.id)} - object" for item in household.objects)
    yield from (f"{_escape(item.id)} - receptacle" for item in household.receptacles)
    yield from (f"{name} - location" for name in names.values())


def _facts(household: Household, tables: Households, names: dict[Location, str]) -> Iterator[str]:
    receptacles = {item.id: _escape(item.id) for item in household.receptacles}
    for item in household.receptacles:
        name = receptacles[item.id]
        yield f"(receptacleType {name} {item.type}Type)"
        yield f"(receptacleAtLocation {name} {names[item.location]})"
        if item.type in tables.openable and not item.stuck:
            yield f"(openable {name})"
    object_types = sorted({item.type for item in household.objects})
    for receptacle_type in sorted({item.type for item in household.receptacles}):
        for object_type in object_types:
            if object_type in tables.fits_in[receptacle_type]:
                yield f"(canContain {receptacle_type}Type {object_type}Type)"
    pickupable = load_frequencies().pickupable
    for thing in household.objects:
        name = _escape(thing.id)
        yield f"(objectType {name} {thing.type}Type)"
        if thing.type in pickupable:  # windows and lamps stay where they are
            yield f"(pickupable {name})"
        if thing.type in tables.movable_receptacles:
            yield f"(isReceptacleObject {name})"
        yield from (f"({ability.lower()} {name})" for ability in _ABILITIES if thing.type in tables.actions[ability])
        yield from (f"(inReceptacle {name} {receptacles[place.id]})" for place in thing.receptacles)
        yield f"(objectAtLocation {name} {names[thing.location]})"
    yield f"(atLocation agent1 {names[household.start]})"


@cache  # there are some hundred of them
def _metres(centimetres: int) -> str:
    return f"{'-' if centimetres < 0 else '+'}{abs(centimetres) // 100:02}.{abs(centimetres) % 100:02}"


def _escape(name: str) -> str:
    return name.replace("|", "_bar_").replace("-", "_minus_").replace("+", "_plus_").replace(".", "_dot_")
