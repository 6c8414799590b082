"""What an episode holds when it is closed is let go, whatever it holds and however long it would hold it."""

from __future__ import annotations

import threading
import time

import pytest
from dbbench_helpers import run

ENDLESS = "WHILE 1 DO DO SLEEP(0.1); END WHILE;"
HOLDS = {
    "a table lock": ["CREATE TABLE t (a INT)", "LOCK TABLES t WRITE"],
    "locks of all tables": ["CREATE TABLE t (a INT)", "CREATE TABLE u (a INT)", "LOCK TABLES t WRITE, u READ LOCAL"],
    "a transaction": ["CREATE TABLE t (a INT)", "SET autocommit = 0", "INSERT INTO t VALUES (1)"],
    "a snapshot": ["START TRANSACTION WITH CONSISTENT SNAPSHOT"],
    "a read only transaction": ["START TRANSACTION READ ONLY", "SELECT 1"],
    "a handler": ["CREATE TABLE t (a INT)", "HANDLER t OPEN", "HANDLER t READ FIRST"],
    "a backup lock": ["CREATE TABLE t (a INT)", "BACKUP LOCK t"],
    "a lock that waits for ever": ["SET lock_wait_timeout = 31536000, innodb_lock_wait_timeout = 1073741824"],
    "a read only database": ["ALTER DATABASE dbbench READ ONLY = 1"],
    "a discarded tablespace": ["CREATE TABLE t (a INT)", "ALTER TABLE t DISCARD TABLESPACE"],
    "an encrypted database": ["ALTER DATABASE dbbench ENCRYPTION = 'Y'", "CREATE TABLE t (a INT)"],
    "circular keys": [
        "CREATE TABLE t (a INT PRIMARY KEY)",
        "CREATE TABLE u (a INT PRIMARY KEY, FOREIGN KEY (a) REFERENCES t (a))",
        "ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES u (a)",
    ],
    "keys to what is not there": [
        "SET foreign_key_checks = 0",
        "CREATE TABLE t (a INT, FOREIGN KEY (a) REFERENCES u (b))",
    ],
    "views of what is gone": ["CREATE TABLE t (a INT)", "CREATE VIEW v AS SELECT * FROM t", "DROP TABLE t"],
    "a temporary table": ["CREATE TEMPORARY TABLE t (a INT)", "INSERT INTO t VALUES (1)"],
    "statistics": [
        "CREATE TABLE t (a INT)",
        "ANALYZE TABLE t PERSISTENT FOR ALL",
        "ANALYZE TABLE t UPDATE HISTOGRAM ON a",
    ],
    "routines of every kind": [
        "CREATE PROCEDURE p() SELECT 1",
        "CREATE FUNCTION f() RETURNS INT NO SQL RETURN 1",
        "CREATE TABLE t (a INT)",
        "CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET @a = 1",
        "CREATE SEQUENCE s",
        "CREATE PACKAGE k AS PROCEDURE p(); END",
        "CREATE LIBRARY l LANGUAGE JAVASCRIPT AS 'x'",
    ],
    "another password": ["SET PASSWORD = 'Secret-12345'"],
    "no database": ["DROP DATABASE dbbench"],
    "no database and none of its own": ["DROP DATABASE dbbench", "CREATE DATABASE dbbench", "CREATE TABLE t (a INT)"],
    "a fulltext index": ["CREATE TABLE t (a TEXT, FULLTEXT (a))", "INSERT INTO t VALUES ('some words')"],
    "partitions": ["CREATE TABLE t (a INT) PARTITION BY HASH(a) PARTITIONS 8"],
    "a versioned table": ["CREATE TABLE t (a INT) WITH SYSTEM VERSIONING", "DELETE FROM t"],
    "a table of the system's": ["CREATE TABLE t (a LONGTEXT) TABLESPACE = innodb_system"],
    "strange names": [
        "CREATE TABLE `../../t` (a INT)",
        "CREATE TABLE `#sql-ib1` (a INT)",
        "CREATE TABLE `#mysql50#t` (a INT)",
        "CREATE TABLE `a\nb` (a INT)",
        f"CREATE TABLE `{'n' * 64}` (a INT)",
        "CREATE TABLE `\u0645\u0631\u062d\u0628\u0627` (a INT)",
        "CREATE TABLE `user` (a INT)",
        "CREATE TABLE `a``b` (a INT)",
        "CREATE TABLE `dbbench` (a INT)",
    ],
    "prepared statements": ["PREPARE s FROM 'SELECT 1'", "PREPARE r FROM 'SELECT 2'"],
    "two users' worth of sessions": ["KILL CONNECTION_ID()"] * 8,
}  # fmt: skip


@pytest.mark.parametrize("hold", HOLDS)
def test_nothing_is_left_of_what_is_held(attacker, hold):
    env = attacker()
    for statement in HOLDS[hold]:
        run(env, statement)
    env.close()
    env.close()


@pytest.mark.parametrize("session", ["", "SET completion_type = 'CHAIN', autocommit = 0"])
def test_locks_of_rows_go_with_the_episode(attacker, session):
    """Many transactions, one an episode, none of which has committed."""
    envs = [attacker() for _ in range(5)]
    for env in envs:
        run(env, "CREATE TABLE t (a INT PRIMARY KEY)")
        run(env, "INSERT INTO t VALUES (1), (2)")
        if session:
            run(env, session)
        run(env, "CREATE PROCEDURE p() BEGIN START TRANSACTION; UPDATE t SET a = a + 10; END")
        run(env, "CALL p()")
    for env in envs:
        env.close()


@pytest.mark.parametrize(
    "body",
    [
        ENDLESS,
        f"LOCK TABLES t WRITE; {ENDLESS}",
        f"START TRANSACTION; UPDATE t SET a = 2; {ENDLESS}",
        f"DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END; UPDATE t SET a = 2; {ENDLESS}",
        "SELECT COUNT(*) FROM t FOR UPDATE; WHILE 1 DO INSERT INTO t SELECT 1; END WHILE;",
    ],
)
def test_an_episode_that_is_closed_while_it_runs_ends(attacker, bystander, body):
    env = attacker(seconds=30.0)
    run(env, "CREATE TABLE t (a INT)")
    run(env, "INSERT INTO t VALUES (1)")
    created = run(env, f"CREATE FUNCTION f() RETURNS INT BEGIN {body} RETURN 1; END")
    call = "DO f()" if created.valid else "CALL p()"
    if not created.valid:
        assert run(env, f"CREATE PROCEDURE p() BEGIN {body} END").valid or "1314" in created.observation.text
    errors: list[BaseException] = []

    def attack() -> None:
        try:
            env._session.execute(call)
        except Exception as error:  # noqa: BLE001 - what the closed connection gives is not of interest here
            errors.append(error)

    thread = threading.Thread(target=attack)
    thread.start()
    time.sleep(0.5)
    assert bystander.works()
    env._session.inner._database.admin.kill(env._session.inner._database.sessions[-1])
    thread.join(20.0)
    assert not thread.is_alive()
    env.close()


def test_a_trigger_without_end_does_not_hold_up_the_end(attacker):
    env = attacker(seconds=1.0)
    run(env, "CREATE TABLE t (a INT)")
    run(env, "INSERT INTO t VALUES (1)")
    run(env, f"CREATE TRIGGER g BEFORE DELETE ON t FOR EACH ROW BEGIN {ENDLESS} END")
    assert not run(env, "DELETE FROM t").valid
    env.close()


def test_many_episodes_at_once_leave_nothing(attacker, server):
    envs = [attacker() for _ in range(12)]
    for env in envs:
        run(env, "CREATE TABLE t (a INT)")
        run(env, "LOCK TABLES t WRITE")
    threads = [threading.Thread(target=env.close) for env in envs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.ask(f"SELECT 1 FROM mysql.user WHERE user = '{attacker.names[-1]}'") == []


def test_an_episode_begins_where_another_has_broken_its_own(attacker):
    """Whatever one has done, the next has a whole database."""
    for breaking in ("DROP DATABASE dbbench", "SET PASSWORD = 'Secret-12345'", "SET autocommit = 0"):
        env = attacker()
        run(env, breaking)
        env.close()
        fresh = attacker()
        assert run(fresh, fresh.expert_action().arguments["query"]).valid
        fresh.close()
    assert len(set(attacker.names)) == len(attacker.names)
