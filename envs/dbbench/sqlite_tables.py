"""CREATE, ALTER, DROP and RENAME: the catalog is changed, and a changed table's rows are written anew."""

# ruff: noqa: S608 - names are SQLite's own (t1, c0), values are parameters or escaped literals

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from sqlglot import exp

from envs.dbbench.backend import PUBLIC_NAME
from envs.dbbench.sqlite_alter import act, drop_constraint, drop_key
from envs.dbbench.sqlite_catalog import CheckDef, ColumnDef, LinkDef, TableDef, ViewDef
from envs.dbbench.sqlite_define import Draft, draft_item
from envs.dbbench.sqlite_errors import failed, syntax_error, unsupported
from envs.dbbench.sqlite_scope import Output, Scope
from envs.dbbench.sqlite_store import store, zero
from envs.dbbench.sqlite_types import TEXT, SqlType
from envs.dbbench.sqlite_writes import Writes

__all__ = ["Tables"]

_MAX_NAME = 64


class Tables(Writes):
    """Runs the statements that define tables and views."""

    def create(self, tree: exp.Create) -> None:
        """CREATE TABLE, VIEW or INDEX."""
        kind = str(tree.args.get("kind")).upper()
        if kind == "VIEW":
            return self._create_view(tree)
        if kind == "INDEX":
            return self._create_index(tree)
        if kind in ("DATABASE", "SCHEMA"):
            raise self._denied(tree.this.name)
        if kind != "TABLE":
            raise unsupported(f"CREATE {kind}")
        return self._create_table(tree)

    @staticmethod
    def _denied(name: str) -> Exception:
        return failed(1044, f"Access denied for user '{PUBLIC_NAME}'@'localhost' to database '{name}'")

    def _create_table(self, tree: exp.Create) -> None:
        schema = tree.this
        node = schema.this if isinstance(schema, exp.Schema) else schema
        name = self._new_name(node)
        properties = tree.args.get("properties")
        options = list(properties.expressions) if properties is not None else []
        temporary = any(isinstance(option, exp.TemporaryProperty) for option in options)
        catalog = self.state.catalog
        taken = catalog.temporary if temporary else {**catalog.tables, **catalog.views}
        if name in taken:
            if tree.args.get("exists"):
                return
            raise failed(1050, f"Table '{name}' already exists")
        items = list(schema.expressions) if isinstance(schema, exp.Schema) else []
        like = next((item for item in [*options, *items] if isinstance(item, exp.LikeProperty)), None)
        if like is not None:
            self._make(replace(self.target(like.this), name=name, temporary=temporary, next_auto=1, links=()))
            return
        draft = Draft(name)
        for item in sorted(items, key=lambda item: not isinstance(item, exp.ColumnDef)):
            draft_item(draft, item)
        query = self.named_query(tree.expression) if tree.expression is not None else None
        places = self._add_outputs(draft, query.outputs) if query is not None else []
        if not draft.columns and isinstance(schema, exp.Schema):
            raise syntax_error(")")
        if not draft.columns:
            raise failed(1113, "A table must have at least 1 column")
        table = TableDef(name, "", tuple(draft.columns), tuple(draft.keys), temporary=temporary)
        for option in options:
            if isinstance(option, exp.AutoIncrementProperty):
                table.next_auto = max(int(option.this.name), 1)
            elif isinstance(option, exp.SchemaCommentProperty):
                table.comment = option.this.name
        table = self._make(self._checked(table, draft))
        if query is not None:
            self._fill(table, query.sql, [output.type for output in query.outputs], places)

    def fill(self, table: TableDef, rows: Iterable[Sequence[str | None]]) -> None:
        """A task's rows, each value a literal's text, into a new table."""
        for number, row in enumerate(rows, start=1):
            values = [store(value, TEXT, column, number) for value, column in zip(row, table.columns, strict=True)]
            self.writer.insert(table, values)

    def _fill(self, table: TableDef, sql: str, types: Sequence[SqlType], places: list[int]) -> None:
        for number, row in enumerate(self.state.collected(sql), start=1):
            given = dict(zip(places, zip(row, types, strict=True), strict=True))
            values = [
                store(*given[at], column, number) if at in given else self.default(column)
                for at, column in enumerate(table.columns)
            ]
            self.writer.insert(table, values)

    def _add_outputs(self, draft: Draft, outputs: tuple[Output, ...]) -> list[int]:
        """The columns that a query adds to a new table; where each of them goes."""
        places = []
        for output in outputs:
            at = next((i for i, c in enumerate(draft.columns) if c.name.casefold() == output.name.casefold()), None)
            if at is None:
                at = len(draft.columns)
                draft.columns.append(ColumnDef(output.name[:_MAX_NAME], draft.inner(), _column_kind(output.type)))
            elif at in places:
                raise failed(1060, f"Duplicate column name '{output.name}'")
            places.append(at)
        return places

    def _checked(self, table: TableDef, draft: Draft, kept: Sequence[CheckDef] = ()) -> TableDef:
        """The table with its foreign keys and checks, which are looked at."""
        for link in draft.links:
            self._check_link(table, link)
        checks = list(kept)
        scope, self.scope = self.scope, Scope(sources=[self.source_of(table, table.name)])
        source = self.scope.sources[0]
        for name, node in draft.checks:
            number = 1 + sum(check.name.startswith(f"{table.name}_chk_") for check in checks)
            self.clause = "check constraint"
            text = self.truth(node).replace(f"{source.inner}.", "")
            checks.append(CheckDef(name or f"{table.name}_chk_{number}", f"({node.sql('mysql')})", text))
        self.scope = scope
        if sum(column.auto for column in table.columns) > 1 or any(
            column.auto and not any(key.columns[0] == column.name for key in table.keys) for column in table.columns
        ):
            raise failed(
                1075, "Incorrect table definition; there can be only one auto column and it must be defined as a key"
            )
        checks.sort(key=lambda check: check.name)  # the order in which MySQL looks at them
        return replace(table, links=tuple(draft.links), checks=tuple(checks))

    def _check_link(self, table: TableDef, link: LinkDef) -> None:
        parent = table if link.table == table.name else self.state.catalog.tables.get(link.table)
        if parent is None:
            if self.state.foreign_keys:
                raise failed(1824, f"Failed to open the referenced table '{link.table}'")
            return
        for name in link.references:
            if parent.find(name) is None:
                raise failed(3734, f"Failed to add the foreign key constraint. Missing column '{name}' for constraint "
                             f"'{link.name}' in the referenced table '{link.table}'")  # fmt: skip
        wanted = tuple(parent.column(name).name for name in link.references)
        if not any(key.columns[: len(wanted)] == wanted for key in parent.keys):
            raise failed(
                1822,
                f"Failed to add the foreign key constraint. Missing index for constraint '{link.name}' in the "
                f"referenced table '{link.table}'",
            )

    def _make(self, table: TableDef) -> TableDef:
        """Create it in SQLite and enter it."""
        made = replace(table, inner=self.state.catalog.new_name())
        self.state.run(made.create_sql())
        for sql in made.index_sql():
            self.state.run(sql)
        self.state.catalog.put(made)
        return made

    def _new_name(self, node: exp.Expr) -> str:
        if not isinstance(node, exp.Table):
            raise unsupported("this name of a table")
        if node.db:
            self.state.own_schema(node.db, "")
        name = node.name
        if not name or len(name) > _MAX_NAME or name != name.rstrip():
            raise failed(1059 if len(name) > _MAX_NAME else 1103, f"Incorrect table name '{name}'")
        return name

    # Views and indexes.

    def _create_view(self, tree: exp.Create) -> None:
        schema = tree.this
        node = schema.this if isinstance(schema, exp.Schema) else schema
        name = self._new_name(node)
        catalog = self.state.catalog
        if name in catalog.tables or (name in catalog.views and not tree.args.get("replace")):
            raise failed(1050, f"Table '{name}' already exists")
        columns = tuple(item.name for item in schema.expressions) if isinstance(schema, exp.Schema) else ()
        found = self.named_query(tree.expression, columns)
        names = [output.name.casefold() for output in found.outputs]
        if len(set(names)) != len(names):
            raise failed(1060, f"Duplicate column name '{max(names, key=names.count)}'")
        catalog.views[name] = ViewDef(name, tree.expression, tree.expression.sql("mysql"), columns)

    # DROP and RENAME.

    def drop(self, tree: exp.Drop) -> None:
        """DROP TABLE, VIEW or INDEX."""
        kind = str(tree.args.get("kind")).upper()
        nodes = tree.args.get("tables") or [tree.this]
        catalog = self.state.catalog
        if kind in ("DATABASE", "SCHEMA"):
            self._drop_all(nodes[0].name)
            return
        if kind == "INDEX":
            on = tree.args.get("cluster")
            if on is None:
                raise syntax_error("")
            table = self.target(on.this)
            draft = Draft.of(table)
            drop_key(draft, nodes[0].name)
            self._rebuild(table, draft, table.checks)
            return
        if kind not in ("TABLE", "VIEW"):
            raise unsupported(f"DROP {kind}")
        for node in nodes:
            if node.db:
                self.state.own_schema(node.db, "")
        found = [(node.name, catalog.table(node.name) if kind == "TABLE" else None) for node in nodes]
        missing = [name for name, table in found if (table is None if kind == "TABLE" else name not in catalog.views)]
        if missing and not tree.args.get("exists"):
            raise failed(1051, f"Unknown table '{','.join(f'{PUBLIC_NAME}.{name}' for name in missing)}'")
        for name, gone in found:
            if kind == "VIEW":
                catalog.views.pop(name, None)
            elif gone is not None:
                self._drop_table(gone, {other for other, _ in found})

    def _drop_all(self, name: str) -> None:
        if name != PUBLIC_NAME:
            raise self._denied(name)
        catalog = self.state.catalog
        for table in [*catalog.tables.values(), *catalog.temporary.values()]:
            self.state.run(f"DROP TABLE {table.inner}")
            catalog.drop(table)
        catalog.views.clear()

    def _drop_table(self, table: TableDef, together: set[str]) -> None:
        child = self.writer.referenced(table)
        if child is not None and child[0].name not in together:
            raise failed(3730, f"Cannot drop table '{table.name}' referenced by a foreign key constraint "
                         f"'{child[1].name}' on table '{child[0].name}'.")  # fmt: skip
        self.state.run(f"DROP TABLE {table.inner}")
        self.state.catalog.drop(table)

    def rename(self, pairs: list[tuple[str, str]]) -> None:
        """RENAME TABLE."""
        catalog = self.state.catalog
        for old, new in pairs:
            if old in catalog.views and old not in catalog.tables:
                if new in catalog.tables or new in catalog.views:
                    raise failed(1050, f"Table '{new}' already exists")
                catalog.views[new] = replace(catalog.views.pop(old), name=new)
                continue
            self._rename(catalog.need(old), new)

    def _rename(self, table: TableDef, new: str) -> TableDef:
        catalog = self.state.catalog
        if new != table.name and (catalog.table(new) is not None or new in catalog.views):
            raise failed(1050, f"Table '{new}' already exists")
        catalog.drop(table)
        links = tuple(replace(link, table=new) if link.table == table.name else link for link in table.links)
        moved = replace(table, name=new, links=links)
        for other in list(catalog.tables.values()):
            if any(link.table == table.name for link in other.links):
                other.links = tuple(
                    replace(link, table=new) if link.table == table.name else link for link in other.links
                )
        catalog.put(moved)
        return moved

    # ALTER TABLE.

    def _create_index(self, tree: exp.Create) -> None:
        index = tree.this
        table = self.target(index.args["table"])
        draft = Draft.of(table)
        columns = [ordered.this for ordered in index.args["params"].args.get("columns") or ()]
        names = [str(item.this) if isinstance(item, exp.Anonymous) else item.name for item in columns]
        draft.add_key(index.name, names, unique=bool(tree.args.get("unique")))
        self._rebuild(table, draft, table.checks)

    def alter(self, tree: exp.Alter) -> None:
        """ALTER TABLE, action by action, then all rows into the new table."""
        if str(tree.args.get("kind")).upper() == "VIEW":
            view = self.state.catalog.views.get(tree.this.name)
            if view is None:
                raise failed(1146, f"Table '{PUBLIC_NAME}.{tree.this.name}' doesn't exist")
            query = tree.args["actions"][0]
            self.query(query)
            self.state.catalog.views[view.name] = ViewDef(view.name, query, query.sql("mysql"))
            return
        table = self.target(tree.this)
        draft = Draft.of(table)
        new_name = ""
        checks = list(table.checks)
        for action in tree.args.get("actions") or ():
            if isinstance(action, exp.AlterRename):
                new_name = self._new_name(action.this)
            elif isinstance(action, exp.Drop) and str(action.args.get("kind")).upper() in ("CHECK", "CONSTRAINT"):
                checks = drop_constraint(draft, checks, action.args["tables"][0].name)
            else:
                act(draft, action)
        if not draft.columns:
            raise failed(1090, "You can't delete all columns with ALTER TABLE; use DROP TABLE instead")
        for option in tree.args.get("options") or ():
            if isinstance(option, exp.AutoIncrementProperty):
                table.next_auto = max(int(option.this.name), 1)
        table = self._rebuild(table, draft, checks)
        if new_name:
            self._rename(table, new_name)

    def _rebuild(self, table: TableDef, draft: Draft, checks: Sequence[CheckDef]) -> TableDef:
        """The table as the draft has it, with its rows; each value is stored anew where its type has changed."""
        wanted = replace(table, columns=tuple(draft.columns), keys=tuple(draft.keys))
        names = {column.inner for column in draft.columns}
        self.state.catalog.drop(table)
        made = self._make(self._checked(wanted, draft, [c for c in checks if _needs(c, names)]))
        old = {column.inner: column for column in table.columns}
        shown = ", ".join(column.inner for column in table.columns)
        for number, row in enumerate(list(self.state.rows(f"SELECT {shown} FROM {table.inner}")), start=1):
            held = dict(zip(old, row, strict=True))
            values: list[Any] = []
            for column in made.columns:
                before = old.get(column.inner)
                if before is None:
                    values.append(self._added(column, made))
                elif before.type == column.type and (not column.not_null or held[column.inner] is not None):
                    values.append(held[column.inner])
                elif held[column.inner] is None and column.not_null:
                    raise failed(1138, "Invalid use of NULL value")
                else:
                    values.append(store(held[column.inner], before.type, column, number))
            self.writer.insert(made, values)
        self.state.run(f"DROP TABLE {table.inner}")
        return made

    def _added(self, column: ColumnDef, table: TableDef) -> Any:
        if column.auto:
            table.next_auto += 1
            return table.next_auto - 1
        return zero(column.type) if column.not_null and not column.has_default else self.default(column)


def _needs(check: CheckDef, names: set[str]) -> bool:
    """Whether the columns of a check are still there; its text names them as SQLite does."""
    return all(word in names for word in check.inner.replace("(", " ").replace(")", " ").split() if _inner(word))


def _inner(word: str) -> bool:
    return word[:1] == "c" and word[1:].isdigit()


def _column_kind(kind: SqlType) -> SqlType:
    """A column's type for an expression's."""
    if kind.kind == "text" and not kind.name.endswith("text") and kind.name != "enum":
        return SqlType("text", "varchar", max(kind.length, 1)) if kind.length else SqlType("text", "longtext")
    if kind.kind == "null":
        return SqlType("text", "varchar", 1)
    return kind
