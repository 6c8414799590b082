"""Extract envs/alfworld/household_frequencies.json: what real training games hold, how many of it, and where it lies.

    python scripts/extract_household_frequencies.py DIR/json_2.1.1/train envs/alfworld

Counts the games of ALFWorld's train split and no other, so that nothing of a held-out room reaches a generated one.
Also writes household_frequencies.NOTICE (the games' MIT licence). The same games always give the same bytes.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envs.alfworld.furnishing import posed_receptacles
from envs.alfworld.game import read_game_file
from envs.alfworld.households import Households, load_households
from envs.alfworld.pddl import parse_problem

NOWHERE = ""  # on the floor or on a wall: in no receptacle
# Lamps are in none of alfworld's tables of what may lie where.
LAMP_SURFACES = ("CoffeeTable", "CounterTop", "Desk", "DiningTable", "Dresser", "Shelf", "SideTable")
# How many observations a rate is drawn towards the mean by, how often the fit is repeated, and the weights' scale.
PRIOR, ROUNDS, SCALE = 0.5, 60, 1000


@dataclass(frozen=True, slots=True)
class RealGame:
    """A real game: its floor plan, its receptacles' classes, its objects' classes with the classes they stand in."""

    floor_plan: int
    room: str
    receptacles: Counter[str]
    objects: tuple[tuple[str, tuple[str, ...]], ...]
    pickupable: frozenset[str]


@dataclass(slots=True)
class Choices:
    """Where the objects of a class were put, among which classes of receptacles they could have been."""

    homes: set[str]
    seen: list[tuple[frozenset[str], str]] = field(default_factory=list)


def read_games(folder: Path, tables: Households) -> list[RealGame]:
    """Every game of the folder, in the order of their names."""
    rooms = {number: room for room, numbers in tables.rooms.items() for number in numbers}
    classes = {name.lower(): name for plan in tables.floor_plans.values() for name in plan.classes}
    classes |= {name.lower(): name for name in tables.fits_in}
    found = []
    for path in sorted(folder.glob("*/*/game.tw-pddl")):
        facts = parse_problem(read_game_file(path)[0]["pddl_problem"]).facts
        number = int(path.parent.parent.name.rpartition("-")[2])
        kinds = {name: classes[kind.removesuffix("type")] for name, kind in facts["receptacletype"]}
        things = {name: classes[kind.removesuffix("type")] for name, kind in facts["objecttype"]}
        inside: defaultdict[str, list[str]] = defaultdict(list)
        for thing, receptacle in facts["inreceptacle"]:
            inside[thing].append(kinds[receptacle])
        objects = tuple((things[name], tuple(sorted(inside[name]))) for name in sorted(things))
        pickupable = frozenset(things[name] for (name,) in facts["pickupable"])
        found.append(RealGame(number, rooms[number], Counter(kinds.values()), objects, pickupable))
    return found


def count_receptacles(games: list[RealGame], tables: Households) -> dict[str, Any]:
    """Room → class → how often so many stand there beyond those whose pose the floor plan tells: ``alone`` where it
    tells none, ``beside`` where it tells some.
    """
    extra: defaultdict[str, defaultdict[str, dict[str, Counter[int]]]] = defaultdict(lambda: defaultdict(dict))
    for game in games:
        plan = tables.floor_plans[game.floor_plan]
        posed = Counter(item.type for item in posed_receptacles(game.floor_plan))
        for kind in plan.classes:
            if kind in tables.fits_in and kind not in tables.movable_receptacles:
                case = extra[game.room][kind].setdefault("beside" if posed[kind] else "alone", Counter())
                case[game.receptacles[kind] - posed[kind]] += 1
    return {
        room: {kind: {case: histogram(counts) for case, counts in sorted(cases.items())} for kind, cases in items}
        for room, items in ((room, sorted(kinds.items())) for room, kinds in sorted(extra.items()))
    }


def count_copies(games: list[RealGame]) -> dict[str, Any]:
    """Room → object class → how often a room that has the class has so many of it."""
    copies: defaultdict[str, defaultdict[str, Counter[int]]] = defaultdict(lambda: defaultdict(Counter))
    for game in games:
        for name, number in Counter(name for name, _ in game.objects).items():
            copies[game.room][name][number] += 1
    return {
        room: {name: histogram(counts) for name, counts in sorted(names.items())}
        for room, names in sorted(copies.items())
    }


def histogram(counts: Mapping[int, int]) -> list[int]:
    """How often 0, 1, 2, … were counted."""
    return [counts.get(number, 0) for number in range(max(counts) + 1)]


def fit_places(games: list[RealGame], tables: Households) -> dict[str, dict[str, int]]:
    """Object class → receptacle class → the weight with which it is chosen among those that are there.

    A class is chosen with its weight over the sum of the weights of all that could hold the object; the weights are
    fitted to the games by Hunter's minorisation, those of one object class drawn towards those of all.
    """
    rarity = Counter(kind for game in games for _, kinds in game.objects for kind in kinds)
    by_class: dict[str, Choices] = {}
    for game in games:
        for name, kinds in game.objects:
            choices = by_class.setdefault(name, Choices(_homes(tables, name)))
            first = min(kinds, key=lambda kind: (rarity[kind], kind)) if kinds else NOWHERE
            choices.homes.add(first)
            choices.seen.append((frozenset(game.receptacles) | {NOWHERE}, first))
    for plan in tables.floor_plans.values():  # classes of rooms that no game here shows
        for name in plan.classes:
            if homes := _homes(tables, name):
                by_class.setdefault(name, Choices(homes))
    everything = [(there & choices.homes, first) for choices in by_class.values() for there, first in choices.seen]
    kinds = sorted({kind for choices in by_class.values() for kind in choices.homes})
    common = _fit(everything, kinds, dict.fromkeys(kinds, 1.0))
    places: dict[str, dict[str, int]] = {}
    for name, choices in sorted(by_class.items()):
        seen = [(there & choices.homes, first) for there, first in choices.seen]
        weights = _fit(seen, sorted(choices.homes), common)
        places[name] = {kind: max(1, round(SCALE * weight)) for kind, weight in weights.items()}
    return places


def _homes(tables: Households, name: str) -> set[str]:
    homes = {kind for kind, objects in tables.fits_in.items() if name in objects} - tables.movable_receptacles
    return homes | (set(LAMP_SURFACES) if name == "DeskLamp" else set())


def _fit(
    seen: Iterable[tuple[frozenset[str] | set[str], str]], kinds: Iterable[str], prior: Mapping[str, float]
) -> dict[str, float]:
    # Sorted throughout: the sum of floats depends on their order.
    grouped = Counter((tuple(sorted(there)), chosen) for there, chosen in seen)
    wins: Counter[str] = Counter()
    for (_, chosen), number in grouped.items():
        wins[chosen] += number
    weights = {kind: prior[kind] for kind in kinds}
    for _ in range(ROUNDS):
        shares = dict.fromkeys(weights, 0.0)
        for (there, _), number in sorted(grouped.items()):
            total = sum(weights[kind] for kind in there)
            for kind in there:
                shares[kind] += number / total
        mean = sum(prior[kind] for kind in weights) / len(weights)
        weights = {kind: (wins[kind] + PRIOR * prior[kind] / mean) / (shares[kind] + PRIOR / mean) for kind in weights}
        scale = sum(weights.values()) / sum(prior[kind] for kind in weights)
        weights = {kind: weight / scale for kind, weight in weights.items()}
    return weights


def count_second_places(games: list[RealGame]) -> dict[str, Any]:
    """Object class → the class it chiefly stands in → how often it also stands in these (joined by +; "" for none)."""
    rarity = Counter(kind for game in games for _, kinds in game.objects for kind in kinds)
    also: defaultdict[str, defaultdict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for game in games:
        for name, kinds in game.objects:
            if kinds:
                first, *others = sorted(kinds, key=lambda kind: (rarity[kind], kind))
                also[name][first]["+".join(others)] += 1
    return {
        name: {first: dict(sorted(counts.items())) for first, counts in sorted(firsts.items()) if counts.keys() != {""}}
        for name, firsts in sorted(also.items())
        if any(counts.keys() != {""} for counts in firsts.values())
    }


def extract(folder: Path) -> dict[str, Any]:
    """The data file's content."""
    tables = load_households()
    games = read_games(folder, tables)
    if not games:
        raise SystemExit(f"{folder} holds no games")
    return {
        "source": f"{len(games)} games of ALFWorld's train split (json_2.1.1; see household_frequencies.NOTICE)",
        "games": dict(sorted(Counter(game.room for game in games).items())),
        "receptacles": count_receptacles(games, tables),
        "copies": count_copies(games),
        "pickupable": sorted(frozenset().union(*(game.pickupable for game in games))),
        "places": fit_places(games, tables),
        "second_places": count_second_places(games),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("games", type=Path, help="the folder of the train split")
    parser.add_argument("dest", type=Path, help="folder of the two files, envs/alfworld")
    parser.add_argument("--licence", type=Path, help="the games' licence; by default LICENSE two folders above them")
    arguments = parser.parse_args()
    text = json.dumps(extract(arguments.games), separators=(",", ":"), ensure_ascii=True) + "\n"
    (arguments.dest / "household_frequencies.json").write_text(text, encoding="utf-8")
    licence = arguments.licence or arguments.games.parent.parent / "LICENSE"
    notice = (
        "household_frequencies.json is counted from games of ALFWorld's train split, json_2.1.1\n"
        "(https://github.com/alfworld/alfworld), by scripts/extract_household_frequencies.py.\n"
        f"It is used under the licence below.\n\n{licence.read_text(encoding='utf-8')}"
    )
    (arguments.dest / "household_frequencies.NOTICE").write_text(notice, encoding="utf-8")
    print(f"{arguments.dest / 'household_frequencies.json'}: {len(text) / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
