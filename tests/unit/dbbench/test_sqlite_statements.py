"""Statements on SQLite and what they print: the same as MySQL 9.7, but for MD5 and SHA1, which that has no more."""

from __future__ import annotations

import pytest

from envs.dbbench.backend import Limits
from envs.dbbench.sqlite_session import SqliteSession
from envs.dbbench.tables import ForeignKey, Table

TABLES = [
    Table("words", ("a", "b"), (("1", "Alpha"), ("12abc", "Émile"), ("", "_x"), ("3", "ALPHA"), ("7", "9 lives"))),
    Table(
        "people",
        ("id", "name", "born", "pay", "score", "team"),
        (
            ("1", "Ann", "1990-02-03", "1000.50", "1.5", "1"),
            ("2", "Bob", "1985-12-31", "2000.00", "2.25", "2"),
            ("3", "Cid", None, "1500.25", None, "1"),
        ),
        ("INT", "VARCHAR(20)", "DATE", "DECIMAL(8,2)", "DOUBLE", "INT"),
        ("id",),
    ),
    Table(
        "orders", ("oid", "pid"), (("1", "1"),), ("INT", "INT"), ("oid",), (ForeignKey(("pid",), "people", ("id",)),)
    ),
]

PRINTED = [
    (
        "SELECT 7 / 2, 7 DIV 2, 1 / 3 * 3, 0.1 + 0.2, '12abc' * 2, 1 / 0",
        "[(Decimal('3.5000'), 3, Decimal('0.9999'), Decimal('0.3'), 24.0, None)]",
    ),
    (
        "SELECT SUM(pay), AVG(pay), MAX(born), AVG(id), SUM(score) FROM people",
        "[(Decimal('4500.75'), Decimal('1500.250000'), datetime.date(1990, 2, 3), Decimal('2.0000'), 3.75)]",
    ),
    (
        "SELECT 'a' = 'Á', 'a ' = 'a', 'ß' = 'ss', NULL <=> NULL, '1' || '0', 5 XOR 1",
        "[(1, 0, 1, 1, 1, 0)]",
    ),
    (
        "SELECT a FROM words WHERE a = 12",
        "[('12abc',)]",
    ),
    (
        "SELECT b FROM words ORDER BY b",
        "[('_x',), ('9 lives',), ('Alpha',), ('ALPHA',), ('Émile',)]",
    ),
    (
        "SELECT DISTINCT b FROM words",
        "[('Alpha',), ('Émile',), ('_x',), ('9 lives',)]",
    ),
    (
        "SELECT b, COUNT(*) FROM words GROUP BY b",
        "[('Alpha', 2), ('Émile', 1), ('_x', 1), ('9 lives', 1)]",
    ),
    (
        "SELECT GROUP_CONCAT(DISTINCT b ORDER BY b DESC SEPARATOR '; ') FROM words",
        "[('Émile; Alpha; 9 lives; _x',)]",
    ),
    (
        "SELECT CONCAT('a', NULL), CONCAT_WS('-', 'a', NULL, 'b'), GREATEST(1, NULL), IF('abc', 1, 2), ISNULL(NULL)",
        "[(None, 'a-b', None, 2, 1)]",
    ),
    (
        (
            "SELECT LPAD('5', 3, '0'), SUBSTRING_INDEX('a.b.c', '.', -1), LOCATE('L', 'hello'), FIND_IN"
            "_SET('b', 'a,B'), FORMAT(1234567.891, 2)"
        ),
        "[('005', 'c', 3, 2, '1,234,567.89')]",
    ),
    (
        (
            "SELECT LENGTH('über'), CHAR_LENGTH('über'), UPPER('straße'), REPLACE('aXa', 'x', 'y'), ELT"
            "(2, 'a', 'b'), FIELD('b', 'A', 'B')"
        ),
        "[(5, 4, 'STRAßE', 'aXa', 'b', 2)]",
    ),
    (
        "SELECT ROUND(2.5), ROUND(-2.5), ROUND(2.5e0), TRUNCATE(1.999, 2), CEIL(1.2), FLOOR(-1.2), MOD(7.5, 2)",
        "[(Decimal('3'), Decimal('-3'), 2.0, Decimal('1.99'), 2, -2, Decimal('1.5'))]",
    ),
    (
        "SELECT MD5('a'), SHA1('a'), SHA2('', 224)",
        (
            "[('0cc175b9c0f1b6a831c399e269772661', '86f7e437faa5a7fce15d1ddcb9eaeaea377667b8', 'd14a028"
            "c2a3a2bc9476102bb288234c415a2b01f828ea62ac5b3e42f')]"
        ),
    ),
    (
        (
            "SELECT CAST('12.7' AS SIGNED), CAST('12.756' AS DECIMAL(10,2)), CAST('2020-1-2' AS DATE), "
            "CONVERT('5', UNSIGNED)"
        ),
        "[(12, Decimal('12.76'), datetime.date(2020, 1, 2), 5)]",
    ),
    (
        "SELECT NOW(), CURDATE(), DATEDIFF('2024-03-01', '2024-02-01'), DATE_ADD('2020-01-31', INTERVAL 1 MONTH)",
        "[(datetime.datetime(2024, 1, 1, 0, 0), datetime.date(2024, 1, 1), 29, '2020-02-29')]",
    ),
    (
        (
            "SELECT DATE_FORMAT('2020-05-03 10:11:12', '%W %D %M %Y %h:%i %p'), STR_TO_DATE('May 3, 202"
            "0', '%M %d, %Y'), LAST_DAY('2020-02-01')"
        ),
        "[('Sunday 3rd May 2020 10:11 AM', datetime.date(2020, 5, 3), datetime.date(2020, 2, 29))]",
    ),
    (
        (
            "SELECT TIMESTAMPDIFF(MONTH, '2020-01-31', '2020-02-29'), WEEK('2020-01-05', 1), EXTRACT(DA"
            "Y_HOUR FROM '2020-02-03 04:05:06')"
        ),
        "[(0, 1, 304)]",
    ),
    (
        "SELECT born + INTERVAL 1 DAY, YEAR(born), born > '1988-01-01' FROM people WHERE id < 3",
        "[(datetime.date(1990, 2, 4), 1990, 1), (datetime.date(1986, 1, 1), 1985, 0)]",
    ),
    (
        (
            "SELECT 'abc' LIKE 'A_C', 'a%c' LIKE 'a|%c' ESCAPE '|', 'abc' REGEXP '^A.c$', 'abc' LIKE BI"
            "NARY 'A%', REGEXP_REPLACE('a1b22', '[0-9]+', '#')"
        ),
        "[(1, 1, 1, 0, 'a#b#')]",
    ),
    (
        "SELECT STDDEV(id), VARIANCE(id), BIT_OR(id), COUNT(DISTINCT team, name) FROM people",
        "[(0.816496580927726, 0.6666666666666666, 3, 3)]",
    ),
    (
        "SELECT RAND(1), RAND(5)",
        "[(0.40540353712197724, 0.40613597483014313)]",
    ),
    (
        "SELECT name, RANK() OVER (ORDER BY pay DESC) FROM people",
        "[('Bob', 1), ('Cid', 2), ('Ann', 3)]",
    ),
    (
        "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 5) SELECT SUM(n) FROM c",
        "[(Decimal('15'),)]",
    ),
    (
        "SELECT 1 UNION SELECT 'a' UNION SELECT 2.5",
        "[('1',), ('a',), ('2.5',)]",
    ),
    (
        "SELECT * FROM people LIMIT 1",
        "[(1, 'Ann', datetime.date(1990, 2, 3), Decimal('1000.50'), 1.5, 1)]",
    ),
    (
        "SHOW TABLES LIKE 'p%'",
        "[('people',)]",
    ),
    (
        "DESCRIBE people",
        (
            "[('id', 'int', 'NO', 'PRI', None, ''), ('name', 'varchar(20)', 'YES', '', None, ''), ('bor"
            "n', 'date', 'YES', '', None, ''), ('pay', 'decimal(8,2)', 'YES', '', None, ''), ('score', "
            "'double', 'YES', '', None, ''), ('team', 'int', 'YES', '', None, '')]"
        ),
    ),
    (
        "SHOW CREATE TABLE people",
        (
            "[('people', 'CREATE TABLE `people` (\\n  `id` int NOT NULL,\\n  `name` varchar(20) DEFAULT N"
            "ULL,\\n  `born` date DEFAULT NULL,\\n  `pay` decimal(8,2) DEFAULT NULL,\\n  `score` double DE"
            "FAULT NULL,\\n  `team` int DEFAULT NULL,\\n  PRIMARY KEY (`id`)\\n) ENGINE=InnoDB DEFAULT CHA"
            "RSET=utf8mb4 COLLATE=utf8mb4_0900_ai_ci')]"
        ),
    ),
    (
        "SELECT DATABASE(), USER()",
        "[('dbbench', 'dbbench@localhost')]",
    ),
    (
        "SELECT column_name, column_type FROM information_schema.columns WHERE table_name = 'words'",
        "[('a', 'text'), ('b', 'text')]",
    ),
    (
        "SELECT b'11', x'41', 18446744073709551615, 1e3, TRUE",
        "[(b'\\x03', b'A', 18446744073709551615, 1000.0, 1)]",
    ),
    (
        "SELECT team, name FROM people GROUP BY team",
        (
            "1055 (42000): Expression #2 of SELECT list is not in GROUP BY clause and contains nonaggre"
            "gated column 'dbbench.people.name' which is not functionally dependent on columns in GROUP"
            " BY clause; this is incompatible with sql_mode=only_full_group_by"
        ),
    ),
    (
        "SELECT name, COUNT(*) FROM people",
        (
            "1140 (42000): In aggregated query without GROUP BY, expression #1 of SELECT list contains "
            "nonaggregated column 'dbbench.people.name'; this is incompatible with sql_mode=only_full_g"
            "roup_by"
        ),
    ),
    (
        "SELECT nosuch FROM people",
        "1054 (42S22): Unknown column 'nosuch' in 'field list'",
    ),
    (
        "SELECT * FROM nosuch",
        "1146 (42S02): Table 'dbbench.nosuch' doesn't exist",
    ),
    (
        "SELECT NOSUCH(1)",
        "1305 (42000): FUNCTION dbbench.NOSUCH does not exist",
    ),
    (
        "SELECT * FROM mysql.user",
        "1142 (42000): SELECT command denied to user 'dbbench'@'localhost' for table 'user'",
    ),
    (
        "SELECT * FORM people",
        (
            "1064 (42000): You have an error in your SQL syntax; check the manual that corresponds to y"
            "our MySQL server version for the right syntax to use near 'FORM people' at line 1"
        ),
    ),
    (
        "SELECT 1; SELECT 2",
        (
            "1064 (42000): You have an error in your SQL syntax; check the manual that corresponds to y"
            "our MySQL server version for the right syntax to use near 'SELECT 2' at line 1"
        ),
    ),
    (
        "SELECT * FROM 'people'",
        (
            "1064 (42000): You have an error in your SQL syntax; check the manual that corresponds to y"
            "our MySQL server version for the right syntax to use near ''people'' at line 1"
        ),
    ),
    (
        "SELECT (SELECT id FROM people)",
        "1242 (21000): Subquery returns more than 1 row",
    ),
    (
        "INSERT INTO people (id) VALUES (1)",
        "1062 (23000): Duplicate entry '1' for key 'people.PRIMARY'",
    ),
    (
        "INSERT INTO people (name) VALUES ('x')",
        "1364 (HY000): Field 'id' doesn't have a default value",
    ),
    (
        "INSERT INTO people (id, name) VALUES (9, 'a name that is too long for it')",
        "1406 (22001): Data too long for column 'name' at row 1",
    ),
    (
        "INSERT INTO people (id, team) VALUES (9, 'abc')",
        "1366 (HY000): Incorrect integer value: 'abc' for column 'team' at row 1",
    ),
    (
        "INSERT INTO people (id, born) VALUES (9, '2020-02-30')",
        "1292 (22007): Incorrect date value: '2020-02-30' for column 'born' at row 1",
    ),
    (
        "INSERT INTO people (id, pay) VALUES (9, 1234567890)",
        "1264 (22003): Out of range value for column 'pay' at row 1",
    ),
    (
        "INSERT INTO people VALUES (9)",
        "1136 (21S01): Column count doesn't match value count at row 1",
    ),
    (
        "INSERT INTO orders VALUES (5, 99)",
        (
            "1452 (23000): Cannot add or update a child row: a foreign key constraint fails (`dbbench`."
            "`orders`, CONSTRAINT `orders_ibfk_1` FOREIGN KEY (`pid`) REFERENCES `people` (`id`))"
        ),
    ),
    (
        "DELETE FROM people WHERE id = 1",
        (
            "1451 (23000): Cannot delete or update a parent row: a foreign key constraint fails (`dbben"
            "ch`.`orders`, CONSTRAINT `orders_ibfk_1` FOREIGN KEY (`pid`) REFERENCES `people` (`id`))"
        ),
    ),
    (
        "UPDATE people SET pay = (SELECT MAX(pay) FROM people)",
        "1093 (HY000): You can't specify target table 'people' for update in FROM clause",
    ),
    (
        "UPDATE people SET pay = 1 / 0",
        "1365 (22012): Division by 0",
    ),
    (
        "CREATE TABLE people (a INT)",
        "1050 (42S01): Table 'people' already exists",
    ),
    (
        "DROP TABLE people",
        (
            "3730 (HY000): Cannot drop table 'people' referenced by a foreign key constraint 'orders_ib"
            "fk_1' on table 'orders'."
        ),
    ),
    (
        "DROP TABLE nosuch",
        "1051 (42S02): Unknown table 'dbbench.nosuch'",
    ),
    (
        "CREATE DATABASE other",
        "1044 (42000): Access denied for user 'dbbench'@'localhost' to database 'other'",
    ),
    (
        "SELECT 1 INTO OUTFILE '/tmp/x'",
        "1227 (42000): Access denied; you need (at least one of) the FILE privilege(s) for this operation",
    ),
    (
        "GRANT ALL ON *.* TO x",
        "1045 (28000): Access denied for user 'dbbench'@'localhost' (using password: YES)",
    ),
]


@pytest.fixture
def session():
    session = SqliteSession(Limits(), seed=1)
    session.load(TABLES)
    yield session
    session.close()


@pytest.mark.parametrize(("statement", "text"), PRINTED, ids=[statement[:60] for statement, _ in PRINTED])
def test_a_statement_prints_what_mysql_prints(session, statement, text):
    assert session.execute(statement).text == text
