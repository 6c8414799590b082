"""The disk: what an episode writes, also within a statement that does not end, stays near its quota."""

from __future__ import annotations

import pytest
from attack_world import MIB, watched
from dbbench_helpers import run

QUOTA = 16 * MIB
# MariaDB's temporary tables share one file, which the server's options bound.
ASIDE = {"a temporary table": 640 * MIB, "many tables": 400 * MIB}  # each table is a file; a look at all takes its time
UNDONE = {"a table from a query", "a rebuilt table", "a temporary table"}  # nothing is left of it once it is killed
SLACK = 160 * MIB  # what a server may write within the tenth of a second between two looks, and its temporary files
VALUE = "REPEAT('x', 1000000)"
SWALLOW = (
    "DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END; DECLARE CONTINUE HANDLER FOR 1317 BEGIN END; "
    "DECLARE CONTINUE HANDLER FOR 1114 BEGIN END;"
)
REWRITE = f"UPDATE t SET a = CONCAT(RAND(), {VALUE})"
EMOJI = "\U0001f600"
TABLES = "".join(f"CREATE TABLE t{n} (a INT);" for n in range(10000))
DIGITS = "CREATE TABLE d AS " + " UNION ALL ".join(f"SELECT {n} AS d" for n in range(10))


def crossed(ways: int) -> str:
    return ", ".join(f"d a{n}" for n in range(ways))


WRITING = {
    "inserts": ["CREATE TABLE t (a LONGTEXT)", *[f"INSERT INTO t VALUES ({VALUE}), ({VALUE})"] * 30],
    "inserts in a loop": [
        "CREATE TABLE t (a LONGTEXT)",
        f"CREATE PROCEDURE p() BEGIN WHILE 1 DO INSERT INTO t VALUES ({VALUE}); END WHILE; END",
        "CALL p()",
    ],
    "inserts that swallow the end": [
        "CREATE TABLE t (a LONGTEXT)",
        f"CREATE PROCEDURE p() BEGIN {SWALLOW} WHILE 1 DO INSERT INTO t VALUES ({VALUE}); END WHILE; END",
        "CALL p()",
    ],
    "updates in a transaction": [
        "CREATE TABLE t (a LONGTEXT)",
        "INSERT INTO t VALUES (1), (2), (3)",
        f"CREATE PROCEDURE p() BEGIN START TRANSACTION; WHILE 1 DO {REWRITE}; END WHILE; END",
        "CALL p()",
    ],
    "doubling": [
        "CREATE TABLE t (a LONGTEXT)",
        f"INSERT INTO t VALUES ({VALUE})",
        *["INSERT INTO t SELECT a FROM t"] * 8,
    ],
    "updates in a transaction that MySQL cannot show": [
        "CREATE TABLE t (a LONGTEXT)",
        "INSERT INTO t VALUES (1), (2), (3)",
        f"CREATE PROCEDURE p() BEGIN START TRANSACTION; WHILE 1 DO {REWRITE}, a = CONCAT('{EMOJI}', a); END WHILE; END",
        "CALL p()",
    ],
    "a function in a select": [
        "CREATE TABLE t (a LONGTEXT)",
        f"CREATE FUNCTION f() RETURNS INT BEGIN INSERT INTO t VALUES ({VALUE}); RETURN 1; END",
        *["SELECT f()"] * 60,
    ],
    "a function in a set": [
        "CREATE TABLE t (a LONGTEXT)",
        f"CREATE FUNCTION f() RETURNS INT BEGIN INSERT INTO t VALUES ({VALUE}); RETURN 1; END",
        *["SET @a = f()"] * 60,
    ],
    "a table of the system's": [
        "CREATE TABLE t (a LONGTEXT) TABLESPACE = innodb_system",
        *[f"INSERT INTO t VALUES ({VALUE}), ({VALUE}), ({VALUE}), ({VALUE})"] * 50,
    ],
    "a table from a query": [DIGITS, f"CREATE TABLE t AS SELECT {VALUE} AS a FROM {crossed(3)}"],
    "a temporary table": [
        "CREATE TEMPORARY TABLE t (a LONGTEXT)",
        f"CREATE PROCEDURE p() BEGIN WHILE 1 DO INSERT INTO t VALUES ({VALUE}); END WHILE; END",
        "CALL p()",
    ],
    "an index": [
        DIGITS,
        f"CREATE TABLE t (b INT) AS SELECT REPEAT('x', 500) AS a FROM {crossed(4)}",
        *[f"ALTER TABLE t ADD INDEX i{n} (a(500))" for n in range(12)],
    ],
    "a rebuilt table": [
        "CREATE TABLE t (a LONGTEXT)",
        *[f"INSERT INTO t VALUES ({VALUE})"] * 10,
        *["ALTER TABLE t ENGINE = InnoDB, ALGORITHM = COPY"] * 3,
    ],
    "many tables": [f"CREATE PROCEDURE p() BEGIN {TABLES[:90000].rpartition(';')[0]}; END", "CALL p()"],
    "partitions": ["CREATE TABLE t (a INT, KEY (a)) PARTITION BY HASH(a) PARTITIONS 512"],
}  # fmt: skip


@pytest.mark.parametrize("attack", WRITING)
def test_writing_ends_near_the_quota(attacker, server, bystander, attack):
    env = attacker(seconds=3.0, database_bytes=QUOTA)
    limits: set[str] = set()
    with watched(server) as peak:
        for statement in WRITING[attack]:
            limits.update(run(env, statement).info.get("limits", ()))
        assert bystander.works()
    assert peak.stored < QUOTA + ASIDE.get(attack, SLACK), f"{peak.stored // MIB} MiB more"
    assert run(env, "SELECT 1").observation.text == "[(1,)]"
    if attack == "a table of the system's":
        assert not run(env, "SELECT COUNT(*) FROM t").valid, "it lies in a file that all share and that never shrinks"
    elif "database_bytes" in limits and attack not in UNDONE:
        assert not run(env, "CREATE TABLE more (a INT)").valid
        assert run(env, "SELECT COUNT(*) FROM information_schema.tables").valid


@pytest.mark.parametrize(
    "query",
    [
        f"SELECT COUNT(*) FROM (SELECT RAND() r, REPEAT('x', 20000) x FROM {crossed(5)} ORDER BY r LIMIT 99999) q",
        f"SELECT REPEAT('x', 5000) FROM {crossed(7)} ORDER BY RAND()",
        f"SELECT COUNT(*) FROM (SELECT RAND() r, REPEAT('x', 20000) x FROM {crossed(5)} UNION SELECT 1, 2) q",
        f"SELECT RAND() r, REPEAT('x', 20000) x FROM {crossed(6)} GROUP BY r, x",
        f"SELECT ROW_NUMBER() OVER (ORDER BY RAND()), REPEAT('x', 5000) FROM {crossed(6)}",
        "WITH RECURSIVE r AS (SELECT 1 n, REPEAT('x', 60000) s UNION ALL SELECT n + 1, s FROM r) SELECT MAX(n) FROM r",
    ],
)
def test_temporary_files_stay_small(attacker, server, bystander, query):
    env = attacker(seconds=2.0, database_bytes=QUOTA)
    run(env, DIGITS)
    run(env, "SET SESSION cte_max_recursion_depth = 4294967295")
    run(env, "SET SESSION max_recursive_iterations = 4294967295")
    with watched(server) as peak:
        run(env, query)
        assert bystander.works()
    assert peak.stored < 320 * MIB, f"{peak.stored // MIB} MiB more"


@pytest.mark.slow
@pytest.mark.parametrize("partitions", [1024, 8192])
def test_a_table_of_very_many_files_ends_near_the_quota(attacker, server, bystander, partitions):
    env = attacker(seconds=20.0)
    with watched(server) as peak:
        result = run(
            env, f"CREATE TABLE t (a INT, b INT, KEY (a), KEY (b)) PARTITION BY HASH(a) PARTITIONS {partitions}"
        )
        assert bystander.works()
    assert "database_bytes" in result.info["limits"]
    assert not run(env, "CREATE TABLE more (a INT)").valid or not result.valid
    assert peak.stored < 1024 * MIB, f"{peak.stored // MIB} MiB more"


@pytest.mark.slow
def test_ten_thousand_tables_end_near_the_quota(attacker, server, bystander):
    env = attacker(seconds=30.0)
    run(env, f"CREATE PROCEDURE p() BEGIN {TABLES} END")
    with watched(server) as peak:
        result = run(env, "CALL p()")
        assert bystander.works()
    assert not result.valid
    assert peak.stored < 400 * MIB, f"{peak.stored // MIB} MiB more"


@pytest.mark.slow
def test_many_episodes_that_fill_their_quotas_leave_the_server_alive(attacker, server, bystander):
    envs = [attacker(seconds=20.0) for _ in range(12)]
    for env in envs:
        run(env, "CREATE TABLE t (a LONGTEXT)")
        for _ in range(70):
            run(env, f"INSERT INTO t VALUES ({VALUE})")
    assert bystander.works()
    for env in envs:
        env.close()
