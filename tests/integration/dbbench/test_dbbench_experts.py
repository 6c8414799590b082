"""Experts on real servers: those that solve a task score 1, near misses 0, and asking leaves no trace."""

from __future__ import annotations

import logging
import random
from collections import Counter

import pytest
from dbbench_helpers import commit, run

from envs.dbbench.experts import EXPERTS, MAX_SCRIPT, NEAR_MISSES
from envs.errors import BackendUnavailable, InvalidOption
from envs.registry import DBBENCH

SOLVERS = ("explorer", "repair")


def play(family, task, expert: str, *, seed: int = 0, rules: str = "fc"):
    """The steps' results and queries, or None where the expert knows nothing from the start."""
    env = family.make()
    try:
        env.reset(task, seed=seed, options={"rules": rules})
        results, queries = [], []
        while (action := env.expert_action(expert)) is not None:
            queries.append(next(iter(action.arguments.values())))
            results.append(env.step(action))
            if results[-1].done:
                return results, queries
        assert not results, f"{expert} does not finish {task.id}"
        return None
    finally:
        env.close()


@pytest.fixture(scope="module")
def chosen(family):
    """Tasks of every type: generated ones of all levels, and every third of AgentBench's."""
    found = [task for split in ("generated", "generated_hard") for task in family.tasks(split, limit=26).tasks]
    return [*found, *family.tasks("dev").tasks[::3]]


@pytest.mark.parametrize("expert", SOLVERS)
def test_those_who_solve_a_task_score_one(family, chosen, expert):
    assert {task.type for task in chosen} >= set(DBBENCH.task_types) - {"DELETE"}
    for task in chosen:
        results, queries = play(family, task, expert)
        refused = [result for result in results if not result.valid]
        assert results[-1].reward == 1.0, (task.id, queries)
        assert len(results) <= MAX_SCRIPT
        assert len(refused) == (expert == "repair"), (task.id, queries)
        if expert == "repair":
            place = results.index(refused[0])
            assert any(result.valid for result in results[place + 1 : -1]), (
                "the error is followed by a better statement"
            )
    assert family.live_databases == 0


def test_near_misses_score_nothing_after_statements_that_were_accepted(family, chosen):
    offered = Counter()
    for task in chosen:
        without_gold = task.id.startswith("dev/") and task.type not in ("INSERT", "UPDATE")
        for expert in NEAR_MISSES:
            played = play(family, task, expert)
            if played is None:
                continue
            assert not without_gold
            results, queries = played
            assert results[-1].terminated
            assert results[-1].reward == 0.0, (task.id, expert, queries)
            assert len(results) <= MAX_SCRIPT
            assert all(result.valid for result in results), (task.id, expert, queries)
            offered[task.id] += 1
    with_gold = [t for t in chosen if not t.id.startswith("dev/") or t.type in ("INSERT", "UPDATE")]
    assert sum(offered[task.id] > 0 for task in with_gold) >= 0.95 * len(with_gold)
    assert family.live_databases == 0


def test_a_near_miss_s_answer_stood_in_its_last_result(family):
    seen = 0
    for task in family.tasks("generated", type="counting", limit=6).tasks:
        played = play(family, task, "missing_filter")
        if played is None:
            continue
        results, queries = played
        assert [str(value) for value in queries[-1]] == [results[-2].observation.text.strip("[](),")]
        seen += 1
    assert seen > 2


@pytest.mark.parametrize("expert", EXPERTS)
def test_the_same_seed_plays_the_same_and_scores_alike_by_either_rules(family, expert):
    for task in family.tasks("generated", limit=6).tasks:
        first, again, classic = (play(family, task, expert, seed=3, rules=rules) for rules in ("fc", "fc", "classic"))
        if first is None:
            assert again is classic is None
            continue
        assert first[1] == again[1] == classic[1]
        texts = [[result.observation for result in played[0]] for played in (first, again)]
        assert texts[0] == texts[1]
        assert first[0][-1].reward == again[0][-1].reward == classic[0][-1].reward


def test_asking_leaves_no_trace(family):
    task = family.tasks("generated", type="UPDATE", limit=1).tasks[0]
    env = family.make()
    env.reset(task)
    for expert in EXPERTS:
        env.expert_action(expert)
    assert family.live_databases == 1, "what was tried out is gone"
    assert commit(env).reward == 0.0, "and has changed nothing here"
    assert [env.expert_action(expert) for expert in EXPERTS] == [None] * len(EXPERTS)
    env.close()


def test_no_statement_of_an_expert_is_logged(family, caplog):
    with caplog.at_level(logging.DEBUG):
        for task in family.tasks("generated", limit=6).tasks:
            for expert in EXPERTS:
                play(family, task, expert)
    for task in family.tasks("generated", limit=6).tasks:
        for secret in (*family._find(task.id).gold_sql, *family._find(task.id).gold_answers):
            assert len(secret) < 4 or secret not in caplog.text


def test_an_unknown_expert_is_named(episode):
    with pytest.raises(InvalidOption, match=r"no expert 'oracle'.*gold, explorer, repair, wrong_column"):
        episode().expert_action("oracle")


def test_the_expert_goes_on_after_what_the_policy_did(family):
    """The gold statement counts whoever ran it; a refused one does not."""
    task = family._find(family.tasks("generated", type="UPDATE", limit=1).tasks[0].id)
    env = family.make()
    env.reset(task.public)
    run(env, "SELEC 1")
    run(env, "SELECT 1")
    for statement in task.gold_sql:
        assert env.expert_action().arguments == {"query": statement}
        assert run(env, statement).valid
    action = env.expert_action()
    assert action.name == "commit_final_answer"
    assert env.step(action).reward == 1.0
    env.close()


@pytest.mark.parametrize("expert", ["gold", *SOLVERS])
def test_a_solver_solves_after_any_beginning_of_the_policy(family, expert):
    """Statements that look, that are refused, and gold ones in order, drawn and shuffled."""
    for index in range(24):
        task = family._find(f"generated_hard/{index}")
        draw = random.Random(f"{expert}/{index}")
        name = f"`{task.tables[0].name}`"
        others = [
            "SELEC 1",
            "SHOW TABLES",
            f"DESCRIBE {name}",
            f"SELECT * FROM {name} LIMIT 3",
            "SELECT 1",
            "DROP TABLE x",
        ]
        prefix = draw.sample(others, draw.randrange(5))
        places = sorted(draw.randrange(len(prefix) + 1) for _ in task.gold_sql)
        done = draw.randrange(len(task.gold_sql) + 1)
        for offset, (place, statement) in enumerate(zip(places[:done], task.gold_sql, strict=False)):
            prefix.insert(place + offset, statement)
        env = family.make()
        env.reset(task.public, seed=index)
        for statement in prefix:
            run(env, statement)
        result = None
        while (action := env.expert_action(expert)) is not None:
            result = env.step(action)
        env.close()
        assert result is not None
        assert result.reward == 1.0, (task.public.id, prefix)


def test_where_no_database_is_free_an_erring_expert_says_so(any_binary):
    from envs.dbbench.family import DbBenchFamily

    small = DbBenchFamily(DBBENCH, server_binary=any_binary, max_connections=1)
    try:
        env = small.make()
        env.reset(small.tasks("generated", type="UPDATE", limit=1).tasks[0])
        assert env.expert_action("explorer") is not None
        with pytest.raises(BackendUnavailable, match="no database is free"):
            env.expert_action("missing_filter")
        env.close()
    finally:
        small.close()


@pytest.mark.parametrize("term", ["executable", "right_table", "overlap", "step_cost", "invalid_cost"])
def test_shaping_terms_of_the_explorer(family, term):
    for task in family.tasks("generated", limit=14).tasks:
        env = family.make()
        env.reset(task, options={"shaping": [term]})
        told = []
        while (action := env.expert_action("explorer")) is not None:
            told.append(env.step(action).info["shaping"])
        env.close()
        assert [set(values) for values in told] == [{term}] * len(told)
        total = sum(values[term] for values in told)
        wanted = {
            "executable": len(told) - 1,
            "right_table": 1.0,
            "overlap": 0.0 if task.type in ("INSERT", "UPDATE", "DELETE") else 1.0,
            "step_cost": -len(told),
            "invalid_cost": 0.0,
        }
        assert total == pytest.approx(wanted[term]), (task.id, told)


def test_shaping_is_off_unless_asked_for_and_refused_for_evaluation(family):
    env = family.make()
    env.reset(family.task("generated/1"))
    assert "shaping" not in run(env, "SHOW TABLES").info
    for task_id in ("dev/0", "generated_eval/1"):
        with pytest.raises(InvalidOption, match="evaluation split"):
            env.reset(family.task(task_id), options={"shaping": ["step_cost"]})
        env.reset(family.task(task_id), options={"shaping": [], "shaping_gamma": 1.0})
    env.reset(family.task("generated/1"), options={"shaping": ["invalid_cost", "step_cost"]})
    assert run(env, "SELEC 1").info["shaping"] == {"invalid_cost": -1.0, "step_cost": -1.0}
    assert commit(env, "x").info["shaping"] == {"invalid_cost": 0.0, "step_cost": -1.0}
    env.close()
    assert family.live_databases == 0
