"""Both engines at once: every episode is played natively and in TextWorld, and ends where they differ."""

from __future__ import annotations

from collections.abc import Sequence

from envs.alfworld.comparison import Difference, first_disagreement
from envs.alfworld.engine import Engine, GameSource, Session
from envs.alfworld.native_engine import NativeEngine, NativeSession
from envs.errors import EngineMismatch, TaskDataError
from envs.types import Readiness

__all__ = ["BothEngine", "BothSession"]

_COMMANDS_SHOWN = 10
_HINT = "the episode has no reward; play it with engine 'textworld', and report the difference"


class BothSession:
    """An episode of both engines; what it tells is what both told."""

    def __init__(self, path: str, native: NativeSession, reference: Session) -> None:
        self._path = path
        self._native = native
        self._reference = reference
        self._played: list[str] = []
        self._failure: EngineMismatch | None = None
        self.difference: Difference | None = None

    def reset(self) -> str:
        """Begin again; the game's introduction. Raises EngineMismatch, BackendUnavailable."""
        self._check_alive()
        self._played.clear()
        return self._agreed(self._native.reset(), self._reference.reset())

    def step(self, command: str) -> tuple[str, bool]:
        """Apply a command: (what the player reads, whether the goal is reached).

        Raises EngineMismatch where the engines differ, and again at every call after that; BackendUnavailable.
        """
        self._check_alive()
        self._played.append(command)
        # The reference first: where it fails, the native state still is the one before the command.
        theirs = self._reference.step(command)[0]
        text = self._agreed(self._native.step(command)[0], theirs)
        return text, self._native.won

    def admissible(self) -> Sequence[str]:
        """Every command that the game accepts now, sorted."""
        return self._native.admissible()

    @property
    def won(self) -> bool:
        """Whether the goal is reached."""
        return self._native.won

    def state_hash(self) -> str:
        """A digest (hex) of the changing facts."""
        return self._native.state_hash()

    def close(self) -> None:
        """Give back what both hold. Idempotent."""
        self._reference.close()
        self._native.close()

    def _agreed(self, text: str, theirs: str) -> str:
        found = first_disagreement(self._native, self._reference, (text, theirs))
        if found is not None:
            where = Difference(self._path, "", 0, tuple(self._played), found.what, found.native, found.reference)
            self.difference = where
            msg = f"the native engine and TextWorld differ: {where.transcript(last=_COMMANDS_SHOWN)}"
            self._failure = EngineMismatch(msg, hint=_HINT)
            self.close()
            raise self._failure
        return text

    def _check_alive(self) -> None:
        if self._failure is not None:
            raise EngineMismatch(self._failure.message, hint=self._failure.hint)


class BothEngine:
    """Opens games in the native engine and in ``reference``, which is closed with this engine; ``native`` is not.

    Facts are compared where the reference tells them (``TextWorldEngine(with_facts=True)``).
    """

    name = "both"

    def __init__(self, native: NativeEngine, reference: Engine) -> None:
        self._native = native
        self._reference = reference

    def open(self, source: GameSource) -> BothSession:
        """A session of a game in both engines (a second or more).

        Raises: TaskDataError for a game that the native engine refuses; EngineMismatch for one that only the reference
        refuses; CapacityExceeded, BackendUnavailable.
        """
        native = self._native.open(source)
        try:
            reference = self._reference.open(source)
        except TaskDataError as error:
            msg = f"the native engine loads what {self._reference.name} refuses: {error.message}"
            raise EngineMismatch(msg, hint=_HINT) from error
        return BothSession(source.path, native, reference)

    def ready(self) -> Readiness:
        """Whether games can be opened now: as the reference says."""
        state = self._reference.ready()
        return Readiness(ready=state.ready, detail=f"native engine beside {state.detail}", hint=state.hint)

    def close(self) -> None:
        """End the reference. Idempotent."""
        self._reference.close()
