from __future__ import annotations

import pytest

from envs.dbbench.backend import Limits
from envs.dbbench.gate import Gate
from envs.dbbench.quota import Budget

LOCK = "1305 (42000): FUNCTION dbbench.GET_LOCK does not exist"


def refusal(statement: str, *before: str) -> str:
    gate = Gate()
    for earlier in before:
        assert not gate.check(earlier).refusal
    return gate.check(statement).refusal


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT GET_LOCK('a', 1)",
        "select get_lock ('a', 1)",
        "SELECT `Get_Lock`('a', 1)",
        "SELECT GET_LOCK/* a comment */('a', 1)",
        "SELECT /*!50000 GET_LOCK*/('a', 1)",
        "SELECT /*M! GET_LOCK*/('a', 1)",
        "/*!99999 ' */ SELECT GET_LOCK('a', 1) /* ' */",
        "SELECT 1 -- don't\n, GET_LOCK('a', 1)",
        "SELECT 1 # don't\n, GET_LOCK('a', 1)",
        "SELECT 1 /* don't */, GET_LOCK('a', 1)",
        "SELECT 'it''s', GET_LOCK('a', 1)",
        r"SELECT 'it\'s', GET_LOCK('a', 1)",
        'SELECT "it\'s", GET_LOCK("a", 1)',
        "SELECT `it's`, GET_LOCK('a', 1)",
        "SELECT $$'$$, GET_LOCK('a', 1)",
        "SELECT '\0', GET_LOCK('a', 1)",
        "SELECT 'open, GET_LOCK(1)",
        "SELECT 1 --\u00a0+GET_LOCK('a', 1)",
        "SELECT /*!50000GET_LOCK('a', 1)*/",
        "SELECT GÉT_LOCK('a', 1)",
        "SELECT GET_LOC\u212a('a', 1)",
        "CREATE PROCEDURE p() SELECT GET_LOCK('a', 1)",
    ],
)
def test_a_lock_by_any_spelling_is_no_function(statement):
    assert refusal(statement) == LOCK


def test_nothing_goes_into_the_file_that_all_share():
    for statement in ("CREATE TABLE t (a INT) TABLESPACE innodb_system", "ALTER TABLE t TABLESPACE = `innodb_system`"):
        assert refusal(statement).startswith("1227 (42000)")


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("CREATE TABLE t ENGINE=MEMORY AS SELECT 1", "3161"),
        ("CREATE TEMPORARY TABLE t (a INT) ENGINE 'MyISAM' SELECT 1", "3161"),
        ("CREATE PROCEDURE p() CREATE TABLE t ENGINE = `csv` AS SELECT 1", "3161"),
        ("CREATE TABLE t ENGINE /*!50000 =*/ heap AS SELECT 1", "3161"),
        ("SHOW OPEN TABLES", "1227"),
        ("SELECT * FROM information_schema.tablespaces_extensions", "1142"),
        ("ALTER DATABASE dbbench READ ONLY = 1", "1044"),
        ("ALTER SCHEMA dbbench READ /* x */ ONLY = 1", "1044"),
    ],
)
def test_what_rights_do_not_confine_on_mysql(statement, code):
    assert refusal(statement).startswith(f"{code} (")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE cars (engine TEXT, memory INT)",
        "CREATE TABLE t (a INT) ENGINE=InnoDB",
        "SELECT engine FROM cars WHERE note = 'memory'",
        "SHOW TABLES",
        "SELECT open, tables FROM cafes",
        "ALTER TABLE t ADD COLUMN read_only INT",
    ],
)
def test_words_of_the_like_are_no_offence(statement):
    assert not refusal(statement)


@pytest.mark.parametrize("name", ["RELEASE_LOCK", "RELEASE_ALL_LOCKS", "IS_FREE_LOCK", "IS_USED_LOCK"])
def test_the_other_lock_functions(name):
    assert refusal(f"SELECT {name}('a')") == f"1305 (42000): FUNCTION dbbench.{name} does not exist"


@pytest.mark.parametrize("spelling", ["RELEA\u017fE_LOCK", "RELEA\u00dfE_LOCK"])
def test_letters_that_a_collation_may_hold_equal(spelling):
    assert refusal(f"SELECT {spelling}('a')")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM locks WHERE note = 'call GET_LOCK(1) first'",
        "INSERT INTO notes VALUES ('prepare dinner from scratch'), ('xa commit'), (\"execute immediate\")",
        "SELECT prepare FROM steps",
        "SELECT 1 -- GET_LOCK('a', 1)",
        "SELECT `xa` FROM t",
        "SELECT xa, end FROM t",
        "SELECT prepare, cook FROM steps",
        "EXECUTE made",
        "DEALLOCATE PREPARE made",
        "SELECT names, charset FROM sets",
        "INSERT INTO t VALUES ('ünïcödé')",
        "",
    ],
)
def test_data_is_no_code(statement):
    assert not refusal(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "XA START 'x'",
        "xa prepare 'x'",
        "XA RECOVER",
        "BEGIN NOT ATOMIC XA COMMIT 'x'; END",
        "/* a */ XA END 'x'",
        "XA /* a */ START 'x'",
        "XA /*!99999 a */ START 'x'",
        "/*!50000XA*/ START 'x'",
    ],
)
def test_xa_is_refused(statement):
    assert refusal(statement).startswith("1399 (XAE07)")


@pytest.mark.parametrize(
    "lift",
    [
        "SET sql_mode = 'NO_BACKSLASH_ESCAPES'",
        "SET @@session.sql_mode = 'ANSI_QUOTES'",
        "SET NAMES gbk",
        "SET CHARACTER SET big5",
        "SET character_set_client = sjis",
        "CREATE PROCEDURE p() SET sql_mode = ''",
        "/*!50000SET*/ sql_mode = 'NO_BACKSLASH_ESCAPES'",
    ],
)
def test_where_the_rules_may_have_changed_every_word_counts(lift):
    hidden = r"SELECT '\' , GET_LOCK('a', 1) #'"
    assert not refusal(hidden)  # by MySQL's own rules a string
    assert refusal(hidden, lift) == LOCK
    assert refusal("SELECT 'GET_LOCK'", lift) == LOCK


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("PREPARE made FROM 'SELECT 1'", "'SELECT 1'"),
        ("prepare made from @query ;", "@query"),
        ("PREPARE `a b` FROM @q", "@q"),
        ("EXECUTE IMMEDIATE 'SELECT 1'", "'SELECT 1'"),
        ("EXECUTE IMMEDIATE CONCAT('SELECT ', 1) USING @a", "CONCAT('SELECT ', 1)"),
    ],
)
def test_dynamic_text_is_named_so_that_it_can_be_read(statement, text):
    passage = Gate().check(statement)
    assert (passage.refusal, passage.dynamic) == ("", text)
    rebuilt = f"{passage.before}{passage.dynamic}{passage.after}"
    assert statement.startswith(rebuilt)
    assert not statement[len(rebuilt) :].strip("; ")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE PROCEDURE p() BEGIN PREPARE made FROM @q; EXECUTE made; END",
        "BEGIN NOT ATOMIC EXECUTE IMMEDIATE @q; END",
        "IF 1 THEN PREPARE made FROM @q; END IF",
        "/*! PREPARE made FROM @q */",
        "PREPARE /*!99999 x */ made FROM @q",
        "EXECUTE /* x */ IMMEDIATE @q",
    ],
)
def test_dynamic_text_that_cannot_be_read_is_refused(statement):
    assert refusal(statement).startswith("1336 (0A000)")


def test_dynamic_text_may_hold_no_dynamic_text():
    assert Gate().check("EXECUTE IMMEDIATE @q", nested=True).refusal.startswith("1336")
    assert Gate().check("SELECT GET_LOCK('a', 1)", nested=True).refusal == LOCK


@pytest.mark.parametrize(
    "piece", ["'a',", "/* ", "'\\", "`", "-- '\n", "x" * 50 + " ", ") using ", "é", " ", "( ", "$a", "x "]
)
@pytest.mark.parametrize("head", ["EXECUTE IMMEDIATE CONCAT(", "PREPARE a FROM x", ""])
def test_long_statements_are_read_in_one_go(head, piece):
    """No pattern goes back over what it has read: a megabyte of anything ends."""
    statement = head + piece * (2**20 // len(piece)) + "y"
    Gate().check(statement)
    Budget(Limits(), "name", watch=None).wrote(statement, 0, 0.0)
