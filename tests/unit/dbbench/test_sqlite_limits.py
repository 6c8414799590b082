from __future__ import annotations

import logging
import sqlite3

import pytest

from envs.dbbench.backend import TIMED_OUT, TOO_BIG, TRUNCATED, Limits
from envs.dbbench.sqlite_parse import parse
from envs.dbbench.sqlite_session import SqliteSession
from envs.dbbench.tables import Table

ROWS = Table("t", ("a",), tuple((str(number),) for number in range(100)))
CROSSED = "t t1, t t2, t t3, t t4, t t5, t t6"


@pytest.fixture
def begin():
    sessions = []

    def start(**limits) -> SqliteSession:
        session = SqliteSession(Limits(**limits))
        sessions.append(session)
        session.load([ROWS])
        return session

    yield start
    for session in sessions:
        session.close()


@pytest.mark.parametrize(
    "statement",
    [
        f"SELECT COUNT(*) FROM {CROSSED}",
        f"SELECT t1.a FROM {CROSSED} ORDER BY t6.a, RAND() LIMIT 1",
        f"SELECT SUM(t1.a * t2.a), GROUP_CONCAT('') FROM {CROSSED}",
        "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT MAX(n) FROM c",
        f"DELETE FROM t WHERE a IN (SELECT * FROM (SELECT t1.a + t2.a FROM {CROSSED}) x)",
        "SELECT SLEEP(60)",
        "SELECT " + "a, " * 60_000 + "a FROM t",
    ],
    ids=["count", "sort", "aggregate", "recursion", "delete", "sleep", "parse"],
)
def test_a_statement_ends_with_its_time(begin, statement):
    session = begin(seconds=0.05)
    result = session.execute(statement)
    assert (result.text, result.valid, result.limits) == (TIMED_OUT, False, ("seconds",))
    assert session.execute("SELECT COUNT(*) FROM t").text == "[(100,)]"


@pytest.mark.parametrize(
    "pattern",
    [
        "^(a+)+$",
        "^(a|a)*$",
        "a?" * 40 + "a" * 40,
        "(a|aa)" * 30,
        "a*a*a*a*b",
        "(a)\\1",
        "x{1,5000}",
        "((a*)*)*b",
        "a" * 2000,
    ],
)
def test_a_pattern_that_could_run_for_ever_is_refused(begin, pattern):
    result = begin().execute(f"SELECT REPEAT('a', 3000) REGEXP '{pattern}'".replace("\\", "\\\\"))
    assert (result.valid, result.text) == (False, "3699 (HY000): Timeout exceeded in regular expression match.")


def test_a_pattern_of_many_wildcards_matches_in_time(begin):
    assert begin().execute("SELECT REPEAT('a', 1000000) LIKE CONCAT(REPEAT('%a', 100), '%b')").text == "[(0,)]"
    assert begin().execute("SELECT CONCAT(REPEAT('a', 1000), 'xby') LIKE '%a_b_'").text == "[(1,)]"


def test_results_are_cut_at_their_limits(begin):
    result = begin(rows=10).execute("SELECT a FROM t")
    assert (len(result.rows), result.limits, result.valid) == (10, ("rows",), True)
    result = begin(bytes=50).execute("SELECT a FROM t")
    assert (result.limits, result.valid, len(result.rows) < 100) == (("bytes",), True, True)
    result = begin(text=20).execute("SELECT a FROM t")
    assert result.text == "[('0',), ('1',), ('2" + TRUNCATED
    assert len(result.rows) == 100


def test_a_statement_that_is_too_long_is_not_read(begin):
    result = begin(statement_bytes=100).execute("SELECT '" + "é" * 50 + "'")
    assert (result.text, result.valid, result.limits) == (TOO_BIG, False, ("statement_bytes",))
    long = "SELECT '" + "x" * 400_000 + "'"
    result = begin().execute(long)
    assert (result.text, result.valid, result.limits) == (TOO_BIG, False, ("statement_bytes",))


def test_an_episode_may_run_so_many_statements(begin):
    session = begin(statements=2)
    assert session.execute("SELECT 1").valid
    assert not session.execute("SELECT nosuch").valid
    result = session.execute("SELECT 1")
    assert (result.valid, result.limits) == (False, ("statements",))
    assert result.text.startswith("1226 (42000)")


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO t SELECT REPEAT('x', 60000) FROM t",
        "CREATE TABLE u AS SELECT REPEAT('x', 60000) AS x FROM t",
        "UPDATE t SET a = REPEAT('x', 60000)",
    ],
)
def test_a_database_that_is_full_takes_no_more(begin, statement):
    session = begin(database_bytes=2**20)
    result = session.execute(statement)
    assert (result.text, result.valid, result.limits) == ("1114 (HY000): The table is full", False, ("database_bytes",))
    assert session.execute("SELECT COUNT(*), MAX(LENGTH(a)) FROM t").text == "[(100, 2)]"


def test_an_episode_may_write_so_many_rows(begin):
    session = begin(database_rows=150)
    assert session.execute("UPDATE t SET a = 'x'").valid
    result = session.execute("INSERT INTO t SELECT a FROM t")
    assert (result.text, result.valid, result.limits) == ("1114 (HY000): The table is full", False, ("database_rows",))
    assert session.execute("SELECT COUNT(*) FROM t").text == "[(100,)]"


@pytest.mark.parametrize(
    "expression",
    [
        "REPEAT('a', 1000000000)",
        "LPAD('a', 2000000000, 'b')",
        "SPACE(1e18)",
        "REPLACE(REPEAT('a', 9000000), 'a', 'bb')",
    ],
)
def test_a_value_may_be_so_long(begin, expression):
    result = begin().execute(f"SELECT LENGTH({expression})")
    assert (result.valid, result.text[:12]) == (False, "1301 (HY000)")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT " + "(" * 2000 + "1" + ")" * 2000,
        "SELECT " + "NOT " * 3000 + "1",
        "SELECT " + "- " * 3000 + "1",
        "SELECT " + "CASE WHEN 1 THEN " * 500 + "1" + " END" * 500,
        "SELECT " + "LEFT(" * 400 + "'a'" + ", 1)" * 400,
        "SELECT * FROM " + "(SELECT * FROM " * 50 + "t" + ") x" * 50,
        "SELECT 1 " + "UNION SELECT 1 " * 400,
    ],
)
def test_what_nests_too_deep_is_an_error(begin, statement):
    session = begin()
    result = session.execute(statement)
    assert not result.valid
    assert result.text.startswith(("1064", "1105", "1436")), result.text
    assert session.execute("SELECT 1").text == "[(1,)]"


def test_a_long_chain_of_conditions_is_read(begin):
    chain = " OR ".join(f"a = {number}" for number in range(500))
    assert begin().execute(f"SELECT COUNT(*) FROM t WHERE {chain}").text == "[(100,)]"


@pytest.mark.parametrize(
    "statement",
    [
        "ATTACH DATABASE '/tmp/x' AS y",
        "PRAGMA table_info(t)",
        "VACUUM INTO '/tmp/x'",
        "CREATE VIRTUAL TABLE x USING fts5(a)",
        "SELECT load_extension('x')",
        "SELECT readfile('/etc/passwd')",
        "SELECT * FROM sqlite_master",
        "SELECT * FROM dbbench.sqlite_master",
        "SELECT * FROM main.t1",
        "SELECT sqlite_version()",
        "SELECT a FROM t INTO OUTFILE '/tmp/x'",
        "SELECT LOAD_FILE('/etc/passwd')",
    ],
)
def test_a_policy_reaches_no_file_and_nothing_of_sqlites_own(begin, statement):
    result = begin().execute(statement)
    assert not result.valid or result.text == "[(None,)]"


@pytest.mark.parametrize(
    "sql",
    [
        "ATTACH DATABASE ':memory:' AS y",
        "PRAGMA journal_mode",
        "CREATE VIRTUAL TABLE x USING fts5(a)",
        "SELECT load_extension('x')",
        "SELECT hex('a')",
        "CREATE TRIGGER x AFTER INSERT ON t1 BEGIN SELECT 1; END",
    ],
)
def test_the_connection_itself_refuses_them_too(begin, sql):
    with pytest.raises(sqlite3.DatabaseError):
        begin()._state.connection.execute(sql)


def test_a_text_that_is_no_unicode_is_an_error(begin):
    result = begin().execute("SELECT '\ud800'")
    assert (result.valid, result.text[:23]) == (False, "Error executing query: ")
    assert begin().execute("SELECT 'a\0b', LENGTH('a\0b')").text == "[('a\\x00b', 3)]"


def test_a_tree_that_nobody_has_foreseen_refuses_the_statement_and_keeps_its_words_out_of_the_log(
    begin, monkeypatch, caplog
):
    session = begin()

    def broken(self, parsed):
        raise AttributeError("secret")

    monkeypatch.setattr("envs.dbbench.sqlite_session.Answers.answer", broken)
    with caplog.at_level(logging.WARNING):
        result = session.execute("SELECT 'secret'")
    assert (result.valid, result.text) == (False, "1105 (HY000): Unknown error")
    assert "AttributeError at test_sqlite_limits.py" in caplog.text
    assert "secret" not in caplog.text


def test_the_same_statement_is_read_once():
    assert parse("SELECT 1 AS once") is parse("SELECT 1 AS once")
