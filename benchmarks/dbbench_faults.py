"""A database server that is killed under running DB Bench episodes: what becomes of them, and how soon new ones begin.

    python benchmarks/dbbench_faults.py [--json] [--quick] [--server-binary PATH]

32 episodes play over HTTP, each at a pace of its own; once all have begun, the private server of ``envloop env serve``
gets a SIGKILL. An episode that was running then may end as an infrastructure error, without a reward, or go on and win;
a reward of 0 is wrong, since every episode plays the gold. The seconds to recover are those from the kill to the first
new episode that has been won.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
from _dbbench import ENV, Script, Timing, databases_of, folder_of, left_in, play_over_http, scripts, served
from _figures import Figure, at_least, at_most, run, value

from envs.client import EnvClient
from envs.errors import EnvloopError, EpisodeOver, InfrastructureError
from envs.server_process import ServerProcess
from envs.types import EpisodeStatus

AT_ONCE = 32
PAUSE_S = 0.15
RECOVERY_BAR_S = 10
GIVE_UP_S = 30
ENDINGS = ("won", "infrastructure_error", "lost", "other")


class Fault:
    """One kill in the middle of 32 episodes."""

    def __init__(self, server: ServerProcess, seed: int) -> None:
        self.server = server
        self.rng = random.Random(seed)
        self.all_begun, self.killed = asyncio.Event(), asyncio.Event()
        self.begun = 0
        self.endings: Counter[str] = Counter()

    async def run(self) -> float:
        """Play, kill, wait for the episodes' ends; the seconds to recover."""
        chosen = self.rng.sample(scripts(), AT_ONCE)
        async with EnvClient(self.server.url, timeout_s=60) as client:
            async with asyncio.TaskGroup() as group:
                for script in chosen:
                    group.create_task(self._episode(client, script))
                recovered = group.create_task(self._kill(client))
            return recovered.result()

    async def _episode(self, client: EnvClient, script: Script) -> None:
        """The commit comes after the kill, so that it meets every episode before its end."""
        view = await client.create(ENV, task_id=script.task_id)
        self.begun += 1
        if self.begun == AT_ONCE:
            self.all_begun.set()
        try:
            for action in script.statements:
                await asyncio.sleep(self.rng.random() * PAUSE_S)
                view = await client.step(view, action)
            await self.killed.wait()
            view = await client.step(view, script.commit)
        except (InfrastructureError, EpisodeOver):
            view = await client.read(view.id)
        except EnvloopError:
            self.endings["other"] += 1
            return
        self.endings[_ending(view.status, view.reward)] += 1

    async def _kill(self, client: EnvClient) -> float:
        await self.all_begun.wait()
        (database,) = databases_of(self.server.pid)
        database.send_signal(signal.SIGKILL)
        began = time.perf_counter()
        self.killed.set()
        while time.perf_counter() - began < GIVE_UP_S:
            try:
                await play_over_http(client, scripts()[0], Timing())
                break
            except InfrastructureError:
                await asyncio.sleep(0.1)
        return time.perf_counter() - began


def _ending(status: EpisodeStatus, reward: float | None) -> str:
    if status is EpisodeStatus.INFRASTRUCTURE_ERROR and reward is None:
        return "infrastructure_error"
    if status is EpisodeStatus.COMPLETED:
        return "won" if reward == 1.0 else "lost"
    return "other"


async def faults(server: ServerProcess, rounds: int, seen: set[Path]) -> AsyncIterator[Figure]:
    """The figures of all kills. ``seen`` gets the folders of the database servers."""
    async with EnvClient(server.url) as client:
        await play_over_http(client, scripts()[0], Timing())
    endings: Counter[str] = Counter()
    seconds = []
    for number in range(rounds):
        seen.update(map(folder_of, databases_of(server.pid)))
        fault = Fault(server, number)
        seconds.append(await fault.run())
        endings += fault.endings
        if seconds[-1] >= GIVE_UP_S:
            break
    seen.update(map(folder_of, databases_of(server.pid)))
    yield at_least("dbbench.faults.kills", len(seconds), "", rounds)
    yield at_most("dbbench.faults.recovery", max(seconds), "s", RECOVERY_BAR_S)
    for ending in ENDINGS[:2]:
        yield value(f"dbbench.faults.{ending}", endings[ending], "")
    for ending in ENDINGS[2:]:
        yield at_most(f"dbbench.faults.{ending}", endings[ending], "", 0)


def measure(arguments: argparse.Namespace) -> Iterator[Figure]:
    seen: set[Path] = set()
    with tempfile.TemporaryDirectory(prefix="envloop-bench-") as folder, asyncio.Runner() as runner:
        with served(folder, binary=arguments.server_binary) as server:
            coming = faults(server, 1 if arguments.quick else 3, seen)

            async def following() -> Figure | None:
                return await anext(coming, None)

            while (figure := runner.run(following())) is not None:
                yield figure
            processes = psutil.Process(server.pid).children(recursive=True)
        yield at_most("dbbench.faults.processes_left", sum(process.is_running() for process in processes), "", 0)
        yield at_most("dbbench.faults.data_folders_left", sum(path.exists() for path in seen), "", 0)
        yield at_most("dbbench.faults.temporary_files_left", left_in(folder), "", 0)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--server-binary", default=None, help="a mariadbd or mysqld; without it, the one found")


if __name__ == "__main__":
    run(__doc__ or "", measure, options=options)
