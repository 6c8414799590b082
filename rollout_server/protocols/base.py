"""The seam of an agent protocol: how a task is put to a policy in words, and how its words become actions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from envs.client import EpisodeView
from envs.types import Action, EnvSpec, EpisodeStatus, JsonObject, Observation, ToolSpec
from rollout_server.constraints import Constrain, Constraint
from rollout_server.types import Message

__all__ = ["AgentProtocol", "Opening", "ParsedTurn", "ProtocolSession"]


@dataclass(frozen=True, slots=True)
class Opening:
    """The first prompt: its messages and the tools that the system message offers (none in text protocols)."""

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class ParsedTurn:
    """What a completion's text asks for.

    ``actions`` run in order. ``errors`` are texts for calls that could not be read (bad JSON, unknown tool). ``nudge``
    is what the protocol says to a turn without any action. ``ends`` ends the episode by the protocol's own rule.
    """

    actions: tuple[Action, ...] = ()
    errors: tuple[str, ...] = ()
    nudge: str = ""
    ends: EpisodeStatus | None = None


class ProtocolSession(Protocol):
    """One episode's protocol state."""

    def opening(self) -> Opening:
        """The first prompt's messages."""
        ...

    def parse(self, text: str) -> ParsedTurn:
        """Read a completion (its end-of-turn token already removed). Never evaluates anything."""
        ...

    def reply(self, parsed: ParsedTurn, views: Sequence[EpisodeView]) -> tuple[Message, ...]:
        """The messages that answer a turn, given the environment's view after each of its actions."""
        ...

    def closing(self) -> tuple[Action, ...]:
        """What the protocol itself still does in the environment when a limit or its own rule ends the episode.

        AgentBench's classic DB Bench judges a change to the table even without an answer.
        """
        ...


@runtime_checkable
class AgentProtocol(Protocol):
    """A named protocol. ``max_turns(env)`` is its limit of turns for an environment."""

    name: str

    def max_turns(self, env: EnvSpec) -> int:
        """The published limit of turns (AgentBench)."""
        ...

    def env_options(self, env: EnvSpec) -> JsonObject:
        """Reset options that belong to the protocol (its scoring rules); those of a request go over them."""
        ...

    def session(self, env: EnvSpec, view: EpisodeView) -> ProtocolSession:
        """Begin an episode. Raises ConfigError where the protocol does not know the environment."""
        ...

    def render_action(self, env: EnvSpec, action: Action, thought: str = "") -> str:
        """An action as a policy would write it, after its thought: what scripted engines say, and SFT learns from."""
        ...

    def constraint(self, env: EnvSpec, kind: Constrain, observation: Observation | None = None) -> Constraint | None:
        """The grammar of a turn, in the protocol's own frame; None where turns are free.

        Without an observation it only says whether the environment can be so constrained. Raises InvalidOption where it
        cannot.
        """
        ...
