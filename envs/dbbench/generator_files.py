"""Generated tasks as JSON lines: AgentBench's format, with types and keys where the tables have them."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from envs.dbbench.generator import GENERATED_SPLITS, MAX_INDEX, generate
from envs.dbbench.tables import Table
from envs.dbbench.tasks import DbTask
from envs.errors import ConfigError, InvalidOption

__all__ = ["choose_indices", "task_line", "write_tasks"]

_LEVELS = ("easy", "medium", "hard")


def choose_indices(split: str, start: int, count: int, difficulty: str | None = None) -> Iterator[int]:
    """The first ``count`` indices from ``start`` on, of one difficulty where one is named. Raises InvalidOption."""
    if split not in GENERATED_SPLITS:
        raise InvalidOption(f"dbbench generates no split {split!r:.80}", hint=f"known: {', '.join(GENERATED_SPLITS)}")
    if difficulty is not None and difficulty not in _LEVELS:
        raise InvalidOption(f"dbbench has no difficulty {difficulty!r:.80}", hint=f"known: {', '.join(_LEVELS)}")
    level = GENERATED_SPLITS[split].level
    if difficulty is not None and level is not None and level != difficulty:
        raise InvalidOption(f"{split} holds no {difficulty} tasks", hint="--split generated holds all levels")
    if not 0 <= start < MAX_INDEX or not 0 <= count <= MAX_INDEX - start:
        raise InvalidOption(f"no {count} tasks from {start} on", hint=f"indices go from 0 to {MAX_INDEX - 1}")
    return _indices(split, start, count, difficulty)


def _indices(split: str, start: int, count: int, difficulty: str | None) -> Iterator[int]:
    index, left = start, count
    while left and index < MAX_INDEX:
        if difficulty is None or generate(split, index).difficulty == difficulty:
            yield index
            left -= 1
        index += 1


def task_line(task: DbTask) -> str:
    """The task as one line, which ``parse_task`` reads back; the gold is in it."""
    typed = any(table.types for table in task.tables)
    row: dict[str, Any] = {
        "description": task.description,
        "label": list(task.gold_sql if task.mutates else task.gold_answers),
        "table": [_table(table, typed=typed) for table in task.tables],
        "type": [task.type],
        "add_description": task.add_description,
        "evidence": task.evidence,
        "difficulty": task.difficulty,
        "source": f"envloop {task.split}/{task.index}",
    }
    if typed:
        row["typed"] = True
    if task.mutates:
        row["answer_md5"] = task.gold_hash
    else:
        row["sql"] = {"query": task.gold_sql[0], "trusted": True}
    return json.dumps(row, ensure_ascii=False)


def _table(table: Table, *, typed: bool) -> dict[str, Any]:
    types = table.types or ("TEXT",) * len(table.columns)
    info: dict[str, Any] = {
        "columns": [{"name": name, "type": kind} for name, kind in zip(table.columns, types, strict=True)],
        "rows": [list(row) for row in table.rows],
    }
    if typed:
        info["primary_key"] = list(table.primary_key)
        info["foreign_keys"] = [
            {"columns": list(key.columns), "table": key.table, "references": list(key.references)}
            for key in table.foreign_keys
        ]
    return {"table_name": table.name, "table_info": info}


def write_tasks(
    path: Path, split: str, indices: Iterable[int], *, progress: Callable[[int], None] = lambda done: None
) -> list[DbTask]:
    """Write the tasks, one a line; ``path`` appears whole or not at all. Raises ConfigError where that fails."""
    written: list[DbTask] = []
    try:
        with _whole(path) as file:
            for index in indices:
                task = generate(split, index)
                file.write(task_line(task) + "\n")
                written.append(task)
                progress(len(written))
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error}", hint="name a file in a folder that is there") from error
    return written


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[TextIO]:
    """A file that takes its name when it is complete."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
