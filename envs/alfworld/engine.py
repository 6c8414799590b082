"""The seam between an ALFWorld episode and what plays it: the native engine, TextWorld as its judge, or both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from envs.alfworld.game import Game, GameData
from envs.types import Readiness

__all__ = ["ENGINES", "Engine", "GameSource", "Session"]

# The engines by name; the first is the default.
ENGINES = ("native", "textworld", "both")


@dataclass(frozen=True, slots=True)
class GameSource:
    """A game as an engine opens it: its content hash, its path for messages, and how to get its JSON, which an engine
    that knows the game already never asks for. ``load`` raises TaskDataError.

    ``load_packed`` gives the same game as ``envs.alfworld.packed.pack_game`` wrote it, ``build`` makes it without any
    file; None where that cannot be.
    """

    content_hash: str
    path: str
    load: Callable[[], GameData]
    load_packed: Callable[[], bytes] | None = None
    build: Callable[[], Game] | None = None


class Session(Protocol):
    """One episode of one game. Used by one thread at a time."""

    def reset(self) -> str:
        """Begin again; the game's introduction."""
        ...

    def step(self, command: str) -> tuple[str, bool]:
        """Apply a command: (what the player reads, whether the goal is reached). Never raises for a command's text."""
        ...

    def admissible(self) -> Sequence[str]:
        """Every command that the game accepts now, sorted."""
        ...

    @property
    def won(self) -> bool:
        """Whether the goal is reached."""
        ...

    def state_hash(self) -> str:
        """A digest (hex) of the state, equal on every machine; "" where the engine cannot tell cheaply."""
        ...

    def close(self) -> None:
        """Give back what the session holds. Idempotent."""
        ...


@runtime_checkable
class Engine(Protocol):
    """Something that plays games. Thread-safe."""

    name: str

    def open(self, source: GameSource) -> Session:
        """A session of a game, to be reset before its first step.

        Raises: TaskDataError for a game that the engine refuses; CapacityExceeded; BackendUnavailable.
        """
        ...

    def ready(self) -> Readiness:
        """Whether games can be opened now."""
        ...

    def close(self) -> None:
        """End everything that the engine started. Idempotent."""
        ...
