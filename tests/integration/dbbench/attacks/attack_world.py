"""What attacks are held against: the server's state before and after, a bystander, and what an episode leaves."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pymysql
from dbbench_helpers import run

from envs.dbbench.connection import TidyConnection
from envs.errors import InfrastructureError

MIB = 2**20
# Counters, moods of the moment, and what names this connection.
_VOLATILE = (
    "gtid", "timestamp", "identity", "last_insert_id", "rand_seed", "pseudo_thread_id", "last_gtid", "in_transaction",
    "error_count", "warning_count", "innodb_buffer_pool_load", "innodb_buffer_pool_dump", "innodb_saved_page_number",
    "external_user", "proxy_user", "thread_pool",
)  # fmt: skip
# Of the tables of the schema mysql, those that hold rows of episodes that live; counted without them.
_BY_USER = ("user", "db", "global_priv", "tables_priv", "columns_priv", "procs_priv")
_UNCOUNTED = ("general_log", "slow_log", "proc", "procs", "transaction_registry", "server_cost", "engine_cost")
_OWNER_COLUMNS = ("db", "db_name", "database_name", "user", "table_schema", "schema_name")


def real_name(env) -> str:
    """The name of an episode's database and user."""
    return env._session.inner.database.name


def until(what: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Whether it comes true in time."""
    end = time.monotonic() + seconds
    while not (done := what()) and time.monotonic() < end:
        time.sleep(0.02)
    return bool(done)


class Server:
    """The private server behind a family, seen by its administrator and by the system."""

    def __init__(self, family) -> None:
        self._server = family._backend._hosts[0].server
        self._connection: TidyConnection | None = None
        self.kind = "mariadb" if "mariadb" in str(self.ask("SELECT VERSION()")[0]).lower() else "mysql"
        self._folder = self.ask("SELECT @@datadir")[0]
        tables = self.ask(
            "SELECT table_name FROM information_schema.tables "
            "WHERE table_schema = 'mysql' AND table_type = 'BASE TABLE' ORDER BY table_name"
        )
        counts = []
        for table in tables:
            if table not in _UNCOUNTED and "stat" not in table:
                rest = " WHERE user NOT LIKE 'envloop%'" if table in _BY_USER else ""
                counts.append(f"SELECT CONCAT('{table}', ':', COUNT(*)) FROM mysql.`{table}`{rest}")
        self._counts = " UNION ALL ".join(counts)
        self._owners = self.rows(
            "SELECT c.table_name, c.column_name FROM information_schema.columns c "
            "JOIN information_schema.tables t USING (table_schema, table_name) "
            f"WHERE c.table_schema = 'mysql' AND LOWER(c.column_name) IN {_OWNER_COLUMNS} "
            "AND t.table_type = 'BASE TABLE'"
        )

    def close(self) -> None:
        """Let the connection go."""
        if self._connection is not None:
            self._connection.abandon()

    def rows(self, statement: str) -> list[tuple]:
        """What the administrator gets."""
        if self._connection is None or not self._connection.open:
            address = self._server.start()
            self._connection = TidyConnection(
                user=address.user, password=address.password, autocommit=True, **address.connect_arguments()
            )
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall())
        except (pymysql.err.OperationalError, pymysql.err.InterfaceError):
            self._connection.abandon()  # the server may have been replaced
            raise

    def ask(self, statement: str) -> list:
        """The first column of what the administrator gets."""
        return [row[0] for row in self.rows(statement)]

    @property
    def pid(self) -> int:
        """The server's process, not its watchdog's."""
        children = psutil.Process(self._server._process.pid).children()
        return children[0].pid if children else 0

    @property
    def data(self) -> Path:
        """Its data folder, as this process can see it: the server may have a file system of its own."""
        return Path(f"/proc/{self.pid}/root{self._folder}")

    def memory(self) -> int:
        """Bytes that it holds in memory."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return int(psutil.Process(self.pid).memory_info().rss)
        return 0

    def stored(self) -> int:
        """Bytes of its files, those included that have no name any more."""
        total = 0
        with contextlib.suppress(OSError):
            where = self.data.stat().st_dev
            seen = set()
            for descriptor in Path(f"/proc/{self.pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    info = descriptor.stat()
                    if info.st_dev == where and info.st_ino not in seen:
                        seen.add(info.st_ino)
                        total += info.st_blocks * 512
            for folder, _, names in os.walk(self.data):
                for name in names:
                    with contextlib.suppress(OSError):
                        info = (Path(folder) / name).lstat()
                        if info.st_ino not in seen:
                            seen.add(info.st_ino)
                            total += info.st_blocks * 512
        return total

    def snapshot(self) -> dict[str, list[str]]:
        """All that no episode may change, but for the databases and users of episodes."""
        where = "information_schema" if self.kind == "mariadb" else "performance_schema"
        return {
            "variables": [
                line
                for line in map(
                    str,
                    self.ask(
                        f"SELECT CONCAT_WS('=', LOWER(variable_name), variable_value) FROM {where}.global_variables"
                    ),
                )
                if not line.startswith(_VOLATILE)
            ],
            "users": sorted(self.ask("SELECT CONCAT(user, '@', host) FROM mysql.user WHERE user NOT LIKE 'envloop%'")),
            "databases": sorted(
                self.ask("SELECT schema_name FROM information_schema.schemata WHERE schema_name NOT LIKE 'envloop%'")
            ),
            "plugins": sorted(
                self.ask("SELECT CONCAT_WS(':', plugin_name, plugin_status) FROM information_schema.plugins")
            ),
            "rows": sorted(map(str, self.ask(self._counts))),
            "process": [str(self.pid)],
        }

    def forget_prepared(self) -> int:
        """Roll back the XA transactions that sessions have left, else they hold up all that follows; how many."""
        found = self.rows("XA RECOVER CONVERT XID" if self.kind == "mysql" else "XA RECOVER FORMAT='SQL'")
        if found:
            for (number,) in self.rows("SELECT id FROM information_schema.processlist WHERE user LIKE 'envloop%'"):
                with contextlib.suppress(pymysql.err.MySQLError):  # it has gone by itself
                    self.rows(f"KILL {number}")
        for row in found:
            xid = row[3]
            if self.kind == "mysql":
                length = 2 + 2 * row[1]
                xid = f"{xid[:length]}, 0x{xid[length:]}, {row[0]}"
            until(lambda xid=xid: self._rolled_back(xid))
        return len(found)

    def _rolled_back(self, xid: str) -> bool:
        try:
            self.rows(f"XA ROLLBACK {xid}")
        except pymysql.err.MySQLError:  # its session has not quite gone
            return False
        return True

    def left_of(self, name: str) -> list[str]:
        """What there still is of an episode that has been closed."""
        left = []
        if not until(
            lambda: (
                not self.ask(f"SELECT id FROM information_schema.processlist WHERE user = '{name}' OR db = '{name}'")
            )
        ):
            left.append("a session")
        view = "innodb_sys_tablespaces" if self.kind == "mariadb" else "innodb_tablespaces"
        patterns = f"('{name}', '{name.replace('_', chr(92) * 2 + '_')}')"
        left += self.ask(
            " UNION ALL ".join(
                (
                    f"SELECT 'the database' FROM information_schema.schemata WHERE schema_name = '{name}'",
                    f"SELECT CONCAT('tablespace ', name) FROM information_schema.{view} WHERE name LIKE '{name}/%'",
                    *(
                        f"SELECT 'rows of mysql.{table}' FROM mysql.`{table}` WHERE `{column}` IN {patterns}"
                        for table, column in self._owners
                    ),
                )
            )
        )
        if self.ask("XA RECOVER"):
            left.append("an XA transaction")
        if (self.data / name).exists():
            left.append("files")
        return left


@dataclass(slots=True)
class Peak:
    """The most that the server held while an attack ran, in bytes beyond what it held before."""

    memory: int = 0
    stored: int = 0


@contextlib.contextmanager
def watched(server: Server) -> Iterator[Peak]:
    """The server's peaks while the body runs."""
    peak = Peak()
    stop = threading.Event()
    memory, stored = server.memory(), server.stored()

    def look() -> None:
        while not stop.wait(0.05):
            peak.memory = max(peak.memory, server.memory() - memory)
            peak.stored = max(peak.stored, server.stored() - stored)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


class Bystander:
    """An episode beside the attack, with a value that nobody else may see."""

    def __init__(self, env) -> None:
        self.env = env
        self.canary = f"canary{secrets.token_hex(12)}"
        assert run(env, f"CREATE TABLE secret AS SELECT '{self.canary}' AS answer").valid
        self.name = real_name(env)

    def fresh(self) -> bool:
        """Whether it can serve one more attack: it works and has statements and rounds left."""
        try:
            self.env._steps = 0
            self.env._session.inner._budget.statements = 0
            return not self.env._closed and self.works()
        except InfrastructureError:
            return False

    def works(self) -> bool:
        """Whether its data are whole and it can write."""
        marker = secrets.token_hex(4)
        return (
            run(self.env, "SELECT answer FROM secret").observation.text == f"[('{self.canary}',)]"
            and run(self.env, "SELECT COUNT(*) FROM secret").observation.text == "[(1,)]"
            and run(self.env, f"CREATE TEMPORARY TABLE own AS SELECT '{marker}' AS word").valid
            and run(self.env, "SELECT word FROM own ORDER BY word").observation.text == f"[('{marker}',)]"
            and run(self.env, "DROP TEMPORARY TABLE own").valid
            and run(self.env, "UPDATE secret SET answer = answer").valid
        )


def beside(bystander: Bystander, attack: Callable[[], object]) -> tuple[object, int]:
    """The attack's result, and how often the bystander worked while it ran (at least once, whatever it takes)."""
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(attack()))
    thread.start()
    worked = 0
    while thread.is_alive():
        assert bystander.works()
        if thread.is_alive():
            worked += 1
        thread.join(0.1)
    thread.join()
    assert results, "the attack has raised an error"
    return results[0], worked
