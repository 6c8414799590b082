"""User locks, XA transactions and dynamic SQL: what rights cannot confine, however it is spelled."""

from __future__ import annotations

import pytest
from dbbench_helpers import run

LOCK = "GET_LOCK('attack', 0)"
NO_BREAK = "\u00a0"
SPELLED = "SET @text = CONCAT('SELECT GET_', 'LOCK(''attack'', 0)')"
QUOTE, QUOTES = "'", "''"
IN_QUOTES = "SELECT GET_LOCK(''attack'', 0)"

LOCK_TRICKS = {
    "plain": [f"SELECT {LOCK}"],
    "lower case": ["SELECT get_lock('attack', 0)"],
    "blanks": ["SELECT GET_LOCK \t\n ('attack', 0)"],
    "a comment inside": ["SELECT GET_LOCK/**/('attack', 0)"],
    "quoted": ["SELECT `GET_LOCK`('attack', 0)"],
    "with a schema": ["SELECT dbbench.GET_LOCK('attack', 0)"],
    "accents": ["SELECT GÉT_LOCK('attack', 0)"],
    "a long s": ["SELECT RELEA\u017fE_LOCK('attack')", "SELECT GET_LOC\u212a('attack', 0)"],
    "full width": ["SELECT \uff27\uff25\uff34\uff3f\uff2c\uff2f\uff23\uff2b('attack', 0)"],
    "do": [f"DO {LOCK}"],
    "set": [f"SET @held = {LOCK}"],
    "where": [f"SELECT 1 FROM (SELECT 1) t WHERE {LOCK}"],
    "executable comment": ["SELECT /*!GET_LOCK('attack', 0)*/"],
    "executable comment with a version": ["SELECT /*!50000GET_LOCK('attack', 0)*/"],
    "executable comment with six digits": ["SELECT /*!080000GET_LOCK('attack', 0)*/"],
    "executable comment of mariadb": ["SELECT /*M!50000GET_LOCK('attack', 0)*/"],
    "executable comment around half": ["SELECT /*!50000 GET_LOCK*/('attack', 0)"],
    "comment that is none": [f"SELECT 1 --{NO_BREAK}+{LOCK} FROM (SELECT 1 AS `{NO_BREAK}`) t"],
    "comment that is none, next line": [f"SELECT 1 --\u0085+{LOCK} FROM (SELECT 1 AS `\u0085`) t"],
    "after a hash": [f"SELECT 1 # it's\n, {LOCK}"],
    "after dashes": [f"SELECT 1 -- it's\n, {LOCK}"],
    "after a string": [f"SELECT 'it''s', \"a\", 'b\\'', {LOCK}"],
    "after a hint with a quote": [f"SELECT /*+ BKA(`*/`) */ {LOCK} AS `x`"],
    "after a hint with two quotes": [f"SELECT /*+ BKA(`*/`) */ {LOCK} AS ```x`"],
    "a quote left open": [f"SELECT {LOCK}, '"],
    "a name left open": [f"SELECT {LOCK} AS `x"],
    "dollar quotes": [f"SELECT $a$ '$a$, {LOCK}, ''"],
    "a NUL": [f"SELECT '\x00', {LOCK}"],
    "a number before": ["SELECT 1e1 DIV GET_LOCK('attack', 0)", "SELECT 0xAA OR GET_LOCK('attack', 0)"],
    "a view": [f"CREATE VIEW v AS SELECT {LOCK} AS held", "SELECT * FROM v"],
    "a function": [f"CREATE FUNCTION f() RETURNS INT RETURN {LOCK}", "SELECT f()"],
    "a procedure": [f"CREATE PROCEDURE p() SELECT {LOCK}", "CALL p()"],
    "a trigger": [
        "CREATE TABLE t (a INT)",
        f"CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET NEW.a = {LOCK}",
        "INSERT INTO t VALUES (1)",
    ],
    "a default": [f"CREATE TABLE t (a INT DEFAULT ({LOCK}))", "INSERT INTO t VALUES ()"],
    "a generated column": [f"CREATE TABLE t (a INT, b INT AS ({LOCK}))", "INSERT INTO t (a) VALUES (1)"],
    "a check": [f"CREATE TABLE t (a INT, CHECK ({LOCK}))", "INSERT INTO t VALUES (1)"],
    "prepared": [f"PREPARE s FROM '{IN_QUOTES}'", "EXECUTE s"],
    "prepared, comment after": [f"PREPARE s FROM '{IN_QUOTES}' -- x", "EXECUTE s"],
    "prepared, hash after": [f"PREPARE s FROM '{IN_QUOTES}' # x", "EXECUTE s"],
    "prepared, comment before": [f"PREPARE s FROM /* x */ '{IN_QUOTES}'", "EXECUTE s"],
    "prepared, comment first": [f"/* x */ PREPARE s FROM '{IN_QUOTES}'", "EXECUTE s"],
    "prepared, comments between": [f"PREPARE /* a b */ s /* c */ FROM '{IN_QUOTES}'", "EXECUTE s"],
    "prepared, executable comment": [f"PREPARE /*! s FROM '{IN_QUOTES}'*/", "EXECUTE s"],
    "prepared, another charset": [f"PREPARE s FROM N'{IN_QUOTES}'", "EXECUTE s"],
    "prepared, escapes": ["PREPARE s FROM 'SELECT GET\\_LOCK(''attack'', 0)'", "EXECUTE s"],
    "prepared, hexadecimal": [f"PREPARE s FROM 0x{IN_QUOTES.replace(QUOTES, QUOTE).encode().hex()}", "EXECUTE s"],
    "prepared from a variable": [SPELLED, "PREPARE s FROM @text", "EXECUTE s"],
    "prepared from a quoted variable": [SPELLED, "PREPARE s FROM @`text`", "EXECUTE s"],
    "prepared from a text variable": [SPELLED, "PREPARE s FROM @'text'", "EXECUTE s"],
    "prepared from an expression": ["PREPARE s FROM CONCAT('SELECT GET_', 'LOCK(''attack'', 0)')", "EXECUTE s"],
    "prepared from a binary": [f"{SPELLED}, @text = CAST(@text AS BINARY)", "PREPARE s FROM @text", "EXECUTE s"],
    "prepared from another charset": [
        f"{SPELLED}, @text = CONVERT(@text USING ucs2)",
        "PREPARE s FROM @text",
        "EXECUTE s",
    ],
    "prepared from the gate's variable": [
        "SET @envloop_dynamic = CONCAT('SELECT GET_', 'LOCK(''attack'', 0)')",
        "PREPARE s FROM @envloop_dynamic",
        "EXECUTE s",
    ],
    "prepared with results in another charset": [
        "SET character_set_results = utf16",
        f"PREPARE s FROM '{IN_QUOTES}'",
        "SET character_set_results = utf8mb4",
        "EXECUTE s",
    ],
    "prepared with results in no charset": [
        "SET character_set_results = NULL",
        f"PREPARE s FROM '{IN_QUOTES}'",
        "EXECUTE s",
    ],
    "prepared that prepares": ["PREPARE s FROM 'PREPARE r FROM ''SELECT GET_LOCK(1, 0)'''", "EXECUTE s", "EXECUTE r"],
    "immediate": [f"EXECUTE IMMEDIATE '{IN_QUOTES}'"],
    "immediate from a variable": [SPELLED, "EXECUTE IMMEDIATE @text"],
    "immediate from an expression": ["EXECUTE IMMEDIATE CONCAT('SELECT GET_', 'LOCK(''attack'', 0)')"],
    "immediate with a comment": [SPELLED, "EXECUTE /* x */ IMMEDIATE @text"],
    "immediate in a block": [SPELLED, "BEGIN NOT ATOMIC EXECUTE IMMEDIATE @text; END"],
    "immediate with an executable comment": [SPELLED, "EXECUTE /*!99999 x */ IMMEDIATE @text"],
    "dynamic in a procedure": [SPELLED, "CREATE PROCEDURE p() BEGIN PREPARE s FROM @text; EXECUTE s; END", "CALL p()"],
    "dynamic in a procedure, another mode, name of two words": [
        SPELLED,
        "SET @mode = @@sql_mode, sql_mode = ''",
        "CREATE PROCEDURE p() BEGIN PREPARE `a b` FROM @text; EXECUTE `a b`; END",
        "CALL p()",
    ],
    "dynamic in a procedure, another mode, name of no word": [
        SPELLED,
        "SET sql_mode = ''",
        "CREATE PROCEDURE p() BEGIN PREPARE `-` FROM @text; EXECUTE `-`; END",
        "CALL p()",
    ],
    "dynamic in a procedure, another mode, comments": [
        SPELLED,
        "SET sql_mode = ''",
        "CREATE PROCEDURE p() BEGIN PREPARE /* a b */ s FROM @text; EXECUTE s; END",
        "CALL p()",
    ],
    "immediate in a procedure, another mode, comments": [
        SPELLED,
        "SET sql_mode = ''",
        "CREATE PROCEDURE p() BEGIN EXECUTE /* a b */ IMMEDIATE @text; END",
        "CALL p()",
    ],
    "no backslash escapes": ["SET sql_mode = 'NO_BACKSLASH_ESCAPES'", f"SELECT '\\', {LOCK}, '\\'"],
    "no backslash escapes in a hidden set": [
        "/*!50000SET*/ sql_mode = 'NO_BACKSLASH_ESCAPES'",
        f"SELECT '\\', {LOCK}, '\\'",
    ],
    "no backslash escapes by a statement's setting": [
        f"SET STATEMENT sql_mode = 'NO_BACKSLASH_ESCAPES' FOR SELECT '\\', {LOCK}, '\\'"
    ],
    "no backslash escapes by an alias": ["SET @@session.`sql_mode` = 4194304 | 1048576", f"SELECT '\\', {LOCK}, '\\'"],
    "no backslash escapes in prepared text": [
        "PREPARE s FROM 'SET sql_mode = ''NO_BACKSLASH_ESCAPES'''",
        "EXECUTE s",
        f"SELECT '\\', {LOCK}, '\\'",
    ],
    "no backslash escapes from a procedure": [
        "CREATE PROCEDURE p() SET sql_mode = 'NO_BACKSLASH_ESCAPES'",
        "KILL CONNECTION_ID()",
        "CALL p()",
        f"SELECT '\\', {LOCK}, '\\'",
    ],
    "ansi quotes": ["SET sql_mode = 'ANSI_QUOTES'", f'SELECT 1 AS "\\", {LOCK}, 1 AS "\\"'],
    "oracle's mode": ["SET sql_mode = 'ORACLE'", f'SELECT 1 AS "\\", {LOCK}, 1 AS "\\"'],
    "gbk": ["SET NAMES gbk", f"SELECT '\u00bf\\', {LOCK}, '\\'"],
    "sjis": ["SET NAMES sjis", f"SELECT '\u0083\\', {LOCK}, '\\'"],
    "big5": ["SET character_set_client = big5", f"SELECT '\u00a1\\', {LOCK}, '\\'"],
    "latin1": ["SET NAMES latin1", "SELECT 1 FROM (SELECT 1 AS \u00c4) t WHERE NOT \u0120GET_LOCK('attack', 0)"],
    "swe7": ["SET NAMES swe7", "SELECT RELE[SE_LOCK('attack'), GET_LO\u0110K('attack', 0)"],
    "gbk from a procedure": [
        "CREATE PROCEDURE p() SET NAMES gbk",
        "KILL CONNECTION_ID()",
        "CALL p()",
        f"SELECT '\u00bf\\', {LOCK}, '\\'",
    ],
}  # fmt: skip


@pytest.mark.parametrize("trick", LOCK_TRICKS)
def test_no_spelling_takes_a_lock_of_the_whole_server(attacker, admin, trick):
    env = attacker()
    for statement in LOCK_TRICKS[trick]:
        run(env, statement)
    assert admin("SELECT IS_FREE_LOCK('attack')") == [1]


@pytest.mark.parametrize("name", ["GET_LOCK", "Release_Lock", "RELEASE_ALL_LOCKS", "is_free_lock", "IS_USED_LOCK"])
def test_a_lock_function_is_said_not_to_exist(attacker, name):
    result = run(attacker(), f"SELECT {name}('a')")
    assert not result.valid
    assert result.observation.text == f"1305 (42000): FUNCTION dbbench.{name.upper()} does not exist"


XA_TRICKS = {
    "plain": "XA {word} 'attack'",
    "begin": "xa {word} 'attack'",
    "comment": "XA /* x y */ {word} 'attack'",
    "executable comment": "XA /*!99999 x */ {word} 'attack'",
    "executable word": "/*!50000XA*/ {word} 'attack'",
    "executable rest": "XA /*!50000{word} 'attack'*/",
    "line comment": "XA -- x\n{word} 'attack'",
    "another mode": "XA /* x y */ {word} 'attack'",
    "prepared": "EXECUTE IMMEDIATE 'XA {word} ''attack'''",
}


@pytest.mark.parametrize("trick", XA_TRICKS)
def test_no_transaction_outlives_its_session(attacker, admin, trick):
    env = attacker()
    run(env, "CREATE TABLE t (a INT)")
    if trick == "another mode":
        assert run(env, "SET sql_mode = ''").valid
    template = XA_TRICKS[trick]
    for word in ("BEGIN" if trick == "begin" else "START", "END", "PREPARE"):
        run(env, template.format(word=word))
        if word in ("BEGIN", "START"):
            run(env, "INSERT INTO t VALUES (1)")
    assert admin("XA RECOVER") == []
    result = run(env, template.format(word="RECOVER").removesuffix(" 'attack'"))
    assert not result.valid


@pytest.mark.parametrize("mode", ["", "SET sql_mode = ''", "SET NAMES gbk"])
@pytest.mark.parametrize("gap", [" ", " /* a b */ ", " /*!99999 a */ ", "\n-- a\n"])
def test_no_procedure_leaves_a_prepared_transaction(attacker, admin, mode, gap):
    env = attacker()
    run(env, "CREATE TABLE t (a INT)")
    if mode:
        run(env, mode)
    words = [f"XA{gap}START 'attack'", "INSERT INTO t VALUES (1)", f"XA{gap}END 'attack'", f"XA{gap}PREPARE 'attack'"]
    created = run(env, f"CREATE PROCEDURE p() BEGIN {'; '.join(words)}; END")
    run(env, "CALL p()")
    assert not created.valid
    assert admin("XA RECOVER") == []


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE PROCEDURE p() BEGIN PREPARE s FROM @x; EXECUTE s; END",
        "CREATE PROCEDURE p() PREPARE s FROM 'SELECT 1'",
        "CREATE PROCEDURE p() BEGIN IF 1 THEN PREPARE `s` FROM @x; END IF; END",
    ],
)
def test_dynamic_sql_in_a_routine_is_refused_in_the_servers_words(attacker, statement):
    result = run(attacker(), statement)
    assert not result.valid
    assert result.observation.text.startswith("1336 (0A000): Dynamic SQL is not allowed")


@pytest.mark.parametrize(
    ("statements", "text"),
    [
        (["SELECT 'GET_LOCK(1, 0)'"], "[('GET_LOCK(1, 0)',)]"),
        (["SELECT \"XA START 'a'\""], "[(\"XA START 'a'\",)]"),
        (["SELECT 1 /* GET_LOCK */"], "[(1,)]"),
        (["SELECT 1 -- GET_LOCK"], "[(1,)]"),
        (["SELECT 1 # XA START"], "[(1,)]"),
        (["SELECT 'a''GET_LOCK', 'b\\'XA END'"], '[("a\'GET_LOCK", "b\'XA END")]'),
        (["PREPARE s FROM 'SELECT 1 + ?'", "SET @a = 2", "EXECUTE s USING @a"], "[(3,)]"),
        (["SET @q = 'SELECT 5'", "PREPARE s FROM @q", "EXECUTE s"], "[(5,)]"),
        (["PREPARE s FROM \"SELECT 'x'\"", "EXECUTE s", "DEALLOCATE PREPARE s", "SELECT 6"], "[(6,)]"),
        (["CREATE TABLE `get_locks` (a INT)", "SELECT COUNT(*) FROM get_locks"], "[(0,)]"),
        (["CREATE TABLE t (xa INT, start_day INT)", "SELECT xa, start_day FROM t"], "[]"),
        (["SET sql_mode = ''", "SELECT 'two words'"], "[('two words',)]"),
        (["SELECT 'prepare a from b'"], "[('prepare a from b',)]"),
        (["CREATE TABLE prepare_from (a INT)", "SELECT a FROM prepare_from"], "[]"),
    ],
)
def test_what_is_harmless_still_works(attacker, statements, text):
    env = attacker()
    for statement in statements[:-1]:
        assert run(env, statement).valid, statement
    result = run(env, statements[-1])
    assert (result.observation.text, result.valid) == (text, True)
