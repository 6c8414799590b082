"""What is to be done in a generated room, and where everything in it lies."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from envs.alfworld.frequencies import NOWHERE, load_frequencies
from envs.alfworld.furnishing import near, room_of
from envs.alfworld.generator_options import Difficulty
from envs.alfworld.households import FloorPlan, Households, load_households
from envs.alfworld.problem_writer import Location, Placed, Point, Receptacle
from envs.draws import Draws, Weighted

__all__ = ["Quest", "choose_quest", "needed_receptacles", "place_objects"]

# The lamp that can be used where it stands. Floor lamps stand in no receptacle, and the rules light none of those.
_LAMP = "DeskLamp"
_DEVICES = {
    "pick_clean_then_place_in_recep": ("Cleanable", "SinkBasin"),
    "pick_heat_then_place_in_recep": ("Heatable", "Microwave"),
    "pick_cool_then_place_in_recep": ("Coolable", "Fridge"),
}
_TWO = "pick_two_obj_and_place"
# How many wanted objects there are, each as likely: real games have 1 to 4, most often 1; 2 to 4 where two are wanted.
_TARGETS = (1, 1, 2, 3, 4)
_TARGETS_OF_TWO = (2, 3, 3, 4)


@dataclass(frozen=True, slots=True)
class Quest:
    """What is to be done, in ALFRED's class names: the object, its destination or "", the lamp or "", the device or ""
    (where it is treated first). ``hidden``: the objects lie in something closed.
    """

    type: str
    target: str
    destination: str = ""
    lamp: str = ""
    device: str = ""
    hidden: bool = False

    @property
    def words(self) -> dict[str, str]:
        """What the goal's template names."""
        return {"obj": self.target, "recep": self.destination, "toggle": self.lamp}

    @property
    def fewest(self) -> int:
        """How many wanted objects the goal asks for."""
        return 2 if self.type == _TWO else 1


def choose_quest(
    draws: Draws, tables: Households, type: str, plan: FloorPlan, receptacles: Sequence[Receptacle], *, hidden: bool
) -> Quest | None:
    """An object and a destination that this room allows, or None."""
    present = {item.type for item in receptacles}
    action, device = _DEVICES.get(type, ("", ""))
    if device and device not in present:
        return None
    lamp = _LAMP if type == "look_at_obj_in_light" else ""
    if lamp and (lamp not in plan.classes or not _homes(lamp, present)):
        return None
    quests = []
    for name in _fillers(plan.number):
        if name == lamp or name not in load_frequencies().pickupable or (action and name not in tables.actions[action]):
            continue
        homes = [kind for kind in _homes(name, present) if name in tables.fits_in[kind]]
        destinations = [kind for kind in homes if kind != device]
        if (lamp and homes) or (destinations and len(homes) > 1):
            quests.append((name, destinations))
    if not quests:
        return None
    target, destinations = draws.choice(quests)
    quest = Quest(type, target, "" if lamp else draws.choice(destinations), lamp, device, hidden)
    return quest if any(_starts(tables, quest, receptacles)) else None


def needed_receptacles(
    tables: Households, quest: Quest, receptacles: Sequence[Receptacle]
) -> Iterator[Collection[str]]:
    """Sets of receptacle classes of each of which the quest needs one."""
    yield from ({kind} for kind in (quest.destination, quest.device) if kind)
    starts = {item.type for item in _starts(tables, quest, receptacles)}
    yield starts - {quest.device} or starts
    if quest.lamp:
        yield _homes(quest.lamp, {item.type for item in receptacles})


def place_objects(
    draws: Draws,
    tables: Households,
    plan: FloorPlan,
    *,
    receptacles: Sequence[Receptacle],
    quest: Quest,
    size: Difficulty,
) -> list[Placed] | None:
    """Every object with its places; None where the quest's own find none, or where there are too few."""
    room = _Room(draws, receptacles)
    starts = list(_starts(tables, quest, receptacles))
    if not starts or (quest.lamp and not room.homes(quest.lamp)):
        return None
    for _ in range(_count_targets(draws, quest, size)):
        room.put_in(quest.target, starts, never=quest.destination)
    others = [name for name in _fillers(plan.number) if name != quest.target]
    if size.limited:
        others = [name for name in others if name != _LAMP and room.homes(name)]
    if size.classes is not None:
        least, most = size.classes
        if len(others) < least:
            return None
        others = sorted(draws.sample(others, draws.between(least, min(len(others), most or len(others)))))
    lots = [(name, _count_copies(draws, plan, name, size)) for name in others]
    if size.objects is not None:
        lots = _resize(draws, lots, size.objects)
    for name, count in lots:
        for _ in range(count):
            room.put(name, indoors=size.limited or name == quest.lamp)
    if quest.lamp and size.limited:
        room.put(quest.lamp, indoors=True)
    return room.placed


class _Room:
    """The room while it is being filled."""

    def __init__(self, draws: Draws, receptacles: Sequence[Receptacle]) -> None:
        self.placed: list[Placed] = []
        self._draws = draws
        self._by_type: dict[str, list[Receptacle]] = {}
        for item in receptacles:
            self._by_type.setdefault(item.type, []).append(item)
        self._ids: set[str] = set()
        self._places: dict[str, Weighted[str]] = {}

    def homes(self, name: str) -> list[str]:
        return _homes(name, self._by_type.keys())

    def put(self, name: str, *, indoors: bool) -> None:
        """Put another object where such things lie, on the floor only if not ``indoors``."""
        places = self._places.get(name)
        if places is None:
            weights = load_frequencies().places.get(name, {NOWHERE: 1})
            kinds = [kind for kind in weights if kind in self._by_type or (kind == NOWHERE and not indoors)]
            places = self._places[name] = Weighted(kinds or [NOWHERE], [weights[kind] for kind in kinds] or [1])
        kind = self._draws.weighted(places)
        if kind == NOWHERE:
            self._lay(name)
        else:
            self._stand(name, self._draws.choice(self._by_type[kind]))

    def put_in(self, name: str, among: Sequence[Receptacle], *, never: str) -> None:
        """Put another object in one of some receptacles, and in none of class ``never`` besides."""
        weights = load_frequencies().places[name]
        kinds = sorted({item.type for item in among})
        kind = self._draws.weighted(Weighted(kinds, [weights[kind] for kind in kinds]))
        self._stand(name, self._draws.choice([item for item in among if item.type == kind]), never=never)

    def _lay(self, name: str) -> None:
        draws = self._draws
        location = Location(draws.between(-12, 12), draws.between(-12, 12), draws.below(4), 45)
        self.placed.append(Placed(self._id(name), name, (), location))

    def _stand(self, name: str, first: Receptacle, *, never: str = "") -> None:
        """Put an object in a receptacle, and in those beside it that such an object also stands in in real games."""
        places = [first]
        besides = load_frequencies().second_places(name, first.type)
        if besides is not None:
            for kind in self._draws.weighted(besides):
                others = [item for item in self._by_type.get(kind, ()) if item not in places]
                second = near(others, first) if kind != never else None
                if second is not None:
                    places.append(second)
        self.placed.append(Placed(self._id(name), name, tuple(places)))

    def _id(self, name: str) -> str:
        draws = self._draws
        while True:
            point = Point(draws.between(-400, 400), draws.between(0, 200), draws.between(-400, 400))
            found = f"{name}|{point}"
            if found not in self._ids:
                self._ids.add(found)
                return found


def _count_targets(draws: Draws, quest: Quest, size: Difficulty) -> int:
    if size.targets is None:
        return draws.choice(_TARGETS_OF_TWO if quest.type == _TWO else _TARGETS)
    least, most = size.targets
    return max(quest.fewest, draws.between(least, least if most is None else most))


def _count_copies(draws: Draws, plan: FloorPlan, name: str, size: Difficulty) -> int:
    if size.copies is not None:
        return draws.choice(size.copies)
    return draws.weighted(load_frequencies().copies(room_of(plan.number), name))


def _resize(draws: Draws, lots: Sequence[tuple[str, int]], bounds: tuple[int, int | None]) -> list[tuple[str, int]]:
    """The lots with as many objects as the bounds want, by leaving some out or by further copies."""
    least, most = bounds
    single = [name for name, count in lots for _ in range(count)]
    wanted = max(least, len(single)) if most is None else draws.between(least, most)
    kept = sorted(draws.sample(single, wanted))
    names = [name for name, _ in lots]
    while names and len(kept) < wanted:
        kept.append(draws.choice(names))
    return [(name, kept.count(name)) for name in names if name in kept]


def _starts(tables: Households, quest: Quest, receptacles: Iterable[Receptacle]) -> Iterator[Receptacle]:
    """Where the wanted objects may lie at first: where the rules let them be put, and never where they belong."""
    for item in receptacles:
        closed = item.type in tables.openable and not item.stuck
        fits = quest.target in tables.fits_in[item.type] and item.type != quest.destination
        if fits and (closed or not quest.hidden):
            yield item


def _homes(name: str, present: Collection[str]) -> list[str]:
    """The receptacle classes among those present that hold objects of a class."""
    return [kind for kind in load_frequencies().places.get(name, ()) if kind in present]


@cache
def _fillers(number: int) -> tuple[str, ...]:
    """The object classes of a floor plan that games have: no slices, and neither taps nor ceiling lamps."""
    frequencies, tables = load_frequencies(), load_households()
    fixed = tables.fits_in.keys() - tables.movable_receptacles
    return tuple(
        name
        for name in tables.floor_plans[number].classes
        if name in frequencies.places and name not in fixed and not name.endswith("Sliced")
    )
