"""Generated rooms against real ones: 54 games of ALFWorld's train split, counted once and recorded here."""

from __future__ import annotations

import itertools
import json
import math
import statistics
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from envs.alfworld.frequencies import load_frequencies
from envs.alfworld.furnishing import posed_receptacles, room_of
from envs.alfworld.game import Game, load_game
from envs.alfworld.generator import DIFFICULTIES, generate
from envs.alfworld.households import HELD_OUT_FLOOR_PLANS, load_households
from envs.alfworld.problem_writer import Location, Receptacle
from envs.alfworld.quest import Quest, place_objects
from envs.draws import Draws

# The floor plans that each task type is played in there.
PLAYED = {
    "look_at_obj_in_light": [216, 216, 218, 218, 303, 314, 317, 317, 320],
    "pick_and_place_simple": [218, 229, 306, 310, 314, 414, 417, 426, 427],
    "pick_clean_then_place_in_recep": [14, 20, 26, 27, 27, 414, 427, 428, 430],
    "pick_cool_then_place_in_recep": [1, 1, 7, 15, 17, 21, 30, 30, 30],
    "pick_heat_then_place_in_recep": [2, 12, 14, 15, 20, 20, 21, 27, 28],
    "pick_two_obj_and_place": [213, 214, 227, 229, 229, 230, 314, 321, 405],
}
# Room → measure → (mean, standard deviation) over those games.
REAL: dict[str, dict[str, tuple[float, float]]] = {
    "Bathroom": {
        "receptacles": (15.67, 2.74),
        "that open": (6.44, 2.19),
        "locations": (13.78, 2.28),
        "objects": (24.78, 4.47),
        "in receptacles": (16.33, 3.16),
        "behind doors": (4.00, 1.73),
        "in two places": (0.11, 0.33),
        "classes": (16.67, 1.66),
    },
    "Bedroom": {
        "receptacles": (12.20, 4.76),
        "that open": (5.50, 3.87),
        "locations": (11.00, 3.68),
        "objects": (29.60, 2.59),
        "in receptacles": (20.10, 1.37),
        "behind doors": (3.00, 2.00),
        "in two places": (0.00, 0.00),
        "classes": (19.60, 1.71),
    },
    "Kitchen": {
        "receptacles": (32.00, 10.21),
        "that open": (16.87, 10.80),
        "locations": (28.09, 8.18),
        "objects": (53.30, 6.12),
        "in receptacles": (43.61, 5.50),
        "behind doors": (12.74, 4.29),
        "in two places": (0.91, 0.79),
        "classes": (29.04, 2.58),
    },
    "LivingRoom": {
        "receptacles": (13.92, 7.46),
        "that open": (4.92, 4.34),
        "locations": (13.83, 7.37),
        "objects": (36.58, 5.95),
        "in receptacles": (22.50, 4.58),
        "behind doors": (1.17, 1.27),
        "in two places": (0.00, 0.00),
        "classes": (19.25, 1.76),
    },
}
# Room → how many receptacles of each class a game has, in the mean.
REAL_RECEPTACLES = {
    "Bathroom": {
        "bathtubbasin": 0.78,
        "cabinet": 3.44,
        "cart": 0.11,
        "countertop": 1.22,
        "drawer": 3.33,
        "garbagecan": 1.0,
        "handtowelholder": 1.33,
        "shelf": 0.11,
        "sinkbasin": 1.22,
        "toilet": 1.0,
        "toiletpaperhanger": 1.0,
        "towelholder": 1.11,
    },
    "Bedroom": {
        "armchair": 0.1,
        "bed": 1.0,
        "cabinet": 0.4,
        "desk": 0.8,
        "diningtable": 0.1,
        "drawer": 5.1,
        "dresser": 0.6,
        "garbagecan": 1.0,
        "laundryhamper": 0.3,
        "safe": 0.2,
        "shelf": 1.9,
        "sidetable": 0.7,
    },
    "Kitchen": {
        "cabinet": 11.3,
        "coffeemachine": 1.0,
        "countertop": 2.17,
        "diningtable": 0.91,
        "drawer": 6.61,
        "fridge": 1.0,
        "garbagecan": 1.0,
        "microwave": 1.0,
        "shelf": 0.78,
        "sidetable": 0.13,
        "sinkbasin": 1.0,
        "stoveburner": 4.09,
        "toaster": 1.0,
    },
    "LivingRoom": {
        "armchair": 1.0,
        "cabinet": 0.67,
        "coffeetable": 1.0,
        "diningtable": 0.67,
        "drawer": 4.25,
        "dresser": 0.58,
        "garbagecan": 1.0,
        "shelf": 1.42,
        "sidetable": 2.25,
        "sofa": 1.08,
    },
}
GAMES_EACH = 4


def measures(game: Game) -> dict[str, int]:
    """What a room is compared by."""
    places = {thing: game.initial.places_of(thing) for thing in game.object_types}
    return {
        "receptacles": len(game.receptacles),
        "that open": len(game.openable),
        "locations": len(set(game.locations.values())),
        "objects": len(places),
        "in receptacles": sum(bool(found) for found in places.values()),
        "behind doors": sum(bool(set(found) & game.openable) for found in places.values()),
        "in two places": sum(len(found) > 1 for found in places.values()),
        "classes": len({game.names[thing].rpartition(" ")[0] for thing in places}),
    }


def kinds(game: Game) -> Counter[str]:
    return Counter(game.names[receptacle].rpartition(" ")[0] for receptacle in game.receptacles)


def real_games(shared_dir: Path) -> Iterator[tuple[str, int, Game]]:
    for path in sorted((shared_dir / "data" / "alfworld" / "json_2.1.1" / "train").glob("*/*/game.tw-pddl")):
        name = path.parent.parent.name
        yield name.partition("-")[0], int(name.rpartition("-")[2]), load_game(path)


@cache
def generated_games() -> dict[str, list[Game]]:
    """Games of the floor plans and types that the real ones have, so that the choice of rooms makes no difference."""
    found: defaultdict[str, list[Game]] = defaultdict(list)
    for task_type, floor_plans in PLAYED.items():
        for number, floor_plan in enumerate(floor_plans):
            for copy in range(GAMES_EACH):
                game = generate(number * GAMES_EACH + copy, type=task_type, rooms="all", floor_plan=floor_plan)
                found[room_of(floor_plan)].append(game.build())
    return found


def test_the_recorded_figures_are_those_of_the_real_games(shared_dir: Path) -> None:
    played: defaultdict[str, list[int]] = defaultdict(list)
    rooms: defaultdict[str, list[Game]] = defaultdict(list)
    for task_type, floor_plan, game in real_games(shared_dir):
        played[task_type].append(floor_plan)
        rooms[room_of(floor_plan)].append(game)
    assert {task_type: sorted(found) for task_type, found in played.items()} == PLAYED
    for room, games in rooms.items():
        rows = [measures(game) for game in games]
        for name, (mean, deviation) in REAL[room].items():
            assert statistics.mean(row[name] for row in rows) == pytest.approx(mean, abs=0.005), (room, name)
            assert statistics.stdev(row[name] for row in rows) == pytest.approx(deviation, abs=0.005), (room, name)
        total = sum((kinds(game) for game in games), Counter[str]())
        assert {kind: round(count / len(games), 2) for kind, count in total.items()} == REAL_RECEPTACLES[room]


@pytest.mark.parametrize("room", REAL)
@pytest.mark.parametrize("name", ["receptacles", "that open", "locations", "objects", "in receptacles",
                                  "behind doors", "in two places", "classes"])  # fmt: skip
def test_rooms_are_as_large_and_as_full_as_real_ones(room: str, name: str) -> None:
    """Means within three standard errors of their difference: two samples of one kind of room pass 997 times in 1,000.

    Where the real games show no spread at all, generated ones may stray by 0.5. Deviations within a factor of 2, the
    range in which that of 9 games lies 19 times in 20, or within 2 where a few objects are all there is.
    """
    mean, deviation = REAL[room][name]
    found = [measures(game)[name] for game in generated_games()[room]]
    num_real = len(found) // GAMES_EACH
    error = math.sqrt(deviation**2 / num_real + statistics.variance(found) / len(found))
    assert statistics.mean(found) == pytest.approx(mean, abs=max(0.5, 3 * error))
    assert deviation / 2 - 2 <= statistics.stdev(found) <= deviation * 2 + 2


@pytest.mark.parametrize("room", REAL)
def test_receptacles_are_as_frequent_as_in_real_rooms(room: str) -> None:
    """By class. Most are those of the floor plan; those drawn besides may stray by 15 %, or by 0.5."""
    games = generated_games()[room]
    total = sum((kinds(game) for game in games), Counter[str]())
    assert total.keys() == REAL_RECEPTACLES[room].keys()
    for kind, mean in REAL_RECEPTACLES[room].items():
        assert total[kind] / len(games) == pytest.approx(mean, rel=0.15, abs=0.5), kind


def test_all_types_together_make_rooms_of_the_official_size() -> None:
    """25 receptacles and 40 objects in the mean; the 54 real games, from other rooms, have 21.6 and 40.4."""
    rows = [measures(generate(seed).build()) for seed in range(120)]
    assert statistics.mean(row["receptacles"] for row in rows) == pytest.approx(25, abs=3)
    assert statistics.mean(row["objects"] for row in rows) == pytest.approx(40, abs=3)


def test_what_opens_is_what_has_a_pose_to_be_opened_from() -> None:
    """As in the real games: cabinets and drawers that the floor plan tells no pose of stay as they are."""
    openable = load_households().openable
    shut = 0
    for seed in range(60):
        made = generate(seed)
        game = made.build()
        assert len(game.openable) == sum(item.type in openable for item in posed_receptacles(made.floor_plan))
        shut += sum(count for kind, count in kinds(game).items() if kind in ("cabinet", "drawer")) > len(game.openable)
    assert shut


def test_an_object_that_stands_in_two_places_stands_in_neither_where_it_belongs() -> None:
    """A mug in a coffee machine always stands on the counter as well, but not where it is to be put on the counter."""
    tables = load_households()
    machine = Receptacle("CoffeeMachine|+00.00|+01.00|+00.00", "CoffeeMachine", Location(0, 1, 0, 30))
    counter = Receptacle("CounterTop|+00.50|+01.00|+00.00", "CounterTop", Location(1, 1, 0, 30))
    far = Receptacle("CounterTop|+03.50|+01.00|+00.00", "CounterTop", Location(9, 1, 0, 30))
    fridge = Receptacle("Fridge|-02.00|+00.00|+00.00", "Fridge", Location(2, 1, 0, 0))

    def mugs(destination: str, receptacles: list[Receptacle]) -> set[tuple[Receptacle, ...]]:
        quest = Quest("pick_and_place_simple", "Mug", destination)
        how = {"receptacles": receptacles, "quest": quest, "size": DIFFICULTIES["easy"]}
        found = [place_objects(Draws(f"{n}"), tables, tables.floor_plans[7], **how) for n in range(40)]
        return {item.receptacles for placed in found for item in placed or () if item.type == "Mug"}

    assert mugs("CounterTop", [machine, far, counter]) == {(machine,)}
    assert mugs("Fridge", [machine, far, counter, fridge]) == {(machine, counter), (counter,), (far,)}


def test_things_are_called_as_in_real_games() -> None:
    """``sinkbasin``, and never what a carelessly made id would read like."""
    tables = load_households()
    receptacles = {kind.lower() for kind in tables.fits_in if kind not in tables.movable_receptacles}
    things = {name.lower() for name in load_frequencies().places}
    drawn = [generate(seed, type="pick_and_place_simple", floor_plan=418).build() for seed in range(3)]
    assert all("sinkbasin" in kinds(game) for game in drawn), "whose pose this floor plan does not tell"
    for game in itertools.chain(drawn, *generated_games().values()):
        assert set(kinds(game)) <= receptacles
        assert {game.names[thing].rpartition(" ")[0] for thing in game.object_types} <= things


def test_what_is_counted_is_what_the_script_counts(shared_dir: Path, repo_root: Path, tmp_path: Path) -> None:
    """And no game of a held-out room is among it."""
    games = shared_dir / "data" / "alfworld" / "json_2.1.1" / "train"
    script = repo_root / "scripts" / "extract_household_frequencies.py"
    subprocess.run([sys.executable, script, games, tmp_path], check=True, cwd=repo_root, env={"PYTHONPATH": "."})
    for name in ("household_frequencies.json", "household_frequencies.NOTICE"):
        assert (tmp_path / name).read_bytes() == (repo_root / "envs" / "alfworld" / name).read_bytes()
    counted = json.loads((tmp_path / "household_frequencies.json").read_text())
    assert sum(counted["games"].values()) == sum(map(len, PLAYED.values())) == 54
    assert not {floor_plan for found in PLAYED.values() for floor_plan in found} & HELD_OUT_FLOOR_PLANS
