"""The oracle's plan of one episode, kept while its commands are followed."""

from __future__ import annotations

from collections.abc import Sequence

from envs.alfworld.expert import plan
from envs.alfworld.state import State

__all__ = ["Pursuit"]


class Pursuit:
    """Asks the oracle only where the episode has left the plan: the rest of a shortest plan is a shortest plan.

    It must hear of every command that the game accepted.
    """

    __slots__ = ("_known", "_plan")

    def __init__(self) -> None:
        self._plan: tuple[str, ...] | None = None
        self._known = False

    def commands(self, state: State) -> Sequence[str] | None:
        """``expert.plan`` of the state that the episode is in."""
        if not self._known:
            found = plan(state)
            self._plan, self._known = None if found is None else tuple(found), True
        return self._plan

    def follow(self, command: str) -> None:
        """Note a command that the game accepted."""
        if self._known and self._plan and command == self._plan[0]:
            self._plan = self._plan[1:]
        else:
            self._known = False

    def copy(self) -> Pursuit:
        """An independent copy."""
        copy = Pursuit()
        copy._plan, copy._known = self._plan, self._known
        return copy
