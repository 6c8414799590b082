from __future__ import annotations

import pytest
from dbbench_helpers import commit, run

from envs.errors import EpisodeOver, InvalidAction, InvalidOption, UnknownTask
from envs.types import Action


def play_expert(family, task) -> float:
    env = family.make()
    try:
        env.reset(task)
        while True:
            action = env.expert_action()
            assert action is not None
            result = env.step(action)
            assert result.valid, (task.id, action, result.observation.text)
            if result.done:
                assert result.terminated
                return result.reward
    finally:
        env.close()


def test_the_gold_scores_one_on_every_dev_task(family):
    tasks = family.tasks("dev").tasks
    assert len(tasks) == 60
    assert sum(task.type in ("INSERT", "UPDATE") for task in tasks) == 40
    missed = [task.id for task in tasks if play_expert(family, task) != 1.0]
    assert missed == []
    assert family.live_databases == 0


@pytest.mark.parametrize("split", ["dev", "generated"])
def test_doing_nothing_scores_zero(family, split):
    for task in family.tasks(split, limit=48).tasks:
        env = family.make()
        env.reset(task)
        assert commit(env).reward == 0.0, task.id
        env.close()


def test_the_gold_of_generated_tasks_scores_one(family):
    missed = [task.id for task in family.tasks("generated", limit=120).tasks if play_expert(family, task) != 1.0]
    assert missed == []


def test_the_first_observation_is_the_function_calling_user_message(family):
    env = family.make()
    text = env.reset(family.task("dev/20")).text
    env.close()
    assert text == (
        "Additional table information about the question: The name of this table is School Location Table, and the "
        "headers of this table are School,Location,Date moved,Currently at this location.\n"
        "Question: Insert 'Madison High School' into 'School Location Table' with values 'San Diego' for 'Location', "
        "'1980' for 'Date moved', and 'nearby junior high school' for 'Currently at this location'.\n"
    )


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("SELECT 1, 'a', NULL", "[(1, 'a', None)]"),
        ("SELECT CAST(1.5 AS DECIMAL(5,2)), 1e0", "[(Decimal('1.50'), 1.0)]"),
        ("SELECT DATE('2020-01-02'), TIMESTAMP('2020-01-02 03:04:05')",
         "[(datetime.date(2020, 1, 2), datetime.datetime(2020, 1, 2, 3, 4, 5))]"),
        ("SELECT CAST('12:00' AS TIME)", "[(datetime.timedelta(seconds=43200),)]"),
        ("SELECT 1 FROM (SELECT 1) t WHERE 1 = 0", "[]"),
        ("CREATE TABLE empty_result (a INT)", "[]"),
        ("SELECT DATABASE()", "[('dbbench',)]"),
        ("SELECT NOW()", "[(datetime.datetime(2024, 1, 1, 0, 0),)]"),
        ("SELECT '100%', '%s'", "[('100%', '%s')]"),
    ],
)  # fmt: skip
def test_results_are_printed_as_agentbench_prints_them(episode, statement, text):
    result = run(episode(), statement)
    assert (result.observation.text, result.valid) == (text, True)


@pytest.mark.parametrize(
    ("statement", "beginning"),
    [
        ("SELEC 1", "1064 (42000): You have an error in your SQL syntax;"),
        ("SELECT * FROM missing", "1146 (42S02): Table 'dbbench.missing' doesn't exist"),
        ("", "1065 (42000): Query was empty"),
        ("SELECT 1; SELECT 2", "1064 (42000): You have an error in your SQL syntax;"),
    ],
)
def test_errors_are_worded_as_mysql_connector_words_them(episode, statement, beginning):
    result = run(episode(), statement)
    assert not result.valid
    assert result.observation.text.startswith(beginning)


def test_column_types_of_mysql_connector(episode):
    env = episode()
    run(env, "CREATE TABLE kinds (b BIT(4), s SET('x','y'), y YEAR, d DECIMAL(6,2), j TEXT, r BLOB)")
    assert run(env, "INSERT INTO kinds VALUES (5, 'y,x', 1999, 2.5, 'ä', x'00ff')").valid
    shown = run(env, "SELECT * FROM kinds").observation.text
    assert shown == "[(5, {'x', 'y'}, 1999, Decimal('2.50'), 'ä', b'\\x00\\xff')]"
    run(env, "UPDATE kinds SET s = ''")
    assert run(env, "SELECT s FROM kinds").observation.text == "[(set(),)]"


def test_long_results_are_cut_and_huge_ones_are_not_fetched(episode):
    env = episode()
    text = run(env, "SELECT REPEAT('x', 2000)").observation.text
    assert text == "[('" + "x" * 797 + "[TRUNCATED]"
    run(
        env,
        "CREATE TABLE digits AS SELECT 0 d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5",
    )
    huge = run(env, "SELECT 'row' FROM digits a, digits b, digits c, digits d, digits e, digits f")
    assert huge.valid
    assert huge.observation.text.startswith("[('row',), ('row',)")
    assert run(env, "SELECT 7").observation.text == "[(7,)]"


def test_the_same_actions_give_the_same_observations(episode):
    statements = [
        "SELECT DATABASE(), USER()",
        "SHOW TABLES",
        "SELECT RAND()",
        "SELECT * FROM nothing",
        "SELECT 1 FROM dbbench.nothing",
        "SELECT DISTINCT table_schema FROM information_schema.tables WHERE table_schema = 'dbbench'",
    ]
    runs = [[run(env, statement).observation.text for statement in statements] for env in (episode(), episode())]
    assert runs[0] == runs[1]
    assert runs[0][-1] == "[('dbbench',)]"
    assert "envloop" not in "".join(runs[0])


def test_a_transaction_never_spans_two_statements(episode):
    env = episode("generated/1")
    run(env, "CREATE TABLE kept (a INT)")
    for statement in ("START TRANSACTION", "INSERT INTO kept VALUES (1)", "ROLLBACK"):
        assert run(env, statement).valid
    assert run(env, "SELECT * FROM kept").observation.text == "[(1,)]"


def test_a_mutation_is_judged_by_the_table_and_not_by_the_answer(episode):
    for name, right in (("generated/0", True), ("generated/0", False)):
        env = episode(name)
        if right:
            assert run(env, env.expert_action().arguments["query"]).valid
        assert commit(env, "anything").reward == float(right)


@pytest.mark.parametrize(
    "trick",
    [
        "DROP TABLE {table}",
        "DELETE FROM {table}",
        "ALTER TABLE {table} RENAME TO elsewhere",
        "DROP DATABASE dbbench",
        "CREATE TEMPORARY TABLE {table} AS SELECT * FROM {table}",
    ],
)
def test_a_broken_table_scores_zero_and_is_no_infrastructure_error(episode, family, trick):
    env = episode()
    name = f"`{family.task('generated/0').metadata['tables'][0]['name']}`"
    run(env, trick.format(table=name))
    assert commit(env, "x").reward == 0.0


def test_shapes_options_and_ends(episode, family):
    env = episode(max_steps=2)
    for action in (
        Action("drop_everything", {}),
        Action("execute_sql", {}),
        Action("execute_sql", {"query": 1}),
        Action("execute_sql", {"query": "SELECT 1", "more": 1}),
        Action("commit_final_answer", {"answers": {"a": 1}}),
        Action("commit_final_answer", {"answers": [["a"]]}),
    ):
        with pytest.raises(InvalidAction):
            env.step(action)
    assert not run(env, "SELECT 1").done
    last = run(env, "SELECT 1")
    assert (last.truncated, last.terminated, last.reward) == (True, False, 0.0)
    with pytest.raises(EpisodeOver):
        run(env, "SELECT 1")
    assert env.expert_action() is None
    for options in ({"rules": "strict"}, {"max_steps": 0}, {"max_steps": "3"}, {"color": 1}):
        with pytest.raises(InvalidOption):
            episode(**options)
    for wrong in ("dev/60", "dev/-1", "dev/01", "nowhere/1", "generated/x", "dev", "generated/" + "9" * 30):
        with pytest.raises(UnknownTask):
            family.task(wrong)


def test_classic_rules_are_exact(episode):
    for rules, reward in (("fc", 1.0), ("classic", 0.0)):
        env = episode("dev/18", rules=rules)
        (gold,) = env.expert_action().arguments["answers"]
        assert commit(env, str(float(gold) + 0.005)).reward == reward
        assert commit(episode("dev/18", rules=rules), gold).reward == 1.0
