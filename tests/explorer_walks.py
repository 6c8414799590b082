"""The explorer at play, as tests of it need it."""

from __future__ import annotations

from envs.alfworld.explorer import Explorer
from envs.alfworld.state import State

__all__ = ["Walk", "play"]

# Commands with their answers.
type Walk = list[tuple[str, str]]


def play(explorer: Explorer, state: State, *, steps: int = 50, admissible: bool = False) -> Walk | None:
    """The walk up to the win, or None."""
    walk: Walk = []
    for _ in range(steps):
        command = explorer.choose()
        text, won = state.step(command)
        walk.append((command, text))
        if won:
            return walk
        explorer.observe(command, text, state.admissible() if admissible else ())
    return None
