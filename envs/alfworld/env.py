"""One live ALFWorld episode: the tool ``take_action`` on a game, the benchmark's own reward."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from envs.alfworld.engine import ENGINES, Engine, GameSource, Session
from envs.alfworld.game import Game
from envs.alfworld.native_engine import NativeSession
from envs.alfworld.pursuit import Pursuit
from envs.alfworld.rules import NOTHING_HAPPENS
from envs.alfworld.shaping import Shaper, read_shaping_options
from envs.alfworld.state import State
from envs.alfworld.tasks import split_role
from envs.alfworld.text import introduction
from envs.errors import EpisodeOver, InvalidAction, InvalidOption, TaskDataError
from envs.types import Action, EnvSpec, Observation, SplitRole, StepResult, Task

__all__ = ["EXPERTS", "AlfworldEnv", "Workshop"]

EXPERTS = ("oracle", "explorer")

_MAX_STEPS_LIMIT = 1000
_OPTIONS = ("max_steps", "engine", "shaping", "shaping_gamma")
# A command that changed nothing is remembered up to this length: no game accepts a longer one.
_LONGEST_KEPT = 120
_NO_INFO: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all episodes of a family share. ``engine`` is the default one."""

    spec: EnvSpec
    find_game: Callable[[Task], GameSource]
    find_engine: Callable[[str], Engine]
    parse_game: Callable[[GameSource], Game]
    engine: str


class AlfworldEnv:
    """An episode of ALFWorld; implements ``envs.base.Environment``, ``Forkable`` and ``HasExperts``.

    Options of ``reset``: ``max_steps`` (1 to 1000; the spec's by default), ``engine`` (``native``, ``textworld`` or
    ``both``), ``shaping`` and ``shaping_gamma`` (terms for training, in each result's info: ``envs.alfworld.shaping``).
    The seed changes nothing: a game is deterministic. The reward is 1.0 with the step that reaches the goal, else 0.0.
    """

    __slots__ = (
        "_history",
        "_max_steps",
        "_over",
        "_pursuit",
        "_session",
        "_shadow",
        "_shaper",
        "_source",
        "_workshop",
    )

    experts: Sequence[str] = EXPERTS

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self._source: GameSource | None = None  # kept where the session is not native
        self._session: Session | None = None
        self._shadow: State | None = None  # played along where the session is not native and somebody must see a state
        self._max_steps = workshop.spec.max_steps
        self._over = True
        self._history: list[str] = []
        self._pursuit: Pursuit | None = None
        self._shaper: Shaper | None = None

    @property
    def num_steps(self) -> int:
        """How many steps the episode has done."""
        return len(self._history)

    def reset(self, task: Task, *, seed: int = 0, options: Mapping[str, Any] | None = None) -> Observation:
        """Begin the task; the game's introduction with its first admissible actions.

        Raises: InvalidOption; UnknownTask; TaskDataError for a broken game or one that is not the task's any more;
        BackendUnavailable, CapacityExceeded (engines ``textworld`` and ``both``); EngineMismatch (``both``).
        """
        options = options or {}
        max_steps, engine = self._read_options(options)
        terms, gamma = read_shaping_options(options)
        if terms and split_role(task.split) is not SplitRole.TRAIN:
            msg = f"shaping tells what an evaluation must not: {task.id} is of an evaluation split"
            raise InvalidOption(msg, hint="leave the option out, or play a task of a training split")
        source = self._workshop.find_game(task)
        if source.content_hash != task.content_hash:
            msg = (
                f"{source.path}: content hash {source.content_hash[:16]}…, but the task's is {task.content_hash[:16]}…"
            )
            raise TaskDataError(msg, hint="the game's file or the generator has changed since the task was made")
        self.close()
        self._session = session = self._workshop.find_engine(engine).open(source)
        self._source = None if isinstance(session, NativeSession) else source
        self._max_steps, self._history = max_steps, []
        text = session.reset()
        if terms:
            self._begin_shaping(terms, gamma)
        self._over = False
        return Observation(text, tuple(session.admissible()))

    def step(self, action: Action) -> StepResult:
        """Apply a ``take_action``. ``valid`` is False exactly where the game answers "Nothing happens.".

        Raises: InvalidAction; EpisodeOver after the end or before a reset.
        """
        session = self._live()
        command = self._read_command(action)
        text, won = session.step(command)
        valid = text != NOTHING_HAPPENS
        command = _remembered(command, valid=valid)
        self._history.append(command)
        truncated = not won and len(self._history) >= self._max_steps
        self._over = won or truncated
        return StepResult(
            observation=Observation(text, tuple(session.admissible())),
            reward=float(won),
            terminated=won,
            truncated=truncated,
            valid=valid,
            state_hash=session.state_hash(),
            info=self._told(command, valid=valid),
        )

    def expert_action(self, expert: str | None = None) -> Action | None:
        """The next action on the way to the goal from here; None after the end, or where the expert knows no way.

        ``oracle``, the default, knows everything and takes the shortest way. ``explorer`` knows what this episode's
        observations have told. Raises InvalidOption for another name.
        """
        expert = EXPERTS[0] if expert is None else expert
        if expert not in EXPERTS:
            msg = f"alfworld has no expert {expert!r:.40}"
            raise InvalidOption(msg, hint=f"known: {', '.join(EXPERTS)}")
        if self._over:
            return None
        command = self._ask_oracle() if expert == "oracle" else self._ask_explorer()
        return None if command is None else Action(self._workshop.spec.tools[0].name, {"action": command})

    def fork(self) -> AlfworldEnv | None:
        """An independent environment in the same state; None where another engine than the native one plays.

        Raises EpisodeOver after the end or before a reset.
        """
        session = self._live()
        if not isinstance(session, NativeSession):
            return None
        copy = AlfworldEnv(self._workshop)
        copy._session = session.clone()
        copy._max_steps, copy._over = self._max_steps, False
        copy._history = self._history.copy()
        if self._pursuit is not None:
            copy._pursuit = self._pursuit.copy()
            copy._shaper = self._shaper and self._shaper.copy(copy._pursuit)
        return copy

    def close(self) -> None:
        """Free the engine's session. Idempotent."""
        session, self._session, self._over = self._session, None, True
        self._source = self._shadow = self._pursuit = self._shaper = None
        if session is not None:
            session.close()

    def _live(self) -> Session:
        if self._over or self._session is None:
            msg = "this episode is over" if self._history else "this episode has not begun"
            raise EpisodeOver(msg, hint="reset begins another one")
        return self._session

    def _begin_shaping(self, terms: tuple[str, ...], gamma: float) -> None:
        """From the first state on. Whatever goes wrong leaves no episode behind."""
        try:
            state = self._state()
            if state is None:
                msg = "the native engine cannot play this game, and shaping terms are told by its states"
                raise InvalidOption(msg, hint="leave the option shaping out")
            self._pursuit = Pursuit()
            self._shaper = Shaper(state, self._pursuit, terms=terms, gamma=gamma)
        except InvalidOption:
            self.close()
            raise

    def _told(self, command: str, *, valid: bool) -> Mapping[str, Any]:
        """A step's info, and what is kept of its state."""
        if self._shadow is not None:
            self._shadow.step(command)
        if self._pursuit is not None and valid:
            self._pursuit.follow(command)
        if self._shaper is None or (state := self._state()) is None:
            return _NO_INFO
        return self._shaper.step(state, valid=valid)

    def _ask_oracle(self) -> str | None:
        state = self._state()
        if state is None:
            return None
        if self._pursuit is None:
            self._pursuit = Pursuit()
        commands = self._pursuit.commands(state)
        return commands[0] if commands else None

    def _ask_explorer(self) -> str | None:
        """What it says after reading the episode from its beginning: nothing is kept for it between two questions."""
        game = self._game()
        if game is None:
            return None
        from envs.alfworld.explorer import Explorer  # here, so that episodes without it load none of its tables

        state = game.start()
        explorer = Explorer(introduction(state))
        for command in self._history:
            explorer.observe(command, state.step(command)[0])
        return None if explorer.problem else explorer.choose()

    def _state(self) -> State | None:
        """The state in full: the native session's own, or one beside the other engine's; None where there is none."""
        if isinstance(self._session, NativeSession):
            return self._session.state
        if self._shadow is None and (game := self._game()) is not None:
            state = game.start()
            for command in self._history:
                state.step(command)
            self._shadow = state
        return self._shadow

    def _game(self) -> Game | None:
        """The game as the native engine knows it; None where that engine refuses it."""
        if isinstance(self._session, NativeSession):
            return self._session.game
        try:
            return None if self._source is None else self._workshop.parse_game(self._source)
        except TaskDataError:  # a game for TextWorld alone
            return None

    def _read_options(self, options: Mapping[str, Any]) -> tuple[int, str]:
        spec = self._workshop.spec
        for name in options:
            if name not in _OPTIONS:
                msg = f"alfworld has no option {name!r}"
                raise InvalidOption(msg, hint=f"known: {', '.join(_OPTIONS)}")
        max_steps = options.get("max_steps", spec.max_steps)
        if type(max_steps) is not int or not 1 <= max_steps <= _MAX_STEPS_LIMIT:
            msg = f"max_steps must be a whole number from 1 to {_MAX_STEPS_LIMIT}, not {max_steps!r:.40}"
            raise InvalidOption(msg)
        engine = options.get("engine", self._workshop.engine)
        if engine not in ENGINES:
            msg = f"alfworld has no engine {engine!r:.40}"
            raise InvalidOption(msg, hint=f"known: {', '.join(ENGINES)}")
        if engine != "native" and not spec.blocking:  # its steps would hold up every other episode
            msg = f"engine {engine!r} waits for another process, and these episodes are served without threads"
            raise InvalidOption(msg, hint=f"start the service with alfworld's engine set to {engine!r}")
        return max_steps, engine

    def _read_command(self, action: Action) -> str:
        tool = self._workshop.spec.tools[0].name
        if action.name != tool:
            msg = f"alfworld has no tool {action.name!r:.80}"
            raise InvalidAction(msg, hint=f"call {tool} with the argument action")
        command = action.arguments.get("action") if isinstance(action.arguments, Mapping) else None
        if not isinstance(command, str) or len(action.arguments) != 1:
            msg = f"{tool} takes exactly one argument, action, and it must be a text"
            raise InvalidAction(msg, hint='for example {"action": "go to desk 1"}')
        return command


def _remembered(command: str, *, valid: bool) -> str:
    """What the history keeps: an accepted command once for all episodes, of any other at most a few words."""
    if valid:
        return sys.intern(command.strip())
    return command if len(command) <= _LONGEST_KEPT else ""
