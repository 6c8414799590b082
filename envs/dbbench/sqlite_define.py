"""Tables as CREATE TABLE and ALTER TABLE define them, from sqlglot's tree to the catalog's."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from sqlglot import exp

from envs.dbbench.backend import StatementFailed
from envs.dbbench.sqlite_catalog import ColumnDef, KeyDef, LinkDef, TableDef
from envs.dbbench.sqlite_errors import failed, syntax_error, unsupported
from envs.dbbench.sqlite_store import store
from envs.dbbench.sqlite_types import TEXT, SqlType
from envs.dbbench.sqlite_values import as_text

__all__ = ["Draft", "column_type", "draft_column", "draft_item"]

_INTS = {"TINYINT": "tinyint", "SMALLINT": "smallint", "MEDIUMINT": "mediumint", "INT": "int", "BIGINT": "bigint"}
_TEXTS = {
    "TEXT": "text", "TINYTEXT": "tinytext", "MEDIUMTEXT": "mediumtext", "LONGTEXT": "longtext", "VARCHAR": "varchar",
    "NVARCHAR": "varchar", "CHAR": "char", "NCHAR": "char",
}  # fmt: skip
_BYTES = {
    "BLOB": "blob", "TINYBLOB": "tinyblob", "MEDIUMBLOB": "mediumblob", "LONGBLOB": "longblob",
    "VARBINARY": "varbinary", "BINARY": "binary",
}  # fmt: skip
_TIMES = {"DATE": "date", "DATETIME": "datetime", "TIME": "time", "TIMESTAMP": "timestamp", "TIMESTAMPTZ": "timestamp"}
_DISPLAY = re.compile(r"\d{1,3}")
_MAX_NAME = 64


@dataclass
class Draft:
    """A table that is being defined. ``checks``: name and condition, still to be compiled."""

    table: str
    columns: list[ColumnDef] = field(default_factory=list)
    keys: list[KeyDef] = field(default_factory=list)
    links: list[LinkDef] = field(default_factory=list)
    checks: list[tuple[str, exp.Expr]] = field(default_factory=list)
    made: int = 0

    @classmethod
    def of(cls, table: TableDef) -> Draft:
        """A table that is to be altered, without its checks."""
        made = 1 + max((int(column.inner[1:]) for column in table.columns), default=-1)
        return cls(table.name, list(table.columns), list(table.keys), list(table.links), [], made)

    def place(self, name: str) -> int:
        """Where a column stands. Raises StatementFailed (1054)."""
        for at, column in enumerate(self.columns):
            if column.name.casefold() == name.casefold():
                return at
        raise failed(1054, f"Unknown column '{name}' in '{self.table}'")

    def own_name(self, name: str, clause: str = "") -> str:
        """A column's name in its own case. Raises StatementFailed (1072)."""
        for column in self.columns:
            if column.name.casefold() == name.casefold():
                return column.name
        raise failed(1072, f"Key column '{name}' doesn't exist in table")

    def inner(self) -> str:
        """SQLite's name of a new column."""
        self.made += 1
        return f"c{self.made - 1}"

    def add_key(self, name: str, columns: list[str], *, unique: bool) -> None:
        """A further index. Raises StatementFailed (1061, 1068)."""
        own = tuple(self.own_name(column) for column in columns)
        if name == "PRIMARY":
            if any(key.name == "PRIMARY" for key in self.keys):
                raise failed(1068, "Multiple primary key defined")
            self.keys.insert(0, KeyDef(name, own, True))
            for column in own:
                at = self.place(column)
                self.columns[at] = _not_null(self.columns[at])
            return
        if not name:
            name, number = own[0], 1
            while any(key.name.casefold() == name.casefold() for key in self.keys):
                number += 1
                name = f"{own[0]}_{number}"
        elif any(key.name.casefold() == name.casefold() for key in self.keys):
            raise failed(1061, f"Duplicate key name '{name}'")
        # InnoDB lists unique keys before the others.
        at = sum(key.unique for key in self.keys) if unique else len(self.keys)
        self.keys.insert(at, KeyDef(name, own, unique))

    def add_link(self, name: str, columns: list[str], reference: exp.Reference) -> None:
        """A further foreign key, with the index that it needs."""
        schema = reference.this
        table = schema.this.name if isinstance(schema, exp.Schema) else schema.name
        there = tuple(item.name for item in schema.expressions) if isinstance(schema, exp.Schema) else ()
        rules = {"DELETE": "", "UPDATE": ""}
        for option in reference.args.get("options") or ():
            found = re.fullmatch(r"ON (DELETE|UPDATE) (.+)", str(option).upper())
            if found:
                rules[found[1]] = found[2]
        if not name:
            number = 1
            while any(link.name == f"{self.table}_ibfk_{number}" for link in self.links):
                number += 1
            name = f"{self.table}_ibfk_{number}"
        own = tuple(self.own_name(column) for column in columns)
        self.links.append(LinkDef(name, own, table, there, rules["DELETE"], rules["UPDATE"]))
        if not any(key.columns[: len(own)] == own for key in self.keys):
            self.keys.append(KeyDef(name if not name.endswith(tuple("0123456789")) or "_ibfk_" not in name else own[0],
                                    own, False))  # fmt: skip


def _not_null(column: ColumnDef) -> ColumnDef:
    return ColumnDef(
        column.name, column.inner, column.type, True, column.default, column.has_default, column.now, column.on_update,
        column.auto, column.comment,
    )  # fmt: skip


def column_type(node: exp.DataType) -> SqlType:
    """A column's type. Raises StatementFailed for what SQLite cannot stand in for."""
    word = str(node.this.value if hasattr(node.this, "value") else node.this).upper()
    sizes = [int(item.name) for item in node.expressions if _DISPLAY.fullmatch(item.name) or item.name.isdigit()]
    plain = word.removeprefix("U") if word not in ("USERDEFINED", "UUID") else word
    unsigned = plain != word
    if word == "BOOLEAN":
        return SqlType("int", "tinyint", 1)
    if plain in _INTS:
        return SqlType("int", _INTS[plain], sizes[0] if sizes else 0, unsigned=unsigned)
    if plain in ("DECIMAL", "NUMERIC"):
        length, scale = [*sizes, 10, 0][:2] if len(sizes) != 1 else (sizes[0], 0)
        if length > 65 or scale > 30:
            raise failed(1426, f"Too-big precision {length} specified for 'column'. Maximum is 65.")
        return SqlType("decimal", "decimal", length, scale, unsigned=unsigned)
    if plain in ("DOUBLE", "REAL"):
        return SqlType("double", "double", unsigned=unsigned)
    if plain == "FLOAT":
        return SqlType("float", "float", unsigned=unsigned)
    if word in _TEXTS:
        name = _TEXTS[word]
        if name == "varchar" and not sizes:
            raise syntax_error("VARCHAR")
        if name == "varchar" and sizes[0] > 16383:
            raise failed(1074, "Column length too big for column (max = 16383); use BLOB or TEXT instead")
        return SqlType("text", name, (sizes[0] if sizes else 1) if name in ("varchar", "char") else 0)
    if word in _BYTES:
        return SqlType("binary", _BYTES[word], sizes[0] if sizes else 1)
    if word in _TIMES:
        name = _TIMES[word]
        kind = "datetime" if name == "timestamp" else name
        return SqlType(kind, name, 0, min(sizes[0], 6) if sizes else 0)
    if word == "YEAR":
        return SqlType("year", "year")
    if word == "JSON":
        return SqlType("json", "json")
    if word in ("ENUM", "SET"):
        return SqlType("text", word.lower(), values=tuple(item.name for item in node.expressions))
    raise unsupported(f"column type {word}")


def draft_column(draft: Draft, node: exp.ColumnDef, inner: str) -> ColumnDef:
    """A column with its constraints; keys and checks go to the draft, once the column is in it: see ``draft_item``."""
    name = node.name
    if not name or len(name) > _MAX_NAME or name != name.rstrip():
        raise failed(1166 if len(name) <= _MAX_NAME else 1059, f"Incorrect column name '{name}'")
    if node.kind is None:
        raise syntax_error(name)
    kind = column_type(node.kind)
    flags: dict[str, object] = {}
    for constraint in node.args.get("constraints") or ():
        inner_kind = constraint.kind
        if isinstance(inner_kind, exp.NotNullColumnConstraint):
            flags["not_null"] = not inner_kind.args.get("allow_null")
        elif isinstance(inner_kind, exp.AutoIncrementColumnConstraint):
            flags["auto"] = flags["not_null"] = True
        elif isinstance(inner_kind, exp.DefaultColumnConstraint):
            flags |= _default(inner_kind.this)
        elif isinstance(inner_kind, exp.OnUpdateColumnConstraint):
            flags["on_update"] = True
        elif isinstance(inner_kind, exp.CommentColumnConstraint):
            flags["comment"] = inner_kind.this.name
        elif isinstance(inner_kind, exp.CollateColumnConstraint):
            if inner_kind.this.name.lower().endswith(("_bin", "_cs")):
                kind = SqlType(kind.kind, kind.name, kind.length, kind.scale, kind.unsigned, kind.values, True)
        elif isinstance(inner_kind, (exp.GeneratedAsIdentityColumnConstraint, exp.ComputedColumnConstraint)):
            raise unsupported("generated columns")
    column = ColumnDef(name, inner, kind, **flags)  # type: ignore[arg-type]
    if column.default is None:
        return column
    try:
        held = store(column.default, TEXT, column)
    except StatementFailed:
        raise failed(1067, f"Invalid default value for '{name}'") from None
    return replace(column, default=as_text(held)) if kind.exact else column


def _default(node: exp.Expr) -> dict[str, object]:
    while isinstance(node, exp.Paren):
        node = node.this
    if isinstance(node, exp.CurrentTimestamp) or (
        isinstance(node, exp.Anonymous) and str(node.this).upper() in ("NOW", "CURRENT_TIMESTAMP")
    ):
        return {"now": True, "has_default": True}
    if isinstance(node, exp.Null):
        return {"default": None, "has_default": True}
    if isinstance(node, exp.Boolean):
        return {"default": "1" if node.this else "0", "has_default": True}
    sign = ""
    if isinstance(node, exp.Neg):
        sign, node = "-", node.this
    if isinstance(node, exp.Literal):
        return {"default": sign + str(node.this), "has_default": True}
    raise unsupported("DEFAULT with an expression")


def draft_item(draft: Draft, node: exp.Expr) -> None:
    """A column or a constraint of CREATE TABLE or ALTER TABLE ADD, into the draft."""
    if isinstance(node, exp.ColumnDef):
        if any(column.name.casefold() == node.name.casefold() for column in draft.columns):
            raise failed(1060, f"Duplicate column name '{node.name}'")
        draft.columns.append(draft_column(draft, node, draft.inner()))
        _column_keys(draft, node)
    elif isinstance(node, exp.Constraint):
        for inner in node.expressions:
            _constraint(draft, inner, node.this.name if node.this is not None else "")
    else:
        _constraint(draft, node, "")


def _column_keys(draft: Draft, node: exp.ColumnDef) -> None:
    for constraint in node.args.get("constraints") or ():
        kind = constraint.kind
        if isinstance(kind, exp.PrimaryKeyColumnConstraint):
            draft.add_key("PRIMARY", [node.name], unique=True)
        elif isinstance(kind, exp.UniqueColumnConstraint):
            draft.add_key("", [node.name], unique=True)
        elif isinstance(kind, exp.CheckColumnConstraint):
            draft.checks.append(("", kind.this))


def _constraint(draft: Draft, node: exp.Expr, name: str) -> None:
    if isinstance(node, exp.PrimaryKey):
        draft.add_key("PRIMARY", [_column_name(item) for item in node.expressions], unique=True)
    elif isinstance(node, exp.UniqueColumnConstraint):
        schema = node.this
        own = schema.this.name if isinstance(schema, exp.Schema) and schema.this is not None else name
        draft.add_key(own, [_column_name(item) for item in schema.expressions], unique=True)
    elif isinstance(node, exp.IndexColumnConstraint):
        if node.args.get("kind") in ("FULLTEXT", "SPATIAL"):
            raise unsupported(f"{node.args['kind']} indexes")
        own = node.this.name if node.this is not None else name
        draft.add_key(own, [_column_name(item) for item in node.expressions], unique=False)
    elif isinstance(node, exp.ForeignKey):
        draft.add_link(name, [item.name for item in node.expressions], node.args["reference"])
    elif isinstance(node, exp.CheckColumnConstraint):
        draft.checks.append((name, node.this))
    else:
        raise unsupported(node.key.upper())


def _column_name(node: exp.Expr) -> str:
    if isinstance(node, exp.Ordered):
        node = node.this
    if isinstance(node, exp.ColumnPrefix):
        node = node.this
    return str(node.this) if isinstance(node, exp.Anonymous) else node.name
