"""AgentBench's function-calling protocol ("FC") for ALFWorld and DB Bench, with Hermes tool calls.

Source: AgentBench (Apache-2.0), ``src/server/tasks/alfworld/task.py`` and ``src/server/tasks/dbbench/task.py``. The
prompts and the answers to a turn without a usable call are its own words: a score is comparable only then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from envs.client import EpisodeView
from envs.errors import ConfigError
from envs.types import Action, EnvSpec, EpisodeStatus, JsonObject, Observation
from rollout_server.constraints import Constrain, Constraint, tool_constraint
from rollout_server.protocols.admissible import admissible_constraint
from rollout_server.protocols.alfworld_text import actions_text, intro_text, match_action, observation_text, repeats
from rollout_server.protocols.base import Opening, ParsedTurn, ProtocolSession
from rollout_server.protocols.hermes import ToolCall, parse_tool_calls, render_tool_call
from rollout_server.protocols.prompts import prompt_text
from rollout_server.types import Message, Role

__all__ = ["AgentBenchFC"]


_ALFWORLD_NO_CALL = "No executable tool calls found. Please call a tool instead"
_ALFWORLD_BAD_CALL = "No valid tool calls found. Please call a tool instead."
_DBBENCH_NO_CALL = "Internal error: No tool calls found despite finish reason."
_DBBENCH_BAD_CALL = "Error: Failed to parse tool call. Tool call format is incorrect."
_DBBENCH_BAD_TOOL = "Invalid function call. Please call a tool instead."
_DBBENCH_NO_RESULT = "No response from database."
_MAX_TURNS = {"alfworld": 20, "dbbench": 15}


class AgentBenchFC:
    """The protocol of AgentBench since 2025: a system prompt, tools, and the observation as the tool's answer."""

    name = "agentbench_fc"

    def max_turns(self, env: EnvSpec) -> int:
        """20 for ALFWorld, 15 for DB Bench."""
        if env.name not in _MAX_TURNS:
            raise _unknown(self.name, env)
        return _MAX_TURNS[env.name]

    def env_options(self, env: EnvSpec) -> JsonObject:
        """DB Bench is scored by the FC rules."""
        return {"rules": "fc"} if env.name == "dbbench" else {}

    def session(self, env: EnvSpec, view: EpisodeView) -> ProtocolSession:
        """Begin an episode. Raises ConfigError for any other environment."""
        if env.name == "alfworld":
            return _AlfworldSession(env, view)
        if env.name == "dbbench":
            return _DbBenchSession(env, view)
        raise _unknown(self.name, env)

    def render_action(self, env: EnvSpec, action: Action, thought: str = "") -> str:
        """The action as a Hermes tool call, the thought as the text before it."""
        return f"{thought}\n{render_tool_call(action)}" if thought else render_tool_call(action)

    def constraint(self, env: EnvSpec, kind: Constrain, observation: Observation | None = None) -> Constraint | None:
        """A tool call and nothing else: with one of the admissible commands, or with what the tools' schemas take."""
        if kind is Constrain.TOOLS:
            return tool_constraint(env.tools)
        return admissible_constraint(self, env, kind, observation)


class _AlfworldSession:
    """The first call of a message counts, and of it the first argument, whatever tool and argument are called."""

    def __init__(self, env: EnvSpec, view: EpisodeView) -> None:
        self._env = env
        self._first = view
        self._admissible = view.observation.admissible_actions
        self._outputs: list[str] = []

    def opening(self) -> Opening:
        task = f"Here is your task. {intro_text(self._first.observation.text)}{actions_text(self._admissible)}"
        return Opening((Message(Role.SYSTEM, prompt_text("alfworld_fc")), Message(Role.USER, task)), self._env.tools)

    def parse(self, text: str) -> ParsedTurn:
        calls = parse_tool_calls(text)
        if not calls:
            return ParsedTurn(nudge=_ALFWORLD_NO_CALL)
        raw = _first_value(calls[0])
        if not isinstance(raw, str):
            return ParsedTurn(nudge=_ALFWORLD_BAD_CALL)
        self._outputs.append(raw)
        if repeats(self._outputs):
            return ParsedTurn(ends=EpisodeStatus.REPETITION)
        tool = self._env.tools[0]
        argument = next(iter(tool.parameters["properties"]))
        return ParsedTurn((Action(tool.name, {argument: match_action(raw, self._admissible)}),))

    def reply(self, parsed: ParsedTurn, views: Sequence[EpisodeView]) -> tuple[Message, ...]:
        if not views:
            return (Message(Role.USER, parsed.nudge),)
        self._admissible = views[-1].observation.admissible_actions
        text = observation_text(views[-1].observation.text)
        return (Message(Role.TOOL, text + actions_text(self._admissible)),)

    def closing(self) -> tuple[Action, ...]:
        return ()


class _DbBenchSession:
    """All calls of a message run in order; each gets its own tool message, a broken one an error."""

    def __init__(self, env: EnvSpec, view: EpisodeView) -> None:
        self._env = env
        self._first = view
        self._answers: list[str | None] = []  # of the last turn's calls: the error, or None for "the next view's text"

    def opening(self) -> Opening:
        messages = (Message(Role.SYSTEM, prompt_text("dbbench_fc")), Message(Role.USER, self._first.observation.text))
        return Opening(messages, self._env.tools)

    def parse(self, text: str) -> ParsedTurn:
        calls = parse_tool_calls(text)
        if not calls:
            return ParsedTurn(nudge=_DBBENCH_NO_CALL)
        read = [_dbbench_action(call) for call in calls]
        self._answers = [r if isinstance(r, str) else None for r in read]
        actions = tuple(r for r in read if isinstance(r, Action))
        return ParsedTurn(actions, errors=tuple(r for r in read if isinstance(r, str)))

    def reply(self, parsed: ParsedTurn, views: Sequence[EpisodeView]) -> tuple[Message, ...]:
        if parsed.nudge:
            return (Message(Role.USER, parsed.nudge),)
        results = iter(views)
        texts = [next(results).observation.text if error is None else error for error in self._answers]
        return tuple(Message(Role.TOOL, text or _DBBENCH_NO_RESULT) for text in texts)

    def closing(self) -> tuple[Action, ...]:
        return ()


def _unknown(protocol: str, env: EnvSpec) -> ConfigError:
    return ConfigError(
        f"protocol {protocol} does not know environment {env.id}", hint=f"known: {', '.join(_MAX_TURNS)}"
    )


def _first_value(call: ToolCall) -> Any:
    """The first argument's value whatever its name, as AgentBench takes it; None where there is none."""
    return next(iter(call.arguments.values()), None) if call.arguments else None


def _dbbench_action(call: ToolCall) -> Action | str:
    if call.arguments is None:
        return _DBBENCH_BAD_CALL
    value = _first_value(call)
    if call.name == "execute_sql":
        return Action(call.name, {"query": value}) if isinstance(value, str) else _DBBENCH_BAD_CALL
    if call.name == "commit_final_answer":
        return Action(call.name, {"answers": _answers(value)}) if call.arguments else _DBBENCH_BAD_CALL
    return _DBBENCH_BAD_TOOL


def _answers(value: Any) -> str | list[Any]:
    """What was committed, in a shape that the environment takes: one text (it may spell a list), or plain values."""
    if isinstance(value, str):
        return value
    items = value if isinstance(value, list) else [value]
    return [item if item is None or isinstance(item, str | int | float) else str(item) for item in items]
