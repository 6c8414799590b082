"""Statements without end: each is over near its limit, others go on meanwhile, and nothing runs on afterwards."""

from __future__ import annotations

import threading

import pytest
from attack_world import beside, real_name, until
from dbbench_helpers import run

TIMED_OUT = "Error: SQL execution timed out."
DIGITS = "CREATE TABLE d AS " + " UNION ALL ".join(f"SELECT {n} AS d" for n in range(10))
SWALLOW = (
    "DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END; DECLARE CONTINUE HANDLER FOR 1317 BEGIN END; "
    "DECLARE CONTINUE HANDLER FOR SQLSTATE '70100' BEGIN END; DECLARE CONTINUE HANDLER FOR SQLWARNING BEGIN END;"
)
LIFT = [
    "SET SESSION max_statement_time = 0",
    "SET SESSION max_execution_time = 0",
    "SET SESSION lock_wait_timeout = 31536000",
    "SET SESSION innodb_lock_wait_timeout = 1073741824",
    "SET SESSION net_write_timeout = 31536000, net_read_timeout = 31536000",
    "SET SESSION cte_max_recursion_depth = 4294967295",
    "SET SESSION max_recursive_iterations = 4294967295",
    "SET SESSION max_sp_recursion_depth = 255",
    "SET SESSION optimizer_search_depth = 62",
    "SET SESSION optimizer_prune_level = 0",
    "SET SESSION group_concat_max_len = 4294967295",
]


def crossed(ways: int) -> str:
    return ", ".join(f"d a{n}" for n in range(ways))


LISTED = "JSON_TABLE(CONCAT('[', REPEAT('1,', 60000), '1]'), '$[*]' COLUMNS (a INT PATH '$'))"
ENDLESS = {
    "sleep": ["SELECT SLEEP(600)"],
    "do sleep": ["DO SLEEP(600)"],
    "sleep in each row": [DIGITS, f"SELECT SLEEP(0.3) FROM {crossed(3)}"],
    "benchmark": ["SELECT BENCHMARK(100000000000, SHA2('x', 512))"],
    "cross join": [DIGITS, f"SELECT COUNT(*) FROM {crossed(10)} WHERE a0.d + a9.d <> a4.d * RAND()"],
    "recursive cte": ["WITH RECURSIVE r AS (SELECT 1 n UNION ALL SELECT n + 1 FROM r) SELECT MAX(n) FROM r"],
    "branching cte": [
        "WITH RECURSIVE r AS (SELECT 1 n UNION ALL SELECT n FROM r, (SELECT 1 UNION ALL SELECT 2) q) SELECT 1 FROM r"
    ],
    "loop": ["CREATE PROCEDURE p() BEGIN WHILE 1 DO SET @a = 1; END WHILE; END", "CALL p()"],
    "loop that swallows": [f"CREATE PROCEDURE p() BEGIN {SWALLOW} WHILE 1 DO SET @a = 1; END WHILE; END", "CALL p()"],
    "loop of sleeps that swallows": [
        f"CREATE PROCEDURE p() BEGIN {SWALLOW} WHILE 1 DO DO SLEEP(0.5); END WHILE; END",
        "CALL p()",
    ],
    "loop that swallows and calls": [
        f"CREATE PROCEDURE q() BEGIN {SWALLOW} WHILE 1 DO DO SLEEP(0.2); END WHILE; END",
        f"CREATE PROCEDURE p() BEGIN {SWALLOW} WHILE 1 DO CALL q(); END WHILE; END",
        "CALL p()",
    ],
    "loop of results": ["CREATE PROCEDURE p() BEGIN WHILE 1 DO SELECT 1; END WHILE; END", "CALL p()"],
    "loop in a function": [
        "CREATE FUNCTION f() RETURNS INT NO SQL BEGIN WHILE 1 DO SET @a = 1; END WHILE; RETURN 1; END",
        "SELECT f()",
    ],
    "loop in a trigger": [
        "CREATE TABLE t (a INT)",
        "CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW BEGIN WHILE 1 DO SET @a = 1; END WHILE; END",
        "INSERT INTO t VALUES (1)",
    ],
    "fanning functions": [
        "CREATE FUNCTION f0() RETURNS INT NO SQL RETURN 1",
        *(f"CREATE FUNCTION f{n}() RETURNS INT NO SQL RETURN f{n - 1}() + f{n - 1}()" for n in range(1, 13)),
        f"SELECT 1 {'UNION ALL SELECT f12() + RAND() ' * 2000}",
    ],
    "join order": [
        "CREATE TABLE t (a INT)",
        "INSERT INTO t VALUES (1), (2)",
        "SELECT 1 FROM t a0 " + " ".join(f"JOIN t a{n} ON a{n}.a = a{n - 1}.a" for n in range(1, 40)),
    ],
    "json table": [f"SELECT COUNT(*) FROM {LISTED} j, {LISTED} k WHERE j.a + k.a <> RAND()"],
    "wait for a position": ["SELECT WAIT_FOR_EXECUTED_GTID_SET('3E11FA47-71CA-11E1-9E33-C80AA9429562:1')"],
    "wait for a gtid": ["SELECT MASTER_GTID_WAIT('1-1-1')"],
    "large sort": [DIGITS, f"SELECT REPEAT('x', 1000) FROM {crossed(8)} ORDER BY RAND()"],
    "window": [DIGITS, f"SELECT SUM(x) OVER (ORDER BY x ROWS 9 PRECEDING) FROM (SELECT RAND() x FROM {crossed(7)}) q"],
}  # fmt: skip


@pytest.mark.parametrize("attack", ENDLESS)
def test_it_ends_and_others_go_on(attacker, bystander, server, attack):
    env = attacker(seconds=1.0)
    for lift in LIFT:
        run(env, lift)
    *before, last = ENDLESS[attack]
    for statement in before:
        assert run(env, statement).valid, statement
    result, worked = beside(bystander, lambda: run(env, last))
    text = result.observation.text
    unknown = "1305 (42000): FUNCTION" in text
    full = "1114 (HY000)" in text  # a fast machine reaches the bound of temporary tables before the time is over
    assert text == TIMED_OUT or unknown or full, text
    assert unknown or full or (result.info["limits"] == ["seconds"] and worked > 0)
    assert not result.valid
    assert run(env, "SELECT 1").observation.text == "[(1,)]"
    running = f"SELECT id FROM information_schema.processlist WHERE user = '{real_name(env)}' AND command <> 'Sleep'"
    assert until(lambda: server.ask(running) == [])


@pytest.mark.parametrize("text", ["'\U0001f600'", "'\ud800'", "_binary'\xff'"])
def test_a_character_that_mysql_cannot_show_keeps_nothing_from_being_ended(attacker, bystander, text):
    """While it runs MySQL can tell of no session and of no transaction, to the administrator too."""
    env, other = attacker(seconds=3.0), attacker(seconds=1.0)
    assert run(env, "CREATE TABLE t (a TEXT)").valid
    thread = threading.Thread(target=lambda: run(env, f"INSERT INTO t VALUES ({text}), (SLEEP(30))"))
    thread.start()
    result, worked = beside(bystander, lambda: run(other, "SELECT SLEEP(30) /* for ever */"))
    thread.join()
    assert (result.info["limits"], worked > 0) == (["seconds"], True)
    assert run(env, "SELECT 1").observation.text == "[(1,)]"


LINE = "ST_GeomFromText(CONCAT('LINESTRING(0 0', REPEAT(',1 1,0 0', {}), ')'))"
HEAVY = {
    "pattern": "SELECT REPEAT('a', 100000) REGEXP '(a*)*(a*)*(a*)*b'",
    "backtracking": "SELECT REPEAT('a', 30) REGEXP '^(([a-z])+.)+[A-Z]([a-z])+$'",
    "locate": "SELECT LOCATE(REPEAT('a', 30000), REPEAT(CONCAT('b', REPEAT('a', 29998)), 4))",
    "like": "SELECT CONCAT(REPEAT('a', 5000), 'b') LIKE '%a%a%a%a%a%a%a%a%a%a%a%a%a%a%a%a%c'",
    "xml": "SELECT LENGTH(ExtractValue(CONCAT('<r>', REPEAT('<a>x</a>', 100000), '</r>'), '//a'))",
    "shape": f"SELECT ST_AsText(ST_Buffer({LINE.format(5000)}, 1)) IS NULL",
    "simplified shape": f"SELECT ST_Simplify({LINE.format(200000)}, 0.0) IS NULL",
    "overlapping json": (
        "SELECT JSON_OVERLAPS(CONCAT('[', REPEAT('1,', 300000), '1]'), CONCAT('[', REPEAT('2,', 300000), '2]'))"
    ),
    "parsing": f"CREATE PROCEDURE p() BEGIN {'CREATE TABLE a (a INT);' * 8000} END",
}


@pytest.mark.parametrize("attack", HEAVY)
def test_work_inside_one_function_keeps_nobody_waiting(attacker, bystander, attack):
    """A server looks for the end of time between rows, not within a function: it may work on, but alone."""
    env = attacker(seconds=1.0)
    result, _ = beside(bystander, lambda: run(env, HEAVY[attack]))
    assert result.info["seconds"] < 8.0, "the limit is one second"
    assert run(env, "SELECT 1").observation.text == "[(1,)]"


@pytest.mark.slow  # MariaDB does not let go of it: the private server is replaced half a minute later
def test_a_procedure_gives_its_first_result_and_the_session_goes_on(attacker):
    """Results that nobody has read must not come in the way of the next statement."""
    env = attacker()
    run(env, "SET @kept = 7")
    several = "; ".join(f"SELECT {n} UNION ALL SELECT {n + 1}" for n in (1, 3, 5, 7))
    assert run(env, f"CREATE PROCEDURE p() BEGIN {several}; END").valid
    assert run(env, "CALL p()").observation.text == "[(1,), (2,)]"
    assert run(env, "SELECT @kept").observation.text == "[(7,)]"
