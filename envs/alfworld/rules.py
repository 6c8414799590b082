"""The rules of ALFWorld: which commands a state accepts, and what each of them does. After alfworld's alfred.pddl.

``view`` holds the preconditions; one function for each PDDL action holds its effect and its text.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

from envs.alfworld import text

if TYPE_CHECKING:
    from envs.alfworld.state import State

__all__ = [
    "NOTHING_HAPPENS",
    "Changes",
    "Command",
    "Rule",
    "View",
    "clean",
    "close",
    "cool",
    "examine_object",
    "examine_receptacle",
    "go_to",
    "heat",
    "inventory",
    "look",
    "nothing_happens",
    "open_",
    "put",
    "show_help",
    "slice_",
    "take",
    "toggle",
    "view",
]

NOTHING_HAPPENS = "Nothing happens."

# What a rule changes, by predicate: a goal that reads none of it need not be looked at again.
type Changes = frozenset[str]
# A rule applied to (state, first, second) → (what the player reads, what it changed).
type Rule = Callable[[State, str, str], tuple[str, Changes]]
type Command = tuple[Rule, str, str]

_NOTHING: Changes = frozenset()
_PLACE: Changes = frozenset({"atlocation"})
_OPENED: Changes = frozenset({"opened"})
_CARRIED: Changes = frozenset({"inreceptacle", "objectatlocation", "holds", "holdsany"})
_TOGGLED: Changes = frozenset({"istoggled"})
_CLEAN: Changes = frozenset({"isclean"})
_TEMPERATURE: Changes = frozenset({"ishot", "iscool"})
_SLICED: Changes = frozenset({"issliced"})

# So many views are kept for a game; about a kilobyte each. Twice as many made random walks no faster.
_VIEWS_KEPT = 128


class View:
    """What a state accepts: the commands that lead elsewhere, shared by all states at a location, and the others."""

    __slots__ = ("_elsewhere", "_here", "admissible")

    def __init__(self, elsewhere: Mapping[str, Command], here: Mapping[str, Command]) -> None:
        self._elsewhere = elsewhere
        self._here = here
        self.admissible = tuple(sorted((*elsewhere, *here)))

    def find(self, command: str) -> Command | None:
        """What a command does, or None where it is not accepted."""
        return self._here.get(command) or self._elsewhere.get(command)

    def commands(self) -> dict[str, Command]:
        """Every accepted command."""
        return {**self._elsewhere, **self._here}


def view(state: State) -> View:
    """What the state accepts. States that differ only in what cannot be seen or done here share one view."""
    game, location, opened = state.game, state.location, state.opened
    key: list[Hashable] = [location, state.held, state.hands_full]
    for receptacle in game.receptacles_at.get(location, ()):
        key += (receptacle in opened, state.contents_of(receptacle))
    things = _sliceable_here(state)
    key += things
    seen = game.views.get(found := tuple(key))
    if seen is None:
        if len(game.views) >= _VIEWS_KEPT:
            game.forget_views()
        seen = game.views[found] = View(game.go_commands(location), _commands_here(state, things))
    return seen


def _commands_here(state: State, sliceable: Sequence[str]) -> dict[str, Command]:
    """Every command that the state accepts, ``go to`` aside."""
    game, names, held, share = state.game, state.game.names, state.held, state.game.share
    found: dict[str, Command] = {}

    def accept(command: str, rule: Rule, first: str = "", second: str = "") -> None:
        text, shared = share(command, (rule, first, second))
        found[text] = shared

    accept("look", look)
    accept("inventory", inventory)
    if game.dialect.help_text is not None:
        accept("help", show_help)
    # An object can be examined only while it is held: in alfred.pddl a stray comma makes the other case's type unknown.
    for thing in held:
        accept(f"examine {names[thing]}", examine_object, thing)
    for receptacle in game.receptacles_at.get(state.location, ()):
        name = names[receptacle]
        accept(f"examine {name}", examine_receptacle, receptacle)
        accessible = True
        if receptacle in game.openable:
            accessible = receptacle in state.opened
            if accessible:
                accept(f"close {name}", close, receptacle)
            else:
                accept(f"open {name}", open_, receptacle)
        for thing in state.contents_of(receptacle):
            if accessible and not state.hands_full and thing in game.pickupable:
                accept(f"take {names[thing]} from {name}", take, thing, receptacle)
            if thing in game.toggleable:  # also inside a closed receptacle
                accept(f"use {names[thing]}", toggle, thing)
        for thing in held:
            if accessible and receptacle in game.fits_in.get(thing, ()):
                if game.dialect.move:
                    accept(f"move {names[thing]} to {name}", put, thing, receptacle)
                else:
                    accept(f"put {names[thing]} in/on {name}", put, thing, receptacle)
            if receptacle in game.sinks and thing in game.cleanable:
                accept(f"clean {names[thing]} with {name}", clean, thing, receptacle)
            if receptacle in game.microwaves and thing in game.heatable:
                accept(f"heat {names[thing]} with {name}", heat, thing, receptacle)
            if receptacle in game.fridges and thing in game.coolable:
                accept(f"cool {names[thing]} with {name}", cool, thing, receptacle)
    for knife in held:
        if knife in game.knives:
            for thing in sliceable:
                accept(f"slice {names[thing]} with {names[knife]}", slice_, thing, knife)
    return found


def _sliceable_here(state: State) -> list[str]:
    """What a held knife can slice here."""
    if not state.held or state.game.knives.isdisjoint(state.held):
        return []
    return [thing for thing in sorted(state.game.sliceable) if state.is_at(thing, state.location)]


def go_to(state: State, receptacle: str, location: str) -> tuple[str, Changes]:
    """GotoLocation."""
    state.move(location)
    names = state.game.names
    place = names[receptacle if state.game.dialect.arrive_at_receptacle else location]
    return f"You arrive at {place}. {text.describe_receptacle(state, receptacle)}", _PLACE


def open_(state: State, receptacle: str, _: str) -> tuple[str, Changes]:
    """OpenObject."""
    state.mark("opened", receptacle)
    return f"You open the {state.game.names[receptacle]}. {text.describe_receptacle(state, receptacle)}", _OPENED


def close(state: State, receptacle: str, _: str) -> tuple[str, Changes]:
    """CloseObject."""
    state.mark("opened", receptacle, on=False)
    return f"You close the {state.game.names[receptacle]}.", _OPENED


def take(state: State, thing: str, receptacle: str) -> tuple[str, Changes]:
    """PickupObject."""
    state.take(thing, receptacle)
    names = state.game.names
    return f"You pick up the {names[thing]} from the {names[receptacle]}.", _CARRIED


def put(state: State, thing: str, receptacle: str) -> tuple[str, Changes]:
    """PutObject."""
    state.put(thing, receptacle)
    game = state.game
    if game.dialect.move:
        return f"You move the {game.names[thing]} to the {game.names[receptacle]}.", _CARRIED
    return f"You put the {game.names[thing]} in/on the {game.names[receptacle]}.", _CARRIED


def toggle(state: State, thing: str, _: str) -> tuple[str, Changes]:
    """ToggleObject: the reference never turns anything off."""
    state.mark("istoggled", thing)
    return f"You turn on the {state.game.names[thing]}.", _TOGGLED


def clean(state: State, thing: str, sink: str) -> tuple[str, Changes]:
    """CleanObject."""
    state.mark("isclean", thing)
    return f"You clean the {state.game.names[thing]} using the {state.game.names[sink]}.", _CLEAN


def heat(state: State, thing: str, microwave: str) -> tuple[str, Changes]:
    """HeatObject."""
    state.mark("ishot", thing)
    state.mark("iscool", thing, on=False)
    return f"You heat the {state.game.names[thing]} using the {state.game.names[microwave]}.", _TEMPERATURE


def cool(state: State, thing: str, fridge: str) -> tuple[str, Changes]:
    """CoolObject."""
    state.mark("iscool", thing)
    state.mark("ishot", thing, on=False)
    return f"You cool the {state.game.names[thing]} using the {state.game.names[fridge]}.", _TEMPERATURE


def slice_(state: State, thing: str, knife: str) -> tuple[str, Changes]:
    """SliceObject."""
    state.mark("issliced", thing)
    return f"You sliced the {state.game.names[thing]} with the {state.game.names[knife]}.", _SLICED


def examine_receptacle(state: State, receptacle: str, _: str) -> tuple[str, Changes]:
    """examineReceptacle: only looks."""
    return text.describe_receptacle(state, receptacle), _NOTHING


def examine_object(state: State, thing: str, _: str) -> tuple[str, Changes]:
    """examineObject: only looks."""
    return text.describe_object(state, thing), _NOTHING


def look(state: State, _: str, __: str) -> tuple[str, Changes]:
    """look: only looks."""
    return text.describe_place(state), _NOTHING


def inventory(state: State, _: str, __: str) -> tuple[str, Changes]:
    """inventory: only looks."""
    return text.describe_inventory(state), _NOTHING


def show_help(state: State, _: str, __: str) -> tuple[str, Changes]:
    """help: only in dialects that have it."""
    return state.game.dialect.help_text or "", _NOTHING


def _nothing(state: State, _: str, __: str) -> tuple[str, Changes]:
    """No rule applies."""
    return NOTHING_HAPPENS, _NOTHING


# What an inadmissible command does.
nothing_happens: Command = (_nothing, "", "")
