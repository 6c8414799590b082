"""How hard a task is, in two numbers that need no policy: for samplers that go from easy to hard."""

from __future__ import annotations

from typing import NamedTuple

from envs.alfworld.expert import plan, read_task_goal
from envs.alfworld.game import Game

__all__ = ["TaskMeasure", "measure"]


class TaskMeasure(NamedTuple):
    """``plan_length``: commands that the expert needs from the start. ``receptacles_to_search``: places where a wanted
    object may be, for somebody who knows nothing but the rules.

    None where the expert knows no way, and for the places where the goal is none of ALFWorld's six task types.
    """

    plan_length: int | None = None
    receptacles_to_search: int | None = None


def measure(game: Game) -> TaskMeasure:
    """The measures of a game from its start."""
    commands = plan(game.start())
    return TaskMeasure(None if commands is None else len(commands), _receptacles_to_search(game))


def _receptacles_to_search(game: Game) -> int | None:
    """How many receptacles, by the game's own ``canContain`` facts, may hold an object that the goal wants.

    Those that the agent can walk to, all but the goal's destinations: what lies there needs no search.
    """
    goal = read_task_goal(game)
    if goal is None:
        return None
    possible = {receptacle for thing in goal.wanted for receptacle in game.fits_in.get(thing, ())}
    return len(possible - set(goal.destinations))
