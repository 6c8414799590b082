"""What a task's sentence asks for, read as a player reads it: from its words and from what stands in the room.

Knows alfworld's own templates and is tolerant beyond them: other verbs and word orders, plurals, "alarm clock" for
``alarmclock``, "trash can" for ``garbagecan``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from envs.alfworld.households import load_households

__all__ = ["Request", "plural", "read_request", "receptacle_kinds", "thing_kinds"]

_LAMPS = ("desklamp", "floorlamp")
_TREATMENTS = {
    "clean": r"clean(?:ed|ing)?|wash(?:ed|ing)?|rins(?:e|ed|ing)|scrub(?:bed)?",
    "heat": r"hot|heat(?:ed|ing)?|warm(?:ed|ing)?(?: up)?|microwaved|microwave (?:a|an|the|some)|cook(?:ed|ing)?",
    "cool": r"cool(?:ed|ing)?|cold|chill(?:ed|ing)?|refrigerated",
}
_DEVICES = {"clean": ("sinkbasin",), "heat": ("microwave",), "cool": ("fridge",)}
_TWO = re.compile(r"\b(?:two|2|both|pair|couple)\b")
_LIGHT = re.compile(r"\b(?:look|looking|examine|examining|inspect|inspecting|read|reading|study|studying|view|light)\b")
# Everyday words for the kinds of things, as far as they are more than the kind's own words with blanks between them.
_ALIASES = {
    "bathtubbasin": ("bathtub", "bath tub", "tub"),
    "cd": ("compact disc", "disc"),
    "cellphone": ("phone", "mobile phone"),
    "cloth": ("rag",),
    "coffeemachine": ("coffee maker",),
    "countertop": ("counter",),
    "desklamp": ("lamp",),  # of whichever kind: see read_request
    "fridge": ("refrigerator",),
    "garbagecan": ("trash can", "trashcan", "garbage bin", "trash bin", "garbage", "trash", "bin", "wastebasket"),
    "glassbottle": ("glass bottle",),
    "keychain": ("keys", "key ring"),
    "laundryhamper": ("hamper", "laundry basket"),
    "papertowel": ("papertowelroll", "paper towel roll"),
    "remotecontrol": ("remote",),
    "sinkbasin": ("sink", "basin"),
    "sofa": ("couch",),
    "stoveburner": ("stove", "burner"),
    "toiletpaper": ("toiletpaperroll", "toilet paper roll", "toilet roll"),
}


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for, in the kinds that the player reads (``mug``, ``countertop``).

    ``count`` things of the kind ``wanted``, each treated (``clean``, ``heat``, ``cool`` or ""), in one ``destination``;
    or, where ``lamps`` names kinds of lamp, one wanted thing held beside a lamp that is on.
    """

    wanted: str
    destination: str = ""
    treatment: str = ""
    count: int = 1
    lamps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Mention:
    kind: str
    start: int
    end: int


def read_request(sentence: str, receptacles: Iterable[str] = ()) -> Request | None:
    """The request of a task's sentence, or None where it is not understood.

    Args:
        sentence: what stands behind "Your task is to:".
        receptacles: the kinds of receptacle seen in the room; they come before others that the words could mean.
    """
    text = " ".join(re.sub(r"[^a-z0-9 ]", " ", sentence.lower()).split())
    things = _mentions(text, thing_kinds())
    lamps = [mention for mention in things if mention.kind in _LAMPS]
    things = [mention for mention in things if mention.kind not in _LAMPS]
    if not things:
        return None
    wanted = things[0].kind
    treatment = next((name for name, words in _TREATMENTS.items() if re.search(rf"\b(?:{words})\b", text)), "")
    if (lamps or _LIGHT.search(text)) and not treatment:
        exact = [lamp.kind for lamp in lamps if text[lamp.start : lamp.end] != "lamp"]
        return Request(wanted, lamps=tuple(dict.fromkeys(exact)) or _LAMPS)
    places = [place for place in _mentions(text, receptacle_kinds()) if not _inside(place, things)]
    if treatment and len(places) > 1:  # "heat it in the microwave and put it on the shelf": the tool is not the aim
        places = [place for place in places if place.kind not in _DEVICES[treatment]] or places
    present = set(receptacles)
    here = [place for place in places if place.kind in present] or places
    if not here:
        return None
    return Request(wanted, here[-1].kind, treatment, count=2 if _TWO.search(text) else 1)


@lru_cache(maxsize=1)
def thing_kinds() -> frozenset[str]:
    """Every kind of thing that may have to be brought somewhere, and the lamps."""
    return frozenset(name.lower() for name in _class_names()) - _receptacle_words() | set(_LAMPS)


@lru_cache(maxsize=1)
def receptacle_kinds() -> frozenset[str]:
    """Every kind of receptacle that stands in a room."""
    tables = load_households()
    return frozenset(name.lower() for name in tables.fits_in if name not in tables.movable_receptacles)


def _class_names() -> set[str]:
    """The classes of things in alfworld's tables, whatever can be moved among them."""
    tables = load_households()
    names = {name for things in tables.fits_in.values() for name in things}
    names |= {name for plan in tables.floor_plans.values() for name in plan.classes}
    return {name for name in names if not name.endswith(("Sliced", "Roll"))} - {"Chair", "Lamp"}


def _receptacle_words() -> set[str]:
    """All that a receptacle may be called: no thing has such a name."""
    return {word for kind in receptacle_kinds() for word in _spellings()[kind]}


@lru_cache(maxsize=1)
def _spellings() -> dict[str, tuple[str, ...]]:
    """How each kind may be written: ``alarmclock``, "alarm clock"."""
    names = _class_names() | set(load_households().fits_in)
    found = {name.lower(): (name.lower(), _with_blanks(name), *_ALIASES.get(name.lower(), ())) for name in names}
    return {kind: tuple(dict.fromkeys(spellings)) for kind, spellings in found.items()}


def _with_blanks(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


@lru_cache(maxsize=2)
def _pattern(kinds: frozenset[str]) -> tuple[re.Pattern[str], dict[str, str]]:
    meaning = {form: kind for kind in sorted(kinds) for word in _spellings()[kind] for form in (word, plural(word))}
    longest_first = sorted(meaning, key=lambda form: (-len(form), form))
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, longest_first))})\b"), meaning


def plural(word: str) -> str:
    """``knives`` of ``knife``."""
    if word.endswith("knife"):
        return f"{word[:-2]}ves"
    if word.endswith("shelf"):
        return f"{word[:-1]}ves"
    return f"{word}es" if re.search(r"(?:s|x|z|ch|sh|[mt]ato)$", word) else f"{word}s"


def _mentions(text: str, kinds: frozenset[str]) -> list[_Mention]:
    pattern, meaning = _pattern(kinds)
    return [_Mention(meaning[found.group()], found.start(), found.end()) for found in pattern.finditer(text)]


def _inside(place: _Mention, things: list[_Mention]) -> bool:
    """Whether a word is part of a thing's own name: "toilet" in "toilet paper", "desk" in "desk lamp"."""
    return any(thing.start <= place.start and place.end <= thing.end for thing in things)
