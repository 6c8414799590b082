"""Procedural ALFWorld games: rooms, objects and goals after the tables that alfworld ships, solvable by proof.

A game is a pure function of (seed, type, difficulty, rooms): the same bytes on every machine. It speaks dialect 0.4 and
loads in TextWorld as well. The four rooms of ALFWorld's valid_unseen split are never used.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

from envs.alfworld.dialect import replace_goal_text
from envs.alfworld.expert import plan
from envs.alfworld.game import parse_game
from envs.alfworld.households import HELD_OUT_FLOOR_PLANS, FloorPlan, Households, load_households
from envs.alfworld.problem_writer import Household, Location, Placed, Receptacle, write_problem
from envs.errors import InvalidOption, UnknownTaskType

__all__ = ["DIFFICULTIES", "GENERATOR_VERSION", "Difficulty", "GeneratedGame", "Rooms", "generate"]

# Part of every seed: raise it when the same seed gives another game.
GENERATOR_VERSION = 1

_TRIES = 1000
_LAMPS = ("DeskLamp", "FloorLamp")
_LAMP_SURFACES = ("Desk", "SideTable", "Dresser", "DiningTable", "CoffeeTable", "Shelf", "CounterTop")
# Receptacles that a floor plan lists by class alone, without a pose: how many stand there, and how many share a pose.
_POSELESS = (
    ("CoffeeMachine", 1, 1),
    ("GarbageCan", 1, 1),
    ("HandTowelHolder", 2, 1),
    ("LaundryHamper", 1, 1),
    ("StoveBurner", 4, 2),
    ("Toaster", 1, 1),
    ("Toilet", 1, 1),
    ("ToiletPaperHanger", 1, 1),
    ("TowelHolder", 1, 1),
)
_DEVICES = {
    "pick_clean_then_place_in_recep": ("Cleanable", "SinkBasin"),
    "pick_heat_then_place_in_recep": ("Heatable", "Microwave"),
    "pick_cool_then_place_in_recep": ("Coolable", "Fridge"),
}


class Rooms(StrEnum):
    """Which floor plans games are made from; the two share none."""

    TRAIN = "train"
    EVALUATION = "evaluation"


@dataclass(frozen=True, slots=True)
class Difficulty:
    """How large a household is: how many receptacles (None: all of the floor plan), how many further object classes
    (None: all that fit), and how many copies of each, drawn evenly.
    """

    name: str
    receptacles: tuple[int, int] | None
    classes: tuple[int, int] | None
    copies: tuple[int, ...]


DIFFICULTIES = {
    "normal": Difficulty("normal", receptacles=None, classes=None, copies=(1, 1, 2, 2, 2, 3)),
    "easy": Difficulty("easy", receptacles=(4, 8), classes=(3, 6), copies=(1,)),
}


@dataclass(frozen=True)
class GeneratedGame:
    """A game file's JSON, its ``traj_data.json`` and what it is."""

    data: dict[str, Any]
    traj: dict[str, Any]
    type: str
    floor_plan: int

    def to_bytes(self) -> bytes:
        """The bytes of ``game.tw-pddl``."""
        return json.dumps(self.data, indent=1).encode()

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 (hex) of those bytes."""
        return hashlib.sha256(self.to_bytes()).hexdigest()


@dataclass(frozen=True, slots=True)
class _Quest:
    """What is to be done: the object class, its destination class, the lamp class, the device class ("" for none)."""

    type: str
    target: str
    destination: str = ""
    lamp: str = ""
    device: str = ""

    @property
    def needs(self) -> tuple[str, ...]:
        """Receptacle classes that must be there."""
        return tuple(name for name in (self.destination, self.device) if name)


def generate(
    seed: int, *, type: str | None = None, difficulty: str = "normal", rooms: Rooms | str = Rooms.TRAIN
) -> GeneratedGame:
    """The game of this seed.

    ``type`` is one of the six task types, or None to draw one. Raises UnknownTaskType, InvalidOption.
    """
    tables = load_households()
    if type is not None and type not in tables.tasks:
        msg = f"alfworld has no task type {type!r}"
        raise UnknownTaskType(msg, hint=f"known: {', '.join(tables.tasks)}")
    if difficulty not in DIFFICULTIES:
        msg = f"alfworld has no difficulty {difficulty!r}"
        raise InvalidOption(msg, hint=f"known: {', '.join(DIFFICULTIES)}")
    if rooms not in tuple(Rooms):
        msg = f"alfworld has no rooms {rooms!r}"
        raise InvalidOption(msg, hint=f"known: {', '.join(Rooms)}")
    name = f"generated_{rooms}_{difficulty}_{type or 'any'}_{seed}"
    rng = random.Random(f"envloop/alfworld/{GENERATOR_VERSION}/{name}")  # noqa: S311 - reproducible, no secret
    chosen = type or rng.choice(tuple(tables.tasks))
    for _ in range(_TRIES):
        game = _attempt(rng, tables, name, type=chosen, difficulty=DIFFICULTIES[difficulty], rooms=Rooms(rooms))
        if game is not None:
            game.traj["generator"] = {"version": GENERATOR_VERSION, "difficulty": difficulty, "seed": seed}
            return game
    msg = f"no feasible household for {name} in {_TRIES} tries"
    raise AssertionError(msg)


def _attempt(
    rng: random.Random, tables: Households, name: str, *, type: str, difficulty: Difficulty, rooms: Rooms
) -> GeneratedGame | None:
    floor_plan = tables.floor_plans[rng.choice(_floor_plans(tables, rng.choice(tables.tasks[type].rooms), rooms))]
    receptacles = _furnish(rng, tables, floor_plan)
    quest = _choose_quest(rng, tables, type, floor_plan, {item.type for item in receptacles})
    if quest is None:
        return None
    if difficulty.receptacles is not None:
        receptacles = _thin_out(rng, tables, receptacles, quest, rng.randint(*difficulty.receptacles))
        if len(receptacles) < difficulty.receptacles[0]:
            return None
    objects = _place_objects(rng, tables, floor_plan, receptacles=receptacles, quest=quest, difficulty=difficulty)
    if objects is None:
        return None
    start = Location(0, 0, rng.randint(0, 3), 30)
    while start in {item.location for item in receptacles}:
        start = replace(start, x=start.x + 1)
    household = Household(name, receptacles, objects, start)
    return _write(rng, tables, floor_plan, quest, household)


def _floor_plans(tables: Households, room: str, rooms: Rooms) -> list[int]:
    """The floor plans of a kind of room. Evaluation games live in ALFRED's test scenes, training games elsewhere."""
    return [
        number
        for number in tables.rooms[room]
        if number in tables.floor_plans
        and number not in HELD_OUT_FLOOR_PLANS
        and (number in tables.test_floor_plans) == (rooms is Rooms.EVALUATION)
    ]


def _furnish(rng: random.Random, tables: Households, floor_plan: FloorPlan) -> list[Receptacle]:
    """The floor plan's receptacles. Neighbours that share a viewing pose there share a location here."""
    found: list[Receptacle] = []
    for name, (x, z, rotation, horizon) in floor_plan.receptacles:
        kind = name.rpartition("|")[2] if name.endswith("Basin") else name.partition("|")[0]
        if kind in tables.fits_in and kind not in tables.movable_receptacles:
            pose = Location(round(x / 0.25), round(z / 0.25), round(rotation) // 90, round(horizon))
            found.append(Receptacle(name, kind, pose))
    present = {item.type for item in found}
    used = {item.location for item in found}
    for kind, count, sharing in _POSELESS:
        if kind in present or kind not in floor_plan.classes:
            continue
        pose = Location(0, 0, 0, 0)
        for index in range(count):
            if index % sharing == 0:
                pose = Location(rng.randint(-12, 12), rng.randint(-12, 12), rng.randint(0, 3), 30)
                while pose in used:
                    pose = replace(pose, x=pose.x + 1)
                used.add(pose)
            found.append(Receptacle(f"{kind}|{_coordinates(rng, 3)}", kind, pose))
    return found


def _choose_quest(
    rng: random.Random, tables: Households, type: str, floor_plan: FloorPlan, present: set[str]
) -> _Quest | None:
    """A target and a destination that this room allows, or None."""
    action, device = _DEVICES.get(type, ("", ""))
    if device and device not in present:
        return None
    targets = [
        name
        for name in _placeable(tables, floor_plan)
        if len(_homes(tables, name, present)) >= 2 and (not action or name in tables.actions[action])
    ]
    if type == "look_at_obj_in_light":
        lamps = [name for name in _LAMPS if name in floor_plan.classes]
        if not lamps or not targets or not any(name in present for name in _LAMP_SURFACES):
            return None
        return _Quest(type, rng.choice(targets), lamp=rng.choice(lamps))
    if not targets:
        return None
    target = rng.choice(targets)
    destinations = [name for name in _homes(tables, target, present) if name != device]
    return _Quest(type, target, rng.choice(destinations), device=device) if destinations else None


def _thin_out(
    rng: random.Random, tables: Households, receptacles: list[Receptacle], quest: _Quest, size: int
) -> list[Receptacle]:
    """A small room: what the quest needs, and some more up to ``size``."""
    shuffled = rng.sample(receptacles, len(receptacles))
    sources = set(_homes(tables, quest.target, {item.type for item in receptacles})) - {quest.destination}
    keep: list[Receptacle] = []
    wanted = [{name} for name in quest.needs] + [sources - {quest.device} or sources]
    wanted += [set(_LAMP_SURFACES)] if quest.lamp else []
    for kinds in wanted:
        if not any(item.type in kinds for item in keep):
            keep += [item for item in shuffled if item.type in kinds][:1]
    keep += [item for item in shuffled if item not in keep][: max(0, size - len(keep))]
    return [item for item in receptacles if item in keep]


def _place_objects(
    rng: random.Random,
    tables: Households,
    floor_plan: FloorPlan,
    *,
    receptacles: list[Receptacle],
    quest: _Quest,
    difficulty: Difficulty,
) -> list[Placed] | None:
    """Every object with its places, or None where the quest's own objects find none."""
    by_type: dict[str, list[Receptacle]] = {}
    for item in receptacles:
        by_type.setdefault(item.type, []).append(item)
    placed: list[Placed] = []

    def place(name: str, kinds: list[str]) -> None:
        first = rng.choice(by_type[rng.choice(kinds)])
        places = [first]
        if first.type == "StoveBurner" and rng.random() < 1 / 3:  # a wide pan stands on two burners, as in real games
            places += [item for item in by_type[first.type] if item != first and item.location == first.location]
        placed.append(Placed(f"{name}|{_coordinates(rng, 4)}", name, tuple(places)))

    # The wanted objects never start where they belong.
    starts = [kind for kind in _homes(tables, quest.target, by_type.keys()) if kind != quest.destination]
    if not starts:
        return None
    fewest = 2 if quest.type == "pick_two_obj_and_place" else 1
    for _ in range(rng.randint(fewest, fewest if difficulty.classes else fewest + 2)):
        place(quest.target, starts)
    others = [name for name in _placeable(tables, floor_plan) if name != quest.target]
    others = [name for name in others if _homes(tables, name, by_type.keys())]
    if difficulty.classes is not None:
        others = sorted(rng.sample(others, min(len(others), rng.randint(*difficulty.classes))))
    for name in others:
        for _ in range(rng.choice(difficulty.copies)):
            place(name, _homes(tables, name, by_type.keys()))
    surfaces = [kind for kind in _LAMP_SURFACES if kind in by_type][:2]
    for name in _LAMPS:
        if surfaces and (name == quest.lamp or (difficulty.classes is None and name in floor_plan.classes)):
            place(name, surfaces)
    if quest.lamp and not surfaces:
        return None
    return placed


def _write(
    rng: random.Random, tables: Households, floor_plan: FloorPlan, quest: _Quest, household: Household
) -> GeneratedGame | None:
    """The game file, if the expert wins it."""
    template = tables.tasks[quest.type]
    words = {"obj": quest.target, "recep": quest.destination, "toggle": quest.lamp}
    phrase = rng.choice(template.phrases).format(**{key: word.lower() for key, word in words.items()})
    data: dict[str, Any] = {
        "pddl_domain": tables.domain,
        "grammar": replace_goal_text(tables.grammar, f"{phrase}."),
        "pddl_problem": write_problem(household, tables, template.goal.format(**words)),
    }
    start = parse_game(data, path=household.name).start()
    walkthrough = plan(start)
    if not walkthrough:  # no way, or nothing to do
        return None
    data |= {"solvable": True, "walkthrough": walkthrough}
    traj: dict[str, Any] = {
        "task_id": household.name,
        "task_type": quest.type,
        "scene": {"floor_plan": f"FloorPlan{floor_plan.number}"},
        "pddl_params": {
            "object_target": quest.target,
            "parent_target": quest.destination,
            "toggle_target": quest.lamp,
            "mrecep_target": "",
            "object_sliced": False,
        },
    }
    return GeneratedGame(data, traj, quest.type, floor_plan.number)


def _placeable(tables: Households, floor_plan: FloorPlan) -> list[str]:
    """The room's object classes that can lie in some receptacle, lamps and slices left out."""
    return [
        name
        for name in floor_plan.classes
        if name not in _LAMPS
        and not name.endswith("Sliced")
        and any(name in objects for kind, objects in tables.fits_in.items() if kind not in tables.movable_receptacles)
    ]


def _homes(tables: Households, name: str, present: Iterable[str]) -> list[str]:
    """The receptacle classes among those present that can hold an object class, sorted."""
    return sorted(kind for kind in present if name in tables.fits_in[kind])


def _coordinates(rng: random.Random, spread: float) -> str:
    x, y, z = rng.uniform(-spread, spread), rng.uniform(0, 2), rng.uniform(-spread, spread)
    return f"{x:+06.2f}|{y:+06.2f}|{z:+06.2f}"
