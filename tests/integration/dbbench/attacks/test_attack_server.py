"""The server itself: its accounts, settings, files, engines, logs, plugins and other sessions."""

from __future__ import annotations

from pathlib import Path

import pytest
from attack_world import real_name
from dbbench_helpers import run

REFUSED = {
    "accounts and rights": [
        "CREATE USER intruder IDENTIFIED BY 'Secret-12345'",
        "CREATE ROLE intruder",
        "DROP USER root@localhost",
        "DROP USER CURRENT_USER()",
        "RENAME USER CURRENT_USER() TO intruder",
        "ALTER USER root@localhost IDENTIFIED BY 'Secret-12345'",
        "ALTER USER CURRENT_USER() ACCOUNT LOCK",
        "ALTER USER CURRENT_USER() REQUIRE SSL",
        "ALTER USER CURRENT_USER() PASSWORD EXPIRE",
        "ALTER USER CURRENT_USER() WITH MAX_USER_CONNECTIONS 0",
        "ALTER USER CURRENT_USER() WITH MAX_QUERIES_PER_HOUR 1",
        "ALTER USER USER() ACCOUNT LOCK",
        "ALTER USER USER() WITH MAX_USER_CONNECTIONS 0",
        "ALTER USER USER() IDENTIFIED BY 'Secret-12345' RETAIN CURRENT PASSWORD",
        "ALTER USER USER() IDENTIFIED WITH 'sha256_password' BY 'x'",
        "GRANT ALL ON *.* TO CURRENT_USER()",
        "GRANT ALL ON dbbench.* TO CURRENT_USER() WITH GRANT OPTION",
        "GRANT USAGE ON *.* TO CURRENT_USER() WITH MAX_USER_CONNECTIONS 0",
        "GRANT PROXY ON root@localhost TO CURRENT_USER()",
        "REVOKE ALL PRIVILEGES, GRANT OPTION FROM CURRENT_USER()",
        "REVOKE SELECT ON dbbench.* FROM CURRENT_USER()",
        "SET ROLE intruder",
        "SET DEFAULT ROLE ALL TO CURRENT_USER()",
        "SET SESSION AUTHORIZATION root@localhost",
        "SET PASSWORD FOR root@localhost = 'Secret-12345'",
        "SHOW GRANTS FOR root@localhost",
        "SHOW CREATE USER root@localhost",
        "CREATE DEFINER=root@localhost PROCEDURE p() SELECT * FROM mysql.user",
        "CREATE DEFINER=root@localhost VIEW v AS SELECT 1",
        "CREATE DEFINER=root@localhost FUNCTION f() RETURNS INT NO SQL RETURN 1",
        "CREATE DEFINER='mysql.sys'@localhost PROCEDURE p() SELECT 1",
        "CREATE DEFINER='mariadb.sys'@localhost PROCEDURE p() SELECT 1",
    ],
    "the schema mysql": [
        "SELECT * FROM mysql.user",
        "SELECT * FROM mysql.global_priv",
        "SELECT * FROM mysql.db",
        "SELECT * FROM mysql.innodb_table_stats",
        "INSERT INTO mysql.db VALUES ()",
        "UPDATE mysql.user SET host = '%'",
        "DROP TABLE mysql.user",
        "CREATE TABLE mysql.intruder (a INT)",
        "SHOW TABLES FROM mysql",
        "USE mysql",
        "USE sys",
        "CALL sys.ps_setup_reset_to_default(1)",
        "ALTER PROCEDURE sys.ps_setup_save COMMENT 'x'",
    ],
    "databases": [
        "CREATE DATABASE elsewhere",
        "CREATE DATABASE dbbench2",
        "CREATE SCHEMA `envloop%`",
        "CREATE DATABASE `envloop_`",
        "DROP DATABASE mysql",
        "DROP DATABASE IF EXISTS sys",
        "ALTER DATABASE mysql CHARACTER SET latin1",
    ],
    "settings": [
        "SET GLOBAL max_connections = 1",
        "SET @@GLOBAL.general_log = 1",
        "SET GLOBAL TRANSACTION READ ONLY",
        "SET PERSIST max_connections = 1",
        "SET PERSIST_ONLY max_connections = 1",
        "SET GLOBAL init_connect = 'SHUTDOWN'",
        "SET GLOBAL secure_file_priv = '/'",
        "SET sql_log_bin = 0",
        "SET SESSION binlog_format = 'ROW'",
        "SET SESSION pseudo_thread_id = 1",
        "SET SESSION tmpdir = '/tmp'",
        "SET SESSION debug = 'd,crash'",
        "SET SESSION debug_dbug = 'd,crash'",
        "SET SESSION secure_file_priv = ''",
        "SET SESSION max_allowed_packet = 1073741824",
        "SET SESSION max_user_connections = 1000",
        "SET enforce_storage_engine = NULL",
    ],
    "the process": [
        "SHUTDOWN",
        "RESTART",
        "ALTER INSTANCE ROTATE INNODB MASTER KEY",
        "ALTER INSTANCE DISABLE INNODB REDO_LOG",
        "ALTER INSTANCE RELOAD TLS",
        "FLUSH TABLES",
        "FLUSH TABLES WITH READ LOCK",
        "FLUSH LOGS",
        "FLUSH PRIVILEGES",
        "FLUSH STATUS",
        "FLUSH HOSTS",
        "FLUSH USER_RESOURCES",
        "FLUSH QUERY CACHE",
        "RESET MASTER",
        "RESET BINARY LOGS AND GTIDS",
        "RESET QUERY CACHE",
        "PURGE BINARY LOGS BEFORE NOW()",
        "SHOW BINARY LOGS",
        "SHOW MASTER STATUS",
        "SHOW BINARY LOG STATUS",
        "SHOW BINLOG EVENTS",
        "SHOW SLAVE STATUS",
        "SHOW REPLICA STATUS",
        "SHOW ENGINE INNODB STATUS",
        "CHANGE MASTER TO MASTER_HOST = 'x'",
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST = 'x'",
        "CHANGE REPLICATION FILTER REPLICATE_DO_DB = (a)",
        "START SLAVE",
        "START REPLICA",
        "STOP REPLICA",
        "START GROUP_REPLICATION",
        "BINLOG 'x'",
        "LOCK INSTANCE FOR BACKUP",
        "BACKUP STAGE START",
        "BACKUP STAGE BLOCK_COMMIT",
        "CLONE LOCAL DATA DIRECTORY = '/tmp/envloop-clone'",
        "IMPORT TABLE FROM '/tmp/x.sdi'",
        "CREATE RESOURCE GROUP rg TYPE = USER",
        "SET RESOURCE GROUP SYS_default",
        "CREATE SPATIAL REFERENCE SYSTEM 4120 NAME 'x' DEFINITION 'x'",
        "DROP SPATIAL REFERENCE SYSTEM 4326",
    ],
    "code": [
        "INSTALL PLUGIN ha_x SONAME 'ha_x.so'",
        "UNINSTALL PLUGIN InnoDB",
        "INSTALL COMPONENT 'file://component_validate_password'",
        "INSTALL SONAME 'ha_connect'",
        "CREATE FUNCTION shell RETURNS INTEGER SONAME 'lib.so'",
        "CREATE EVENT tick ON SCHEDULE EVERY 1 SECOND DO SELECT 1",
    ],
    "other sessions": [
        "KILL 1",
        "KILL QUERY 1",
        "KILL (SELECT MIN(id) FROM information_schema.processlist WHERE user <> 'x')",
        "EXPLAIN FOR CONNECTION 1",
        "SHOW EXPLAIN FOR 1",
    ],
    "files": [
        "LOAD DATA INFILE '/etc/passwd' INTO TABLE loot",
        "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE loot",
        "LOAD XML INFILE '/etc/passwd' INTO TABLE loot",
        "LOAD XML LOCAL INFILE '/etc/passwd' INTO TABLE loot",
        "SELECT 1 INTO OUTFILE '/tmp/envloop-loot'",
        "SELECT 1 INTO DUMPFILE '/tmp/envloop-loot'",
        "CREATE TABLESPACE ts ADD DATAFILE 'ts.ibd'",
        "CREATE UNDO TABLESPACE u ADD DATAFILE 'u.ibu'",
        "CREATE LOGFILE GROUP lg ADD UNDOFILE 'undo.dat'",
        "CREATE TABLE t (a INT) TABLESPACE = mysql",
    ],
    "engines": [
        "CREATE TABLE t (a INT) ENGINE=FEDERATED CONNECTION='mysql://root@localhost/mysql/user'",
        "CREATE TABLE t (a INT) ENGINE=CONNECT TABLE_TYPE=DOS FILE_NAME='/etc/passwd'",
        "CREATE TABLE t (a INT) ENGINE=SPIDER",
        "CREATE TABLE t (a INT) ENGINE=PERFORMANCE_SCHEMA",
        "CREATE TABLE t (a INT) ENGINE=NDB",
        "CREATE SERVER s FOREIGN DATA WRAPPER mysql OPTIONS (HOST '127.0.0.1')",
        "ALTER SERVER s OPTIONS (USER 'x')",
        "DROP SERVER s",
    ],
}


@pytest.mark.parametrize("topic", REFUSED)
def test_it_is_refused_in_the_servers_words(attacker, topic):
    env = attacker()
    run(env, "CREATE TABLE loot (line TEXT)")
    results = {statement: run(env, statement) for statement in REFUSED[topic]}
    assert [statement for statement, result in results.items() if result.valid] == []
    assert [statement for statement, result in results.items() if not result.observation.text[:4].isdigit()] == []
    assert run(env, "SELECT COUNT(*) FROM loot").observation.text == "[(0,)]"


@pytest.mark.parametrize(
    "statement",
    [
        "SET PASSWORD = 'Secret-12345'",
        "SET PASSWORD = PASSWORD('x')",
        "SET PASSWORD TO RANDOM",
        "ALTER USER USER() IDENTIFIED BY 'Secret-12345'",
        "ALTER USER CURRENT_USER() IDENTIFIED BY 'Secret-12345'",
        "ALTER USER USER() IDENTIFIED BY RANDOM PASSWORD",
        "SET ROLE NONE",
        "RESET PERSIST",
        "KILL USER root",
        "KILL USER 'root'@'localhost'",
        "KILL HARD USER root@localhost",
        "KILL CONNECTION_ID()",
        "KILL QUERY CONNECTION_ID()",
        "SET SESSION wait_timeout = 1",
        "SET SESSION transaction_read_only = 1",
        "SET SESSION autocommit = 0",
        "SET SESSION completion_type = 'RELEASE'",
        "SET SESSION sql_safe_updates = 1, sql_select_limit = 0",
        "SET SESSION character_set_results = ucs2",
        "SET SESSION character_set_results = NULL",
        "SET NAMES utf8mb3",
        "DROP DATABASE dbbench",
        "ALTER DATABASE dbbench READ ONLY = 1",
        "ALTER DATABASE dbbench CHARACTER SET latin1",
        "ALTER DATABASE dbbench ENCRYPTION = 'Y'",
        "ALTER DATABASE `#mysql50#dbbench` UPGRADE DATA DIRECTORY NAME",
        "BACKUP LOCK loot",
        "SET SESSION max_session_mem_used = 8192",
        "SET SESSION max_join_size = 1",
        "SET SESSION profiling = 1, profiling_history_size = 100",
        "SET SESSION default_storage_engine = MyISAM",
        "SET SESSION sql_log_off = 1",
        "SET SESSION session_track_system_variables = '*', session_track_state_change = 1",
        "SET SESSION session_track_transaction_info = 'CHARACTERISTICS'",
        "SET SESSION optimizer_trace = 'enabled=on', end_markers_in_json = 1",
        "CREATE LIBRARY l LANGUAGE JAVASCRIPT AS 'export function f() {}'",
    ],
)
def test_what_an_episode_does_to_itself_harms_no_other_and_no_scoring(attacker, bystander, statement):
    """It may succeed or not. The episode goes on, is scored by its table, and is no infrastructure error."""
    env = attacker(seconds=5.0)
    gold = env.expert_action()
    assert run(env, gold.arguments["query"]).valid
    run(env, "CREATE TABLE loot (line TEXT)")
    run(env, statement)
    run(env, "SELECT 1")
    env._session.inner._forget()  # a session that ends by itself
    run(env, "SELECT 1")
    assert bystander.works()
    score = env.step(type(gold)("commit_final_answer", {"answers": ["x"]}))
    assert score.reward == (0.0 if statement.startswith("DROP") else 1.0)


ENGINES = ("MyISAM", "MEMORY", "CSV", "MRG_MyISAM", "BLACKHOLE", "ARCHIVE", "Aria", "EXAMPLE", "SEQUENCE", "HEAP")
COLUMNS = "(a INT NOT NULL)"


@pytest.mark.parametrize(
    "how",
    [
        f"CREATE TABLE t {COLUMNS} ENGINE={{}}",
        f"CREATE TABLE t {COLUMNS} /*!50000ENGINE*/ = `{{}}`",
        f"CREATE TEMPORARY TABLE t {COLUMNS} ENGINE={{}}",
        "CREATE TABLE t ENGINE={} AS SELECT 1 a",
        "CREATE TEMPORARY TABLE t ENGINE={} AS SELECT 1 a",
        "CREATE TABLE t LIKE own; ALTER TABLE t ENGINE={}",
        f"SET default_storage_engine={{}}; CREATE TABLE t {COLUMNS}",
        "SET default_storage_engine={}; CREATE TABLE t AS SELECT 1 a",
        f"SET default_tmp_storage_engine={{}}; CREATE TEMPORARY TABLE t {COLUMNS}",
        f"CREATE TABLE t {COLUMNS} PARTITION BY HASH(a) PARTITIONS 2 ENGINE={{}}",
        "CREATE PROCEDURE p() CREATE TABLE t ENGINE={} AS SELECT 1 a; CALL p()",
    ],
)
def test_no_table_has_another_engine(attacker, server, how):
    env = attacker()
    found = {}
    for engine in ENGINES:
        run(env, "SET default_storage_engine = InnoDB, default_tmp_storage_engine = InnoDB, sql_mode = ''")
        run(env, "DROP TABLE IF EXISTS own, t")
        run(env, "DROP PROCEDURE IF EXISTS p")
        run(env, f"CREATE TABLE own {COLUMNS}")
        for part in how.format(engine).split("; "):
            run(env, part)
        engines = server.ask(
            f"SELECT DISTINCT engine FROM information_schema.tables WHERE table_schema = '{real_name(env)}'"
        )
        shown = run(env, "SHOW CREATE TABLE t").observation.text
        if engines != ["InnoDB"] or ("ENGINE=" in shown and "ENGINE=InnoDB" not in shown):
            found[engine] = shown
    assert found == {}


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE t (a INT) DATA DIRECTORY='{folder}'",
        "CREATE TABLE t (a INT) INDEX DIRECTORY='{folder}'",
        "CREATE TABLE t (a INT) ENGINE=MyISAM DATA DIRECTORY='{folder}'",
        "CREATE TABLE t (a INT) PARTITION BY HASH(a) (PARTITION p DATA DIRECTORY='{folder}')",
        "CREATE TABLE t (a INT) PARTITION BY RANGE(a) (PARTITION p VALUES LESS THAN (1) DATA DIRECTORY='{folder}')",
        "SET innodb_tmpdir = '{folder}'; CREATE TABLE t (a INT); ALTER TABLE t ADD INDEX (a)",
        "CREATE TABLESPACE ts ADD DATAFILE '{folder}/ts.ibd'",
        "SELECT 'x' INTO OUTFILE '{folder}/x'",
    ],
)
def test_nothing_is_written_into_another_folder(attacker, tmp_path, statement):
    tmp_path.chmod(0o777)
    env = attacker()
    for part in statement.format(folder=tmp_path).split(";"):
        run(env, part)
    run(env, "INSERT INTO t VALUES (1)")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "{data}/ibdata1", "{data}/mysql/user.frm", "/proc/self/environ", "s.sock"]
)
def test_files_cannot_be_read(attacker, server, path):
    env = attacker()
    where = path.format(data=server._folder)
    assert run(env, f"SELECT LOAD_FILE('{where}')").observation.text == "[(None,)]"
    assert run(env, f"SELECT LOAD_FILE(0x{where.encode().hex()})").observation.text == "[(None,)]"


def test_the_administrators_sessions_are_no_ones_to_end(attacker, server):
    """Neither by number nor by name, and their numbers are not told."""
    env = attacker()
    for (number,) in server.rows("SELECT id FROM information_schema.processlist WHERE user = 'root'"):
        for word in ("KILL", "KILL QUERY", "KILL HARD CONNECTION", "KILL SOFT QUERY"):
            assert not run(env, f"{word} {number}").valid
    assert run(env, "SELECT COUNT(*) FROM information_schema.processlist").observation.text == "[(1,)]"
    assert server.ask("SELECT 1") == [1]


def test_no_password_is_told(attacker, server):
    env = attacker()
    secrets = {env._session.inner.database.password, server._server.start().password}
    shown = ""
    for what in ("GRANTS", "CREATE USER", "FULL PROCESSLIST", "VARIABLES", "GLOBAL VARIABLES"):
        result = env._session.execute(f"SHOW {what}")
        shown += result.text + repr(result.rows)
    assert all(secret not in shown for secret in secrets)
    assert not Path("/tmp/envloop-loot").exists()
