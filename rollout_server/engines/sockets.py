"""A folder for vLLM's sockets: it makes some for every engine and leaves their files where they are."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["SocketFolder"]

_VARIABLE = "VLLM_RPC_BASE_PATH"
_one_at_a_time = threading.Lock()  # the variable is the whole process's


class SocketFolder:
    """A new temporary folder, in the one that ``VLLM_RPC_BASE_PATH`` names where it is set."""

    def __init__(self) -> None:
        self.path = tempfile.mkdtemp(prefix="envloop-vllm-", dir=os.environ.get(_VARIABLE))

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
