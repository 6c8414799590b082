"""MySQL's functions, given to an SQLite connection when a statement first calls them: all at once takes long."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from typing import Any

from envs.dbbench.backend import StatementFailed
from envs.dbbench.sqlite_aggregates import AGGREGATES
from envs.dbbench.sqlite_collation import sort_key
from envs.dbbench.sqlite_errors import SlowStatement, failed
from envs.dbbench.sqlite_functions import FUNCTIONS
from envs.dbbench.sqlite_state import State

__all__ = ["Teacher"]

_CALLED = re.compile(r"\bf_(\w+)\(")
_BOUND = {name: function.bound() for name, function in FUNCTIONS.items()}


class Teacher:
    """Knows what one connection has been taught. SQLite calls our functions ``f_`` and their name."""

    def __init__(self, connection: sqlite3.Connection, state: State) -> None:
        self._connection = connection
        self._state = state
        self._taught: set[str] = set()
        self._own: dict[str, Callable[..., Any]] = {
            "assign_variable": state.assign_variable,
            "read_variable": state.variables_get,
            "rand": state.rand,
            "rand_of": state.rand_of,
            "uuid": state.uuid,
            "sleep": state.sleep,
            "row_key": _row_key,
        }

    def teach(self, sql: str) -> None:
        """Give the connection what the statement calls and it does not know."""
        for name in _CALLED.findall(sql):
            if name not in self._taught:
                self._taught.add(name)
                self._give(name)

    def _give(self, name: str) -> None:
        called = f"f_{name}"
        if name in FUNCTIONS:
            pure = FUNCTIONS[name].pure
            self._connection.create_function(called, -1, self._guarded(_BOUND[name]), deterministic=pure)
        elif name in self._own:
            self._connection.create_function(called, -1, self._guarded(self._own[name]))
        elif name == "single":
            self._connection.create_aggregate(called, 1, _single(self._state))
        elif name in AGGREGATES:
            count, kind, windowed = AGGREGATES[name]
            if windowed:
                self._connection.create_window_function(called, count, kind)
            else:
                self._connection.create_aggregate(called, count, kind)

    def _guarded(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """Keeps what a function raises: SQLite says only that something was raised."""
        state = self._state

        def call(*given: Any) -> Any:
            try:
                return run(*given)
            except (StatementFailed, SlowStatement) as error:
                state.fault = error
                raise
            except (ValueError, ArithmeticError, TypeError) as error:
                state.fault = failed(1105, f"{type(error).__name__} in a function")
                raise

        return call


def _single(state: State) -> type:
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

    return Single


def _row_key(*values: Any) -> str | None:
    """A text that is the same for the same row, as COUNT(DISTINCT a, b) counts; None where a part is NULL."""
    if None in values:
        return None
    return "\x1f".join(sort_key(value) if isinstance(value, str) else repr(value) for value in values)
