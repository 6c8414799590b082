"""The words of the grammar of statements at random: names, literals, functions, settings, commands, noise."""

from __future__ import annotations

__all__ = [
    "ADMIN",
    "BINARY",
    "COLUMNS",
    "COLUMN_OPTIONS",
    "FUNCTIONS",
    "LITERALS",
    "NAMES",
    "NOISE",
    "SETTINGS",
    "SHOW",
    "SOURCES",
    "TABLE_OPTIONS",
    "TRANSACTIONS",
    "TYPES",
]

NAMES = (
    "t0", "t1", "t2", "t3", "v0", "v1", "dbbench", "user", "a b", "x`y", "\u00fcnter", "select", "T0", "\U0001f600",
    "..", "#sql-1",
)  # fmt: skip
COLUMNS = (
    "a", "b", "c", "d", "id", "name", "order", "\u00e9t\u00e9",
)  # fmt: skip
TYPES = (
    "INT", "BIGINT UNSIGNED", "TINYINT(1)", "DECIMAL(10,2)", "DOUBLE", "VARCHAR(20)", "TEXT", "LONGTEXT", "BLOB",
    "DATE", "DATETIME(3)", "TIMESTAMP", "TIME", "YEAR", "JSON", "ENUM('x','y')", "SET('x','y')", "BIT(8)", "BOOLEAN",
    "POINT", "BINARY(4)", "CHAR(255) CHARACTER SET latin1",
)  # fmt: skip
LITERALS = (
    "0", "1", "-1", "NULL", "''", "'x'", "'it''s'", "'\\''", "\"q\"", "1e308", "-1e-308", "0.1",
    "18446744073709551615", "9223372036854775808",
    "99999999999999999999999999999999999999999999999999999999999999999.9", "0x", "x'41'", "0xFF", "b'101'", "TRUE",
    "DATE '2020-02-30'", "TIMESTAMP '2020-01-01 00:00:00'", "'0000-00-00'", "_latin1'\u00e9'", "N'n'", "'\U0001f600'",
    "'\u202e\u0645\u0631'", "'a;b'", "'-- c'", "'/* c */'", "'{\"a\": [1, null]}'", "'$[*].a'", "'POINT(1 1)'", "@u",
    "@@sql_mode", "@@version", "INTERVAL 1 DAY", "'%'", "'\\\\'", "'%s %d {}'", "DEFAULT", "'dbbench'",
)  # fmt: skip
FUNCTIONS = (
    "ABS", "ASCII", "AVG", "BIN", "BIT_COUNT", "CAST", "CEIL", "CHAR", "CHAR_LENGTH", "COALESCE", "COMPRESS",
    "CONCAT", "CONCAT_WS", "CONNECTION_ID", "CONV", "COUNT", "CRC32", "CURRENT_USER", "DATABASE", "DATE_ADD",
    "DATE_FORMAT", "DATEDIFF", "DAYNAME", "ELT", "EXP", "EXTRACT", "FIELD", "FIND_IN_SET", "FORMAT", "FROM_BASE64",
    "FROM_UNIXTIME", "GREATEST", "GROUP_CONCAT", "HEX", "IF", "IFNULL", "INET_ATON", "INSERT", "INSTR", "JSON_ARRAY",
    "JSON_EXTRACT", "JSON_KEYS", "JSON_MERGE_PATCH", "JSON_OBJECT", "JSON_SEARCH", "JSON_VALID", "LAST_INSERT_ID",
    "LEAST", "LEFT", "LENGTH", "LN", "LOCATE", "LOWER", "LPAD", "LTRIM", "MAKEDATE", "MAX", "MID", "MIN", "MOD",
    "NOW", "NULLIF", "OCT", "PI", "POW", "QUOTE", "RAND", "REGEXP_REPLACE", "REPEAT", "REPLACE", "REVERSE", "ROUND",
    "ROW_COUNT", "RPAD", "SHA2", "SIGN", "SLEEP", "SOUNDEX", "SPACE", "SQRT", "STDDEV", "STR_TO_DATE", "SUBSTRING",
    "SUM", "ST_AsText", "ST_Buffer", "ST_GeomFromText", "TIMESTAMPDIFF", "TRIM", "TRUNCATE", "UNCOMPRESS", "UNHEX",
    "UNIX_TIMESTAMP", "UPPER", "USER", "UUID", "VERSION", "WEEK", "WEIGHT_STRING", "GET_LOCK", "RELEASE_ALL_LOCKS",
    "LOAD_FILE", "f0", "f1", "NO_SUCH_FUNCTION",
)  # fmt: skip
BINARY = (
    "+", "-", "*", "/", "DIV", "%", "=", "<>", "<=>", "<", ">=", "AND", "OR", "XOR", "LIKE", "REGEXP", "||", "&",
    "<<", "->", "->>",
)  # fmt: skip
SHOW = (
    "TABLES", "DATABASES", "FULL COLUMNS FROM {t}", "INDEX FROM {t}", "CREATE TABLE {t}", "CREATE VIEW {t}",
    "TABLE STATUS", "VARIABLES LIKE '%size%'", "GLOBAL STATUS LIKE 'Com_%'", "WARNINGS", "ERRORS", "PROCESSLIST",
    "GRANTS", "ENGINES", "PLUGINS", "TRIGGERS", "PROCEDURE STATUS", "CREATE PROCEDURE p0", "CREATE FUNCTION f0",
    "CHARACTER SET", "COLLATION", "OPEN TABLES", "ENGINE INNODB STATUS", "BINARY LOGS", "PROFILES", "EVENTS",
    "CREATE DATABASE dbbench", "PRIVILEGES", "COUNT(*) WARNINGS",
)  # fmt: skip
SETTINGS = (
    "sql_mode = ''", "sql_mode = 'ANSI_QUOTES'", "sql_mode = 'NO_BACKSLASH_ESCAPES'", "sql_mode = DEFAULT",
    "NAMES utf8mb4", "NAMES latin1", "NAMES gbk", "autocommit = 0", "autocommit = 1", "@u = {e}", "@a = 1, @b = {e}",
    "foreign_key_checks = 0", "sql_safe_updates = 1", "sql_safe_updates = 0", "sql_select_limit = DEFAULT",
    "max_statement_time = 0", "max_execution_time = 0", "wait_timeout = 1", "lock_wait_timeout = 1000",
    "sort_buffer_size = 4294967295", "group_concat_max_len = 4294967295", "GLOBAL max_connections = 1",
    "PASSWORD = 'Secret-12345'", "ROLE NONE", "TRANSACTION ISOLATION LEVEL SERIALIZABLE", "time_zone = '+09:00'",
    "timestamp = DEFAULT", "collation_connection = utf8mb4_bin", "character_set_results = NULL",
    "completion_type = 'CHAIN'", "default_storage_engine = MEMORY", "big_tables = 1", "optimizer_switch = DEFAULT",
    "div_precision_increment = 30", "lc_time_names = 'de_DE'", "insert_id = 5", "profiling = 1",
)  # fmt: skip
ADMIN = (
    "ANALYZE TABLE {t}", "CHECK TABLE {t}", "OPTIMIZE TABLE {t}", "REPAIR TABLE {t}", "CHECKSUM TABLE {t}",
    "FLUSH TABLES", "FLUSH PRIVILEGES", "KILL CONNECTION_ID()", "KILL QUERY CONNECTION_ID()", "KILL 1", "SHUTDOWN",
    "RESTART", "HELP 'SELECT'", "GRANT ALL ON *.* TO CURRENT_USER()", "CREATE USER u", "DROP USER u",
    "ALTER USER USER() IDENTIFIED BY 'Secret-12345'", "DROP DATABASE dbbench", "CREATE DATABASE dbbench",
    "CREATE DATABASE other", "USE dbbench", "USE mysql", "RESET MASTER", "LOCK TABLES {t} WRITE",
    "LOCK TABLES {t} READ, {t} WRITE", "UNLOCK TABLES", "HANDLER {t} OPEN", "HANDLER {t} READ FIRST",
    "HANDLER {t} CLOSE", "LOAD DATA INFILE '/etc/passwd' INTO TABLE {t}", "SELECT 1 INTO OUTFILE '/tmp/envloop-fuzz'",
    "INSTALL PLUGIN x SONAME 'x.so'", "XA START 'x'", "XA END 'x'", "XA PREPARE 'x'", "XA RECOVER",
    "DEALLOCATE PREPARE s0", "PREPARE s0 FROM 'SELECT {l}'", "PREPARE s0 FROM @u", "EXECUTE s0",
    "EXECUTE s0 USING @u", "EXECUTE IMMEDIATE @u", "ALTER DATABASE dbbench CHARACTER SET latin1",
    "ALTER DATABASE dbbench READ ONLY = 0", "BACKUP LOCK {t}", "BACKUP UNLOCK", "DO SLEEP(0.05)", "DO {e}",
    "SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 1021", "RESIGNAL", "GET DIAGNOSTICS @n = NUMBER",
)  # fmt: skip
TRANSACTIONS = (
    "START TRANSACTION", "START TRANSACTION READ ONLY", "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT s", "ROLLBACK TO s",
    "RELEASE SAVEPOINT s", "COMMIT AND CHAIN", "ROLLBACK RELEASE", "START TRANSACTION WITH CONSISTENT SNAPSHOT",
)  # fmt: skip
NOISE = (
    "\x00", "\ud800", "\ufeff", "\\", "'", '"', "`", ";", "--", "-- ", "#", "/*", "*/", "/*!", "(", ")", "\u00a0",
    "\x1a", "\r\n", "{}", "%s", "$$", "@", ":=", "\U0010ffff",
)  # fmt: skip
SOURCES = ("information_schema.tables", "information_schema.processlist", "mysql.user", "seq_1_to_5")
COLUMN_OPTIONS = (
    "NOT NULL", "PRIMARY KEY", "UNIQUE", "AUTO_INCREMENT", "DEFAULT 1", "COMMENT 'x'", "CHECK (a > 0)", "AS (a + 1)",
    "INVISIBLE",
)  # fmt: skip
TABLE_OPTIONS = (
    "CHARSET=latin1", "ENGINE=InnoDB", "ENGINE=MyISAM", "ENGINE=MEMORY", "PARTITION BY HASH(a) PARTITIONS 3",
)  # fmt: skip
