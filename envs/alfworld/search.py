"""A way to any goal, by best-first search over the engine: bounded, not the shortest. For goals of no task type."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator

from envs.alfworld import rules
from envs.alfworld.goal import GoalBlock
from envs.alfworld.state import State

__all__ = ["SEARCH_LIMIT", "search"]

# States that one search may make: about half a second.
SEARCH_LIMIT = 20_000

_IDLE = frozenset(
    {
        rules.look,
        rules.inventory,
        rules.show_help,
        rules.examine_object,
        rules.examine_receptacle,
        rules.nothing_happens,
    }
)
# What only matters to a goal that reads the predicate.
_FOR = {
    rules.close: "opened",
    rules.clean: "isclean",
    rules.heat: "ishot",
    rules.cool: "iscool",
    rules.toggle: "istoggled",
    rules.slice_: "issliced",
}
_DEVICES = {"isclean": "sinks", "ishot": "microwaves", "iscool": "fridges"}
_MARKS = {"isclean": "clean", "ishot": "hot", "iscool": "cool", "istoggled": "toggled", "issliced": "sliced"}
# How much a missing condition weighs against a command: more finds a way sooner, and a longer one.
_GREED = 3


def search(state: State, *, limit: int = SEARCH_LIMIT) -> list[str] | None:
    """Commands that win; [] where it is won; None where ``limit`` states were made and none of them was won.

    Deterministic. What the goal's blocks do not name is left alone; a goal without blocks makes everything matter.
    """
    if state.won:
        return []
    guide = _Guide(state)
    numbers = itertools.count()
    waiting: list[tuple[int, int, State, tuple[str, ...]]] = [(0, next(numbers), state, ())]
    seen = {state.hash()}
    while waiting:
        _, _, current, done = heapq.heappop(waiting)
        for command in guide.useful(current):
            if len(seen) > limit:
                return None
            following = current.clone()
            _, won = following.step(command)
            digest = following.hash()
            if digest in seen:
                continue
            seen.add(digest)
            commands = (*done, command)
            if won:
                return list(commands)
            estimate = len(commands) + _GREED * guide.missing(following)
            heapq.heappush(waiting, (estimate, next(numbers), following, commands))
    return None


class _Guide:
    """What matters for a goal, and how much of it is missing."""

    def __init__(self, state: State) -> None:
        game = state.game
        self._blocks = game.goal.blocks
        reads = game.goal.reads
        if reads & {"ishot", "iscool"}:
            reads |= {"ishot", "iscool"}  # either undoes the other
        named = {name for block in self._blocks for binding in block.bindings for name in binding.candidates}
        self._idle = _IDLE | {rule for rule, predicate in _FOR.items() if predicate not in reads}
        self._things = {name for name in named if name in game.object_types}
        if "issliced" in reads:
            self._things |= game.knives
        ends = {name for name in named if name in game.locations}
        for predicate, devices in _DEVICES.items():
            if predicate in reads:
                ends |= getattr(game, devices)
        # Where something can be done for the goal whatever lies there; a goal may also ask to be somewhere.
        self._stops = {game.locations[name] for name in ends} | (named & set(game.locations.values()))

    def useful(self, state: State) -> Iterator[str]:
        """The commands worth trying, sorted, one ``go to`` for each location."""
        gone: set[str] = set()
        anything = not self._blocks
        junk = any(thing not in self._things for thing in state.held)
        for command, (rule, first, second) in sorted(state.commands().items()):
            if rule in self._idle:
                continue
            if rule is rules.go_to:
                if second in gone or not (anything or junk or self._matters(state, second)):
                    continue
                gone.add(second)
            elif rule in (rules.take, rules.toggle, rules.slice_) and not anything and first not in self._things:
                continue
            yield command

    def _matters(self, state: State, location: str) -> bool:
        if location in self._stops or any(state.is_at(thing, location) for thing in self._things):
            return True
        return any(
            thing in self._things
            for receptacle in state.game.receptacles_at.get(location, ())
            for thing in state.contents_of(receptacle)
        )

    def missing(self, state: State) -> int:
        """Conditions that do not hold yet, for the objects that are nearest to having them."""
        return sum(self._missing_in(block, state) for block in self._blocks)

    def _missing_in(self, block: GoalBlock, state: State) -> int:
        total = 0
        for binding in block.bindings:
            wanted = [literal for literal in block.literals if binding.variable in literal[1:2]]
            held = any(literal[0] == "holds" and literal[2] == binding.variable for literal in block.literals)
            if wanted or held:
                total += min(
                    (
                        sum(self._lacks(literal[0], literal[-1], name, block, state) for literal in wanted)
                        + (held and name not in state.held)
                        for name in binding.candidates
                    ),
                    default=0,
                )
        return total

    def _lacks(self, predicate: str, last: str, name: str, block: GoalBlock, state: State) -> int:
        """Commands, roughly, until the literal holds for an object."""
        if predicate in _MARKS:
            if name in getattr(state, _MARKS[predicate]):
                return 0
            if predicate == "issliced":
                return 2 - any(knife in state.held for knife in state.game.knives)
            return 1
        if predicate == "inreceptacle":
            ends = block.candidates(last) if last.startswith("?") else (last,)
            if any(name in state.contents_of(end) for end in ends):
                return 0
            return 2 - (name in state.held)
        return 0
