"""Published lists of official games: ALFWorld's valid_unseen, and those that AgentBench plays.

A list says which games belong together and in which order; the files themselves are in the data folder, or missing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from envs.types import SplitRole

__all__ = ["AGENTBENCH_LISTS", "OFFICIAL_SPLITS", "AgentBenchList", "ListedGame", "OfficialSplit", "official_names"]

# AgentBench's own names of the task types.
_AGENTBENCH_TYPES = {
    "pick_and_place": "pick_and_place_simple",
    "pick_clean_then_place": "pick_clean_then_place_in_recep",
    "pick_heat_then_place": "pick_heat_then_place_in_recep",
    "pick_cool_then_place": "pick_cool_then_place_in_recep",
    "look_at_obj": "look_at_obj_in_light",
    "pick_two_obj": "pick_two_obj_and_place",
}


@dataclass(frozen=True, slots=True)
class OfficialSplit:
    """A split of ALFWorld: what it is for, and how many games alfworld's own loader finds in the official files."""

    name: str
    role: SplitRole
    size: int


OFFICIAL_SPLITS = {
    split.name: split
    for split in (
        OfficialSplit("train", SplitRole.TRAIN, 3553),
        OfficialSplit("valid_seen", SplitRole.EVALUATION, 140),
        OfficialSplit("valid_unseen", SplitRole.EVALUATION, 134),
    )
}


@dataclass(frozen=True, slots=True)
class ListedGame:
    """A game of a list: the official split that holds its file, ``<task>/<trial>``, and its task type."""

    split: str
    name: str
    type: str


@dataclass(frozen=True, slots=True)
class AgentBenchList:
    """One of AgentBench's lists, as the split of this name. ``base`` is the official split that its games are from."""

    name: str
    file: str
    base: str
    role: SplitRole
    title: str

    def games(self) -> tuple[ListedGame, ...]:
        """Its games in its own order, a game that stands there twice twice."""
        return _read_agentbench(self.file)


AGENTBENCH_LISTS = {
    found.name: found
    for found in (
        AgentBenchList(
            "agentbench_dev",
            "agentbench_dev.json",
            "valid_unseen",
            SplitRole.EVALUATION,
            "dev list, of v0.2",
        ),
        AgentBenchList(
            "agentbench_standard",
            "agentbench_standard.json",
            "valid_unseen",
            SplitRole.EVALUATION,
            "standard list, the test set of v0.2",
        ),
        AgentBenchList(
            "agentbench_new_std",
            "agentbench_new_std.json",
            "valid_unseen",
            SplitRole.EVALUATION,
            "new_std list, the test set with function calls",
        ),
        AgentBenchList(
            "agentbench_train_valid",
            "agentbench_train_valid.json",
            "train",
            SplitRole.TRAIN,
            "train_valid list, what its task alfworld-env_train trains on",
        ),
    )
}


def official_names(split: str) -> tuple[str, ...]:
    """``<task>/<trial>`` of every game of an official split, sorted; empty where no list is published (the package
    carries that of valid_unseen).
    """
    return _read_valid_unseen() if split == "valid_unseen" else ()


@lru_cache(maxsize=1)
def _read_valid_unseen() -> tuple[str, ...]:
    text = resources.files("envs.alfworld").joinpath("valid_unseen.txt").read_text(encoding="utf-8")
    return tuple("/".join(line.split("/")[1:3]) for line in text.splitlines())


@lru_cache(maxsize=len(AGENTBENCH_LISTS))
def _read_agentbench(file: str) -> tuple[ListedGame, ...]:
    """AgentBench's files: its name of a type → paths ``json_2.1.1/<split>/<task>/<trial>/game.tw-pddl``."""
    lists: dict[str, list[str]] = json.loads(resources.files("envs.alfworld").joinpath(file).read_text("utf-8"))
    found = []
    for kind, paths in lists.items():
        for path in paths:
            _, split, task, trial, _ = path.split("/")
            found.append(ListedGame(split, f"{task}/{trial}", _AGENTBENCH_TYPES[kind]))
    return tuple(found)
