"""A task's tables, as every database behind the seam creates them."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["ForeignKey", "Table", "create_sql", "known_type", "quote"]

_TYPES = re.compile(
    r"(?:TINYTEXT|TEXT|MEDIUMTEXT|LONGTEXT|TINYINT|SMALLINT|MEDIUMINT|INT|INTEGER|BIGINT|BOOLEAN|BOOL|FLOAT|DOUBLE|DATE"
    r"|DATETIME|TIMESTAMP|TIME|YEAR|(?:VARCHAR|CHAR)\([1-9][0-9]{0,3}\)|DECIMAL\([1-9][0-9]?,[1-9]?[0-9]\))"
)


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """``columns`` name rows of ``table`` by its ``references``."""

    columns: tuple[str, ...]
    table: str
    references: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table to create. Without ``types`` every column is TEXT and every value its ``str()``, as in AgentBench.

    ``types`` has one of ``known_type`` for each column; a value is then a literal's text that the type takes, or None
    for NULL. A table that a foreign key names comes before the one that has the key.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]
    types: tuple[str, ...] = ()
    primary_key: tuple[str, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()


def known_type(text: str) -> bool:
    """Whether a column may have this type: upper case, ``TEXT``, ``VARCHAR(n)``, ``DECIMAL(p,s)`` and so on."""
    return _TYPES.fullmatch(text) is not None


def quote(name: str) -> str:
    """A name as an SQL identifier."""
    return "`" + name.replace("`", "``") + "`"


def create_sql(table: Table) -> str:
    """The statement that creates the table, in MySQL's dialect."""
    types = table.types or ("TEXT",) * len(table.columns)
    parts = [f"{quote(column)} {kind}" for column, kind in zip(table.columns, types, strict=True)]
    if table.primary_key:
        parts.append(f"PRIMARY KEY ({', '.join(map(quote, table.primary_key))})")
    for key in table.foreign_keys:
        here, there = (", ".join(map(quote, names)) for names in (key.columns, key.references))
        parts.append(f"FOREIGN KEY ({here}) REFERENCES {quote(key.table)} ({there})")
    return f"CREATE TABLE {quote(table.name)} ({', '.join(parts)})"
