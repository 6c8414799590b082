"""Gold that a task's file does not hold: its statement is run once on a server, and what it finds is kept.

What was found lies in one SQLite file of the user's cache folder, by the task's content, its statement and the server's
version. It is a cache and nothing else: processes may share it, a damaged file is made anew, and where none can be
written the gold is kept in memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import platformdirs

from envs.dbbench.backend import KEPT_ROWS, Backend, EpisodeSession, Limits, StatementFailed
from envs.dbbench.scoring import TableHasher, combine_hashes
from envs.dbbench.tables import Table
from envs.dbbench.tasks import DbTask
from envs.errors import TaskDataError

__all__ = ["MAX_ANSWERS", "GoldBook", "answer_texts", "default_gold_file", "parallel", "table_hash"]

MAX_ANSWERS = KEPT_ROWS  # values of one answer
_MAX_CHARACTERS = 2**17  # of one answer; a session keeps no more than a megabyte of a result
_CACHE_DIR = "ENVLOOP_CACHE_DIR"
_BUSY_S = 30.0
_TABLE = (
    "CREATE TABLE IF NOT EXISTS gold (key TEXT PRIMARY KEY, value TEXT NOT NULL, written REAL NOT NULL) WITHOUT ROWID"
)
_FORMAT = 1  # raise it when a value means something else

_log = logging.getLogger(__name__)


def default_gold_file() -> Path:
    """``dbbench/gold.sqlite`` in ``ENVLOOP_CACHE_DIR``, or in envloop's folder of the user's cache."""
    chosen = os.environ.get(_CACHE_DIR)
    folder = Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("envloop"))
    return folder / "dbbench" / "gold.sqlite"


def answer_texts(rows: Iterable[Sequence[object]]) -> tuple[str, ...]:
    """The values of a result as a gold answer, row by row: a Decimal without exponent, dates as ISO 8601, a time as
    ``HH:MM:SS``, NULL as ``None``, which the FC rules read as 0.
    """
    return tuple(_text(value) for row in rows for value in row)


def _text(value: object) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        seconds = round(value.total_seconds())
        sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
        return f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    if isinstance(value, (bytes, bytearray)):
        return value.decode("utf-8", "backslashreplace")
    return str(value)


def table_hash(session: EpisodeSession, tables: Iterable[Table]) -> str:
    """AgentBench's hash of the tables as they are now. Raises StatementFailed where one cannot be read."""
    hashes = []
    for table in tables:
        hasher = TableHasher()
        for row in session.rows_of(table.name, table.columns):
            hasher.add(row)
        hashes.append(hasher.digest())
    return combine_hashes(hashes)


def parallel[T, R](items: Sequence[T], work: Callable[[T], R], jobs: int) -> Iterator[R]:
    """``work`` of every item, in order, with at most ``jobs`` at once. The first error ends it."""
    with ThreadPoolExecutor(max_workers=max(1, min(jobs, len(items) or 1)), thread_name_prefix="dbbench-gold") as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            for future in futures:
                yield future.result()
        finally:
            for future in futures:
                future.cancel()


class GoldBook:
    """The gold of tasks whose files hold only the statement that finds it. Thread-safe.

    ``file`` is where it is kept (default: ``default_gold_file()``), with at most ``max_entries`` of them, the newest.
    """

    def __init__(
        self, *, file: str | Path | None = None, limits: Limits | None = None, max_entries: int = 50_000
    ) -> None:
        self.file = Path(file).expanduser() if file is not None else default_gold_file()
        self._limits = limits or Limits()
        self._max_entries = max_entries
        self._known: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._lock = threading.Lock()
        self._writes = True

    def complete(self, task: DbTask, backend: Backend) -> DbTask:
        """The task with its gold: itself where it has one, else with what its statement finds or makes of the tables.

        Raises TaskDataError where the database refuses the statement, or it finds nothing or changes nothing;
        InfrastructureError where the database failed; CapacityExceeded.
        """
        if not task.lacks_gold:
            return task
        key = _key(task, backend.version())
        found = self._load(key)
        if found is None:
            found = _compute(task, backend, self._limits)
            self._store(key, found)
        if task.mutates:
            return replace(task, gold_hash=found["hash"])
        return replace(task, gold_answers=tuple(found["answers"]))

    def complete_all(
        self,
        tasks: Sequence[DbTask],
        backend: Backend,
        *,
        jobs: int = 8,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[DbTask]:
        """A whole split, ``jobs`` tasks at once; ``progress`` is told how many of how many are done. Raises as
        ``complete`` does, for the first task that fails.
        """
        done = []
        for task in parallel(tasks, lambda task: self.complete(task, backend), jobs):
            done.append(task)
            if progress is not None:
                progress(len(done), len(tasks))
        return done

    # What is known: in this process, then in the file.

    def _load(self, key: str) -> dict[str, Any] | None:
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        row = self._transact(lambda file: file.execute("SELECT value FROM gold WHERE key = ?", (key,)).fetchone())
        found = _read(row[0]) if row else None
        if found is not None:
            self._remember(key, found)
        return found

    def _store(self, key: str, value: dict[str, Any]) -> None:
        self._remember(key, value)
        text = json.dumps(value, ensure_ascii=True)

        def write(file: sqlite3.Connection) -> None:
            file.execute("INSERT OR REPLACE INTO gold VALUES (?, ?, ?)", (key, text, time.time()))
            surplus = file.execute("SELECT COUNT(*) FROM gold").fetchone()[0] - self._max_entries
            if surplus > 0:
                oldest = "SELECT key FROM gold ORDER BY written, key LIMIT ?"
                # A tenth more than needed, so that a full file is not sorted at every write.
                file.execute(f"DELETE FROM gold WHERE key IN ({oldest})", (surplus + self._max_entries // 10,))  # noqa: S608

        self._transact(write)

    def _remember(self, key: str, value: dict[str, Any]) -> None:
        with self._lock:
            self._known[key] = value
            while len(self._known) > self._max_entries:
                self._known.popitem(last=False)

    def _transact(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        """Do ``work`` in a transaction; on a broken file once more on a new one; None where there can be no file."""
        for attempt in range(2):
            if not self._writes:
                return None
            try:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.closing(sqlite3.connect(self.file, timeout=_BUSY_S)) as file, file:
                    file.execute(_TABLE)
                    return work(file)
            except (OSError, sqlite3.Error) as error:
                broken = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
                if not broken or attempt or not self._remove(error):
                    self._give_up(error)
        return None

    def _remove(self, problem: Exception) -> bool:
        _log.warning("%s: the file of gold answers is broken (%s): it is made anew", self.file, problem)
        try:
            for suffix in ("", "-journal"):
                self.file.with_name(self.file.name + suffix).unlink(missing_ok=True)
        except OSError:
            return False
        return True

    def _give_up(self, error: Exception) -> None:
        self._writes = False
        _log.warning(
            "%s: gold answers cannot be kept there (%s): every process finds them again; set %s to a folder that can "
            "be written",
            self.file,
            error,
            _CACHE_DIR,
        )


def _key(task: DbTask, version: str) -> str:
    content = [_FORMAT, task.public.content_hash, task.gold_sql, version]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _read(text: str) -> dict[str, Any] | None:
    """A kept value, or None for one that is none."""
    try:
        value = json.loads(text)
    except (TypeError, ValueError):
        return None
    if not isinstance(value, dict):
        return None
    answers = value.get("answers")
    good = isinstance(value.get("hash"), str) or (
        isinstance(answers, list) and bool(answers) and all(isinstance(answer, str) for answer in answers)
    )
    return value if good else None


def _compute(task: DbTask, backend: Backend, limits: Limits) -> dict[str, Any]:
    where = task.public.id
    if not task.gold_sql:
        raise TaskDataError(f"{where} has neither a gold answer nor a gold statement", hint="mend the task's file")
    session = backend.begin(limits)
    try:
        session.load(task.tables)
        untouched = table_hash(session, task.tables) if task.mutates else ""
        rows: Sequence[tuple[Any, ...]] = ()
        for statement in task.gold_sql:
            result = session.execute(statement)
            if not result.valid or "rows" in result.limits:
                # The database's words may quote the statement, and this message may be seen by a policy.
                raise TaskDataError(
                    f"{where}: the database does not run its gold statement: {_number(result.text)}",
                    hint="`envloop env check dbbench --data FILE` shows why",
                )
            rows = result.rows
        if not task.mutates:
            answers = answer_texts(rows)
            large = len(rows) >= KEPT_ROWS or len(answers) > MAX_ANSWERS or sum(map(len, answers)) > _MAX_CHARACTERS
            if not answers or large:
                found = f"more than {MAX_ANSWERS} values or {_MAX_CHARACTERS} characters" if large else "nothing"
                raise TaskDataError(f"{where}: its gold statement finds {found}", hint="mend the task's file")
            return {"answers": list(answers)}
        session.renew()
        changed = table_hash(session, task.tables)
        if changed == untouched:
            raise TaskDataError(f"{where}: its gold statement changes nothing", hint="mend the task's file")
        return {"hash": changed}
    except StatementFailed as error:
        raise TaskDataError(
            f"{where}: its tables cannot be read after the gold statement: error {error.code}",
            hint="mend the task's file",
        ) from None
    finally:
        session.close()


def _number(words: str) -> str:
    """The number that begins a database's error text."""
    first = words.split(" ", 1)[0]
    return f"error {first}" if first.isdigit() else "it was ended by a limit"
