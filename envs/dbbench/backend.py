"""The seam between an episode and the database behind it: a backend begins sessions, a session belongs to one episode.

``mysql`` and ``mariadb`` are real servers (``server_backend.py``); ``sqlite`` is an approximation of them
(``sqlite_backend.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from envs.dbbench.tables import Table

__all__ = [
    "KEPT_ROWS",
    "NO_RESPONSE",
    "PUBLIC_NAME",
    "TIMED_OUT",
    "TOO_BIG",
    "TRUNCATED",
    "Backend",
    "EpisodeSession",
    "Limits",
    "StatementFailed",
    "StatementResult",
]

TIMED_OUT = "Error: SQL execution timed out."
NO_RESPONSE = "No response from database."
TRUNCATED = "[TRUNCATED]"
TOO_BIG = "1153 (08S01): Got a packet bigger than 'max_allowed_packet' bytes"
# What the policy sees and writes for its database's random name: the same actions must give the same observations.
PUBLIC_NAME = "dbbench"
KEPT_ROWS = 1000  # of a result, for whoever compares it with the gold rows


@dataclass(frozen=True, slots=True)
class Limits:
    """What a statement and an episode may cost.

    Of one statement: ``seconds``; ``rows`` and ``bytes`` of its result, beyond which nothing is fetched; ``text``,
    characters of what the policy sees; ``statement_bytes``, its own length. Of one episode: ``statements``;
    ``database_bytes``, what its tables may hold; ``database_rows``, how many rows it may write; ``session_bytes``, the
    server's memory that its session may take.
    """

    seconds: float = 60.0
    rows: int = 100_000
    bytes: int = 64 * 2**20
    text: int = 800
    statement_bytes: int = 2**20
    statements: int = 1000
    database_bytes: int = 64 * 2**20
    database_rows: int = 1_000_000
    session_bytes: int = 256 * 2**20


@dataclass(frozen=True, slots=True)
class StatementResult:
    """What the policy sees of a statement. ``valid`` False: an error of the database or a limit that ended it.

    ``limits`` names those fields of ``Limits`` that it met. ``rows`` are the first ``KEPT_ROWS`` of its result, as
    Python values; nobody but the environment reads them.
    """

    text: str
    valid: bool
    seconds: float
    limits: tuple[str, ...] = ()
    rows: Sequence[tuple[Any, ...]] = ()


class StatementFailed(Exception):
    """The database refused a statement: its own words, and its number of the error (0: ours)."""

    def __init__(self, words: str, code: int = 0) -> None:
        super().__init__(words)
        self.code = code


class EpisodeSession(Protocol):
    """An episode's database with a session on it. Not shared between threads."""

    @property
    def backend(self) -> str:
        """``mysql``, ``mariadb`` or ``sqlite``."""
        ...

    def load(self, tables: Iterable[Table]) -> None:
        """Create the task's tables. Raises TaskDataError, InfrastructureError."""
        ...

    def execute(self, statement: str) -> StatementResult:
        """Run a statement of the policy. Raises InfrastructureError where the database, not the statement, failed."""
        ...

    def rows_of(self, table: str, columns: Iterable[str]) -> Iterator[str | bytes | None]:
        """``CONCAT_WS(',', …)`` of every row. Raises StatementFailed where the table cannot be read, also in time;
        BackendUnavailable where that is no fault of the policy's.
        """
        ...

    def renew(self) -> None:
        """End the session, with its variables and temporary tables; the next statement opens a new one."""
        ...

    def close(self) -> None:
        """End the session and drop the database. Idempotent."""
        ...


@runtime_checkable
class Backend(Protocol):
    """Where episodes get their databases. Thread-safe."""

    def start(self) -> None:
        """Start what it needs. Idempotent. Raises BackendUnavailable, ConfigError."""
        ...

    def version(self) -> str:
        """What it calls itself, as in ``10.11.6-MariaDB``. Starts it where needed."""
        ...

    def begin(self, limits: Limits, *, seed: int = 0) -> EpisodeSession:
        """A session on a new, empty database. ``seed`` is RAND()'s.

        Raises CapacityExceeded, BackendUnavailable.
        """
        ...

    @property
    def live(self) -> int:
        """How many databases there are now."""
        ...

    def figures(self) -> Mapping[str, float]:
        """How many databases are live and made ahead, servers there are and in use. Must not block."""
        ...

    def problem(self) -> str:
        """Why no episode can begin now, or an empty text. Cheap."""
        ...

    def close(self) -> None:
        """Drop what is live and end what is ours. Idempotent."""
        ...
