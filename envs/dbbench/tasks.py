"""DB Bench's tasks: AgentBench's JSON lines, read strictly, and what anyone may see of them.

Format: https://github.com/THUDM/AgentBench (Apache-2.0), ``data/dbbench/*.jsonl``. The development split ships with
this package; the standard split is read from a folder of the user's.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from envs.dbbench.scoring import MUTATION_TYPES, gold_hash
from envs.dbbench.tables import Table
from envs.errors import TaskDataError, UnknownTask
from envs.registry import DBBENCH
from envs.types import JsonObject, Split, SplitRole, Task

__all__ = ["DbTask", "TaskFile", "find_task_files", "parse_task"]

_TRAIN = "train"
_BUNDLED = Path(__file__).parent / "data" / "dev.jsonl.gz"
_MAX_NAME = 64  # characters of a table's or a column's name, in MySQL and MariaDB
_RESERVED = ("generated", "generated_eval")


@dataclass(frozen=True)
class DbTask:
    """A task with its gold: never leaves this package. ``public`` is what may be shown.

    ``gold_answers`` is empty for a mutation, ``gold_hash`` for a question. ``gold_sql`` is the statement that makes the
    change or, where the task is generated, finds the answer; AgentBench's own queries are unreliable and left out.
    """

    env: str
    split: str
    index: int
    type: str
    tables: tuple[Table, ...]
    description: str
    add_description: str = ""
    evidence: str = ""
    gold_answers: tuple[str, ...] = field(default=(), repr=False)
    gold_sql: tuple[str, ...] = field(default=(), repr=False)
    gold_hash: str = field(default="", repr=False)

    @property
    def mutates(self) -> bool:
        """Whether it asks for a change, judged by the table's hash."""
        return self.type in MUTATION_TYPES

    @property
    def text(self) -> str:
        """The user message of AgentBench's function-calling version."""
        parts = []
        if self.evidence:
            parts.append(f"Evidence about the question: {self.evidence}\n")
        if self.add_description:
            parts.append(f"Additional table information about the question: {self.add_description}\n")
        parts.append(f"Question: {self.description}\n")
        return "".join(parts)

    @cached_property
    def public(self) -> Task:
        """What anyone may see. The hash leaves the gold out: short answers could be guessed and tried against it."""
        tables = [[table.name, table.columns, table.rows] for table in self.tables]
        content = [self.type, tables, self.description, self.add_description, self.evidence]
        raw = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        metadata: JsonObject = {
            "description": self.description,
            "add_description": self.add_description,
            "evidence": self.evidence,
            "tables": [
                {"name": table.name, "columns": list(table.columns), "num_rows": len(table.rows)}
                for table in self.tables
            ],
        }
        return Task(
            env=self.env,
            id=f"{self.split}/{self.index}",
            split=self.split,
            type=self.type,
            content_hash=hashlib.sha256(raw.encode("utf-8", "surrogatepass")).hexdigest(),
            metadata=metadata,
        )


class TaskFile:
    """A split that is a file of JSON lines, plain or gzip. Read whole, once, when first needed."""

    def __init__(self, split: str, path: Path, role: SplitRole, description: str = "") -> None:
        self.name = split
        self.path = path
        self.role = role
        self.description = description

    @cached_property
    def tasks(self) -> tuple[DbTask, ...]:
        """All tasks, in the file's order. Raises TaskDataError with file and line for the first broken row."""
        return tuple(_read(self.path, self.name))

    @property
    def split(self) -> Split:
        """The split with its size."""
        return Split(DBBENCH.name, self.name, self.role, len(self.tasks), self.description)

    def task(self, index: int) -> DbTask:
        """The task at ``index``. Raises UnknownTask."""
        if not 0 <= index < len(self.tasks):
            raise UnknownTask(
                f"no task {self.name}/{index}", hint=f"{self.name} has the tasks 0 to {len(self.tasks) - 1}"
            )
        return self.tasks[index]


def find_task_files(data_dir: str | Path | None) -> list[TaskFile]:
    """The bundled ``dev`` split and one split for each ``*.jsonl`` or ``*.jsonl.gz`` in ``data_dir``, by file name.

    A name that begins with ``train`` is for training, every other for evaluation: a copy of an evaluation file must not
    be trained on unnoticed. Raises TaskDataError where the folder is missing.
    """
    files = {"dev": TaskFile("dev", _BUNDLED, SplitRole.EVALUATION, "AgentBench's development split")}
    if data_dir is None:
        return list(files.values())
    folder = Path(data_dir)
    if not folder.is_dir():
        raise TaskDataError(
            f"{folder} is no folder",
            hint="DBBENCH_DATA names the folder that holds standard.jsonl and other *.jsonl files",
        )
    for path in sorted([*folder.glob("*.jsonl"), *folder.glob("*.jsonl.gz")]):
        name = path.name.removesuffix(".gz").removesuffix(".jsonl")
        if name in _RESERVED or "/" in name or not name:
            raise TaskDataError(f"{path}: a split cannot be called {name!r}", hint="rename the file")
        if name.startswith(_TRAIN):
            role, use = SplitRole.TRAIN, "for training by its name"
        else:
            role, use = SplitRole.EVALUATION, "for evaluation; for training, a name begins with 'train'"
        files[name] = TaskFile(name, path, role, f"the tasks of {path.name}, {use}")
    return list(files.values())


def _read(path: Path, split: str) -> Iterable[DbTask]:
    opener = gzip.open if path.suffix == ".gz" else open
    index = 0
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield parse_task(line, split=split, index=index, where=f"{path}:{number}")
                    index += 1
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise TaskDataError(f"{path} cannot be read: {error}", hint="fetch the file again") from error
    if index == 0:
        raise TaskDataError(f"{path} holds no task", hint="fetch the file again or remove it")


def parse_task(line: str, *, split: str, index: int, where: str) -> DbTask:
    """One task from its JSON line. Raises TaskDataError: ``where: reason``."""
    try:
        row = json.loads(line)
        return _parse(row, split, index)
    except json.JSONDecodeError as error:
        raise TaskDataError(f"{where}: not JSON: {error}", hint="one JSON object a line") from None
    except _BadRow as error:
        raise TaskDataError(
            f"{where}: {error}", hint="see data/dbbench/dev.jsonl of AgentBench for the format"
        ) from None


class _BadRow(Exception):
    pass


def _parse(row: object, split: str, index: int) -> DbTask:
    if not isinstance(row, dict):
        raise _BadRow("not a JSON object")
    kinds = row.get("type")
    kind = kinds[0] if isinstance(kinds, list) and len(kinds) == 1 else kinds
    if kind not in DBBENCH.task_types:
        raise _BadRow(f"type is {kinds!r}, not one of {', '.join(DBBENCH.task_types)}")
    tables = row.get("table")
    if not isinstance(tables, (list, dict)) or not tables:
        raise _BadRow("table is missing")
    description = _string(row, "description")
    if not description:
        raise _BadRow("description is missing")
    answers: tuple[str, ...] = ()
    statements: tuple[str, ...] = ()
    digest = ""
    if kind in MUTATION_TYPES:
        stored = row.get("answer_md5")
        if not isinstance(stored, str) or not stored:
            raise _BadRow("answer_md5, the hash of the changed table, is missing")
        try:
            digest = gold_hash(stored)
        except ValueError:
            raise _BadRow(f"answer_md5 is {stored!r}, not one hash") from None
        statements = _label(row)
    else:
        answers = _label(row)
    return DbTask(
        env=DBBENCH.name,
        split=split,
        index=index,
        type=str(kind),
        tables=tuple(_table(item) for item in (tables if isinstance(tables, list) else [tables])),
        description=description,
        add_description=_string(row, "add_description"),
        evidence=_string(row, "evidence"),
        gold_answers=answers,
        gold_sql=statements,
        gold_hash=digest,
    )


def _string(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _BadRow(f"{key} is no text")
    return value


def _label(row: Mapping[str, Any]) -> tuple[str, ...]:
    label = row.get("label")
    items = [label] if isinstance(label, str) else label
    if not isinstance(items, list) or not items:
        raise _BadRow("label is missing")
    if not all(isinstance(item, (str, int, float)) or item is None for item in items):
        raise _BadRow("label is no list of texts")
    return tuple(str(item) for item in items)


def _table(item: object) -> Table:
    info = item.get("table_info") if isinstance(item, dict) else None
    if not isinstance(item, dict) or not isinstance(info, dict):
        raise _BadRow("table has no table_info")
    name = item.get("table_name")
    if not isinstance(name, str) or not 0 < len(name.rstrip()) <= _MAX_NAME or "\0" in name:
        raise _BadRow(f"table_name is {name!r}; a name has 1 to {_MAX_NAME} characters")
    columns, rows = info.get("columns"), info.get("rows")
    if not isinstance(columns, list) or not isinstance(rows, list) or not columns:
        raise _BadRow(f"table {name!r} has no columns or no rows")
    texts = _usable_names([column.get("name") if isinstance(column, dict) else None for column in columns], name)
    return Table(
        name=name.rstrip(),
        columns=tuple(texts),
        rows=tuple(_row(row, len(texts), name, i) for i, row in enumerate(rows)),
    )


def _usable_names(names: Sequence[object], table: str) -> list[str]:
    """Column names that MySQL takes. AgentBench's data has some that it does not (dev/5 has an empty one; the original
    cannot play that task): trailing blanks go, long names are cut, an empty one becomes ``column_N``, a repeated one
    ``name_N``.
    """
    usable: list[str] = []
    seen: set[str] = set()
    for position, name in enumerate(names, start=1):
        if not isinstance(name, str) or "\0" in name:
            raise _BadRow(f"a column of table {table!r} is called {name!r}, which is no name")
        text = name.rstrip()[:_MAX_NAME].rstrip() or f"column_{position}"
        if text.casefold() in seen:
            text = f"{text[: _MAX_NAME - 4]}_{position}"
        if text.casefold() in seen:
            raise _BadRow(f"table {table!r} names the column {name!r} twice")
        seen.add(text.casefold())
        usable.append(text)
    return usable


def _row(row: object, width: int, table: str, index: int) -> tuple[str, ...]:
    if not isinstance(row, Sequence) or isinstance(row, str) or len(row) != width:
        raise _BadRow(f"row {index} of table {table!r} has not {width} values")
    return tuple(str(value) for value in row)
