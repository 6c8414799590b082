"""ALTER TABLE on the draft of a table."""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from envs.dbbench.sqlite_catalog import CheckDef, ColumnDef, KeyDef
from envs.dbbench.sqlite_define import Draft, draft_column, draft_item
from envs.dbbench.sqlite_errors import failed, unsupported

__all__ = ["act", "drop_constraint", "drop_key"]


def drop_constraint(draft: Draft, checks: list[CheckDef], name: str) -> list[CheckDef]:
    """A constraint of any kind away; the checks that are left."""
    left = [check for check in checks if check.name != name]
    links = [link for link in draft.links if link.name != name]
    keys = [key for key in draft.keys if key.name != name]
    if (len(left), len(links), len(keys)) == (len(checks), len(draft.links), len(draft.keys)):
        raise failed(3940, f"Constraint '{name}' does not exist.")
    draft.links, draft.keys = links, keys
    return left


def act(draft: Draft, action: exp.Expr) -> None:
    """One action. Raises StatementFailed."""
    if isinstance(action, exp.ColumnDef):
        draft_item(draft, action)
        _move(draft, len(draft.columns) - 1, action)
    elif isinstance(action, exp.AddConstraint):
        for item in action.expressions:
            draft_item(draft, item)
    elif isinstance(action, exp.ModifyColumn):
        old = action.args.get("rename_from") or action.this.this
        at = draft.place(old.name)
        _changed(draft, at, draft_column(draft, action.this, draft.columns[at].inner))
        _move(draft, at, action.this)
    elif isinstance(action, exp.RenameColumn):
        at = draft.place(action.this.name)
        _changed(draft, at, replace(draft.columns[at], name=action.args["to"].name))
    elif isinstance(action, exp.AlterColumn):
        at = draft.place(action.name)
        node = action.args.get("default")
        default = str(node.this if not isinstance(node, exp.Neg) else f"-{node.this.this}") if node else None
        draft.columns[at] = replace(draft.columns[at], default=default, now=False)
    elif isinstance(action, exp.DropPrimaryKey):
        drop_key(draft, "PRIMARY")
    elif isinstance(action, exp.Drop):
        kind = str(action.args.get("kind")).upper()
        name = action.args["tables"][0].name
        if kind == "COLUMN":
            _drop_column(draft, name)
        elif kind == "INDEX":
            drop_key(draft, name)
        else:
            if not any(link.name == name for link in draft.links):
                raise failed(1091, f"Can't DROP '{name}'; check that column/key exists")
            draft.links = [link for link in draft.links if link.name != name]
    elif isinstance(action, exp.RenameIndex):
        old, new = action.this.name, action.args["to"].name
        draft.keys = [replace(key, name=new) if key.name == old else key for key in draft.keys]
    else:
        raise unsupported(f"ALTER TABLE {action.key.upper()}")


def drop_key(draft: Draft, name: str) -> None:
    """An index away. Raises StatementFailed (1091)."""
    left = [key for key in draft.keys if key.name.casefold() != name.casefold()]
    if len(left) == len(draft.keys):
        raise failed(1091, f"Can't DROP '{name}'; check that column/key exists")
    draft.keys = left


def _drop_column(draft: Draft, name: str) -> None:
    found = next((at for at, c in enumerate(draft.columns) if c.name.casefold() == name.casefold()), None)
    if found is None:
        raise failed(1091, f"Can't DROP '{name}'; check that column/key exists")
    gone = draft.columns.pop(found).name
    for link in draft.links:
        if gone in link.columns:
            raise failed(1828, f"Cannot drop column '{gone}': needed in a foreign key constraint '{link.name}'")
    left = [(key, tuple(column for column in key.columns if column != gone)) for key in draft.keys]
    draft.keys = [KeyDef(key.name, columns, key.unique) for key, columns in left if columns]


def _changed(draft: Draft, at: int, column: ColumnDef) -> None:
    old = draft.columns[at].name
    if any(other.name.casefold() == column.name.casefold() for i, other in enumerate(draft.columns) if i != at):
        raise failed(1060, f"Duplicate column name '{column.name}'")
    primary = any(key.name == "PRIMARY" and old in key.columns for key in draft.keys)
    draft.columns[at] = replace(column, not_null=True) if primary else column

    def renamed(columns: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(column.name if name == old else name for name in columns)

    draft.keys = [replace(key, columns=renamed(key.columns)) for key in draft.keys]
    draft.links = [replace(link, columns=renamed(link.columns)) for link in draft.links]


def _move(draft: Draft, at: int, node: exp.ColumnDef) -> None:
    position = node.args.get("position")
    if position is None:
        return
    column = draft.columns.pop(at)
    to = 0 if position.args.get("position") == "FIRST" else draft.place(position.this.name) + 1
    draft.columns.insert(to, column)
