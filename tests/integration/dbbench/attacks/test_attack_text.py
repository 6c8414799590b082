"""Several statements in one, names and values of any letters, and the database's public name in strange places."""

from __future__ import annotations

import pytest
from attack_world import real_name
from dbbench_helpers import run


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1; DROP TABLE kept",
        "SELECT 1;DROP TABLE kept;",
        "SELECT 1 /* ; */; DROP TABLE kept",
        "SELECT 1; -- x\nDROP TABLE kept",
        "SELECT ';'; DROP TABLE kept",
        "/*! SELECT 1; */ DROP TABLE kept; SELECT 1",
        "DELIMITER //\nDROP TABLE kept//",
        "SELECT 1\\gDROP TABLE kept",
        "SELECT 1\x00; DROP TABLE kept",
        "BEGIN NOT ATOMIC SELECT 1; END; DROP TABLE kept",
        "PREPARE s FROM 'SELECT 1; DROP TABLE kept'",
        "EXECUTE IMMEDIATE 'SELECT 1; DROP TABLE kept'",
        "CREATE PROCEDURE p() SELECT 1; DROP TABLE kept",
    ],
)
def test_one_statement_at_a_time(attacker, statement):
    env = attacker()
    run(env, "CREATE TABLE kept (a INT)")
    assert not run(env, statement).valid
    assert run(env, "SELECT COUNT(*) FROM kept").observation.text == "[(0,)]"


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("SELECT 1;", "[(1,)]"),
        ("SELECT 1; -- the end", "[(1,)]"),
        ("SELECT 'a;b', \"c;d\"", "[('a;b', 'c;d')]"),
        ("SELECT 1 /* a; b */", "[(1,)]"),
        ("SELECT 1 AS `a;b`", "[(1,)]"),
        ("/* first */ SELECT 2", "[(2,)]"),
        ("-- first\nSELECT 3", "[(3,)]"),
        ("SELECT '\u0645\u0631\u062d\u0628\u0627', '\U0001f600'", "[('\u0645\u0631\u062d\u0628\u0627', '\U0001f600')]"),
        ("SELECT 'dbbench', \"dbbench\", 'my dbbench.t'", "[('dbbench', 'dbbench', 'my dbbench.t')]"),
        ("SELECT DATABASE() = 'dbbench', 'DBBENCH', 'a_dbbench'", "[(1, 'DBBENCH', 'a_dbbench')]"),
        ("SELECT 1 AS dbbench", "[(1,)]"),
        ("SELECT REPEAT('-- ', 3), '#', '/*'", "[('-- -- -- ', '#', '/*')]"),
        ("SELECT 'a\\0b', CHAR_LENGTH('a\\0b')", "[('a\\x00b', 3)]"),
    ],
)  # fmt: skip
def test_what_looks_like_several_is_one(attacker, statement, text):
    result = run(attacker(), statement)
    assert (result.observation.text.replace("\u202e", "\\u202e"), result.valid) == (
        text.replace("\u202e", "\\u202e"),
        True,
    )


NAMES = (
    "a b", "a`b", "a\nb", "a;b", "a'b", 'a"b', "a.b", "../../a", "/etc/passwd", "#sql-1", "#mysql50#a", "user", "mysql",
    "dbbench", "information_schema", "n" * 64, "\u00e9" * 64, "\u0645\u0631\u062d\u0628\u0627", "\u202ea",
    "COUNT", "select", "NUL", "con", "%", "_", "\\", "a\tb", "$$", "1", "a@b", "-- a", "/*a*/",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_table_may_have_any_name(attacker, bystander, name):
    env = attacker()
    quoted = f"`{name.replace('`', '``')}`"
    if run(env, f"CREATE TABLE {quoted} (a INT, {quoted} INT)").valid:
        assert run(env, f"INSERT INTO {quoted} VALUES (1, 2)").valid
        assert run(env, f"SELECT t.{quoted} FROM {quoted} t").observation.text == "[(2,)]"
        assert run(env, f"ALTER TABLE {quoted} RENAME TO other").valid
    assert bystander.works()


@pytest.mark.parametrize(
    "statement",
    [
        "", " ", ";", "\x00", "SELECT '\x00'", "SELECT \x00 1", "\ud800", "SELECT '\ud800\udfff'", "\ufeffSELECT 1",
        "\u00a0SELECT 1", "SELECT '\U0010ffff'", "SELECT `\U0001f600`", "CREATE TABLE `\U0001f600` (a INT)",
        "SELECT '\x1a\x7f\x85'", "SELECT x'ff', _binary'\x80'", "SELECT CONVERT(0xF0288CBC USING utf8mb4)",
        "SELECT CAST(0xC328 AS CHAR)", "SELECT 0xC328", "SELECT \u201c1\u201d", "SELEC\u0422 1", "\x1b[2J",
        "SELECT '%s', '%(a)s', '{}', '{0}', '\\N'", "SELECT '\\'", "SELECT 'a", "SET NAMES gbk", "SET NAMES ucs2",
        "SET character_set_results = ucs2", "SET character_set_results = utf16", "SET character_set_results = utf32",
        "SET character_set_results = binary", "SET character_set_results = NULL", "SET character_set_client = latin1",
    ],
)  # fmt: skip
def test_bytes_of_no_meaning_are_an_answer_and_no_fault(attacker, statement):
    """Whatever the answer, and whatever it does to the session, the next statements are answered too."""
    env = attacker()
    for following in (statement, "SELECT 1, 'a', 2.5", "SELECT * FROM missing", "SHOW TABLES", "SELECT NOW()"):
        assert run(env, following).observation.text


def test_the_real_name_is_never_told(attacker):
    env = attacker()
    name = real_name(env)
    for statement in (
        "SELECT DATABASE(), USER(), CURRENT_USER(), SCHEMA(), SESSION_USER()",
        "SELECT * FROM missing",
        "CREATE TABLE t (a INT PRIMARY KEY)",
        "INSERT INTO t VALUES (1), (1)",
        "SELECT schema_name FROM information_schema.schemata",
        "SHOW CREATE DATABASE dbbench",
        "SHOW DATABASES",
        "SHOW GRANTS",
        "SELECT * FROM information_schema.schema_privileges",
        "EXPLAIN FORMAT=JSON SELECT * FROM t",
        "SELECT db FROM information_schema.processlist",
        "CREATE VIEW v AS SELECT * FROM t",
        "SHOW CREATE VIEW v",
        "CALL missing()",
        "SELECT missing()",
        "DROP TABLE missing",
        "CHECK TABLE t",
        "USE dbbench",
        "SELECT dbbench.t.a FROM dbbench.t",
    ):
        text = run(env, statement).observation.text
        assert name not in text, statement
        assert name[8:] not in text, statement
