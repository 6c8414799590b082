"""Statements that are hard to read: long, deep, wide, or of bytes that mean nothing."""

from __future__ import annotations

import pytest
from dbbench_helpers import run

MIB = 2**20
QUOTE = "'"
NESTED = "NESTED PATH '$' COLUMNS ("
SHAPE = """'{"type": "GeometryCollection", "geometries": ['"""
DEEP = {
    "parentheses": f"SELECT {'(' * 400000}1{')' * 400000}",
    "open parentheses": f"SELECT {'(' * 900000}",
    "minus": f"SELECT {'- ' * 300000}1",
    "not": f"SELECT {'NOT ' * 200000}1",
    "tildes": f"SELECT {'~' * 700000}1",
    "plus": f"SELECT 1{'+1' * 300000}",
    "or": f"SELECT 1{' OR 1' * 100000}",
    "case": f"SELECT {'CASE WHEN 1 THEN ' * 30000}1{' END' * 30000}",
    "functions": f"SELECT {'ABS(' * 100000}1{')' * 100000}",
    "subqueries": f"SELECT {'(SELECT ' * 3000}1{')' * 3000}",
    "derived tables": f"SELECT * FROM {'(SELECT * FROM ' * 1000}(SELECT 1) t{') t' * 1000}",
    "exists": f"SELECT {'EXISTS (SELECT ' * 3000}1{')' * 3000}",
    "in": f"SELECT 1 IN ({', '.join(map(str, range(100000)))})",
    "unions": f"SELECT 1{' UNION SELECT 1' * 10000}",
    "joined parentheses": f"SELECT 1 FROM {'(' * 5000}(SELECT 1) t{')' * 5000}",
    "common tables": "WITH " + ", ".join(f"c{n} AS (SELECT 1 a)" for n in range(5000)) + " SELECT * FROM c4999",
    "nested common tables": f"{'WITH c AS (' * 2000}SELECT 1{') SELECT * FROM c' * 2000}",
    "joins": "SELECT 1 FROM (SELECT 1) t " + " ".join(f"JOIN (SELECT 1) t{n}" for n in range(8000)),
    "columns": f"SELECT {', '.join(f'1 AS c{n}' for n in range(50000))}",
    "created columns": f"CREATE TABLE t ({', '.join(f'c{n} INT' for n in range(20000))})",
    "created keys": f"CREATE TABLE t (a INT, {', '.join(['KEY (a)'] * 5000)})",
    "values": f"SELECT * FROM (VALUES {', '.join(['ROW(1)'] * 50000)}) t",
    "blocks": f"CREATE PROCEDURE p() {'BEGIN ' * 20000}SELECT 1; {'END; ' * 19999}END",
    "ifs": f"CREATE PROCEDURE p() BEGIN {'IF 1 THEN ' * 10000}SELECT 1; {'END IF; ' * 10000}END",
    "loops": f"CREATE PROCEDURE p() BEGIN {'LOOP ' * 10000}SELECT 1; {'END LOOP; ' * 10000}END",
    "handlers": f"CREATE PROCEDURE p() BEGIN {'DECLARE CONTINUE HANDLER FOR 1 ' * 10000}SET @a = 1; END",
    "comments": f"SELECT {'/* x ' * 100000}1{' */' * 100000}",
    "executable comments": f"SELECT {'/*!50000 ' * 50000}1{' */' * 50000}",
    "hints": f"SELECT /*+ {'BKA(t) ' * 50000}*/ 1",
    "quotes": f"SELECT {QUOTE * 900001}",
    "names": f"SELECT {'`' * 900001}",
    "a name": f"SELECT {'n' * 900000}",
    "a number": f"SELECT {'9' * 900000}",
    "a fraction": f"SELECT 0.{'9' * 900000}",
    "an exponent": f"SELECT 1e{'9' * 900000}",
    "hexadecimal": f"SELECT 0x{'F' * 900000}",
    "semicolons": ";" * 900000,
    "blanks": " " * 900000,
    "partitions": "CREATE TABLE t (a INT) PARTITION BY LIST(a) ("
    + ", ".join(f"PARTITION p{n} VALUES IN ({n})" for n in range(9000))
    + ")",
    "json": f"SELECT JSON_VALID('{'[' * 400000}{']' * 400000}')",
    "json by functions": f"SELECT {'JSON_ARRAY(' * 20000}1{')' * 20000}",
    "a json path": f"SELECT JSON_EXTRACT('[[1]]', '${'**[*]' * 50000}')",
    "json columns": f"SELECT * FROM JSON_TABLE('1', '$' COLUMNS ({NESTED * 3000}a INT PATH '$'{')' * 3000})) j",
    "a shape": "SELECT ST_GeomFromText(CONCAT(REPEAT('GEOMETRYCOLLECTION(', 90000), 'POINT(1 1)'))",
    "a shape in json": f"SELECT ST_GeomFromGeoJSON(CONCAT(REPEAT({SHAPE}, 9000), '1', REPEAT(']}}', 9000)))",
    "a path of xml": "SELECT ExtractValue('<a/>', CONCAT(REPEAT('not(', 20000), '1', REPEAT(')', 20000)))",
    "parentheses in a path of xml": "SELECT ExtractValue('<a/>', CONCAT(REPEAT('(', 50000), 1, REPEAT(')', 50000)))",
    "minus in a path of xml": "SELECT ExtractValue('<a/>', CONCAT(REPEAT('-', 500000), '1'))",
    "predicates in a path of xml": "SELECT ExtractValue('<a/>', CONCAT(REPEAT('a[', 50000), 1, REPEAT(']', 50000)))",
    "a path of xml to change": "SELECT UpdateXML('<a/>', CONCAT(REPEAT('not(', 20000), 1, REPEAT(')', 20000)), 'x')",
    "xml": "SELECT ExtractValue(CONCAT(REPEAT('<a>', 300000), REPEAT('</a>', 300000)), '//a')",
    "a pattern": "SELECT 'x' REGEXP CONCAT(REPEAT('(', 100000), 'x', REPEAT(')', 100000))",
    "a repeated pattern": "SELECT 'a' REGEXP '((a{1,255}){1,255}){1,255}'",
    "a matched pattern": "SELECT REPEAT('a', 1000000) REGEXP '^(([a])+)+$'",
    "a mask": "SELECT REPEAT('a', 100000) LIKE REPEAT('%a', 30000)",
    "a search in words": f"SELECT MATCH(w) AGAINST ('{'+(' * 20000}a{')' * 20000}' IN BOOLEAN MODE) FROM words",
    "dynamic columns": "SELECT COLUMN_JSON(COLUMN_CREATE('a', REPEAT('x', 100000))), COLUMN_LIST(REPEAT('x', 100000))",
    "a format": "SELECT FORMAT(1, 2147483647), DATE_FORMAT(1, REPEAT('%W', 500000)), CONV(REPEAT('9', 90000), 10, 2)",
}  # fmt: skip


@pytest.mark.parametrize("what", DEEP)
def test_the_server_reads_or_refuses_it(attacker, bystander, what):
    env = attacker(seconds=2.0)
    assert run(env, "CREATE TABLE words (w TEXT, FULLTEXT (w))").valid
    result = run(env, DEEP[what])
    assert result.info["seconds"] < 10.0, "the limit is two seconds"
    assert run(env, "SELECT 1").observation.text == "[(1,)]"
    assert bystander.works()


@pytest.mark.parametrize("size", [MIB + 1, 20 * MIB, 100 * MIB])
def test_a_statement_beyond_its_limit_is_not_sent(attacker, size):
    env = attacker()
    result = run(env, f"SELECT '{'x' * size}'")
    assert result.observation.text == "1153 (08S01): Got a packet bigger than 'max_allowed_packet' bytes"
    assert result.info["limits"] == ["statement_bytes"]
    assert run(env, "SELECT 1").observation.text == "[(1,)]"


@pytest.mark.parametrize("depth", [60, 400])
def test_views_of_views_are_read_or_refused(attacker, bystander, depth):
    env = attacker()
    run(env, "CREATE VIEW v0 AS SELECT 1 a")
    for number in range(1, depth):
        run(env, f"CREATE VIEW v{number} AS SELECT * FROM v{number - 1}")
    run(env, f"SELECT * FROM v{depth - 1}")
    run(env, "CREATE OR REPLACE VIEW v0 AS SELECT * FROM v5")  # a circle is refused, now or when it is read
    assert run(env, "SELECT * FROM v9").observation.text.startswith(("[(1,)]", "1462 (HY000)", "1356 (HY000)"))
    assert bystander.works()


@pytest.mark.parametrize(
    "body",
    ["CALL p()", "BEGIN DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END; CALL p(); CALL p(); END", "SELECT f()"],
)
def test_what_calls_itself_comes_to_an_end(attacker, bystander, body):
    env = attacker()
    run(env, "SET max_sp_recursion_depth = 255")
    run(env, f"CREATE PROCEDURE p() {body}")
    run(env, "CREATE FUNCTION f() RETURNS INT DETERMINISTIC RETURN f()")
    run(env, "CREATE TABLE t (a INT)")
    run(env, "CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW INSERT INTO t VALUES (1)")
    for statement in ("CALL p()", "SELECT f()", "INSERT INTO t VALUES (1)"):
        assert not run(env, statement).valid
    assert run(env, "SELECT 1").observation.text == "[(1,)]"
    assert bystander.works()
