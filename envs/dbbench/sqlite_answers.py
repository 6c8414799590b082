"""SHOW, DESCRIBE, SET, USE and their like, and which statement goes where."""

# ruff: noqa: S608 - names are SQLite's own (t1, c0), values are parameters or escaped literals

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

from sqlglot import exp
from sqlglot.tokenizer_core import Token, TokenType

from envs.dbbench.backend import PUBLIC_NAME
from envs.dbbench.sqlite_catalog import TableDef
from envs.dbbench.sqlite_errors import failed, syntax_error, unsupported
from envs.dbbench.sqlite_functions import FUNCTIONS
from envs.dbbench.sqlite_parse import Parsed
from envs.dbbench.sqlite_schema import column_rows, create_text, index_rows, names, tick
from envs.dbbench.sqlite_state import USER
from envs.dbbench.sqlite_tables import Tables
from envs.dbbench.sqlite_types import BIGINT, TEXT, SqlType

__all__ = ["Answer", "Answers"]

type Answer = tuple[Iterable[tuple[Any, ...]], list[SqlType]]
"""Rows as SQLite holds them, and their columns' types."""

_QUIET = frozenset(
    {"LOCK", "DO", "HELP", "COMMIT", "ROLLBACK", "BEGIN", "START", "SAVEPOINT", "RELEASE", "UNLOCK", "FLUSH"}
)
_DENIED = frozenset({"GRANT", "REVOKE", "KILL", "SHUTDOWN", "INSTALL", "UNINSTALL", "PURGE", "RESET", "CHANGE"})
_ENGINES = [("InnoDB", "DEFAULT", "Supports transactions, row-level locking, and foreign keys", "YES", "YES", "YES")]


class Answers(Tables):
    """Runs any statement; ``None`` for one without a result."""

    def answer(self, parsed: Parsed) -> Answer | None:
        """Run it. Raises StatementFailed, sqlite3.Error, SlowStatement, TableFull."""
        tree = parsed.tree
        if parsed.verb == "SHOW":
            return self._show(parsed)
        if parsed.verb in ("DESCRIBE", "DESC", "EXPLAIN"):
            return self._describe(parsed)
        if tree is None:
            return self._command(parsed)
        if isinstance(tree, (exp.Select, exp.SetOperation, exp.Subquery, exp.Values)):
            query = self.query(tree)
            return self.state.rows(query.sql), [output.type for output in query.outputs]
        run = self._STATEMENTS.get(type(tree))
        if run is None:
            if parsed.verb in _QUIET:
                return None
            raise unsupported(parsed.verb)
        done: Answer | int | None = run(self, parsed)
        if isinstance(done, int):
            self.state.row_count = done
            return None
        return done

    def _set_variables(self, parsed: Parsed) -> None:
        assert parsed.tree is not None
        for item in parsed.tree.expressions:
            inner = item.this
            if not isinstance(inner, exp.EQ):
                continue  # NAMES, TRANSACTION and the like change nothing here
            target = inner.this
            if isinstance(target, exp.Parameter):
                value = self.compile(inner.expression)
                found = next(iter(self.state.rows(f"SELECT {value.sql}")))[0]
                self.state.variables[target.name.lower()] = found
                self.state.variable_types[target.name.lower()] = value.type
                continue
            name = target.name.lower()
            if str(item.args.get("kind") or "").upper() in ("GLOBAL", "PERSIST"):
                raise failed(1227, "Access denied; you need (at least one of) the SUPER or SYSTEM_VARIABLES_ADMIN "
                             "privilege(s) for this operation")  # fmt: skip
            if name == "foreign_key_checks":
                self.state.foreign_keys = inner.expression.name.lower() in ("1", "on", "true")
            elif name not in ("insert_id", "timestamp", "unique_checks", "sql_notes", "wait_timeout", "profiling"):
                self.state.setting(name)

    def _use(self, parsed: Parsed) -> None:
        assert parsed.tree is not None
        self.state.own_schema(parsed.tree.this.name)

    def _truncate(self, parsed: Parsed) -> None:
        assert isinstance(parsed.tree, exp.TruncateTable)
        self.truncate(parsed.tree)

    def _analyze(self, parsed: Parsed) -> Answer:
        assert parsed.tree is not None
        word = parsed.verb.lower()
        rows = [
            (f"{PUBLIC_NAME}.{self.target(node).name}", word, "status", "OK")
            for node in parsed.tree.args.get("tables") or ()
        ]
        return rows, [TEXT] * 4

    _STATEMENTS: ClassVar[dict[type[exp.Expr], Callable[[Any, Parsed], Any]]] = {
        exp.Insert: lambda self, parsed: self.insert(parsed),
        exp.Update: lambda self, parsed: self.update(parsed),
        exp.Delete: lambda self, parsed: self.delete(parsed),
        exp.TruncateTable: _truncate,
        exp.Create: lambda self, parsed: self.create(parsed.tree),
        exp.Drop: lambda self, parsed: self.drop(parsed.tree),
        exp.Alter: lambda self, parsed: self.alter(parsed.tree),
        exp.Set: _set_variables,
        exp.Use: _use,
        exp.Analyze: _analyze,
        exp.Transaction: lambda self, parsed: None,
        exp.Commit: lambda self, parsed: None,
        exp.Rollback: lambda self, parsed: None,
    }

    def _command(self, parsed: Parsed) -> Answer | None:
        """What sqlglot does not read, by its words."""
        if parsed.verb in _QUIET:
            return None
        if parsed.verb == "RENAME" and len(parsed.tokens) > 1 and parsed.tokens[1].text.upper() == "TABLE":
            self.rename(_renamings(parsed.tokens[2:]))
            return None
        if parsed.verb == "CALL" and len(parsed.tokens) > 1:
            raise failed(1305, f"PROCEDURE {PUBLIC_NAME}.{parsed.tokens[1].text} does not exist")
        if parsed.verb in ("OPTIMIZE", "CHECK", "REPAIR") and len(parsed.tokens) > 2:
            name = self.state.catalog.need(parsed.tokens[-1].text).name
            return [(f"{PUBLIC_NAME}.{name}", parsed.verb.lower(), "status", "OK")], [TEXT] * 4
        if parsed.verb in ("GRANT", "REVOKE", "LOAD"):
            raise failed(1045, f"Access denied for user '{PUBLIC_NAME}'@'localhost' (using password: YES)")
        if parsed.verb in _DENIED:
            raise failed(1227, "Access denied; you need (at least one of) the privileges of an administrator for this "
                         "operation")  # fmt: skip
        raise unsupported(" ".join(token.text.upper() for token in parsed.tokens[:2]))

    # SHOW and DESCRIBE.

    def _describe(self, parsed: Parsed) -> Answer:
        tree = parsed.tree
        if isinstance(tree, exp.Describe):
            query = self.query(tree.this)
            plan = self.state.rows(f"EXPLAIN QUERY PLAN {query.sql}")
            rows = [(str(number), str(row[3]).split(" ")[0]) for number, row in enumerate(plan, start=1)]
            return rows, [TEXT, TEXT]
        words = parsed.tokens[1:]
        if len(words) > 1 and words[0].token_type == TokenType.TABLE:
            words = words[1:]
        if not words:
            raise syntax_error("")
        place = 2 if len(words) > 2 and words[1].token_type == TokenType.DOT else 0
        if place:
            self.state.own_schema(words[0].text, words[2].text)
        found = self._columns(words[place].text, full=False)
        if len(words) > place + 1:
            found = [row for row in found if self._fits(row[0], words[place + 1].text)]
        return found, [TEXT] * 6

    def _columns(self, name: str, *, full: bool) -> list[tuple[Any, ...]]:
        table = self.state.catalog.table(name)
        view = self.state.catalog.views.get(name)
        if table is None and view is not None:
            found = self.named_query(view.query, view.columns)
            rows: list[tuple[Any, ...]] = []
            for output in found.outputs:
                ddl = output.type.ddl
                rest = (output.name, ddl, None, "YES", "", None, "", "select,insert,update,references", "")
                rows.append(rest if full else (output.name, ddl, "YES", "", None, ""))
            return rows
        return column_rows(self.state.catalog.need(name), full=full)

    def _fits(self, text: str, pattern: str) -> bool:
        return bool(FUNCTIONS["like"].run(text, pattern))

    def _show(self, parsed: Parsed) -> Answer:
        tree = parsed.tree
        if not isinstance(tree, exp.Show):
            raise unsupported(" ".join(token.text.upper() for token in parsed.tokens[:3]))
        kind = tree.name
        if tree.args.get("db") is not None:
            self.state.own_schema(tree.args["db"].name)
        method = self._SHOWS.get(kind)
        if method is None:
            raise unsupported(f"SHOW {kind}")
        rows = list(method(self, tree))
        like = tree.args.get("like")
        if like is not None:
            rows = [row for row in rows if self._fits(str(row[0]), like.name)]
        where = tree.args.get("where")
        if where is not None:
            rows = self._where_shown(kind, rows, where)
        width = len(rows[0]) if rows else 1
        return rows, [BIGINT if rows and isinstance(rows[0][at], int) else TEXT for at in range(width)]

    def _where_shown(self, kind: str, rows: Sequence[tuple[Any, ...]], where: exp.Expr) -> list[tuple[Any, ...]]:
        """WHERE of SHOW for ``column = 'text'`` and LIKE on it."""
        node = where.this
        if not isinstance(node, (exp.EQ, exp.Like)) or not isinstance(node.expression, exp.Literal):
            raise unsupported("this WHERE of SHOW")
        place = {"field": 0, "type": 1, "null": 2, "key": 3, "key_name": 2, "column_name": 4}.get(
            node.this.name.lower(), 0
        )
        return [row for row in rows if self._fits(str(row[place]), node.expression.name)]

    def _target_of(self, tree: exp.Show) -> str:
        target = tree.args.get("target")
        return target.name if target is not None else ""

    def _show_tables(self, tree: exp.Show) -> list[tuple[Any, ...]]:
        kinds = self.state.catalog.views
        if tree.args.get("full"):
            return [(name, "VIEW" if name in kinds else "BASE TABLE") for name in names(self.state)]
        return [(name,) for name in names(self.state)]

    def _show_create(self, tree: exp.Show) -> list[tuple[Any, ...]]:
        name = self._target_of(tree)
        view = self.state.catalog.views.get(name)
        if view is not None and self.state.catalog.table(name) is None:
            text = f"CREATE VIEW {tick(name)} AS {view.text}"
            return [(name, text, "utf8mb4", "utf8mb4_0900_ai_ci")]
        table = self.state.catalog.need(name)
        return [(name, create_text(table))]

    def _show_index(self, tree: exp.Show) -> list[tuple[Any, ...]]:
        return index_rows(self.state, self._need(tree))

    def _need(self, tree: exp.Show) -> TableDef:
        return self.state.catalog.need(self._target_of(tree))

    def _show_status(self, tree: exp.Show) -> list[tuple[Any, ...]]:
        found = []
        for name in names(self.state):
            table = self.state.catalog.tables.get(name)
            count = next(iter(self.state.rows(f"SELECT count(*) FROM {table.inner}")))[0] if table else None
            found.append((name, "InnoDB" if table else None, count, "utf8mb4_0900_ai_ci" if table else None))
        return found

    _SHOWS: ClassVar[dict[str, Callable[[Any, exp.Show], list[tuple[Any, ...]]]]] = {
        "TABLES": _show_tables,
        "DATABASES": lambda self, tree: [("dbbench",), ("information_schema",), ("performance_schema",)],
        "COLUMNS": lambda self, tree: self._columns(self._target_of(tree), full=bool(tree.args.get("full"))),
        "CREATE TABLE": _show_create,
        "CREATE VIEW": _show_create,
        "INDEX": _show_index,
        "TABLE STATUS": _show_status,
        "VARIABLES": lambda self, tree: [(name, str(value)) for name, value in sorted(self.state.settings().items())],
        "STATUS": lambda self, tree: [],
        "WARNINGS": lambda self, tree: [],
        "ERRORS": lambda self, tree: [],
        "TRIGGERS": lambda self, tree: [],
        "EVENTS": lambda self, tree: [],
        "PROCEDURE STATUS": lambda self, tree: [],
        "FUNCTION STATUS": lambda self, tree: [],
        "ENGINES": lambda self, tree: _ENGINES,
        "GRANTS": lambda self, tree: [(f"GRANT ALL PRIVILEGES ON `{PUBLIC_NAME}`.* TO `{USER.replace('@', '`@`')}`",)],
        "PROCESSLIST": lambda self, tree: [(1, PUBLIC_NAME, "localhost", PUBLIC_NAME, "Query", 0, "executing", None)],
        "CHARACTER SET": lambda self, tree: [("utf8mb4", "UTF-8 Unicode", "utf8mb4_0900_ai_ci", 4)],
        "COLLATION": lambda self, tree: [("utf8mb4_0900_ai_ci", "utf8mb4", 255, "Yes", "Yes", 0, "NO PAD")],
    }


def _renamings(tokens: list[Token]) -> list[tuple[str, str]]:
    """``a TO b, c TO d`` as pairs. Raises StatementFailed."""
    pairs = []
    words = [token.text for token in tokens]
    current: list[str] = []
    for word in [*words, ","]:
        if word != ",":
            current.append(word)
            continue
        plain = [part for part in current if part not in (PUBLIC_NAME, ".")]
        if len(plain) != 3 or plain[1].upper() != "TO":
            raise syntax_error(" ".join(current))
        pairs.append((plain[0], plain[2]))
        current = []
    return pairs
