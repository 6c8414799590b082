from __future__ import annotations

import pytest

from envs.dbbench.convert_sql import NoMysqlForm, read_statement

SCHEMA = {
    "Singer": {"Singer_ID": "INT", "Name": "TEXT", "Age": "INT", "Born": "DATE"},
    "Song": {"Song_ID": "INT", "Singer_ID": "INT", "Sales": "REAL"},
    "frpm t": {"School Name": "TEXT", "n": "INT"},
}


@pytest.mark.parametrize(
    ("sqlite", "mysql"),
    [
        # Names as the schema spells them; aliases in lower case; a name in double quotes that is no column is a text.
        ('SELECT name FROM SINGER WHERE name = "Bob"', "SELECT `name` FROM `Singer` WHERE `name` = 'Bob'"),
        ('SELECT "Age" FROM singer', "SELECT `Age` FROM `Singer`"),
        (
            "SELECT T1.name FROM singer AS T1 JOIN song t2 ON t1.singer_id = T2.singer_id",
            "SELECT `t1`.`name` FROM `Singer` AS `t1` JOIN `Song` AS `t2` ON `t1`.`singer_id` = `t2`.`singer_id`",
        ),
        ("SELECT SINGER.age FROM singer", "SELECT `Singer`.`age` FROM `Singer`"),
        ("SELECT [School Name] FROM `frpm t`", "SELECT `School Name` FROM `frpm t`"),
        (
            "WITH Old AS (SELECT name FROM singer) SELECT name FROM OLD",
            "WITH `old` AS (SELECT `name` FROM `Singer`) SELECT `name` FROM `old`",
        ),
        (
            "SELECT a FROM (SELECT age a FROM singer)",
            "SELECT `a` FROM (SELECT `age` AS `a` FROM `Singer`) AS `derived_1`",
        ),
        # Division of whole numbers gives one, in SQLite.
        ("SELECT age / 2 FROM singer", "SELECT `age` DIV 2 FROM `Singer`"),
        ("SELECT count(*) * 100 / sum(age) FROM singer", "SELECT (COUNT(*) * 100) DIV SUM(`age`) FROM `Singer`"),
        ("SELECT sales / 2 FROM song", "SELECT `sales` / 2 FROM `Song`"),
        ("SELECT age / 2.0 FROM singer", "SELECT `age` / 2.0 FROM `Singer`"),
        ("SELECT CAST(age AS REAL) / 2 FROM singer", "SELECT CAST(`age` AS DOUBLE) / 2 FROM `Singer`"),
        (
            "SELECT CAST(sales AS INTEGER) / 2 FROM song",
            "SELECT CAST(`sales` AS SIGNED) DIV 2 FROM `Song`",
        ),
        (
            "SELECT sum(CASE WHEN age > 1 THEN 1 ELSE 0 END) / count(*) FROM singer",
            "SELECT SUM(CASE WHEN `age` > 1 THEN 1 ELSE 0 END) DIV COUNT(*) FROM `Singer`",
        ),
        # Functions and operators.
        ("SELECT name || 'x' FROM singer", "SELECT CONCAT(`name`, 'x') FROM `Singer`"),
        ("SELECT iif(age > 1, 1, 2) FROM singer", "SELECT IF(`age` > 1, 1, 2) FROM `Singer`"),
        ("SELECT strftime('%Y-%m', born) FROM singer", "SELECT DATE_FORMAT(`born`, '%Y-%m') FROM `Singer`"),
        ("SELECT max(age, 3) FROM singer", "SELECT GREATEST(`age`, 3) FROM `Singer`"),
        ("SELECT age FROM singer LIMIT 2, 3", "SELECT `age` FROM `Singer` LIMIT 3 OFFSET 2"),
        ("SELECT name FROM singer WHERE name = 'a\\b'", "SELECT `name` FROM `Singer` WHERE `name` = 'a\\\\b'"),
    ],
)
def test_sqlites_statements_in_mysqls_words(sqlite, mysql):
    assert read_statement(sqlite, SCHEMA).mysql() == mysql


@pytest.mark.parametrize(
    ("sqlite", "reason"),
    [
        ("", "not one query"),
        ("SELECT 1; SELECT 2", "not one query"),
        ("DELETE FROM singer", "not one query"),
        ("SELECT FROM WHERE", "cannot be parsed"),
        ("SELECT 1", "reads no table"),
        ("SELECT a FROM nothing", "a table that the database does not have"),
        ("SELECT rowid FROM singer", "hidden row number"),
        ("SELECT random() FROM singer", "on the time or on chance"),
        ("SELECT date('now') FROM singer", "on the time or on chance"),
        ("SELECT CURRENT_TIMESTAMP FROM singer", "on the time or on chance"),
        ("SELECT julianday(born) FROM singer", "function of SQLite's own"),
        ("SELECT date(born, '+1 day') FROM singer", "function of SQLite's own"),
        ("SELECT typeof(age) FROM singer", "function of SQLite's own"),
        ("SELECT name FROM singer WHERE name GLOB 'a*'", "function of SQLite's own"),
    ],
)
def test_what_has_no_form_in_mysql_is_left_out_with_the_reason(sqlite, reason):
    with pytest.raises(NoMysqlForm, match=reason):
        read_statement(sqlite, SCHEMA).mysql()


@pytest.mark.parametrize(
    ("sqlite", "kind"),
    [
        ("SELECT count(*) FROM singer", "counting"),
        ("SELECT count(DISTINCT name) AS n FROM singer WHERE age > 3", "counting"),
        ("SELECT sum(age) FROM singer", "aggregation-SUM"),
        ("SELECT min(age) FROM singer", "aggregation-MIN"),
        ("SELECT max(age) FROM singer", "aggregation-MAX"),
        ("SELECT avg(age) FROM singer", "aggregation-AVG"),
        ("SELECT max(age, 3) FROM singer", "other"),
        ("SELECT name FROM singer ORDER BY age DESC LIMIT 1", "ranking"),
        ("SELECT count(*) FROM singer GROUP BY name ORDER BY 1 LIMIT 1", "ranking"),
        ("SELECT name FROM singer WHERE age BETWEEN 1 AND 3", "comparison"),
        ("SELECT name FROM singer WHERE age > (SELECT avg(age) FROM singer)", "comparison"),
        ("SELECT name FROM singer GROUP BY name HAVING count(*) >= 2", "comparison"),
        ("SELECT name, max(age) FROM singer", "other"),
        ("SELECT name FROM singer WHERE age = 3", "other"),
        ("SELECT name FROM singer UNION SELECT 'x' FROM song", "other"),
    ],
)
def test_the_kind_of_question_comes_from_the_statements_shape(sqlite, kind):
    assert read_statement(sqlite, SCHEMA).kind == kind


def test_groups_are_widened_by_what_is_shown_beside_aggregates():
    statement = read_statement(
        "SELECT s.name, count(*) AS n FROM singer s JOIN song USING (singer_id) GROUP BY s.singer_id ORDER BY n, s.age",
        SCHEMA,
    )
    assert statement.tables == ("Singer", "Song")
    assert "GROUP BY `s`.`singer_id` ORDER" in statement.mysql()
    assert "GROUP BY `s`.`singer_id`, `s`.`name`, `s`.`age` ORDER" in statement.mysql(widen_groups=True)
    assert 'GROUP BY "s"."singer_id", "s"."name", "s"."age" ORDER' in statement.sqlite(widen_groups=True)
    plain = read_statement("SELECT max(age) FROM singer", SCHEMA)
    assert plain.mysql(widen_groups=True) == plain.mysql()
