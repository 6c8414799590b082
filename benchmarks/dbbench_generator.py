"""The generator of DB Bench tasks: how fast it is, whether its gold reproduces on servers, what it does not take.

    python benchmarks/dbbench_generator.py [--json] [--quick] [--server-binary PATH] [--mysql-binary PATH]

Speed is CPU time of one process. The gold statements of tasks of all splits are run on a private MariaDB and, where
``--mysql-binary`` names one, on MySQL: of questions the printed results of both are compared. ``rejected`` are draws
that were not taken, a thousand tasks, by reason.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from _figures import Figure, at_least, run, value

from envs.dbbench.backend import Limits
from envs.dbbench.family import DbBenchFamily
from envs.dbbench.generator import GENERATED_SPLITS, generate, make_task
from envs.dbbench.gold_check import check_gold
from envs.dbbench.server_backend import ServerBackend
from envs.dbbench.tasks import DbTask
from envs.registry import DBBENCH

NAME = "dbbench.generator"
FAST, REPRODUCED, ALIKE = 50, 100, 95


def measure_speed(count: int) -> Iterator[Figure]:
    generate("generated", 0)  # loads sqlglot and the vocabulary
    rejected: Counter[str] = Counter()
    for split in GENERATED_SPLITS:
        started = time.process_time()
        for index in range(1, count + 1):
            make_task(split, index, rejected if split == "generated" else None)
        spent = time.process_time() - started
        if split == "generated":
            yield at_least(f"{NAME}.tasks", count / spent, "1/s", FAST)
        else:
            yield value(f"{NAME}.tasks.{split.removeprefix('generated_')}", count / spent, "1/s")
    for reason, number in rejected.most_common():
        yield value(f"{NAME}.rejected.{reason.replace(' ', '_')}", 1000 * number / count, "1")


def sample(count: int) -> list[DbTask]:
    """Tasks of all splits in turn."""
    splits = tuple(GENERATED_SPLITS)
    return [generate(splits[number % len(splits)], 10_000 + number // len(splits)) for number in range(count)]


def measure_gold(tasks: Sequence[DbTask], backend: ServerBackend, kind: str) -> Iterator[Figure]:
    report = check_gold(tasks, backend, jobs=2)
    good = sum(number for number, _ in report.types.values())
    for miss in report.misses:
        print(f"{kind}: {miss.task}: {miss.reason}", file=sys.stderr)
    yield value(f"{NAME}.{kind}.gold_tasks", len(tasks), "1")
    yield at_least(f"{NAME}.{kind}.gold_reproduces", 100 * good / len(tasks), "%", REPRODUCED)


def printed(tasks: Sequence[DbTask], backend: ServerBackend) -> list[list[str]]:
    """What the server prints of each task's gold statements."""
    texts = []
    for task in tasks:
        session = backend.begin(Limits())
        try:
            session.load(task.tables)
            texts.append([session.execute(statement).text for statement in task.gold_sql])
        finally:
            session.close()
    return texts


def measure(arguments: argparse.Namespace) -> Iterator[Figure]:
    quick = arguments.quick
    yield from measure_speed(200 if quick else 1000)
    binaries = {"mariadb": arguments.server_binary, "mysql": arguments.mysql_binary}
    wanted = [kind for kind in binaries if kind == "mariadb" or binaries[kind]]
    tasks = sample(100 if quick else 1000)
    with contextlib.ExitStack() as stack:
        backends = {}
        for kind in wanted:
            family = DbBenchFamily(DBBENCH, server_binary=binaries[kind])
            stack.callback(family.close)
            backends[kind] = family._backend
            yield from measure_gold(tasks, backends[kind], kind)
        if len(backends) < 2:
            print("--mysql-binary names no server: what two kinds print is not compared", file=sys.stderr)
            return
        questions = [task for task in sample(900) if not task.mutates][: 50 if quick else 200]
        one, two = (printed(questions, backend) for backend in backends.values())
        alike = sum(first == second for first, second in zip(one, two, strict=True))
        yield value(f"{NAME}.compared_questions", len(questions), "1")
        yield at_least(f"{NAME}.mysql_and_mariadb_alike", 100 * alike / len(questions), "%", ALIKE)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--server-binary", default="/usr/sbin/mariadbd", help="a mariadbd (/usr/sbin/mariadbd)")
    parser.add_argument("--mysql-binary", help="a mysqld to compare with")


if __name__ == "__main__":
    run(__doc__ or "", measure, options=options)
