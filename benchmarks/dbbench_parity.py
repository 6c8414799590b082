"""Whether AgentBench's gold reproduces on every server given: its changes make the stored hash, its answers pass.

``--server-binary`` names a mysqld or mariadbd and may be repeated; without it, the one that is found. ``--data`` takes
another task file than the bundled dev split, such as the standard one, of whose 200 changes one is known to miss.
``--quick`` is the same: the whole takes seconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

from _figures import Figure, at_least, at_most, run, value

from envs.dbbench.gold_check import GoldReport, check_gold
from envs.dbbench.scoring import MUTATION_TYPES
from envs.dbbench.server_backend import ServerBackend
from envs.dbbench.tasks import DbTask, TaskFile, find_task_files
from envs.types import SplitRole

JOBS = 8


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--server-binary", action="append", default=[], help="a mysqld or mariadbd; may be repeated")
    parser.add_argument("--data", type=Path, default=None, help="a task file; default: the bundled dev split")


def measure(arguments: argparse.Namespace) -> Iterator[Figure]:
    if arguments.data is None:
        tasks = find_task_files(None)[0].tasks
    else:
        tasks = TaskFile(arguments.data.name.partition(".")[0], arguments.data, SplitRole.EVALUATION).tasks
    for binary in arguments.server_binary or [None]:
        backend = ServerBackend(binary=binary, max_live=2 * JOBS + 8)
        try:
            kind = "mariadb" if "mariadb" in backend.version().lower() else "mysql"
            began = time.perf_counter()
            reports = {rules: check_gold(tasks, backend, rules=rules, jobs=JOBS) for rules in ("fc", "classic")}
            seconds = (time.perf_counter() - began) / len(reports)
        finally:
            backend.close()
        yield from figures(f"dbbench.parity.{kind}", tasks, reports)
        yield value(f"dbbench.parity.{kind}.tasks_checked", len(tasks) / seconds, "1/s")


def figures(name: str, tasks: tuple[DbTask, ...], reports: dict[str, GoldReport]) -> Iterator[Figure]:
    changes = sum(task.type in MUTATION_TYPES for task in tasks)
    fc = reports["fc"]
    known = sum(miss.known for miss in fc.misses)
    good = {kind: count for kind, (count, _) in fc.types.items()}
    made = sum(count for kind, count in good.items() if kind in MUTATION_TYPES)
    yield at_least(f"{name}.changes", made, f"of {changes}", changes - known)
    for rules, report in reports.items():
        answered = sum(count for count, _ in report.types.values())
        yield at_least(f"{name}.answers_{rules}", answered, f"of {len(tasks)}", len(tasks) - known)
    yield at_most(f"{name}.untouched_with_gold_hash", fc.untouched, "1", 0)


if __name__ == "__main__":
    run((__doc__ or "").splitlines()[0], measure, options=options)
