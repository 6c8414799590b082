"""DB Bench's benchmarks can be asked for help, play episodes that win, and print figures of one shape."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from envs.dbbench.tasks import find_task_files
from envs.types import EpisodeStatus

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SCRIPTS = ("dbbench_endurance", "dbbench_episodes", "dbbench_faults")


@pytest.fixture
def load(monkeypatch):
    """A benchmark's module, as its script finds it."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module
    for name in (*SCRIPTS, "_dbbench", "_figures"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_names_what_every_benchmark_takes(name):
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--help"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    for option in ("--json", "--quick", "--server-binary"):
        assert option in said


def test_a_script_ends_a_change_with_its_gold_and_a_question_with_its_answer(load):
    played = load("_dbbench").scripts()
    tasks = find_task_files(None)[0].tasks
    assert [script.task_id for script in played] == [f"dev/{index}" for index in range(len(tasks))]
    for script, task in zip(played, tasks, strict=True):
        assert len(script.statements) == 4
        if task.mutates:
            assert script.statements[-1].arguments["query"] == task.gold_sql[0]
        else:
            assert script.commit.arguments["answers"] == list(task.gold_answers)


def test_a_percentile_is_a_value_that_so_many_do_not_exceed(load):
    percentile = load("_dbbench").percentile
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert [percentile(values, share) for share in (0.0, 0.2, 0.5, 0.95, 1.0)] == [1.0, 1.0, 3.0, 5.0, 5.0]


def test_only_mariadb_has_bars(load):
    figures = load("dbbench_episodes").Figures
    slow = figures("10.11.6-MariaDB").at_least("in_process.episodes_per_second_32", 149, "1/s", 150)
    assert (slow.name, slow.holds) == ("dbbench.mariadb.in_process.episodes_per_second_32", False)
    other = figures("9.7.0").at_least("in_process.episodes_per_second_32", 1, "1/s", 150)
    assert (other.name, other.bar, other.holds) == ("dbbench.mysql.in_process.episodes_per_second_32", None, None)


def test_an_ending_after_a_kill_is_lost_only_with_a_score(load):
    ending = load("dbbench_faults")._ending
    assert ending(EpisodeStatus.INFRASTRUCTURE_ERROR, None) == "infrastructure_error"
    assert ending(EpisodeStatus.COMPLETED, 1.0) == "won"
    assert ending(EpisodeStatus.COMPLETED, 0.0) == "lost"
    assert ending(EpisodeStatus.RUNNING, 0.0) == "other"


def test_what_is_left_misses_its_bar(load):
    benchmark = load("dbbench_endurance")
    held = {"memory": 100 * 2**20, "descriptors": 20, "threads": 40}
    played = {"played": 285, "vanished": 15, "rate": 100, "p95": 300}

    def missed(**changes: int) -> set[str]:
        after = {key: held[key] + changes.get(key, 0) for key in held}
        on_server = {what: number + changes.get(what, 0) for what, number in benchmark.READY.items()}
        found = {"before": held, "after": after, "left": on_server, "played": played}
        shown = benchmark.figures(
            found, {"databases": changes.get("databases_in_the_end", 0)}, 0, changes.get("files", 0)
        )
        return {figure.name.removeprefix("dbbench.endurance.") for figure in shown if figure.holds is False}

    assert missed() == set()
    assert missed(memory=4 * 2**20) == set()
    assert missed(memory=6 * 2**20) == {"memory_growth"}
    assert missed(users=1, threads=1) == {"users_left", "threads_grown"}
    assert missed(registered_services=1) == {"registered_services_left"}
    assert missed(databases_in_the_end=1, files=1) == {"databases_left_after_end", "temporary_files_left"}
