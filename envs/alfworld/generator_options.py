"""What may be asked of generated households: how large, how crowded, how far the way to the goal, in which rooms."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any

from envs.errors import InvalidOption

__all__ = ["DIFFICULTIES", "Bounds", "Difficulty", "Phrasing", "Rooms", "find_difficulty", "parse_bounds"]

# The least and the most of something, both included; None as the most: no limit.
type Bounds = tuple[int, int | None]

_BOUNDS = re.compile(r"([0-9]{1,4})(?:(:)([0-9]{1,4})?)?")


class Rooms(StrEnum):
    """Which floor plans games are made from. ``train`` and ``evaluation`` share none, and hold none of those that
    ALFWorld's valid_unseen split plays in; ``all`` is every floor plan there is, those included.
    """

    TRAIN = "train"
    EVALUATION = "evaluation"
    ALL = "all"


class Phrasing(StrEnum):
    """How a goal is told: in alfworld's own templates, or in those and further sentences that say the same."""

    OFFICIAL = "official"
    VARIED = "varied"


@dataclass(frozen=True, slots=True)
class Difficulty:
    """The size and the hardness of households. None, where it may stand: as in real games.

    Args:
        name: the preset that this is or was made from.
        receptacles: how many there are. Without an upper bound the whole floor plan is taken, if it has so many.
        classes: how many classes of objects beside the wanted one; they and what they hold lie in receptacles.
        objects: how many objects beside the wanted ones and the goal's lamp; they lie in receptacles.
        copies: how many objects of a class, each number equally likely.
        targets: how many wanted objects (at least as many as the goal asks for).
        plan_length: commands of the shortest plan.
        searched: receptacles where a wanted object might lie, for somebody who knows what fits where (those that are
            the goal left out): ``receptacles_to_search`` of ``envs.alfworld.difficulty``.
        hidden: whether every wanted object lies in something closed.

    Raises InvalidOption for bounds that hold no number.
    """

    name: str = "normal"
    receptacles: Bounds | None = None
    classes: Bounds | None = None
    objects: Bounds | None = None
    copies: tuple[int, ...] | None = None
    targets: Bounds | None = None
    plan_length: Bounds | None = None
    searched: Bounds | None = None
    hidden: bool = False

    def __post_init__(self) -> None:
        for name, least in (("receptacles", 2), ("targets", 1), ("plan_length", 1), *_FROM_ZERO):
            bounds: Bounds | None = getattr(self, name)
            if bounds is not None and (bounds[0] < least or (bounds[1] is not None and bounds[1] < bounds[0])):
                msg = f"{name} from {bounds[0]} to {bounds[1]} is no possible range"
                raise InvalidOption(msg, hint=f"LOW:HIGH with {least} <= LOW <= HIGH")
        if self.copies is not None and (not self.copies or min(self.copies) < 1):
            msg = f"copies {self.copies} is no choice of numbers from 1"
            raise InvalidOption(msg)

    def within(self, bounds: Mapping[str, Bounds]) -> Difficulty:
        """The same with other bounds, by name. Raises InvalidOption."""
        changes: dict[str, Any] = dict(bounds)
        return replace(self, **changes)

    @property
    def limited(self) -> bool:
        """Whether the room holds what is asked for and no more: no windows and chairs, nothing on the floor."""
        return self.classes is not None or self.objects is not None

    @property
    def label(self) -> str:
        """A word that says all of it, for names and seeds: the preset's, and what differs from it."""
        preset = DIFFICULTIES.get(self.name, _NORMAL)
        parts = [self.name]
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "name" and value != getattr(preset, field.name):
                parts.append(f"{field.name}_{_write(value)}")
        return "_".join(parts)


_FROM_ZERO = (("classes", 0), ("objects", 0), ("searched", 0))
_NORMAL = Difficulty()

DIFFICULTIES = {
    preset.name: preset
    for preset in (
        Difficulty("very_easy", receptacles=(4, 5), classes=(0, 2), copies=(1,), targets=(1, 1)),
        Difficulty("easy", receptacles=(4, 8), classes=(3, 6), copies=(1,), targets=(1, 1)),
        _NORMAL,
        Difficulty("hard", receptacles=(18, None), targets=(1, 1), hidden=True),
    )
}


def find_difficulty(name: str) -> Difficulty:
    """A preset. Raises InvalidOption."""
    found = DIFFICULTIES.get(name)
    if found is None:
        msg = f"alfworld has no difficulty {name!r:.80}"
        raise InvalidOption(msg, hint=f"known: {', '.join(DIFFICULTIES)}")
    return found


def parse_bounds(text: str) -> Bounds:
    """``4:8``, ``4:`` (no upper bound) or ``4`` (exactly so many). Raises InvalidOption."""
    found = _BOUNDS.fullmatch(text)
    if found is None:
        msg = f"{text!r:.40} is no range"
        raise InvalidOption(msg, hint="LOW:HIGH, LOW: or a single number, for example 4:8")
    low, colon, high = found.groups()
    return int(low), int(high) if high else None if colon else int(low)


def _write(value: object) -> str:
    match value:
        case (int(low), None):
            return f"from{low}"
        case tuple():
            return "to".join(str(number) for number in value)
        case _:
            return str(value).lower()
