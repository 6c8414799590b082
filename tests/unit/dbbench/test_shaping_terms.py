"""Shaping terms of a database episode: what each is worth, and that none can be had twice."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from envs.dbbench.backend import StatementResult
from envs.dbbench.family import DbBenchFamily
from envs.dbbench.shaping import SHAPING_TERMS, Shaper, read_shaping_options, trains
from envs.dbbench.tables import Table
from envs.dbbench.tasks import DbTask
from envs.errors import InvalidOption
from envs.registry import DBBENCH
from envs.types import SplitRole

TABLES = (Table("Books", ("Title", "Pages"), (("Tide", "120"),)), Table("sales", ("book",), (("Tide",),)))


def shaper(
    *terms: str, answers: tuple[str, ...] = ("1,200", "Fog"), gold: tuple[str, ...] = (), **changes: Any
) -> Shaper:
    values: dict[str, Any] = {
        "env": "dbbench", "split": "generated", "index": 0, "type": "other", "tables": TABLES, "description": "?",
        "gold_answers": answers, "gold_sql": gold,
    }  # fmt: skip
    return Shaper(DbTask(**values | changes), terms)


def result(*rows: tuple[Any, ...], valid: bool = True) -> StatementResult:
    return StatementResult(str(list(rows)), valid=valid, seconds=0.0, rows=rows)


def worth(made: Shaper, query: str, *rows: tuple[Any, ...], valid: bool = True) -> float:
    (value,) = made.statement(query, result(*rows, valid=valid)).values()
    return value


def test_a_statement_that_was_accepted_and_one_that_was_not() -> None:
    made = shaper("executable", "invalid_cost", "step_cost")
    assert made.statement("anything", result()) == {"executable": 1.0, "invalid_cost": 0.0, "step_cost": -1.0}
    refused = made.statement("anything", result(valid=False))
    assert refused == {"executable": 0.0, "invalid_cost": -1.0, "step_cost": -1.0}
    assert made.commit() == {"executable": 0.0, "invalid_cost": 0.0, "step_cost": -1.0}


def test_each_of_the_right_tables_counts_once() -> None:
    gold = ("SELECT Title FROM Books JOIN sales ON Title = book",)
    made = shaper("right_table", gold=gold)
    assert worth(made, "SHOW TABLES") == 0.0
    assert worth(made, "SELECT * FROM other") == 0.0
    assert worth(made, "SELECT * FROM books", valid=False) == 0.0
    assert worth(made, "SELECT * FROM `BOOKS` b") == 0.5
    assert worth(made, "SELECT * FROM books") == 0.0
    assert worth(made, "INSERT INTO sales SELECT Title FROM Books") == 0.5
    assert worth(made, "SELECT * FROM sales, books") == 0.0
    assert made.commit() == {"right_table": 0.0}


def test_only_the_gold_s_tables_are_right_and_all_where_it_has_none() -> None:
    assert worth(shaper("right_table", gold=("DELETE FROM sales",)), "SELECT * FROM Books, sales") == 1.0
    assert worth(shaper("right_table", gold=("DELETE FROM sales",)), "SELECT * FROM Books") == 0.0
    assert worth(shaper("right_table"), "SELECT * FROM Books") == 0.5


def test_overlap_is_what_a_result_comes_nearer_to_the_answer() -> None:
    made = shaper("overlap")
    assert worth(made, "SELECT * FROM Books", ("Fog", "x", "y")) == pytest.approx(1 / 4)  # of {1200, Fog, x, y}
    assert worth(made, "SELECT Title FROM Books", ("Tide",)) == 0.0, "no nearer"
    assert worth(made, "SELECT Title FROM Books", ("Fog",)) == pytest.approx(1 / 4)  # 1/2 is nearer by this
    assert worth(made, "SELECT Title FROM Books", (Decimal("1200.001"),), ("Fog ",)) == pytest.approx(1 / 2)
    assert worth(made, "SELECT Title FROM Books", (1200,), ("Fog",)) == 0.0, "it is all there was"


@pytest.mark.parametrize(
    "query",
    ["SELECT 'Fog', 1200", "SHOW TABLES", "SELECT * FROM other", "UPDATE Books SET Title = 'Fog'", "SELECT ((("],
)
def test_a_result_that_is_not_from_the_tables_is_worth_nothing(query: str) -> None:
    assert worth(shaper("overlap"), query, ("Fog",), ("1200",)) == 0.0


def test_a_refused_statement_and_a_change_overlap_with_nothing() -> None:
    assert worth(shaper("overlap"), "SELECT * FROM Books", ("Fog",), valid=False) == 0.0
    change = shaper("overlap", answers=(), type="UPDATE", gold_hash="0" * 32)
    assert worth(change, "SELECT * FROM Books", ("Fog",)) == 0.0
    assert worth(change, "SELECT * FROM Books") == 0.0


def test_values_are_the_same_where_scoring_says_so() -> None:
    for shown, gold in ((None, "none"), (-0.0, "0"), ("12%", "12.0"), (Decimal("1.50"), "1.5"), ("'x'", "x")):
        assert worth(shaper("overlap", answers=(gold,)), "SELECT 1 FROM Books", (shown,)) == 1.0, (shown, gold)


def test_a_statement_beyond_measure_costs_no_time_and_is_worth_nothing() -> None:
    made = shaper("right_table", "overlap")
    for query in ("SELECT " + "(" * 4000 + " FROM Books", "SELECT '" + "x" * 10**6 + "' FROM Books", "\ud800"):
        assert made.statement(query, result(("Fog",))) == {"right_table": 0.0, "overlap": 0.0}


def test_options() -> None:
    assert read_shaping_options({}) == ()
    assert read_shaping_options({"shaping": list(SHAPING_TERMS), "shaping_gamma": 0.5}) == SHAPING_TERMS
    for bad in ("overlap", ["potential"], ["overlap", "overlap"], [1], {"overlap": 1}, [["overlap"]]):
        with pytest.raises(InvalidOption, match="shaping"):
            read_shaping_options({"shaping": bad})
    for gamma in (0, 1.5, True, "1", None):
        with pytest.raises(InvalidOption, match="shaping_gamma"):
            read_shaping_options({"shaping_gamma": gamma})


def test_the_splits_that_train_are_those_of_the_family(tmp_path: Any) -> None:
    line = '{"description": "?", "label": ["1"], "type": ["other"], "table": {"table_name": "t", "table_info": '
    line += '{"columns": [{"name": "a", "type": "TEXT"}], "rows": [["1"]]}}}'
    for name in ("train_mine", "standard", "training", "eval_train"):
        (tmp_path / f"{name}.jsonl").write_text(line)
    family = DbBenchFamily(DBBENCH, data_dir=str(tmp_path))
    splits = family.splits()
    family.close()
    assert len(splits) > 6
    assert {s.name: trains(s.name) for s in splits} == {s.name: s.role is SplitRole.TRAIN for s in splits}
