"""Groups that teach nothing are left out of a step, and others played in their place (DAPO's dynamic sampling).

Yu et al. 2025, DAPO: where every episode of a group has the same reward, every advantage is 0. Such a group makes a
step's batch smaller than it looks. The search for others is bounded: where a policy always fails, there may be none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Filled", "fill", "has_signal"]

_SAME = 1e-9


def has_signal(rewards: Sequence[float | None], credit: Sequence[Sequence[float]] = ()) -> bool:
    """Whether a group moves the policy: two rewards that differ, or a step advantage other than 0.

    Args:
        rewards: of each episode; None for one that is left out of the group's baseline.
        credit: the step advantages of each episode, where turns have credit of their own.
    """
    counted = [r for r in rewards if r is not None]
    differ = len(counted) > 1 and max(counted) - min(counted) > _SAME
    return differ or any(abs(value) > _SAME for values in credit for value in values)


@dataclass(frozen=True, slots=True)
class Filled[T]:
    """The groups of a step in the order of play: those with a signal, those without, and all of them."""

    kept: tuple[T, ...]
    filtered: tuple[T, ...]
    played: tuple[T, ...]


def fill[T](
    wanted: int, play: Callable[[int, int], Sequence[T]], *, signal: Callable[[T], bool], further: int
) -> Filled[T]:
    """Play until ``wanted`` groups have a signal, at most ``wanted + further`` in all.

    Each round plays as many as are still missing, so no episode with a signal is ever thrown away.

    Args:
        wanted: groups of a step.
        play: given how many groups were played before and how many to play now; gives those groups.
        signal: whether a group has one.
        further: how many groups may be played beyond ``wanted``.
    """
    kept: list[T] = []
    filtered: list[T] = []
    played: list[T] = []
    now = wanted
    while now:
        for group in play(len(played), now):
            played.append(group)
            (kept if signal(group) else filtered).append(group)
        now = min(wanted - len(kept), wanted + further - len(played))
    return Filled(tuple(kept), tuple(filtered), tuple(played))
