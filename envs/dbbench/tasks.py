"""DB Bench's tasks: JSON lines, read strictly, and what anyone may see of them.

Two forms of a row: AgentBench's (https://github.com/THUDM/AgentBench, Apache-2.0, ``data/dbbench/*.jsonl``), and a
typed one with column types, keys and trusted gold statements (``docs/dbbench-data.md``). The development split ships
with this package; the standard split is read from a folder of the user's.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import platformdirs

from envs.dbbench.scoring import MUTATION_TYPES, gold_hash
from envs.dbbench.tables import Table
from envs.dbbench.task_tables import BadRow, read_tables
from envs.errors import TaskDataError, UnknownTask
from envs.registry import DBBENCH
from envs.types import Split, SplitRole, Task

__all__ = [
    "FETCH_MANIFEST",
    "DbTask",
    "TaskFile",
    "default_data_dir",
    "fetched_data_dir",
    "find_task_files",
    "parse_task",
]

FETCH_MANIFEST = "envloop-manifest.json"

_TRAIN = "train"
_BUNDLED = Path(__file__).parent / "data" / "dev.jsonl.gz"
_RESERVED = "generated"  # a role is told by the name: nothing of a file's may look like a generated split


@dataclass(frozen=True)
class DbTask:
    """A task with its gold: never leaves this package. ``public`` is what may be shown.

    ``gold_answers`` is empty for a mutation, ``gold_hash`` for a question. ``gold_sql`` is the statement that makes the
    change or, where it is trusted, finds the answer; AgentBench's own queries are unreliable and left out. A task that
    ``lacks_gold`` has the statement only: ``gold.py`` runs it.
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
    difficulty: str = ""

    @property
    def lacks_gold(self) -> bool:
        """Whether the answer or the hash is still to be found by running ``gold_sql``."""
        return not (self.gold_hash if self.mutates else self.gold_answers)

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
        tables = [_table_content(table) for table in self.tables]
        content = [self.type, tables, self.description, self.add_description, self.evidence]
        raw = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        metadata: dict[str, Any] = {
            "description": self.description,
            "add_description": self.add_description,
            "evidence": self.evidence,
            "tables": [_table_metadata(table) for table in self.tables],
        }
        if self.difficulty:
            metadata["difficulty"] = self.difficulty
        return Task(
            env=self.env,
            id=f"{self.split}/{self.index}",
            split=self.split,
            type=self.type,
            content_hash=hashlib.sha256(raw.encode("utf-8", "surrogatepass")).hexdigest(),
            metadata=metadata,
        )


def _table_content(table: Table) -> list[Any]:
    content: list[Any] = [table.name, table.columns, table.rows]
    if table.types:
        content += [table.types, table.primary_key, _keys_json(table)]
    return content


def _table_metadata(table: Table) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": table.name, "columns": list(table.columns), "num_rows": len(table.rows)}
    if table.types:
        shown |= {"types": list(table.types), "primary_key": list(table.primary_key), "foreign_keys": _keys_json(table)}
    return shown


def _keys_json(table: Table) -> list[dict[str, Any]]:
    return [
        {"columns": list(key.columns), "table": key.table, "references": list(key.references)}
        for key in table.foreign_keys
    ]


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


def default_data_dir() -> Path:
    """Where AgentBench's files are fetched to, unless another place is named: the user's data folder."""
    return Path(platformdirs.user_data_dir("envloop")) / "dbbench"


def fetched_data_dir() -> Path | None:
    """``default_data_dir()`` where files have been fetched to it, else None."""
    folder = default_data_dir()
    return folder if (folder / FETCH_MANIFEST).is_file() else None


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
        if name.startswith(_RESERVED) or "/" in name or not name:
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
    known: dict[bytes, Table] = {}
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield parse_task(line, split=split, index=index, where=f"{path}:{number}", known=known)
                    index += 1
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise TaskDataError(f"{path} cannot be read: {error}", hint="fetch the file again") from error
    if index == 0:
        raise TaskDataError(f"{path} holds no task", hint="fetch the file again or remove it")


def parse_task(line: str, *, split: str, index: int, where: str, known: dict[bytes, Table] | None = None) -> DbTask:
    """One task from its JSON line; ``known`` keeps its typed tables. Raises TaskDataError: ``where: reason``."""
    try:
        row = json.loads(line)
        return _parse(row, split, index, known)
    except (json.JSONDecodeError, RecursionError) as error:
        raise TaskDataError(f"{where}: not JSON: {error}", hint="one JSON object a line") from None
    except BadRow as error:
        raise TaskDataError(f"{where}: {error}", hint="docs/dbbench-data.md describes the format") from None


def _parse(row: object, split: str, index: int, known: dict[bytes, Table] | None) -> DbTask:
    if not isinstance(row, dict):
        raise BadRow("not a JSON object")
    kinds = row.get("type")
    kind = kinds[0] if isinstance(kinds, list) and len(kinds) == 1 else kinds
    if kind not in DBBENCH.task_types:
        raise BadRow(f"type is {kinds!r}, not one of {', '.join(DBBENCH.task_types)}")
    typed = row.get("typed", False)
    if not isinstance(typed, bool):
        raise BadRow("typed is neither true nor false")
    tables = read_tables(row.get("table"), typed=typed, known=known)
    description = _string(row, "description")
    if not description:
        raise BadRow("description is missing")
    query = _trusted_query(row, typed=typed)
    answers: tuple[str, ...] = ()
    statements: tuple[str, ...] = (query,) if query else ()
    digest = ""
    if kind in MUTATION_TYPES:
        digest = _digest(row, needed=not (typed or query))
        if _has_label(row) or not query:
            statements = _label(row)
    elif _has_label(row) or not query:
        answers = _label(row)
    return DbTask(
        env=DBBENCH.name,
        split=split,
        index=index,
        type=str(kind),
        tables=tables,
        description=description,
        add_description=_string(row, "add_description"),
        evidence=_string(row, "evidence"),
        gold_answers=answers,
        gold_sql=statements,
        gold_hash=digest,
        difficulty=_string(row, "difficulty"),
    )


def _trusted_query(row: Mapping[str, Any], *, typed: bool) -> str:
    """The row's own query, where it counts as gold: AgentBench's find the label in about every third task only. For a
    change whose ``answer_md5`` is an empty text AgentBench runs it itself, to find the hash.
    """
    sql = row.get("sql")
    if not isinstance(sql, dict) or not (typed or sql.get("trusted") is True or row.get("answer_md5") == ""):
        return ""
    query = sql.get("query")
    if not isinstance(query, str) or not query.strip():
        raise BadRow("sql.query, which is to be trusted, is no statement")
    return query


def _digest(row: Mapping[str, Any], *, needed: bool) -> str:
    stored = row.get("answer_md5")
    if stored in (None, "") and not needed:
        return ""
    if not isinstance(stored, str) or not stored:
        raise BadRow("answer_md5, the hash of the changed table, is missing")
    try:
        return gold_hash(stored)
    except ValueError:
        raise BadRow(f"answer_md5 is {stored!r}, not one hash") from None


def _string(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRow(f"{key} is no text")
    return value


def _has_label(row: Mapping[str, Any]) -> bool:
    return row.get("label") not in (None, [])


def _label(row: Mapping[str, Any]) -> tuple[str, ...]:
    label = row.get("label")
    items = [label] if isinstance(label, str) else label
    if not isinstance(items, list) or not items:
        raise BadRow("label is missing")
    if not all(isinstance(item, (str, int, float)) or item is None for item in items):
        raise BadRow("label is no list of texts")
    return tuple(str(item) for item in items)
