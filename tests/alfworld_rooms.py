"""Rooms so small that every state of theirs can be visited, and the visit."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable, Sequence
from typing import Any

from alfworld_games import BURNERS, COUNTER, FRIDGE, MICROWAVE, SINK

from envs.alfworld.dialect import write_in_dialect
from envs.alfworld.game import Game, parse_game
from envs.alfworld.households import load_households
from envs.alfworld.problem_writer import Household, Location, Placed, Receptacle, write_problem
from envs.alfworld.state import State

CABINET = Receptacle("Cabinet|+03.00|+00.90|+00.00", "Cabinet", Location(3, 0, 0, 30))
SHUT_BESIDE = Receptacle("Cabinet|+03.10|+00.90|+00.00", "Cabinet", Location(3, 0, 0, 30))
OTHER_COUNTER = Receptacle("CounterTop|+00.50|+00.90|+00.00", "CounterTop", Location(7, 0, 0, 30))
COFFEE = Receptacle("CoffeeMachine|+06.00|+00.90|+00.00", "CoffeeMachine", Location(6, 0, 0, 30))
SHUT_AWAY = Receptacle("Cabinet|+03.50|+00.90|+02.00", "Cabinet", Location(9, 2, 0, 30))

_PLACE, _TWO, _LIGHT = "pick_and_place_simple", "pick_two_obj_and_place", "look_at_obj_in_light"
_CLEAN, _HEAT, _COOL = (f"pick_{how}_then_place_in_recep" for how in ("clean", "heat", "cool"))
# Name → (task type, the words of its goal, receptacles, (class, where it stands) for each object).
ROOMS: dict[str, tuple[str, dict[str, str], Sequence[Receptacle], Sequence[tuple[str, Sequence[Receptacle]]]]] = {
    "into one of two cabinets": (
        _PLACE,
        {"obj": "Mug", "recep": "Cabinet"},
        (COUNTER, CABINET, SHUT_BESIDE),
        (("Mug", (COUNTER,)), ("Cup", (CABINET,))),
    ),
    "everything is shut": (
        _PLACE,
        {"obj": "Mug", "recep": "Cabinet"},
        (FRIDGE, CABINET, SHUT_AWAY),
        (("Mug", (FRIDGE,)), ("Cup", (CABINET,))),
    ),
    "one on two burners, to be cleaned and put back": (
        _CLEAN,
        {"obj": "Pan", "recep": "StoveBurner"},
        (*BURNERS, SINK, COUNTER),
        (("Pan", BURNERS), ("Knife", (COUNTER,))),
    ),
    "the fridge is the device and the source": (
        _COOL,
        {"obj": "Apple", "recep": "CounterTop"},
        (FRIDGE, COUNTER, MICROWAVE),
        (("Apple", (FRIDGE,)), ("Apple", (MICROWAVE,))),
    ),
    "the microwave is at the counter": (
        _HEAT,
        {"obj": "Mug", "recep": "CounterTop"},
        (COUNTER, MICROWAVE, FRIDGE),
        (("Mug", (COUNTER,)), ("Egg", (FRIDGE,))),
    ),
    "two, one in each of two cabinets": (
        _TWO,
        {"obj": "Mug", "recep": "Cabinet"},
        (CABINET, SHUT_AWAY, COUNTER),
        (("Mug", (CABINET,)), ("Mug", (SHUT_AWAY,)), ("Cup", (COUNTER,))),
    ),
    "one in two cabinets at once": (
        _CLEAN,
        {"obj": "Mug", "recep": "Cabinet"},
        (CABINET, SHUT_BESIDE, SINK),
        (("Mug", (CABINET, SHUT_BESIDE)), ("Cup", (CABINET,))),
    ),
    "shut neighbours, the second holds what is wanted": (
        _PLACE,
        {"obj": "Mug", "recep": "Fridge"},
        (CABINET, SHUT_BESIDE, FRIDGE),
        (("Mug", (SHUT_BESIDE,)), ("Cup", (FRIDGE,))),
    ),
    "an egg to put away, best where the mug will go": (
        _PLACE,
        {"obj": "Mug", "recep": "Microwave"},
        (CABINET, FRIDGE, MICROWAVE),
        (("Mug", (CABINET,)), ("Egg", (FRIDGE,))),
    ),
    "an egg that fits nowhere": (
        _PLACE,
        {"obj": "Mug", "recep": "Cabinet"},
        (CABINET, SHUT_AWAY, COFFEE),
        (("Mug", (COFFEE,)), ("Egg", (CABINET,)), ("Egg", (SHUT_AWAY,))),
    ),
    "the nearer of two counters": (
        _HEAT,
        {"obj": "Mug", "recep": "CounterTop"},
        (OTHER_COUNTER, COUNTER, MICROWAVE, FRIDGE),
        (("Mug", (FRIDGE,)),),
    ),
    "two of three, two behind one door": (
        _TWO,
        {"obj": "Mug", "recep": "SinkBasin"},
        (CABINET, SHUT_AWAY, SINK),
        (("Mug", (CABINET,)), ("Mug", (SHUT_AWAY,)), ("Mug", (SHUT_AWAY,))),
    ),
    "one of two is there already": (
        _TWO,
        {"obj": "Mug", "recep": "SinkBasin"},
        (CABINET, SINK),
        (("Mug", (CABINET,)), ("Mug", (SINK,)), ("Cup", (SINK,))),
    ),
    "two of three": (
        _TWO,
        {"obj": "Apple", "recep": "SinkBasin"},
        (COUNTER, SINK, CABINET),  # into a cabinet no apple goes back
        (("Apple", (COUNTER,)), ("Apple", (CABINET,)), ("Apple", (CABINET,))),
    ),
    "two from one cabinet, with another thing": (
        _TWO,
        {"obj": "Mug", "recep": "SinkBasin"},
        (CABINET, SINK),
        (("Mug", (CABINET,)), ("Mug", (CABINET,)), ("Cup", (SINK,))),
    ),
    "two lamps and two mugs": (
        _LIGHT,
        {"obj": "Mug", "toggle": "DeskLamp"},
        (COUNTER, CABINET, SINK),
        (("Mug", (CABINET,)), ("Mug", (SINK,)), ("DeskLamp", (COUNTER,)), ("DeskLamp", (COUNTER,))),
    ),
}


def room_data(name: str) -> dict[str, Any]:
    """A room's game file as JSON."""
    task, words, receptacles, things = ROOMS[name]
    tables = load_households()
    objects = [Placed(f"{kind}|+0{n}.00|+00.95|+00.00", kind, tuple(at)) for n, (kind, at) in enumerate(things)]
    household = Household("room", tuple(receptacles), tuple(objects), start=Location(5, 5, 0, 30))
    domain, grammar = write_in_dialect("0.4", "do it.")
    problem = write_problem(household, tables, tables.tasks[task].goal.format(**words))
    return {"pddl_domain": domain, "grammar": grammar, "pddl_problem": problem, "solvable": True}


def room(name: str) -> Game:
    """A room's game."""
    return parse_game(room_data(name))


def facts(state: State) -> Hashable:
    """What a state is; "taken out" says how a text is worded and what no rule asks for."""
    return frozenset(fact for fact in state.facts() if fact[0] != "takenout")


def explore(start: State) -> tuple[dict[Hashable, State], dict[Hashable, int]]:
    """Every state that any commands lead to, and the true distance to a win from each that has one."""
    states: dict[Hashable, State] = {facts(start): start}
    before: dict[Hashable, list[Hashable]] = defaultdict(list)
    waiting = deque(states)
    while waiting:
        key = waiting.popleft()
        if states[key].won:
            continue
        for command in states[key].commands():
            following = states[key].clone()
            following.step(command)
            found = facts(following)
            before[found].append(key)
            if found not in states:
                states[found] = following
                waiting.append(found)
    distances = {key: 0 for key, state in states.items() if state.won}
    waiting = deque(distances)
    while waiting:
        key = waiting.popleft()
        for earlier in before[key]:
            if earlier not in distances:
                distances[earlier] = distances[key] + 1
                waiting.append(earlier)
    return states, distances
