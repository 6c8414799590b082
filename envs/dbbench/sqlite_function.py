"""What SQLite is taught of a MySQL function: how its arguments are read, what it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from envs.dbbench.sqlite_errors import failed
from envs.dbbench.sqlite_values import as_int, as_number, as_text

__all__ = ["MAX_TEXT", "Function", "bounded"]

MAX_TEXT = 16 * 2**20  # bytes of one value, MySQL's max_allowed_packet in effect
_READS: dict[str, Callable[[Any], Any] | None] = {"t": as_text, "n": as_number, "i": as_int, "v": None}


@dataclass(frozen=True, slots=True)
class Function:
    """A function: how many arguments (``most`` -1: any number), how each is read, its result's type.

    ``takes`` has a letter for each argument, the last for all further: ``t`` text, ``n`` number, ``i`` integer, ``v``
    as it is. A NULL makes NULL unless ``nulls``. ``inner`` ones cannot be called by name.
    """

    run: Callable[..., Any]
    least: int
    most: int
    takes: str
    gives: str
    nulls: bool = False
    inner: bool = False
    pure: bool = True

    def bound(self) -> Callable[..., Any]:
        """What SQLite calls."""
        run, nulls = self.run, self.nulls
        reads = [_READS[letter] for letter in self.takes]
        if all(read is None for read in reads):
            if nulls:
                return run
            return lambda *given: None if None in given else run(*given)
        last = reads[-1]

        def call(*given: Any) -> Any:
            if not nulls and None in given:
                return None
            read = [
                value if value is None or (how := reads[at] if at < len(reads) else last) is None else how(value)
                for at, value in enumerate(given)
            ]
            return run(*read)

        return call


def bounded(length: int) -> None:
    """Refuse a text that MySQL would not make. Raises StatementFailed (1301)."""
    if length > MAX_TEXT:
        raise failed(1301, f"Result of function was larger than max_allowed_packet ({MAX_TEXT}) - truncated")
