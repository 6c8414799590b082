"""Data sets in their own layouts, converted: which questions become tasks, and with what."""

from __future__ import annotations

import gzip
import json
import sqlite3
from contextlib import closing

import convert_samples
import pytest

from envs import cli
from envs.dbbench.convert_sets import open_set
from envs.dbbench.convert_source import QueryRefused, SourceTable, read_sqlite
from envs.dbbench.convert_tables import TableWriter, UnfitTable
from envs.dbbench.convert_tasks import ConvertReport, convert_questions
from envs.dbbench.tables import ForeignKey
from envs.dbbench.tasks import find_task_files
from envs.errors import InvalidOption, TaskDataError
from envs.types import SplitRole


def convert(layout, root, split="dev", **options):
    report = ConvertReport()
    return list(convert_questions(open_set(layout, root, split), report, **options)), report


def test_spiders_questions_become_typed_tasks_with_sqlites_answers(tmp_path):
    found, report = convert("spider", convert_samples.write_spider(tmp_path))
    assert {item.row["source"]: (item.task.type, item.row["label"]) for item in found} == {
        "spider/dev/0": ("counting", ["6"]),
        "spider/dev/1": ("aggregation-AVG", ["34.5"]),
        "spider/dev/2": ("comparison", ["Stark's Park", "Somerset Park", "Forthbank Stadium"]),
        "spider/dev/3": ("ranking", ["Tribal King"]),
        "spider/dev/4": ("aggregation-MAX", ["11998"]),
        "spider/dev/5": ("other", ["Timbaland", "1", "Justin Brown", "2", "John Nizinik", "2", "Tribal King", "1"]),
        "spider/dev/6": ("other", ["3368"]),
        "spider/dev/7": ("other", ["Bayview Stadium", "Forthbank Stadium"]),
    }
    assert dict(report.left_out) == {
        "its answer depends on the order of rows": 2,
        "its answer is empty": 1,
        "it cannot be parsed": 1,
        "it calls a function of SQLite's own": 1,
        "SQLite refuses its statement": 1,
    }
    assert (report.questions, report.written) == (14, 8)
    first = found[0]
    assert [table.name for table in first.task.tables] == ["singer"]
    assert first.task.tables[0].types == ("INT", "TEXT", "TEXT", "TEXT", "INT", "TEXT")  # "Is_male" holds F and T
    assert first.task.gold_sql == ("SELECT COUNT(*) FROM `singer`",)
    assert first.task.text.startswith(
        "Additional table information about the question: The name of this table is singer"
    )


def test_keys_come_along_and_what_mysql_cannot_hold_is_dropped_and_counted(tmp_path):
    found, report = convert("spider", convert_samples.write_spider(tmp_path))
    singers = next(item for item in found if item.row["source"] == "spider/dev/5").task.tables
    assert [table.name for table in singers] == ["singer", "singer_in_concert"]
    assert singers[1].primary_key == ("concert_ID", "Singer_ID")
    assert [key.table for key in singers[1].foreign_keys] == ["singer"]
    assert report.dropped_keys == {
        "a foreign key names a table that is left out": 1,
        "a foreign key has another type than what it names": 1,  # "Stadium_ID" text, in Spider's own file
    }


def test_all_tables_of_a_database_can_be_taken_along(tmp_path):
    found, _ = convert("spider", convert_samples.write_spider(tmp_path), all_tables=True, limit=1)
    assert {table.name for table in found[0].task.tables} == {"stadium", "singer", "concert", "singer_in_concert"}
    assert len(found) == 1


def test_tables_are_left_out_whole_never_cut(tmp_path):
    found, report = convert("spider", convert_samples.write_spider(tmp_path), max_rows=5)
    assert report.left_out["its tables are too large"] > 5
    assert {item.row["source"] for item in found} == {"spider/dev/2", "spider/dev/4", "spider/dev/6", "spider/dev/7"}
    wide, _ = convert("spider", tmp_path, max_rows=5, all_tables=True, limit=1)
    assert {table.name for table in wide[0].task.tables} == {"stadium", "concert"}


def test_spiders_training_questions_are_those_of_both_files(tmp_path):
    found, _ = convert("spider", convert_samples.write_spider(tmp_path), split="train")
    assert [item.row["source"] for item in found] == [
        "spider/train_spider/0",
        "spider/train_spider/1",
        "spider/train_others/0",
    ]


def test_birds_questions_carry_evidence_difficulty_and_the_keys_of_its_list(tmp_path):
    root = convert_samples.write_bird(tmp_path)
    found, report = convert("bird", root, all_tables=True)
    assert report.written == len(found) == 4
    first = found[0].task
    assert first.evidence == "Eligible free rate = `Percent (%) Eligible Free (K-12)`"
    assert (first.difficulty, first.gold_answers) == ("simple", ("0.5197",))
    assert found[1].row["label"] == ["66.66666666666667"]
    assert found[2].row["label"] == ["2005", "2006"]
    keys = {table.name: [key.table for key in table.foreign_keys] for table in first.tables}
    assert keys == {"schools": [], "frpm": ["schools"], "visits": ["schools"]}  # that of visits is in dev_tables.json
    assert dict(zip(first.tables[0].columns, first.tables[0].types, strict=True)) == {
        "CDSCode": "VARCHAR(255)",
        "County": "TEXT",
        "Open Date": "DATE",
        "Charter": "INTEGER",
    }


def test_bird_is_found_in_the_folder_of_its_split_too(tmp_path):
    root = convert_samples.write_bird(tmp_path / "dev")
    (root / "dev.json").rename(root / "mini_dev_sqlite.json")
    found, _ = convert("bird", tmp_path)
    assert found[0].row["source"] == "bird/mini_dev_sqlite/0"


def test_wikisqls_structured_statements_become_sql(tmp_path):
    found, report = convert("wikisql", convert_samples.write_wikisql(tmp_path))
    assert [(item.task.type, item.row["label"]) for item in found] == [
        ("other", ["NFI"]),
        ("counting", ["2"]),  # compared without case, as in WikiSQL's own database
        ("aggregation-MAX", ["1999"]),
        ("aggregation-SUM", ["5993"]),
    ]
    assert dict(report.left_out) == {"its statement has no SQL form": 1, "its answer is empty": 1}
    assert report.questions == 6
    (table,) = found[0].task.tables
    assert table.name == "List of SBS buses"
    assert table.columns[3:] == ("Fleet Series (Quantity)", "Powertrain", "manufacturer_6")
    assert table.types[0] == "INT"
    assert table.rows[3][0] == "1999"


def test_an_answer_of_many_values_is_left_out(tmp_path):
    script = "CREATE TABLE t (a INT); " + "".join(f"INSERT INTO t VALUES ({i});" for i in range(51))
    questions = [("All?", "SELECT a FROM t"), ("Most?", "SELECT a FROM t WHERE a > 0"), ("Null?", "SELECT null FROM t")]
    found, report = convert("spider", convert_samples.write_spider(tmp_path, questions=questions, script=script))
    assert len(found[0].row["label"]) == 50
    assert dict(report.left_out) == {"its answer has more than 50 values": 1, "its answer is empty": 1}


def test_a_bare_column_beside_a_group_is_left_out_where_it_depends_on_the_row(tmp_path):
    script = "CREATE TABLE t (g INT, v TEXT); INSERT INTO t VALUES (1, 'a'), (1, 'b');"
    questions = [("Any?", "SELECT v FROM t GROUP BY g"), ("Both?", "SELECT v FROM t LIMIT 2")]
    found, report = convert("spider", convert_samples.write_spider(tmp_path, questions=questions, script=script))
    assert [item.row["description"] for item in found] == ["Both?"]
    assert report.left_out == {"its answer depends on the order of rows": 1}


def test_the_files_of_a_data_set_are_only_read(tmp_path):
    root = convert_samples.write_spider(tmp_path)
    path = root / "database" / "concert_singer" / "concert_singer.sqlite"
    before = path.read_bytes()
    with read_sqlite(path) as database:
        with pytest.raises(QueryRefused):
            database.ask("DELETE FROM singer")
        with pytest.raises(QueryRefused):
            database.ask("SELECT nothing")
    convert("spider", root)
    assert path.read_bytes() == before
    assert [item.name for item in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("layout", "split", "reason"),
    [("spider", "test", "test.json"), ("bird", "train", "train.json"), ("wikisql", "test", "test.jsonl")],
)
def test_what_is_missing_is_named(tmp_path, layout, split, reason):
    write = {
        "spider": convert_samples.write_spider,
        "bird": convert_samples.write_bird,
        "wikisql": convert_samples.write_wikisql,
    }[layout]
    with pytest.raises(TaskDataError, match=reason):
        open_set(layout, write(tmp_path), split)
    with pytest.raises(TaskDataError, match="no folder"):
        open_set(layout, tmp_path / "missing", split)


def test_files_of_another_format_are_refused(tmp_path):
    root = convert_samples.write_spider(tmp_path)
    with pytest.raises(InvalidOption, match="one of spider, bird, wikisql"):
        open_set("cosql", root, "dev")
    for text, reason in (
        ("{", "cannot be read"),
        ("{}", "no list of objects"),
        ('[{"db_id": "x"}]', "question is missing"),
    ):
        (root / "dev.json").write_text(text)
        with pytest.raises(TaskDataError, match=reason):
            open_set("spider", root, "dev")
    (root / "dev.json").write_text(json.dumps([{"db_id": "../x", "question": "q", "query": "SELECT 1"}]))
    with pytest.raises(TaskDataError, match="cannot be called"):
        convert("spider", root)
    (root / "dev.json").write_text(json.dumps([{"db_id": "concert_singer", "question": "q", "query": "SELECT 1"}]))
    (root / "database/concert_singer/concert_singer.sqlite").write_text("no database" * 100)
    with pytest.raises(TaskDataError, match="no SQLite database"):
        convert("spider", root)


# Tables.


def source(name, columns, rows, **keys):
    return SourceTable(
        name, tuple(columns), tuple(columns.values()), keys.get("primary", ()), keys.get("foreign", ()), tuple(rows)
    )


def test_primary_keys_that_mysql_would_find_twice_are_dropped():
    rows = [("Müller", 1), ("muller", 2)]
    (table,), dropped = TableWriter().json([source("t", {"a": "TEXT", "b": "INT"}, rows, primary=("a",))])
    assert "primary_key" not in table["table_info"]
    assert dropped == {"a primary key repeats, as MySQL compares": 1}
    for rows, reason in (
        ([(None, 1)], "a primary key is null"),
        ([("x" * 800, 1)], "a key's texts are too long for MySQL"),
    ):
        _, dropped = TableWriter().json([source("t", {"a": "TEXT", "b": "INT"}, rows, primary=("a",))])
        assert dropped == {reason: 1}


def test_circles_of_foreign_keys_are_broken():
    def ring(name, other):
        key = ForeignKey(("next",), other, ("id",))
        return source(name, {"id": "INT", "next": "INT"}, [(1, 1)], primary=("id",), foreign=(key,))

    tables, dropped = TableWriter().json([ring("a", "b"), ring("b", "c"), ring("c", "a"), ring("d", "a")])
    kept = {table["table_name"]: len(table["table_info"].get("foreign_keys", ())) for table in tables}
    assert kept == {"a": 0, "b": 1, "c": 1, "d": 1}
    assert dropped == {"foreign keys go round in a circle": 1}


def test_both_sides_of_a_foreign_key_get_one_type():
    key = ForeignKey(("a",), "t", ("id",))
    tables, dropped = TableWriter().json(
        [
            source("t", {"id": "INTEGER"}, [(1,), (2**40,)], primary=("id",)),
            source("u", {"a": "INT"}, [(1,), (None,)], foreign=(key,)),
            source("w", {"a": "INT"}, [(7,)], foreign=(key,)),
        ]
    )
    assert [table["table_info"]["columns"][0]["type"] for table in tables] == ["BIGINT", "BIGINT", "INT"]
    assert dropped == {"a foreign key names rows that are not there": 1}


def test_a_row_of_many_short_texts_fits_into_mysqls_row():
    wide = {f"c{i}": "VARCHAR(255)" for i in range(80)}
    (table,), _ = TableWriter().json([source("t", wide, [("x",) * 80], primary=("c0",))])
    kinds = [column["type"] for column in table["table_info"]["columns"]]
    assert kinds == ["VARCHAR(255)", *["TEXT"] * 79]


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (source("t" * 65, {"a": "INT"}, []), "too long"),
        (source("t", {"a ": "INT"}, []), "blank"),
        (source("t", {"a": "INT", "A": "INT"}, []), "differ by case"),
        (source("t", {"a": "BLOB"}, [(b"x",)]), "binary"),
    ],
)
def test_tables_that_cannot_be_a_tasks(table, reason):
    with pytest.raises(UnfitTable, match=reason):
        TableWriter().json([table])


# The command.


def test_the_command_writes_a_file_of_tasks_that_can_be_read(tmp_path, capsys):
    root = convert_samples.write_spider(tmp_path / "spider")
    out = tmp_path / "data" / "train_spider.jsonl.gz"
    out.parent.mkdir()
    arguments = ["env", "convert", "dbbench", str(root), "--from", "spider", "--split", "train", "--out", str(out)]
    assert cli.main(arguments) == 0
    assert "3 of 3 questions are tasks" in capsys.readouterr().out
    (split,) = [file for file in find_task_files(out.parent) if file.name == "train_spider"]
    assert (split.role, len(split.tasks)) == (SplitRole.TRAIN, 3)
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    first = out.read_bytes()
    assert cli.main([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["written"], report["types"]["counting"]) == (3, 1)
    assert gzip.decompress(out.read_bytes()) == gzip.decompress(first)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (["--out", "train_x.jsonl"], "would be for training by its name"),
        (["--out", "x.json"], "no name for a task file"),
        (["--out", "missing/x.jsonl"], "is no folder"),
        (["--out", "x.jsonl", "--from", "cosql"], "one of spider, bird, wikisql"),
        (["--out", "x.jsonl", "--max-rows", "1"], "questions can be a task"),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path, capsys, monkeypatch, change, reason):
    root = convert_samples.write_spider(tmp_path / "spider")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["env", "convert", "dbbench", str(root), "--from", "spider", *change]) == 2
    assert reason in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["spider"]


def test_text_that_is_no_utf8_is_read_all_the_same(tmp_path):
    path = tmp_path / "x.sqlite"
    convert_samples.write_sqlite(path, "CREATE TABLE t (a TEXT);")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO t VALUES (CAST(X'61FF' AS TEXT))")
    with read_sqlite(path) as database:
        assert database.table("t").rows == (("a\ufffd",),)
