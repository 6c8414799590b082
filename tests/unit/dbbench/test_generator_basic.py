"""The basic level: easy tasks of few words, that nobody solves by guessing, apart from those of the evaluation."""

from __future__ import annotations

import re
from functools import cache

import pytest

from envs.dbbench.generator import generate, index_of_type, make_task
from envs.dbbench.generator_checks import trivial_guesses
from envs.dbbench.gold_check import check_gold
from envs.dbbench.scoring import MUTATION_TYPES, answer_matches
from envs.dbbench.sqlite_backend import SqliteBackend
from envs.registry import DBBENCH
from trainer.splits import SplitGuard

MANY = 600
SPLITS = ("generated_basic", "generated_basic_eval")


@cache
def made(split):
    return tuple(make_task(split, index) for index in range(MANY))


def words(task):
    """Every word of a task: in its question, its tables, its gold statements."""
    (table,) = task.tables
    cells = [cell for row in table.rows for cell in row]
    text = " ".join([task.description, task.add_description, *task.gold_sql, *table.columns, *cells])
    return set(re.findall(r"[A-Za-z]+", text))


def test_its_words_are_few_and_those_of_the_evaluation_are_the_same():
    train, evaluation = (set().union(*(words(one.task) for one in made(split))) for split in SPLITS)
    assert train == evaluation
    assert len(train) < 110


def test_every_value_is_one_word_or_a_small_number():
    for split in SPLITS:
        for one in made(split):
            (table,) = one.task.tables
            assert not table.types
            assert 6 <= len(table.rows) <= 10
            assert 3 <= len(table.columns) <= 4
            for row in table.rows:
                assert all(re.fullmatch(r"[A-Za-z]+|[12]?[1-9]|10|20|30", cell) for cell in row)


def test_it_has_every_type_and_is_easy():
    found = {one.task.type for one in made("generated_basic")}
    assert found == set(DBBENCH.task_types)
    assert {one.task.difficulty for one in made("generated_basic")} == {"easy"}
    assert {one.intent for one in made("generated_basic")} == {
        "lookup", "filter", "count", "compare", "top", "aggregate", "insert", "update", "update filtered", "delete",
        "delete filtered",
    }  # fmt: skip


def test_each_is_put_in_two_ways():
    heads = {}
    for one in made("generated_basic"):
        heads.setdefault(one.intent, set()).add(one.task.description.split(" ")[0])
    assert {len(ways) for ways in heads.values()} == {2}


def test_guesses_score_nothing():
    for one in made("generated_basic_eval"):
        if one.task.type not in MUTATION_TYPES:
            for guess in [None, *trivial_guesses(one.task.tables)]:
                assert not answer_matches(guess, one.task.gold_answers), one.task.index


@pytest.mark.parametrize("split", SPLITS)
def test_the_gold_scores_and_untouched_tables_do_not(split):
    tasks = [generate(split, index_of_type(kind, 50 + i)) for kind in DBBENCH.task_types for i in range(4)]
    backend = SqliteBackend()
    try:
        report = check_gold(tasks, backend, jobs=1)
    finally:
        backend.close()
    assert report.misses == ()
    assert (report.num_tasks, report.untouched) == (len(tasks), 0)


def test_no_task_of_the_evaluation_is_one_of_training():
    seen = {(one.task.tables, one.task.description) for one in made("generated_basic")}
    assert not seen & {(one.task.tables, one.task.description) for one in made("generated_basic_eval")}
    guard = SplitGuard()
    assert [guard.role("dbbench", split).value for split in SPLITS] == ["train", "evaluation"]
