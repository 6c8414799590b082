"""What an episode on SQLite remembers between its statements."""

from __future__ import annotations

import random
import resource
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from envs.dbbench.backend import PUBLIC_NAME, Limits
from envs.dbbench.sqlite_catalog import Catalog
from envs.dbbench.sqlite_errors import SlowStatement, TableFull, failed
from envs.dbbench.sqlite_scope import Typed, literal
from envs.dbbench.sqlite_types import BIGINT, NULL, TEXT, SqlType
from envs.dbbench.sqlite_values import as_int, as_number

__all__ = ["USER", "VERSION", "State", "memory_bytes"]

VERSION = "8.0.0-sqlite"
USER = f"{PUBLIC_NAME}@localhost"
_HIDDEN = ("mysql", "sys", "performance_schema")
_VARIABLES: dict[str, str | int] = {
    "version": VERSION, "version_comment": "SQLite that approximates MySQL", "autocommit": 1,
    "sql_mode": "ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,"
    "NO_ENGINE_SUBSTITUTION",
    "time_zone": "+00:00", "system_time_zone": "UTC", "character_set_client": "utf8mb4",
    "character_set_connection": "utf8mb4", "character_set_results": "utf8mb4", "character_set_database": "utf8mb4",
    "collation_connection": "utf8mb4_0900_ai_ci", "collation_database": "utf8mb4_0900_ai_ci",
    "max_allowed_packet": 67108864, "group_concat_max_len": 1024, "foreign_key_checks": 1, "sql_safe_updates": 0,
    "lower_case_table_names": 0, "auto_increment_increment": 1, "last_insert_id": 0, "warning_count": 0,
    "div_precision_increment": 4, "hostname": "localhost", "port": 3306, "storage_engine": "InnoDB",
    "default_storage_engine": "InnoDB", "transaction_isolation": "REPEATABLE-READ", "secure_file_priv": "NULL",
}  # fmt: skip
_MAX_RAND = 0x3FFFFFFF


class State:
    """An episode's connection, catalog, variables and clock."""

    def __init__(self, connection: sqlite3.Connection, limits: Limits, seed: int) -> None:
        self.connection = connection
        self.limits = limits
        self.catalog = Catalog()
        self.deadline = float("inf")
        self.teach: Callable[[str], None] = lambda sql: None  # the connection's functions, when they are first called
        self.fault: Exception | None = None  # what a function of ours raised within SQLite
        self.written = 0
        self.memory = 0  # bytes of the process when the statement began; 0 where that is not known
        self._seed = seed
        self.renew()

    def renew(self) -> None:
        """Forget what a session has: variables, temporary tables (of the catalog), the state of RAND()."""
        self.variables: dict[str, Any] = {}
        self.variable_types: dict[str, SqlType] = {}
        self.foreign_keys = True
        self.last_insert_id = 0
        self.row_count = -1
        self.found_rows = 0
        self._aliases = 0
        self._rand = (self._seed % 2**24 + 1, self._seed % 2**24 + 2)
        self._rands: dict[str, tuple[int, int]] = {}
        self._random = random.Random(self._seed)  # noqa: S311 - UUID(), not a secret

    def begin(self) -> None:
        """A new statement: names are numbered anew, so that the same statement has the same text."""
        self._aliases = 0
        self._rands = {}
        self.fault = None
        self.memory = memory_bytes()

    def alias(self) -> str:
        """A name for a source, of which a statement has no other."""
        self._aliases += 1
        return f"s{self._aliases}"

    def own_schema(self, schema: str, table: str = "") -> None:
        """Refuse the name of a database that is not the episode's."""
        if schema == PUBLIC_NAME:
            return
        if table:
            raise failed(1142, f"SELECT command denied to user '{PUBLIC_NAME}'@'localhost' for table '{table}'")
        raise failed(1044, f"Access denied for user '{PUBLIC_NAME}'@'localhost' to database '{schema}'")

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run SQLite's statement. Raises sqlite3.Error, or what a function of ours raised in it; SlowStatement."""
        self.teach(sql)
        try:
            return self.connection.execute(sql, parameters)
        except sqlite3.Error as error:
            raise self.cause(error) from error

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """The rows of a query, as they come."""
        cursor = self.run(sql, parameters)
        try:
            yield from cursor
        except sqlite3.Error as error:
            raise self.cause(error) from error
        finally:
            cursor.close()

    def collected(self, sql: str) -> list[tuple[Any, ...]]:
        """All rows of a query that are to be written. Raises TableFull where they are more than may be."""
        found: list[tuple[Any, ...]] = []
        size = 0
        for row in self.rows(sql):
            found.append(row)
            size += 8 + sum(len(value) for value in row if isinstance(value, (str, bytes)))
            if self.written + len(found) > self.limits.database_rows:
                raise TableFull("database_rows")
            if size > self.limits.database_bytes:
                raise TableFull("database_bytes")
        return found

    def cause(self, error: sqlite3.Error) -> Exception:
        """What an error of SQLite comes from."""
        fault, self.fault = self.fault, None
        if fault is not None:
            return fault
        if time.monotonic() >= self.deadline:
            return SlowStatement()
        return error

    # Variables.

    def variable(self, name: str) -> Typed:
        """A user variable in an expression."""
        name = name.lower()
        kind = self.variable_types.get(name, NULL)
        return Typed(f"f_read_variable({literal(name)})", kind)

    def system_variable(self, name: str) -> Typed:
        """``@@name``. Raises StatementFailed (1193)."""
        value = self.setting(name)
        return Typed(literal(value), BIGINT if isinstance(value, int) else TEXT)

    def setting(self, name: str) -> str | int:
        """A server variable's value."""
        plain = name.lower().removeprefix("global.").removeprefix("session.").removeprefix("local.")
        if plain == "foreign_key_checks":
            return int(self.foreign_keys)
        if plain not in _VARIABLES:
            raise failed(1193, f"Unknown system variable '{name}'")
        return _VARIABLES[plain]

    def settings(self) -> dict[str, str | int]:
        """All server variables."""
        return dict(_VARIABLES)

    def said(self, name: str) -> str | int:
        """What DATABASE(), VERSION() and the like say."""
        answers: dict[str, str | int] = {
            "DATABASE": PUBLIC_NAME, "VERSION": VERSION, "USER": USER, "CURRENT_USER": USER, "CONNECTION_ID": 1,
            "LAST_INSERT_ID": self.last_insert_id, "ROW_COUNT": self.row_count, "FOUND_ROWS": self.found_rows,
        }  # fmt: skip
        return answers[name]

    # Functions that change something.

    def variables_get(self, name: str) -> Any:
        """``@name``."""
        return self.variables.get(name)

    def assign_variable(self, name: str, value: Any) -> Any:
        """``@name := value``."""
        self.variables[name] = value
        return value

    def rand(self) -> float:
        """RAND(), MySQL's own generator."""
        self._rand, found = _next(self._rand)
        return found

    def rand_of(self, seed: Any, place: str) -> float:
        """RAND(seed) at one place of a statement."""
        if place not in self._rands:
            number = as_int(seed) & 0xFFFFFFFF if seed is not None else 0
            first = (number * 0x10001 + 55555555) & 0xFFFFFFFF
            self._rands[place] = (first % _MAX_RAND, ((number * 0x10000001) & 0xFFFFFFFF) % _MAX_RAND)
        self._rands[place], found = _next(self._rands[place])
        return found

    def uuid(self) -> str:
        """UUID(), the same for the same seed."""
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def sleep(self, seconds: Any) -> int:
        """SLEEP(), at most as long as the statement may last."""
        left = self.deadline - time.monotonic()
        wanted = float(as_number(seconds or 0))
        time.sleep(max(min(wanted, left), 0.0))
        if wanted > left:
            raise SlowStatement
        return 0


def memory_bytes() -> int:
    """The process's resident memory; 0 where the system does not tell (it is no Linux)."""
    try:
        with open("/proc/self/statm", "rb", buffering=0) as file:
            return int(file.read(100).split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def _next(state: tuple[int, int]) -> tuple[tuple[int, int], float]:
    first = (state[0] * 3 + state[1]) % _MAX_RAND
    return (first, (first + state[1] + 33) % _MAX_RAND), first / _MAX_RAND
