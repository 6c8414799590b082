"""Generated DB Bench tasks: the same everywhere, balanced, of all kinds, and not to be guessed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import pytest

from envs.dbbench import generator_comparisons, generator_counts, generator_inserts, generator_lookups
from envs.dbbench.domains import DOMAINS
from envs.dbbench.generator import (
    GENERATED_SPLITS,
    MAX_INDEX,
    generate,
    index_of_type,
    make_task,
    type_of_index,
)
from envs.dbbench.generator_checks import MAX_ANSWERS, trivial_guesses
from envs.dbbench.generator_draft import Level
from envs.dbbench.scoring import MUTATION_TYPES, TableHasher, answer_matches, combine_hashes
from envs.dbbench.tables import known_type
from envs.errors import UnknownSplit
from envs.registry import DBBENCH
from envs.types import SplitRole

ROOT = Path(__file__).resolve().parents[3]
MANY = 700


@cache
def made():
    """The first tasks of ``generated``, with what they are made of."""
    return tuple(make_task("generated", index) for index in range(MANY))


@cache
def questions():
    """More questions of each kind, which are but a third of all tasks."""
    kinds = [kind for kind in DBBENCH.task_types if kind not in MUTATION_TYPES]
    return tuple(make_task("generated", index_of_type(kind, 100 + i)) for kind in kinds for i in range(50))


def digest(split, count):
    raw = [
        [task.public.content_hash, task.gold_sql, task.gold_answers, task.gold_hash, task.difficulty]
        for task in (generate(split, index * 7919) for index in range(count))
    ]
    return hashlib.sha256(json.dumps(raw).encode()).hexdigest()


@pytest.mark.slow
def test_tasks_are_the_same_in_another_process():
    count = 200
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_generator as t\n"
        f"print([t.digest(split, {count}) for split in t.GENERATED_SPLITS])"
    )
    env = os.environ | {"PYTHONHASHSEED": "4711", "PYTHONPATH": str(ROOT)}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, env=env, cwd=ROOT)
    assert out.stdout.strip() == str([digest(split, count) for split in GENERATED_SPLITS])


def test_tasks_are_those_of_this_version():
    """Pinned: a change of the generator must change its version too, or stored episodes no longer replay."""
    assert {split: digest(split, 25)[:16] for split in GENERATED_SPLITS} == {
        "generated": "323307eda3e8d390",
        "generated_eval": "1f14d62fe94e92d1",
        "generated_basic": "0d2f404b0178087f",
        "generated_basic_eval": "e322224a62ee5a03",
        "generated_easy": "d87a1be299fc14c8",
        "generated_medium": "dc327faf83c30346",
        "generated_hard": "a0fb9b588d58f6c5",
    }


def test_a_task_does_not_depend_on_those_before_it():
    alone = make_task("generated", 2**47 + 5).task
    assert make_task("generated", 2**47 + 5).task == alone
    assert generate("generated", MAX_INDEX - 1).type == type_of_index(MAX_INDEX - 1)


def test_the_types_are_balanced():
    counts = Counter(type_of_index(index) for index in range(1000))
    assert counts["INSERT"] == counts["UPDATE"] == 320
    assert counts["DELETE"] == 40
    assert {counts[kind] for kind in DBBENCH.task_types} == {320, 40}
    assert set(counts) == set(DBBENCH.task_types)
    for position in range(40):
        for kind in DBBENCH.task_types:
            assert type_of_index(index_of_type(kind, position)) == kind
    assert [made()[i].task.type for i in range(200)] == [type_of_index(i) for i in range(200)]


def test_levels_and_manners_are_mixed():
    levels = Counter(one.task.difficulty for one in made())
    assert set(levels) == {"easy", "medium", "hard"}
    assert min(levels.values()) > MANY / 5
    flat = [one.task for one in made() if not one.task.tables[0].types]
    assert 0.4 * MANY < len(flat) < 0.6 * MANY
    assert all(not one.task.tables[0].types for one in made() if one.task.difficulty == "easy")
    assert {len(one.task.tables) for one in made()} == {1, 2, 3, 4}
    assert all(len(task.tables) == 1 and not task.tables[0].primary_key for task in flat)


def test_splits_by_level_hold_that_level():
    assert {split.name: split.role for split in GENERATED_SPLITS.values()} == {
        "generated": SplitRole.TRAIN,
        "generated_eval": SplitRole.EVALUATION,
        "generated_basic": SplitRole.TRAIN,
        "generated_basic_eval": SplitRole.EVALUATION,
        "generated_easy": SplitRole.TRAIN,
        "generated_medium": SplitRole.TRAIN,
        "generated_hard": SplitRole.TRAIN,
    }
    for split in GENERATED_SPLITS.values():
        if split.level is not None:
            assert {generate(split.name, index).difficulty for index in range(50)} == {split.level.value}
    with pytest.raises(UnknownSplit, match="no split"):
        make_task("generated_absurd", 0)


def test_difficulty_is_public_and_the_gold_is_not():
    for one in made()[:100]:
        shown = json.dumps([one.task.public.id, dict(one.task.public.metadata)], ensure_ascii=False)
        assert f'"difficulty": "{one.task.difficulty}"' in shown
        for secret in (*one.task.gold_sql, one.task.gold_hash):
            assert not secret or secret not in shown


def test_every_domain_occurs():
    assert len(DOMAINS) >= 18
    assert len({domain.name for domain in DOMAINS}) == len(DOMAINS)
    assert {one.domain for one in made()} == {domain.name for domain in DOMAINS}


def test_every_intent_occurs():
    found = {one.intent for one in made()}
    rare = {make_task(split, index).intent for split in ("generated_medium", "generated_hard") for index in range(250)}
    assert found | rare == {
        "lookup", "filter", "text match", "join lookup", "join filter", "join children", "distinct", "most frequent",
        "group having", "count", "count distinct", "join count", "count nested", "three tables", "two rows",
        "beyond a row", "beyond average", "difference", "comparison filter", "compare groups", "join comparison", "top",
        "value of top", "nth", "top k", "rank groups", "rank joined", "rank parents", "aggregate", "aggregate joined",
        "aggregate children", "aggregate nested", "insert", "insert story", "insert several", "insert by name",
        "insert and update", "insert and delete", "update", "update filtered", "update arithmetic", "update null",
        "update joined", "update nested", "update twice", "delete", "delete filtered", "delete nested",
        "delete with children", "delete and update",
    }  # fmt: skip


def test_the_statements_use_what_was_asked_for():
    text = "\n".join(statement for one in (*made(), *questions()) for statement in one.task.gold_sql)
    for part in (
        "JOIN",
        "GROUP BY",
        "HAVING",
        "ORDER BY",
        "OFFSET",
        "BETWEEN",
        "LIKE",
        "DISTINCT",
        "AVG(",
        "IN (",
        "CAST(",
        "REPLACE(",
        "YEAR(",
        "SET `",
        "= NULL",
        " * ",
        "INSERT INTO",
        "DELETE FROM",
        ", (SELECT `",
    ):
        assert part in text, part  # fmt: skip
    assert {len(one.task.gold_sql) for one in made()} >= {1, 2}


def test_wordings_vary():
    """Each intent has several ways to put it: their first words alone tell at least four apart."""
    heads = defaultdict(set)
    for one in (*made(), *questions()):
        plain = re.sub(r"^(Hello!|Please[^.:]*[.:]|Quick question\.|I am preparing a report\.|A correction:"
                       r"|For our records:|There is a change to make\.|One more thing I need to know\.) ", "",
                       one.task.description)  # fmt: skip
        heads[one.intent].add(" ".join(plain.lower().split(" ")[:2]))
    often = [intent for intent, count in Counter(one.intent for one in (*made(), *questions())).items() if count >= 15]
    assert len(often) >= 12
    assert {intent: heads[intent] for intent in often if len(heads[intent]) < 4} == {}
    assert len({one.task.description for one in made()}) > MANY - 5


def test_words_are_clean():
    for one in made():
        text = one.task.description
        assert not re.search(r"  | ,|\{|\}|\?\?|\bNone\b|^\s|\s$", text), text
        for table in one.task.tables:
            assert table.name in one.task.add_description
            assert ",".join(table.columns) in one.task.add_description
    assert 0 < sum(bool(one.task.evidence) for one in made()) < MANY / 2


def test_tables_are_sound():
    nulls = 0
    for one in made():
        places = {}
        for table in one.task.tables:
            assert len({name.casefold() for name in table.columns}) == len(table.columns)
            assert 5 <= len(table.rows) <= 60
            assert all(map(known_type, table.types))
            columns = dict(zip(table.columns, zip(*table.rows, strict=True), strict=True))
            nulls += sum(None in cells for cells in columns.values())
            for name in table.primary_key:
                assert len(set(columns[name])) == len(table.rows)
                assert None not in columns[name]
            for key in table.foreign_keys:
                assert set(columns[key.columns[0]]) <= places[key.table, key.references[0]]
            places |= {(table.name, name): set(cells) for name, cells in columns.items()}
            if not table.types:
                assert all(isinstance(cell, str) for row in table.rows for cell in row)
    assert nulls > 50


def test_content_differs_between_tasks_and_splits():
    tasks = [one.task for one in made()]
    tasks += [generate(split, index) for split in GENERATED_SPLITS if split != "generated" for index in range(100)]
    assert len({task.public.content_hash for task in tasks}) == len(tasks)
    train = {task.tables for task in tasks if task.split == "generated"}
    assert not train & {task.tables for task in tasks if task.split == "generated_eval"}


def untouched_hash(task):
    hashes = []
    for table in task.tables:
        hasher = TableHasher()
        for row in table.rows:
            hasher.add(",".join(cell for cell in row if cell is not None))
        hashes.append(hasher.digest())
    return combine_hashes(hashes)


def test_doing_nothing_and_guessing_score_nothing():
    assert MANY >= 500
    for one in made():
        task = one.task
        if task.mutates:
            assert task.gold_hash
            assert task.gold_hash != untouched_hash(task)
            assert not task.gold_answers
        else:
            assert 1 <= len(task.gold_answers) <= MAX_ANSWERS
            assert answer_matches(list(task.gold_answers), task.gold_answers)
            for guess in [None, *trivial_guesses(task.tables)]:
                assert not answer_matches(guess, task.gold_answers), (task.index, guess)


def test_rejected_draws_are_counted():
    rejected = Counter()
    for index in range(100):
        make_task("generated", index, rejected)
    assert rejected["trivial"] > 0
    assert rejected["no answer"] > 0


def test_many_draws_are_never_needed():
    """A level, a type and a manner that no intent can serve would never end."""
    for split in GENERATED_SPLITS:
        for kind in DBBENCH.task_types:
            for position in range(6):
                rejected = Counter()
                make_task(split, index_of_type(kind, 1000 + position), rejected)
                assert rejected.total() < 600


def test_every_level_has_an_intent_of_either_manner():
    for offers in (
        generator_lookups.LOOKUPS,
        generator_counts.COUNTS,
        generator_comparisons.COMPARISONS,
        generator_inserts.INSERTS,
    ):
        for level in Level:
            assert [offer for offer in offers if level in offer.levels and offer.need in ("", "leaf")]


def test_sqlglot_is_loaded_by_the_first_task_only():
    code = (
        "import sys, envs.dbbench.generator as g; before = 'sqlglot' in sys.modules; g.generate('generated', 1); "
        "print(before, 'sqlglot' in sys.modules, 'faker' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, cwd=ROOT)
    assert out.stdout.split() == ["False", "True", "False"]


def test_the_first_task_of_many_threads_at_once_is_written_in_the_server_s_words():
    """sqlglot gives a dialect away while another thread still loads it: such a statement has no backticks."""
    code = (
        "import sys, threading\n"
        "from envs.dbbench.generator import generate\n"
        "sys.setswitchinterval(1e-5)\n"
        "start, found = threading.Barrier(8), []\n"
        "def work():\n"
        "    start.wait()\n"
        "    found.append(generate('generated', 297469728670).gold_sql)\n"
        "threads = [threading.Thread(target=work) for _ in range(8)]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]\n"
        "print(*set(found), sep='\\n')\n"
    )
    command = [sys.executable, "-c", code]
    outs = {subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, cwd=ROOT).stdout for _ in range(6)}
    assert len(outs) == 1
    (statement,) = outs.pop().splitlines()
    assert "UPDATE `Highest Peaks` SET `Huts`" in statement
