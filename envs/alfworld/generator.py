"""Procedural ALFWorld games: real floor plans, furnished and filled as real games are, solvable by proof.

A game is a pure function of (seed, type, difficulty, rooms, phrasing, floor plan): the same bytes on every machine and
with every version of Python. It speaks dialect 0.4 and loads in TextWorld as well. The four rooms of ALFWorld's
valid_unseen split are never used unless they are asked for (``Rooms.ALL``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from envs.alfworld.expert import plan
from envs.alfworld.furnishing import furnish, room_of, thin_out
from envs.alfworld.generated_game import GeneratedGame
from envs.alfworld.generator_options import DIFFICULTIES, Bounds, Difficulty, Phrasing, Rooms, find_difficulty
from envs.alfworld.households import HELD_OUT_FLOOR_PLANS, Households, load_households
from envs.alfworld.phrasing import GoalWords, tell_goal
from envs.alfworld.problem_writer import Household, Location, Receptacle, write_problem
from envs.alfworld.quest import Quest, choose_quest, needed_receptacles, place_objects
from envs.draws import Draws
from envs.errors import InvalidOption, UnknownTaskType

__all__ = ["DIFFICULTIES", "GENERATOR_VERSION", "GeneratedGame", "Rooms", "generate"]

# Part of every seed: raise it when the same seed gives another game.
GENERATOR_VERSION = 2

_TRIES = 1000


def generate(
    seed: int,
    *,
    type: str | None = None,
    difficulty: str | Difficulty = "normal",
    rooms: Rooms | str = Rooms.TRAIN,
    phrasing: Phrasing | str = Phrasing.OFFICIAL,
    floor_plan: int | None = None,
) -> GeneratedGame:
    """The game of this seed.

    Args:
        seed: any whole number; each gives another game.
        type: one of the six task types; without it they take turns by seed.
        difficulty: a preset's name, or bounds of one's own.
        rooms: which floor plans are drawn from.
        phrasing: how the goal is told; the household is the same for each.
        floor_plan: this one, which must be among the rooms, instead of a drawn one.

    Raises UnknownTaskType; InvalidOption, also where no household has been found that is as the options want it.
    """
    tables = load_households()
    if type is not None and type not in tables.tasks:
        msg = f"alfworld has no task type {type!r:.80}"
        raise UnknownTaskType(msg, hint=f"known: {', '.join(tables.tasks)}")
    size = find_difficulty(difficulty) if isinstance(difficulty, str) else difficulty
    rooms, phrasing = _rooms(rooms), _phrasing(phrasing)
    chosen = type or tuple(tables.tasks)[seed % len(tables.tasks)]
    floor_plans = _floor_plans(tables, chosen, rooms, floor_plan)
    place = rooms if floor_plan is None else f"{rooms}_{floor_plan}"
    name = f"generated_{place}_{size.label}_{chosen}_{seed}"
    draws = Draws(f"envloop/alfworld/{GENERATOR_VERSION}/{name}")
    for _ in range(_TRIES):
        number = draws.choice(draws.choice(floor_plans))
        game = _attempt(draws, name, type=chosen, floor_plan=number, size=size, phrasing=phrasing)
        if game is not None:
            game.traj["generator"] = {
                "version": GENERATOR_VERSION,
                "seed": seed,
                "difficulty": size.label,
                "rooms": rooms,
                "phrasing": phrasing,
            }
            return game
    msg = f"no household is as {name} asks, in {_TRIES} tries"
    raise InvalidOption(msg, hint="wider bounds, another task type or other rooms")


def _rooms(rooms: Rooms | str) -> Rooms:
    if rooms not in tuple(Rooms):
        msg = f"alfworld has no rooms {rooms!r:.80}"
        raise InvalidOption(msg, hint=f"known: {', '.join(Rooms)}")
    return Rooms(rooms)


def _phrasing(phrasing: Phrasing | str) -> Phrasing:
    if phrasing not in tuple(Phrasing):
        msg = f"alfworld has no phrasing {phrasing!r:.80}"
        raise InvalidOption(msg, hint=f"known: {', '.join(Phrasing)}")
    return Phrasing(phrasing)


def _floor_plans(tables: Households, type: str, rooms: Rooms, only: int | None) -> list[list[int]]:
    """The floor plans that a task type is played in, by kind of room.

    Evaluation games live in ALFRED's test scenes, training games elsewhere.
    """
    allowed = {
        number
        for number in tables.floor_plans
        if rooms is Rooms.ALL
        or (number not in HELD_OUT_FLOOR_PLANS and (number in tables.test_floor_plans) == (rooms is Rooms.EVALUATION))
    }
    kinds = tables.tasks[type].rooms
    if only is None:
        return [[number for number in tables.rooms[kind] if number in allowed] for kind in kinds]
    if only not in allowed:
        msg = f"floor plan {only} is none of the rooms {rooms!s}"
        raise InvalidOption(msg, hint=f"rooms {Rooms.ALL!s} has every floor plan")
    if room_of(only) not in kinds:
        msg = f"{type} is not played in floor plan {only}, a {room_of(only)}"
        raise InvalidOption(msg, hint=f"it is played in: {', '.join(kinds)}")
    return [[only]]


def _attempt(
    draws: Draws, name: str, *, type: str, floor_plan: int, size: Difficulty, phrasing: Phrasing
) -> GeneratedGame | None:
    tables = load_households()
    floor = tables.floor_plans[floor_plan]
    receptacles = furnish(draws, tables, floor)
    quest = choose_quest(draws, tables, type, floor, receptacles, hidden=size.hidden)
    if quest is None:
        return None
    if size.receptacles is not None:
        if size.receptacles[1] is not None:
            needed = needed_receptacles(tables, quest, receptacles)
            receptacles = thin_out(draws, receptacles, needed, draws.between(size.receptacles[0], size.receptacles[1]))
        if not _within(len(receptacles), size.receptacles):
            return None
    searched = _count_searched(tables, quest, receptacles)
    if not _within(searched, size.searched):
        return None
    objects = place_objects(draws, tables, floor, receptacles=receptacles, quest=quest, size=size)
    if objects is None:
        return None
    start = Location(0, 0, draws.below(4), 30)
    used = {item.location for item in receptacles}
    while start in used:
        start = replace(start, x=start.x + 1)
    household = Household(name, receptacles, objects, start)
    words = GoalWords(
        quest.target,
        quest.destination,
        quest.lamp,
        only_place=sum(item.type == quest.destination for item in receptacles) == 1,
        only_lamp=sum(item.type == quest.lamp for item in objects) == 1,
    )
    game = GeneratedGame(
        problem=write_problem(household, tables, tables.tasks[type].goal.format(**quest.words)),
        goal=tell_goal(draws, type, words, phrasing),
        traj={
            "task_id": name if phrasing is Phrasing.OFFICIAL else f"{name}_{phrasing}",
            "task_type": type,
            "scene": {"floor_plan": f"FloorPlan{floor_plan}"},
            "pddl_params": {
                "object_target": quest.target,
                "parent_target": quest.destination,
                "toggle_target": quest.lamp,
                "mrecep_target": "",
                "object_sliced": False,
            },
        },
        type=type,
        floor_plan=floor_plan,
        searched=searched,
    )
    return _solve(game, size.plan_length)


def _solve(game: GeneratedGame, plan_length: Bounds | None) -> GeneratedGame | None:
    """The game with the way to its goal, if the way is as long as it should be and wins when it is walked."""
    state = game.build().start()
    walkthrough = plan(state)
    if not walkthrough or not _within(len(walkthrough), plan_length):  # no way, or nothing to do
        return None
    for command in walkthrough:
        if command not in state.commands():
            return None
        state.step(command)
    return replace(game, walkthrough=tuple(walkthrough)) if state.won else None


def _count_searched(tables: Households, quest: Quest, receptacles: Sequence[Receptacle]) -> int:
    """``receptacles_to_search`` of ``envs.alfworld.difficulty``, told before there is a game."""
    return sum(item.type != quest.destination and quest.target in tables.fits_in[item.type] for item in receptacles)


def _within(number: int, bounds: Bounds | None) -> bool:
    return bounds is None or (bounds[0] <= number and (bounds[1] is None or number <= bounds[1]))
