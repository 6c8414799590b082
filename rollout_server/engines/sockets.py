"""A folder for vLLM's sockets: it makes some for every engine and leaves their files where they are."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["SocketFolder"]

_VARIABLE = "VLLM_RPC_BASE_PATH"
_PREFIX = "envloop-vllm-"
_LOCK = ".lock"
_YOUNG_S = 60.0  # a folder is there a moment before it is locked
_one_at_a_time = threading.Lock()  # the variable is the whole process's


class SocketFolder:
    """A new temporary folder, in the one that ``VLLM_RPC_BASE_PATH`` names where it is set.

    It is locked for as long as its process, or one that this has forked, lives. Folders beside it whose processes were
    killed are removed.
    """

    def __init__(self) -> None:
        self.path = tempfile.mkdtemp(prefix=_PREFIX, dir=os.environ.get(_VARIABLE))
        self._lock: int | None = os.open(Path(self.path, _LOCK), os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        _remove_left(Path(self.path).parent)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Engines that start meanwhile make their sockets in here."""
        with _one_at_a_time:
            before = os.environ.get(_VARIABLE)
            os.environ[_VARIABLE] = self.path
            try:
                yield
            finally:
                if before is None:
                    del os.environ[_VARIABLE]
                else:
                    os.environ[_VARIABLE] = before

    def remove(self) -> None:
        """Remove it with what is in it. Idempotent."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _remove_left(parent: Path) -> None:
    """Remove folders that nobody holds any more. What another user's process left stays."""
    for lock in parent.glob(f"{_PREFIX}*/{_LOCK}"):
        with contextlib.suppress(OSError):
            if time.time() - lock.stat().st_mtime < _YOUNG_S:
                continue
            held = os.open(lock, os.O_RDWR)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.parent)
            finally:
                os.close(held)
