from __future__ import annotations

import contextlib
import json
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

from envs.dbbench.connection import TidyConnection
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
    assert not server.running
    server.start()  # another takes its place
    assert server.running
    assert not folder.exists()
    assert server.folder != folder
    server.close()
    assert not server.running


def kill_server(family) -> None:
    """SIGKILL to the family's private server, not to its watchdog; waits until it is gone."""
    folder = family._backend._hosts[0].server.folder
    assert folder is not None
    for process in server_processes(folder):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "watchdog" not in " ".join(process.cmdline()):
                process.kill()
    assert eventually(lambda: not server_processes(folder))


def test_episodes_go_on_where_their_server_is_killed(binary):
    """Each is played again on the server that takes the dead one's place: its statements, its variables, its score."""
    family = DbBenchFamily(DBBENCH, server_binary=binary)
    try:
        changed, fresh, late = (family.make() for _ in range(3))
        for env in (changed, fresh, late):
            env.reset(family.task("generated/0"))
        assert run(changed, changed.expert_action().arguments["query"]).valid
        assert run(changed, "SET @kept = 7").valid
        kill_server(family)
        assert run(changed, "SELECT @kept").observation.text == "[(7,)]"
        assert commit(changed, "x").reward == 1.0
        assert commit(late, "x").reward == 0.0
        assert run(fresh, fresh.expert_action().arguments["query"]).valid
        kill_server(family)
        assert commit(fresh, "x").reward == 1.0
        assert family.ready().ready
        assert family.live_databases == 0
    finally:
        family.close()


def test_an_episode_that_cannot_be_brought_back_is_an_infrastructure_error(binary, monkeypatch):
    monkeypatch.setattr("envs.dbbench.recovery._MOST_RECOVERIES", 2)
    family = DbBenchFamily(DBBENCH, server_binary=binary)
    try:
        told, doomed = family.make(), family.make()
        for env in (told, doomed):
            env.reset(family.task("generated/0"))
        run(told, "SELECT SYSDATE(6), UUID()")  # no function of the database
        kill_server(family)
        with pytest.raises(InfrastructureError, match="statement 1, run again, gives another result"):
            run(told, "SELECT 1")
        told.close()
        run(doomed, "SELECT 1")
        kill_server(family)
        run(doomed, "SELECT 1")
        kill_server(family)
        with pytest.raises(InfrastructureError):  # it has been brought back as often as may be
            run(doomed, "SELECT 1")
        doomed.close()
        after = family.make()
        after.reset(family.task("generated/0"))
        assert run(after, "SELECT 1").valid
        after.close()
        assert family.live_databases == 0
    finally:
        family.close()


def test_a_server_with_a_session_that_cannot_be_ended_is_replaced(binary, monkeypatch):
    monkeypatch.setattr("envs.dbbench.isolation._UNENDING_S", 0.0)
    family = DbBenchFamily(DBBENCH, server_binary=binary)
    try:
        env, other = family.make(), family.make()
        for each in (env, other):
            each.reset(family.task("generated/0"))
        assert run(other, "SET @kept = 7").valid
        host = family._backend._hosts[0]
        before = host.server.folder
        # As if the server did not let go of a session that was ended: one that is there for good.
        env._session.inner.database.unending[env._session.inner._connection.session_id] = 0.0
        assert eventually(lambda: host.server.folder not in (before, None) and host.failure is None)
        assert run(other, "SELECT @kept").observation.text == "[(7,)]"
        assert commit(other, "x").reward == 0.0
        env.close()
        assert family.live_databases == 0
        assert not before.exists()
    finally:
        family.close()


def test_a_service_takes_a_server_out_and_puts_it_back(binary):
    """Two servers by URL: one is killed, its episode goes on at the other; it is started again and used again."""
    servers = [PrivateServer(binary), PrivateServer(binary)]
    family = None
    try:
        urls = []
        for server in servers:
            address = server.start()
            urls.append(f"mysql://root:{address.password}@localhost?unix_socket={address.unix_socket}")
        family = DbBenchFamily(DBBENCH, url=" ".join(urls), spare_databases=0)
        envs = [family.make() for _ in range(4)]
        for env in envs:
            env.reset(family.task("generated/0"))
            assert run(env, "SET @kept = 7").valid
        hosts = family._backend._hosts
        assert [host.live for host in hosts] == [2, 2]
        assert family.figures() == {"databases_live": 4, "databases_spare": 0, "servers": 2, "servers_up": 2}
        servers[0].close()
        assert [run(env, "SELECT @kept").observation.text for env in envs] == ["[(7,)]"] * 4
        assert hosts[1].live == 4
        assert eventually(lambda: hosts[0].failure is not None)
        assert family.ready().ready
        assert family.figures() == {"databases_live": 4, "databases_spare": 0, "servers": 2, "servers_up": 1}
        for env in envs:
            assert commit(env, "x").reward == 0.0
        servers[1].close()
        late = family.make()
        with pytest.raises(InfrastructureError):
            late.reset(family.task("generated/0"))
        assert not family.ready().ready
    finally:
        if family is not None:
            family.close()
        for server in servers:
            server.close()


def test_a_server_that_comes_back_is_used_again(shared_server, monkeypatch):
    _, url = shared_server
    family = DbBenchFamily(DBBENCH, url=url, spare_databases=0)
    try:
        env = family.make()
        env.reset(family.task("generated/0"))
        host = family._backend._hosts[0]
        with monkeypatch.context() as patch:  # the network, as seen from here, is away
            patch.setattr(host.databases, "ping", lambda: (_ for _ in ()).throw(BackendUnavailable("no way there")))
            assert eventually(lambda: host.failure is not None)
            assert "no way there" in family.ready().detail
        assert eventually(lambda: host.failure is None)
        assert family.ready().ready
        assert run(env, "SELECT 1").valid
        env.close()
    finally:
        family.close()


def server_answers(server: PrivateServer) -> bool:
    with contextlib.suppress(pymysql.err.MySQLError):
        address = server.start()
        TidyConnection(user=address.user, password=address.password, **address.connect_arguments()).close()
        return True
    return False


def test_the_private_servers_data_folder_is_capped_and_copied(binary, tmp_path):
    first = PrivateServer(binary, templates=tmp_path, max_data_bytes=300 * 2**20)
    first.start()
    storage = json.loads((first.folder / "storage").read_text())
    first.close()
    assert len(list(tmp_path.iterdir())) == 1
    assert storage["copied"] is False
    second = PrivateServer(binary, templates=tmp_path, max_data_bytes=300 * 2**20)
    address = second.start()
    try:
        storage = json.loads((second.folder / "storage").read_text())
        assert storage["copied"] is True
        if storage["uncapped"]:
            pytest.skip(f"this machine lets nobody mount: {storage['uncapped']}")
        mounts = Path(f"/proc/{second._process.pid}/mounts").read_text()
        assert f"{second.folder}/store tmpfs" in mounts
        assert "size=307200k" in mounts
        assert str(second.folder) not in Path("/proc/self/mounts").read_text()
        connection = pymysql.connect(
            user=address.user, password=address.password, autocommit=True, **address.connect_arguments()
        )
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE fill")
            cursor.execute("CREATE TABLE fill.t (a LONGTEXT)")

            def fill() -> None:
                for _ in range(60):
                    cursor.execute("INSERT INTO fill.t VALUES (REPEAT('x', 8000000))")

            with pytest.raises(pymysql.err.MySQLError):  # the table is full: not the machine's memory
                fill()
        # MariaDB ends where it cannot write any more; another takes its place then.
        assert eventually(lambda: server_answers(second))
    finally:
        second.close()


def test_a_broken_template_is_made_anew(any_binary, tmp_path):
    server = PrivateServer(any_binary, templates=tmp_path / "none" / "yet")
    server.start()
    server.close()
    (template,) = (tmp_path / "none" / "yet").iterdir()
    for left in template.rglob("*"):
        if left.is_file():
            left.unlink()
    again = PrivateServer(any_binary, templates=tmp_path / "none" / "yet")
    again.start()
    again.close()


def test_a_server_that_cannot_start_says_why(short_path):
    fake = short_path / "mysqld"
    fake.write_text(
        "#!/bin/sh\n[ \"$1\" = --version ] && echo 'mysqld Ver 9.0' && exit 0\necho 'no room on device' >&2\nexit 3\n"
    )
    fake.chmod(0o755)
    server = PrivateServer(str(fake), folder=str(short_path))
    with pytest.raises(BackendUnavailable, match="no room on device"):
        server.start()
    server.close()
    assert [path.name for path in short_path.iterdir()] == ["mysqld"]


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
        left = {lost._session.inner.database.name}
        # A crash: no beat of the heart, nothing closed or dropped, and two minutes go by.
        databases = crashed._backend._hosts[0].databases
        assert eventually(lambda: len(databases._spare) == databases._spare_wanted)
        left |= {spare.name for spare in databases._spare}
        crashed._backend._stop.set()
        databases._stop.set()
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE envloop_registry.services SET heartbeat = heartbeat - INTERVAL 200 SECOND WHERE id = %s",
                (databases._leases.service,),
            )
        third = DbBenchFamily(DBBENCH, url=url)
        third.start()
        assert left.isdisjoint(names() | users())
        assert {kept._session.inner.database.name, "envloop_0123456789abcdef"} < names()
        assert run(kept, "SELECT 1").observation.text == "[(1,)]"
        with pytest.raises(InfrastructureError):
            run(lost, "SELECT 1")
        lost._session.inner._forget()
        databases._short.set()
        crashed._backend._prober.join()
        databases._watch.close()
        databases._urgent.close()
        databases.admin.close()
        crashed._backend._hosts[0].databases = None
        for family in (third, alive, crashed):
            family.close()
        kept.close()
        assert names() == {"envloop_0123456789abcdef", REGISTRY}
        assert users() == set()
