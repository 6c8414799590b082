"""Episodes a second of DB Bench on a private server: create, four statements, commit, close, at 1, 8 and 32 threads.

``--json``: one JSON object a line, ``{"name", "value", "unit", "bar", "holds"}``. ``--quick``: first figures within a
minute.
``--server-binary``: another server than the one found. The bars are floors for two quiet cores with the data in memory;
on a busy machine they say nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from itertools import count

from envs.dbbench.family import DbBenchFamily
from envs.registry import DBBENCH
from envs.types import Action

_BARS = {"mariadb": {1: 60.0, 8: 100.0, 32: 90.0}, "mysql": {1: 15.0, 8: 25.0, 32: 20.0}}
_STATEMENTS = ("SHOW TABLES", "SELECT COUNT(*) FROM {table}", "SELECT * FROM {table} LIMIT 3", "SELECT 1")


def play(family: DbBenchFamily, number: int) -> None:
    """One episode: it must end, and well-formed."""
    task = family.task(f"generated/{number}")
    table = f"`{task.metadata['tables'][0]['name']}`"
    env = family.make()
    try:
        env.reset(task)
        for statement in _STATEMENTS:
            result = env.step(Action("execute_sql", {"query": statement.format(table=table)}))
            if not result.valid:
                raise SystemExit(f"a statement of the benchmark failed: {result.observation.text}")
        if not env.step(Action("commit_final_answer", {"answers": ["x"]})).terminated:
            raise SystemExit("the episode did not end")
    finally:
        env.close()


def measure(family: DbBenchFamily, threads: int, seconds: float) -> float:
    """Episodes a second with this many at once."""
    numbers = count()
    done = [0] * threads
    until = time.perf_counter() + seconds

    def work(slot: int) -> None:
        while time.perf_counter() < until:
            play(family, next(numbers) % 1000)
            done[slot] += 1

    workers = [threading.Thread(target=work, args=(slot,)) for slot in range(threads)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(done) / (time.perf_counter() - began)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="a first figure within a minute")
    parser.add_argument("--server-binary", default=None, help="a mysqld or mariadbd")
    arguments = parser.parse_args()
    family = DbBenchFamily(DBBENCH, server_binary=arguments.server_binary)
    holds = True
    try:
        began = time.perf_counter()
        family.start()
        started = time.perf_counter() - began
        kind = "mariadb" if "mariadb" in family.server_version().lower() else "mysql"
        rows = [(f"dbbench_{kind}_start", started, "s", 15.0, started <= 15.0)]
        for threads in (1, 8, 32):
            measure(family, threads, 0.5)
            rate = measure(family, threads, 3.0 if arguments.quick else 15.0)
            bar = _BARS[kind][threads]
            rows.append((f"dbbench_{kind}_episodes_{threads}_threads", rate, "episodes/s", bar, rate >= bar))
        for name, value, unit, bar, good in rows:
            holds = holds and good
            if arguments.json:
                print(json.dumps({"name": name, "value": round(value, 2), "unit": unit, "bar": bar, "holds": good}))
            else:
                print(f"{name:40} {value:8.2f} {unit:12} bar {bar:g} {'holds' if good else 'FAILS'}")
    finally:
        family.close()
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
