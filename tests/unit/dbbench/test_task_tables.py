from __future__ import annotations

import json

import pytest

from envs.dbbench.tables import ForeignKey
from envs.dbbench.task_tables import find_key_cycle, read_tables
from envs.dbbench.tasks import TaskFile, parse_task
from envs.errors import TaskDataError
from envs.types import SplitRole


def table(name, columns, rows, **keys):
    info = {"columns": [{"name": n, "type": t} for n, t in columns.items()], "rows": rows} | keys
    return {"table_name": name, "table_info": info}


def key(columns, other, references):
    return {"columns": columns, "table": other, "references": references}


PARENTS = table("parents", {"id": "int", "name": "text"}, [[1, "a"], [2, None]], primary_key=["id"])
CHILDREN = table(
    "children",
    {"id": "int", "parent": "int", "grade": "real"},
    [[1, 2, 1.5], [2, None, None]],
    primary_key=["id"],
    foreign_keys=[key(["parent"], "parents", ["id"])],
)
TYPED = {
    "typed": True,
    "description": "How many children?",
    "type": ["counting"],
    "label": ["2"],
    "table": [CHILDREN, PARENTS],
    "sql": {"query": "SELECT COUNT(*) FROM children"},
    "difficulty": "simple",
}


def parse(row):
    return parse_task(json.dumps(row), split="x", index=0, where="f:1")


def test_a_typed_row_has_types_nulls_and_keys_and_what_is_named_comes_first():
    task = parse(TYPED)
    parents, children = task.tables
    assert (parents.name, children.name) == ("parents", "children")
    assert children.types == ("INT", "INT", "DOUBLE")
    assert parents.rows == (("1", "a"), ("2", None))
    assert children.rows == (("1", "2", "1.5"), ("2", None, None))
    assert children.primary_key == ("id",)
    assert children.foreign_keys == (ForeignKey(("parent",), "parents", ("id",)),)
    assert (task.gold_sql, task.gold_answers, task.lacks_gold) == (("SELECT COUNT(*) FROM children",), ("2",), False)


def test_a_typed_row_shows_types_keys_and_difficulty_but_no_gold():
    shown = parse(TYPED).public.metadata
    assert shown["difficulty"] == "simple"
    assert shown["tables"][1] == {
        "name": "children",
        "columns": ["id", "parent", "grade"],
        "num_rows": 2,
        "types": ["INT", "INT", "DOUBLE"],
        "primary_key": ["id"],
        "foreign_keys": [{"columns": ["parent"], "table": "parents", "references": ["id"]}],
    }
    assert "COUNT" not in json.dumps(shown)
    assert "gold" not in repr(parse(TYPED))


def test_the_content_hash_covers_types_and_keys():
    plain = {k: v for k, v in TYPED.items() if k not in ("typed", "sql")}
    no_key = table("children", {"id": "int", "parent": "int", "grade": "real"}, CHILDREN["table_info"]["rows"])
    other_type = table("parents", {"id": "bigint", "name": "text"}, PARENTS["table_info"]["rows"])
    rows = [TYPED, plain, TYPED | {"table": [no_key, PARENTS]}, TYPED | {"table": [no_key, other_type]}]
    assert len({parse(row).public.content_hash for row in rows}) == 4
    assert parse(TYPED | {"difficulty": "", "label": ["3"]}).public.content_hash == parse(TYPED).public.content_hash


def test_texts_in_keys_have_a_length():
    row = TYPED | {
        "table": [
            table("a", {"id": "text", "x": "text"}, [["k", "v"]], primary_key=["id"]),
            table("b", {"a": "varchar(20)"}, [["K"]], foreign_keys=[key(["a"], "a", ["id"])]),
        ]
    }
    a, b = parse(row).tables
    assert a.types == ("VARCHAR(255)", "TEXT")
    assert b.types == ("VARCHAR(20)",)


def test_which_statement_counts_as_gold():
    agentbench = {k: v for k, v in TYPED.items() if k != "typed"} | {"table": PARENTS}
    assert parse(agentbench).gold_sql == ()
    assert parse(agentbench | {"sql": {"query": "SELECT 2", "trusted": True}}).gold_sql == ("SELECT 2",)
    unlabelled = {k: v for k, v in TYPED.items() if k != "label"}
    assert parse(unlabelled).lacks_gold
    with pytest.raises(TaskDataError, match="label is missing"):
        parse({k: v for k, v in unlabelled.items() if k != "sql"})
    with pytest.raises(TaskDataError, match="label is missing"):
        parse({k: v for k, v in agentbench.items() if k != "label"})


def test_a_change_may_lack_its_hash_where_it_has_a_trusted_statement():
    change = TYPED | {"type": ["UPDATE"], "label": "UPDATE parents SET name = 'b'", "sql": None}
    task = parse(change)
    assert (task.gold_sql, task.gold_hash, task.lacks_gold) == (("UPDATE parents SET name = 'b'",), "", True)
    digest = "0123456789abcdef0123456789abcdef"
    assert parse(change | {"answer_md5": digest}).gold_hash == digest
    by_query = {k: v for k, v in change.items() if k != "label"} | {"sql": {"query": "DELETE FROM parents"}}
    assert parse(by_query).gold_sql == ("DELETE FROM parents",)
    plain = {k: v for k, v in change.items() if k != "typed"} | {"table": PARENTS}
    for row in (plain, plain | {"answer_md5": ""}):
        with pytest.raises(TaskDataError, match="answer_md5"):
            parse(row)
    agentbench = {k: v for k, v in plain.items() if k != "label"} | {
        "answer_md5": "",
        "sql": {"query": "DELETE FROM t"},
    }
    assert parse(agentbench).gold_sql == ("DELETE FROM t",)  # AgentBench finds the hash by running it, too
    assert parse(agentbench).lacks_gold
    assert parse(plain | {"sql": {"query": "DELETE FROM parents", "trusted": True}}).lacks_gold
    with pytest.raises(TaskDataError, match="label is missing"):
        parse({k: v for k, v in change.items() if k != "label"})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"typed": 1}, "typed is neither"),
        ({"difficulty": 3}, "difficulty is no text"),
        ({"sql": {"query": ""}}, "no statement"),
        ({"table": [PARENTS, PARENTS]}, "two tables are called 'parents'"),
        ({"table": table("t", {"a ": "int"}, [])}, "no blank last"),
        ({"table": table("t", {"a": "int", "A": "int"}, [])}, "names a column twice"),
        ({"table": table("t", {"a": 3}, [])}, "a type that is no text"),
        ({"table": table("t", {"a": "int"}, [["x"]])}, "row 0 of table 't', column 'a': 'x' is no INT"),
        ({"table": table("t", {"a": "int"}, [[1], [2**40]])}, "row 1"),
        ({"table": table("t", {"a": "int"}, [[[1]]])}, "holds a list"),
        ({"table": table("t", {"a": "int"}, [[1, 2]])}, "has not 1 values"),
        ({"table": table("t", {"a": "int"}, [], primary_key=["b"])}, "no column 'b'"),
        ({"table": table("t", {"a": "int"}, [], primary_key="a")}, "no list of names"),
        ({"table": table("t", {"a": "int"}, [], primary_key=["a", "a"])}, "names a column twice"),
        ({"table": table("t", {"a": "int"}, [[None]], primary_key=["a"])}, "is null"),
        ({"table": table("t", {"a": "text"}, [["x" * 800]], primary_key=["a"])}, "768 at most"),
        ({"table": table("t", {"a": "int"}, [], foreign_keys=["a"])}, "is not {"),
        ({"table": table("t", {"a": "int"}, [], foreign_keys=[key(["a"], "u", ["a"])])}, "which is not here"),
        ({"table": table("t", {"a": "int"}, [], foreign_keys=[key(["a"], "t", ["a", "b"])])}, "1 columns and 2"),
        ({"table": table("t", {"a": "int"}, [], foreign_keys=[key(["a"], "t", ["a"])])}, "not the primary key"),
        ({"table": [PARENTS, CHILDREN | {"table_info": CHILDREN["table_info"] | {"rows": [[1, 7, 1]]}}]}, "not there"),
        (
            {"table": [PARENTS, table("t", {"a": "text"}, [], foreign_keys=[key(["a"], "parents", ["id"])])]},
            "has the types",
        ),
    ],
)
def test_a_broken_typed_row_is_refused_with_file_line_and_reason(tmp_path, change, reason):
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(TYPED) + "\n" + json.dumps(TYPED | change) + "\n")
    with pytest.raises(TaskDataError) as caught:
        _ = TaskFile("mine", path, SplitRole.TRAIN).tasks
    assert f"{path}:2: " in caught.value.message
    assert reason in caught.value.message


def test_keys_that_go_round_in_a_circle_are_refused_by_name():
    def ring(name, other, keys=()):
        columns = {"id": "int", "next": "int"}
        return table(name, columns, [], primary_key=["id"], foreign_keys=[key(["next"], other, ["id"]), *keys])

    with pytest.raises(TaskDataError, match="in a circle: a, b"):
        parse(TYPED | {"table": [ring("a", "b"), ring("b", "a"), ring("c", "a"), PARENTS]})
    (own,) = read_tables(ring("a", "a"), typed=True)
    assert find_key_cycle([own]) == []


def test_a_key_to_the_own_table_names_rows_before_it():
    def tree(rows):
        info = {"primary_key": ["id"], "foreign_keys": [key(["up"], "t", ["id"])]}
        return TYPED | {"table": table("t", {"id": "int", "up": "int"}, rows, **info)}

    assert parse(tree([[1, None], [2, 1], [3, 3]])).tables[0].rows[1] == ("2", "1")
    with pytest.raises(TaskDataError, match="row 0 of table 't' names a row"):
        parse(tree([[2, 1], [1, None]]))


def test_tables_that_several_tasks_of_a_file_ask_about_are_held_once(tmp_path):
    path = tmp_path / "mine.jsonl"
    other = PARENTS | {"table_info": PARENTS["table_info"] | {"rows": [[1, "1"], [2, "2"]]}}
    rows = [TYPED, TYPED | {"description": "And now?"}, TYPED | {"table": [other, CHILDREN]}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, second, third = TaskFile("mine", path, SplitRole.TRAIN).tasks
    assert all(a is b for a, b in zip(first.tables, second.tables, strict=True))
    assert third.tables[0].rows == (("1", "1"), ("2", "2"))
    assert third.tables[1] is first.tables[1]


def test_the_example_of_the_docs_is_a_task(repo_root):
    text = (repo_root / "docs/dbbench-data.md").read_text()
    example = text.partition("```json\n")[2].partition("```")[0]
    task = parse(json.loads(example))
    assert [table.name for table in task.tables] == ["parent", "child"]
    assert task.lacks_gold


def test_the_docs_name_every_field_of_the_typed_form(repo_root):
    text = (repo_root / "docs/dbbench-data.md").read_text()
    for name in ("typed", "columns[].type", "primary_key", "foreign_keys", "sql.query", "trusted", "difficulty"):
        assert name in text
