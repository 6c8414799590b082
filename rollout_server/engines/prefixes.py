"""Which engines have computed which beginnings of prompts: what makes an episode stay where its cache is."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

__all__ = ["PrefixIndex"]

_BLOCK = 64


class PrefixIndex:
    """Remembers blocks of ids by the chain of their hashes, as an engine's prefix cache does, and who computed them.

    Owners are numbered from 0. At most ``blocks`` blocks are kept, the least recently used go first. A hash that
    collides costs a computation twice, never a wrong token: the engines have caches of their own.
    """

    def __init__(self, *, blocks: int = 1 << 16) -> None:
        self._limit = blocks
        self._owners: OrderedDict[int, int] = OrderedDict()

    def find(self, policy: str, ids: Sequence[int]) -> frozenset[int]:
        """The owners of the longest known beginning of ``ids``; empty where not even its first block is known."""
        mask = 0
        for key in _chain(policy, ids):
            narrower = self._owners.get(key, 0) & (mask or -1)
            if not narrower:
                break
            mask = narrower
        return frozenset(number for number in range(mask.bit_length()) if mask >> number & 1)

    def add(self, policy: str, ids: Sequence[int], owner: int) -> None:
        """Note that ``owner`` computes ``ids``. Beginnings are kept longest: without them the rest is never found."""
        for key in reversed(_chain(policy, ids)):
            self._owners[key] = self._owners.get(key, 0) | 1 << owner
            self._owners.move_to_end(key)
        while len(self._owners) > self._limit:
            self._owners.popitem(last=False)

    def forget(self, owner: int) -> None:
        """Drop what ``owner`` had: it began anew."""
        for key, mask in list(self._owners.items()):
            left = mask & ~(1 << owner)
            if left:
                self._owners[key] = left
            else:
                del self._owners[key]


def _chain(policy: str, ids: Sequence[int]) -> list[int]:
    """One hash a whole block, each of everything up to its end; the caches of two policies are never the same."""
    keys, key = [], hash(policy)
    for start in range(0, len(ids) - _BLOCK + 1, _BLOCK):
        key = hash((key, tuple(ids[start : start + _BLOCK])))
        keys.append(key)
    return keys
