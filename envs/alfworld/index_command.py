"""What ``envloop env index alfworld`` prints: an index brought up to date, and what each split holds."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

from envs.alfworld.listing import SplitFiles
from envs.alfworld.official import Progress
from envs.alfworld.tasks import Tasks
from envs.config import EnvServerSettings
from envs.registry import ALFWORLD

__all__ = ["index_games"]

_SHOWN = 3


def index_games(data_dir: Path | None, *, progress: Progress, as_json: bool) -> list[str]:
    """Index the games of a folder (default: the server's setting); the lines to print.

    Raises ConfigError where there are no official games.
    """
    settings = EnvServerSettings.load().alfworld
    folder = data_dir or settings.data_dir
    tasks = Tasks(ALFWORLD.name, ALFWORLD.task_types, folder, index_dir=settings.index_dir, dialect=settings.dialect)
    try:
        files = tasks.build_index(progress)
        path = tasks.index_path
    finally:
        tasks.close()
    if as_json:
        return [json.dumps(dataclasses.asdict(found)) for found in files]
    lines = [line for found in files for line in _describe(found)]
    return [
        *lines,
        f"the index is {path}" if path else "the index could not be written: every start reads the games again",
    ]


def _describe(files: SplitFiles) -> Iterator[str]:
    yield f"{files.split:<22} {files.num_games:>5} of {files.num_expected} games are here"
    for reason, count in sorted(files.skipped.items()):
        yield f"  left out, as alfworld does: {count} ({reason})"
    if files.num_others:
        yield f"  left out: {files.num_others} that are none of ALFWorld's {files.split}"
    for why in files.refused.values():
        yield f"  refused: {why}"
    if files.num_games:
        yield from (f"  missing: {name}" for name in files.missing[:_SHOWN])
        if len(files.missing) > _SHOWN:
            yield f"  missing: {len(files.missing) - _SHOWN} more; --json names all"
