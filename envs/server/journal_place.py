"""Where a server keeps its journal when no address is set."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import platformdirs
from pydantic import SecretStr

from envs.config import EnvServerSettings

__all__ = ["kept_journal"]

logger = logging.getLogger(__name__)

_PREFIX = "envloop-journal-"
_YOUNG_S = 60.0  # a folder is made first and locked then


@contextlib.contextmanager
def kept_journal(settings: EnvServerSettings) -> Iterator[EnvServerSettings]:
    """The settings with the journal's address: a file of the port's own, or a passing one where any port will do.

    A passing one is gone with the server; what a killed server left is removed by the next.
    """
    if settings.journal_url is not None:
        yield settings
        return
    with contextlib.ExitStack() as stack:
        path = None if settings.port == 0 else _file_of(settings.port)
        if path is None:
            path = stack.enter_context(_passing_folder()) / "journal.sqlite"
        yield settings.model_copy(update={"journal_url": SecretStr(f"sqlite:///{path}")})


def _file_of(port: int) -> Path | None:
    """The port's file in the cache folder, readable by its owner alone; None, said aloud, where it cannot be."""
    chosen = os.environ.get("ENVLOOP_CACHE_DIR")
    base = Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("envloop"))
    path = base / "journal" / f"{port}.sqlite"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError as error:
        logger.warning("episodes will not outlive this server: no journal can be kept at %s: %s", path, error)
        return None
    return path


@contextlib.contextmanager
def _passing_folder() -> Iterator[Path]:
    for old in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError), _locked(old, wait=False):  # another's, or still in use
            if time.time() - old.stat().st_mtime > _YOUNG_S:
                shutil.rmtree(old)
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder, _locked(Path(folder), wait=True):
        yield Path(folder)


@contextlib.contextmanager
def _locked(folder: Path, *, wait: bool) -> Iterator[None]:
    """Hold a folder's lock, which ends with the processes that hold it. Raises OSError where it is held already."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)
