"""The household tables behind generated games, read from households.json (extracted from alfworld, see its NOTICE)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

__all__ = ["HELD_OUT_FLOOR_PLANS", "FloorPlan", "Households", "TaskTemplate", "load_households"]

# The rooms of ALFWorld's valid_unseen split: no game is generated from them unless all rooms are asked for.
HELD_OUT_FLOOR_PLANS = frozenset({10, 219, 308, 424})


@dataclass(frozen=True, slots=True)
class FloorPlan:
    """A room: the object classes found in it, and its receptacles' ids with the pose (x m, z m, rotation °, horizon °)
    from which the agent looks at them.
    """

    number: int
    classes: tuple[str, ...]
    receptacles: tuple[tuple[str, tuple[float, float, float, float]], ...]


@dataclass(frozen=True, slots=True)
class TaskTemplate:
    """A task type: the kinds of room it is valid in, its goal's phrases and its goal's PDDL."""

    rooms: tuple[str, ...]
    phrases: tuple[str, ...]
    goal: str


@dataclass(frozen=True, slots=True)
class Households:
    """Everything that alfworld 0.4.2 ships about households. Class names as in ALFRED (``SideTable``)."""

    rooms: Mapping[str, tuple[int, ...]]
    test_floor_plans: frozenset[int]
    floor_plans: Mapping[int, FloorPlan]
    fits_in: Mapping[str, tuple[str, ...]]
    openable: frozenset[str]
    movable_receptacles: frozenset[str]
    actions: Mapping[str, frozenset[str]]
    tasks: Mapping[str, TaskTemplate]
    domain: str
    grammar: str


@lru_cache(maxsize=1)
def load_households() -> Households:
    """The tables, read once."""
    text = resources.files("envs.alfworld").joinpath("households.json").read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    return Households(
        rooms={name: tuple(numbers) for name, numbers in data["rooms"].items()},
        test_floor_plans=frozenset(data["test_floor_plans"]),
        floor_plans={int(number): _floor_plan(int(number), plan) for number, plan in data["floor_plans"].items()},
        fits_in={name: tuple(objects) for name, objects in data["fits_in"].items()},
        openable=frozenset(data["openable"]),
        movable_receptacles=frozenset(data["movable_receptacles"]),
        actions={name: frozenset(objects) for name, objects in data["actions"].items()},
        tasks={
            name: TaskTemplate(tuple(task["rooms"]), tuple(task["phrases"]), task["goal"])
            for name, task in data["tasks"].items()
        },
        domain=data["domain"],
        grammar=data["grammar"],
    )


def _floor_plan(number: int, plan: dict[str, Any]) -> FloorPlan:
    receptacles = tuple((name, (pose[0], pose[1], pose[2], pose[3])) for name, pose in plan["receptacles"].items())
    return FloorPlan(number, tuple(plan["classes"]), receptacles)
