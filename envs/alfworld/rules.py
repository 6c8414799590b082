"""The rules of ALFWorld: which commands a state accepts, and what each of them does. After alfworld's alfred.pddl.

``commands`` holds the preconditions; one function for each PDDL action holds its effect and its text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from envs.alfworld import text

if TYPE_CHECKING:
    from envs.alfworld.state import State

__all__ = [
    "NOTHING_HAPPENS",
    "Command",
    "Rule",
    "clean",
    "close",
    "commands",
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
]

NOTHING_HAPPENS = "Nothing happens."

# A rule applied to (state, first, second) → (what the player reads, whether the state changed).
type Rule = Callable[[State, str, str], tuple[str, bool]]
type Command = tuple[Rule, str, str]


def commands(state: State) -> dict[str, Command]:
    """Every command that the state accepts."""
    game, names, held = state.game, state.game.names, state.held
    found: dict[str, Command] = {
        command: (go_to, receptacle, place)
        for command, (receptacle, place) in game.goto_commands(state.location).items()
    }
    found["look"] = (look, "", "")
    found["inventory"] = (inventory, "", "")
    if game.dialect.help_text is not None:
        found["help"] = (show_help, "", "")
    # An object can be examined only while it is held: in alfred.pddl a stray comma makes the other case's type unknown.
    for thing in held:
        found[f"examine {names[thing]}"] = (examine_object, thing, "")
    for receptacle in game.receptacles_at.get(state.location, ()):
        name = names[receptacle]
        found[f"examine {name}"] = (examine_receptacle, receptacle, "")
        accessible = True
        if receptacle in game.openable:
            accessible = receptacle in state.opened
            if accessible:
                found[f"close {name}"] = (close, receptacle, "")
            else:
                found[f"open {name}"] = (open_, receptacle, "")
        for thing in state.contents.get(receptacle, ()):
            if accessible and not state.hands_full and thing in game.pickupable:
                found[f"take {names[thing]} from {name}"] = (take, thing, receptacle)
            if thing in game.toggleable:  # also inside a closed receptacle
                found[f"use {names[thing]}"] = (toggle, thing, "")
        for thing in held:
            if accessible and receptacle in game.fits_in.get(thing, ()):
                if game.dialect.move:
                    found[f"move {names[thing]} to {name}"] = (put, thing, receptacle)
                else:
                    found[f"put {names[thing]} in/on {name}"] = (put, thing, receptacle)
            if receptacle in game.sinks and thing in game.cleanable:
                found[f"clean {names[thing]} with {name}"] = (clean, thing, receptacle)
            if receptacle in game.microwaves and thing in game.heatable:
                found[f"heat {names[thing]} with {name}"] = (heat, thing, receptacle)
            if receptacle in game.fridges and thing in game.coolable:
                found[f"cool {names[thing]} with {name}"] = (cool, thing, receptacle)
    for knife in held:
        if knife in game.knives:
            for thing, place in state.object_places:
                if place == state.location and thing in game.sliceable:
                    found[f"slice {names[thing]} with {names[knife]}"] = (slice_, thing, knife)
    return found


def go_to(state: State, receptacle: str, location: str) -> tuple[str, bool]:
    """GotoLocation."""
    state.location = location
    names = state.game.names
    place = names[receptacle if state.game.dialect.arrive_at_receptacle else location]
    return f"You arrive at {place}. {text.describe_receptacle(state, receptacle)}", True


def open_(state: State, receptacle: str, _: str) -> tuple[str, bool]:
    """OpenObject."""
    state.opened.add(receptacle)
    return f"You open the {state.game.names[receptacle]}. {text.describe_receptacle(state, receptacle)}", True


def close(state: State, receptacle: str, _: str) -> tuple[str, bool]:
    """CloseObject."""
    state.opened.discard(receptacle)
    return f"You close the {state.game.names[receptacle]}.", True


def take(state: State, thing: str, receptacle: str) -> tuple[str, bool]:
    """PickupObject. The object stays "at" any other location that the file gives it, and in any other receptacle."""
    state.contents[receptacle].remove(thing)
    state.taken_out.add((thing, receptacle))
    state.object_places.discard((thing, state.location))
    state.held.append(thing)
    state.hands_full = True
    names = state.game.names
    return f"You pick up the {names[thing]} from the {names[receptacle]}.", True


def put(state: State, thing: str, receptacle: str) -> tuple[str, bool]:
    """PutObject."""
    contents = state.contents.setdefault(receptacle, [])
    if thing not in contents:
        contents.append(thing)
        contents.sort()
    state.taken_out.discard((thing, receptacle))
    state.object_places.add((thing, state.location))
    state.held.remove(thing)
    state.hands_full = False
    game = state.game
    if game.dialect.move:
        return f"You move the {game.names[thing]} to the {game.names[receptacle]}.", True
    return f"You put the {game.names[thing]} in/on the {game.names[receptacle]}.", True


def toggle(state: State, thing: str, _: str) -> tuple[str, bool]:
    """ToggleObject: the reference never turns anything off."""
    state.toggled.add(thing)
    return f"You turn on the {state.game.names[thing]}.", True


def clean(state: State, thing: str, sink: str) -> tuple[str, bool]:
    """CleanObject."""
    state.clean.add(thing)
    return f"You clean the {state.game.names[thing]} using the {state.game.names[sink]}.", True


def heat(state: State, thing: str, microwave: str) -> tuple[str, bool]:
    """HeatObject."""
    state.hot.add(thing)
    state.cool.discard(thing)
    return f"You heat the {state.game.names[thing]} using the {state.game.names[microwave]}.", True


def cool(state: State, thing: str, fridge: str) -> tuple[str, bool]:
    """CoolObject."""
    state.cool.add(thing)
    state.hot.discard(thing)
    return f"You cool the {state.game.names[thing]} using the {state.game.names[fridge]}.", True


def slice_(state: State, thing: str, knife: str) -> tuple[str, bool]:
    """SliceObject."""
    state.sliced.add(thing)
    return f"You sliced the {state.game.names[thing]} with the {state.game.names[knife]}.", True


def examine_receptacle(state: State, receptacle: str, _: str) -> tuple[str, bool]:
    """examineReceptacle: only looks."""
    return text.describe_receptacle(state, receptacle), False


def examine_object(state: State, thing: str, _: str) -> tuple[str, bool]:
    """examineObject: only looks."""
    return text.describe_object(state, thing), False


def look(state: State, _: str, __: str) -> tuple[str, bool]:
    """look: only looks."""
    return text.describe_place(state), False


def inventory(state: State, _: str, __: str) -> tuple[str, bool]:
    """inventory: only looks."""
    return text.describe_inventory(state), False


def show_help(state: State, _: str, __: str) -> tuple[str, bool]:
    """help: only in dialects that have it."""
    return state.game.dialect.help_text or "", False


def _nothing(state: State, _: str, __: str) -> tuple[str, bool]:
    """No rule applies."""
    return NOTHING_HAPPENS, False


# What an inadmissible command does.
nothing_happens: Command = (_nothing, "", "")
