"""Near misses and slips as texts: one mistake each, of the kind that was asked for."""

from __future__ import annotations

import logging

import pytest

from envs.dbbench import near_miss
from envs.dbbench.experts import NEAR_MISSES
from envs.dbbench.near_miss import misses, slips
from envs.dbbench.parsing import MAX_STATEMENT, parse, render, tables_in
from envs.dbbench.tables import Table
from envs.draws import Draws

BOOKS = Table(
    "books",
    ("Title", "Author", "Pages", "Year printed"),
    (("Tide", "Ito", "120", "1990"), ("Mirror", "Kim", "80", "2001")),
)
SALES = Table(
    "sales",
    ("book", "sold", "price", "day"),
    (("Tide", "3", "9.50", "2020-01-02"),),
    types=("VARCHAR(40)", "INT", "DECIMAL(10,2)", "DATE"),
)


def found(kind: str, statement: str) -> set[str]:
    return set(misses(kind, statement, (BOOKS, SALES), Draws("a test")))


def test_every_expert_that_misses_has_its_mistakes() -> None:
    assert near_miss.NEAR_MISSES == NEAR_MISSES


@pytest.mark.parametrize(
    ("kind", "statement", "wanted"),
    [
        (
            "wrong_column",
            "SELECT `Title` FROM `books` WHERE CAST(`Pages` AS SIGNED) > 90",
            {
                "SELECT `Author` FROM `books` WHERE CAST(`Pages` AS SIGNED) > 90",
                "SELECT `Title` FROM `books` WHERE CAST(`Year printed` AS SIGNED) > 90",
            },
        ),
        # The same column is the same mistake wherever it stands, and a join's condition is left alone.
        (
            "wrong_column",
            "SELECT b.Pages FROM books AS b JOIN sales AS s ON b.Title = s.book WHERE s.sold = 3",
            {
                "SELECT b.`Year printed` FROM books AS b JOIN sales AS s ON b.Title = s.book WHERE s.sold = 3",
                "SELECT b.Pages FROM books AS b JOIN sales AS s ON b.Title = s.book WHERE s.`price` = 3",
            },
        ),
        ("wrong_column", "SELECT day FROM sales", set()),  # the only date
        (
            "wrong_column",
            "INSERT INTO books (Title, Author, Pages) VALUES ('a', 'b', '1')",
            {"INSERT INTO books (`Author`, `Title`, Pages) VALUES ('a', 'b', '1')"},
        ),
        (
            "wrong_column",
            "UPDATE books SET Title = 'x', Author = 'y' WHERE Pages = '80'",
            {"UPDATE books SET Title = 'x', Author = 'y' WHERE `Year printed` = '80'"},
        ),
        (
            "missing_filter",
            "SELECT DISTINCT Title FROM books WHERE Author = 'Ito' AND Pages > 90 ORDER BY Title LIMIT 2 OFFSET 1",
            {
                "SELECT Title FROM books WHERE Author = 'Ito' AND Pages > 90 ORDER BY Title LIMIT 2 OFFSET 1",
                "SELECT DISTINCT Title FROM books WHERE Pages > 90 ORDER BY Title LIMIT 2 OFFSET 1",
                "SELECT DISTINCT Title FROM books WHERE Author = 'Ito' ORDER BY Title LIMIT 2 OFFSET 1",
                "SELECT DISTINCT Title FROM books WHERE Author = 'Ito' AND Pages > 90 ORDER BY Title LIMIT 2",
                "SELECT DISTINCT Title FROM books WHERE Author = 'Ito' AND Pages > 90 ORDER BY Title",
            },
        ),
        (
            "missing_filter",
            "SELECT COUNT(DISTINCT Author) FROM books GROUP BY Pages HAVING COUNT(*) > 1",
            {
                "SELECT COUNT(Author) FROM books GROUP BY Pages HAVING COUNT(*) > 1",
                "SELECT COUNT(DISTINCT Author) FROM books GROUP BY Pages",
            },
        ),
        (
            "missing_filter",
            "SELECT sold FROM sales JOIN books ON Title = book AND Pages = sold",
            {
                "SELECT sold FROM sales JOIN books ON Title = book",
                "SELECT sold FROM sales JOIN books ON Pages = sold",
            },
        ),
        ("missing_filter", "DELETE FROM books WHERE Pages = '80'", {"DELETE FROM books"}),
        (
            "missing_filter",
            "INSERT INTO books (Title, Pages) VALUES ('a', '1'), ('b', '2')",
            {"INSERT INTO books (Title) VALUES ('a'), ('b')", "INSERT INTO books (Pages) VALUES ('1'), ('2')"},
        ),
        (
            "wrong_operator",
            "SELECT Title FROM books WHERE Pages >= 80 ORDER BY Pages LIMIT 1",
            {
                "SELECT Title FROM books WHERE Pages > 80 ORDER BY Pages LIMIT 1",
                "SELECT Title FROM books WHERE Pages <= 80 ORDER BY Pages LIMIT 1",
                "SELECT Title FROM books WHERE Pages >= 80 ORDER BY Pages DESC LIMIT 1",
            },
        ),
        (
            "wrong_operator",
            "SELECT Title FROM books WHERE Pages BETWEEN 1 AND 2",
            {"SELECT Title FROM books WHERE Pages > 1 AND Pages < 2", "SELECT Title FROM books WHERE Pages >= 1"},
        ),
        (
            "wrong_operator",
            "UPDATE sales SET sold = sold + 1 WHERE book IN ('a', 'b')",
            {
                "UPDATE sales SET sold = sold - 1 WHERE book IN ('a', 'b')",
                "UPDATE sales SET sold = sold + 1 WHERE NOT book IN ('a', 'b')",
            },
        ),
        ("wrong_operator", "INSERT INTO books (Title) VALUES ('a')", set()),
        (
            "wrong_aggregate",
            "SELECT MAX(sold) FROM sales",
            {"SELECT MIN(sold) FROM sales", "SELECT AVG(sold) FROM sales"},
        ),
        (
            "wrong_aggregate",
            "SELECT COUNT(*) FROM sales",
            {f"SELECT COUNT(DISTINCT `{name}`) FROM sales" for name in SALES.columns},
        ),
        ("wrong_aggregate", "SELECT Title FROM books", set()),
    ],
)
def test_mistakes(kind: str, statement: str, wanted: set[str]) -> None:
    assert found(kind, statement) == wanted


def test_the_order_is_drawn_and_the_number_bounded() -> None:
    columns = tuple(f"c{i}" for i in range(40))
    wide = Table("wide", columns, (tuple("x" for _ in columns),))
    orders = [misses("wrong_column", "SELECT c0 FROM wide", (wide,), Draws(f"{seed}")) for seed in range(3)]
    assert [len(order) for order in orders] == [12, 12, 12]
    assert orders[0] != orders[1]
    assert orders[0] == misses("wrong_column", "SELECT c0 FROM wide", (wide,), Draws("0"))


def test_a_slip_is_another_statement_with_an_unknown_name_or_a_keyword_mistyped() -> None:
    statement = "SELECT `Title` FROM `books` WHERE `Year printed` = '1990'"
    texts = {text for seed in range(20) for text in slips(statement, (BOOKS, SALES), Draws(f"{seed}"))}
    assert statement not in texts
    assert "SELECT `Title` FROM `books` WHERE Year printed = '1990'" in texts
    assert "SELECT `Title` FROM `books` WHERE `Year_printed` = '1990'" in texts
    assert "SELECT `Title` FROM `boks` WHERE `Year printed` = '1990'" in texts
    assert "SELCT `Title` FROM `books` WHERE `Year printed` = '1990'" in texts
    known = {"title", "books", "year printed"}
    for text in texts:
        tree = parse(text)
        names = {name.casefold() for name in tables_in(tree)} if tree is not None else set()
        assert tree is None or not names <= known or render(tree) != statement


@pytest.mark.parametrize(
    "statement",
    ["", "SHOW TABLES", "SELECT 1 FROM", "SELECT 1; SELECT 2", "DROP TABLE books", "INSERT INTO", "SELECT 'x"],
)
def test_what_cannot_be_read_has_neither(statement: str) -> None:
    assert parse(statement) is None
    assert not slips(statement, (BOOKS,), Draws("a test"))
    assert not any(found(kind, statement) for kind in NEAR_MISSES)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT " + "(" * 2000 + "1" + ")" * 2000,
        "SELECT " + "NOT " * 1200 + "1",
        "SELECT " + "CASE WHEN " * 400,
        "SELECT '" + "x" * MAX_STATEMENT + "'",
    ],
)
def test_a_statement_beyond_measure_is_not_read(statement: str) -> None:
    assert parse(statement) is None


def test_reading_logs_nothing_of_a_statement(caplog: pytest.LogCaptureFixture) -> None:
    """sqlglot logs the text of what it does not know; a statement may hold a gold answer."""
    with caplog.at_level(logging.DEBUG):
        for statement in ("REPLACE INTO t VALUES ('gold')", "CALL gold()", "LOCK TABLES gold READ", "SET @gold = 1"):
            parse(statement)
        parse("SELECT 'gold' INTO OUTFILE 'x'")
        for kind in NEAR_MISSES:
            found(kind, "SELECT GROUP_CONCAT(Title SEPARATOR 'gold') FROM books WHERE Title RLIKE 'gold' FOR UPDATE")
    assert caplog.text == ""


def test_tables_are_named_once_and_common_table_expressions_are_none() -> None:
    tree = parse(
        "WITH c AS (SELECT * FROM Books) SELECT * FROM c JOIN sales s ON 1 = 1 WHERE 1 IN (SELECT 1 FROM books)"
    )
    assert tree is not None
    assert sorted(tables_in(tree)) == ["Books", "sales"]
