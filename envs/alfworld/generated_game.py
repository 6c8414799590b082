"""A generated game: its file's texts and bytes, put together only when they are asked for."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from envs.alfworld.dialect import Dialect, identify_dialect, replace_goal_text
from envs.alfworld.game import Game
from envs.alfworld.households import load_households
from envs.alfworld.problem_writer import read_written_problem

__all__ = ["GeneratedGame"]

# Stands for the goal while the constant parts of a file are encoded.
_MARK = "\u0001"


class _Constants(NamedTuple):
    """What all game files share: the file's bytes before the goal and between it and the problem, a hash of the first,
    and the dialect.
    """

    before_goal: bytes
    after_goal: bytes
    hash_before_goal: Any
    dialect: Dialect


@dataclass(frozen=True)
class GeneratedGame:
    """A game and what it is. ``goal`` is its task as the player reads it, ``traj`` its ``traj_data.json``, ``searched``
    the number of receptacles where a wanted object might lie (``receptacles_to_search`` of its measure).
    """

    problem: str
    goal: str
    traj: dict[str, Any]
    type: str
    floor_plan: int
    searched: int
    walkthrough: tuple[str, ...] = ()

    @property
    def data(self) -> dict[str, Any]:
        """The game file's JSON."""
        tables = load_households()
        return {
            "pddl_domain": tables.domain,
            "grammar": replace_goal_text(tables.grammar, self.goal),
            "pddl_problem": self.problem,
            "solvable": True,
            "walkthrough": list(self.walkthrough),
        }

    def build(self) -> Game:
        """The game to play: what ``parse_game`` makes of ``data``, in a fraction of the time."""
        return Game(read_written_problem(self.problem), _constants().dialect, self.goal)

    def to_bytes(self) -> bytes:
        """The bytes of ``game.tw-pddl``: ``data`` as JSON, indented by 1."""
        return b"".join((_constants().before_goal, *self._own_bytes()))

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 (hex) of those bytes."""
        digest = _constants().hash_before_goal.copy()
        for part in self._own_bytes():
            digest.update(part)
        return str(digest.hexdigest())

    def _own_bytes(self) -> tuple[bytes, ...]:
        """The file from the goal on."""
        goal = json.dumps(json.dumps(self.goal)[1:-1])[1:-1]  # a JSON text within the grammar, a text itself
        rest = json.dumps({"solvable": True, "walkthrough": self.walkthrough}, indent=1)
        tail = f"{json.dumps(self.problem)},{rest[1:]}"
        return goal.encode(), _constants().after_goal, tail.encode()


@lru_cache(maxsize=1)
def _constants() -> _Constants:
    tables = load_households()
    texts = {"pddl_domain": tables.domain, "grammar": replace_goal_text(tables.grammar, _MARK), "pddl_problem": ""}
    mark = json.dumps(json.dumps(_MARK)[1:-1])[1:-1]
    before, _, after = json.dumps(texts, indent=1).partition(mark)
    before_goal = before.encode()
    return _Constants(
        before_goal=before_goal,
        after_goal=after.removesuffix('""\n}').encode(),
        hash_before_goal=hashlib.sha256(before_goal),
        dialect=identify_dialect(tables.grammar, tables.domain),
    )
