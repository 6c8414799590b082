from __future__ import annotations

import json
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import convert_samples
import pytest

from envs.dbbench.convert_sets import open_set
from envs.dbbench.convert_tasks import ConvertReport, convert_questions
from envs.dbbench.gold import GoldBook, answer_texts, default_gold_file, parallel
from envs.dbbench.gold_check import check_gold
from envs.dbbench.scoring import answer_matches
from envs.dbbench.sqlite_backend import SqliteBackend
from envs.dbbench.tables import Table
from envs.dbbench.task_standard import STANDARD_TYPES, is_standard
from envs.dbbench.tasks import DbTask, find_task_files, parse_task


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("2.5000"), "2.5000"),
        (Decimal("1E+3"), "1000"),
        (Decimal("0E-7"), "0.0000000"),
        (7, "7"),
        (2.5, "2.5"),
        (None, "None"),
        ("a, b", "a, b"),
        (date(2020, 1, 2), "2020-01-02"),
        (datetime(2020, 1, 2, 3, 4, 5), "2020-01-02 03:04:05"),
        (timedelta(hours=26, minutes=3, seconds=4), "26:03:04"),
        (-timedelta(minutes=90), "-01:30:00"),
        (b"abc", "abc"),
        (b"\xff", "\\xff"),
    ],
)
def test_a_value_of_a_result_as_a_gold_answer(value, text):
    assert answer_texts([(value,)]) == (text,)
    assert answer_matches([text], answer_texts([(value,)]))


def test_a_result_is_read_row_by_row():
    assert answer_texts([("a", 1), ("b", None)]) == ("a", "1", "b", "None")
    assert answer_texts([]) == ()


def test_the_file_lies_in_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("ENVLOOP_CACHE_DIR", str(tmp_path))
    assert default_gold_file() == tmp_path / "dbbench" / "gold.sqlite"
    monkeypatch.delenv("ENVLOOP_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert default_gold_file() == Path(tmp_path / "cache" / "envloop" / "dbbench" / "gold.sqlite")


def test_work_is_done_in_order_and_ends_with_the_first_error():
    assert list(parallel(range(20), lambda i: i * i, 4)) == [i * i for i in range(20)]
    assert list(parallel([], str, 4)) == []
    done = []

    def work(i):
        if i == 1:
            raise RuntimeError("broken")
        done.append(i)
        return i

    with pytest.raises(RuntimeError, match="broken"):
        list(parallel(range(1000), work, 1))
    assert len(done) < 1000


def test_the_standard_split_is_known_by_its_types():
    table = Table("t", ("a",), (("1",),))
    kinds = [kind for kind, count in STANDARD_TYPES.items() for _ in range(count)]
    tasks = [DbTask("dbbench", "standard", i, kind, (table,), "?") for i, kind in enumerate(kinds)]
    assert len(tasks) == 300
    assert is_standard(tasks)
    assert not is_standard(tasks[1:])
    assert not is_standard([*tasks[1:], tasks[-1]])
    assert not is_standard(find_task_files(None)[0].tasks)
    typed = Table("t", ("a",), (("1",),), types=("INT",))
    assert not is_standard([*tasks[:-1], DbTask("dbbench", "standard", 299, kinds[-1], (typed,), "?")])


@pytest.fixture
def sqlite():
    backend = SqliteBackend(max_live=32)
    yield backend
    backend.close()


def test_gold_is_checked_and_found_without_a_server_too(sqlite, tmp_path):
    (dev,) = find_task_files(None)
    report = check_gold(dev.tasks, sqlite)
    assert (report.misses, report.num_tasks) == ((), 60)
    row = {
        "typed": True,
        "type": ["other"],
        "description": "?",
        "table": {
            "table_name": "t",
            "table_info": {"columns": [{"name": "d", "type": "date"}], "rows": [["2024-01-02"]]},
        },
        "sql": {"query": "SELECT d FROM t"},
    }
    task = parse_task(json.dumps(row), split="x", index=0, where="f:1")
    assert GoldBook(file=tmp_path / "gold.sqlite").complete(task, sqlite).gold_answers == ("2024-01-02",)


@pytest.mark.parametrize("layout", ["spider", "bird"])
def test_converted_questions_reproduce_without_a_server(sqlite, tmp_path, layout):
    root = getattr(convert_samples, f"write_{layout}")(tmp_path)
    report = ConvertReport()
    plain = len(list(convert_questions(open_set(layout, root, "dev"), ConvertReport())))
    kept = list(convert_questions(open_set(layout, root, "dev"), report, backend=sqlite))
    assert len(kept) == plain == report.written
