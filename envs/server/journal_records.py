"""What the journal holds: an episode's beginning, its steps, and where it stands."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Begun", "Ended", "Head", "Kept", "Taken"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """An episode's beginning. ``key`` is the asker's idempotency key, ``asked`` a digest of what was asked with it."""

    id: str
    key: str | None
    asked: str
    env: str
    task_id: str
    content_hash: str
    seed: int
    options: bytes  # JSON
    origin: str | None
    origin_step: int
    first_digest: int
    steps: Sequence[tuple[int, bytes]] = ()  # digest and action of those that it was forked with


@dataclass(frozen=True, slots=True)
class Taken:
    """A step: its number counts from 0. ``ending``: status, reason and last view of the episode that it ended."""

    episode_id: str
    number: int
    digest: int
    action: bytes  # JSON
    ending: tuple[str, str, bytes] | None = None
    at: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class Ended:
    """An episode's end without a step: it has ended after so many. ``failure``: JSON of the error that ended it."""

    episode_id: str
    steps: int
    status: str
    reason: str
    failure: bytes | None
    final: bytes | None
    at: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class Head:
    """Where an episode stands."""

    status: str
    steps: int
    touched_at: float  # seconds since 1970, by the clock of the server that wrote it


@dataclass(frozen=True, slots=True)
class Kept:
    """All that is known of an episode."""

    begun: Begun
    head: Head
    reason: str
    failure: bytes | None  # JSON of the error that ended it
    final: bytes | None  # JSON of its last view, where it has ended with one
    steps: Sequence[tuple[int, bytes]]  # digest and action, in order
