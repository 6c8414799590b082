"""What the player reads: the observations of alfworld's grammar, word for word."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envs.alfworld.state import State

__all__ = ["describe_inventory", "describe_object", "describe_place", "describe_receptacle", "introduction", "listing"]


def listing(items: list[str]) -> str:
    """``a, b, and c`` ("nothing" where there is none; also two are parted by ``, and ``)."""
    if not items:
        return "nothing"
    if len(items) == 1:
        return items[0]
    return f"{', '.join(items[:-1])}, and {items[-1]}"


def introduction(state: State) -> str:
    """The first text of an episode: the welcome, the room and the task."""
    game = state.game
    if state.location in game.receptacles_at:
        room = describe_place(state)
    else:
        room = _middle_of_room(_some(state, (receptacle for receptacle, _ in game.receptacle_places)))
    return f"-= Welcome to TextWorld, ALFRED! =-\n\n{room}\n\nYour task is to: {game.goal_text}"


def describe_place(state: State) -> str:
    """What ``look`` says. In mid-room that is "nothing": the reference lists the room only at the start."""
    game = state.game
    here = game.receptacles_at.get(state.location)
    if not here:
        return _middle_of_room([])
    # The grammar lists an object once for each receptacle of the place that it has been taken out of.
    beside = [
        name
        for name in sorted({name for name, _ in state.taken_out})
        if state.is_at(name, state.location)
        for receptacle in here
        if (name, receptacle) in state.taken_out
    ]
    facing = listing([game.names[receptacle] for receptacle in here])
    return f"You are facing the {facing}. Next to it, you see {listing(_some(state, beside))}."


def describe_receptacle(state: State, receptacle: str) -> str:
    """What ``examine``, an arrival or an opening says about a receptacle."""
    game = state.game
    name = game.names[receptacle]
    if receptacle in game.openable and receptacle not in state.opened:
        return f"The {name} is closed."
    contents = listing(_some(state, state.contents_of(receptacle)))
    if receptacle in game.openable:
        return f"The {name} is open. In it, you see {contents}."
    return f"On the {name}, you see {contents}."


def describe_object(state: State, thing: str) -> str:
    """What ``examine`` says about an object: the first of the grammar's conditions that holds."""
    game = state.game
    name = game.names[thing]
    if thing in game.receptacle_objects:
        return f"This is a normal {name}. In it, you see {listing(_some(state, game.inside_objects.get(thing, ())))}."
    clean, hot, cool, sliced = (thing in group for group in (state.clean, state.hot, state.cool, state.sliced))
    temperature = "hot" if hot else "cool" if cool else ""
    if clean and temperature:
        return f"This is a {temperature} and clean {'sliced ' if sliced else ''}{name}."
    if sliced and (clean or temperature):
        return f"This is a {'clean' if clean else temperature} sliced {name}."
    if hot or clean or cool:
        return f"This is a {'hot' if hot else 'clean' if clean else 'cold'} {name}."
    if thing in game.toggleable and thing in state.toggled:
        return f"This {name} is on."
    if thing in game.sliceable and sliced:
        return f"This is a sliced {name}."
    return f"There's nothing special about {name}."


def describe_inventory(state: State) -> str:
    """What ``inventory`` says."""
    if not state.hands_full:
        return "You are not carrying anything."
    return f"You are carrying: {listing(_some(state, state.held))}."


def _middle_of_room(receptacles: list[str]) -> str:
    return f"You are in the middle of a room. Looking quickly around you, you see {listing(receptacles)}."


def _some(state: State, ids: Iterable[str]) -> list[str]:
    names = state.game.names
    return [f"a {names[name]}" for name in ids]
