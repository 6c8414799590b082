"""What of a run may go: checkpoints hold an optimizer's state, twice the adapter, for nothing but resuming."""

from __future__ import annotations

import shutil
from pathlib import Path

from envs.errors import ConfigError
from trainer.runs import Run, best_adapter, is_running

__all__ = ["delete", "to_prune"]


def to_prune(run: Run, *, whole: bool = False) -> list[tuple[Path, int]]:
    """The folders that may go, with their bytes: checkpoints but for the newest and the best, or the ``whole`` run.

    Raises ConfigError for a run that goes on.
    """
    if is_running(run):
        raise ConfigError(f"the run {run.name} goes on (process {run.status.pid})", hint="wait for its end, or stop it")
    if whole:
        return [(run.folder, _size(run.folder))]
    best = best_adapter(run)
    found = sorted(run.folder.glob("checkpoint-*"), key=lambda p: int(p.name.partition("-")[2] or 0))
    kept = {*found[-1:], *((best.adapter.path,) if best else ())}
    return [(p, _size(p)) for p in found if p not in kept]


def delete(path: Path) -> None:
    """Remove a folder."""
    shutil.rmtree(path)


def _size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
