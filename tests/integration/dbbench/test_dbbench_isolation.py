from __future__ import annotations

import threading

import pymysql
import pytest
from dbbench_helpers import commit, run

from envs.dbbench.connection import StreamCursor
from envs.dbbench.generator import generate
from envs.dbbench.tables import quote
from envs.errors import BackendUnavailable, CapacityExceeded


def real_name(env) -> str:
    return env._session.inner.database.name


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM mysql.user",
        "CREATE USER intruder IDENTIFIED BY 'x'",
        "GRANT ALL ON *.* TO CURRENT_USER()",
        "CREATE DATABASE elsewhere",
        "SET GLOBAL max_connections = 1",
        "SHUTDOWN",
        "LOAD DATA INFILE '/etc/passwd' INTO TABLE loot",
        "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE loot",
        "SELECT 1 INTO OUTFILE '/tmp/envloop-loot'",
        "SELECT 1 INTO DUMPFILE '/tmp/envloop-loot'",
        "CREATE EVENT tick ON SCHEDULE EVERY 1 SECOND DO SELECT 1",
        "FLUSH TABLES",
        "CREATE FUNCTION shell RETURNS INTEGER SONAME 'lib.so'",
        "SELECT 1; DROP TABLE loot",
        "USE mysql",
        "KILL 1",
    ],
)
def test_the_policy_is_refused(episode, statement):
    env = episode()
    run(env, "CREATE TABLE loot (line TEXT)")
    result = run(env, statement)
    assert not result.valid, result.observation.text
    assert run(env, "SELECT COUNT(*) FROM loot").observation.text == "[(0,)]"


def test_another_episodes_database_is_out_of_reach(episode):
    victim, attacker = episode(), episode()
    run(victim, "CREATE TABLE secret AS SELECT 42 AS answer")
    name = real_name(victim)
    for statement in (
        f"SELECT * FROM {name}.secret",
        f"DROP DATABASE {name}",
        f"USE {name}",
        f"DROP TABLE {name}.secret",
    ):
        assert not run(attacker, statement).valid
    assert name not in run(attacker, "SHOW DATABASES").observation.text
    assert name not in run(attacker, "SHOW PROCESSLIST").observation.text
    assert run(victim, "SELECT * FROM secret").observation.text == "[(42,)]"


def test_files_cannot_be_read(episode):
    assert run(episode(), "SELECT LOAD_FILE('/etc/passwd')").observation.text == "[(None,)]"


def test_a_view_in_the_tables_place_is_read_with_the_policys_rights(episode):
    """A view may call a function that runs with its reader's rights: the reader must not be the administrator."""
    task = generate("generated", 0)
    env = episode()
    table = task.tables[0]
    run(env, f"DROP TABLE `{table.name}`")
    columns = ", ".join(f"CURRENT_USER() AS `{column}`" for column in table.columns)
    assert run(env, f"CREATE SQL SECURITY INVOKER VIEW `{table.name}` AS SELECT {columns}").valid
    session = env._session
    session.renew()
    (row,) = session.rows_of(table.name, table.columns)
    assert set(str(row).split(",")) == {f"{real_name(env)}@localhost"}
    assert commit(env, "x").reward == 0.0


@pytest.mark.parametrize("code", [1021, 1037, 1038, 1041])
def test_a_server_short_of_memory_or_disk_at_scoring_time_is_no_zero(episode, monkeypatch, code):
    env = episode()
    assert run(env, env.expert_action().arguments["query"]).valid
    execute = StreamCursor.execute

    def short(self, query, args=None):
        if query.startswith("SELECT CONCAT_WS"):
            raise pymysql.err.OperationalError(code, "the server has run out")
        return execute(self, query, args)

    with monkeypatch.context() as patch:
        patch.setattr(StreamCursor, "execute", short)
        with pytest.raises(BackendUnavailable, match="run out"):
            commit(env, "x")
        patch.setattr(StreamCursor, "execute", execute)
        assert commit(env, "x").reward == 1.0  # nothing but the read had failed


@pytest.mark.parametrize("code", [1021, 1037, 1038, 1041])
def test_a_shortage_that_the_policy_feigns_scores_zero(episode, code):
    """Else a policy could turn a lost cause into an infrastructure error, which carries no reward."""
    table = generate("generated", 0).tables[0]
    env = episode()
    signal = f"SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = {code}, MESSAGE_TEXT = 'short'"
    assert run(env, f"CREATE FUNCTION broke() RETURNS TEXT NO SQL BEGIN {signal}; RETURN 'x'; END").valid
    run(env, f"DROP TABLE {quote(table.name)}")
    columns = ", ".join(f"broke() AS {quote(column)}" for column in table.columns)
    assert run(env, f"CREATE VIEW {quote(table.name)} AS SELECT {columns}").valid
    assert str(code) in run(env, f"SELECT * FROM {quote(table.name)}").observation.text
    assert commit(env, "x").reward == 0.0


@pytest.mark.parametrize(
    "statement", ["SELECT SLEEP(600)", "DO SLEEP(600)", "SELECT BENCHMARK(100000000000, SHA2('x', 512))", "CALL spin()"]
)
def test_a_statement_ends_at_the_time_limit_even_after_the_session_lifted_its_own(episode, admin, statement):
    env = episode(seconds=1)
    for lift in ("SET SESSION max_statement_time = 0", "SET SESSION max_execution_time = 0"):
        run(env, lift)  # one of each server's
    assert run(env, "CREATE PROCEDURE spin() BEGIN WHILE 1 DO SET @a = 1; END WHILE; END").valid
    session = env._session.inner._connection.session_id
    result = run(env, statement)
    assert (result.observation.text, result.valid) == ("Error: SQL execution timed out.", False)
    assert admin(f"SELECT id FROM information_schema.processlist WHERE id = {session}") == []
    assert run(env, "SELECT 1").observation.text == "[(1,)]"


def test_a_trickle_of_rows_does_not_outlast_the_time_limit(episode):
    env = episode(seconds=3)
    run(env, "CREATE TABLE few AS SELECT 1 a UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5")
    result = run(env, "SELECT REPEAT('x', 100000), SLEEP(1) FROM few")
    assert result.observation.text == "Error: SQL execution timed out."


@pytest.mark.parametrize(
    "statement",
    [
        "KILL CONNECTION_ID()",
        "SET PASSWORD = 'Other-Password-1'",
        "SET SESSION wait_timeout = 1",
        "DROP DATABASE dbbench",
    ],
)
def test_an_episode_that_harms_its_own_login_goes_on_and_is_scored(episode, statement):
    """Else a policy could turn a lost cause into an infrastructure error, which carries no reward."""
    env = episode()
    run(env, statement)
    env._session.inner._forget()  # what a dropped session leads to: the next statement logs in again
    assert run(env, "SELECT 1").observation.text == "[(1,)]"
    assert commit(env, "x").reward == 0.0


def test_teardown_leaves_no_database_no_user_and_no_session(episode, family, admin):
    names = []
    for hold in (
        "LOCK TABLES held WRITE",
        "START TRANSACTION",
        "HANDLER held OPEN",
        "SET SESSION lock_wait_timeout = 1000, autocommit = 0",
    ):
        env = episode()
        names.append(real_name(env))
        run(env, "CREATE TABLE held (a INT)")
        assert run(env, hold).valid
        env.close()
        env.close()
    assert family.live_databases == 0
    assert [name for name in admin("SHOW DATABASES") if name.startswith("envloop_")] == []
    assert admin("SELECT user FROM mysql.user WHERE user LIKE 'envloop%'") == []
    assert admin("SELECT user FROM information_schema.processlist WHERE user LIKE 'envloop%'") == []


def test_live_databases_are_bounded(family):
    databases = family._backend._hosts[0].databases
    before, databases._max_live = databases._max_live, 1
    try:
        one = databases.create()
        with pytest.raises(CapacityExceeded, match="1 databases"):
            databases.create()
        databases.drop(one)
        databases.drop(databases.create())
    finally:
        databases._max_live = before


def test_episodes_in_many_threads_do_not_meet(family):
    rewards: list[float] = []

    def play(number: int) -> None:
        env = family.make()
        env.reset(family.task(f"generated/{number}"))
        while True:
            result = env.step(env.expert_action())
            if result.done:
                rewards.append(result.reward)
                break
        env.close()

    threads = [threading.Thread(target=play, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rewards == [1.0] * 24
    assert family.live_databases == 0
