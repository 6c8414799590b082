"""Keys and values of live sequences, kept from one turn of an episode to the next.

Tokens of many sequences go through the model as one row, without padding; ``RaggedBatch`` says which token belongs to
which sequence. ``ragged_attention`` reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["KvPool", "Piece", "RaggedBatch", "Slot"]

_STEP = 256  # by how many tokens a slot's room grows


@dataclass(eq=False, slots=True)
class Slot:
    """Room for one sequence. ``length``: tokens whose keys and values it holds; ``owner``: what samples from it now.

    ``policy``: whose weights computed them. ``used``: when it was used last, as a number that only grows.
    """

    index: int
    policy: str | None = None
    length: int = 0
    owner: Any = None
    used: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """``ids`` that one sequence feeds to the model in one step, behind what its slot holds."""

    slot: Slot
    ids: Sequence[int]


@dataclass(slots=True)
class RaggedBatch:
    """The tokens of one step, pieces of one token first. Tensors have shape (N,), on the model's device."""

    pool: KvPool
    pieces: Sequence[Piece]
    ids: torch.Tensor
    positions: torch.Tensor
    rows: torch.Tensor
    last: torch.Tensor
    """Where each piece ends, shape (B,)."""
    singles: int
    spans: list[tuple[int, int, int, int]] = field(default_factory=list)
    """Of every longer piece: slot, first token of the batch, tokens, tokens that its slot held before."""
    low: int = 0
    high: int = 0
    width: int = 0
    bias: torch.Tensor | None = None
    """For the single tokens, over the slots from ``low`` to ``high``: 0 where there is a key, else minus infinity."""


class KvPool:
    """``slots`` sequences at most, each as long as the longest needs. ``keys[layer]``: (slots, heads, room, width).

    Memory grows with the longest sequence and is kept until ``clear``.
    """

    def __init__(self, slots: int, *, max_length: int) -> None:
        import numpy as np

        self.slots = [Slot(index) for index in range(slots)]
        self.keys: dict[int, torch.Tensor] = {}
        self.values: dict[int, torch.Tensor] = {}
        self._max_length = max_length
        self._room = min(_STEP, max_length)
        self._table: np.ndarray = np.full((slots, self._room), -1, dtype=np.int64)
        self._clock = 0

    def match(self, policy: str | None, prompt: np.ndarray) -> tuple[Slot | None, int]:
        """The slot that holds most of a prompt's beginning (all but its last token at most), and how much of it."""
        width = min(self._table.shape[1], len(prompt) - 1)
        if width < 1:
            return None, 0
        same = self._table[:, :width] == prompt[:width]
        lengths = _leading(same)
        best, most = None, 0
        for slot in self.slots:
            n = int(lengths[slot.index])
            if slot.policy == policy and (n > most or (n == most and n and n == slot.length and slot.owner is None)):
                best, most = slot, n
        return best, most

    def take(self, owner: Any, policy: str | None, prompt: np.ndarray) -> Slot | None:
        """A slot for a sequence, with as much of its prompt as any slot of the same policy holds; None: all are in use.

        The sequence's own slot of its last turn is gone on with; what another holds is copied. Else a slot is taken
        that nobody samples from, the one that has not been used for longest.
        """
        best, held = self.match(policy, prompt)
        free = [slot for slot in self.slots if slot.owner is None]
        if not free:
            return None
        if best is not None and best.owner is None and held == best.length:
            slot = best
        else:
            slot = min(free, key=lambda s: (s.length > 0, s.used))
            if best is not None and best is not slot:
                self._copy(best.index, slot.index, held)
            self._table[slot.index] = -1
            self._table[slot.index, :held] = prompt[:held]
            slot.length, slot.policy = held, policy
        slot.owner = owner
        self._touch(slot)
        return slot

    def _copy(self, source: int, target: int, length: int) -> None:
        import torch

        with torch.inference_mode():
            for kept in (*self.keys.values(), *self.values.values()):
                kept[target, :, :length] = kept[source, :, :length]

    def release(self, slot: Slot) -> None:
        """Nobody samples from a slot any more. What it holds stays until its room is needed."""
        slot.owner = None
        self._touch(slot)

    def forget(self, policy: str) -> None:
        """Empty the slots of a policy that nobody samples from any more."""
        for slot in self.slots:
            if slot.policy == policy and slot.owner is None:
                self._empty(slot)

    def clear(self) -> None:
        """Empty everything, whoever uses it, and free the memory."""
        for slot in self.slots:
            self._empty(slot)
            slot.owner = None
        self.keys.clear()
        self.values.clear()

    def _empty(self, slot: Slot) -> None:
        slot.length, slot.policy, slot.used = 0, None, 0
        self._table[slot.index] = -1

    def _touch(self, slot: Slot) -> None:
        self._clock += 1
        slot.used = self._clock

    def batch(self, pieces: Sequence[Piece], device: Any) -> RaggedBatch:
        """Lay out a step; pieces of one token must come first."""
        import torch

        self._make_room(max(p.slot.length + len(p.ids) for p in pieces))
        ids: list[int] = []
        rows: list[int] = []
        positions: list[int] = []
        last: list[int] = []
        spans = []
        singles = sum(len(p.ids) == 1 for p in pieces)
        for number, piece in enumerate(pieces):
            count, past = len(piece.ids), piece.slot.length
            if number >= singles:
                spans.append((piece.slot.index, len(ids), count, past))
            ids += piece.ids
            rows += [piece.slot.index] * count
            positions += range(past, past + count)
            last.append(len(ids) - 1)
        put = {"device": device, "dtype": torch.long}
        batch = RaggedBatch(
            self,
            pieces,
            torch.tensor(ids, **put),
            torch.tensor(positions, **put),
            torch.tensor(rows, **put),
            torch.tensor(last, **put),
            singles,
            spans,
        )
        if singles:
            batch.low, batch.high = min(rows[:singles]), max(rows[:singles]) + 1
            batch.width = max(positions[:singles]) + 1
            seen = torch.zeros(batch.high - batch.low, device=device, dtype=torch.long)
            seen[batch.rows[:singles] - batch.low] = batch.positions[:singles] + 1
            hidden = torch.arange(batch.width, device=device) >= seen[:, None].clamp(min=1)
            batch.bias = torch.zeros(hidden.shape, device=device).masked_fill_(hidden, -torch.inf)[:, None, None]
        return batch

    def fed(self, pieces: Sequence[Piece]) -> None:
        """Note that the pieces' keys and values are in the pool."""
        for piece in pieces:
            slot, count = piece.slot, len(piece.ids)
            self._table[slot.index, slot.length : slot.length + count] = piece.ids
            slot.length += count

    def layer(self, index: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of a layer; ``like`` (…, heads, width) tells their shape the first time."""
        if index not in self.keys:
            shape = (len(self.slots), like.shape[-2], self._room, like.shape[-1])
            # Zeros and not whatever was there: a masked key counts nothing only where it is a number.
            self.keys[index], self.values[index] = like.new_zeros(shape), like.new_zeros(shape)
        return self.keys[index], self.values[index]

    def _make_room(self, length: int) -> None:
        import numpy as np

        if length <= self._room:
            return
        room = min(-(-length // _STEP) * _STEP, self._max_length)
        more = room - self._room
        self._table = np.pad(self._table, ((0, 0), (0, more)), constant_values=-1)
        for kept in (self.keys, self.values):
            for layer, old in kept.items():
                new = old.new_zeros((*old.shape[:2], room, old.shape[3]))
                new[:, :, : self._room] = old
                kept[layer] = new
        self._room = room


def _leading(same: np.ndarray) -> np.ndarray:
    """How many leading values of each row of (S, T) are true."""
    import numpy as np

    broken: np.ndarray = ~same
    return np.where(broken.any(1), broken.argmax(1), same.shape[1])
