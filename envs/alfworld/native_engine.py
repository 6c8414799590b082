"""The default engine: ALFWorld's rules in Python, exact to the word, microseconds a step. TextWorld is its judge."""

from __future__ import annotations

import logging

from envs.alfworld.engine import GameSource
from envs.alfworld.game import Game, parse_game
from envs.alfworld.keep import Keep
from envs.alfworld.packed import unpack_game
from envs.alfworld.pddl import GameFormatError
from envs.alfworld.text import introduction
from envs.errors import ConfigError
from envs.types import Readiness

__all__ = ["NativeEngine", "NativeSession"]

logger = logging.getLogger(__name__)


class NativeSession:
    """An episode of the native engine."""

    def __init__(self, game: Game) -> None:
        self.game = game
        self.state = game.start()

    def reset(self) -> str:
        """Begin again; the game's introduction."""
        self.state = self.game.start()
        return introduction(self.state)

    def step(self, command: str) -> tuple[str, bool]:
        """Apply a command: (what the player reads, whether the goal is reached)."""
        return self.state.step(command)

    def admissible(self) -> tuple[str, ...]:
        """Every command that the game accepts now, sorted."""
        return self.state.admissible()

    @property
    def won(self) -> bool:
        """Whether the goal is reached."""
        return self.state.won

    def state_hash(self) -> str:
        """A digest (hex) of the changing facts."""
        return self.state.hash()

    def clone(self) -> NativeSession:
        """An independent session in the same state."""
        copy = NativeSession.__new__(NativeSession)
        copy.game, copy.state = self.game, self.state.clone()
        return copy

    def close(self) -> None:
        """Nothing is held."""


class NativeEngine:
    """Opens games natively. Parsed games are kept by content hash, the least recently used ones forgotten first."""

    name = "native"

    def __init__(self, *, cache_size: int = 256) -> None:
        if cache_size < 1:
            msg = f"cache_size must be at least 1, not {cache_size}"
            raise ConfigError(msg)
        self._games: Keep[str, Game] = Keep(cache_size)

    def open(self, source: GameSource) -> NativeSession:
        """A session of a game. Raises TaskDataError for a game that is broken or beyond this engine."""
        return NativeSession(self.game(source))

    def game(self, source: GameSource) -> Game:
        """The parsed game; parsed once for all who ask for it side by side. Raises TaskDataError."""
        return self._games.get(source.content_hash, lambda: _load(source))

    def ready(self) -> Readiness:
        """Always."""
        return Readiness(ready=True, detail="native engine")

    def close(self) -> None:
        """Forget the parsed games."""
        self._games.clear()


def _load(source: GameSource) -> Game:
    """As it is made, where it is made here; from the index where that has the game; else from its file."""
    if source.build is not None:
        return source.build()
    packed = source.load_packed() if source.load_packed is not None else None
    if packed is not None:
        try:
            return unpack_game(packed)
        except GameFormatError as error:  # an index of another version: the file says the same
            logger.warning("%s: %s; reading the game's file", source.path, error)
    return parse_game(source.load(), path=source.path)
