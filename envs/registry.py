"""Which environments there are, by versioned spec. Nothing is imported before it is made."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from typing import Any

from envs.base import EnvFamily
from envs.errors import ConfigError, UnknownEnv
from envs.types import EnvSpec, ToolSpec

__all__ = ["ALFWORLD", "DBBENCH", "Registry", "default_registry"]

ALFWORLD = EnvSpec(
    name="alfworld",
    version=1,
    description="ALFWorld text household games (json_2.1.1 files and generated ones), native engine",
    tools=(
        ToolSpec(
            name="take_action",
            description="Take an action.",
            parameters={
                "type": "object",
                "properties": {"action": {"type": "string", "description": "The action you would like to take."}},
                "required": ["action"],
            },
        ),
    ),
    task_types=(
        "pick_and_place_simple",
        "look_at_obj_in_light",
        "pick_clean_then_place_in_recep",
        "pick_heat_then_place_in_recep",
        "pick_cool_then_place_in_recep",
        "pick_two_obj_and_place",
    ),
    max_steps=50,
    blocking=False,
    entry_point="envs.alfworld.family:AlfworldFamily",
)

DBBENCH = EnvSpec(
    name="dbbench",
    version=1,
    description="AgentBench's DB Bench: questions and changes on a MySQL database of the episode's own",
    tools=(
        ToolSpec(
            name="execute_sql",
            description="Executes a given SQL statement on the database and returns the result.",
            parameters={
                "type": "object",
                "properties": {"query": {"type": "string", "description": "The SQL statement to execute."}},
                "required": ["query"],
            },
        ),
        ToolSpec(
            name="commit_final_answer",
            description="Commits the final answer after all operations are completed.",
            parameters={
                "type": "object",
                "properties": {
                    "answers": {"type": "array", "items": {"type": "string"}, "description": "The final answers."}
                },
                "required": ["answers"],
            },
        ),
    ),
    task_types=(
        "other",
        "counting",
        "comparison",
        "ranking",
        "aggregation-SUM",
        "aggregation-MIN",
        "aggregation-MAX",
        "aggregation-AVG",
        "INSERT",
        "UPDATE",
        "DELETE",
    ),
    max_steps=60,
    blocking=True,
    entry_point="envs.dbbench.family:DbBenchFamily",
)


class Registry:
    """Specs by name. ``make`` imports the entry point (``module:class``) and calls it with its settings."""

    def __init__(self, specs: Iterable[EnvSpec] = ()) -> None:
        self._specs: dict[str, EnvSpec] = {}
        for spec in specs:
            self.register(spec)

    def register(self, spec: EnvSpec) -> None:
        """Add a spec. Raises ConfigError where the name is taken."""
        if spec.name in self._specs:
            raise ConfigError(f"environment {spec.name!r} is registered twice", hint="give one of them another name")
        self._specs[spec.name] = spec

    def __iter__(self) -> Iterator[EnvSpec]:
        return iter(self._specs.values())

    def spec(self, name: str) -> EnvSpec:
        """The spec by name (``alfworld``) or versioned id (``alfworld-v1``). Raises UnknownEnv."""
        for spec in self._specs.values():
            if name in (spec.name, spec.id):
                return spec
        raise UnknownEnv(f"no environment is called {name!r}", hint=f"known: {', '.join(s.id for s in self)}")

    def make(self, name: str, **settings: Any) -> EnvFamily:
        """Import and build a family. Raises UnknownEnv, ConfigError, InfrastructureError."""
        spec = self.spec(name)
        module, _, attribute = spec.entry_point.partition(":")
        family: EnvFamily = getattr(importlib.import_module(module), attribute)(spec, **settings)
        return family


def default_registry() -> Registry:
    """A new registry with the environments of this package."""
    return Registry((ALFWORLD, DBBENCH))
