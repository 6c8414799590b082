"""Generated tasks on real servers: every gold statement makes what the generator says, on either kind alike."""

from __future__ import annotations

import contextlib
import json

import pytest
from typer.testing import CliRunner

from envs.commands import app
from envs.dbbench.backend import Limits
from envs.dbbench.family import DbBenchFamily
from envs.dbbench.generator import GENERATED_SPLITS, generate
from envs.dbbench.gold_check import check_gold
from envs.registry import DBBENCH
from tests.integration.dbbench.conftest import BINARIES
from tests.integration.dbbench.dbbench_helpers import commit, run

EACH = 120


def tasks_of_all_splits(count):
    """So many tasks, the splits in turn."""
    splits = tuple(GENERATED_SPLITS)
    return [generate(splits[number % len(splits)], 500 + number // len(splits)) for number in range(count)]


def test_the_gold_reproduces(family):
    report = check_gold(tasks_of_all_splits(EACH), family._backend, jobs=2)
    assert report.misses == ()
    assert (report.num_tasks, report.unchecked, report.untouched) == (EACH, 0, 0)


@pytest.mark.slow
def test_the_gold_of_many_tasks_reproduces(family):
    report = check_gold(tasks_of_all_splits(1000), family._backend, jobs=2)
    assert report.misses == ()
    assert (report.num_tasks, report.unchecked, report.untouched) == (1000, 0, 0)


def test_an_episode_of_several_statements_scores_when_all_are_run(family):
    """And not before: each statement is needed."""
    tasks = [task for task in tasks_of_all_splits(400) if len(task.gold_sql) > 1][:6]
    assert len(tasks) == 6
    for task in tasks:
        for count, reward in ((len(task.gold_sql), 1.0), (len(task.gold_sql) - 1, 0.0)):
            env = family.make()
            with contextlib.closing(env):
                env.reset(task.public)
                for statement in task.gold_sql[:count]:
                    assert run(env, statement).valid
                assert commit(env).reward == reward, task.public.id


def test_the_expert_wins_and_doing_nothing_does_not(family):
    for task in tasks_of_all_splits(40):
        env = family.make()
        with contextlib.closing(env):
            env.reset(task.public)
            result = None
            while (action := env.expert_action()) is not None:
                result = env.step(action)
            assert result is not None
            assert result.reward == 1.0, task.public.id
            env.reset(task.public)
            assert commit(env).reward == 0.0, task.public.id


def test_the_command_checks_what_it_wrote(tmp_path, any_binary, monkeypatch):
    monkeypatch.setenv("DBBENCH_SERVER_BINARY", any_binary)
    arguments = ["generate", "dbbench", "--out", str(tmp_path / "x.jsonl"), "--count", "25", "--check", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    gold = json.loads(result.output)["gold"]
    assert gold["ok"] is True
    assert sum(total for _, total in gold["types"].values()) == 25


def found(family, task):
    """What the server prints of the gold statement, and its rows, each as printed, sorted: most state no order."""
    session = family._backend.begin(Limits())
    try:
        session.load(task.tables)
        result = session.execute(task.gold_sql[0])
        return result.text, sorted(map(str, result.rows))
    finally:
        session.close()


@pytest.mark.slow
def test_mysql_and_mariadb_find_and_print_the_same():
    binaries = {kind: find() for kind, find in BINARIES.items()}
    missing = [kind for kind, binary in binaries.items() if binary is None]
    if missing:
        pytest.skip(f"no {missing[0]} server is installed")
    tasks = [task for task in tasks_of_all_splits(800) if not task.mutates][:200]
    assert len(tasks) == 200
    with contextlib.ExitStack() as stack:
        families = [
            stack.enter_context(contextlib.closing(DbBenchFamily(DBBENCH, server_binary=binary)))
            for binary in binaries.values()
        ]
        pairs = {task.public.id: [found(family, task) for family in families] for task in tasks}
    assert {name: pair for name, pair in pairs.items() if pair[0][1] != pair[1][1]} == {}
    assert sum(one[0] == two[0] for one, two in pairs.values()) >= 190
