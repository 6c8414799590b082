"""A small kitchen, written by hand, whose every text is known; and generated games for tests."""

from __future__ import annotations

from typing import Any

from envs.alfworld.dialect import write_in_dialect
from envs.alfworld.engine import GameSource
from envs.alfworld.generator import generate
from envs.alfworld.households import load_households
from envs.alfworld.problem_writer import Household, Location, Placed, Receptacle, write_problem

COUNTER = Receptacle("CounterTop|+01.00|+00.90|+00.00", "CounterTop", Location(1, 0, 0, 30))
FRIDGE = Receptacle("Fridge|-01.00|+00.00|+00.00", "Fridge", Location(-1, 0, 1, 30))
MICROWAVE = Receptacle("Microwave|+01.00|+01.20|+00.00", "Microwave", Location(1, 0, 0, 30))  # beside the counter
SINK = Receptacle("Sink|+00.00|+00.90|+02.00|SinkBasin", "SinkBasin", Location(0, 2, 0, 30))
BURNERS = tuple(Receptacle(f"StoveBurner|+02.0{n}|+00.90|+00.00", "StoveBurner", Location(2, 0, 0, 30)) for n in (1, 2))

OBJECTS = (
    Placed("Apple|+01.00|+00.95|+00.00", "Apple", (COUNTER,)),
    Placed("Apple|-01.00|+00.50|+00.00", "Apple", (FRIDGE,)),
    Placed("Knife|+01.10|+00.95|+00.00", "Knife", (COUNTER,)),
    Placed("Mug|+01.20|+00.95|+00.00", "Mug", (COUNTER,)),
    Placed("Pan|+02.00|+00.95|+00.00", "Pan", BURNERS),  # on two burners at once, as in official games
    Placed("DeskLamp|+01.30|+00.95|+00.00", "DeskLamp", (COUNTER,)),
)

CLEAN_APPLE = ("pick_clean_then_place_in_recep", {"obj": "Apple", "recep": "Fridge"})
HOT_MUG = ("pick_heat_then_place_in_recep", {"obj": "Mug", "recep": "SinkBasin"})
COOL_APPLE = ("pick_cool_then_place_in_recep", {"obj": "Apple", "recep": "Microwave"})
TWO_APPLES = ("pick_two_obj_and_place", {"obj": "Apple", "recep": "SinkBasin"})
KNIFE_IN_SINK = ("pick_and_place_simple", {"obj": "Knife", "recep": "SinkBasin"})
MUG_IN_LIGHT = ("look_at_obj_in_light", {"obj": "Mug", "toggle": "DeskLamp"})
ALL_TASKS = (CLEAN_APPLE, HOT_MUG, COOL_APPLE, TWO_APPLES, KNIFE_IN_SINK, MUG_IN_LIGHT)


def kitchen(
    task: tuple[str, dict[str, str]] = KNIFE_IN_SINK, *, dialect: str = "0.4", goal: str = ""
) -> dict[str, Any]:
    """The kitchen's game file as JSON; ``goal`` replaces the task's PDDL goal."""
    tables = load_households()
    household = Household("kitchen", (COUNTER, FRIDGE, MICROWAVE, SINK, *BURNERS), OBJECTS, start=Location(5, 5, 0, 30))
    template = goal or tables.tasks[task[0]].goal.format(**task[1])
    domain, grammar = write_in_dialect(dialect, "do it.")
    problem = write_problem(household, tables, template)
    return {"pddl_domain": domain, "grammar": grammar, "pddl_problem": problem, "solvable": True}


def generated_source(seed: int, **how: Any) -> GameSource:
    """A generated game as an engine opens it."""
    game = generate(seed, **how)
    return GameSource(game.content_hash, f"generated/{seed}", lambda: game.data)
