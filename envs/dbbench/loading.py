"""The statements that fill a task's tables; the episodes of one task share them."""

# ruff: noqa: S608 - names are quoted and values escaped

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from pymysql.converters import escape_string

from envs.dbbench.tables import Table, create_sql, quote

__all__ = ["load_statements"]

_BATCH_CHARACTERS = 2**19  # four bytes each at most, within a packet
_KEPT = 256
_SMALL_ROWS = 500  # a larger table's text is not worth the memory


def load_statements(table: Table) -> tuple[str, ...]:
    """CREATE TABLE, and INSERTs of half a million characters at most. For a session without NO_BACKSLASH_ESCAPES."""
    return _kept(table) if len(table.rows) <= _SMALL_ROWS else tuple(_statements(table))


@lru_cache(maxsize=_KEPT)
def _kept(table: Table) -> tuple[str, ...]:
    return tuple(_statements(table))


def _statements(table: Table) -> Iterator[str]:
    yield create_sql(table)
    head = f"INSERT INTO {quote(table.name)} ({', '.join(map(quote, table.columns))}) VALUES "
    batch: list[str] = []
    size = 0
    for row in table.rows:
        text = "(" + ",".join("NULL" if value is None else f"'{escape_string(value)}'" for value in row) + ")"
        batch.append(text)
        size += len(text)
        if size > _BATCH_CHARACTERS:
            yield head + ",".join(batch)
            batch, size = [], 0
    if batch:
        yield head + ",".join(batch)
