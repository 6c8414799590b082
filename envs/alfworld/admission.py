"""Whether a game is worth starting: one that cannot be won, or that is won already, is refused when it is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from envs.alfworld.expert import plan, read_task_goal
from envs.alfworld.formula import Literal
from envs.alfworld.game import Game, GameData
from envs.errors import TaskDataError

__all__ = ["admit"]

_OF_THE_AGENT = frozenset({"atlocation", "holds", "holdsany"})
_HINT = "engine='textworld' and the native engine would both play it in vain: leave it out, or mend its goal"


def admit(game: Game, data: GameData, *, path: str | Path) -> None:
    """Raise TaskDataError, which names the path and the reason, for a game that is not worth starting:

    - its file says that it is not solvable, as many of ALFWorld's training files do;
    - its goal holds at the start: TextWorld plays such a game and ends it as won after any first command, so that
      doing nothing would be rewarded;
    - its goal asks for what no fact gives and no command brings about (TextWorld cannot load such a game: its planner
      finds the goal out of reach and leaves no commands), for example an object in a movable receptacle;
    - it is of one of the six task types, the expert knows no way to win, and the file's walkthrough does not win.

    A goal of another form that is not proved out of reach is admitted. ``data`` is the game file's JSON. A benchmark's
    list is played as it is, admitted or not: AgentBench's holds games that alfworld's own filters leave out.
    """
    solvable = data.get("solvable", True)
    if not isinstance(solvable, bool):
        raise _refusal(path, f"its 'solvable' is {solvable!r:.40}, neither true nor false")
    if not solvable:
        raise _refusal(path, "the file itself says that it is not solvable")
    if game.initial.won:
        raise _refusal(path, "its goal holds at the start, so that any first command would win")
    if read_task_goal(game) is None:
        if not _Reach(game).allows_goal():
            raise _refusal(path, _why_out_of_reach(game))
    elif plan(game.start()) is None and not _wins(game, data.get("walkthrough")):
        out_of_reach = not _Reach(game).allows_goal()
        reason = _why_out_of_reach(game) if out_of_reach else "its goal can be reached from the start in no way"
        raise _refusal(path, reason)


def _refusal(path: str | Path, reason: str) -> TaskDataError:
    return TaskDataError(f"{path}: not worth starting: {reason}", hint=_HINT)


def _why_out_of_reach(game: Game) -> str:
    missing = " ".join(f"({' '.join(literal)})" for literal in game.goal.missing())
    if not missing:
        return "no commands can bring about what its goal asks for"
    return f"its goal asks for {missing}, which no fact gives and no command brings about"


def _wins(game: Game, walkthrough: object) -> bool:
    """Whether the commands of a file's walkthrough win at any step."""
    if not isinstance(walkthrough, list):
        return False
    state = game.start()
    return any(state.step(command)[1] for command in walkthrough if isinstance(command, str))


class _Reach:
    """What commands could make true or false, were nothing ever in the way of anything else: never less than what they
    really can. After the effects of alfworld's alfred.pddl.
    """

    def __init__(self, game: Game) -> None:
        start = game.initial
        self._game = game
        self._start = start
        located = game.locations
        # An object's receptacles: where it is at first, and, once it is in hand, wherever it fits.
        lying = {name: set(start.places_of(name)) for name in game.object_types}
        taken = {name for name, places in lying.items() if places and name in game.pickupable}
        self._in_hand = taken | set(start.held)
        for name in self._in_hand:
            lying.setdefault(name, set()).update(game.fits_in.get(name, ()))
        self._lying = lying
        # Whatever was put somewhere can be taken from there as well.
        self._taken = {name for name in self._in_hand if name in game.pickupable and lying[name]}
        self._put = {name for name in self._in_hand if game.fits_in.get(name)}
        self._places = set(located.values())
        self._lying_at = {name: {located[place] for place in places} for name, places in lying.items()}
        self._near_devices = {
            "isclean": bool(game.sinks & located.keys()),
            "ishot": bool(game.microwaves & located.keys()),
            "iscool": bool(game.fridges & located.keys()),
        }
        self._knife = not game.knives.isdisjoint(self._in_hand)

    def allows_goal(self) -> bool:
        """Whether the goal is within reach as far as this can tell."""
        return self._game.goal.possible(self._may_be)

    def _may_be(self, literal: Literal, wanted: bool) -> bool:
        if literal[0] in _OF_THE_AGENT and self._game.problem.types[literal[1]] != "agent":
            return not wanted  # a variable of the type "object" stands for other things as well
        return (self._holds_at_first(literal) is wanted) or self._changes_to(literal, wanted=wanted)

    def _holds_at_first(self, literal: Literal) -> bool:
        start = self._start
        match literal:
            case ("inreceptacle", thing, receptacle):
                return thing in start.contents_of(receptacle)
            case ("objectatlocation", thing, location):
                return start.is_at(thing, location)
            case ("holds", _, thing):
                return thing in start.held
            case ("holdsany", _):
                return start.hands_full
            case ("atlocation", _, location):
                return location == start.location
            case ("opened", receptacle):
                return receptacle in start.opened
            case ("isclean", thing):
                return thing in start.clean
            case ("ishot", thing):
                return thing in start.hot
            case ("iscool", thing):
                return thing in start.cool
            case ("istoggled", thing):
                return thing in start.toggled
            case ("issliced", thing):
                return thing in start.sliced
        raise AssertionError(literal)

    def _changes_to(self, literal: Literal, *, wanted: bool) -> bool:
        """Whether some command makes the literal true, or false, if its conditions come about."""
        game = self._game
        match literal:
            case ("atlocation", _, location):
                return location in self._places if wanted else bool(self._places - {location})
            case ("opened", receptacle):
                return receptacle in game.openable and receptacle in game.locations
            case ("holds", _, thing):
                return thing in (self._taken if wanted else self._put)
            case ("holdsany", _):
                return bool(self._taken if wanted else self._put)
            case ("inreceptacle", thing, receptacle):
                if wanted:
                    return thing in self._in_hand and receptacle in game.fits_in.get(thing, ())
                return thing in self._taken
            case ("objectatlocation", thing, location):
                if wanted:
                    return any(game.locations[name] == location for name in self._fitting(thing))
                return thing in self._taken and location in self._lying_at[thing]
            case ("isclean", thing):
                return wanted and self._treatable(thing, game.cleanable, "isclean")
            case ("ishot", thing):
                return self._treatable(thing, *((game.heatable, "ishot") if wanted else (game.coolable, "iscool")))
            case ("iscool", thing):
                return self._treatable(thing, *((game.coolable, "iscool") if wanted else (game.heatable, "ishot")))
            case ("istoggled", thing):
                return wanted and thing in game.toggleable and bool(self._lying.get(thing))
            case ("issliced", thing):
                return wanted and self._knife and thing in game.sliceable
        raise AssertionError(literal)

    def _fitting(self, thing: str) -> Iterable[str]:
        return self._game.fits_in.get(thing, ()) if thing in self._in_hand else ()

    def _treatable(self, thing: str, able: frozenset[str], device: str) -> bool:
        return thing in able and thing in self._in_hand and self._near_devices[device]
