"""Tables of SQLite as a typed task has them: types that take every value, and those keys that MySQL can hold."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from envs.dbbench.convert_source import SourceTable
from envs.dbbench.tables import ForeignKey, Table
from envs.dbbench.task_tables import find_key_cycle
from envs.dbbench.task_types import Value, column_texts, key_type, narrow_type

__all__ = ["TableWriter", "UnfitTable"]

_MAX_NAME = 64
_ROW_BYTES = 32_768  # of a row's VARCHARs: MySQL takes 65,535 of all columns but TEXT, four a character
_INTEGERS = ("INT", "INTEGER", "BIGINT", "SMALLINT", "TINYINT", "MEDIUMINT", "BOOLEAN", "BOOL")


class UnfitTable(Exception):
    """Why a table cannot be one of a task."""


@dataclass(slots=True)
class _Draft:
    """A table while its keys are settled. ``kinds`` and ``values`` are by column."""

    source: SourceTable
    kinds: dict[str, str]
    values: dict[str, list[Value]]
    primary: tuple[str, ...]
    foreign: list[ForeignKey] = field(default_factory=list)


class TableWriter:
    """Writes tables of one database; what it has found out of a table it keeps for the next question."""

    def __init__(self) -> None:
        self._drafts: dict[str, tuple[_Draft, str]] = {}
        self._texts: dict[tuple[str, str, str], list[str | None]] = {}

    def json(self, sources: Sequence[SourceTable]) -> tuple[list[dict[str, Any]], Counter[str]]:
        """The ``table`` of a typed row, and how many keys were dropped, by reason. Raises UnfitTable."""
        dropped: Counter[str] = Counter()
        drafts: dict[str, _Draft] = {}
        for source in sources:
            if source.name not in self._drafts:
                self._drafts[source.name] = _draft(source)
            draft, reason = self._drafts[source.name]
            drafts[source.name] = replace(draft, kinds=dict(draft.kinds), foreign=[])
            if reason:
                dropped[reason] += 1
        if len({name.casefold() for name in drafts}) != len(drafts):
            raise UnfitTable("two tables differ by case alone")
        for draft in drafts.values():
            for key in draft.source.foreign_keys:
                reason = _obstacle(draft, key, drafts)
                if reason:
                    dropped[reason] += 1
                elif key not in draft.foreign:
                    draft.foreign.append(key)
        _break_cycles(drafts, dropped)
        _align(drafts)
        return [self._json(draft) for draft in drafts.values()], dropped

    def _json(self, draft: _Draft) -> dict[str, Any]:
        source = draft.source
        info: dict[str, Any] = {
            "columns": [{"name": column, "type": draft.kinds[column]} for column in source.columns],
            "rows": [list(row) for row in zip(*(self._column(draft, c) for c in source.columns), strict=True)],
        }
        if draft.primary:
            info["primary_key"] = list(draft.primary)
        if draft.foreign:
            info["foreign_keys"] = [
                {"columns": list(key.columns), "table": key.table, "references": list(key.references)}
                for key in draft.foreign
            ]
        return {"table_name": source.name, "table_info": info}

    def _column(self, draft: _Draft, column: str) -> list[str | None]:
        key = (draft.source.name, column, draft.kinds[column])
        if key not in self._texts:
            self._texts[key] = column_texts(draft.values[column], draft.kinds[column])
        return self._texts[key]


def _draft(source: SourceTable) -> tuple[_Draft, str]:
    """The table with its own types, and why it lost its primary key."""
    for name in (source.name, *source.columns):
        if not 0 < len(name) <= _MAX_NAME or name != name.rstrip() or "\0" in name or "`" in name:
            raise UnfitTable("a name is too long for MySQL, or ends in a blank")
    if len({column.casefold() for column in source.columns}) != len(source.columns):
        raise UnfitTable("two columns differ by case alone")
    values: dict[str, list[Value]] = {column: [] for column in source.columns}
    for row in source.rows:
        for column, value in zip(source.columns, row, strict=True):
            if isinstance(value, bytes):
                raise UnfitTable("a value is binary")
            values[column].append(value)
    kinds = {
        column: narrow_type(declared, values[column])
        for column, declared in zip(source.columns, source.declared, strict=True)
    }
    sizes = {column: int(kind[8:-1]) for column, kind in kinds.items() if kind.startswith("VARCHAR")}
    if 4 * sum(sizes.values()) > _ROW_BYTES:
        kinds |= dict.fromkeys(sizes, "TEXT")
    draft = _Draft(source, kinds, values, source.primary_key)
    reason = _primary_obstacle(draft)
    if reason:
        draft.primary = ()
    return draft, reason


def _primary_obstacle(draft: _Draft) -> str:
    if not draft.primary:
        return ""
    if not _fit_key(draft, draft.primary):
        return "a key's texts are too long for MySQL"
    keys = list(zip(*(draft.values[column] for column in draft.primary), strict=True))
    if any(value is None for key in keys for value in key):
        return "a primary key is null"
    if len({_folded(key) for key in keys}) != len(keys):
        return "a primary key repeats, as MySQL compares"
    _set_key_types(draft, draft.primary)
    return ""


def _fit_key(draft: _Draft, columns: Sequence[str]) -> bool:
    try:
        for column in columns:
            if draft.kinds[column] in ("MEDIUMTEXT", "LONGTEXT"):
                return False
            key_type(draft.kinds[column], draft.values[column], len(columns))
    except ValueError:
        return False
    return True


def _set_key_types(draft: _Draft, columns: Sequence[str]) -> None:
    for column in columns:
        draft.kinds[column] = key_type(draft.kinds[column], draft.values[column], len(columns))


def _obstacle(draft: _Draft, key: ForeignKey, drafts: dict[str, _Draft]) -> str:
    """Why MySQL cannot hold this foreign key; its columns have a key's types afterwards where it can."""
    other = drafts.get(key.table)
    if other is None:
        return "a foreign key names a table that is left out"
    if key.references != other.primary or not set(key.columns) <= draft.kinds.keys():
        return "a foreign key names no primary key"
    if not _fit_key(draft, key.columns):
        return "a key's texts are too long for MySQL"
    if not all(
        _family(draft.kinds[here]) == _family(other.kinds[there])
        for here, there in zip(key.columns, key.references, strict=True)
    ):
        return "a foreign key has another type than what it names"
    if not _rows_exist(draft, key, other):
        return "a foreign key names rows that are not there"
    _set_key_types(draft, key.columns)
    return ""


def _family(kind: str) -> str:
    return "integer" if kind in _INTEGERS else "text" if kind.startswith(("VARCHAR", "TEXT")) else kind


def _rows_exist(draft: _Draft, key: ForeignKey, other: _Draft) -> bool:
    """As ``task_tables`` wants it: in the own table a row comes after the one that it names."""
    here = list(zip(*(draft.values[column] for column in key.columns), strict=True))
    there = [_plain(row) for row in zip(*(other.values[column] for column in key.references), strict=True)]
    known = set() if other is draft else set(there)
    for i, row in enumerate(here):
        if other is draft:
            known.add(there[i])
        if all(value is not None for value in row) and _plain(row) not in known:
            return False
    return True


def _plain(key: Sequence[Value]) -> tuple[str, ...]:
    """A key's values as texts without case: what both the reader of task files and MySQL find equal."""
    return tuple(str(value).casefold() for value in key)


def _folded(key: Sequence[Value]) -> tuple[str, ...]:
    """Equal for what MySQL's collation may hold to be equal: without case and accents, signs, and blanks last."""
    return tuple(
        "".join(
            char
            for char in unicodedata.normalize("NFKD", str(value).casefold().rstrip())
            if unicodedata.category(char)[0] in "LNPSZ"
        )
        for value in key
    )


def _break_cycles(drafts: dict[str, _Draft], dropped: Counter[str]) -> None:
    while cycle := find_key_cycle([Table(n, (), (), foreign_keys=tuple(d.foreign)) for n, d in drafts.items()]):
        draft = drafts[cycle[0]]
        kept = [key for key in draft.foreign if key.table not in cycle or key.table == draft.source.name]
        dropped["foreign keys go round in a circle"] += len(draft.foreign) - len(kept)
        draft.foreign = kept


def _align(drafts: dict[str, _Draft]) -> None:
    """Whole numbers on both sides of a foreign key get one type, the widest."""
    pairs = [
        ((draft, here), (drafts[key.table], there))
        for draft in drafts.values()
        for key in draft.foreign
        for here, there in zip(key.columns, key.references, strict=True)
    ]
    changed = True
    while changed:
        changed = False
        for (a, here), (b, there) in pairs:
            kinds = {a.kinds[here], b.kinds[there]}
            if len(kinds) > 1 and _family(a.kinds[here]) == "integer":
                # A key of SQLite's is an INTEGER in all its spellings; BIGINT where one side needs it.
                widest = "BIGINT" if "BIGINT" in kinds else "INT"
                changed = changed or kinds != {widest}
                a.kinds[here] = b.kinds[there] = widest
