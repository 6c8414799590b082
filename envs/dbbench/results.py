"""A result as AgentBench's worker prints it: ``str()`` of the list of rows as mysql-connector gives them."""

from __future__ import annotations

from typing import Any

from pymysql.constants import FIELD_TYPE, FLAG

from envs.dbbench.backend import KEPT_ROWS, Limits
from envs.dbbench.connection import StreamCursor

__all__ = ["ResultReader"]

_KEPT_BYTES = 2**20


class ResultReader:
    """Reads the first result of a statement row by row, within the limits, and keeps what will be shown."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.text = "[]"
        self.rows: list[tuple[Any, ...]] = []
        self.limit = ""  # the limit at which reading stopped; the rest is unread

    def read(self, cursor: StreamCursor) -> None:
        """Read to the end or to a limit; ``limit`` says which."""
        if cursor.description is None:
            return
        sets = [
            index
            for index, column in enumerate(cursor._result.fields)
            if column.flags & FLAG.SET and column.type_code in (FIELD_TYPE.STRING, FIELD_TYPE.SET)
        ]
        shown: list[str] = []
        length = rows = size = 0
        while (row := cursor.fetchone()) is not None:
            rows += 1
            if length <= 4 * self._limits.text:  # the database's name gets shorter
                shown.append(_printed(row, sets))
                length += len(shown[-1]) + 2
            if rows <= KEPT_ROWS and size <= _KEPT_BYTES:
                self.rows.append(row)
            size += sum(len(value) if isinstance(value, (str, bytes)) else 8 for value in row)
            if rows >= self._limits.rows or size > self._limits.bytes:
                self.limit = "rows" if rows >= self._limits.rows else "bytes"
                break
        self.text = f"[{', '.join(shown)}]"


class _Set(tuple[str, ...]):
    """A SET column's value, printed as Python prints a set but always in the column's order."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{{{', '.join(map(repr, self))}}}" if self else "set()"


def _printed(row: tuple[Any, ...], sets: list[int]) -> str:
    if sets:
        values = list(row)
        for index in sets:
            if isinstance(values[index], str):
                values[index] = _Set(filter(None, values[index].split(",")))
        row = tuple(values)
    return str(row)
