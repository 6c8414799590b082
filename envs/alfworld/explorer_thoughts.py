"""The explorer's thoughts: short, in the first person, drawn among several wordings.

A thought is made of remarks, and a remark of what the explorer knows when it chooses: its task, what it has read, and
why it chooses so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from envs.alfworld.explorer_goal import Request, plural
from envs.alfworld.explorer_memory import kind_of
from envs.alfworld.phrasing import with_article
from envs.draws import Draws

__all__ = ["Remark", "describe_request", "think"]

_INSIDE = frozenset(
    ("bathtubbasin", "cabinet", "drawer", "fridge", "garbagecan", "laundryhamper", "microwave", "safe", "sinkbasin")
)
_TREATED = {"clean": "clean", "heat": "hot", "cool": "cool"}

_WORDINGS: Mapping[str, Sequence[str]] = {
    # What has just happened.
    "task": (
        "I have to {task}.",
        "My task is to {task}.",
        "The goal: {task}.",
        "I am asked to {task}.",
    ),
    "failed": (
        "Nothing happened, so I have to go about it another way.",
        "That did not work. I try something else.",
        "That had no effect.",
        "So it cannot be done like that.",
    ),
    "missing": (
        "There is no {sought} {at} the {spot}.",
        "No {sought} {at} the {spot}.",
        "I do not see any {sought} {at} the {spot}.",
        "What I need is not {at} the {spot}.",
    ),
    "second": (
        "One {sought} is in its place; I need one more.",
        "That was the first {sought}. Now the second one.",
        "One down: another {sought} is needed.",
    ),
    # Why the next command is chosen.
    "search": (
        "{a_sought} could well be {at} the {spot}, so I look there.",
        "Next I check the {spot} for {a_sought}.",
        "I go to the {spot} and see whether there is {a_sought}.",
        "The {spot} is the best place left to look for {a_sought}.",
        "I still need to find {a_sought}; let me try the {spot}.",
    ),
    "open": (
        "The {spot} is closed. I open it to look for {a_sought}.",
        "{a_sought} may be inside the {spot}, so I open it.",
        "I cannot see into the closed {spot}; I open it.",
        "Let me open the {spot} and see whether {a_sought} is in it.",
    ),
    "examine": (
        "I am at the {spot} already, so I only have to look at it.",
        "The {spot} is right here. I look whether it has {a_sought}.",
        "Let me look more closely at the {spot} for {a_sought}.",
    ),
    "check": (
        "Am I really at the {spot}? I look again.",
        "I take another look at the {spot} to be sure.",
        "Let me look at the {spot} once more before I go on.",
    ),
    "again": (
        "I have looked everywhere I know of. I check the {spot} once more.",
        "Nothing left to search, so I go over the {spot} again.",
        "I may have missed {a_sought}; back to the {spot}.",
    ),
    "fetch": (
        "I have seen the {thing} {at} the {spot}, so I go there.",
        "The {thing} is {at} the {spot}; I go and get it.",
        "I remember the {thing} {at} the {spot}.",
        "I know where {a_sought} is: {at} the {spot}.",
    ),
    "take": (
        "There is the {thing} {at} the {spot}. I take it.",
        "The {thing} is what I need, so I pick it up.",
        "I have found the {thing} {at} the {spot}; I take it.",
        "Here is {a_sought}: the {thing}. I take it with me.",
    ),
    "go_treat": (
        "I hold the {thing}. It must be {treated}, so I go to the {spot}.",
        "Before I put the {thing} away I have to {how} it; the {spot} is for that.",
        "Now I need the {spot} to {how} the {thing}.",
        "With the {thing} in hand, the next thing is to {how} it at the {spot}.",
    ),
    "treat": (
        "I am at the {spot} and can {how} the {thing}.",
        "Now I {how} the {thing} with the {spot}.",
        "The {spot} is here, so I {how} the {thing}.",
    ),
    "go_put": (
        "The {thing} belongs {at} the {spot}, so I go there.",
        "I have the {thing}; now to the {spot}.",
        "All that is left for the {thing} is to bring it to the {spot}.",
        "I carry the {thing} to the {spot}.",
    ),
    "open_put": (
        "The {spot} must be open before the {thing} can go in.",
        "I open the {spot} to put the {thing} inside.",
        "To put the {thing} away I first open the {spot}.",
    ),
    "put": (
        "I am where the {thing} belongs, so I put it {at} the {spot}.",
        "Now I put the {thing} {at} the {spot}.",
        "The {spot} is the right place; I leave the {thing} there.",
    ),
    "go_lamp": (
        "I hold the {thing}. The {lamp} is {at} the {spot}, so I go there.",
        "I have seen the {lamp} {at} the {spot}; I take the {thing} to it.",
        "Now I need light: the {lamp} stands {at} the {spot}.",
    ),
    "use": (
        "The {lamp} is here and I hold the {thing}, so I switch it on.",
        "I turn on the {lamp} to look at the {thing}.",
        "With the {thing} in hand I use the {lamp}.",
    ),
    "drop": (
        "I do not need the {thing}. I put it down to have my hands free.",
        "The {thing} is not what I am asked for, so I leave it {at} the {spot}.",
        "My hands must be free first: the {thing} goes {at} the {spot}.",
    ),
    "lost": (
        "I am not sure what to do, so I look around.",
        "Let me get my bearings first.",
        "I do not know how to go on. I take stock.",
    ),
}


@dataclass(frozen=True, slots=True)
class Remark:
    """Something to be said: the name of a situation, and the names of the things that its wordings speak of."""

    name: str
    spot: str = ""
    thing: str = ""
    sought: str = ""
    lamp: str = ""
    how: str = ""
    task: str = ""


def think(remarks: Sequence[Remark], *, seed: int, step: int) -> str:
    """The remarks in words; the same words for the same arguments, on every machine and in every version of Python."""
    draws = Draws(f"envloop/explorer/{seed}/{step}")
    return " ".join(_say(remark, draws.choice(_WORDINGS[remark.name])) for remark in remarks)


def describe_request(request: Request) -> str:
    """A request in words: "put a clean mug on the shelf"."""
    if request.lamps:
        return f"look at {with_article(request.wanted)} under {with_article(' or '.join(request.lamps))}"
    what = f"two {plural(request.wanted)}" if request.count > 1 else with_article(request.wanted)
    if request.treatment:
        treated = _TREATED[request.treatment]
        what = f"two {treated} {plural(request.wanted)}" if request.count > 1 else f"a {treated} {request.wanted}"
    return f"put {what} {_at(request.destination)} the {request.destination}"


def _say(remark: Remark, wording: str) -> str:
    text = wording.format(
        spot=remark.spot,
        at=_at(remark.spot),
        thing=remark.thing,
        sought=remark.sought,
        a_sought=with_article(remark.sought),
        lamp=remark.lamp,
        how=remark.how,
        treated=_TREATED.get(remark.how, ""),
        task=remark.task,
    )
    return text[:1].upper() + text[1:]


def _at(spot: str) -> str:
    return "in" if kind_of(spot) in _INSIDE else "on"
