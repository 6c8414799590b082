"""The layouts of Spider, BIRD and WikiSQL on disk: their questions, and the database of each.

- Spider (https://yale-lily.github.io/spider): ``tables.json``, ``dev.json``, ``train_spider.json`` and
  ``train_others.json``, ``database/<db>/<db>.sqlite``.
- BIRD (https://bird-bench.github.io): ``dev.json`` with ``dev_tables.json`` and ``dev_databases/<db>/<db>.sqlite``, the
  same of ``train``, or ``mini_dev_sqlite.json``; questions carry ``evidence`` and ``difficulty``.
- WikiSQL (https://github.com/salesforce/WikiSQL): ``dev.jsonl`` with ``dev.tables.jsonl``, the same of ``train`` and
  ``test``; a question's statement is ``{"sel", "agg", "conds"}``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs.dbbench.convert_source import Database, Question, read_sqlite, tables_in_memory
from envs.dbbench.tables import ForeignKey
from envs.dbbench.task_types import Value
from envs.errors import InvalidOption, TaskDataError

__all__ = ["LAYOUTS", "QuestionSet", "open_set"]

LAYOUTS = ("spider", "bird", "wikisql")

_AGGREGATES = ("", "MAX", "MIN", "COUNT", "SUM", "AVG")
_OPERATORS = ("=", ">", "<")
_MAX_NAME = 64
_NUMBER = re.compile(r"[-+]?\d*\.\d+|[-+]?\d+")


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """Questions in the file's order, and what opens a question's database, anew each time. ``unreadable`` counts
    questions whose statement has no SQL form.
    """

    questions: tuple[Question, ...]
    open: Callable[[str], Database]
    unreadable: int = 0


def open_set(layout: str, root: Path, split: str) -> QuestionSet:
    """A split of a data set. Raises InvalidOption for an unknown layout, TaskDataError where files are missing."""
    readers = {"spider": _spider, "bird": _bird, "wikisql": _wikisql}
    if layout not in readers:
        raise InvalidOption(f"there is no layout {layout!r}", hint=f"one of {', '.join(LAYOUTS)}")
    if not root.is_dir():
        raise TaskDataError(f"{root} is no folder", hint=f"name the folder where {layout} is unpacked")
    return readers[layout](root, split)


def _first(candidates: Sequence[Path], what: str) -> Path:
    for path in candidates:
        if path.exists():
            return path
    raise TaskDataError(
        f"{what} is not there: looked for {', '.join(map(str, candidates))}",
        hint="name the folder that the data set's archive unpacks to, and a split that it has",
    )


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TaskDataError(f"{path} cannot be read: {error}", hint="unpack the data set again") from error


def _entries(path: Path) -> list[dict[str, Any]]:
    found = _json(path)
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise TaskDataError(f"{path} is no list of objects", hint="name a file in the data set's own format")
    return found


def _field(item: Mapping[str, Any], key: str, where: str) -> str:
    value = item.get(key)
    if not isinstance(value, str) or not value.strip():
        raise TaskDataError(f"{where}: {key} is missing", hint="name a file in the data set's own format")
    return value


# Spider and BIRD: SQLite files.


def _spider(root: Path, split: str) -> QuestionSet:
    if split == "train":
        files = [_first([root / "train_spider.json"], "Spider's train_spider.json")]
        files += [path for path in [root / "train_others.json"] if path.is_file()]
    else:
        files = [_first([root / f"{split}.json"], f"Spider's {split}.json")]
    databases = _first([root / f"{split}_database", root / "database"], "Spider's folder of databases")
    lists = [path for path in (root / f"{split}_tables.json", root / "tables.json") if path.is_file()]
    questions = []
    for path in files:
        for number, item in enumerate(_entries(path)):
            where = f"{path}, question {number}"
            questions.append(
                Question(
                    source=f"spider/{path.stem}/{number}",
                    database=_field(item, "db_id", where),
                    text=_field(item, "question", where),
                    sql=_field(item, "query", where),
                )
            )
    return QuestionSet(tuple(questions), _sqlite_opener(databases, lists[:1]))


def _bird(root: Path, split: str) -> QuestionSet:
    folders = [root, root / split]
    names = [f"{split}.json", *(["mini_dev_sqlite.json"] if split == "dev" else [])]
    path = _first([folder / name for folder in folders for name in names], f"BIRD's {split}.json")
    databases = _first(
        [folder / f"{split}_databases" for folder in (path.parent, *folders)], f"BIRD's folder {split}_databases"
    )
    lists = [found for found in [path.parent / f"{split}_tables.json"] if found.is_file()]
    questions = []
    for number, item in enumerate(_entries(path)):
        where = f"{path}, question {number}"
        questions.append(
            Question(
                source=f"bird/{path.stem}/{item.get('question_id', number)}",
                database=_field(item, "db_id", where),
                text=_field(item, "question", where),
                sql=_field(item, "SQL", where),
                evidence=str(item.get("evidence") or ""),
                difficulty=str(item.get("difficulty") or ""),
            )
        )
    return QuestionSet(tuple(questions), _sqlite_opener(databases, lists))


def _sqlite_opener(folder: Path, lists: Sequence[Path]) -> Callable[[str], Database]:
    entries = {str(item.get("db_id")): item for path in lists for item in _entries(path)}

    def open_database(name: str) -> Database:
        if "/" in name or "\\" in name or name in ("", ".", ".."):
            raise TaskDataError(f"{folder}: a database cannot be called {name!r}", hint="unpack the data set again")
        return read_sqlite(folder / name / f"{name}.sqlite", extra_keys=_listed_keys(entries.get(name, {})))

    return open_database


def _listed_keys(entry: Mapping[str, Any]) -> dict[str, list[ForeignKey]]:
    """Foreign keys of ``tables.json``: pairs of positions in ``column_names_original``, ``[table, name]`` each."""
    keys: dict[str, list[ForeignKey]] = {}
    try:
        tables, columns = entry["table_names_original"], entry["column_names_original"]
        for here, there in entry["foreign_keys"]:
            (table, column), (other, reference) = columns[here], columns[there]
            keys.setdefault(tables[table], []).append(ForeignKey((column,), tables[other], (reference,)))
    except (KeyError, IndexError, TypeError, ValueError):
        return {}  # the list is of no use; the databases' own keys stay
    return keys


# WikiSQL: one table a question, from JSON lines.


def _wikisql(root: Path, split: str) -> QuestionSet:
    folders = (root, root / "data")
    path = _first([folder / f"{split}.jsonl" for folder in folders], f"WikiSQL's {split}.jsonl")
    tables = {
        str(item.get("id")): item
        for item in _lines(_first([path.with_name(f"{split}.tables.jsonl")], f"WikiSQL's {split}.tables.jsonl"))
    }
    questions, unreadable = [], 0
    for number, item in enumerate(_lines(path)):
        table = str(item.get("table_id"))
        sql = _wikisql_statement(item.get("sql"), tables[table]) if table in tables else None
        if sql is None:
            unreadable += 1
            continue
        text = _field(item, "question", f"{path}:{number + 1}")
        questions.append(Question(f"wikisql/{split}/{number}", table, text, sql))
    return QuestionSet(tuple(questions), lambda name: _wikisql_database(tables[name]), unreadable)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    item = json.loads(line)
                    if not isinstance(item, dict):
                        raise TaskDataError(f"{path}:{number}: not a JSON object", hint="unpack the data set again")
                    yield item
    except (OSError, ValueError) as error:
        raise TaskDataError(f"{path} cannot be read: {error}", hint="unpack the data set again") from error


def _wikisql_name(table: Mapping[str, Any]) -> str:
    for key in ("caption", "page_title", "name"):
        text = " ".join(str(table.get(key) or "").replace("`", "'").split())
        if text and not text.startswith("sqlite_"):
            return text[:_MAX_NAME].rstrip()
    return f"table_{table.get('id')}"[:_MAX_NAME]


def _wikisql_columns(table: Mapping[str, Any]) -> list[str]:
    """The header as names that differ: blanks are single, long ones cut, a repeated one gets its number."""
    names: list[str] = []
    for number, header in enumerate(table["header"], start=1):
        text = " ".join(str(header).replace("`", "'").split())[: _MAX_NAME - 4].rstrip() or f"column_{number}"
        if text.casefold() in {name.casefold() for name in names}:
            text = f"{text}_{number}"
        names.append(text)
    return names


def _wikisql_statement(sql: object, table: Mapping[str, Any]) -> str | None:
    """The statement in SQL, or None where it names no column, no operator or, of a number, no number."""
    try:
        columns, kinds = _wikisql_columns(table), table["types"]
        chosen = _name(columns[_index(sql["sel"])])  # type: ignore[index]
        aggregate = _AGGREGATES[_index(sql["agg"])]  # type: ignore[index]
        parts = []
        for column, operator, value in sql["conds"]:  # type: ignore[index]
            operand = _operand(value, kinds[_index(column)])
            if operand is None:
                return None
            parts.append(f"{_name(columns[column])} {_OPERATORS[_index(operator)]} {operand}")
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    where = f" WHERE {' AND '.join(parts)}" if parts else ""
    return f"SELECT {f'{aggregate}({chosen})' if aggregate else chosen} FROM {_name(_wikisql_name(table))}{where}"  # noqa: S608


def _index(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("no index")
    return value


def _operand(value: object, kind: str) -> str | None:
    """A condition's value as WikiSQL's own engine reads it: of a number column the number, or the first in the text."""
    if kind == "real":
        number = _number(value)
        if number is None:
            found = _NUMBER.search(str(value))
            number = float(found[0]) if found else None
        return None if number is None else repr(int(number) if float(number).is_integer() else number)
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    return "'" + text.replace("'", "''") + "'"


def _number(value: object) -> float | None:
    if isinstance(value, (int, float)):
        return value
    try:
        return float(str(value).replace(",", ""))
    except ValueError:
        return None


def _name(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _wikisql_database(table: Mapping[str, Any]) -> Database:
    """The table, its text compared without case: WikiSQL's own database is in lower case, and MySQL does so too."""
    kinds = ["number" if kind == "real" else "TEXT" for kind in table["types"]]
    rows: list[list[Value | bytes]] = []
    for row in table["rows"]:
        cells: list[Value | bytes] = []
        for value, kind in zip(row, table["types"], strict=True):
            number = _number(value) if kind == "real" else None
            if number is None or number != number:  # noqa: PLR0124 - nan
                cells.append(None if value is None else str(value))
            else:
                cells.append(int(number) if float(number).is_integer() else number)
        rows.append(cells)
    return tables_in_memory([(_wikisql_name(table), _wikisql_columns(table), kinds, rows)], folded=True)
