"""Questions of other data sets as typed DB Bench tasks, with the answer that their own statement finds in SQLite.

A question is left out, and counted by the reason, where its answer would not be that of an episode: its tables are too
large to come whole, its answer is empty or long or depends on how the rows happen to lie, MySQL has no such statement.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from itertools import islice
from typing import Any

from envs.dbbench.backend import Backend
from envs.dbbench.convert_sets import QuestionSet
from envs.dbbench.convert_source import Database, QueryRefused, Question
from envs.dbbench.convert_sql import NoMysqlForm, Statement, read_statement
from envs.dbbench.convert_tables import TableWriter, UnfitTable
from envs.dbbench.gold import answer_texts
from envs.dbbench.gold_check import check_gold
from envs.dbbench.scoring import answer_matches
from envs.dbbench.tables import Table
from envs.dbbench.tasks import DbTask, parse_task

__all__ = ["MAX_VALUES", "ConvertReport", "Converted", "convert_questions"]

MAX_VALUES = 50  # of an answer
_MAX_LINE = 8 * 2**20  # characters of a task
_BATCH = 64  # tasks that are checked together, and in memory at once
_KNOWN = 64  # tables that are kept as they were read back
_OPEN = 4  # databases kept open, and copies: questions on one mostly follow each other


@dataclass(frozen=True, slots=True)
class Converted:
    """A row of a task file, and the same as a task."""

    row: dict[str, Any]
    task: DbTask

    @property
    def line(self) -> str:
        """The row as it stands in the file."""
        return json.dumps(self.row, ensure_ascii=False)


@dataclass(slots=True)
class ConvertReport:
    """What became of the questions: how many were read and written, and how many left out, by reason.

    ``types`` counts what was written; ``dropped_keys`` the keys of its tables that MySQL cannot hold, by reason.
    """

    questions: int = 0
    written: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    types: Counter[str] = field(default_factory=Counter)
    dropped_keys: Counter[str] = field(default_factory=Counter)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON has it."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in values.items()}


class _LeftOut(Exception):
    """The reason."""


def convert_questions(
    found: QuestionSet,
    report: ConvertReport,
    *,
    limit: int | None = None,
    max_rows: int = 1000,
    all_tables: bool = False,
    backend: Backend | None = None,
    jobs: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Converted]:
    """The questions that can be tasks, in order, at most ``limit``; ``report`` is kept while they are read.

    ``max_rows`` bounds each table: a larger one is not cut, which would change the answer, but its questions are left
    out. ``all_tables`` takes a database's other tables along, where they fit. With a ``backend``, only those whose
    statement finds the same answer on it. Raises TaskDataError for a data set that cannot be read,
    InfrastructureError.
    """
    report.questions += found.unreadable
    if found.unreadable:
        report.left_out["its statement has no SQL form"] += found.unreadable
    with _Shelf(found.open) as shelf:
        rows = _rows(found, report, shelf, max_rows, all_tables=all_tables, progress=progress)
        while batch := list(islice(rows, _BATCH if limit is None else min(_BATCH, limit - report.written))):
            kept = batch if backend is None else _reproduced(batch, backend, report, jobs)
            for item in kept:
                report.written += 1
                report.types[item.task.type] += 1
                yield item


def _rows(
    found: QuestionSet,
    report: ConvertReport,
    shelf: _Shelf,
    max_rows: int,
    *,
    all_tables: bool,
    progress: Callable[[int, int], None] | None,
) -> Iterator[Converted]:
    known: dict[bytes, Table] = {}
    for number, question in enumerate(found.questions):
        report.questions += 1
        if len(known) > _KNOWN:
            known.clear()
        if progress is not None:
            progress(number + 1, len(found.questions))
        try:
            row, dropped = _convert(question, shelf, max_rows, all_tables=all_tables)
            line = json.dumps(row, ensure_ascii=False)
            if len(line) > _MAX_LINE:
                raise _LeftOut("its tables are too large")
            # Read back by the rules of task files: what is written must be one.
            task = parse_task(line, split="converted", index=number, where=question.source, known=known)
        except (_LeftOut, NoMysqlForm, UnfitTable) as reason:
            report.left_out[str(reason)] += 1
        else:
            report.dropped_keys += dropped
            yield Converted(row, task)


def _reproduced(batch: Sequence[Converted], backend: Backend, report: ConvertReport, jobs: int) -> list[Converted]:
    """Those whose statement finds the same answer on the server; the others are counted as left out."""
    missed = {miss.task: miss.reason for miss in check_gold([item.task for item in batch], backend, jobs=jobs).misses}
    for reason in missed.values():
        report.left_out[f"the server {'refuses its statement' if 'refuses' in reason else 'finds another answer'}"] += 1
    return [item for item in batch if item.task.public.id not in missed]


class _Shelf:
    """The databases that were last asked, open, each with a copy in the opposite order."""

    def __init__(self, opener: Callable[[str], Database]) -> None:
        self._opener = opener
        self._open: dict[str, Database] = {}
        self._writers: dict[str, TableWriter] = {}
        self._copies: dict[tuple[str, tuple[str, ...]], Database] = {}

    def __enter__(self) -> _Shelf:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._open):
            self._close(name)

    def database(self, name: str) -> Database:
        if name not in self._open:
            while len(self._open) >= _OPEN:
                self._close(next(iter(self._open)))
            self._open[name] = self._opener(name)
        return self._open[name]

    def writer(self, name: str) -> TableWriter:
        return self._writers.setdefault(name, TableWriter())

    def copy(self, name: str, tables: Sequence[str]) -> Database:
        key = (name, tuple(sorted(tables)))
        if key not in self._copies:
            while len(self._copies) >= _OPEN:
                self._copies.pop(next(iter(self._copies))).close()
            self._copies[key] = self.database(name).reversed_copy(key[1])
        return self._copies[key]

    def _close(self, name: str) -> None:
        for key in [key for key in self._copies if key[0] == name]:
            self._copies.pop(key).close()
        self._writers.pop(name, None)
        self._open.pop(name).close()


def _convert(
    question: Question, shelf: _Shelf, max_rows: int, *, all_tables: bool
) -> tuple[dict[str, Any], Counter[str]]:
    database = shelf.database(question.database)
    statement = read_statement(question.sql, database.schema)
    if any(database.size(name) > max_rows for name in statement.tables):
        raise _LeftOut("its tables are too large")
    answer = _answer(database, question.sql)
    copy = shelf.copy(question.database, statement.tables)
    if sorted(_answer(copy, question.sql)) != sorted(answer):
        raise _LeftOut("its answer depends on the order of rows")
    if not answer_matches(answer, answer):
        raise _LeftOut("its answer does not pass the scorer")
    query = _mysql(statement, database, answer)
    names = [*statement.tables]
    if all_tables:
        names += [name for name in database.schema if name not in names and database.size(name) <= max_rows]
    tables, dropped = shelf.writer(question.database).json([database.table(name) for name in names])
    row: dict[str, Any] = {
        "description": question.text.strip(),
        "label": answer,
        "type": [statement.kind],
        "typed": True,
        "table": tables,
        "add_description": _described(tables),
        "sql": {"query": query, "trusted": True},
        "source": question.source,
    }
    for key, value in (("evidence", question.evidence.strip()), ("difficulty", question.difficulty.strip())):
        if value:
            row[key] = value
    return row, dropped


def _answer(database: Database, sql: str) -> list[str]:
    """The values of the original statement's result, row by row."""
    try:
        rows = database.ask(sql, most=MAX_VALUES + 1)
    except QueryRefused:
        raise _LeftOut("SQLite refuses its statement") from None
    values = [value for row in rows for value in row]
    if not values or all(value is None for value in values):
        raise _LeftOut("its answer is empty")
    if len(values) > MAX_VALUES:
        raise _LeftOut(f"its answer has more than {MAX_VALUES} values")
    if any(isinstance(value, bytes) for value in values):
        raise _LeftOut("its answer is binary")
    return list(answer_texts([values]))


def _mysql(statement: Statement, database: Database, answer: Sequence[str]) -> str:
    """The statement for MySQL; with its groups widened where that changes nothing, since MySQL wants them so."""
    plain, wide = statement.mysql(), statement.mysql(widen_groups=True)
    if wide == plain:
        return plain
    try:
        found = _answer(database, statement.sqlite(widen_groups=True))
    except _LeftOut:
        return plain
    return wide if sorted(found) == sorted(answer) else plain


def _described(tables: Sequence[dict[str, Any]]) -> str:
    """The tables in AgentBench's words."""
    parts = []
    for table in tables:
        headers = ",".join(column["name"] for column in table["table_info"]["columns"])
        parts.append(f"The name of this table is {table['table_name']}, and the headers of this table are {headers}.")
    return " ".join(parts)
