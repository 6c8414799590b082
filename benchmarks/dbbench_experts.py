"""What DB Bench's experts score, how often a task has a near miss, and what asking, thinking and shaping cost.

    python benchmarks/dbbench_experts.py [--json] [--quick] [--server-binary PATH]

Tasks: generated ones of every level, and AgentBench's development split, whose questions have no gold SQL and so no
near miss. An expert that errs tries its statements out on a second database when it is first asked; what that costs is
held against beginning an episode, measured in the same run.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator

from _figures import Figure, at_least, at_most, run, value

from envs.dbbench.experts import EXPERTS, MAX_SCRIPT, NEAR_MISSES
from envs.dbbench.family import DbBenchFamily
from envs.dbbench.shaping import SHAPING_TERMS, Shaper
from envs.dbbench.thoughts import Seen, think
from envs.registry import DBBENCH
from envs.types import Action, Task

SOLVERS = tuple(expert for expert in EXPERTS if expert not in NEAR_MISSES)
LEVELS = ("generated", "generated_easy", "generated_medium", "generated_hard")


class Tally:
    """What was measured, by name."""

    def __init__(self) -> None:
        self.rewards: dict[str, list[float]] = defaultdict(list)
        self.steps: dict[str, list[int]] = defaultdict(list)
        self.asked: dict[str, list[float]] = defaultdict(list)
        self.begun: list[float] = []
        self.thinking: list[float] = []

    def play(self, family: DbBenchFamily, task: Task, expert: str) -> bool:
        """Whether the expert has an action for the task."""
        env = family.make()
        try:
            before = time.perf_counter()
            first = env.reset(task)
            begun = time.perf_counter()
            action = env.expert_action(expert)
            self.asked[expert].append(time.perf_counter() - begun)
            self.begun.append(begun - before)
            steps: list[Seen] = []
            while action is not None:
                thought_of = time.perf_counter()
                think(first.text, steps, action, len(steps))
                self.thinking.append(time.perf_counter() - thought_of)
                result = env.step(action)
                steps.append(Seen(action, result.observation.text, result.valid))
                if result.done:
                    self.rewards[expert].append(result.reward)
                    self.steps[expert].append(len(steps))
                    return True
                action = env.expert_action(expert)
            return False
        finally:
            env.close()


def shaping_seconds(family: DbBenchFamily, tasks: list[Task]) -> tuple[float, float]:
    """Seconds of a statement with every term, and of the statement alone: medians over the explorer's statements."""
    shaped, alone = [], []
    for task in tasks:
        env = family.make()
        env.reset(task)
        shaper = Shaper(family._find(task.id), SHAPING_TERMS)
        session = env._session
        assert session is not None
        while (action := env.expert_action("explorer")) is not None and action.name == "execute_sql":
            query = str(action.arguments["query"])
            before = time.perf_counter()
            result = session.execute(query)
            between = time.perf_counter()
            shaper.statement(query, result)
            shaped.append(time.perf_counter() - between)
            alone.append(between - before)
            assert env._experts is not None
            env._experts.note(query, result)
        env.close()
    return statistics.median(shaped), statistics.median(alone)


def measure(arguments: argparse.Namespace) -> Iterator[Figure]:
    count = 13 if arguments.quick else 75
    family = DbBenchFamily(DBBENCH, server_binary=arguments.server_binary)
    try:
        family.start()
        generated = [task for level in LEVELS for task in family.tasks(level, limit=count).tasks]
        dev = list(family.tasks("dev").tasks)[:: 5 if arguments.quick else 1]
        think("", [], Action("execute_sql", {"query": "SELECT 1"}), 0)  # loads the parser
        tally, of_dev = Tally(), Tally()
        with_miss = 0
        for task in generated:
            offered = [tally.play(family, task, miss) for miss in NEAR_MISSES]
            with_miss += any(offered)
        for task in generated:
            for expert in SOLVERS:
                tally.play(family, task, expert)
        for task in dev:
            for expert in EXPERTS:
                of_dev.play(family, task, expert)
        yield value("dbbench.experts.tasks", len(generated) + len(dev), "")
        for name, found in (("generated", tally), ("dev", of_dev)):
            for expert in SOLVERS:
                won = 100 * statistics.mean(found.rewards[expert])
                yield at_least(f"dbbench.{expert}.{name}.won", won, "%", 100)
            lost = [reward for miss in NEAR_MISSES for reward in found.rewards[miss]]
            yield at_most(f"dbbench.near_miss.{name}.reward", statistics.mean(lost), "", 0)
        yield at_least("dbbench.near_miss.generated.offered", 100 * with_miss / len(generated), "%", 98)
        for miss in NEAR_MISSES:
            yield value(f"dbbench.{miss}.generated.offered", 100 * len(tally.rewards[miss]) / len(generated), "%")
        steps = [number for expert in EXPERTS for number in tally.steps[expert]]
        yield at_most("dbbench.experts.longest", max(steps), "", MAX_SCRIPT)
        yield value("dbbench.explorer.steps", statistics.mean(tally.steps["explorer"]), "")
        begin = statistics.median(tally.begun)
        yield value("dbbench.begin.median", 1000 * begin, "ms")
        for expert in EXPERTS:
            asked = statistics.median(tally.asked[expert])
            yield value(f"dbbench.{expert}.first_asked.median", 1000 * asked, "ms")
        slowest = max(statistics.median(tally.asked[expert]) for expert in EXPERTS)
        yield at_most("dbbench.experts.first_asked_per_begin", slowest / begin, "", 10)
        yield value("dbbench.thoughts.median", 1000 * statistics.median(tally.thinking), "ms")
        shaped, alone = shaping_seconds(family, generated[: 4 * count : 4])
        yield value("dbbench.shaping.median", 1000 * shaped, "ms")
        yield value("dbbench.statement.median", 1000 * alone, "ms")
    finally:
        family.close()


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--server-binary", help="mariadbd or mysqld; without: what is installed")


if __name__ == "__main__":
    run(__doc__ or "", measure, options=options)
