"""What an episode did, in few bytes, so that it can be played again from its start and compared on the way."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from struct import Struct

from envs.types import Action, StepResult
from envs.wire import dumps

__all__ = ["HISTORY_LIMIT", "History", "action_text", "digest", "read_action"]

# Bytes of one episode's history: 3,000 steps of ALFWorld. Without a limit, what a policy babbles would stay in memory
# for as long as its ended episodes are remembered.
HISTORY_LIMIT = 256 * 1024

_FIRST = Struct("<q")  # the digest of what the reset showed
_STEP = Struct("<qI")  # the digest of what a step showed, and the length of its action's JSON, which follows


def digest(result: StepResult) -> int:
    """A number of 64 bits that equal results share and others do not, on any machine. Without ``info``: it measures."""
    seen = result.observation
    flags = f"{result.reward!r} {result.terminated:d}{result.truncated:d}{result.valid:d} {result.state_hash}"
    text = "\0".join((seen.text, *seen.admissible_actions, flags))
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little", signed=True)


def action_text(action: Action) -> bytes:
    """An action as a history holds it."""
    return dumps([action.name, action.arguments])


def read_action(text: bytes | bytearray) -> Action:
    """The action of a history's text."""
    name, arguments = json.loads(text)
    return Action(name, arguments)


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

    @classmethod
    def of(cls, first_digest: int, steps: Iterable[tuple[int, bytes]]) -> History:
        """One that was written down: the digest of the reset, then each step's digest and action as JSON."""
        made = cls.__new__(cls)
        made.complete, made._last = True, 0
        made._data = bytearray(_FIRST.pack(first_digest))
        for found, text in steps:
            made._append(found, text)
        return made

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
        self._append(digest(result), action_text(action))

    def _append(self, found: int, text: bytes) -> None:
        self.complete = self.complete and len(self._data) + _STEP.size + len(text) <= HISTORY_LIMIT
        if not self.complete:
            del self._data[_FIRST.size :]
        self._last = len(self._data)
        self._data += _STEP.pack(found, len(text))
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
        return found, read_action(self._data[start : start + length]), start + length
