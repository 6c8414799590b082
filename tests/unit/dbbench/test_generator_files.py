"""Generated tasks as files: read back as they were, and the command that writes them."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from envs.commands import app
from envs.dbbench.domain_kinds import vocabulary
from envs.dbbench.generator import MAX_INDEX, generate
from envs.dbbench.generator_files import choose_indices, task_line, write_tasks
from envs.dbbench.generator_query import fold
from envs.dbbench.tasks import find_task_files, parse_task
from envs.errors import ConfigError, InvalidOption

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT / "envs" / "dbbench" / "data"


def command(*arguments):
    return CliRunner().invoke(app, ["generate", "dbbench", *map(str, arguments)])


@pytest.mark.parametrize("split", ["generated", "generated_easy", "generated_hard"])
def test_a_line_is_read_back_as_the_task_that_was_written(split):
    for index in range(75):
        task = generate(split, index)
        read = parse_task(task_line(task), split=split, index=index, where="f:1")
        assert read == task
        assert read.public == task.public


def test_a_line_has_agentbenchs_fields_and_types():
    typed = next(task for i in range(99) if len((task := generate("generated_hard", i)).tables) > 1)
    row = json.loads(task_line(typed))
    assert row["typed"] is True
    info = row["table"][-1]["table_info"]
    assert info["primary_key"] == list(typed.tables[-1].primary_key)
    assert {column["type"] for column in info["columns"]} == set(typed.tables[-1].types)
    keys = [key for table in row["table"] for key in table["table_info"]["foreign_keys"]]
    assert all(set(key) == {"columns", "table", "references"} for key in keys)
    assert keys
    flat = json.loads(task_line(generate("generated_easy", 1)))
    assert "typed" not in flat
    assert flat["sql"]["query"].startswith("SELECT")
    assert flat["label"] == list(generate("generated_easy", 1).gold_answers)
    change = json.loads(task_line(generate("generated_easy", 0)))
    assert change["label"] == list(generate("generated_easy", 0).gold_sql)
    assert change["answer_md5"] == generate("generated_easy", 0).gold_hash


def test_the_command_writes_a_split_that_is_found(tmp_path):
    result = command("--out", tmp_path / "train.jsonl", "--start", 5, "--count", 7)
    assert result.exit_code == 0, result.output
    assert "7 tasks are in" in result.output
    (_, file) = find_task_files(tmp_path)
    assert [task.public.content_hash for task in file.tasks] == [
        generate("generated", index).public.content_hash for index in range(5, 12)
    ]
    again = tmp_path / "again.jsonl"
    assert command("--out", again, "--start", 5, "--count", 7).exit_code == 0
    assert again.read_bytes() == (tmp_path / "train.jsonl").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.jsonl", "train.jsonl"]


def test_the_command_tells_figures_as_json(tmp_path):
    result = command("--out", tmp_path / "x.jsonl", "--count", 12, "--difficulty", "hard", "--json", "--stats")
    assert result.exit_code == 0, result.output
    told = json.loads(result.output)
    assert told["tasks"] == 12
    assert told["difficulty"] == {"hard": 12}
    assert sum(told["types"].values()) == 12
    assert sum(told["rejected"].values()) > 0
    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert {row["difficulty"] for row in rows} == {"hard"}


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (["--count", "1"], ConfigError, "no file is named"),
        (["--out", "no/such/folder/x.jsonl"], ConfigError, "cannot be written"),
        (["--out", "x", "--split", "dev"], InvalidOption, "no split 'dev'"),
        (["--out", "x", "--difficulty", "absurd"], InvalidOption, "no difficulty 'absurd'"),
        (["--out", "x", "--split", "generated_easy", "--difficulty", "hard"], InvalidOption, "holds no hard tasks"),
        (["--out", "x", "--start", str(MAX_INDEX)], InvalidOption, "indices go from|no 100 tasks"),
    ],
)
def test_the_command_refuses_what_it_cannot_make(arguments, error, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = command(*arguments)
    with pytest.raises(error, match=words):
        raise result.exception
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_call_leaves_no_file(tmp_path):
    def stop(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_tasks(tmp_path / "x.jsonl", "generated", range(3), progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_indices_of_a_difficulty():
    found = list(choose_indices("generated", 100, 5, "easy"))
    wanted = [index for index in range(100, 200) if generate("generated", index).difficulty == "easy"]
    assert found == wanted[:5]
    assert list(choose_indices("generated", MAX_INDEX - 2, 2)) == [MAX_INDEX - 2, MAX_INDEX - 1]


def test_generate_without_a_name_is_still_alfworlds(tmp_path):
    result = CliRunner().invoke(app, ["generate", str(tmp_path / "games"), "--count", "1", "--difficulty", "very_easy"])
    assert result.exit_code == 0, result.output
    assert list((tmp_path / "games").rglob("game.tw-pddl"))
    told = CliRunner().invoke(app, ["generate", "--help"]).output
    assert "alfworld" in told
    assert "dbbench" in told


# The vocabulary.


def test_the_vocabulary_is_small_sorted_and_without_doubles():
    assert (DATA / "vocabulary.json.gz").stat().st_size < 200_000
    lists = vocabulary()
    assert set(lists) >= {"first", "last", "city", "company", "street", "job", "country", "adjective", "noun"}
    for name, values in lists.items():
        assert list(values) == sorted(values), name
        assert len(set(map(fold, values))) == len(values) >= 100, name
        assert all(fold(value).isascii() and "," not in value and '"' not in value for value in values), name


def test_the_vocabulary_is_what_its_script_draws(tmp_path):
    """With the same version of Faker, to the byte."""
    drawn_with = (DATA / "vocabulary.NOTICE").read_text().split("Faker ")[1].split(" ")[0]
    if version("Faker") != drawn_with:
        pytest.skip(f"the vocabulary was drawn with Faker {drawn_with}; {version('Faker')} is installed")
    script = ROOT / "scripts" / "extract_vocabulary.py"
    subprocess.run([sys.executable, str(script), "--dest", str(tmp_path)], check=True, capture_output=True)
    drawn = gzip.decompress((tmp_path / "vocabulary.json.gz").read_bytes())
    assert drawn == gzip.decompress((DATA / "vocabulary.json.gz").read_bytes())
    assert (tmp_path / "vocabulary.NOTICE").read_bytes() == (DATA / "vocabulary.NOTICE").read_bytes()
