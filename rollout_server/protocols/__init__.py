"""Agent protocols: AgentBench's function-calling and classic forms, and the environment's bare words."""

from __future__ import annotations

from envs.errors import InvalidOption
from rollout_server.protocols.agentbench_classic import AgentBenchClassic
from rollout_server.protocols.agentbench_fc import AgentBenchFC
from rollout_server.protocols.bare import Bare
from rollout_server.protocols.base import AgentProtocol

__all__ = ["PROTOCOLS", "get_protocol"]

PROTOCOLS: tuple[AgentProtocol, ...] = (AgentBenchFC(), AgentBenchClassic(), Bare())


def get_protocol(name: str) -> AgentProtocol:
    """The protocol with this name. Raises InvalidOption, which lists those there are."""
    for protocol in PROTOCOLS:
        if protocol.name == name:
            return protocol
    raise InvalidOption(f"no protocol is called {name!r}", hint=f"known: {', '.join(p.name for p in PROTOCOLS)}")
