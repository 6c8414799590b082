"""Stored episodes as one file for other tools: streamed, and there either whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from envs.errors import ConfigError, InvalidOption
from envs.types import SplitRole, Task
from rollout_server.export_agentbench import agentbench_row
from rollout_server.export_messages import chat_row
from rollout_server.serialize import dumps, episode_to_json
from rollout_server.types import Episode

__all__ = ["EXPORT_FORMATS", "ExportReport", "atomic_file", "export_episodes", "split_role"]

EXPORT_FORMATS = ("jsonl", "chat", "agentbench", "parquet")
"""``jsonl``: whole episodes; ``chat``: messages and tools for supervised fine-tuning; ``agentbench``: ``runs.jsonl``;
``parquet``: typed columns with every token."""

_TRAINED_ON = ("chat", "parquet")


@dataclass(slots=True)
class ExportReport:
    """How many episodes were written, and how many were not, by the reason. ``splits`` that the file holds."""

    written: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)

    def line(self) -> str:
        """The report as a sentence."""
        parts = [f"{self.written} episodes"]
        if self.splits:
            parts.append("of " + ", ".join(f"{name} ({count})" for name, count in sorted(self.splits.items())))
        parts += [f"; {count} left out: {reason}" for reason, count in sorted(self.left_out.items())]
        return " ".join(parts).replace(" ;", ";")


def export_episodes(
    episodes: Iterable[Episode], format: str, output: Path | TextIO, *, allow_eval_splits: Sequence[str] = ()
) -> ExportReport:
    """Write the episodes as ``format`` (``EXPORT_FORMATS``) to a file, or, those of text, to an open stream.

    A file that was there stays until the new one is whole. ``chat`` and ``parquet`` are made to be trained on: an
    episode of an evaluation split ends them, unless ``allow_eval_splits`` names its split (``env/split`` or ``split``).
    Raises: InvalidOption for the format; ConfigError for such a split, a folder that is not there, or pyarrow missing.
    """
    if format not in EXPORT_FORMATS:
        raise InvalidOption(f"no format {format!r}", hint=f"known: {', '.join(EXPORT_FORMATS)}")
    report = ExportReport()
    checked = _checked(episodes, allow_eval_splits) if format in _TRAINED_ON else episodes
    if format == "parquet":
        if not isinstance(output, Path):
            raise InvalidOption("parquet needs a file", hint="-o episodes.parquet")
        from rollout_server.export_parquet import write_parquet

        with atomic_file(output) as path:
            write_parquet(_counted(checked, report), path)
        return report
    if not isinstance(output, Path):
        _write_lines(checked, format, output, report)
        return report
    with atomic_file(output) as path, path.open("w", encoding="utf-8", newline="\n") as file:
        _write_lines(checked, format, file, report)
    return report


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A file beside ``path`` to write to; it takes that name when the context ends well, else it is removed.

    Raises ConfigError where the folder is missing or cannot be written.
    """
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}", hint="name a folder that is there") from error
    os.close(descriptor)
    part = Path(name)
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        part.chmod(0o666 & ~mask)  # as open() would have made it, where mkstemp makes it the owner's alone
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def split_role(env: str, split: str) -> SplitRole:
    """What a split is for, by its name. Of an environment or a name that nobody knows the stricter is held."""
    if env == "alfworld":
        from envs.alfworld.tasks import split_role as alfworld_role

        return alfworld_role(split)
    if env == "dbbench":
        from envs.dbbench.shaping import trains

        return SplitRole.TRAIN if trains(split) else SplitRole.EVALUATION
    return SplitRole.EVALUATION


def _checked(episodes: Iterable[Episode], allow: Sequence[str]) -> Iterator[Episode]:
    roles: dict[tuple[str, str], SplitRole] = {}
    for episode in episodes:
        for split in _splits(episode.task):
            key = (episode.env, split)
            if key not in roles:
                roles[key] = split_role(*key)
            if roles[key] is not SplitRole.TRAIN and not {split, f"{episode.env}/{split}"} & set(allow):
                raise ConfigError(
                    f"episode {episode.id} is of {episode.env}/{split}, an evaluation split: trained on, its scores "
                    "are worthless",
                    hint=f"filter it out, or name it: --allow-eval-split {episode.env}/{split}",
                )
        yield episode


def _splits(task: Task) -> set[str]:
    """The split that a task says, and that its id names: a generated id may not hide an evaluation task."""
    return {task.split, task.id.split("/", 1)[0]}


def _counted(episodes: Iterable[Episode], report: ExportReport) -> Iterator[Episode]:
    for episode in episodes:
        report.written += 1
        report.splits[f"{episode.env}/{episode.task.split}"] += 1
        yield episode


def _write_lines(episodes: Iterable[Episode], format: str, file: TextIO, report: ExportReport) -> None:
    make = _ROWS[format]
    for episode in episodes:
        row = make(episode)
        if isinstance(row, str):
            report.left_out[row] += 1
            continue
        for _ in _counted((episode,), report):
            file.write(dumps(row) + "\n")


_ROWS: dict[str, Callable[[Episode], dict[str, Any] | str]] = {
    "jsonl": episode_to_json,
    "chat": chat_row,
    "agentbench": agentbench_row,
}
