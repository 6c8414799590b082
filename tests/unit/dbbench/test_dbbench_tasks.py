from __future__ import annotations

import gzip
import json
from collections import Counter

import pytest

from envs.dbbench.generator import generate
from envs.dbbench.tables import quote
from envs.dbbench.tasks import find_task_files, parse_task
from envs.errors import TaskDataError, UnknownTask
from envs.types import SplitRole

ROW = {
    "description": "How many?",
    "add_description": "A table.",
    "label": ["2"],
    "type": ["counting"],
    "table": {"table_name": "t", "table_info": {"columns": [{"name": "a", "type": "INT"}], "rows": [[1], ["b"]]}},
}
DIGEST = "0123456789abcdef0123456789abcdef"


def table(**changes):
    return ROW["table"] | changes


def info(columns, rows):
    return table(table_info={"columns": [{"name": name} for name in columns], "rows": rows})


def test_the_bundled_dev_split():
    (dev,) = find_task_files(None)
    assert (dev.split.role, dev.split.size) == (SplitRole.EVALUATION, 60)
    assert Counter(task.type in ("INSERT", "UPDATE") for task in dev.tasks) == {True: 40, False: 20}
    assert len({task.public.content_hash for task in dev.tasks}) == 60
    assert dev.tasks[7].public.id == "dev/7"
    with pytest.raises(UnknownTask, match="dev has the tasks 0 to 59"):
        dev.task(60)


def test_the_bundled_dev_split_is_agentbenchs(shared_dir):
    theirs = (shared_dir / "data/agentbench/dbbench/dev.jsonl").read_bytes()
    (dev,) = find_task_files(None)
    assert gzip.decompress(dev.path.read_bytes()) == theirs


@pytest.mark.parametrize("source", ["dev", "generated"])
def test_what_is_public_holds_no_gold(source):
    (dev,) = find_task_files(None)
    tasks = dev.tasks if source == "dev" else [generate("generated", index) for index in range(48)]
    for task in tasks:
        shown = json.dumps([task.public.id, task.public.type, dict(task.public.metadata)], ensure_ascii=False)
        more = {"difficulty"} if source == "generated" else set()
        assert set(task.public.metadata) == {"description", "add_description", "evidence", "tables"} | more
        for secret in (*task.gold_sql, task.gold_hash):
            assert not secret or secret not in shown
        assert task.gold_answers == () or "gold" not in repr(task)


def test_the_content_hash_covers_what_is_shown_and_not_the_gold():
    """A hash of a task and its answer would let anyone try answers against it."""

    def content_hash(**changes):
        return parse_task(json.dumps(ROW | changes), split="x", index=0, where="f:1").public.content_hash

    assert content_hash(label=["3"]) == content_hash()
    insert = {"type": ["INSERT"], "label": "INSERT 1", "answer_md5": DIGEST}
    assert content_hash(**insert | {"label": "INSERT 2"}) == content_hash(**insert)
    assert content_hash(**insert | {"answer_md5": DIGEST[::-1]}) == content_hash(**insert)
    others = [
        {"description": "How few?"},
        {"add_description": ""},
        {"evidence": "A hint."},
        {"type": ["ranking"]},
        {"table": table(table_name="u")},
        {"table": info(["b"], [[1], ["b"]])},
        {"table": info(["a"], [[2], ["b"]])},
    ]
    assert len({content_hash(), *(content_hash(**change) for change in others)}) == len(others) + 1


def test_a_row_is_read_as_agentbench_reads_it():
    row = ROW | {"evidence": "A hint."}
    task = parse_task(json.dumps(row), split="x", index=3, where="f:1")
    assert task.tables[0].rows == (("1",), ("b",))
    assert task.text == (
        "Evidence about the question: A hint.\nAdditional table information about the question: A table.\n"
        "Question: How many?\n"
    )
    bare = parse_task(json.dumps(ROW | {"add_description": ""}), split="x", index=0, where="f:1")
    assert bare.text == "Question: How many?\n"
    several = parse_task(json.dumps(ROW | {"table": [table(), table(table_name="u")]}), split="x", index=0, where="f:1")
    assert [item.name for item in several.tables] == ["t", "u"]


def test_names_that_mysql_refuses_are_mended():
    names = ["", "a ", "A", "x" * 70, "b`c"]
    row = ROW | {"table": info(names, [])}
    (made,) = parse_task(json.dumps(row), split="x", index=0, where="f:1").tables
    assert made.columns == ("column_1", "a", "A_3", "x" * 64, "b`c")
    assert quote("b`c") == "`b``c`"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        (ROW | {"type": ["MERGE"]}, "type is"),
        (ROW | {"type": []}, "type is"),
        (ROW | {"table": None}, "table is missing"),
        (ROW | {"table": []}, "table is missing"),
        (ROW | {"table": ["t"]}, "no table_info"),
        (ROW | {"table": table(table_name="")}, "table_name"),
        (ROW | {"table": table(table_name="x" * 65)}, "table_name"),
        (ROW | {"table": info([], [])}, "no columns"),
        (ROW | {"table": info([None], [])}, "which is no name"),
        (ROW | {"table": info(["a", "b"], [["1"]])}, "row 0 of table 't' has not 2 values"),
        (ROW | {"table": info(["a"], ["x"])}, "row 0"),
        (ROW | {"description": ""}, "description is missing"),
        (ROW | {"description": 3}, "description is no text"),
        (ROW | {"label": []}, "label is missing"),
        (ROW | {"label": [["a"]]}, "label is no list of texts"),
        (ROW | {"type": ["INSERT"]}, "answer_md5"),
        (ROW | {"type": ["INSERT"], "answer_md5": "[1, 2]"}, "not one hash"),
    ],
)
def test_a_broken_row_is_refused_with_file_line_and_reason(tmp_path, row, reason):
    text = row if isinstance(row, str) else json.dumps(row)
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(ROW) + "\n\n" + text + "\n")
    (_, mine) = find_task_files(tmp_path)
    with pytest.raises(TaskDataError) as caught:
        _ = mine.tasks
    assert f"{path}:3: " in caught.value.message
    assert reason in caught.value.message


def test_files_of_a_folder_become_splits(tmp_path):
    line = json.dumps(ROW) + "\n"
    for name in ("standard.jsonl", "std.jsonl", "train.jsonl", "my-train.jsonl"):
        (tmp_path / name).write_text(line * 2)
    (tmp_path / "train_packed.jsonl.gz").write_bytes(gzip.compress(line.encode()))
    (tmp_path / "notes.txt").write_text("no task")
    found = {file.name: (file.split.role, file.split.size) for file in find_task_files(tmp_path)}
    assert found == {
        "dev": (SplitRole.EVALUATION, 60),
        "my-train": (SplitRole.EVALUATION, 2),
        "standard": (SplitRole.EVALUATION, 2),
        "std": (SplitRole.EVALUATION, 2),
        "train": (SplitRole.TRAIN, 2),
        "train_packed": (SplitRole.TRAIN, 1),
    }
    said = {file.name: file.split.description for file in find_task_files(tmp_path)}
    assert "begins with 'train'" in said["std"]
    assert "for training" in said["train"]


@pytest.mark.parametrize("name", ["generated.jsonl", ".jsonl"])
def test_reserved_file_names_are_refused(tmp_path, name):
    (tmp_path / name).write_text(json.dumps(ROW))
    with pytest.raises(TaskDataError, match="rename the file"):
        find_task_files(tmp_path)


def test_broken_files_and_folders_are_refused(tmp_path):
    with pytest.raises(TaskDataError, match="no folder"):
        find_task_files(tmp_path / "missing")
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "torn.jsonl.gz").write_bytes(gzip.compress(b"x" * 1000)[:20])
    (tmp_path / "latin.jsonl").write_bytes(b"\xff\xfe")
    files = {file.name: file for file in find_task_files(tmp_path)}
    for name, reason in (("empty", "holds no task"), ("torn", "cannot be read"), ("latin", "cannot be read")):
        with pytest.raises(TaskDataError, match=reason):
            _ = files[name].tasks
