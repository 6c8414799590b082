from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pymysql
import pytest
from dbbench_helpers import commit, run

from envs.dbbench.family import DbBenchFamily
from envs.dbbench.leases import REGISTRY
from envs.dbbench.mysql_server import PrivateServer
from envs.errors import BackendUnavailable, InfrastructureError
from envs.registry import DBBENCH

ROOT = Path(__file__).resolve().parents[3]


def server_processes(folder: Path) -> list[psutil.Process]:
    """The processes whose command line names the server's folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if any(str(folder) in word for word in process.cmdline()):
                found.append(process)
    return found


def eventually(what, seconds: float = 30.0) -> bool:
    until = time.monotonic() + seconds
    while not what() and time.monotonic() < until:
        time.sleep(0.02)
    return bool(what())


def test_close_leaves_no_process_and_no_folder(binary):
    server = PrivateServer(binary)
    address = server.start()
    assert server.start() == address
    folder = server.folder
    assert folder is not None
    assert len(server_processes(folder)) >= 2  # the watchdog and the server
    assert folder.stat().st_mode & 0o077 == 0
    server.close()
    server.close()
    assert not folder.exists()
    assert server_processes(folder) == []
    with pytest.raises(BackendUnavailable, match="closed"):
        server.start()


OWNER = """
import sys, time
from envs.dbbench.leases import REGISTRY
from envs.dbbench.mysql_server import PrivateServer
server = PrivateServer(sys.argv[1])
address = server.start()
print(server.folder, flush=True)
time.sleep(600)
"""


def end_owner(binary: str, number: int) -> None:
    """Start a process that owns a server, end it by a signal, and see that nothing of it is left."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, binary], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
    )
    try:
        assert owner.stdout is not None
        folder = Path(owner.stdout.readline().strip())
        assert folder.is_dir()
        assert server_processes(folder)
        owner.send_signal(number)
        owner.wait()
        assert eventually(lambda: not folder.exists() and not server_processes(folder))
    finally:
        owner.kill()
        owner.communicate()


def test_a_service_killed_with_sigkill_leaves_no_server_and_no_folder(binary):
    end_owner(binary, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_ended_service_leaves_no_server_and_no_folder(any_binary, number):
    end_owner(any_binary, number)


def test_a_killed_watchdog_takes_the_server_with_it(binary):
    server = PrivateServer(binary)
    server.start()
    folder = server.folder
    assert folder is not None
    assert server._process is not None
    os.kill(server._process.pid, signal.SIGKILL)
    assert eventually(lambda: not server_processes(folder))
    assert "died" in server.problem()
    server.close()
    assert not folder.exists()


def test_a_server_that_dies_is_an_infrastructure_error_and_no_observation(binary):
    family = DbBenchFamily(DBBENCH, server_binary=binary)
    try:
        family.start()
        assert family.ready().ready
        env, late = family.make(), family.make()
        env.reset(family.task("generated/0"))
        late.reset(family.task("generated/0"))
        assert run(env, "SELECT 1").valid
        folder = family._backend._server.folder
        for process in server_processes(folder):
            with contextlib.suppress(psutil.NoSuchProcess):
                if "watchdog" not in " ".join(process.cmdline()):
                    process.kill()
        assert eventually(lambda: not server_processes(folder))
        with pytest.raises(InfrastructureError):
            run(env, "SELECT 1")
        with pytest.raises(InfrastructureError):
            commit(late, "x")
        env.close()
        late.close()
        ready = family.ready()
        assert not ready.ready
        assert "died" in ready.detail
        with pytest.raises(InfrastructureError):
            family.make().reset(family.task("generated/0"))
    finally:
        family.close()


def test_a_server_that_cannot_start_says_why(tmp_path):
    fake = tmp_path / "mysqld"
    fake.write_text(
        "#!/bin/sh\n[ \"$1\" = --version ] && echo 'mysqld Ver 9.0' && exit 0\necho 'no room on device' >&2\nexit 3\n"
    )
    fake.chmod(0o755)
    server = PrivateServer(str(fake), folder=str(tmp_path))
    with pytest.raises(BackendUnavailable, match="no room on device"):
        server.start()
    server.close()
    assert [path.name for path in tmp_path.iterdir()] == ["mysqld"]


def test_services_share_a_server_and_a_crash_is_swept(shared_server, monkeypatch):
    server, url = shared_server
    address = server.start()
    connection = pymysql.connect(
        user=address.user, password=address.password, autocommit=True, **address.connect_arguments()
    )

    def names() -> set[str]:
        with connection.cursor() as cursor:
            cursor.execute("SHOW DATABASES LIKE 'envloop\\_%'")
            return {row[0] for row in cursor.fetchall()}

    def users() -> set[str]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT user FROM mysql.user WHERE user LIKE 'envloop%'")
            return {row[0] for row in cursor.fetchall()}

    with contextlib.closing(connection):
        with connection.cursor() as cursor:  # ours by name, but by no record: somebody else's
            cursor.execute("CREATE DATABASE envloop_0123456789abcdef")
        alive, crashed = DbBenchFamily(DBBENCH, url=url), DbBenchFamily(DBBENCH, url=url)
        kept, lost = alive.make(), crashed.make()
        kept.reset(alive.task("generated/0"))
        lost.reset(crashed.task("generated/0"))
        run(lost, "CREATE TABLE held (a INT)")
        run(lost, "LOCK TABLES held WRITE")
        left = {lost._session.database.name}
        # A crash: no beat of the heart, nothing closed, and two minutes go by.
        crashed._backend._databases._stop.set()
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE envloop_registry.services SET heartbeat = heartbeat - INTERVAL 200 SECOND WHERE id = %s",
                (crashed._backend._databases._leases.service,),
            )
        third = DbBenchFamily(DBBENCH, url=url)
        third.start()
        assert left.isdisjoint(names() | users())
        assert {kept._session.database.name, "envloop_0123456789abcdef"} < names()
        assert run(kept, "SELECT 1").observation.text == "[(1,)]"
        with pytest.raises(InfrastructureError):
            run(lost, "SELECT 1")
        with pytest.raises(InfrastructureError):
            run(lost, "SELECT 1")
        lost._session.close()
        crashed._backend._databases.admin.close()
        crashed._backend._databases = None
        for family in (third, alive, crashed):
            family.close()
        kept.close()
        assert names() == {"envloop_0123456789abcdef", REGISTRY}
        assert users() == set()
