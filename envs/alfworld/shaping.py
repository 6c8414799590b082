"""Named shaping terms of an ALFWorld episode, for training alone: most of them tell what only the oracle knows.

They stand beside the benchmark's reward, never in it, and a term is a plain number without a weight:

- ``potential``: gamma * P(s') - P(s); P is minus the length of the oracle's plan over its length at the start (Ng,
  Harada, Russell 1999, Policy invariance under reward transformations). P is 0 once the goal is reached. An episode
  that is cut keeps the potential of its last state: a cut is no state of the task. With gamma 1 a win's terms add up to
  1, those of an episode without one to less.
- ``subgoals``: the share of the task's sub-goals that this step reached for the first time: ``found`` (a wanted object
  in sight), ``took`` (in hand), ``treated`` (clean, hot, cool) or ``lit`` (a wanted lamp is on), ``placed``.
- ``step_cost``: -1 for every step.
- ``invalid_cost``: -1 for a step with "Nothing happens.".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from envs.alfworld.expert import TaskGoal, read_task_goal
from envs.alfworld.game import Game
from envs.alfworld.pursuit import Pursuit
from envs.alfworld.state import State
from envs.errors import InvalidOption

__all__ = ["SHAPING_TERMS", "Shaper", "potential", "reached_subgoals", "read_shaping_options", "subgoals_of"]

SHAPING_TERMS = ("potential", "subgoals", "step_cost", "invalid_cost")
_PRIVILEGED = frozenset({"potential", "subgoals"})
# The potential where no way is left, and the lowest there is.
_LOWEST = -2.0


def read_shaping_options(options: Mapping[str, Any]) -> tuple[tuple[str, ...], float]:
    """The options ``shaping`` (a list of terms; none by default) and ``shaping_gamma`` (0 < gamma <= 1; 1 by default).

    Raises InvalidOption.
    """
    terms = options.get("shaping", ())
    if not isinstance(terms, list | tuple) or not all(term in SHAPING_TERMS for term in terms):
        msg = f"shaping must be a list of terms, not {terms!r:.80}"
        raise InvalidOption(msg, hint=f"known: {', '.join(SHAPING_TERMS)}")
    if len(set(terms)) != len(terms):
        msg = f"shaping names a term twice: {', '.join(terms)}"
        raise InvalidOption(msg)
    gamma = options.get("shaping_gamma", 1.0)
    if isinstance(gamma, bool) or not isinstance(gamma, int | float) or not 0 < gamma <= 1:
        msg = f"shaping_gamma must be a number above 0, at most 1, not {gamma!r:.40}"
        raise InvalidOption(msg, hint="the discount that training uses; 1 where an episode's rewards are summed")
    return tuple(terms), float(gamma)


def potential(length: int | None, scale: int) -> float:
    """The potential of a state: from the oracle's remaining plan length and that of the game's first state."""
    return _LOWEST if length is None else max(_LOWEST, -length / scale)


def subgoals_of(goal: TaskGoal) -> tuple[str, ...]:
    """The names of a task's sub-goals, in the order in which a plan reaches them."""
    if goal.lamps:
        return ("found", "took", "lit")
    return ("found", "took", *(("treated",) if goal.treatment else ()), "placed")


def reached_subgoals(state: State, goal: TaskGoal) -> set[str]:
    """The sub-goals that hold in a state; any one of the wanted objects will do."""
    game, wanted = state.game, goal.wanted
    reached: set[str] = set()
    seen = set(state.held)
    for receptacle in game.receptacles_at.get(state.location, ()):
        if receptacle not in game.openable or receptacle in state.opened:
            seen.update(state.contents_of(receptacle))
    if not seen.isdisjoint(wanted):
        reached.add("found")
    if any(thing in state.held for thing in wanted):
        reached.add("took")
    if goal.lamps and any(lamp in state.toggled for lamp in goal.lamps):
        reached.add("lit")
    ready = [thing for thing in wanted if goal.treated(state, thing)]
    if goal.treatment and ready:
        reached.add("treated")
    if any(thing in state.contents_of(end) for end in goal.destinations for thing in ready):
        reached.add("placed")
    return reached


class Shaper:
    """The terms of one episode, step by step. What held before the first step is never counted as reached."""

    __slots__ = ("_gamma", "_goal", "_potential", "_pursuit", "_reached", "_scale", "_terms")

    def __init__(self, state: State, pursuit: Pursuit, *, terms: Iterable[str], gamma: float = 1.0) -> None:
        """Begin in the episode's first state. Raises InvalidOption where the game's goal is of no known task type."""
        self._terms, self._gamma, self._pursuit = tuple(terms), gamma, pursuit
        self._goal = _goal_for(state.game, self._terms)
        self._scale, self._potential = 1, 0.0
        self._reached: frozenset[str] = frozenset()
        if "potential" in self._terms:
            self._scale = len(pursuit.commands(state) or ()) or 1
            self._potential = self._potential_of(state)
        if "subgoals" in self._terms:
            self._reached = frozenset(reached_subgoals(state, self._goal))

    def step(self, state: State, *, valid: bool) -> dict[str, Any]:
        """What a step to this state adds to the result's info.

        ``{"shaping": {term: value}}``, and ``{"subgoals": [names]}`` where it reached some.
        """
        values: dict[str, float] = {}
        info: dict[str, Any] = {"shaping": values}
        for term in self._terms:
            match term:
                case "potential":
                    before, self._potential = self._potential, self._potential_of(state)
                    values[term] = self._gamma * self._potential - before
                case "subgoals":
                    known = subgoals_of(self._goal)
                    reached = reached_subgoals(state, self._goal)
                    new = [name for name in known if name in reached and name not in self._reached]
                    self._reached |= reached
                    values[term] = len(new) / len(known)
                    if new:
                        info["subgoals"] = new
                case "step_cost":
                    values[term] = -1.0
                case "invalid_cost":
                    values[term] = 0.0 if valid else -1.0
        return info

    def copy(self, pursuit: Pursuit) -> Shaper:
        """An independent copy that asks another pursuit."""
        copy = Shaper.__new__(Shaper)
        for name in Shaper.__slots__:
            setattr(copy, name, getattr(self, name))
        copy._pursuit = pursuit
        return copy

    def _potential_of(self, state: State) -> float:
        if state.won:
            return 0.0
        commands = self._pursuit.commands(state)
        return potential(None if commands is None else len(commands), self._scale)


def _goal_for(game: Game, terms: Iterable[str]) -> TaskGoal:
    goal = read_task_goal(game)
    if goal is not None:
        return goal
    if not _PRIVILEGED.isdisjoint(terms):
        msg = "this game's goal is of no task type that the shaping terms potential and subgoals know"
        raise InvalidOption(msg, hint="step_cost and invalid_cost go with every game")
    return TaskGoal(())
