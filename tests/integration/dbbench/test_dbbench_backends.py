"""SQLite against real servers: on which statements and tasks they differ, by name. What is not named must agree."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from envs.dbbench.backend import Limits
from envs.dbbench.backend_differences import compare_backends, typical_statements
from envs.dbbench.generator import generate
from envs.dbbench.sqlite_backend import SqliteBackend
from envs.dbbench.tables import ForeignKey, Table
from envs.dbbench.tasks import find_task_files

TABLES = [
    Table(
        "t",
        ("a", "b", "c"),
        (
            ("1", "Alpha", "2.50"),
            ("2", "beta", "10"),
            ("12abc", "Émile", "x"),
            ("3", "ALPHA", None),
            ("", 'o"q', "-4.25"),
        ),
    ),
    Table(
        "people",
        ("id", "name", "born", "pay", "score", "team", "seen", "note"),
        (
            ("1", "Ann", "1990-02-03", "1000.50", "1.5", "1", "2023-05-06 07:08:09", "hello"),
            ("2", "Bob", "1985-12-31", "2000.00", "2.25", "2", "2023-05-06 07:08:10", None),
            ("3", "Cid", None, "1500.25", None, "1", None, "Zed"),
            ("4", "dan", "2001-07-15", "999.99", "3.75", None, "2020-01-01 00:00:00", "über"),
        ),
        ("INT", "VARCHAR(20)", "DATE", "DECIMAL(10,2)", "DOUBLE", "INT", "DATETIME", "TEXT"),
        ("id",),
    ),
    Table(
        "orders",
        ("oid", "pid", "qty", "price"),
        (("10", "1", "3", "9.99"), ("11", "1", "1", "100.00"), ("12", "2", "5", "0.50"), ("13", "4", "2", "20.00")),
        ("INT", "INT", "INT", "DECIMAL(8,2)"),
        ("oid",),
        (ForeignKey(("pid",), "people", ("id",)),),
    ),
]
# What SQLite does not do as MySQL does, and is not meant to.
DIFFERENT = {
    "SELECT MD5('a')": "MySQL 9.7 has MD5 no more; AgentBench's server has",
    "SELECT LEFT('a')": "a wrong count of arguments is no error of the syntax here",
    "SELECT @x := 5, @x + 1": "a variable has the type of what it was given in the same statement",
    "SELECT 9223372036854775807 + 1": "the error does not repeat the expression",
    "SELECT INTERVAL(5, 1, 10)": "not there",
    "SELECT JSON_EXTRACT('{\"a\": 1}', '$.a')": "no JSON functions",
    "SELECT team, COUNT(*) FROM people GROUP BY team WITH ROLLUP": "no ROLLUP",
    "SELECT 'a' REGEXP '^(a+)+$'": "a pattern that could run for ever is not run",
    "EXPLAIN SELECT 1": "another planner",
    "SHOW TABLE STATUS": "no sizes and times of files",
    "SHOW GRANTS": "no users",
    "SHOW ENGINES": "no engines",
    "PREPARE s FROM 'SELECT 1'": "no prepared statements",
    "OPTIMIZE TABLE people": "nothing to optimise, and no note that says so",
    "CREATE PROCEDURE p() SELECT 1": "no procedures, functions, triggers and events",
    "CREATE TABLE big (n BIGINT UNSIGNED, PRIMARY KEY (n)) AS SELECT 18446744073709551615 AS n": "63 bits",
}
# Tasks of which a statement prints something else: (task, statement up to its first blank) -> why.
TASKS: dict[str, dict[tuple[str, str], str]] = {"mysql": {}, "mariadb": {}}
# Of these a statement may print something else, as the server's statistics of its tables have it.
SLOW_TASKS: dict[str, dict[tuple[str, str], str]] = {
    "mysql": {
        ("generated/201", "SELECT"): "rows of a join without ORDER BY come in the order of the plan",
        ("generated/785", "SELECT"): "the first rows of several with the same rank",
    },
    "mariadb": {
        ("generated/176", "SELECT"): "rows of a join without ORDER BY come in the order of the plan",
        ("generated/201", "SELECT"): "rows of a join without ORDER BY come in the order of the plan",
        ("generated/326", "SELECT"): "MariaDB gives groups in the order of their keys",
        ("generated/426", "SELECT"): "MariaDB gives groups in the order of their keys",
        ("generated/551", "SELECT"): "MariaDB gives groups in the order of their keys",
        ("generated/601", "SELECT"): "MariaDB gives groups in the order of their keys",
        ("generated/785", "SELECT"): "the first rows of several with the same rank",
    },
}
# MariaDB shows a number's width where MySQL has none.
WIDTH = re.compile(r"\b((?:tiny|small|medium|big)?int|year)\(\d+\)")


@pytest.fixture
def server(family):
    """The server's backend, and what it is called."""
    family.start()
    kind = "mariadb" if "mariadb" in family.server_version().lower() else "mysql"
    return family._backend, kind


@pytest.fixture
def sqlite():
    backend = SqliteBackend()
    yield backend
    backend.close()


def scripts() -> list[list[str]]:
    text = Path(__file__).with_name("backend_statements.sql").read_text(encoding="utf-8")
    return [[line for line in script.split("\n") if line] for script in text.split("\n--\n")]


def printed(backend, statements) -> Iterator[str]:
    session = backend.begin(Limits(), seed=1)
    try:
        session.load(TABLES)
        for statement in statements:
            yield session.execute(statement).text
    finally:
        session.close()


@pytest.mark.parametrize("binary", ["mysql"], indirect=True)  # SQLite follows MySQL's words
def test_hundreds_of_statements_print_the_same_as_on_mysql(server, sqlite):
    backend, _ = server
    different = []
    for script in scripts():
        for statement, one, two in zip(script, printed(backend, script), printed(sqlite, script), strict=True):
            if one != two:
                different.append((statement, one, two))
    assert different == []
    assert sum(map(len, scripts())) > 400


@pytest.mark.parametrize("binary", ["mysql"], indirect=True)
def test_what_is_known_to_differ_differs(server, sqlite):
    backend, _ = server
    same = [one for one in DIFFERENT if list(printed(backend, [one])) == list(printed(sqlite, [one]))]
    assert same == [], "strike them off the list"


def different_statements(tasks, server, sqlite):
    backend, kind = server
    found, rewards = set(), []
    for result in compare_backends(tasks, backend, sqlite):
        rewards.append(result.rewards)
        for difference in result.differences:
            one, two = difference.texts
            word = difference.statement.partition(" ")[0]
            if kind == "mariadb" and word in ("DESCRIBE", "SHOW") and WIDTH.sub(r"\1", one) == WIDTH.sub(r"\1", two):
                continue
            found.add((result.task_id, word))
    return found, rewards


def test_tasks_score_and_print_the_same(server, sqlite):
    tasks = [*find_task_files(None)[0].tasks, *(generate("generated", index) for index in range(100))]
    found, rewards = different_statements(tasks, server, sqlite)
    assert rewards == [(1.0, 1.0)] * 160
    assert found == set(TASKS[server[1]])


@pytest.mark.slow
def test_a_thousand_tasks_score_the_same_and_few_print_otherwise(server, sqlite):
    tasks = [generate("generated", index) for index in range(1000)]
    found, rewards = different_statements(tasks, server, sqlite)
    assert rewards == [(1.0, 1.0)] * 1000
    assert found - set(SLOW_TASKS[server[1]]) == set()


@pytest.mark.slow
def test_official_tasks_score_the_same(server, sqlite, shared_dir):
    for file in find_task_files(shared_dir / "data" / "agentbench" / "dbbench"):
        found, rewards = different_statements(file.tasks, server, sqlite)
        assert [pair for pair in rewards if pair[0] != pair[1]] == [], file.name
        assert found == set(), file.name


def test_what_is_compared_begins_with_what_a_policy_asks_first():
    task = generate("generated", 0)
    statements = typical_statements(task)
    assert statements[:2] == ["SHOW TABLES", f"DESCRIBE `{task.tables[0].name}`"]
    assert statements[-len(task.gold_sql) :] == list(task.gold_sql)
