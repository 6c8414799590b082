"""A connection to an SQLite database in memory that knows MySQL's functions and can reach nothing else."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable

from envs.dbbench.backend import Limits
from envs.dbbench.sqlite_collation import compare_numbers, compare_texts
from envs.dbbench.sqlite_errors import failed
from envs.dbbench.sqlite_function import MAX_TEXT
from envs.dbbench.sqlite_state import State, memory_bytes
from envs.dbbench.sqlite_teacher import Teacher

__all__ = ["open_connection"]

_PAGE = 4096
_LOOKS = 50  # looks at the clock between two at the memory
_MEMORY = 2**29  # bytes by which the process may grow while a statement runs
_STEPS = 20_000  # SQLite's instructions between two looks at the clock, a fraction of a millisecond
_REFUSED = frozenset({
    sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH, sqlite3.SQLITE_PRAGMA, sqlite3.SQLITE_CREATE_VTABLE,
    sqlite3.SQLITE_DROP_VTABLE, sqlite3.SQLITE_CREATE_TRIGGER, sqlite3.SQLITE_CREATE_TEMP_TRIGGER,
    sqlite3.SQLITE_CREATE_VIEW, sqlite3.SQLITE_CREATE_TEMP_VIEW, sqlite3.SQLITE_CREATE_TEMP_TABLE,
    sqlite3.SQLITE_ANALYZE, sqlite3.SQLITE_ALTER_TABLE,
})  # fmt: skip
# What DDL itself writes to.
_SCHEMA = frozenset({"sqlite_master", "sqlite_temp_master", "sqlite_schema"})
_SCHEMA_WRITES = frozenset({sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE})
_BUILT_IN = frozenset({
    "count", "sum", "min", "max", "abs", "coalesce", "row_number", "rank", "dense_rank", "ntile", "percent_rank",
    "cume_dist", "lag", "lead", "first_value", "last_value", "nth_value",
})  # fmt: skip


def open_connection(limits: Limits, seed: int) -> State:
    """An empty database in memory, with the state of its episode."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False, cached_statements=64)
    connection.execute(f"PRAGMA page_size = {_PAGE}")
    connection.execute(f"PRAGMA max_page_count = {max(limits.database_bytes // _PAGE, 16)}")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA cache_size = -2000")
    for category, bound in (
        (sqlite3.SQLITE_LIMIT_LENGTH, MAX_TEXT), (sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 500),
        (sqlite3.SQLITE_LIMIT_COMPOUND_SELECT, 100), (sqlite3.SQLITE_LIMIT_ATTACHED, 0),
        (sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1000), (sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 1),
        (sqlite3.SQLITE_LIMIT_WORKER_THREADS, 0),
    ):  # fmt: skip
        connection.setlimit(category, bound)
    connection.create_collation("ai", compare_texts)
    connection.create_collation("num", compare_numbers)
    state = State(connection, limits, seed)
    state.teach = Teacher(connection, state).teach
    connection.set_progress_handler(_watch(state), _STEPS)
    connection.set_authorizer(_authorize)
    return state


def _watch(state: State) -> Callable[[], bool]:
    """Whether a statement must end: its time is over, or the process has grown too much since it began.

    SQLite sorts in memory, and a limit of its own would be one for all episodes together.
    """
    looks = 0

    def look() -> bool:
        nonlocal looks
        if time.monotonic() >= state.deadline:
            return True
        looks += 1
        if looks % _LOOKS == 0 and state.memory and memory_bytes() > state.memory + _MEMORY:
            state.fault = failed(1041, "Out of memory; the statement needs too much of it")
            return True
        return False

    return look


def _authorize(action: int, one: str | None, two: str | None, database: str | None, inner: str | None) -> int:
    if action in _REFUSED:
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_FUNCTION and two is not None and not two.startswith("f_") and two not in _BUILT_IN:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK
