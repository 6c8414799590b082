"""AgentBench's classic text protocol (v0.2) for ALFWorld and DB Bench: no tools, actions as lines of text.

Source: AgentBench v0.2, ``src/server/tasks/alfworld/task.py`` and ``src/server/tasks/dbbench/__init__.py``; prompts and
examples are its own. Two things differ, and both are the same for every model:

- A system message goes first, since some chat templates would otherwise put in one of their own.
- The original removes the list of available actions from the previous ALFWorld message as soon as the next is written.
  That rewrites history, and tokens here are append-only. Instead less is shown from the start: the first message has
  the whole list, later ones only the actions that the first has not (its ``go to`` lines hold all along). Actions are
  matched against the whole list, as in the original.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from envs.client import EpisodeView
from envs.errors import ConfigError, InvalidOption
from envs.types import Action, EnvSpec, EpisodeStatus, JsonObject, Observation
from rollout_server.constraints import Constrain, Constraint
from rollout_server.protocols.admissible import admissible_constraint
from rollout_server.protocols.alfworld_text import actions_text, intro_text, match_action, observation_text, repeats
from rollout_server.protocols.base import Opening, ParsedTurn, ProtocolSession
from rollout_server.protocols.prompts import prompt_text, worked_example
from rollout_server.types import Message, Role

__all__ = ["AgentBenchClassic"]

_SYSTEM = Message(Role.SYSTEM, "You are a helpful assistant.")

_ALFWORLD_OK = "OK. I'll follow your instructions and try my best to solve the task."
_ALFWORLD_ACTION = re.compile(r"ACTION:(.*)")

_DBBENCH_ACTION = re.compile(r"Action: (.*?)\n")
_DBBENCH_SQL = re.compile(r"```sql\n([\s\S]*?)\n```")
_DBBENCH_ANSWER = re.compile(r"\nFinal Answer:(.*)")
_MUTATIONS = ("INSERT", "UPDATE", "DELETE")
_MAX_TURNS = {"alfworld": 35, "dbbench": 15}


class AgentBenchClassic:
    """The protocol of AgentBench's paper: an instruction, "OK", for ALFWorld one worked example of the task's type."""

    name = "agentbench_classic"

    def max_turns(self, env: EnvSpec) -> int:
        """35 for ALFWorld, 15 for DB Bench."""
        if env.name not in _MAX_TURNS:
            raise _unknown(self.name, env)
        return _MAX_TURNS[env.name]

    def env_options(self, env: EnvSpec) -> JsonObject:
        """DB Bench is scored by the classic rules."""
        return {"rules": "classic"} if env.name == "dbbench" else {}

    def session(self, env: EnvSpec, view: EpisodeView) -> ProtocolSession:
        """Begin an episode. Raises ConfigError for any other environment."""
        if env.name == "alfworld":
            return _AlfworldSession(env, view)
        if env.name == "dbbench":
            return _DbBenchSession(env, view)
        raise _unknown(self.name, env)

    def render_action(self, env: EnvSpec, action: Action, thought: str = "") -> str:
        """The action as the instruction asks for it; a thought goes before it."""
        value = next(iter(action.arguments.values()), "")
        if env.name == "alfworld":
            return f"THOUGHT: {thought}\n ACTION: {value}\n" if thought else f"ACTION: {value}\n"
        before = f"{thought}\n" if thought else ""
        if action.name == "execute_sql":
            return f"{before}Action: Operation\n```sql\n{value}\n```"
        answers = value if isinstance(value, str) else json.dumps(list(value), ensure_ascii=False)
        return f"{before}Action: Answer\nFinal Answer: {answers}"

    def constraint(self, env: EnvSpec, kind: Constrain, observation: Observation | None = None) -> Constraint | None:
        """A line with one of the admissible commands and nothing else. There are no tools."""
        if kind is Constrain.TOOLS:
            raise InvalidOption(f"{self.name} has no tools to constrain to", hint="agentbench_fc has")
        return admissible_constraint(self, env, kind, observation)


class _AlfworldSession:
    def __init__(self, env: EnvSpec, view: EpisodeView) -> None:
        self._env = env
        self._first = view
        self._listed = frozenset(view.observation.admissible_actions)
        self._admissible = view.observation.admissible_actions
        self._outputs: list[str] = []

    def opening(self) -> Opening:
        start, *example = worked_example(self._first.task.type)
        texts = (prompt_text("alfworld_classic"), _ALFWORLD_OK, f"Here is one example.\n{start}", *example)
        goal = f"Here is your task. {intro_text(self._first.observation.text)}{actions_text(self._admissible)}"
        turns = (Message((Role.USER, Role.ASSISTANT)[i % 2], text) for i, text in enumerate((*texts, goal)))
        return Opening((_SYSTEM, *turns))

    def parse(self, text: str) -> ParsedTurn:
        found = _ALFWORLD_ACTION.search(text)
        if found is None:
            return ParsedTurn(ends=EpisodeStatus.INVALID_ACTION)
        self._outputs.append(text)
        if repeats(self._outputs):
            return ParsedTurn(ends=EpisodeStatus.REPETITION)
        tool = self._env.tools[0]
        argument = next(iter(tool.parameters["properties"]))
        return ParsedTurn((Action(tool.name, {argument: match_action(found[1], self._admissible)}),))

    def reply(self, parsed: ParsedTurn, views: Sequence[EpisodeView]) -> tuple[Message, ...]:
        self._admissible = views[-1].observation.admissible_actions
        new = [action for action in self._admissible if action not in self._listed]
        return (Message(Role.USER, observation_text(views[-1].observation.text) + actions_text(new)),)

    def closing(self) -> tuple[Action, ...]:
        return ()


class _DbBenchSession:
    """One statement or one answer a turn; what fits no pattern ends the episode. The environment reads the answer."""

    def __init__(self, env: EnvSpec, view: EpisodeView) -> None:
        self._env = env
        self._first = view

    def opening(self) -> Opening:
        facts = self._first.task.metadata
        task = f"{facts.get('description', '')}\n{facts.get('add_description', '')}"
        return Opening(
            (
                _SYSTEM,
                Message(Role.USER, prompt_text("dbbench_classic")),
                Message(Role.ASSISTANT, "Ok."),
                Message(Role.USER, task),
            )
        )

    def parse(self, text: str) -> ParsedTurn:
        kind = _DBBENCH_ACTION.search(text)
        if kind is not None and kind[1] == "Operation":
            block = _DBBENCH_SQL.search(text)
            if block is None:
                return ParsedTurn(ends=EpisodeStatus.INVALID_ACTION)
            return ParsedTurn((Action("execute_sql", {"query": block[1].strip().replace("\n", " ")}),))
        answer = _DBBENCH_ANSWER.search(text)
        if answer is None:
            return ParsedTurn(ends=EpisodeStatus.INVALID_ACTION)
        return ParsedTurn((Action("commit_final_answer", {"answers": answer[1]}),))

    def reply(self, parsed: ParsedTurn, views: Sequence[EpisodeView]) -> tuple[Message, ...]:
        return (Message(Role.USER, views[-1].observation.text),)

    def closing(self) -> tuple[Action, ...]:
        """A change to the table is judged even without a final answer."""
        if self._first.task.type not in _MUTATIONS:
            return ()
        return (Action("commit_final_answer", {"answers": []}),)


def _unknown(protocol: str, env: EnvSpec) -> ConfigError:
    return ConfigError(
        f"protocol {protocol} does not know environment {env.id}", hint=f"known: {', '.join(_MAX_TURNS)}"
    )
