from __future__ import annotations

import logging
import threading

import pytest

from envs.dbbench.backend import Backend, Limits, StatementFailed
from envs.dbbench.env import DbBenchEnv
from envs.dbbench.sqlite_backend import SqliteBackend
from envs.dbbench.tables import ForeignKey, Table
from envs.dbbench.tasks import find_task_files
from envs.errors import BackendUnavailable, CapacityExceeded, TaskDataError
from envs.types import Action

TEXTS = Table("t", ("a", "b"), (("1", "x"), ("2", "y")))
TYPED = Table(
    "people",
    ("id", "name", "born", "pay", "score", "seen", "at"),
    (
        ("1", "Ann", "1990-02-03", "1000.5", "1.50", "2023-05-06 07:08:09", "10:11:12"),
        ("2", "", None, "2", "1e20", None, None),
    ),
    ("INT", "VARCHAR(20)", "DATE", "DECIMAL(8,2)", "DOUBLE", "DATETIME", "TIME"),
    ("id",),
)


@pytest.fixture
def backend():
    backend = SqliteBackend()
    yield backend
    backend.close()


@pytest.fixture
def session(backend):
    session = backend.begin(Limits(), seed=1)
    session.load([TEXTS])
    return session


def play(task, backend) -> float:
    env = DbBenchEnv(backend, lambda _: task, Limits())
    try:
        env.reset(task.public)
        while True:
            result = env.step(env.expert_action())
            assert result.valid, (task.public.id, result.observation.text)
            if result.done:
                return result.reward
    finally:
        env.close()


def test_it_is_a_backend(backend):
    assert isinstance(backend, Backend)


def test_the_gold_scores_one_on_every_dev_task(backend):
    tasks = find_task_files(None)[0].tasks
    assert [task.public.id for task in tasks if play(task, backend) != 1.0] == []
    assert len(tasks) == 60
    assert backend.live == 0


def test_doing_nothing_scores_zero(backend):
    for task in find_task_files(None)[0].tasks:
        env = DbBenchEnv(backend, lambda _, task=task: task, Limits())
        env.reset(task.public)
        assert env.step(Action("commit_final_answer", {"answers": ["nothing of the kind"]})).reward == 0.0
        env.close()


def test_it_says_once_that_it_is_no_mysql(backend, caplog):
    with caplog.at_level(logging.WARNING):
        backend.start()
        backend.start()
        backend.begin(Limits())
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == 1
    assert "only approximates MySQL" in said[0]
    assert backend.version().startswith("sqlite 3.")
    assert backend.version().endswith("(approximates MySQL)")


def test_databases_are_counted_bounded_and_let_go():
    backend = SqliteBackend(max_live=2)
    one, two = backend.begin(Limits()), backend.begin(Limits())
    assert (one.backend, backend.live) == ("sqlite", 2)
    with pytest.raises(CapacityExceeded, match="2 episodes"):
        backend.begin(Limits())
    one.close()
    one.close()
    assert backend.live == 1
    three = backend.begin(Limits())
    backend.close()
    backend.close()
    assert backend.live == 0
    assert backend.problem() == "the environment has been closed"
    with pytest.raises(BackendUnavailable, match="closed"):
        backend.begin(Limits())
    two.close()
    three.close()


def test_episodes_do_not_see_each_other(backend):
    one, two = backend.begin(Limits()), backend.begin(Limits())
    one.load([TEXTS])
    assert one.execute("SHOW TABLES").text == "[('t',)]"
    assert two.execute("SHOW TABLES").text == "[]"


def test_steps_may_come_from_different_threads(session):
    found = []
    for number in range(3):
        worker = threading.Thread(target=lambda n=number: found.append(session.execute(f"SELECT {n}").text))
        worker.start()
        worker.join()
    assert found == ["[(0,)]", "[(1,)]", "[(2,)]"]


def test_rows_are_read_as_concat_ws_writes_them(backend):
    session = backend.begin(Limits())
    session.load([TYPED])
    assert list(session.rows_of("people", TYPED.columns)) == [
        "1,Ann,1990-02-03,1000.50,1.5,2023-05-06 07:08:09,10:11:12",
        "2,,2.00,1e20",
    ]
    assert list(session.rows_of("people", ["NAME", "id"])) == ["Ann,1", ",2"]


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("DROP TABLE t", r"1146 \(42S02\): Table 'dbbench.t' doesn't exist"),
        ("ALTER TABLE t DROP COLUMN b", r"1054 \(42S22\): Unknown column 'b'"),
        ("RENAME TABLE t TO u", "1146"),
    ],
)
def test_rows_that_cannot_be_read_are_a_failed_statement(session, statement, words):
    assert session.execute(statement).valid
    with pytest.raises(StatementFailed, match=words):
        list(session.rows_of("t", ["a", "b"]))


def test_a_view_in_the_place_of_a_table_is_read(session):
    for statement in ("RENAME TABLE t TO u", "CREATE VIEW t AS SELECT a, UPPER(b) AS b FROM u"):
        assert session.execute(statement).valid
    assert list(session.rows_of("t", ["a", "b"])) == ["1,X", "2,Y"]


@pytest.mark.parametrize(
    ("view", "words"),
    [
        ("SELECT (SELECT a FROM u) AS a, b FROM u", "1242"),
        ("SELECT REPEAT('x', 1000000000) AS a, b FROM u", "1301"),
        ("SELECT SLEEP(5) AS a, b FROM u", "timed out"),
    ],
)
def test_a_view_that_cannot_be_read_is_a_failed_statement(view, words):
    session = SqliteBackend().begin(Limits(seconds=0.2))
    session.load([TEXTS])
    for statement in ("RENAME TABLE t TO u", f"CREATE VIEW t AS {view}"):
        assert session.execute(statement).valid, statement
    with pytest.raises(StatementFailed, match=words):
        list(session.rows_of("t", ["a", "b"]))


def test_more_rows_than_the_limit_are_not_read():
    session = SqliteBackend().begin(Limits(rows=1))
    session.load([TEXTS])
    with pytest.raises(StatementFailed, match="too many rows"):
        list(session.rows_of("t", ["a"]))


def test_renew_drops_what_belongs_to_the_session(session):
    session.execute("CREATE TEMPORARY TABLE t (a INT)")
    session.execute("INSERT INTO t VALUES (5)")
    session.execute("SET @x = 1")
    assert session.execute("SELECT a, @x FROM t").text == "[(5, 1)]"
    session.renew()
    assert session.execute("SELECT a, @x FROM t").text == "[('1', None), ('2', None)]"


def test_a_repeated_episode_prints_the_same(backend):
    texts = []
    for seed in (1, 1, 2):
        session = backend.begin(Limits(), seed=seed)
        session.load([TEXTS])
        texts.append(session.execute("SELECT RAND(), UUID(), NOW() FROM t").text)
        session.close()
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize(
    "tables",
    [
        [Table("p", ("id",), (("x",),), ("INT",))],
        [Table("p", ("id",), (("1",), ("1",)), ("INT",), ("id",))],
        [Table("p", ("id",), (("1",),), ("INT",), ("nosuch",))],
        [
            Table("p", ("id",), (("1",),), ("INT",), ("id",)),
            Table("c", ("p",), (("2",),), ("INT",), (), (ForeignKey(("p",), "p", ("id",)),)),
        ],
    ],
    ids=["value", "duplicate", "key", "foreign key"],
)
def test_tables_that_are_wrong_are_the_tasks_fault(backend, tables):
    session = backend.begin(Limits())
    with pytest.raises(TaskDataError, match="refuses the task's tables"):
        session.load(tables)
