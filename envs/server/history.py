"""What an episode did, in few bytes, so that it can be played again from its start and compared on the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from struct import Struct

from envs.types import Action, StepResult
from envs.wire import dumps

__all__ = ["HISTORY_LIMIT", "History", "digest"]

# Bytes of one episode's history: 3,000 steps of ALFWorld. Without a limit, what a policy babbles would stay in memory
# for as long as its ended episodes are remembered.
HISTORY_LIMIT = 256 * 1024

_FIRST = Struct("<q")  # the digest of what the reset showed
_STEP = Struct("<qI")  # the digest of what a step showed, and the length of its action's JSON, which follows


def digest(result: StepResult) -> int:
    """A number that equal results share and others do not, within this process. Leaves out ``info``: it may measure."""
    seen = result.observation
    return hash(
        (
            seen.text,
            tuple(seen.admissible_actions),
            result.reward,
            result.terminated,
            result.truncated,
            result.valid,
            result.state_hash,
        )
    )


class History:
    """The actions of an episode, with a digest of what it showed at first and after each of them.

    One buffer: about 70 bytes a step of ALFWorld, where the actions themselves would take 400. One that outgrows
    ``HISTORY_LIMIT`` keeps the last action alone: ``complete`` is False then, and nothing can be played again from it.
    """

    __slots__ = ("_data", "_last", "complete")

    def __init__(self, first: StepResult) -> None:
        self.complete = True
        self._data = bytearray(_FIRST.pack(digest(first)))
        self._last = 0  # where the last step begins; 0 before the first

    @property
    def first_digest(self) -> int:
        """Of what the reset showed."""
        found: int = _FIRST.unpack_from(self._data)[0]
        return found

    @property
    def last_action(self) -> Action | None:
        """The action of the last step."""
        return self._read(self._last)[1] if self._last else None

    def add(self, action: Action, result: StepResult) -> None:
        """Note an action that was applied, and what came of it."""
        text = dumps([action.name, action.arguments])
        self.complete = self.complete and len(self._data) + _STEP.size + len(text) <= HISTORY_LIMIT
        if not self.complete:
            del self._data[_FIRST.size :]
        self._last = len(self._data)
        self._data += _STEP.pack(digest(result), len(text))
        self._data += text

    def steps(self) -> Iterator[tuple[int, Action]]:
        """Each step's digest and action, oldest first."""
        at = _FIRST.size
        while at < len(self._data):
            found, action, at = self._read(at)
            yield found, action

    def until(self, step: int) -> History:
        """A copy of the first steps; ``step`` is at most their number. An incomplete one is copied as it is."""
        copy = History.__new__(History)
        copy.complete = self.complete
        if not self.complete:
            copy._last, copy._data = self._last, self._data[:]
            return copy
        copy._last, end = 0, _FIRST.size
        for _ in range(step):
            copy._last = end
            end += _STEP.size + _STEP.unpack_from(self._data, end)[1]
        copy._data = self._data[:end]
        return copy

    def _read(self, at: int) -> tuple[int, Action, int]:
        """The step at this place: its digest, its action, and where the next begins."""
        found, length = _STEP.unpack_from(self._data, at)
        start = at + _STEP.size
        name, arguments = json.loads(self._data[start : start + length])
        return found, Action(name, arguments), start + length
