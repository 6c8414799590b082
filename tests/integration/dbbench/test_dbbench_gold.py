"""Gold on real servers: AgentBench's reproduces, what is missing is found once, and what is wrong is said."""

from __future__ import annotations

import json
import logging
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import convert_samples
import pytest

from envs import cli
from envs.dbbench.backend import Limits
from envs.dbbench.convert_sets import open_set
from envs.dbbench.convert_tasks import ConvertReport, convert_questions
from envs.dbbench.gold import GoldBook, table_hash
from envs.dbbench.gold_check import check_gold
from envs.dbbench.scoring import hash_matches
from envs.dbbench.server_backend import ServerBackend
from envs.dbbench.task_standard import STANDARD_TYPES
from envs.dbbench.tasks import find_task_files, parse_task
from envs.errors import TaskDataError

COLUMNS = [{"name": "id", "type": "int"}, {"name": "price", "type": "decimal(6,2)"}, {"name": "day", "type": "date"}]
ROWS = [[1, "1.50", "2024-01-02"], [2, "2.25", None], [3, None, "2024-01-03"]]
TABLE = {"table_name": "t", "table_info": {"columns": COLUMNS, "rows": ROWS, "primary_key": ["id"]}}


def task(kind, query, index=0, **more):
    row = {"typed": True, "type": [kind], "description": "?", "table": TABLE, "sql": {"query": query}} | more
    return parse_task(json.dumps(row), split="mine", index=index, where="f:1")


class Counted:
    """The real backend, counting the databases that are begun."""

    def __init__(self, backend) -> None:
        self._backend = backend
        self._lock = threading.Lock()
        self.begun = 0

    def begin(self, limits, *, seed=0):
        with self._lock:
            self.begun += 1
        return self._backend.begin(limits, seed=seed)

    def __getattr__(self, name):
        return getattr(self._backend, name)


@pytest.fixture(scope="session")
def backend(binary):
    backend = ServerBackend(binary=binary, max_live=64)
    yield backend
    backend.close()


@pytest.fixture
def counted(backend) -> Counted:
    yield Counted(backend)
    assert backend.live == 0


@pytest.fixture
def book(tmp_path) -> GoldBook:
    return GoldBook(file=tmp_path / "gold.sqlite")


def test_agentbenchs_dev_split_reproduces(counted):
    (dev,) = find_task_files(None)
    seen = []
    for rules in ("fc", "classic"):
        report = check_gold(dev.tasks, counted, rules=rules, progress=lambda done, total: seen.append((done, total)))
        assert report.misses == ()
        assert report.ok
        assert report.types["INSERT"] == report.types["UPDATE"] == (20, 20)
        assert report.num_tasks == 60
        assert (report.unchecked, report.untouched) == (20, 0)
        assert seen[-1] == (60, 60)


def test_what_does_not_reproduce_is_said(counted):
    tasks = [
        task("UPDATE", "UPDATE t SET price = 9", answer_md5="0" * 32),
        task("UPDATE", "UPDATE nothing SET price = 9", 1, answer_md5="0" * 32),
        task("UPDATE", "UPDATE t SET price = 9 WHERE id = 7", 2),
        task("counting", "SELECT COUNT(*) FROM t", 3, label=["4"]),
        task("counting", "SELECT COUNT(*) FROM t WHERE", 4, label=["4"]),
        task("other", "SELECT day FROM t WHERE id = 9", 5),
        task("other", "SELECT 1", 6, label=["inf-inf", "+inf"], sql=None),
        task("counting", "SELECT COUNT(*) FROM t", 7, label=["3"]),
    ]
    table = replace(tasks[0].tables[0], rows=(("1", "1", "2024-02-30"),))
    tasks.append(replace(tasks[3], tables=(table,), index=8))
    report = check_gold(tasks, counted, jobs=3)
    reasons = {miss.task: miss.reason for miss in report.misses}
    for number, words in {
        0: "after the gold statement, not 0000",
        1: "refuses the gold statement: 1146",
        2: "changes nothing",
        3: "finds '3', not the label '4'",
        4: "refuses the gold statement: 1064",
        5: "finds nothing",
        8: "its tables: ",
    }.items():
        assert words in reasons[f"mine/{number}"], number
    assert "mine/7" not in reasons
    assert report.types["counting"] == (1, 4)
    assert not report.ok


def test_a_change_whose_tables_have_the_hash_already_is_counted(counted):
    wanted = task("UPDATE", "UPDATE t SET price = 9")
    session = counted.begin(Limits())
    try:
        session.load(wanted.tables)
        untouched = table_hash(session, wanted.tables)
    finally:
        session.close()
    report = check_gold([replace(wanted, gold_hash=untouched)], counted)
    assert (report.untouched, report.ok) == (1, False)


def test_the_standard_splits_known_miss_does_not_fail_a_check(counted):
    """AgentBench's number 225, in a split of the standard's make-up: its hash is not what its label makes."""
    plain = {"table_name": "t", "table_info": {"columns": [{"name": "a"}], "rows": [["1"]]}}
    kinds = [kind for kind, count in STANDARD_TYPES.items() for _ in range(count)]

    def row(index, kind, digest):
        question = kind not in ("INSERT", "UPDATE")
        label = ["1"] if question else ["UPDATE t SET a = 2"]
        gold = {} if question else {"answer_md5": digest}
        text = json.dumps({"type": [kind], "description": "?", "table": plain, "label": label} | gold)
        return parse_task(text, split="standard", index=index, where="f:1")

    made = GoldBook().complete(task("UPDATE", "UPDATE t SET a = 2", table=plain), counted).gold_hash
    tasks = [row(i, kind, "0" * 32 if i == 225 else made) for i, kind in enumerate(kinds)]
    report = check_gold(tasks, counted)
    assert [(miss.task, miss.known) for miss in report.misses] == [("standard/225", True)]
    assert report.ok
    assert not check_gold([*tasks[:299], row(299, "UPDATE", "0" * 32)], counted).ok
    assert not check_gold(tasks[1:], counted).ok  # not the standard split, so nothing is known of it


def test_an_answer_is_found_by_its_statement(counted, book):
    found = book.complete(task("aggregation-SUM", "SELECT SUM(price), MAX(day) FROM t"), counted)
    assert found.gold_answers == ("3.75", "2024-01-03")
    assert not found.lacks_gold
    one = book.complete(task("other", "SELECT id, day FROM t ORDER BY id DESC"), counted)
    assert one.gold_answers == ("3", "2024-01-03", "2", "None", "1", "2024-01-02")


def test_a_hash_is_found_by_making_the_change(counted, book):
    change = task("UPDATE", "UPDATE t SET price = price + 1 WHERE id = 2")
    found = book.complete(change, counted)
    assert check_gold([found], counted).ok
    other = book.complete(task("UPDATE", "UPDATE t SET price = 3.25 WHERE id = 2"), counted)
    assert hash_matches(other.gold_hash, found.gold_hash)


def test_a_task_with_gold_is_left_as_it_is(counted, book):
    (dev,) = find_task_files(None)
    assert book.complete(dev.tasks[0], counted) is dev.tasks[0]
    assert counted.begun == 0
    assert not book.file.exists()


def test_gold_is_found_once_and_kept_for_other_processes(counted, book):
    wanted = task("counting", "SELECT COUNT(*) FROM t")
    assert book.complete(wanted, counted).gold_answers == ("3",)
    assert book.complete(wanted, counted).gold_answers == ("3",)
    assert GoldBook(file=book.file).complete(wanted, counted).gold_answers == ("3",)
    assert counted.begun == 1
    changed = task("counting", "SELECT COUNT(*) + 1 FROM t")
    assert GoldBook(file=book.file).complete(changed, counted).gold_answers == ("4",)
    assert counted.begun == 2


def test_a_whole_split_is_found_at_once(counted, book):
    tasks = [task("counting", f"SELECT COUNT(*) + {i} FROM t", i) for i in range(12)]
    seen = []
    found = book.complete_all(tasks, counted, jobs=4, progress=lambda *now: seen.append(now))
    assert [item.gold_answers for item in found] == [(str(3 + i),) for i in range(12)]
    assert seen == [(i, 12) for i in range(1, 13)]
    assert counted.begun == 12


def test_books_may_share_a_file(counted, tmp_path):
    tasks = [task("counting", f"SELECT COUNT(*) + {i} FROM t", i) for i in range(6)]
    books = [GoldBook(file=tmp_path / "gold.sqlite") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda book: [t.gold_answers for t in book.complete_all(tasks, counted, jobs=2)], books))
    assert found == [[(str(3 + i),) for i in range(6)]] * 4
    with closing(sqlite3.connect(tmp_path / "gold.sqlite")) as file:
        assert file.execute("SELECT COUNT(*) FROM gold").fetchone() == (6,)


def test_the_file_is_bounded(counted, tmp_path):
    book = GoldBook(file=tmp_path / "gold.sqlite", max_entries=5)
    book.complete_all([task("counting", f"SELECT COUNT(*) + {i} FROM t", i) for i in range(9)], counted, jobs=1)
    with closing(sqlite3.connect(book.file)) as file:
        assert file.execute("SELECT COUNT(*) FROM gold").fetchone()[0] <= 5
    newest = task("counting", "SELECT COUNT(*) + 8 FROM t")
    begun = counted.begun
    GoldBook(file=book.file).complete(newest, counted)
    assert counted.begun == begun


@pytest.mark.parametrize("content", [b"no database at all" * 100, b""])
def test_a_broken_file_is_made_anew(counted, book, content, caplog):
    wanted = task("counting", "SELECT COUNT(*) FROM t")
    book.file.write_bytes(content)
    assert book.complete(wanted, counted).gold_answers == ("3",)
    assert GoldBook(file=book.file).complete(wanted, counted).gold_answers == ("3",)
    assert counted.begun == 1
    assert ("made anew" in caplog.text) == bool(content)


@pytest.mark.parametrize("value", ["nonsense", "[]", "{}", '{"answers": []}', '{"answers": [3]}', '{"hash": 3}'])
def test_a_damaged_value_is_found_again(counted, book, value):
    wanted = task("counting", "SELECT COUNT(*) FROM t")
    book.complete(wanted, counted)
    with closing(sqlite3.connect(book.file)) as file, file:
        file.execute("UPDATE gold SET value = ?", (value,))
    assert GoldBook(file=book.file).complete(wanted, counted).gold_answers == ("3",)
    assert counted.begun == 2


def test_without_a_file_gold_is_kept_in_memory(counted, tmp_path, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("a file where a folder should be")
    book = GoldBook(file=blocked / "gold.sqlite")
    wanted = task("counting", "SELECT COUNT(*) FROM t")
    with caplog.at_level(logging.WARNING):
        assert book.complete(wanted, counted).gold_answers == ("3",)
        assert book.complete(wanted, counted).gold_answers == ("3",)
    assert counted.begun == 1
    assert "ENVLOOP_CACHE_DIR" in caplog.text
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("kind", "query", "reason"),
    [
        ("other", "SELECT secret_word FROM t", "error 1054"),
        ("other", "SELECT day FROM t WHERE id = 9", "finds nothing"),
        (
            "other",
            "WITH RECURSIVE n AS (SELECT 1 i UNION ALL SELECT i + 1 FROM n WHERE i < 900) SELECT i, i FROM n",
            "1000",
        ),
        ("UPDATE", "UPDATE t SET secret_word = 1", "error 1054"),
        ("UPDATE", "UPDATE t SET price = 1 WHERE id = 9", "changes nothing"),
        ("UPDATE", "DROP TABLE t", "cannot be read"),
    ],
)
def test_a_statement_that_gives_no_gold_is_told_without_its_words(counted, book, kind, query, reason):
    with pytest.raises(TaskDataError, match=reason) as caught:
        book.complete(task(kind, query), counted)
    assert "mine/0" in caught.value.message
    assert "secret_word" not in str(caught.value)


def test_a_typed_task_with_null_and_keys_loads_as_it_says(counted):
    parents = {"columns": [{"name": "id", "type": "text"}], "rows": [["a"], ["b"]], "primary_key": ["id"]}
    children = {
        "columns": [{"name": "p", "type": "text"}, {"name": "n", "type": "number"}, {"name": "ok", "type": "boolean"}],
        "rows": [["a", 1.5, True], [None, None, False]],
        "foreign_keys": [{"columns": ["p"], "table": "parents", "references": ["id"]}],
    }
    tables = [{"table_name": "children", "table_info": children}, {"table_name": "parents", "table_info": parents}]
    tasks = [
        task("counting", "SELECT COUNT(p), SUM(n), SUM(ok) FROM children", 0, table=tables, label=["1", "1.5", "1"]),
        task("INSERT", "INSERT INTO children VALUES ('b', 2, 0)", 1, table=tables),
    ]
    assert check_gold(tasks, counted).misses == ()
    refused = check_gold([task("INSERT", "INSERT INTO children VALUES ('c', 2, 0)", 2, table=tables)], counted)
    assert "1452" in refused.misses[0].reason


@pytest.mark.parametrize(("layout", "written"), [("spider", 8), ("bird", 4), ("wikisql", 4)])
def test_converted_questions_find_the_same_on_the_server(counted, tmp_path, layout, written):
    write = getattr(convert_samples, f"write_{layout}")
    report = ConvertReport()
    found = list(convert_questions(open_set(layout, write(tmp_path), "dev"), report, backend=counted, all_tables=True))
    assert (len(found), report.written) == (written, written)
    assert not any("server" in reason for reason in report.left_out)
    assert counted.begun == written


def test_what_the_server_answers_otherwise_is_dropped(counted, tmp_path):
    """SQLite tells texts apart by case, MySQL does not; and it has other collations."""
    script = "CREATE TABLE t (a TEXT, b TEXT); INSERT INTO t VALUES ('Alpha', 'x'), ('alpha', 'y');"
    questions = [
        ("Which is small?", "SELECT b FROM t WHERE a = 'alpha'"),
        ("How many?", "SELECT count(*) FROM t"),
        ("Which has no form?", "SELECT b FROM t WHERE b COLLATE nocase = 'Y'"),
    ]
    root = convert_samples.write_spider(tmp_path, questions=questions, script=script)
    report = ConvertReport()
    found = list(convert_questions(open_set("spider", root, "dev"), report, backend=counted, limit=2))
    assert [item.row["description"] for item in found] == ["How many?"]
    assert report.left_out == {"the server finds another answer": 1, "the server refuses its statement": 1}
    assert report.types == {"counting": 1}


def test_the_commands_check_a_file_on_a_server(any_binary, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DBBENCH_SERVER_BINARY", any_binary)
    root = convert_samples.write_spider(tmp_path / "spider")
    out = tmp_path / "mine.jsonl"
    assert cli.main(["env", "convert", "dbbench", str(root), "--from", "spider", "--out", str(out), "--check"]) == 0
    assert "8 of 14 questions are tasks" in capsys.readouterr().out
    assert cli.main(["env", "check", "dbbench", "--data", str(out), "--split-name", "other", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["ok"], report["tasks"], report["misses"], report["rules"]) == (True, 8, [], "fc")
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    rows[3]["label"] = ["nobody"]
    out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cli.main(["env", "check", "dbbench", "--data", str(out), "--jobs", "2"]) == 1
    said = capsys.readouterr().out
    assert "mine/3 ranking: the gold statement finds 'Tribal King', not the label 'nobody'" in said
    assert "does NOT reproduce" in said


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["alfworld", "--data", "x"], "--data is for dbbench"),
        (["dbbench", "--data", "missing.jsonl"], "is no file"),
        (["dbbench", "--data", "dev", "--rules", "new"], "one of fc, classic"),
        (["dbbench", "--json"], "--json is for --data"),
    ],
)
def test_the_check_command_says_what_is_wrong(capsys, arguments, reason):
    assert cli.main(["env", "check", *arguments]) == 2
    assert reason in capsys.readouterr().err


def test_the_parity_benchmark_tells_that_all_gold_reproduces(any_binary, repo_root):
    script = repo_root / "benchmarks" / "dbbench_parity.py"
    command = [sys.executable, str(script), "--json", "--quick", "--server-binary", any_binary]
    told = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
    figures = {figure["name"].rpartition(".")[2]: figure for figure in map(json.loads, told.splitlines())}
    assert figures["changes"]["value"] == 40
    assert figures["answers_fc"]["value"] == figures["answers_classic"]["value"] == 60
    assert all(figure["holds"] is not False for figure in figures.values())
