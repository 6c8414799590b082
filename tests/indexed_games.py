"""Folders of old games and their index, for tests of what an index saves and when it is trusted."""

from __future__ import annotations

import os
from pathlib import Path

from envs.alfworld.tasks import Tasks
from envs.registry import ALFWORLD
from envs.types import Task

LONG_AGO_NS = 1_600_000_000_000_000_000


def age(root: Path) -> None:
    for path in (root, *root.rglob("*")):
        os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))


def make(data_dir: Path, index_dir: Path, **how) -> Tasks:
    return Tasks("alfworld", ALFWORLD.task_types, data_dir, index_dir=index_dir, **how)


def listed(data_dir: Path, index_dir: Path) -> tuple[Task, ...]:
    """What a new process would list."""
    tasks = make(data_dir, index_dir)
    found = (*tasks.page("train").tasks, *tasks.page("valid_seen").tasks)
    tasks.close()
    return found


def trials(data_dir: Path, split: str = "train") -> list[Path]:
    return sorted((data_dir / "json_2.1.1" / split).glob("*/*"))


def index_file(index_dir: Path) -> Path:
    (path,) = index_dir.glob("*.sqlite3")
    return path
