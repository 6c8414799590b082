from __future__ import annotations

import pytest

from envs.dbbench.tables import known_type
from envs.dbbench.task_types import column_texts, key_type, narrow_type, normal_type, value_text


@pytest.mark.parametrize(
    ("declared", "values", "kind"),
    [
        ("int", [], "INT"),
        ("INTEGER", [], "INTEGER"),
        ("integer unsigned", [], "INTEGER"),
        ("BigInt", [], "BIGINT"),
        ("varchar(30)", [], "VARCHAR(30)"),
        ("nvarchar( 30 )", [], "VARCHAR(30)"),
        ("Varchar(20000)", [], "TEXT"),
        ("char(3)", [], "CHAR(3)"),
        ("decimal(10, 2)", [], "DECIMAL(10,2)"),
        ("numeric(5)", [], "DECIMAL(5,0)"),
        ("decimal(2, 5)", [1.5], "DOUBLE"),
        ("real", [], "DOUBLE"),
        ("double precision", [], "DOUBLE"),
        ("float", [], "FLOAT"),
        ("number", [1, 2], "INT"),
        ("number", [2**40], "BIGINT"),
        ("number", [1, 2.5, None], "DOUBLE"),
        ("numeric", ["7", "8"], "INT"),
        ("text", [], "TEXT"),
        ("date", [], "DATE"),
        ("datetime", [], "DATETIME"),
        ("time", [], "TIME"),
        ("boolean", [], "BOOLEAN"),
        ("year", [], "YEAR"),
        ("blob", [], "TEXT"),
        ("", [], "TEXT"),
    ],
)
def test_a_declared_type_is_one_of_mysqls(declared, values, kind):
    assert normal_type(declared, values) == kind
    assert known_type(kind)


@pytest.mark.parametrize(
    ("declared", "values", "kind"),
    [
        ("INTEGER", [1, None], "INTEGER"),
        ("INTEGER", [2**31], "BIGINT"),
        ("INTEGER", [2**63], "DOUBLE"),
        ("INTEGER", [1, 2.5], "DOUBLE"),
        ("INTEGER", [1, "x"], "TEXT"),
        ("INTEGER", [" 1"], "TEXT"),  # SQLite keeps such a text, and an INT would lose its blank
        ("INTEGER", [1, "x" * 70_000], "MEDIUMTEXT"),
        ("FLOAT", [1.1], "DOUBLE"),
        ("DECIMAL(10,2)", [1.125], "DOUBLE"),
        ("DECIMAL(10,2)", [3], "INT"),
        ("DATE", ["2012-02-29", None], "DATE"),
        ("DATE", ["2011-02-29"], "TEXT"),
        ("DATE", ["2012-02-29 10:00:00"], "TEXT"),
        ("DATETIME", ["2012-02-29 10:00:00"], "DATETIME"),
        ("TIMESTAMP", ["1900-01-01 00:00:00"], "DATETIME"),
        ("DATETIME", ["2012-02-29 10:00:00.5"], "TEXT"),  # MySQL would round it
        ("VARCHAR(3)", ["abcd"], "TEXT"),
        ("VARCHAR(300)", ["abcd"], "TEXT"),
        ("bool", ["F"], "TEXT"),
        ("YEAR", [1800], "INT"),
    ],
)
def test_data_that_do_not_keep_to_their_type_get_one_that_takes_them(declared, values, kind):
    assert narrow_type(declared, values) == kind
    assert known_type(kind)
    assert len(column_texts(values, kind)) == len(values)


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (None, "INT", None),
        (12, "INT", "12"),
        (12.0, "INT", "12"),
        ("-12", "INT", "-12"),
        (True, "INT", "1"),
        (False, "BOOLEAN", "0"),
        ("TRUE", "BOOL", "1"),
        (2.5, "DOUBLE", "2.5"),
        ("1e5", "DOUBLE", "1e5"),
        ("12.30", "DECIMAL(3,1)", "12.30"),
        ("2012-02-29", "DATE", "2012-02-29"),
        ("23:59:59", "TIME", "23:59:59"),
        (2155, "YEAR", "2155"),
        ("äb", "VARCHAR(2)", "äb"),
        (1.5, "TEXT", "1.5"),
        ("", "TEXT", ""),
    ],
)
def test_a_value_is_the_text_of_a_literal(value, kind, text):
    assert value_text(value, kind) == text
    assert column_texts([None, value], kind) == [None, text]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (2**31, "INT"),
        (-(2**31) - 1, "INT"),
        (128, "TINYINT"),
        (2.5, "INT"),
        ("12a", "INT"),
        ("", "INT"),
        ("9" * 5000, "BIGINT"),
        (float("nan"), "DOUBLE"),
        (float("inf"), "DOUBLE"),
        ("1e400", "DOUBLE"),
        ("nan", "DECIMAL(3,1)"),
        ("12.34", "DECIMAL(3,1)"),
        ("123", "DECIMAL(3,1)"),
        ("2011-02-29", "DATE"),
        ("20120229", "DATE"),
        ("0000-00-00", "DATE"),
        ("2012-02-29T10:00", "DATETIME"),
        ("1970-01-01 00:00:00", "TIMESTAMP"),
        ("24:60:00", "TIME"),
        (1900, "YEAR"),
        ("yes", "BOOLEAN"),
        ("abc", "VARCHAR(2)"),
        ("ä" * 40_000, "TEXT"),
        ("x", "GEOMETRY"),
    ],
)
def test_a_value_that_is_none_of_the_type_is_refused(value, kind):
    with pytest.raises(ValueError, match=r"is no"):
        value_text(value, kind)
    with pytest.raises(ValueError, match=r"is no"):
        column_texts([value], kind)


def test_a_text_in_a_key_has_a_length_that_innodb_takes():
    assert key_type("INT", [1], 1) == "INT"
    assert key_type("TEXT", ["a", None], 1) == "VARCHAR(255)"
    assert key_type("TEXT", ["a" * 700], 1) == "VARCHAR(700)"
    assert key_type("TEXT", ["a"], 4) == "VARCHAR(192)"
    assert key_type("VARCHAR(20)", ["a"], 1) == "VARCHAR(20)"
    assert key_type("VARCHAR(900)", ["a"], 1) == "VARCHAR(255)"
    with pytest.raises(ValueError, match="384 at most"):
        key_type("TEXT", ["a" * 385], 2)
