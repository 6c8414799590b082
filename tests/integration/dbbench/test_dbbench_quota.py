"""What an episode may cost: each limit is met, named in the step's record, and harms nobody else."""

from __future__ import annotations

import pytest
from dbbench_helpers import commit, run

from envs.dbbench.family import DbBenchFamily
from envs.registry import DBBENCH

_LOOP = "WHILE 1 DO INSERT INTO big SELECT REPEAT('x', 60000); END WHILE;"
FILL = (
    f"CREATE PROCEDURE fill() BEGIN {_LOOP} END",
    f"CREATE PROCEDURE fill_at_once() BEGIN START TRANSACTION; {_LOOP} END",
)


@pytest.fixture(scope="module")
def bounded(binary):
    family = DbBenchFamily(
        DBBENCH,
        server_binary=binary,
        max_database_bytes=24 * 2**20,
        max_database_rows=20_000,
        max_statements=40,
        max_rows=1000,
        max_bytes=100_000,
        spare_databases=1,
    )
    yield family
    family.close()


@pytest.fixture
def env(bounded):
    env = bounded.make()
    env.reset(bounded.task("generated/0"))
    yield env
    env.close()
    assert bounded.live_databases == 0


def limits(result):
    return result.info.get("limits", [])


@pytest.mark.parametrize("procedure", ["fill", "fill_at_once"])
def test_a_looping_procedure_is_stopped_at_the_quota(env, bounded, procedure):
    bystander = bounded.make()
    bystander.reset(bounded.task("generated/0"))
    run(env, "CREATE TABLE big (a MEDIUMTEXT)")
    for statement in FILL:
        assert run(env, statement).valid
    result = run(env, f"CALL {procedure}()")
    assert not result.valid
    assert result.observation.text == "1114 (HY000): The table is full"
    assert "database_bytes" in limits(result)
    assert result.info["seconds"] < 30  # not by the time limit of 60
    assert run(bystander, "SELECT 1").valid
    bystander.close()


def test_beyond_the_quota_an_episode_may_read_and_drop_until_it_is_below(env):
    run(env, "CREATE TABLE big (a MEDIUMTEXT)")
    hit = None
    for _ in range(10):
        result = run(env, f"INSERT INTO big VALUES {', '.join(["(REPEAT('x', 60000))"] * 80)}")
        if limits(result):
            hit = result
            break
    assert hit is not None
    assert limits(hit) == ["database_bytes"]
    for refused in ("INSERT INTO big VALUES ('x')", "CREATE TABLE more (a INT)", "UPDATE big SET a = 'y'"):
        result = run(env, refused)
        assert not result.valid
        assert " denied to user 'dbbench'@" in result.observation.text
    assert run(env, "SELECT COUNT(*) > 0 FROM big").observation.text == "[(1,)]"
    assert run(env, "DROP TABLE big").valid
    assert run(env, "CREATE TABLE small (a INT)").valid
    assert run(env, "INSERT INTO small VALUES (1)").valid


def test_rows_written_are_counted(env):
    run(env, "CREATE TABLE digits (d INT)")
    run(env, f"INSERT INTO digits VALUES {', '.join(f'({n})' for n in range(20))}")
    run(env, "CREATE TABLE many (d INT)")
    results = [run(env, "INSERT INTO many SELECT a.d FROM digits a, digits b, digits c") for _ in range(3)]
    assert [result.valid for result in results] == [True] * 3
    assert [limits(result) for result in results] == [[], [], ["database_rows"]]
    assert not run(env, "INSERT INTO many VALUES (1)").valid
    assert run(env, "SELECT COUNT(*) FROM many").observation.text == "[(24000,)]"
    assert commit(env, "x").reward == 0.0


def test_rows_of_a_running_transaction_are_watched(env):
    run(env, "CREATE TABLE many (d INT)")
    run(env, "INSERT INTO many VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10)")
    run(
        env,
        "CREATE PROCEDURE churn() BEGIN START TRANSACTION; WHILE 1 DO UPDATE many SET d = d + 1; END WHILE; END",
    )
    result = run(env, "CALL churn()")
    assert not result.valid
    assert limits(result)[0] in ("database_rows", "database_bytes")


def test_statements_are_counted(env):
    for _ in range(40):
        assert run(env, "SELECT 1").valid
    result = run(env, "SELECT 1")
    assert (result.valid, limits(result)) == (False, ["statements"])
    assert result.observation.text.startswith("1226 (42000): User 'dbbench' has exceeded the 'max_questions' resource")


def test_a_result_is_cut_while_it_streams(env):
    run(env, "CREATE TABLE digits (d INT)")
    run(env, f"INSERT INTO digits VALUES {', '.join(f'({n})' for n in range(100))}")
    rows = run(env, "SELECT a.d FROM digits a, digits b, digits c, digits d")
    assert (rows.valid, limits(rows)) == (True, ["rows"])
    wide = run(env, "SELECT REPEAT('x', 50000) FROM digits a, digits b, digits c, digits d")
    assert (wide.valid, limits(wide)) == (True, ["bytes"])
    assert run(env, "SELECT 1").observation.text == "[(1,)]"


def test_a_long_statement_is_not_sent(env):
    result = run(env, "SELECT '" + "x" * 2**20 + "'")
    assert (result.valid, limits(result)) == (False, ["statement_bytes"])
    assert result.observation.text.startswith("1153 (08S01)")


def test_other_storage_engines_are_refused(env):
    for engine in ("MyISAM", "MEMORY", "CSV", "BLACKHOLE", "ARCHIVE", "FEDERATED", "MRG_MYISAM", "Aria"):
        result = run(env, f"CREATE TABLE t_{engine} (a INT NOT NULL) ENGINE={engine}")
        assert not result.valid, (engine, result.observation.text)
    run(env, "SET sql_mode = ''")
    run(env, "CREATE TABLE swapped (a INT NOT NULL) ENGINE=MyISAM")
    engines = run(env, "SELECT DISTINCT engine FROM information_schema.tables WHERE table_schema = 'dbbench'")
    assert engines.observation.text == "[('InnoDB',)]"


def test_dynamic_statements_run_where_they_can_be_read(env):
    assert run(env, "SET @q = CONCAT('SELECT ', '40 + ?')").valid
    assert run(env, "SET @two = 2").valid
    assert run(env, "PREPARE made FROM @q").valid
    assert run(env, "EXECUTE made USING @two").observation.text == "[(42,)]"
    assert run(env, "DEALLOCATE PREPARE made").valid
    assert run(env, r"PREPARE made FROM 'SELECT \'it\'\'s\''").valid
    assert run(env, "EXECUTE made").observation.text == '[("it\'s",)]'
    run(env, "SET @q = CONCAT('SELECT GET_', 'LOCK(\"a\", 0)')")
    result = run(env, "PREPARE made FROM @q")
    assert result.observation.text == "1305 (42000): FUNCTION dbbench.GET_LOCK does not exist"
    hidden = run(env, r"PREPARE made FROM 'SELECT GET\_LOCK(1, 0)'")
    assert not hidden.valid
