"""One live ALFWorld episode: the tool ``take_action`` on a game, the benchmark's own reward."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from envs.alfworld.engine import ENGINES, Engine, GameSource, Session
from envs.alfworld.expert import plan
from envs.alfworld.game import Game
from envs.alfworld.native_engine import NativeSession
from envs.alfworld.rules import NOTHING_HAPPENS
from envs.alfworld.state import State
from envs.errors import EpisodeOver, InvalidAction, InvalidOption, TaskDataError
from envs.types import Action, EnvSpec, Observation, StepResult, Task

__all__ = ["AlfworldEnv"]

_MAX_STEPS_LIMIT = 1000


class AlfworldEnv:
    """An episode of ALFWorld; implements ``envs.base.Environment``.

    Options of ``reset``: ``max_steps`` (1 to 1000; the spec's by default), ``engine`` (``native``, ``textworld`` or
    ``both``).
    The seed changes nothing: a game is deterministic. The reward is 1.0 with the step that reaches the goal, else 0.0.
    """

    def __init__(
        self,
        spec: EnvSpec,
        *,
        find_game: Callable[[Task], GameSource],
        find_engine: Callable[[str], Engine],
        parse_game: Callable[[GameSource], Game],
        engine: str,
    ) -> None:
        self._spec = spec
        self._find_game = find_game
        self._find_engine = find_engine
        self._parse_game = parse_game
        self._default_engine = engine
        self._source: GameSource | None = None
        self._session: Session | None = None
        self._max_steps = spec.max_steps
        self._num_steps = 0
        self._over = True
        self._commands: list[str] = []
        self._plan: list[str] | None = None

    def reset(self, task: Task, *, seed: int = 0, options: Mapping[str, Any] | None = None) -> Observation:
        """Begin the task; the game's introduction with its first admissible actions.

        Raises: InvalidOption; UnknownTask; TaskDataError for a broken game or one that is not the task's any more;
        BackendUnavailable, CapacityExceeded (engines ``textworld`` and ``both``); EngineMismatch (``both``).
        """
        max_steps, engine = self._read_options(options or {})
        source = self._find_game(task)
        if source.content_hash != task.content_hash:
            msg = (
                f"{source.path}: content hash {source.content_hash[:16]}…, but the task's is {task.content_hash[:16]}…"
            )
            raise TaskDataError(msg, hint="the game's file or the generator has changed since the task was made")
        self.close()
        self._source, self._session = source, self._find_engine(engine).open(source)
        self._max_steps, self._num_steps = max_steps, 0
        self._commands, self._plan = [], None
        text = self._session.reset()
        self._over = False
        return Observation(text, tuple(self._session.admissible()))

    def step(self, action: Action) -> StepResult:
        """Apply a ``take_action``. ``valid`` is False exactly where the game answers "Nothing happens.".

        Raises: InvalidAction; EpisodeOver after the end or before a reset.
        """
        if self._over or self._session is None:
            msg = "this episode is over" if self._num_steps else "this episode has not begun"
            raise EpisodeOver(msg, hint="reset begins another one")
        command = self._read_command(action)
        text, won = self._session.step(command)
        self._num_steps += 1
        self._commands.append(command)
        if self._plan is not None and self._plan[:1] == [command.strip()]:
            self._plan = self._plan[1:]
        else:
            self._plan = None
        truncated = not won and self._num_steps >= self._max_steps
        self._over = won or truncated
        return StepResult(
            observation=Observation(text, tuple(self._session.admissible())),
            reward=float(won),
            terminated=won,
            truncated=truncated,
            valid=text != NOTHING_HAPPENS,
            state_hash=self._session.state_hash(),
        )

    def expert_action(self) -> Action | None:
        """The next action on the way to the goal from here; None after the end, or where the expert knows no way."""
        if self._over:
            return None
        if not self._plan:
            state = self._current_state()
            self._plan = plan(state) if state is not None else None
        return Action(self._spec.tools[0].name, {"action": self._plan[0]}) if self._plan else None

    def close(self) -> None:
        """Free the engine's session. Idempotent."""
        session, self._session, self._over = self._session, None, True
        if session is not None:
            session.close()

    def _current_state(self) -> State | None:
        """The state in full: the native session's own, or the commands so far played again natively."""
        if isinstance(self._session, NativeSession):
            return self._session.state
        if self._source is None:
            return None
        try:
            state = self._parse_game(self._source).start()
        except TaskDataError:  # a game for TextWorld alone: no expert
            return None
        for command in self._commands:
            state.step(command)
        return state

    def _read_options(self, options: Mapping[str, Any]) -> tuple[int, str]:
        for name in options:
            if name not in ("max_steps", "engine"):
                msg = f"alfworld has no option {name!r}"
                raise InvalidOption(msg, hint="known: max_steps, engine")
        max_steps = options.get("max_steps", self._spec.max_steps)
        if type(max_steps) is not int or not 1 <= max_steps <= _MAX_STEPS_LIMIT:
            msg = f"max_steps must be a whole number from 1 to {_MAX_STEPS_LIMIT}, not {max_steps!r:.40}"
            raise InvalidOption(msg)
        engine = options.get("engine", self._default_engine)
        if engine not in ENGINES:
            msg = f"alfworld has no engine {engine!r:.40}"
            raise InvalidOption(msg, hint=f"known: {', '.join(ENGINES)}")
        if engine != "native" and not self._spec.blocking:  # its steps would hold up every other episode
            msg = f"engine {engine!r} waits for another process, and these episodes are served without threads"
            raise InvalidOption(msg, hint=f"start the service with alfworld's engine set to {engine!r}")
        return max_steps, engine

    def _read_command(self, action: Action) -> str:
        tool = self._spec.tools[0].name
        if action.name != tool:
            msg = f"alfworld has no tool {action.name!r:.80}"
            raise InvalidAction(msg, hint=f"call {tool} with the argument action")
        command = action.arguments.get("action") if isinstance(action.arguments, Mapping) else None
        if not isinstance(command, str) or len(action.arguments) != 1:
            msg = f"{tool} takes exactly one argument, action, and it must be a text"
            raise InvalidAction(msg, hint='for example {"action": "go to desk 1"}')
        return command
