"""Memory: one statement, or many kept by one session, must not fill the machine's."""

from __future__ import annotations

import pytest
from attack_world import MIB, watched
from dbbench_helpers import run

MOST = 1024 * MIB
BIG = "REPEAT('x', 15000000)"
DIGITS = "CREATE TABLE d AS " + " UNION ALL ".join(f"SELECT {n} AS d" for n in range(10))


def crossed(ways: int) -> str:
    return ", ".join(f"d a{n}" for n in range(ways))


BOMBS = {
    "variables in one statement": ["SET " + ", ".join(f"@a{n} = {BIG}" for n in range(120))],
    "variables in a procedure": [
        f"CREATE PROCEDURE p() BEGIN {' '.join(f'SET @a{n} = {BIG};' for n in range(120))} END",
        "CALL p()",
    ],
    "local variables": [
        f"CREATE PROCEDURE p() BEGIN {' '.join(f'DECLARE v{n} LONGTEXT DEFAULT {BIG};' for n in range(120))} END",
        "CALL p()",
    ],
    "local variables of a recursion": [
        "SET max_sp_recursion_depth = 255",
        f"CREATE PROCEDURE p() BEGIN DECLARE v LONGTEXT DEFAULT {BIG}; CALL p(); END",
        "CALL p()",
    ],
    "arguments": [f"SELECT CONCAT_WS(',', {', '.join(f'LENGTH({BIG})' for _ in range(120))})"],
    "columns": [f"SELECT {', '.join(BIG for _ in range(120))}"],
    "aggregated json": [DIGITS, f"SELECT JSON_LENGTH(JSON_ARRAYAGG(REPEAT('x', 1000000))) FROM {crossed(4)}"],
    "aggregated object": [DIGITS, f"SELECT JSON_LENGTH(JSON_OBJECTAGG(a0.d, REPEAT('x', 1000000))) FROM {crossed(3)}"],
    "concatenated": [
        DIGITS,
        "SET group_concat_max_len = 4294967295",
        f"SELECT LENGTH(GROUP_CONCAT(REPEAT('x', 1000000))) FROM {crossed(4)}",
    ],
    "distinct": [DIGITS, f"SELECT COUNT(DISTINCT RAND(), REPEAT('x', 500)) FROM {crossed(6)}"],
    "nested json": ["SET @j = '[1]'", *["SET @j = JSON_ARRAY(@j, @j, @j, @j, @j)"] * 12, "SELECT JSON_LENGTH(@j)"],
    "buffers": [
        DIGITS,
        *(
            f"SET SESSION {name} = 4294967295"
            for name in (
                "sort_buffer_size", "join_buffer_size", "read_buffer_size", "read_rnd_buffer_size", "tmp_table_size",
                "max_heap_table_size", "query_prealloc_size", "query_alloc_block_size", "mrr_buffer_size",
                "range_alloc_block_size", "set_operations_buffer_size", "innodb_ddl_buffer_size",
                "max_length_for_sort_data", "max_session_mem_used", "parser_max_mem_size",
                "optimizer_trace_max_mem_size", "histogram_size",
            )
        ),
        f"SELECT COUNT(*) FROM (SELECT RAND() r, REPEAT('x', 500) x FROM {crossed(5)} ORDER BY 1) q",
    ],
    "a decompressed value": [
        "SELECT LENGTH(UNCOMPRESS(CONCAT(CHAR(255, 255, 255, 63), COMPRESS('x'))))",
        "SELECT LENGTH(UNCOMPRESS(COMPRESS(REPEAT('x', 16000000))))",
    ],
    "long values": [
        "SELECT LENGTH(REPEAT('x', 1073741824)), LENGTH(SPACE(1000000000)), LENGTH(LPAD('x', 1000000000, 'y'))",
        "SELECT LENGTH(EXPORT_SET(-1, REPEAT('x', 200000), REPEAT('y', 200000), REPEAT('z', 200000)))",
        "SELECT LENGTH(REPLACE(REPEAT('x', 800000), 'x', REPEAT('y', 100)))",
    ],
    "cursors": [
        DIGITS,
        "CREATE PROCEDURE p() BEGIN "
        + "".join(
            f"BEGIN DECLARE c{n} CURSOR FOR SELECT REPEAT('x', 500) FROM {crossed(4)}; OPEN c{n}; " for n in range(30)
        )
        + "END; " * 30
        + "END",
        "CALL p()",
    ],
    "a long procedure": ["CREATE PROCEDURE p() BEGIN " + "CREATE TABLE a (a INT);" * 20000 + "END", "CALL p()"],
    "a long list of tables": ["CREATE TABLE t (a INT)", "SELECT 1 FROM t a " + "JOIN t a ON 1 " * 20000],
    "unions": ["SELECT 1" + " UNION ALL SELECT 1" * 40000],
    "conditions": [
        "CREATE TABLE t (a INT, KEY (a))",
        f"SELECT 1 FROM t WHERE {' OR '.join(f'a = {n}' for n in range(80000))}",
    ],
    "a trace": [
        DIGITS,
        "SET optimizer_trace = 'enabled=on', optimizer_trace_max_mem_size = 4294967295",
        f"SELECT COUNT(*) FROM {crossed(6)} WHERE {' OR '.join(f'a0.d = {n} AND a1.d = {n}' for n in range(2000))}",
    ],
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_the_server_stays_small(attacker, server, bystander, bomb):
    env = attacker(seconds=2.0)
    with watched(server) as peak:
        for statement in BOMBS[bomb]:
            run(env, statement)
        assert bystander.works()
        env.close()
    assert peak.memory < MOST, f"{peak.memory // MIB} MiB more"


def test_a_session_cannot_keep_much(attacker, server):
    """A value for each statement, none of them large."""
    env = attacker()
    with watched(server) as peak:
        for number in range(90):
            run(env, f"SET @a{number} = {BIG}")
        env.close()
    assert peak.memory < MOST, f"{peak.memory // MIB} MiB more"


@pytest.mark.parametrize("bomb", ["aggregated json", "local variables", "a long procedure", "buffers"])
def test_what_one_has_taken_is_not_held_against_the_next(attacker, bystander, bomb):
    """A server gives little memory back to the system: that it is large now does not make the next statement guilty."""
    for _ in range(2):
        env = attacker(seconds=2.0)
        for statement in BOMBS[bomb]:
            run(env, statement)
        env.close()
    for env in (bystander.env, attacker()):
        result = run(env, "SELECT SLEEP(0.5)")
        assert (result.observation.text, result.info.get("limits")) == ("[(0,)]", None)


@pytest.mark.slow
def test_thousands_of_prepared_statements_are_no_ones_loss(attacker, bystander):
    env = attacker()
    for number in range(900):
        run(env, f"PREPARE s{number} FROM 'SELECT {number}'")
    assert run(bystander.env, "PREPARE s FROM 'SELECT 5'").valid
    assert run(bystander.env, "EXECUTE s").observation.text == "[(5,)]"
    assert run(bystander.env, "DEALLOCATE PREPARE s").valid
