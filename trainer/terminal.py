"""What a long command shows on a terminal while it works, and where the noise of libraries goes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

__all__ = ["busy", "stderr_to"]


def busy(console: Console, text: str) -> AbstractContextManager[Any]:
    """A spinner beside a text for as long as the context lasts; two lines where nothing can turn."""
    return console.status(f"{text} …") if console.is_terminal else _Said(console, text)


@contextmanager
def stderr_to(path: Path) -> Iterator[None]:
    """Send this process's error output, and for good that of the processes started inside, to a file.

    vLLM and what it imports report on each of their processes: of use where something fails, and in the way here.
    """
    sys.stderr.flush()
    before = os.dup(2)
    with path.open("ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(before, 2)
        os.close(before)


class _Said:
    """Where no spinner can turn: one line before, one after."""

    def __init__(self, console: Console, text: str) -> None:
        self._console = console
        self._text = text

    def __enter__(self) -> None:
        self._console.print(f"{self._text} …")
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._console.print(f"  {time.perf_counter() - self._start:.0f} s")
