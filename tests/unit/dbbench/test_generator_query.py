"""Queries and changes of generated tasks: what Python makes of them, what is written in SQL, what SQLite finds."""

from __future__ import annotations

import sqlite3

import pytest

from envs.dbbench.generator_change import Arithmetic, Delete, Insert, Update, apply_changes, scene_hash
from envs.dbbench.generator_query import Agg, Condition, Difference, Having, Query, Ref, evaluate
from envs.dbbench.generator_run import rows_after, rows_found
from envs.dbbench.generator_sql import change_expression, query_expression, write
from envs.dbbench.scoring import TableHasher, combine_hashes
from tests.generator_scenes import FILMS, GENRE, NAME, Field, flat, studios

F = {name: Ref(1, i) for i, name in enumerate(("id", "title", "price", "day", "studio"))}
S = {name: Ref(0, i) for i, name in enumerate(("id", "title", "country"))}
AMOUNT = Field("Sold ('000)", "sold", "number", thousands=True)
LONG = Field("Out on", "release", "date", long=True)
SHOP = flat(
    [("A", "1,200", "5 May 2020"), ("B", "900", "12 March 2021"), ("C", "10,000", "1 May 2021")], (NAME, AMOUNT, LONG)
)


def both(scene, query):
    """What Python and the statement find, and the statement in MySQL's dialect."""
    tree = query_expression(scene, query)
    return evaluate(scene, query), rows_found(scene, query, write(tree, "sqlite")), write(tree, "mysql")


def where(ref, op, value=""):
    return (Condition(ref, op, value),)


JOIN = studios(*FILMS).joins[0]
CASES = [
    (Query(1, (F["title"],), where=where(F["price"], ">", "7.25")), [("Red",), ("Black",)], "WHERE `price` > 7.25"),
    (Query(1, (F["title"],), where=where(F["price"], ">=", "7.25")), [("Red",), ("Blue",), ("Black",)], ">= 7.25"),
    (Query(1, (F["title"],), where=where(F["price"], "null")), [("Green",)], "`price` IS NULL"),
    (Query(1, (F["title"],), where=where(F["price"], "between", ("3.10", "7.25"))), [("Blue",), ("Grey",)], "BETWEEN"),
    (Query(1, (F["title"],), where=where(F["title"], "in", ("Red", "Grey"))), [("Red",), ("Grey",)], "IN ('Red'"),
    (Query(1, (F["title"],), where=where(F["title"], "contains", "re")), [("Red",), ("Green",), ("Grey",)], "'%re%'"),
    (Query(1, (F["title"],), where=where(F["day"], "year", "2021")), [("Green",), ("Grey",)], "YEAR(`day`) = 2021"),
    (Query(1, (F["title"],), where=where(F["day"], "<", "2020-02-01")), [("Red",), ("Black",)], "< '2020-02-01'"),
    (Query(1, (Agg("COUNT"),)), [("5",)], "COUNT(*)"),
    (Query(1, (Agg("COUNT", F["price"]),)), [("4",)], "COUNT(`price`)"),
    (Query(1, (Agg("COUNT", F["studio"], distinct=True),)), [("3",)], "COUNT(DISTINCT `studio_id`)"),
    (Query(1, (Agg("SUM", F["price"]),)), [("32.85",)], "SUM(`price`)"),
    (Query(1, (Agg("AVG", F["price"]),)), [("8.2125",)], "AVG(`price`)"),
    (Query(1, (Agg("MIN", F["day"]),)), [("2019-06-30",)], "MIN(`day`)"),
    (
        Query(1, (F["title"],), where=where(F["price"], "not null"), order=F["price"], limit=2, offset=1),
        [("Blue",), ("Red",)],
        "ORDER BY `price` ASC LIMIT 2 OFFSET 1",
    ),
    (
        Query(1, (F["title"],), where=where(F["price"], ">", Query(1, (Agg("AVG", F["price"]),)))),
        [("Red",), ("Black",)],
        "> (SELECT AVG(`price`) FROM `films`)",
    ),
    (
        Query(1, (F["title"], S["title"]), (JOIN,), where(S["country"], "=", "France")),
        [("Red", "Alpha"), ("Green", "Alpha"), ("Grey", "Gamma")],
        "JOIN `studios` ON `films`.`studio_id` = `studios`.`id`",
    ),
    (
        Query(0, (S["title"],), (JOIN,), where(F["price"], ">", "5"), distinct=True),
        [("Alpha",), ("Beta",)],
        "SELECT DISTINCT `studios`.`title` FROM `studios` JOIN `films`",
    ),
    (
        Query(
            1, (S["title"],), (JOIN,), group=S["title"],
            having=Having(Agg("COUNT"), ">", "1"), order=Agg("SUM", F["price"]),
        ),
        [("Alpha",), ("Beta",)],
        "GROUP BY `studios`.`title` HAVING COUNT(*) > 1 ORDER BY SUM(`films`.`price`) ASC",
    ),
    (
        Difference(*(Query(1, (F["price"],), where=where(F["title"], "=", title)) for title in ("Grey", "Black"))),
        [("8.90",)],
        "SELECT ABS((SELECT `price` FROM `films` WHERE `title` = 'Grey') - (",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("query", "rows", "words"), CASES)
def test_python_and_the_statement_find_the_same(query, rows, words):
    python, database, statement = both(studios(*FILMS), query)
    assert python == rows
    assert database == rows
    assert words in statement


def test_text_is_compared_as_numbers_where_it_holds_numbers():
    sold, name = Ref(0, 1), Ref(0, 0)
    top = both(SHOP, Query(0, (name,), order=sold, descending=True, limit=1))
    assert top[:2] == ([("C",)], [("C",)])
    assert "CAST(REPLACE(`Sold ('000)`, ',', '') AS SIGNED) DESC" in top[2]
    beyond = Query(0, (name,), where=where(sold, ">", Query(0, (sold,), where=where(name, "=", "B"))))
    assert both(SHOP, beyond)[:2] == ([("A",), ("C",)], [("A",), ("C",)])
    parts = (Query(0, (sold,), where=where(name, "=", text)) for text in "AC")
    assert both(SHOP, Difference(*parts))[:2] == ([("8800",)], [("8800",)])
    total = both(SHOP, Query(0, (Agg("SUM", sold),)))
    assert total[:2] == ([("12100",)], [("12100",)])


def test_dates_in_words_are_found_by_year():
    python, database, statement = both(SHOP, Query(0, (Ref(0, 0),), where=where(Ref(0, 2), "year", "2021")))
    assert python == database == [("B",), ("C",)]
    assert "LIKE '% 2021'" in statement


def test_quotes_in_names_and_values_are_escaped():
    scene = flat([("O'Neil", "x"), ("B", "y")], (NAME, Field("A`b", "b", "category")))
    python, database, statement = both(scene, Query(0, (Ref(0, 1),), where=where(Ref(0, 0), "=", "O'Neil")))
    assert python == database == [("x",)]
    assert statement == "SELECT `A``b` FROM `Films` WHERE `Name` = 'O''Neil'"


def run(scene, *changes):
    """The tables after the changes, in Python and in SQLite, and the statements."""
    trees = [change_expression(scene, change) for change in changes]
    python = [list(table.table.rows) for table in apply_changes(scene, changes).tables]
    database = rows_after(scene, [write(tree, "sqlite") for tree in trees])
    return python, database, [write(tree, "mysql") for tree in trees]


def test_changes_make_the_same_tables_in_python_and_in_the_statement():
    scene = studios(*FILMS)
    studio = Query(0, (S["id"],), where=where(S["title"], "=", "Beta"))
    changes = (
        Insert(1, (0, 1, 2, 4), (("6", "White", "1.00", studio), ("7", "Pink", "2.50", "3"))),
        Update(1, ((2, Arithmetic("*", "1.10")), (3, None)), where(F["title"], "=", "Black")),
        Update(1, ((1, "Dear"),), where(F["price"], ">", Query(1, (Agg("AVG", F["price"]),)))),
        Delete(1, where(F["studio"], "=", Query(0, (S["id"],), where=where(S["title"], "=", "Alpha")))),
    )
    python, database, statements = run(scene, *changes)
    assert python == database
    assert python[1] == [
        ("2", "Dear", "7.25", None, "2"),
        ("4", "Grey", "3.10", "2021-12-31", "3"),
        ("5", "Dear", "13.20", None, "2"),
        ("6", "White", "1.00", None, "2"),
        ("7", "Pink", "2.50", None, "3"),
    ]
    assert "VALUES (6, 'White', 1.00, (SELECT `id` FROM `studios` WHERE `title` = 'Beta')), (7, " in statements[0]
    # MySQL's error 1093: the changed table may be read in a derived table only.
    assert "(SELECT `value` FROM (SELECT AVG(`price`) AS `value` FROM `films`) AS `found`)" in statements[2]
    assert "`price` = `price` * 1.10, `day` = NULL" in statements[1]


def test_a_change_that_a_key_forbids_is_an_error():
    scene = studios(*FILMS)
    with pytest.raises(sqlite3.IntegrityError):
        run(scene, Delete(0, where(S["title"], "=", "Alpha")))
    with pytest.raises(sqlite3.IntegrityError):
        run(scene, Insert(1, (0, 1), (("1", "Twice"),)))


def test_arithmetic_on_text_keeps_whole_numbers():
    score = Field("Score", "score", "number")
    scene = flat([("A", "9"), ("B", "99")], (NAME, score))
    python, database, statements = run(scene, Update(0, ((1, Arithmetic("+", "1")),), where(Ref(0, 0), "=", "A")))
    assert python == database == [[("A", "10"), ("B", "99")]]
    assert "`Score` = CAST(`Score` AS SIGNED) + 1" in statements[0]


def test_the_hash_is_of_what_concat_ws_gives():
    """NULL is skipped, a column of decimals has all its places, a date its dashes; of several tables, all."""
    hashes = []
    for texts in (
        ["1,Alpha,France", "2,Beta,Peru", "3,Gamma,France"],
        ["1,Red,10.50,2020-01-05,1", "2,Blue,7.25,2", "3,Green,2021-03-01,1", "4,Grey,3.10,2021-12-31,3",
         "5,Black,12.00,2019-06-30,2"],
    ):  # fmt: skip
        hasher = TableHasher()
        for text in texts:
            hasher.add(text)
        hashes.append(hasher.digest())
    assert scene_hash(studios(*FILMS)) == combine_hashes(hashes)


def test_the_most_frequent_value():
    scene = flat([("A", "x"), ("B", "x"), ("C", "y")], (NAME, GENRE))
    query = Query(0, (Ref(0, 1),), group=Ref(0, 1), order=Agg("COUNT"), descending=True, limit=1)
    assert both(scene, query)[:2] == ([("x",)], [("x",)])
