"""The environment's words and nothing else: no instruction, no example, no list of what is admissible.

For models that are trained on it first, small ones above all: an episode has a few hundred tokens instead of a few
thousand. A model that was never trained on it does not know what is wanted. It is no benchmark's protocol, so a score
by it compares with nobody else's.

ALFWorld: the first message is the room and the task, a turn is one command, the answer is what the game says. The
commands are read as AgentBench reads them (``match_action``), but for its last resort, the nearest admissible command:
what is no command is an invalid action, and the game says so.

DB Bench: the first message is the question with the table's name and columns, a turn is one statement, the answer is
the database's. ``Answer: ["a", "b"]`` commits the answer; scores follow the FC rules.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from envs.client import EpisodeView
from envs.errors import ConfigError, InvalidOption
from envs.types import Action, EnvSpec, EpisodeStatus, JsonObject, Observation
from rollout_server.constraints import Constrain, Constraint
from rollout_server.protocols.admissible import admissible_constraint
from rollout_server.protocols.alfworld_text import intro_text, observation_text, repeats
from rollout_server.protocols.base import Opening, ParsedTurn, ProtocolSession
from rollout_server.types import Message, Role

__all__ = ["Bare"]

_MAX_TURNS = {"alfworld": 20, "dbbench": 6}
_ANSWER = "Answer:"
_NO_RESULT = "No response from database."


class Bare:
    """Commands or statements in, observations out."""

    name = "bare"

    def max_turns(self, env: EnvSpec) -> int:
        """20 for ALFWorld, as with AgentBench's function calls; 6 for DB Bench."""
        if env.name not in _MAX_TURNS:
            raise _unknown(self.name, env)
        return _MAX_TURNS[env.name]

    def env_options(self, env: EnvSpec) -> JsonObject:
        """DB Bench is scored by the FC rules."""
        return {"rules": "fc"} if env.name == "dbbench" else {}

    def session(self, env: EnvSpec, view: EpisodeView) -> ProtocolSession:
        """Begin an episode. Raises ConfigError for any other environment."""
        self.max_turns(env)
        return _DbBenchSession(env, view) if env.name == "dbbench" else _AlfworldSession(env, view)

    def render_action(self, env: EnvSpec, action: Action, thought: str = "") -> str:
        """The command, statement or answer; a thought is a line before it."""
        value = next(iter(action.arguments.values()), "")
        if action.name == "commit_final_answer":
            value = f"{_ANSWER} {value if isinstance(value, str) else json.dumps(list(value), ensure_ascii=False)}"
        return f"{thought}\n{value}" if thought else str(value)

    def constraint(self, env: EnvSpec, kind: Constrain, observation: Observation | None = None) -> Constraint | None:
        """One of the admissible commands and nothing else. There are no tools."""
        if kind is Constrain.TOOLS:
            raise InvalidOption(f"{self.name} has no tools to constrain to", hint="agentbench_fc has")
        return admissible_constraint(self, env, kind, observation)


class _AlfworldSession:
    def __init__(self, env: EnvSpec, view: EpisodeView) -> None:
        self._env = env
        self._first = view
        self._outputs: list[str] = []

    def opening(self) -> Opening:
        text = intro_text(self._first.observation.text)
        return Opening((Message(Role.SYSTEM, self._env.name), Message(Role.USER, text)))

    def parse(self, text: str) -> ParsedTurn:
        """The last line is the command."""
        command = text.strip().rpartition("\n")[2].strip()
        self._outputs.append(command)
        if repeats(self._outputs):
            return ParsedTurn(ends=EpisodeStatus.REPETITION)
        tool = self._env.tools[0]
        argument = next(iter(tool.parameters["properties"]))
        return ParsedTurn((Action(tool.name, {argument: command}),))

    def reply(self, parsed: ParsedTurn, views: Sequence[EpisodeView]) -> tuple[Message, ...]:
        return (Message(Role.USER, observation_text(views[-1].observation.text)),)

    def closing(self) -> tuple[Action, ...]:
        return ()


class _DbBenchSession:
    def __init__(self, env: EnvSpec, view: EpisodeView) -> None:
        self._env = env
        self._first = view

    def opening(self) -> Opening:
        facts = self._first.task.metadata
        parts = (str(facts.get(name, "")) for name in ("evidence", "add_description", "description"))
        text = "\n".join(part for part in parts if part)
        return Opening((Message(Role.SYSTEM, self._env.name), Message(Role.USER, text)))

    def parse(self, text: str) -> ParsedTurn:
        """The last line is the statement, or the answer."""
        line = text.strip().rpartition("\n")[2].strip()
        if line.startswith(_ANSWER):
            answers = line.removeprefix(_ANSWER).strip()
            return ParsedTurn((Action("commit_final_answer", {"answers": answers}),))
        return ParsedTurn((Action("execute_sql", {"query": line}),))

    def reply(self, parsed: ParsedTurn, views: Sequence[EpisodeView]) -> tuple[Message, ...]:
        return (Message(Role.USER, views[-1].observation.text or _NO_RESULT),)

    def closing(self) -> tuple[Action, ...]:
        return ()


def _unknown(protocol: str, env: EnvSpec) -> ConfigError:
    return ConfigError(
        f"protocol {protocol} does not know environment {env.id}", hint=f"known: {', '.join(_MAX_TURNS)}"
    )
