"""Views of episodes for tests of protocols, without a server."""

from __future__ import annotations

from typing import Any

from envs.registry import ALFWORLD, DBBENCH
from envs.types import EnvSpec, EpisodeStatus, Observation, Task
from envs.wire import EpisodeView

__all__ = ["QUESTION", "ROOM", "alfworld_view", "dbbench_view"]

ROOM = (
    "-= Welcome to TextWorld, ALFRED! =-\n\nYou are in the middle of a room. Looking quickly around you, you see a "
    "fridge 1, and a shelf 1.\n\nYour task is to: put some mug on fridge."
)
QUESTION = "Additional table information about the question: The table is t.\nQuestion: How many?\n"


def _view(spec: EnvSpec, type: str, text: str, actions: tuple[str, ...], **changes: Any) -> EpisodeView:
    facts = {"description": "How many?", "add_description": "The table is t."} if spec is DBBENCH else {}
    values: dict[str, Any] = {
        "id": "ep_1",
        "env": spec.name,
        "task": Task(spec.name, "generated/1", "generated", type, "0" * 64, facts),
        "seed": 0,
        "options": {},
        "status": EpisodeStatus.RUNNING,
        "steps": 0,
        "observation": Observation(text, actions),
        "reward": 0.0,
        "terminated": False,
        "truncated": False,
        "valid": True,
        "state_hash": "",
        "info": {},
    }
    return EpisodeView(**values | changes)


def alfworld_view(text: str = ROOM, actions: tuple[str, ...] = (), **changes: Any) -> EpisodeView:
    """A view of a household."""
    return _view(ALFWORLD, "pick_and_place_simple", text, actions, **changes)


def dbbench_view(text: str = QUESTION, type: str = "counting", **changes: Any) -> EpisodeView:
    """A view of a database episode."""
    return _view(DBBENCH, type, text, (), **changes)
