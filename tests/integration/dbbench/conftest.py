"""Real database servers: MariaDB from PATH, MySQL from ``ENVLOOP_MYSQLD`` or the checkout's cache."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from envs.dbbench.connection import TidyConnection
from envs.dbbench.family import DbBenchFamily
from envs.dbbench.mysql_server import PrivateServer, find_server_binary
from envs.errors import BackendUnavailable
from envs.registry import DBBENCH

ROOT = Path(__file__).resolve().parents[3]


def _mariadb() -> str | None:
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
    return shutil.which("mariadbd", path=path)


def _mysql() -> str | None:
    for candidate in (os.environ.get("ENVLOOP_MYSQLD"), str(ROOT / ".cache" / "mysql" / "mysqld")):
        if candidate and shutil.which(candidate):
            return candidate
    with contextlib.suppress(BackendUnavailable):
        found = find_server_binary()
        return str(found) if found.name == "mysqld" else None
    return None


BINARIES = {"mariadb": _mariadb, "mysql": _mysql}


# What runs on MySQL in the default tests: gold, scoring, isolation, a sample of the attacks. The rest, minutes, is
# slow; on MariaDB all of it is in the default tests.
_ON_MYSQL = (
    "test_dbbench_gold.py",
    "test_dbbench_episodes.py",
    "test_dbbench_isolation.py",
    "test_dbbench_generator.py",
    "test_dbbench_quota.py",
    "test_attack_neighbours.py",
    "test_attack_server.py",
)
_ALWAYS_ON_MYSQL = ("test_hundreds_of_statements_print", "test_what_is_known_to_differ")
_SLOW_ON_MYSQL = (
    "test_the_standard_splits_known_miss",
    "test_the_gold_of_generated_tasks",
    "test_doing_nothing_scores_zero",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and getattr(item, "callspec", None) is not None:
            on_mysql = item.callspec.params.get("binary") == "mysql"
            if item.name.startswith(_ALWAYS_ON_MYSQL):
                continue
            if on_mysql and (item.path.name not in _ON_MYSQL or item.name.startswith(_SLOW_ON_MYSQL)):
                item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", params=sorted(BINARIES))
def binary(request) -> str:
    """The program of each kind of server that is installed here."""
    found = BINARIES[request.param]()
    if found is None:
        pytest.skip(f"no {request.param} server is installed")
    return found


@pytest.fixture(scope="session")
def any_binary() -> str:
    """The program of one server, for what does not depend on its kind."""
    found = _mariadb() or _mysql()
    if found is None:
        pytest.skip("no database server is installed")
    return found


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    for name in ("DBBENCH_URL", "DBBENCH_DATA", "DBBENCH_SERVER_BINARY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def family(binary):
    """One private server for all tests of a kind; no database is made ahead, so that each on it is an episode's."""
    family = DbBenchFamily(DBBENCH, server_binary=binary, max_rows=5000, spare_databases=0)
    yield family
    family.close()


@pytest.fixture
def episode(family):
    """Starts episodes, and closes them after the test."""
    with contextlib.ExitStack() as stack:

        def start(task_id: str = "generated/0", *, seconds: float | None = None, **options):
            env = family.make()
            if seconds is not None:
                env._limits = replace(env._limits, seconds=seconds)
            stack.callback(env.close)
            env.reset(family.task(task_id), options=options)
            return env

        yield start


@pytest.fixture
def admin(family):
    """Asks the family's server as its administrator."""
    address = family._backend._hosts[0].server.start()

    def ask(statement: str):
        connection = TidyConnection(
            user=address.user, password=address.password, autocommit=True, **address.connect_arguments()
        )
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute(statement)
            return [row[0] for row in cursor.fetchall()]

    return ask


@pytest.fixture
def shared_server(binary):
    """A server of its own that a test may share between services, by URL."""
    server = PrivateServer(binary)
    address = server.start()
    yield server, f"mysql://root:{address.password}@localhost?unix_socket={address.unix_socket}"
    server.close()
