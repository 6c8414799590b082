from __future__ import annotations

import pytest

from envs.dbbench.external_server import ExternalServer
from envs.dbbench.family import DbBenchFamily
from envs.dbbench.mysql_server import PrivateServer, find_server_binary
from envs.errors import BackendUnavailable, ConfigError, UnknownSplit, UnknownTaskType
from envs.registry import DBBENCH


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    for name in ("DBBENCH_URL", "DBBENCH_DATA", "DBBENCH_SERVER_BINARY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mysql+pymysql://u:p%40ss@127.0.0.1:3307", ("u", "p@ss", "127.0.0.1", 3307, None, False)),
        ("mysql://u@db.example", ("u", "", "db.example", 3306, None, True)),
        ("mysql://u@db.example?ssl=off", ("u", "", "db.example", 3306, None, False)),
        (
            "mariadb://u:p@localhost?unix_socket=/run/s.sock&charset=utf8mb4",
            ("u", "p", "localhost", 3306, "/run/s.sock", False),
        ),
        ("mysql://u:p@localhost?ssl=verify", ("u", "p", "localhost", 3306, None, True)),
    ],
)
def test_urls(url, expected):
    address = ExternalServer(url).start()
    found = (address.user, address.password, address.host, address.port, address.unix_socket, address.tls is not None)
    assert found == expected
    assert address.connect_arguments().get("ssl_disabled", False) is not expected[-1]


@pytest.mark.parametrize(
    "url",
    ["postgresql://u:p@h", "mysql://h", "mysql://u:p@h?ssl=maybe", "mysql://u:p@h?color=red", "mysql://u:p@h:port"],
)
def test_wrong_urls_are_refused_without_showing_the_password(url):
    with pytest.raises(ConfigError) as caught:
        ExternalServer(url)
    assert ":p@" not in str(caught.value)


def test_secrets_are_not_in_the_repr():
    address = ExternalServer("mysql://user:hidden-word@127.0.0.1").start()
    assert "hidden-word" not in repr(address)


def test_a_missing_server_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("envs.dbbench.mysql_server._FOLDERS", ())
    with pytest.raises(BackendUnavailable, match="mariadb-server-core"):
        find_server_binary()
    with pytest.raises(ConfigError, match="no program"):
        find_server_binary("nothing-here")
    family = DbBenchFamily(DBBENCH)
    ready = family.ready()
    assert not ready.ready
    assert "DBBENCH_URL" in ready.detail + ready.hint
    with pytest.raises(BackendUnavailable):
        family.make()
    family.close()
    family.close()
    assert "closed" in family.ready().detail


def test_a_program_that_is_no_server_is_refused(short_path):
    fake = short_path / "mysqld"
    fake.write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
    fake.chmod(0o755)
    server = PrivateServer(str(fake), folder=str(short_path))
    with pytest.raises(ConfigError, match="broken"):
        server.start()
    server.close()
    assert [path.name for path in short_path.iterdir()] == ["mysqld"]


def test_settings_and_lookups():
    with pytest.raises(ConfigError):
        DbBenchFamily(DBBENCH, max_connections=0)
    family = DbBenchFamily(DBBENCH)
    assert [split.name for split in family.splits()] == [
        "dev",
        "generated",
        "generated_eval",
        "generated_basic",
        "generated_basic_eval",
        "generated_easy",
        "generated_medium",
        "generated_hard",
    ]
    with pytest.raises(UnknownSplit, match="DBBENCH_DATA"):
        family.tasks("standard")
    with pytest.raises(UnknownTaskType):
        family.tasks("dev", type="dancing")
    page = family.tasks("dev", type="INSERT", offset=15, limit=10)
    assert (len(page.tasks), page.total) == (5, 20)
    endless = family.tasks("generated", type="ranking", offset=2, limit=3)
    assert (len(endless.tasks), endless.total) == (3, None)
    assert {task.type for task in endless.tasks} == {"ranking"}
    for split in ("dev", "generated"):
        one = family.sample(split, 5, type="UPDATE")
        assert one == family.sample(split, 5, type="UPDATE")
        assert one == family.task(one.id)
        assert one.type == "UPDATE"
        assert len({family.sample(split, seed).id for seed in range(20)}) > 10
    family.close()
