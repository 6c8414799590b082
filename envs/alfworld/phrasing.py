"""The sentence that tells the task. Beside alfworld's own templates stand others that say exactly the same."""

from __future__ import annotations

from dataclasses import dataclass

from envs.alfworld.generator_options import Phrasing
from envs.alfworld.households import load_households
from envs.draws import Draws

__all__ = ["GoalWords", "phrases", "tell_goal", "with_article"]

# Receptacles that things lie in; on the others they stand.
_HOLLOW = frozenset(
    {"BathtubBasin", "Box", "Cabinet", "CoffeeMachine", "Drawer", "Fridge", "GarbageCan", "LaundryHamper"}
    | {"Microwave", "Safe", "SinkBasin", "Toaster"}
)
# {obj}: mug. {a_obj}: a mug. {place}: in a drawer, or in the drawer where there is but one. {same}: in the same drawer.
# {lamp}: the desklamp. No sentence says more or less than the goal: any object of the class, any place of the class.
_FURTHER = {
    "pick_and_place_simple": (
        "place {a_obj} {place}",
        "find {a_obj} and put it {place}",
        "take {a_obj} and leave it {place}",
        "see to it that {a_obj} ends up {place}",
        "bring {a_obj} and set it down {place}",
    ),
    "look_at_obj_in_light": (
        "look at {a_obj} by the light of {lamp}",
        "take {a_obj} and look at it under {lamp}",
        "turn on {lamp} and examine {a_obj} in its light",
        "bring {a_obj} to {lamp} and look at it in the light",
        "hold {a_obj} in the light of {lamp}",
    ),
    "pick_clean_then_place_in_recep": (
        "wash {a_obj} and put it {place}",
        "clean {a_obj}, then place it {place}",
        "find {a_obj}, wash it and leave it {place}",
        "see to it that a clean {obj} ends up {place}",
        "rinse {a_obj} clean and set it down {place}",
    ),
    "pick_heat_then_place_in_recep": (
        "warm up {a_obj} and put it {place}",
        "heat {a_obj}, then place it {place}",
        "find {a_obj}, heat it and leave it {place}",
        "see to it that a hot {obj} ends up {place}",
        "make {a_obj} hot and set it down {place}",
    ),
    "pick_cool_then_place_in_recep": (
        "chill {a_obj} and put it {place}",
        "cool {a_obj} down, then place it {place}",
        "find {a_obj}, cool it and leave it {place}",
        "see to it that a cold {obj} ends up {place}",
        "make {a_obj} cold and set it down {place}",
    ),
    "pick_two_obj_and_place": (
        "find one {obj} and then another {obj}, and put both {same}",
        "place one {obj} {place}, then a second {obj} beside it, so that both are {same}",
        "take two different {obj} objects, one after the other, and leave them {same}",
        "see to it that two {obj} objects end up {same}",
        "bring together two {obj} objects {same}",
    ),
}


@dataclass(frozen=True, slots=True)
class GoalWords:
    """What a goal is about, in ALFRED's class names: the object, the destination or "", the lamp or "".

    ``only_place``, ``only_lamp``: whether the room has just one of them.
    """

    obj: str
    recep: str = ""
    toggle: str = ""
    only_place: bool = False
    only_lamp: bool = True


def phrases(type: str, phrasing: Phrasing = Phrasing.OFFICIAL) -> tuple[str, ...]:
    """The templates of a task type, alfworld's own first."""
    official = load_households().tasks[type].phrases
    return official if phrasing is Phrasing.OFFICIAL else (*official, *_FURTHER[type])


def tell_goal(draws: Draws, type: str, words: GoalWords, phrasing: Phrasing = Phrasing.OFFICIAL) -> str:
    """A sentence for a goal, its full stop included."""
    obj, recep, toggle = words.obj.lower(), words.recep.lower(), words.toggle.lower()
    preposition = "in" if words.recep in _HOLLOW else "on"
    sentence = draws.choice(phrases(type, phrasing)).format(
        obj=obj,
        recep=recep,
        toggle=toggle,
        a_obj=with_article(obj),
        place=f"{preposition} {f'the {recep}' if words.only_place else with_article(recep)}",
        same=f"{preposition} {'the' if words.only_place else 'the same'} {recep}",
        lamp=f"the {toggle}" if words.only_lamp else with_article(toggle),
    )
    return f"{sentence}."


def with_article(noun: str) -> str:
    """``an apple``, ``a mug``."""
    return f"{'an' if noun.startswith(tuple('aeiou')) else 'a'} {noun}"
