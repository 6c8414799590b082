"""Where things tend to be: how many of a kind to expect in or on one receptacle of a kind, before anything is seen.

The counts come from official training games (see explorer_prior.NOTICE), never from those of an evaluation split; what
may lie where at all comes from alfworld's own table (households.json). ``scripts/learn_explorer_prior.py`` counts.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources

from envs.alfworld.households import load_households

__all__ = ["Counts", "Prior", "load_prior"]

# For each kind of thing and of receptacle: (things found there, receptacles in the rooms that have such a thing).
type Counts = Mapping[str, Mapping[str, tuple[int, int]]]

# So many receptacles' worth of belief in the average of all kinds that may lie there, beside the counts.
_STRENGTH = 4.0
# What may lie in a receptacle by no table is still thought so much as likely as an average thing.
_UNHEARD_OF = 0.02
_LAMPS = ("desklamp", "floorlamp")
_LAMP_PLACES = ("desk", "sidetable", "dresser", "diningtable", "coffeetable", "shelf", "countertop")


class Prior:
    """Rates: the number of things of a kind to expect in or on one receptacle of a kind."""

    def __init__(self, counts: Counts, fits_in: Mapping[str, frozenset[str]], openable: frozenset[str]) -> None:
        self.openable = openable
        self._counts = counts
        self._fits_in = fits_in
        things: Counter[str] = Counter()
        chances: Counter[str] = Counter()
        for thing, places in counts.items():
            for place, (found, receptacles) in places.items():
                if found or thing in fits_in.get(place, ()):
                    things[place] += found
                    chances[place] += receptacles
        overall = things.total() / max(1, chances.total())
        self._average = {place: (things[place] + overall) / (chances[place] + 1) for place in chances}
        self._overall = overall

    def rate(self, thing: str, place: str) -> float:
        """Things of the kind ``thing`` to expect in or on one receptacle of the kind ``place``; never 0."""
        average = self._average.get(place, self._overall)
        if thing not in self._fits_in.get(place, ()):
            average *= _UNHEARD_OF
        found, receptacles = self._counts.get(thing, {}).get(place, (0, 0))
        return (found + _STRENGTH * average) / (receptacles + _STRENGTH)


@lru_cache(maxsize=1)
def load_prior() -> Prior:
    """The prior that the product carries."""
    text = resources.files("envs.alfworld").joinpath("explorer_prior.json").read_text("utf-8")
    counts = {
        thing: {place: (found, receptacles) for place, (found, receptacles) in places.items()}
        for thing, places in json.loads(text)["counts"].items()
    }
    tables = load_households()
    fits_in = {place.lower(): {thing.lower() for thing in things} for place, things in tables.fits_in.items()}
    for place in _LAMP_PLACES:  # no table says where a lamp may stand
        fits_in[place].update(_LAMPS)
    openable = frozenset(name.lower() for name in tables.openable)
    return Prior(counts, {place: frozenset(things) for place, things in fits_in.items()}, openable)
