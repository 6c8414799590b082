"""Experts of a database without one: scripts, and how they go on after whatever was done before."""

from __future__ import annotations

import itertools
import subprocess
import sys
from dataclasses import replace
from typing import Any, NoReturn

import pytest

from envs.dbbench.backend import EpisodeSession, StatementResult
from envs.dbbench.experts import EXPERTS, MAX_SCRIPT, NEAR_MISSES, Experts
from envs.dbbench.looks import concerned_tables, explore
from envs.dbbench.tables import Table
from envs.dbbench.tasks import DbTask
from envs.draws import Draws
from envs.errors import BackendUnavailable, CapacityExceeded
from envs.types import Action

TABLES = (
    Table("books", ("Title", "Author", "Pages"), (("Tide", "Ito", "120"), ("Fog", "Kim", "80"))),
    Table("sales", ("book", "sold"), (("Tide", "3"),)),
)
UPDATE = "UPDATE `books` SET `Pages` = '90' WHERE `Title` = 'Fog'"
INSERT = "INSERT INTO `sales` (`book`, `sold`) VALUES ('Fog', '1')"


def task(kind: str = "UPDATE", *gold: str, **changes: Any) -> DbTask:
    answers = () if kind in ("INSERT", "UPDATE", "DELETE") else ("80",)
    values: dict[str, Any] = {
        "env": "dbbench", "split": "generated", "index": 7, "type": kind, "tables": TABLES, "description": "?",
        "gold_answers": answers, "gold_sql": gold, "gold_hash": "" if answers else "0" * 32,
    }  # fmt: skip
    return DbTask(**values | changes)


def no_database() -> NoReturn:
    raise AssertionError("this expert needs no database")


def experts(of: DbTask, seed: int = 0) -> Experts:
    return Experts(of, seed=seed, begin=no_database)


def asked(action: Action | None) -> str:
    assert action is not None
    return str(next(iter(action.arguments.values())))


def script(of: DbTask, expert: str, seed: int = 0, text: str = "[]") -> list[str]:
    """All that the expert does where the database accepts everything."""
    made = experts(of, seed)
    done = []
    for _ in range(30):
        action = made.action(expert)
        done.append(asked(action))
        if action is not None and action.name == "commit_final_answer":
            return done
        made.note(done[-1], StatementResult(text, valid=True, seconds=0.0))
    raise AssertionError("it never commits")


def test_the_gold_runs_every_statement_in_order_then_commits() -> None:
    assert script(task("UPDATE", UPDATE, INSERT), "gold") == [UPDATE, INSERT, "['done']"]
    assert script(task("counting", "SELECT 1"), "gold") == ["SELECT 1", "['80']"]
    assert script(task("counting"), "gold") == ["['80']"]


def test_gold_statements_count_where_they_were_accepted_in_order_whoever_wrote_them() -> None:
    made = experts(task("UPDATE", UPDATE, INSERT))

    def note(query: str, *, valid: bool = True) -> str:
        made.note(query, StatementResult("[]", valid=valid, seconds=0.0))
        return asked(made.action("gold"))

    assert note(INSERT) == UPDATE, "out of order"
    assert note("SELECT 1") == UPDATE
    made.note(UPDATE, StatementResult("1064", valid=False, seconds=0.0))
    assert made.action("gold") is None, "it has just been refused: again would be the same"
    assert note("SELECT 2") == UPDATE, "something was done since"
    assert note(f" {UPDATE}\n") == INSERT, "as the classic protocol passes it on"
    assert note("SELECT 3") == INSERT
    assert note(INSERT) == "['done']"
    assert note("DROP TABLE books") == "['done']"


def test_the_explorer_looks_before_and_after_and_never_too_long() -> None:
    for of in (
        task("UPDATE", UPDATE, INSERT),
        task("INSERT", INSERT),
        task("counting", "SELECT Pages FROM books"),
        task("other"),
    ):
        scripts = [script(of, "explorer", seed) for seed in range(40)]
        assert len(set(map(tuple, scripts))) > 5, "drawn by the seed"
        assert all(len(lines) <= MAX_SCRIPT for lines in scripts)
        for lines in scripts:
            assert [line for line in lines if line in of.gold_sql] == list(of.gold_sql)
            assert lines[0] not in of.gold_sql
            assert lines[-1] in ("['done']", "['80']")
    update = list(itertools.chain(*(script(task("UPDATE", UPDATE), "explorer", seed) for seed in range(40))))
    for look in ("SHOW TABLES", "DESCRIBE `books`", "SHOW COLUMNS FROM `books`", "SELECT COUNT(*) FROM `books`",
                 "SELECT * FROM `books` LIMIT 3", "SELECT * FROM `books` WHERE `Title` = 'Fog' LIMIT 10"):  # fmt: skip
        assert look in update
    assert not any("sales" in line for line in update), "a table that does not matter"


@pytest.mark.parametrize(
    ("kind", "gold", "check"),
    [
        ("UPDATE", "UPDATE books SET Pages = '1' WHERE Pages = '80'", "SELECT * FROM books WHERE Pages = '1' LIMIT 10"),
        ("DELETE", "DELETE FROM books WHERE Pages = '80'", "SELECT COUNT(*) FROM books WHERE Pages = '80'"),
        ("INSERT", INSERT, "SELECT * FROM `sales` WHERE `book` = 'Fog' LIMIT 5"),
    ],
)
def test_what_a_change_did_is_looked_at(kind: str, gold: str, check: str) -> None:
    outcomes = [explore(task(kind, gold), Draws(f"{seed}"), room=8)[1] for seed in range(12)]
    assert [check] in outcomes
    assert [] in outcomes


def test_there_may_be_no_room_to_look() -> None:
    many = tuple(f"INSERT INTO sales (book) VALUES ('{i}')" for i in range(12))
    assert script(task("INSERT", *many), "explorer") == [*many, "['done']"]


def test_the_tables_that_matter_are_those_of_the_gold_or_all() -> None:
    assert [t.name for t in concerned_tables(task("UPDATE", UPDATE))] == ["books"]
    assert [t.name for t in concerned_tables(task("INSERT", INSERT, UPDATE))] == ["sales", "books"]
    assert [t.name for t in concerned_tables(task("other"))] == ["books", "sales"]
    assert [t.name for t in concerned_tables(task("other", "SELECT 1 FROM (((("))] == ["books", "sales"]


def test_an_explorer_goes_on_where_others_have_looked() -> None:
    of = task("UPDATE", UPDATE)
    lines = script(of, "explorer", 3)
    made = experts(of, 3)
    for line in lines[:2]:
        made.note("SELECT 'something else'", StatementResult("[]", valid=True, seconds=0.0))
        made.note(line, StatementResult("1146", valid=False, seconds=0.0))
    assert asked(made.action("explorer")) == lines[2], "a look that failed is not looked again"


@pytest.mark.parametrize("seed", range(8))
def test_a_gold_statement_that_the_policy_ran_is_not_run_again(seed: int) -> None:
    """A second UPDATE that raises by 10 would raise twice."""
    raised = "UPDATE `books` SET `Pages` = `Pages` + 10 WHERE `Title` = 'Fog'"
    of = task("UPDATE", raised, INSERT)
    made = experts(of, seed)
    made.note(raised, StatementResult("[]", valid=True, seconds=0.0))
    left = []
    while (action := made.action("explorer")) is not None and action.name == "execute_sql":
        left.append(asked(action))
        made.note(left[-1], StatementResult("[]", valid=True, seconds=0.0))
    assert left[0] == INSERT
    assert left.count(INSERT) == 1
    assert raised not in left


def test_near_misses_know_nothing_without_gold_statements() -> None:
    assert ("gold", "explorer", "repair", *NEAR_MISSES) == EXPERTS
    for expert in NEAR_MISSES:
        assert experts(task("other")).action(expert) is None


class FakeDatabase:
    """A session that refuses what holds a word, and shows the same for all else; counts what was begun and closed."""

    def __init__(self, refuses: str, shows: str = "[]") -> None:
        self.refuses = refuses
        self.shows = shows
        self.open = 0

    def begin(self) -> EpisodeSession:
        self.open += 1
        return self  # type: ignore[return-value]

    def load(self, tables: Any) -> None:
        pass

    def execute(self, statement: str) -> StatementResult:
        refused = self.refuses in statement
        return StatementResult("refused" if refused else self.shows, valid=not refused, seconds=0.0)

    def rows_of(self, table: str, columns: Any) -> list[str]:
        return ["a row"]

    def close(self) -> None:
        self.open -= 1


def test_a_slip_that_the_database_accepts_is_none() -> None:
    database = FakeDatabase("never written")
    made = Experts(task("counting", "SELECT Pages FROM books"), seed=0, begin=database.begin)
    assert made.action("repair") is None
    assert database.open == 0


def test_a_near_miss_that_scores_is_none_and_one_that_shows_something_is_preferred() -> None:
    of = task("counting", "SELECT Pages FROM books WHERE Title = 'Fog' AND Author = 'Kim'")
    scoring = FakeDatabase("never written", shows="[('80',)]")
    assert Experts(of, seed=0, begin=scoring.begin).action("missing_filter") is None
    empty = FakeDatabase("never written", shows="[]")
    made = Experts(of, seed=0, begin=empty.begin)
    assert made.action("missing_filter") is not None, "an empty result is a miss where there is no better"
    assert (scoring.open, empty.open) == (0, 0)


def test_a_near_miss_commits_what_it_was_shown() -> None:
    of = task("counting", "SELECT Pages FROM books WHERE Title = 'Fog'")
    database = FakeDatabase("never written", shows="[('120',), ('7',)]")
    made = Experts(of, seed=0, begin=database.begin)
    action = made.action("missing_filter")
    while action is not None and action.name == "execute_sql":
        last = asked(action)
        made.note(last, StatementResult("[(1,), (Decimal('2.5'),), (None,)]", valid=True, seconds=0.0))
        action = made.action("missing_filter")
    assert action == Action("commit_final_answer", {"answers": ["1", "2.5", "none"]})
    made.note("SELECT 'something else'", StatementResult("[('other',)]", valid=True, seconds=0.0))
    assert asked(made.action("missing_filter")) == last, "its own result is read again"


def test_no_free_database_is_a_failure_of_the_machinery() -> None:
    def full() -> EpisodeSession:
        raise CapacityExceeded("all are taken")

    made = Experts(task("counting", "SELECT Pages FROM books"), seed=0, begin=full)
    assert made.action("explorer") is not None
    with pytest.raises(BackendUnavailable, match="all are taken"):
        made.action("repair")


def test_what_is_drawn_is_a_matter_of_seed_and_task() -> None:
    of = task("UPDATE", UPDATE)
    assert script(of, "explorer", 5) == script(of, "explorer", 5)
    others = {tuple(script(replace(of, index=index), "explorer", 5)) for index in range(12)}
    assert len(others) > 3


def test_the_gold_loads_no_parser() -> None:
    code = (
        "import sys, envs.dbbench.env, rollout_server.engines.scripted, trainer.config; "
        "print(sorted({'sqlglot', 'pymysql'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert out.stdout.strip() == "[]"
