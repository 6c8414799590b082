"""A printed result is read back as values, and nothing else is."""

from __future__ import annotations

import datetime
from decimal import Decimal

import pytest

from envs.dbbench.backend import TRUNCATED
from envs.dbbench.shown import answer_text, read_rows

ROWS = [
    (1, "a", None),
    (Decimal("-1.50"), -2, 1.5),
    (datetime.date(2020, 1, 2), datetime.datetime(2020, 1, 2, 3, 4, 5), datetime.timedelta(days=1, seconds=5)),
    (b"\x00\xff", {"x"}, set()),
    ("it's (1,), ('x',)", "[]", "ä\n"),
]


def test_rows_come_back_as_they_were_printed() -> None:
    assert read_rows(str(ROWS)) == (ROWS, True)
    assert read_rows("[]") == ([], True)


@pytest.mark.parametrize("length", range(0, len(str(ROWS)), 7))
def test_of_a_text_that_was_cut_the_whole_rows_come_back(length: int) -> None:
    read = read_rows(f"[{str(ROWS)[1:][:length]}{TRUNCATED}")
    assert read is not None
    rows, whole = read
    assert not whole
    assert rows == ROWS[: len(rows)]


def test_a_cut_within_a_later_row_keeps_those_before() -> None:
    text = str([("a, (b", 1), ("c", 2), ("d" * 50, 3)])
    assert read_rows(text[:-20] + TRUNCATED) == ([("a, (b", 1), ("c", 2)], False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No response from database.",
        "1146 (42S02): Table 'dbbench.t' doesn't exist",
        "[1, 2]",
        "[(1,), 2]",
        "[(__import__('os'),)]",
        "[(open('x'),)]",
        "[(datetime.date.today(),)]",
        "[(datetime.date(1, 99, 1),)]",
        "[(datetime.timedelta(weeks=1),)]",
        "[(Decimal('x'),)]",
        "[(1 + 1,)]",
        "[" * 900,
    ],
)
def test_any_other_text_is_no_result(text: str) -> None:
    assert read_rows(text) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"),
        (Decimal("1E+3"), "1000"),
        (Decimal("1.50"), "1.50"),
        (datetime.date(2020, 1, 2), "2020-01-02"),
        (datetime.datetime(2020, 1, 2, 3), "2020-01-02 03:00:00"),
        (b"ab\xff", "ab\ufffd"),
        ({"b", "a"}, "a,b"),
        (7, "7"),
        ("x", "x"),
    ],
)
def test_a_value_as_an_answer(value: object, text: str) -> None:
    assert answer_text(value) == text
