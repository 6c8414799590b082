"""What statements that change something do on SQLite, seen by the statements after them."""

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


@pytest.fixture
def session():
    session = SqliteSession(Limits(), seed=1)
    session.load(TABLES)
    yield session
    session.close()


def rows(session, statement):
    result = session.execute(statement)
    assert result.valid, (statement, result.text)
    return list(result.rows)


def test_an_update_assigns_from_left_to_right(session):
    rows(session, "UPDATE people SET score = 10, pay = score + 1 WHERE id = 1")
    assert session.execute("SELECT score, pay FROM people WHERE id = 1").text == "[(10.0, Decimal('11.00'))]"


def test_update_and_delete_take_an_order_and_a_limit(session):
    rows(session, "UPDATE people SET team = 9 ORDER BY id DESC LIMIT 1")
    rows(session, "DELETE FROM words ORDER BY b LIMIT 2")
    assert rows(session, "SELECT id FROM people WHERE team = 9") == [(3,)]
    assert rows(session, "SELECT b FROM words ORDER BY b") == [("Alpha",), ("ALPHA",), ("Émile",)]


def test_joined_tables_are_updated_and_deleted_from(session):
    rows(session, "UPDATE people p JOIN orders o ON o.pid = p.id SET p.name = 'Amy', o.oid = 7")
    assert rows(session, "SELECT p.name, o.oid FROM people p JOIN orders o ON o.pid = p.id") == [("Amy", 7)]
    rows(session, "DELETE o FROM orders o JOIN people p ON o.pid = p.id WHERE p.name = 'Amy'")
    assert rows(session, "SELECT COUNT(*) FROM orders") == [(0,)]


def test_rows_that_are_there_already_are_replaced_changed_or_passed_over(session):
    rows(session, "REPLACE INTO people (id, name) VALUES (3, 'Cyd')")
    rows(session, "INSERT INTO people (id, name) VALUES (2, 'Ben') ON DUPLICATE KEY UPDATE name = VALUES(name)")
    rows(session, "INSERT IGNORE INTO people (id, name) VALUES (1, 'Abe'), (4, 'Dee')")
    assert rows(session, "SELECT id, name, pay FROM people WHERE id <> 2") == [
        (1, "Ann", session.execute("SELECT 1000.50").rows[0][0]),
        (3, "Cyd", None),
        (4, "Dee", None),
    ]
    assert rows(session, "SELECT name FROM people WHERE id = 2") == [("Ben",)]


def test_a_statement_that_fails_in_the_middle_changes_nothing(session):
    result = session.execute("INSERT INTO people (id) VALUES (7), (8), (1)")
    assert (result.valid, result.text) == (False, "1062 (23000): Duplicate entry '1' for key 'people.PRIMARY'")
    assert rows(session, "SELECT COUNT(*) FROM people") == [(3,)]
    assert not session.execute("CREATE TABLE new AS SELECT (SELECT id FROM people) AS x").valid
    assert session.execute("SHOW TABLES").text == "[('orders',), ('people',), ('words',)]"


def test_columns_are_added_changed_renamed_and_dropped(session):
    rows(
        session, "ALTER TABLE words ADD COLUMN n INT NOT NULL DEFAULT 4 AFTER a, CHANGE b c VARCHAR(40), ADD INDEX (c)"
    )
    assert rows(session, "SELECT * FROM words LIMIT 1") == [("1", 4, "Alpha")]
    rows(session, "ALTER TABLE words DROP COLUMN n, RENAME TO terms")
    rows(session, "RENAME TABLE terms TO names")
    assert session.execute("DESCRIBE names").text == (
        "[('a', 'text', 'YES', '', None, ''), ('c', 'varchar(40)', 'YES', 'MUL', None, '')]"
    )
    assert session.execute("ALTER TABLE names MODIFY a INT").text == (
        "1265 (01000): Data truncated for column 'a' at row 2"
    )


def test_numbers_are_given_by_auto_increment(session):
    rows(session, "CREATE TABLE n (id INT AUTO_INCREMENT PRIMARY KEY, v TEXT)")
    rows(session, "INSERT INTO n (v) VALUES ('a'), ('b')")
    rows(session, "INSERT INTO n VALUES (10, 'c'), (NULL, 'd')")
    assert rows(session, "SELECT id FROM n") == [(1,), (2,), (10,), (11,)]
    rows(session, "TRUNCATE n")
    rows(session, "INSERT INTO n (v) VALUES ('z')")
    assert rows(session, "SELECT id FROM n") == [(1,)]


def test_a_view_shows_what_its_tables_hold_now(session):
    rows(session, "CREATE VIEW rich AS SELECT name, pay * 2 AS twice FROM people WHERE pay > 1200")
    rows(session, "UPDATE people SET pay = 10 WHERE id = 2")
    assert session.execute("SELECT * FROM rich").text == "[('Cid', Decimal('3000.50'))]"
    rows(session, "ALTER TABLE people DROP COLUMN pay")
    assert not session.execute("SELECT * FROM rich").valid


def test_foreign_keys_restrict_or_cascade(session):
    rows(session, "CREATE TABLE notes (id INT, oid INT, FOREIGN KEY (oid) REFERENCES orders (oid) ON DELETE CASCADE)")
    rows(session, "INSERT INTO notes VALUES (1, 1), (2, NULL)")
    assert session.execute("UPDATE orders SET oid = 5").text.startswith("1451 (23000)")
    rows(session, "DELETE FROM orders")
    assert rows(session, "SELECT id FROM notes") == [(2,)]


def test_the_database_has_its_public_name_and_no_other(session):
    assert rows(session, "SELECT `dbbench`.`people`.`id` FROM dbbench.people LIMIT 1") == [(1,)]
    assert session.execute("USE mysql").text.startswith("1044 (42000)")
    assert session.execute("SELECT * FROM s1.t1").text.startswith("1142 (42000)")


def test_what_sqlite_calls_its_own_names_means_nothing(session):
    for statement in ("SELECT * FROM t1", "SELECT c0 FROM people", "SELECT rowid FROM words", "SELECT f_number(1)"):
        assert not session.execute(statement).valid, statement
    rows(session, "CREATE TABLE t1 (c1 INT, c0 INT, `rowid` INT, `a\"b'c` INT)")
    rows(session, "INSERT INTO t1 VALUES (1, 2, 3, 4)")
    assert rows(session, "SELECT c0, c1, rowid, `a\"b'c` FROM t1") == [(2, 1, 3, 4)]
