"""A connection to an SQLite database in memory that knows MySQL's functions and can reach nothing else."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import Any

from envs.dbbench.backend import Limits, StatementFailed
from envs.dbbench.sqlite_aggregates import AGGREGATES
from envs.dbbench.sqlite_collation import compare_numbers, compare_texts, sort_key
from envs.dbbench.sqlite_errors import SlowStatement, failed
from envs.dbbench.sqlite_function import MAX_TEXT
from envs.dbbench.sqlite_functions import FUNCTIONS
from envs.dbbench.sqlite_state import State, memory_bytes

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
    _teach(connection, state)
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


def _teach(connection: sqlite3.Connection, state: State) -> None:
    """Give SQLite the functions; what they raise is kept, since SQLite says only that something was raised."""

    def guarded(run: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            try:
                return run(*given)
            except (StatementFailed, SlowStatement) as error:
                state.fault = error
                raise
            except (ValueError, ArithmeticError, OverflowError, TypeError) as error:
                state.fault = failed(1105, f"{type(error).__name__} in a function")
                raise

        return call

    for name, function in FUNCTIONS.items():
        connection.create_function(f"f_{name}", -1, guarded(function.bound()), deterministic=function.pure)
    own: dict[str, tuple[int, Callable[..., Any]]] = {
        "assign_variable": (2, state.assign_variable),
        "read_variable": (1, state.variables_get),
        "rand": (0, state.rand),
        "rand_of": (2, state.rand_of),
        "uuid": (0, state.uuid),
        "sleep": (1, state.sleep),
        "row_key": (-1, _row_key),
    }
    for name, (count, run) in own.items():
        connection.create_function(f"f_{name}", count, guarded(run))
    for name, (count, kind, windowed) in AGGREGATES.items():
        if windowed:
            connection.create_window_function(f"f_{name}", count, kind)
        else:
            connection.create_aggregate(f"f_{name}", count, kind)

    class Single:
        """The value of a subquery that may have one row only."""

        def __init__(self) -> None:
            self._rows: list[Any] = []

        def step(self, value: Any) -> None:
            self._rows.append(value)
            if len(self._rows) > 1:
                state.fault = failed(1242, "Subquery returns more than 1 row")
                raise state.fault

        def finalize(self) -> Any:
            return self._rows[0] if self._rows else None

    connection.create_aggregate("f_single", 1, Single)


def _row_key(*values: Any) -> str | None:
    """A text that is the same for the same row, as COUNT(DISTINCT a, b) counts; None where a part is NULL."""
    if None in values:
        return None
    return "\x1f".join(sort_key(value) if isinstance(value, str) else repr(value) for value in values)
