"""An expert with full knowledge: the way to the goal from any state, built and then proved by execution. No search.

It reads the task from the goal itself, so it needs nothing but the game: which objects are wanted, where they belong,
whether they must be clean, hot or cool first, or which lamp must shine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from envs.alfworld.game import Game
from envs.alfworld.goal import GoalBlock
from envs.alfworld.state import State

__all__ = ["TaskGoal", "plan", "read_task_goal"]

_TREATMENTS = {"isclean": "clean", "ishot": "heat", "iscool": "cool"}
# A route may win before its end (an object that stands in two receptacles), so some of the shortest are compared.
_ROUTES_COMPARED = 8
_PLACING = {"inreceptacle", "objecttype", "receptacletype", "cleanable", "heatable", "coolable", "!="}


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


def read_task_goal(game: Game) -> TaskGoal | None:
    """The goal as one of ALFWorld's six task types, or None where it is none of them (slices, movable receptacles)."""
    match game.goal.blocks:
        case (block,):
            return _read_placing(block)
        case (first, second):
            lamp, held = (first, second) if first.argument("istoggled", 0) else (second, first)
            light, thing = lamp.argument("istoggled", 0), held.argument("holds", 1)
            if light and thing and held.predicates() <= {"holds", "objecttype"}:
                return TaskGoal(held.candidates(thing), lamps=lamp.candidates(light))
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
    treatment = _TREATMENTS[treatments.pop()] if treatments else ""
    return TaskGoal(wanted[0], block.candidates(places.pop()), treatment, count=len(wanted))


def plan(state: State) -> list[str] | None:
    """Commands that win from this state, the shortest found; [] where it is won, None where the expert knows no way."""
    if state.won:
        return []
    goal = read_task_goal(state.game)
    if goal is None:
        return None
    routes = _light_routes(state, goal) if goal.lamps else _placing_routes(state, goal)
    best: list[str] | None = None
    for tried, route in enumerate(sorted(routes, key=lambda route: len(route.commands))):
        if best is not None and tried >= _ROUTES_COMPARED:
            break
        proved = _prove(state, route.commands)
        if proved is not None and (best is None or len(proved) < len(best)):
            best = proved
    return best


def _prove(state: State, commands: Iterable[str]) -> list[str] | None:
    """The commands up to the win, or None where one of them is not accepted or the goal is never reached."""
    state = state.clone()
    done: list[str] = []
    for command in commands:
        if command not in state.commands():
            return None
        done.append(command)
        if state.step(command)[1]:
            return done
    return None


class _Route:
    """Commands in the making, with what they change of the way: the agent's place and what has been opened."""

    def __init__(self, state: State) -> None:
        self.game = state.game
        self.commands: list[str] = []
        self._location = state.location
        self._opened = set(state.opened)

    def copy(self) -> _Route:
        other = _Route.__new__(_Route)
        other.game, other._location = self.game, self._location
        other.commands, other._opened = self.commands[:], self._opened.copy()
        return other

    def go(self, receptacle: str) -> None:
        location = self.game.locations[receptacle]
        if location != self._location:
            self.commands.append(f"go to {self.game.names[receptacle]}")
            self._location = location

    def reach(self, receptacle: str) -> None:
        self.go(receptacle)
        if receptacle in self.game.openable and receptacle not in self._opened:
            self.commands.append(f"open {self.game.names[receptacle]}")
            self._opened.add(receptacle)

    def take(self, thing: str, receptacle: str) -> None:
        self.reach(receptacle)
        self.commands.append(f"take {self.game.names[thing]} from {self.game.names[receptacle]}")

    def put(self, thing: str, receptacle: str) -> None:
        self.reach(receptacle)
        names = self.game.names
        if self.game.dialect.move:
            self.commands.append(f"move {names[thing]} to {names[receptacle]}")
        else:
            self.commands.append(f"put {names[thing]} in/on {names[receptacle]}")

    def drop(self, thing: str) -> None:
        """Put the object wherever that takes the fewest commands."""
        options = []
        for receptacle in sorted(self.game.fits_in.get(thing, ())):
            option = self.copy()
            option.put(thing, receptacle)
            options.append(option)
        if options:
            best = min(options, key=lambda option: len(option.commands))
            self.commands, self._location, self._opened = best.commands, best._location, best._opened

    def treat(self, thing: str, treatment: str, destination: str) -> None:
        game = self.game
        devices = sorted({"clean": game.sinks, "heat": game.microwaves, "cool": game.fridges}[treatment])
        devices = [device for device in devices if device in game.locations]
        if devices:
            near = [name for name in devices if game.locations[name] in (self._location, game.locations[destination])]
            device = next(iter(near), devices[0])
            self.go(device)
            self.commands.append(f"{treatment} {game.names[thing]} with {game.names[device]}")


def _light_routes(state: State, goal: TaskGoal) -> Iterator[_Route]:
    """Hold a wanted object, then stand beside a lamp and switch it on."""
    for start, _ in _pickups(state, goal.wanted):
        for lamp in goal.lamps:
            for receptacle in _places(state, lamp):
                route = start.copy()
                route.go(receptacle)
                if lamp not in state.toggled:
                    route.commands.append(f"use {state.game.names[lamp]}")
                yield route


def _placing_routes(state: State, goal: TaskGoal) -> Iterator[_Route]:
    """Bring as many treated wanted objects as are missing into one destination, the nearest object first."""
    treated = {"": goal.wanted, "clean": state.clean, "heat": state.hot, "cool": state.cool}[goal.treatment]
    for destination in goal.destinations:
        if destination not in state.game.locations:
            continue
        there = {thing for thing in state.contents_of(destination) if thing in goal.wanted and thing in treated}
        fitting = [
            thing for thing in goal.wanted if thing not in there and destination in state.game.fits_in.get(thing, ())
        ]
        for route, first in _pickups(state, fitting):
            _deliver(route, first, destination, "" if first in treated else goal.treatment)
            left = [thing for thing in fitting if thing != first]
            for _ in range(goal.count - len(there) - 1):
                options = [(option, thing) for thing in left for option in _taking(route, state, thing)]
                if not options:
                    break
                best, thing = min(options, key=lambda pair: len(pair[0].commands))
                _deliver(best, thing, destination, "" if thing in treated else goal.treatment)
                route, left = best, [other for other in left if other != thing]  # noqa: PLW2901
            yield route


def _deliver(route: _Route, thing: str, destination: str, treatment: str) -> None:
    if treatment:
        route.treat(thing, treatment, destination)
    route.put(thing, destination)


def _pickups(state: State, things: Iterable[str]) -> Iterator[tuple[_Route, str]]:
    """The ways to have one of the things in hand: already, or after dropping what the hands hold."""
    things = tuple(things)
    held = state.held[0] if state.held else None
    if held in things:
        yield _Route(state), held
    for thing in things:
        if thing != held:
            start = _Route(state)
            if held:
                start.drop(held)
            for route in _taking(start, state, thing):
                yield route, thing


def _taking(route: _Route, state: State, thing: str) -> Iterator[_Route]:
    """The route continued to each place where the thing can be taken."""
    if thing in state.game.pickupable:
        for receptacle in _places(state, thing):
            option = route.copy()
            option.take(thing, receptacle)
            yield option


def _places(state: State, thing: str) -> list[str]:
    return state.places_of(thing)
