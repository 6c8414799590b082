"""What stands in a generated room: the receptacles of its floor plan, and those that a floor plan lists by class alone.

Of those without a pose there are as many as in real games (``envs.alfworld.frequencies``). Cabinets and drawers among
them do not open, as there: things stand on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache

from envs.alfworld.frequencies import load_frequencies
from envs.alfworld.households import FloorPlan, Households, load_households
from envs.alfworld.problem_writer import Location, Point, Receptacle
from envs.draws import Draws

__all__ = ["furnish", "near", "posed_receptacles", "room_of", "thin_out"]

# How many of a class share one viewing pose, and what stands on a worktop: both as in real rooms.
_SHARING = {"StoveBurner": 2}
_ON_COUNTERS = frozenset({"CoffeeMachine", "StoveBurner", "Toaster"})


@cache
def room_of(floor_plan: int) -> str:
    """The kind of room (``Kitchen``) that a floor plan is of."""
    return next(room for room, numbers in load_households().rooms.items() if floor_plan in numbers)


@cache
def posed_receptacles(number: int) -> tuple[Receptacle, ...]:
    """The receptacles whose pose a floor plan tells. Neighbours that share a viewing pose there share a location."""
    tables = load_households()
    found = []
    for name, (x, z, rotation, horizon) in tables.floor_plans[number].receptacles:
        kind = name.rpartition("|")[2] if name.endswith("Basin") else name.partition("|")[0]
        if kind in tables.fits_in and kind not in tables.movable_receptacles:
            pose = Location(round(x / 0.25), round(z / 0.25), round(rotation) // 90, round(horizon))
            found.append(Receptacle(name, kind, pose))
    return tuple(found)


def furnish(draws: Draws, tables: Households, plan: FloorPlan) -> list[Receptacle]:
    """The receptacles of a room."""
    frequencies, room = load_frequencies(), room_of(plan.number)
    found = list(posed_receptacles(plan.number))
    posed = {item.type for item in found}
    counters = [item for item in found if item.type == "CounterTop"]
    used = {item.location for item in found}
    ids = {item.id for item in found}
    for kind in plan.classes:
        if kind not in tables.fits_in or kind in tables.movable_receptacles:
            continue
        count = draws.weighted(frequencies.more_receptacles(room, kind, alone=kind not in posed))
        point = _spot(draws, counters if kind in _ON_COUNTERS else [])
        pose = Location(0, 0, 0, 0)
        for index in range(count):
            if index % _SHARING.get(kind, 1) == 0:
                pose = _free_pose(draws, used)
            place = point.beside(draws) if kind in _ON_COUNTERS else _spot(draws, [])
            while (name := _id(kind, place)) in ids:
                place = _spot(draws, [])
            ids.add(name)
            found.append(Receptacle(name, kind, pose, stuck=kind in tables.openable))
    return found


def _id(kind: str, place: Point) -> str:
    """``Cabinet|…``, but ``Sink|…|SinkBasin``: what the player reads is made from it."""
    whole = kind.removesuffix("Basin")
    return f"{kind}|{place}" if whole == kind else f"{whole}|{place}|{kind}"


def _free_pose(draws: Draws, used: set[Location]) -> Location:
    pose = Location(draws.between(-12, 12), draws.between(-12, 12), draws.below(4), 30)
    while pose in used:
        pose = replace(pose, x=pose.x + 1)
    used.add(pose)
    return pose


def _spot(draws: Draws, beside: Sequence[Receptacle]) -> Point:
    if beside:
        return draws.choice(beside).point.beside(draws)
    return Point(draws.between(-300, 300), draws.between(0, 200), draws.between(-300, 300))


def thin_out(
    draws: Draws, receptacles: Sequence[Receptacle], needed: Iterable[Iterable[str]], size: int
) -> list[Receptacle]:
    """A small room of ``size`` receptacles: one of each of the ``needed`` sets of classes, and some more.

    Larger where as many are needed, smaller where there are no more.
    """
    shuffled = draws.sample(receptacles, len(receptacles))
    keep: list[Receptacle] = []
    for kinds in needed:
        wanted = frozenset(kinds)
        if not any(item.type in wanted for item in keep):
            keep += [item for item in shuffled if item.type in wanted][:1]
    kept = {item.id for item in keep}
    kept.update([item.id for item in shuffled if item.id not in kept][: max(0, size - len(keep))])
    return [item for item in receptacles if item.id in kept]


def near(receptacles: Iterable[Receptacle], to: Receptacle) -> Receptacle | None:
    """The nearest of the receptacles to another one that is not among them; None where there are none."""
    return min(receptacles, key=lambda item: (item.point.distance(to.point), item.id), default=None)
