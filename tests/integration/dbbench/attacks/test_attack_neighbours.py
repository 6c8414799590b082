"""Another episode's database cannot be read, written, counted or guessed at."""

from __future__ import annotations

import pytest
from attack_world import real_name
from dbbench_helpers import run

REACHING = [
    "SELECT * FROM {victim}.secret",
    "SELECT * FROM `{victim}`.`secret`",
    "SELECT COUNT(*) FROM {victim}.secret",
    "TABLE {victim}.secret",
    "WITH s AS (SELECT * FROM {victim}.secret) SELECT * FROM s",
    "SELECT (SELECT answer FROM {victim}.secret)",
    "SELECT 1 WHERE EXISTS (SELECT 1 FROM {victim}.secret)",
    "SELECT * FROM own JOIN {victim}.secret ON 1 = 1",
    "SELECT * INTO @stolen FROM {victim}.secret",
    "CREATE VIEW v AS SELECT * FROM {victim}.secret",
    "CREATE TABLE c AS SELECT * FROM {victim}.secret",
    "CREATE TABLE c LIKE {victim}.secret",
    "CREATE TEMPORARY TABLE c AS SELECT * FROM {victim}.secret",
    "INSERT INTO own SELECT * FROM {victim}.secret",
    "INSERT INTO {victim}.secret VALUES ('x')",
    "REPLACE INTO {victim}.secret VALUES ('x')",
    "UPDATE {victim}.secret SET answer = 'x'",
    "UPDATE own, {victim}.secret SET own.line = answer",
    "DELETE FROM {victim}.secret",
    "DELETE own FROM own, {victim}.secret",
    "TRUNCATE {victim}.secret",
    "DROP TABLE {victim}.secret",
    "DROP DATABASE {victim}",
    "ALTER TABLE {victim}.secret ADD x INT",
    "ALTER DATABASE {victim} CHARACTER SET latin1",
    "CREATE TABLE {victim}.mine (a INT)",
    "CREATE VIEW {victim}.v AS SELECT 1",
    "CREATE PROCEDURE {victim}.p() SELECT 1",
    "CREATE TRIGGER {victim}.g BEFORE INSERT ON {victim}.secret FOR EACH ROW SET @x = 1",
    "CREATE TRIGGER g BEFORE INSERT ON {victim}.secret FOR EACH ROW SET @x = 1",
    "CREATE INDEX i ON {victim}.secret (answer(10))",
    "RENAME TABLE {victim}.secret TO mine",
    "RENAME TABLE own TO {victim}.own",
    "ALTER TABLE own RENAME {victim}.own",
    "ALTER TABLE {victim}.secret RENAME mine",
    "CREATE TABLE f (a INT, FOREIGN KEY (a) REFERENCES {victim}.secret (answer))",
    "LOCK TABLES {victim}.secret READ",
    "LOCK TABLES own WRITE, {victim}.secret WRITE",
    "HANDLER {victim}.secret OPEN",
    "USE {victim}",
    "SHOW TABLES FROM {victim}",
    "SHOW TABLE STATUS FROM {victim}",
    "SHOW COLUMNS FROM {victim}.secret",
    "SHOW INDEX FROM {victim}.secret",
    "SHOW CREATE TABLE {victim}.secret",
    "SHOW CREATE DATABASE {victim}",
    "SHOW EVENTS FROM {victim}",
    "DESCRIBE {victim}.secret",
    "EXPLAIN SELECT * FROM {victim}.secret",
    "EXPLAIN FORMAT=JSON SELECT * FROM {victim}.secret",
    "EXPLAIN UPDATE {victim}.secret SET answer = 1",
    "CALL {victim}.p()",
    "SELECT {victim}.f()",
    "DROP VIEW {victim}.v",
    "DROP PROCEDURE {victim}.p",
    "PREPARE s FROM 'SELECT * FROM {victim}.secret'",
    "GRANT SELECT ON {victim}.* TO CURRENT_USER()",
    "GRANT SELECT ON own TO {victim}",
    "CREATE TABLE m (answer TEXT) ENGINE=MERGE UNION=({victim}.secret)",
    "CACHE INDEX {victim}.secret IN DEFAULT",
    "ANALYZE TABLE {victim}.secret",
    "CHECK TABLE {victim}.secret",
    "OPTIMIZE TABLE {victim}.secret",
    "REPAIR TABLE {victim}.secret",
    "CHECKSUM TABLE {victim}.secret",
    "FLUSH TABLES {victim}.secret FOR EXPORT",
    "ALTER TABLE {victim}.secret DISCARD TABLESPACE",
    "BACKUP LOCK {victim}.secret",
    "KILL USER {victim}",
]
# These succeed and say of the other that it is not there.
SILENT = (
    "ANALYZE",
    "CHECK ",
    "OPTIMIZE",
    "REPAIR",
    "CHECKSUM",
    "KILL USER",
    "CREATE TABLE m",
    "BACKUP",
    "CACHE",
    "SHOW EVENTS",
)


def told(env, statement: str, victim: str) -> str:
    """What is observed, with the name of the other database taken out."""
    return run(env, statement).observation.text.replace(victim, "X").replace(victim[:-1], "X")


@pytest.mark.parametrize("verb", sorted({statement.split()[0] for statement in REACHING}))
def test_another_episode_is_out_of_reach(attacker, bystander, verb):
    env = attacker()
    run(env, "CREATE TABLE own (line TEXT)")
    run(env, "SET foreign_key_checks = 0")
    for statement in REACHING:
        if statement.split()[0] != verb:
            continue
        result = run(env, statement.format(victim=bystander.name))
        text = result.observation.text
        assert bystander.canary not in text, statement
        if not statement.startswith(SILENT):
            assert not result.valid, (statement, text)
        assert run(env, "SELECT @stolen").observation.text == "[(None,)]"
        assert bystander.works(), statement


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM {victim}.{table}",
        "INSERT INTO {victim}.{table} VALUES (1)",
        "SHOW CREATE TABLE {victim}.{table}",
        "HANDLER {victim}.{table} OPEN",
        "CREATE TABLE c LIKE {victim}.{table}",
        "CHECK TABLE {victim}.{table}",
        "ANALYZE TABLE {victim}.{table}",
        "LOCK TABLES {victim}.{table} READ",
        "CREATE TABLE f (a INT, FOREIGN KEY (a) REFERENCES {victim}.{table} (answer))",
        "SELECT 1 FROM information_schema.tables WHERE table_schema = '{victim}' AND table_name = '{table}'",
        "SELECT column_name FROM information_schema.columns WHERE table_schema = '{victim}'",
    ],
)
def test_errors_do_not_tell_what_there_is(attacker, bystander, statement):
    """A table that is there and one that is not, a database that is there and one that is not, look the same."""
    env = attacker()
    missing = f"envloop_{'0' * 16}"
    texts = {
        told(env, statement.format(victim=victim, table=table), victim).replace(table, "T")
        for victim in (bystander.name, missing)
        for table in ("secret", "secres")
    }
    assert len(texts) == 1, texts


@pytest.mark.parametrize(
    "kind",
    [
        "CREATE PROCEDURE p() SELECT * FROM {victim}.secret; CALL p()",
        "CREATE PROCEDURE p() SQL SECURITY INVOKER SELECT * FROM {victim}.secret; CALL p()",
        "CREATE FUNCTION f() RETURNS TEXT DETERMINISTIC RETURN (SELECT answer FROM {victim}.secret); SELECT f()",
        "CREATE TRIGGER g BEFORE INSERT ON own FOR EACH ROW SET NEW.line = (SELECT answer FROM {victim}.secret)",
        "SET @q = 'SELECT * FROM {victim}.secret'; PREPARE s FROM @q; EXECUTE s",
        "CREATE VIEW v AS SELECT * FROM own; ALTER VIEW v AS SELECT * FROM {victim}.secret; SELECT * FROM v",
    ],
)
def test_what_is_defined_does_not_reach_further(attacker, bystander, kind):
    env = attacker()
    run(env, "CREATE TABLE own (line TEXT)")
    parts = [part.format(victim=bystander.name) for part in kind.split(";")]
    texts = [run(env, part).observation.text for part in (*parts, "INSERT INTO own VALUES ('x')", "SELECT * FROM own")]
    assert bystander.canary not in "".join(texts)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM information_schema.{table}",
        "SELECT * FROM performance_schema.{table}",
        "SELECT * FROM mysql.{table}",
        "SELECT * FROM sys.{table}",
    ],
)
def test_no_catalogue_tells_of_another_episode(attacker, bystander, server, statement):
    """Every table of every catalogue that there is."""
    env = attacker()
    schema = statement.split()[3].partition(".")[0]
    tables = server.ask(f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{schema}'")
    told_of = []
    for table in tables:
        query = statement.format(table=f"`{table}`")
        env._session.inner._budget.statements = 0
        result = env._session.execute(query)
        shown = result.text + repr(result.rows)
        if bystander.name in shown or bystander.name.replace("_", "\\\\_") in shown or bystander.canary in shown:
            told_of.append(table)
    assert told_of == []


@pytest.mark.parametrize(
    "statement",
    [
        "SHOW DATABASES",
        "SHOW FULL PROCESSLIST",
        "SHOW OPEN TABLES",
        "SHOW TABLE STATUS",
        "SHOW PROCEDURE STATUS",
        "SHOW FUNCTION STATUS",
        "SHOW TRIGGERS",
        "SHOW GRANTS",
        "SHOW ENGINE INNODB STATUS",
        "SHOW GLOBAL STATUS",
        "SHOW GLOBAL VARIABLES",
        "SHOW WARNINGS",
        "SHOW PROFILES",
        "SHOW BINLOG EVENTS",
        "HELP 'contents'",
    ],
)
def test_no_listing_tells_of_another_episode(attacker, bystander, statement):
    env = attacker()
    result = env._session.execute(statement)
    shown = result.text + repr(result.rows)
    assert bystander.name not in shown
    assert bystander.name.replace("_", "\\_") not in shown
    assert bystander.canary not in shown


def test_two_episodes_of_one_task_see_the_same_of_themselves(attacker):
    """What names the random database, its user or its password is no part of an observation."""
    one, other = attacker(), attacker()
    for statement in (
        "SHOW GRANTS",
        "SHOW CREATE USER",
        "SELECT * FROM information_schema.schema_privileges",
        "SELECT * FROM information_schema.user_privileges",
        "SHOW CREATE DATABASE dbbench",
        "SELECT CURRENT_USER(), USER(), SESSION_USER(), SCHEMA()",
        "SELECT * FROM missing",
        "SELECT @@init_connect",
    ):
        texts = [run(env, statement).observation.text for env in (one, other)]
        assert texts[0] == texts[1], statement
        assert real_name(one)[8:] not in texts[0]
