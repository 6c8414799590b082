"""On how many tasks MySQL, MariaDB and SQLite agree, and how long an episode and a statement take on SQLite.

For each pair: the share of tasks whose gold scores the same, and of tasks on which every statement prints the same:
what a policy asks first, and the gold's. Tasks: the dev split, the files of ``ENVLOOP_SHARED`` (or ``../shared``) and
1,000 generated ones, 100 with ``--quick``. ``--server-binary`` names a mysqld or mariadbd and may be repeated; without
it, what is found. ``--show`` prints each difference to standard error.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from _figures import Figure, at_least, at_most, run, value

from envs.dbbench.backend import Backend, Limits
from envs.dbbench.backend_differences import TaskComparison, compare_backends
from envs.dbbench.generator import generate
from envs.dbbench.server_backend import ServerBackend
from envs.dbbench.sqlite_backend import SqliteBackend
from envs.dbbench.tasks import DbTask, find_task_files

ROOT = Path(__file__).resolve().parents[1]
_STATEMENTS = ("SHOW TABLES", "SELECT COUNT(*) FROM {table}", "SELECT * FROM {table} LIMIT 3")


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--server-binary", action="append", default=[], help="a mysqld or mariadbd; may be repeated")
    parser.add_argument("--show", action="store_true", help="each difference, to standard error")


def measure(arguments: argparse.Namespace) -> Iterator[Figure]:
    logging.getLogger("envs.dbbench.sqlite_backend").setLevel(logging.ERROR)
    backends: dict[str, Backend] = {"sqlite": SqliteBackend()}
    try:
        for binary in arguments.server_binary or _found():
            server = ServerBackend(binary=binary)
            backends["mariadb" if "mariadb" in server.version().lower() else "mysql"] = server
        for name, tasks in _tasks(quick=arguments.quick).items():
            for one, two in itertools.combinations(sorted(backends), 2):
                results = list(compare_backends(tasks, backends[one], backends[two]))
                if arguments.show:
                    _show(one, two, results)
                yield from _agreement(f"dbbench.backends.{one}_{two}.{name}", results, (one, two))
        yield from _speed(backends["sqlite"], _tasks(quick=True)["dev"])
    finally:
        for backend in backends.values():
            backend.close()


def _found() -> list[str]:
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
    wanted = (
        shutil.which("mariadbd", path=path),
        os.environ.get("ENVLOOP_MYSQLD"),
        ROOT / ".cache" / "mysql" / "mysqld",
    )
    return [str(binary) for binary in wanted if binary and Path(binary).is_file()]


def _tasks(*, quick: bool) -> dict[str, Sequence[DbTask]]:
    found: dict[str, Sequence[DbTask]] = {"dev": find_task_files(None)[0].tasks}
    shared = Path(os.environ.get("ENVLOOP_SHARED", ROOT.parent / "shared")) / "data" / "agentbench" / "dbbench"
    if shared.is_dir():
        found |= {f"shared_{file.name}": file.tasks for file in find_task_files(shared)}
    found["generated"] = [generate("generated", index) for index in range(100 if quick else 1000)]
    return found


def _agreement(name: str, results: Sequence[TaskComparison], pair: tuple[str, str]) -> Iterator[Figure]:
    rewards = sum(result.same_reward for result in results) / len(results)
    texts = sum(result.same_texts for result in results) / len(results)
    yield at_least(f"{name}.rewards", rewards, "", 1.0)
    # MariaDB describes a number with a width that MySQL does not have: no bar there.
    yield value(f"{name}.texts", texts, "") if "mariadb" in pair else at_least(f"{name}.texts", texts, "", 0.99)


def _show(one: str, two: str, results: Sequence[TaskComparison]) -> None:
    for result in results:
        for difference in result.differences:
            print(f"{result.task_id}: {difference.statement}", file=sys.stderr)
            for name, text in zip((one, two), difference.texts, strict=True):
                print(f"    {name:8} {text[:300]}", file=sys.stderr)


def _speed(backend: Backend, tasks: Sequence[DbTask]) -> Iterator[Figure]:
    yield at_most(
        "dbbench.backends.sqlite.begin_and_load", _median(lambda task: _episode(backend, task), tasks), "ms", 30
    )
    session = backend.begin(Limits(statements=10**9))
    session.load([tasks[0].tables[0]])
    table = f"`{tasks[0].tables[0].name}`"
    numbers = itertools.count()
    for name, statements in (
        ("known", [text.format(table=table) for text in _STATEMENTS]),
        ("new", [f"SELECT COUNT(*) FROM {table} WHERE {{}} < 5"]),  # noqa: S608
    ):
        took = _median(lambda text: session.execute(text.format(next(numbers))), statements * 100)
        yield at_most(f"dbbench.backends.sqlite.statement_{name}", took, "ms", 3)
    session.close()


def _episode(backend: Backend, task: DbTask) -> None:
    session = backend.begin(Limits())
    session.load(task.tables)
    session.close()


def _median[T](work: Callable[[T], object], items: Sequence[T]) -> float:
    """Milliseconds that half of the calls take at most."""
    times = []
    for item in items:
        began = time.perf_counter()
        work(item)
        times.append(1000 * (time.perf_counter() - began))
    return sorted(times)[len(times) // 2]


if __name__ == "__main__":
    run((__doc__ or "").splitlines()[0], measure, options=options)
