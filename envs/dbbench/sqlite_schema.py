"""What a database says of itself: information_schema, SHOW and DESCRIBE, from the catalog."""

# ruff: noqa: S608 - names are SQLite's own (t1, c0), values are parameters or escaped literals

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from envs.dbbench.backend import PUBLIC_NAME
from envs.dbbench.sqlite_catalog import ColumnDef, TableDef
from envs.dbbench.sqlite_errors import failed
from envs.dbbench.sqlite_scope import Output
from envs.dbbench.sqlite_types import BIGINT, TEXT

if TYPE_CHECKING:
    from envs.dbbench.sqlite_state import State

__all__ = ["column_rows", "create_text", "index_rows", "names", "schema_table", "tick"]

_COLLATION = "utf8mb4_0900_ai_ci"
type _Rows = list[tuple[Any, ...]]

_TABLES: dict[str, str] = {
    "tables": """TABLE_CATALOG TABLE_SCHEMA TABLE_NAME TABLE_TYPE ENGINE VERSION# ROW_FORMAT TABLE_ROWS# AUTO_INCREMENT#
        TABLE_COLLATION TABLE_COMMENT""",
    "columns": """TABLE_CATALOG TABLE_SCHEMA TABLE_NAME COLUMN_NAME ORDINAL_POSITION# COLUMN_DEFAULT IS_NULLABLE
        DATA_TYPE CHARACTER_MAXIMUM_LENGTH# CHARACTER_OCTET_LENGTH# NUMERIC_PRECISION# NUMERIC_SCALE#
        DATETIME_PRECISION# CHARACTER_SET_NAME COLLATION_NAME COLUMN_TYPE COLUMN_KEY EXTRA PRIVILEGES COLUMN_COMMENT""",
    "schemata": "CATALOG_NAME SCHEMA_NAME DEFAULT_CHARACTER_SET_NAME DEFAULT_COLLATION_NAME SQL_PATH",
    "statistics": """TABLE_CATALOG TABLE_SCHEMA TABLE_NAME NON_UNIQUE# INDEX_SCHEMA INDEX_NAME SEQ_IN_INDEX# COLUMN_NAME
        NULLABLE INDEX_TYPE""",
    "key_column_usage": """CONSTRAINT_CATALOG CONSTRAINT_SCHEMA CONSTRAINT_NAME TABLE_CATALOG TABLE_SCHEMA TABLE_NAME
        COLUMN_NAME ORDINAL_POSITION# REFERENCED_TABLE_SCHEMA REFERENCED_TABLE_NAME REFERENCED_COLUMN_NAME""",
    "table_constraints": """CONSTRAINT_CATALOG CONSTRAINT_SCHEMA CONSTRAINT_NAME TABLE_SCHEMA TABLE_NAME
        CONSTRAINT_TYPE""",
    "views": "TABLE_CATALOG TABLE_SCHEMA TABLE_NAME VIEW_DEFINITION",
    "referential_constraints": """CONSTRAINT_SCHEMA CONSTRAINT_NAME TABLE_NAME REFERENCED_TABLE_NAME UPDATE_RULE
        DELETE_RULE""",
    "routines": "ROUTINE_SCHEMA ROUTINE_NAME ROUTINE_TYPE",
    "triggers": "TRIGGER_SCHEMA TRIGGER_NAME EVENT_OBJECT_TABLE",
}
_BITS = {"tinyint": 3, "smallint": 5, "mediumint": 7, "int": 10, "bigint": 19}


def tick(name: str) -> str:
    """A name in MySQL's quotes."""
    return "`" + name.replace("`", "``") + "`"


def names(state: State) -> list[str]:
    """Tables and views, in order."""
    return sorted({*state.catalog.tables, *state.catalog.views})


def schema_table(state: State, name: str) -> tuple[tuple[Output, ...], _Rows]:
    """A table of information_schema for the episode's database. Raises StatementFailed (1109)."""
    columns = _TABLES.get(name.lower())
    if columns is None:
        raise failed(1109, f"Unknown table '{name.upper()}' in information_schema")
    outputs = tuple(Output(column.rstrip("#"), BIGINT if column.endswith("#") else TEXT) for column in columns.split())
    makers = {
        "tables": _tables, "columns": _columns, "schemata": _schemata, "statistics": _statistics,
        "key_column_usage": _usage, "table_constraints": _constraints, "views": _views,
        "referential_constraints": _links,
    }  # fmt: skip
    maker = makers.get(name.lower())
    return outputs, maker(state) if maker else []


def _count(state: State, table: TableDef) -> int:
    return int(next(state.rows(f"SELECT count(*) FROM {table.inner}"))[0])


def _tables(state: State) -> _Rows:
    catalog = state.catalog
    found: _Rows = []
    for name in names(state):
        table = catalog.tables.get(name)
        if table is None:
            found.append(("def", PUBLIC_NAME, name, "VIEW", None, None, None, None, None, None, "VIEW"))
            continue
        auto = table.next_auto if any(column.auto for column in table.columns) else None
        row = ("def", PUBLIC_NAME, name, "BASE TABLE", "InnoDB", 10, "Dynamic", _count(state, table), auto, _COLLATION)
        found.append((*row, table.comment))
    return found


def _columns(state: State) -> _Rows:
    found: _Rows = []
    for table in (state.catalog.tables[name] for name in sorted(state.catalog.tables)):
        for place, column in enumerate(table.columns, start=1):
            kind = column.type
            texts = kind.kind == "text"
            length = _length(column) if kind.textual else None
            precision = _BITS.get(kind.name, {"decimal": kind.length, "double": 22, "float": 12}.get(kind.kind))
            _, ddl, null, key, default, extra = column_rows(table, full=False, only=column)[0]
            found.append((
                "def", PUBLIC_NAME, table.name, column.name, place, default, null, kind.name, length,
                length * 4 if length and kind.name in ("varchar", "char", "enum") else length, precision,
                kind.scale if kind.exact else None, 0 if kind.name in ("datetime", "time") else None,
                "utf8mb4" if texts else None, _COLLATION if texts else None, ddl, key, extra,
                "select,insert,update,references", column.comment,
            ))  # fmt: skip
    return found


def _length(column: ColumnDef) -> int:
    named = {"tinytext": 255, "text": 65535, "mediumtext": 2**24 - 1, "longtext": 2**32 - 1, "blob": 65535}
    if column.type.values:
        return max(map(len, column.type.values))
    return named.get(column.type.name, column.type.length)


def _schemata(state: State) -> _Rows:
    return [
        ("def", "information_schema", "utf8mb3", "utf8mb3_general_ci", None),
        ("def", "performance_schema", "utf8mb4", _COLLATION, None),
        ("def", PUBLIC_NAME, "utf8mb4", _COLLATION, None),
    ]


def _statistics(state: State) -> _Rows:
    return [
        ("def", PUBLIC_NAME, row[0], row[1], PUBLIC_NAME, row[2], row[3], row[4], row[9], row[10])
        for name in sorted(state.catalog.tables)
        for row in index_rows(state, state.catalog.tables[name])
    ]


def _usage(state: State) -> _Rows:
    found: _Rows = []
    own = ("def", PUBLIC_NAME)
    for table in (state.catalog.tables[name] for name in sorted(state.catalog.tables)):
        for key in table.keys:
            for place, column in enumerate(key.columns if key.unique else (), start=1):
                found.append((*own, key.name, *own, table.name, column, place, None, None, None))
        for link in table.links:
            for place, (column, there) in enumerate(zip(link.columns, link.references, strict=True), start=1):
                found.append((*own, link.name, *own, table.name, column, place, PUBLIC_NAME, link.table, there))
    return found


def _constraints(state: State) -> _Rows:
    found: _Rows = []
    for table in (state.catalog.tables[name] for name in sorted(state.catalog.tables)):
        kinds = [(key.name, "PRIMARY KEY" if key.name == "PRIMARY" else "UNIQUE") for key in table.keys if key.unique]
        kinds += [(link.name, "FOREIGN KEY") for link in table.links]
        kinds += [(check.name, "CHECK") for check in table.checks]
        found += [("def", PUBLIC_NAME, name, PUBLIC_NAME, table.name, kind) for name, kind in kinds]
    return found


def _links(state: State) -> _Rows:
    return [
        (PUBLIC_NAME, link.name, table.name, link.table, link.on_update or "NO ACTION", link.on_delete or "NO ACTION")
        for table in state.catalog.tables.values()
        for link in table.links
    ]


def _views(state: State) -> _Rows:
    return [("def", PUBLIC_NAME, name, state.catalog.views[name].text) for name in sorted(state.catalog.views)]


def column_rows(table: TableDef, *, full: bool, only: ColumnDef | None = None) -> _Rows:
    """DESCRIBE's rows; SHOW FULL COLUMNS' with ``full``."""
    found: _Rows = []
    for column in table.columns if only is None else (only,):
        key = ""
        for index in table.keys:
            if index.name == "PRIMARY" and column.name in index.columns:
                key = "PRI"
            elif index.columns[0] == column.name and not key:
                key = "UNI" if index.unique and len(index.columns) == 1 else "MUL"
        default = "CURRENT_TIMESTAMP" if column.now else column.default
        extra = "auto_increment" if column.auto else "DEFAULT_GENERATED" if column.now else ""
        if column.on_update:
            extra = f"{extra} on update CURRENT_TIMESTAMP".strip()
        null = "NO" if column.not_null else "YES"
        if full:
            collation = _COLLATION if column.type.kind == "text" else None
            rights = "select,insert,update,references"
            found.append((column.name, column.type.ddl, collation, null, key, default, extra, rights, column.comment))
        else:
            found.append((column.name, column.type.ddl, null, key, default, extra))
    return found


def index_rows(state: State, table: TableDef) -> _Rows:
    """SHOW INDEX's rows."""
    return [
        (
            table.name, int(not key.unique), key.name, place, column, "A", _count(state, table), None, None,
            "" if table.column(column).not_null else "YES", "BTREE", "", "", "YES", None,
        )
        for key in table.keys
        for place, column in enumerate(key.columns, start=1)
    ]  # fmt: skip


def create_text(table: TableDef) -> str:
    """SHOW CREATE TABLE's text."""
    lines = [f"  {tick(column.name)} {_column_text(column)}" for column in table.columns]
    for key in table.keys:
        columns = ",".join(map(tick, key.columns))
        if key.name == "PRIMARY":
            lines.append(f"  PRIMARY KEY ({columns})")
        else:
            lines.append(f"  {'UNIQUE ' if key.unique else ''}KEY {tick(key.name)} ({columns})")
    for link in table.links:
        here, there = (",".join(map(tick, columns)) for columns in (link.columns, link.references))
        rules = "".join(
            f" ON {word} {rule}" for word, rule in (("DELETE", link.on_delete), ("UPDATE", link.on_update)) if rule
        )
        here, there = here.replace(",", ", "), there.replace(",", ", ")
        lines.append(
            f"  CONSTRAINT {tick(link.name)} FOREIGN KEY ({here}) REFERENCES {tick(link.table)} ({there}){rules}"
        )
    lines += [f"  CONSTRAINT {tick(check.name)} CHECK ({check.text})" for check in table.checks]
    auto = f" AUTO_INCREMENT={table.next_auto}" if table.next_auto > 1 and any(c.auto for c in table.columns) else ""
    comment = f" COMMENT='{table.comment}'" if table.comment else ""
    word = "TEMPORARY TABLE" if table.temporary else "TABLE"
    return (
        f"CREATE {word} {tick(table.name)} (\n"
        + ",\n".join(lines)
        + f"\n) ENGINE=InnoDB{auto} DEFAULT CHARSET=utf8mb4 "
        f"COLLATE={_COLLATION}{comment}"
    )


def _column_text(column: ColumnDef) -> str:
    text = column.type.ddl
    texts = re.fullmatch(r"(?:tiny|medium|long)?(?:text|blob)", column.type.name) is not None
    if column.not_null:
        text += " NOT NULL"
    elif column.type.name == "timestamp":
        text += " NULL"
    if column.auto:
        text += " AUTO_INCREMENT"
    elif column.now:
        text += " DEFAULT CURRENT_TIMESTAMP"
    elif column.default is not None:
        text += " DEFAULT '" + column.default.replace("'", "''") + "'"
    elif not column.not_null and not texts:
        text += " DEFAULT NULL"
    if column.on_update:
        text += " ON UPDATE CURRENT_TIMESTAMP"
    return text + (" COMMENT '" + column.comment.replace("'", "''") + "'" if column.comment else "")
