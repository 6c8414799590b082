"""AgentBench's own prompts, read from ``data/agentbench.json`` (Apache-2.0, see ``data/NOTICE``)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from envs.errors import ConfigError

__all__ = ["prompt_text", "worked_example"]


@cache
def _prompts() -> Mapping[str, Any]:
    path = resources.files("rollout_server.protocols") / "data" / "agentbench.json"
    prompts: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return prompts


def prompt_text(name: str) -> str:
    """``alfworld_fc``, ``dbbench_fc``: system prompts; ``alfworld_classic``, ``dbbench_classic``: instructions."""
    text: str = _prompts()[name]
    return text


def worked_example(task_type: str) -> Sequence[str]:
    """The classic example for an ALFWorld task type: user and assistant texts in turn. Raises ConfigError."""
    examples: Mapping[str, Sequence[str]] = _prompts()["alfworld_examples"]
    if task_type not in examples:
        known = ", ".join(examples)
        raise ConfigError(f"there is no worked example for task type {task_type!r}", hint=f"known: {known}")
    return examples[task_type]
