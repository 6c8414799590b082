"""Chance for generated tasks: the same numbers on every machine and every Python."""

from __future__ import annotations

from envs.draws import Draws

__all__ = ["Draw"]


class Draw(Draws):
    """Draws of a task or of one attempt at it; the parts of the key are the seed."""

    __slots__ = ()

    def __init__(self, *key: object) -> None:
        super().__init__(":".join(map(str, key)))

    def chance(self, share: float) -> bool:
        """True in this share of cases."""
        return self._random() < share
