"""The oracle: full knowledge, the shortest plan from any state of ALFWorld's six task types.

No search. ``go to`` reaches any place in one command, nothing ever needs closing, and one object at a time is carried,
so that a shortest plan is: put away what is in the way, then for each object that is missing take it, treat it, put it.
What is left to choose is where, and a command is saved only where two of these stops share a location or a receptacle
to be opened. All such choices are priced; receptacles between which no price can differ are priced once.
Goals of other forms are left to ``envs.alfworld.search``, which is bounded and promises no shortest plan.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from envs.alfworld.game import Game
from envs.alfworld.goal import GoalBlock
from envs.alfworld.search import search
from envs.alfworld.state import State

__all__ = ["TaskGoal", "plan", "read_task_goal", "remaining"]

_TREATMENTS = {"isclean": "clean", "ishot": "heat", "iscool": "cool"}
_PLACING = {"inreceptacle", "objecttype", "receptacletype", "cleanable", "heatable", "coolable", "!="}
_LIGHTING = {"inreceptacle", "objecttype", "toggleable", "istoggled", "receptacleatlocation", "atlocation"}


@dataclass(frozen=True, slots=True)
class TaskGoal:
    """What a goal asks for: ``count`` of the ``wanted`` objects, treated or not, in one of the ``destinations``; or,
    where ``lamps`` are given, one wanted object held beside a lamp that is on.
    """

    wanted: tuple[str, ...]
    destinations: tuple[str, ...] = ()
    treatment: str = ""
    count: int = 1
    lamps: tuple[str, ...] = ()

    def treated(self, state: State, thing: str) -> bool:
        """Whether an object is as the goal wants it."""
        match self.treatment:
            case "clean":
                return thing in state.clean
            case "heat":
                return thing in state.hot
            case "cool":
                return thing in state.cool
        return True


# Read once for each game, forgotten with it. Two threads that read the same game at once write the same value.
_goals: WeakKeyDictionary[Game, TaskGoal | None] = WeakKeyDictionary()


def read_task_goal(game: Game) -> TaskGoal | None:
    """The goal as one of ALFWorld's six task types, or None where it is none of them (slices, movable receptacles)."""
    try:
        return _goals[game]
    except KeyError:
        found = _goals[game] = _read(game)
        return found


def _read(game: Game) -> TaskGoal | None:
    if len(game.receptacle_places) != len(game.receptacles):  # one that stands in two places has no one location
        return None
    match game.goal.blocks:
        case (block,):
            return _read_placing(block)
        case (first, second):
            lamp, held = (first, second) if first.argument("istoggled", 0) else (second, first)
            return _read_lighting(lamp, held, game)
    return None


def _read_placing(block: GoalBlock) -> TaskGoal | None:
    places = {literal[2] for literal in block.literals if literal[0] == "inreceptacle"}
    things = {literal[1] for literal in block.literals if literal[0] == "inreceptacle"}
    treatments = block.predicates() & _TREATMENTS.keys()
    if len(places) != 1 or len(treatments) > 1 or block.predicates() - treatments - _PLACING:
        return None
    wanted = [block.candidates(thing) for thing in sorted(things)]
    if len(wanted) != 1 + ("!=" in block.predicates()) or any(other != wanted[0] for other in wanted):
        return None
    if treatments and len(wanted) > 1:
        return None
    treatment = _TREATMENTS[treatments.pop()] if treatments else ""
    return TaskGoal(wanted[0], block.candidates(places.pop()), treatment, count=len(wanted))


def _read_lighting(lamp: GoalBlock, held: GoalBlock, game: Game) -> TaskGoal | None:
    light, thing = lamp.argument("istoggled", 0), held.argument("holds", 1)
    if not light or not thing or held.predicates() - {"holds", "objecttype"} or lamp.predicates() != _LIGHTING:
        return None
    lamps = lamp.candidates(light)
    if not game.pickupable.isdisjoint(lamps):  # a lamp that can be carried to the object
        return None
    return TaskGoal(held.candidates(thing), lamps=lamps)


def plan(state: State) -> list[str] | None:
    """Commands that win from this state; [] where it is won, None where there is no way or none was found.

    The shortest for ALFWorld's six task types. For another goal what the bounded search finds, of any length.
    """
    if state.won:
        return []
    goal = read_task_goal(state.game)
    if goal is None:
        return search(state)
    route = _Oracle(state, goal).route()
    return None if route is None else _commands(state, goal, route)


def remaining(state: State) -> int | None:
    """The length of ``plan(state)``. One less after each of its commands: only a step beside it needs asking again."""
    commands = plan(state)
    return None if commands is None else len(commands)


@dataclass(frozen=True, slots=True)
class _Route:
    """What is done, where: the held object put away (``drop``), each trip's object taken (from None: it is in hand
    already), treated and brought to ``end``. ``end`` "" is where the treatment itself wins. ``lamp`` is to be used.
    """

    cost: int
    drop: str
    trips: tuple[tuple[str, str | None], ...]
    end: str
    lamp: str = ""


@dataclass(frozen=True, slots=True)
class _Source:
    """A wanted object in a receptacle. ``shut`` is 1 where it must be opened first, else 0."""

    thing: str
    receptacle: str
    location: str
    shut: int


@dataclass(frozen=True, slots=True)
class _Start:
    """Where the trips begin, after ``cost`` commands: with the wanted object ``carried``, or with empty hands."""

    cost: int
    location: str
    drop: str = ""
    carried: str = ""


class _Oracle:
    """The prices of all routes from one state."""

    def __init__(self, state: State, goal: TaskGoal) -> None:
        self._state, self._goal, self._game = state, goal, state.game
        self._locations = self._game.locations
        self._held = state.held[0] if state.held else ""
        self._contents: dict[str, tuple[str, ...]] = {}  # receptacle → the wanted objects in it
        self._sources: list[_Source] = []
        wanted = frozenset(goal.wanted)
        for receptacle in self._game.receptacles:
            things = state.contents_of(receptacle)
            if not wanted.isdisjoint(things):
                inside = self._contents[receptacle] = tuple([thing for thing in things if thing in wanted])
                self._sources += [
                    _Source(thing, receptacle, self._locations[receptacle], self._shut(receptacle))
                    for thing in inside
                    if thing in self._game.pickupable and thing != self._held
                ]
        self._devices = [self._locations[name] for name in _devices(self._game, goal.treatment)]
        self._hot = {state.location, *(source.location for source in self._sources)}
        self._best: _Route | None = None
        self._cost = 1 << 30
        self._drops = list(self._useful_drops()) if self._held else []

    def route(self) -> _Route | None:
        """The cheapest."""
        if self._goal.lamps:
            self._price_lighting()
        else:
            if self._goal.treatment:
                self._price_treatment_alone()
            for end in self._useful_destinations():
                self._price_placing(end)
        return self._best

    def _shut(self, receptacle: str) -> int:
        return int(receptacle in self._game.openable and receptacle not in self._state.opened)

    def _keep(self, route: _Route) -> None:
        if route.cost < self._cost:
            self._best, self._cost = route, route.cost

    def _useful_drops(self) -> Iterator[_Start]:
        """Places for the held object. Which of the others at a location takes it makes no difference; the agent's own
        place, where nothing must be opened, is never beaten.
        """
        kept: dict[tuple[str, str], _Start] = {}
        here = self._state.location
        for receptacle in sorted(self._game.fits_in.get(self._held, ())):
            location, shut = self._locations[receptacle], self._shut(receptacle)
            start = _Start((location != here) + shut + 1, location, receptacle)
            if start.cost == 1:
                yield start
                return
            shared = receptacle if shut and receptacle in self._contents else ""
            key = (location if location in self._hot else "", shared)
            if key not in kept or start.cost < kept[key].cost:
                kept[key] = start
        yield from kept.values()

    def _starts(self, end: str = "") -> Iterator[_Start]:
        """With empty hands: at once, or after the held object is put away. ``end`` is opened later in any case, which
        makes it worth looking at.
        """
        if not self._held:
            yield _Start(0, self._state.location)
            return
        yield from self._drops
        if end and self._shut(end) and end in self._game.fits_in.get(self._held, ()):
            location = self._locations[end]
            yield _Start((location != self._state.location) + 2, location, end)

    def _useful_destinations(self) -> list[str]:
        """Destinations between which a price can differ: by what is in them, what else is at their location, what
        fits into them.
        """
        locations = self._hot.union(self._devices)
        kept: dict[tuple[str, tuple[str, ...], tuple[str, ...]], str] = {}
        for end in self._goal.destinations:
            location = self._locations.get(end)
            if location is None:
                continue
            key = (
                location if location in locations else "",
                self._contents.get(end, ()),
                self._game.receptacle_types.get(end, ()),
            )
            if key not in kept or (self._shut(kept[key]) and not self._shut(end)):
                kept[key] = end
        return list(kept.values())

    def _haul(self, thing: str, location: str, end_at: str) -> int | None:
        """Commands from having the object in hand to standing before the end with it, as it is wanted."""
        if self._goal.treated(self._state, thing):
            return int(location != end_at)
        if not self._devices or thing not in _treatable(self._game, self._goal.treatment):
            return None
        near = location in self._devices or end_at in self._devices
        return 1 + (int(location != end_at) if near else 2)

    def _price_placing(self, end: str) -> None:
        goal, fits = self._goal, self._game.fits_in
        end_at, end_shut = self._locations[end], self._shut(end)
        done = [thing for thing in self._contents.get(end, ()) if goal.treated(self._state, thing)]
        missing = goal.count - len(done)
        fetch = [
            (source, haul)
            for source in self._sources
            if source.thing not in done and end in fits.get(source.thing, ())
            if (haul := self._haul(source.thing, source.location, end_at)) is not None
        ]
        held = self._held
        if held in goal.wanted and held not in done and end in fits.get(held, ()):
            here = self._state.location
            haul = self._haul(held, here, end_at)
            if haul is not None:
                start = _Start(haul + end_shut + 1, end_at, carried=held)
                self._price_second(start, end, _Trip(start.cost, held, None), fetch, missing)
        for start in self._starts(end):
            for source, haul in fetch:
                cost = start.cost + (start.location != source.location) + 2 + haul
                cost += source.shut and source.receptacle != start.drop
                cost += end_shut and end not in (start.drop, source.receptacle)
                if cost + 2 * (missing - 1) < self._cost:
                    self._price_second(start, end, _Trip(cost, source.thing, source.receptacle), fetch, missing)

    def _price_second(
        self, start: _Start, end: str, first: _Trip, fetch: list[tuple[_Source, int]], missing: int
    ) -> None:
        """Go on from the end for the other object, where one is missing."""
        if missing == 1:
            if first.cost < self._cost:
                self._keep(_Route(first.cost, start.drop, ((first.thing, first.source),), end))
            return
        for source, haul in fetch:
            if source.thing != first.thing:
                cost = first.cost + 2 * haul + 2
                cost += source.shut and source.receptacle not in (start.drop, first.source)
                if cost < self._cost:
                    trips = ((first.thing, first.source), (source.thing, source.receptacle))
                    self._keep(_Route(cost, start.drop, trips, end))

    def _price_treatment_alone(self) -> None:
        """An object that stands in two receptacles can be in hand and at its destination at once."""
        treatable = _treatable(self._game, self._goal.treatment)
        if not self._devices:
            return
        held = self._held
        if held in self._goal.wanted and held in treatable and self._stands_there(held):
            cost = 1 + (self._state.location not in self._devices)
            self._keep(_Route(cost, "", ((held, None),), ""))
        for source in self._sources:
            if source.thing in treatable and self._stands_there(source.thing, but=source.receptacle):
                for start in self._starts():
                    cost = start.cost + (start.location != source.location) + 2
                    cost += source.location not in self._devices
                    cost += source.shut and source.receptacle != start.drop
                    self._keep(_Route(cost, start.drop, ((source.thing, source.receptacle),), ""))

    def _stands_there(self, thing: str, *, but: str = "") -> bool:
        there = self._contents
        return any(thing in there.get(end, ()) for end in self._goal.destinations if end != but)

    def _price_lighting(self) -> None:
        spots: dict[str, tuple[int, str, str]] = {}  # location → (commands there, lamp to use, its receptacle)
        for lamp in self._goal.lamps:
            for receptacle in self._state.places_of(lamp):
                use = "" if lamp in self._state.toggled else lamp
                spot = (int(bool(use)), use, receptacle)
                location = self._locations[receptacle]
                spots[location] = min(spots.get(location, spot), spot)
        for location, (use_cost, lamp, end) in spots.items():
            if self._held in self._goal.wanted:
                cost = (self._state.location != location) + use_cost
                self._keep(_Route(cost, "", ((self._held, None),), end, lamp))
            for start in self._starts():
                for source in self._sources:
                    cost = start.cost + (start.location != source.location) + 1 + use_cost
                    cost += source.shut and source.receptacle != start.drop
                    cost += source.location != location
                    self._keep(_Route(cost, start.drop, ((source.thing, source.receptacle),), end, lamp))


@dataclass(frozen=True, slots=True)
class _Trip:
    cost: int
    thing: str
    source: str | None


def _devices(game: Game, treatment: str) -> list[str]:
    """The receptacles that treat, sorted."""
    names = {"clean": game.sinks, "heat": game.microwaves, "cool": game.fridges}.get(treatment, frozenset())
    return sorted(name for name in names if name in game.locations)


def _treatable(game: Game, treatment: str) -> frozenset[str]:
    return {"clean": game.cleanable, "heat": game.heatable, "cool": game.coolable}[treatment]


def _commands(state: State, goal: TaskGoal, route: _Route) -> list[str]:
    """The route in the game's words."""
    game, names = state.game, state.game.names
    commands: list[str] = []
    location, opened = state.location, set(state.opened)

    def go(receptacle: str) -> None:
        nonlocal location
        if game.locations[receptacle] != location:
            commands.append(f"go to {names[receptacle]}")
            location = game.locations[receptacle]

    def reach(receptacle: str) -> None:
        go(receptacle)
        if receptacle in game.openable and receptacle not in opened:
            commands.append(f"open {names[receptacle]}")
            opened.add(receptacle)

    def put(thing: str, receptacle: str) -> None:
        reach(receptacle)
        words = f"move {names[thing]} to " if game.dialect.move else f"put {names[thing]} in/on "
        commands.append(words + names[receptacle])

    if route.drop:
        put(state.held[0], route.drop)
    for thing, source in route.trips:
        if source is not None:
            reach(source)
            commands.append(f"take {names[thing]} from {names[source]}")
        if not goal.treated(state, thing):
            near = (location, game.locations[route.end] if route.end else location)
            devices = _devices(game, goal.treatment)
            device = next((name for name in devices if game.locations[name] in near), devices[0])
            go(device)
            commands.append(f"{goal.treatment} {names[thing]} with {names[device]}")
        if route.end and not goal.lamps:
            put(thing, route.end)
    if goal.lamps:
        go(route.end)
        if route.lamp:
            commands.append(f"use {names[route.lamp]}")
    return commands
