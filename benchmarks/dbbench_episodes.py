"""What DB Bench gives on a private server: its start, episodes a second and their latency, in process and over HTTP.

    python benchmarks/dbbench_episodes.py [--json] [--quick] [--server-binary PATH] [--mysql-binary PATH]

An episode is AgentBench's: its own database and user, four statements, the commit, which must score 1, and the close.
Over HTTP the server is a process of its own (``envloop env serve``) and this one the client; ``streams`` are two
WebSockets, ``batches`` two of 16.
The bars are MariaDB's on two quiet cores with the data in memory; on a busy machine they say little.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path
from unittest.mock import patch

from _dbbench import (
    ENV,
    Timing,
    cpu_seconds,
    databases_of,
    percentile,
    play,
    play_batch,
    play_over_http,
    scripts,
    served,
)
from _figures import Figure, at_least, at_most, memory_bytes, run, value

from envs.client import EnvClient
from envs.dbbench.family import DbBenchFamily
from envs.registry import DBBENCH
from envs.server_process import ServerProcess

AT_ONCE = 32
IN_PROCESS_BARS = {1: 60, 8: 100, AT_ONCE: 150}
BATCHES = 2


class Figures:
    """Names figures by the kind of server; only MariaDB's have bars."""

    def __init__(self, version: str) -> None:
        self.kind = "mariadb" if "mariadb" in version.lower() else "mysql"

    def value(self, name: str, number: float, unit: str) -> Figure:
        return value(f"{ENV}.{self.kind}.{name}", number, unit)

    def at_most(self, name: str, number: float, unit: str, bar: float) -> Figure:
        return at_most(f"{ENV}.{self.kind}.{name}", number, unit, bar) if self.bars else self.value(name, number, unit)

    def at_least(self, name: str, number: float, unit: str, bar: float) -> Figure:
        return at_least(f"{ENV}.{self.kind}.{name}", number, unit, bar) if self.bars else self.value(name, number, unit)

    @property
    def bars(self) -> bool:
        return self.kind == "mariadb"

    def latency(self, where: str, timing: Timing) -> Iterator[Figure]:
        """Of whole episodes and of their beginning, in milliseconds."""
        yield self.value(f"{where}.episode_p50", percentile(timing.episodes, 0.5) * 1e3, "ms")
        yield self.at_most(f"{where}.episode_p95", percentile(timing.episodes, 0.95) * 1e3, "ms", 400)
        yield self.value(f"{where}.create_p50", percentile(timing.creates, 0.5) * 1e3, "ms")
        yield self.value(f"{where}.create_p95", percentile(timing.creates, 0.95) * 1e3, "ms")


def start(binary: str | None, folder: str) -> Iterator[Figure]:
    """A server's first start on this machine, and the next, which may use what the first has kept."""
    with patch.dict(os.environ, {"ENVLOOP_CACHE_DIR": str(Path(folder, "cache"))}):
        for name, bar in (("start_first", 15), ("start_again", 5)):
            family = DbBenchFamily(DBBENCH, server_binary=binary)
            try:
                began = time.perf_counter()
                family.start()
                taken = time.perf_counter() - began
                yield Figures(family.server_version()).at_most(name, taken, "s", bar)
            finally:
                family.close()


def in_process(binary: str | None, seconds: float) -> Iterator[Figure]:
    """Threads of this process, each with an episode at a time."""
    family = DbBenchFamily(DBBENCH, server_binary=binary)
    try:
        figures = Figures(family.server_version())
        for at_once, bar in IN_PROCESS_BARS.items():
            threads(family, at_once, 0.5)
            client, before = time.process_time(), [cpu_seconds(process.pid) for process in databases_of(os.getpid())]
            rate, timing = threads(family, at_once, seconds)
            client_s = time.process_time() - client
            server_s = sum(cpu_seconds(process.pid) for process in databases_of(os.getpid())) - sum(before)
            yield figures.at_least(f"in_process.episodes_per_second_{at_once}", rate, "1/s", bar)
        yield from figures.latency("in_process", timing)
        yield figures.value("in_process.python_cpu_per_episode", client_s / len(timing.episodes) * 1e3, "ms")
        yield figures.value("in_process.database_cpu_per_episode", server_s / len(timing.episodes) * 1e3, "ms")
    finally:
        family.close()


def threads(family: DbBenchFamily, at_once: int, seconds: float) -> tuple[float, Timing]:
    """Episodes a second with this many at once, and how long each took."""
    parts = scripts()
    numbers = count()
    timings = [Timing() for _ in range(at_once)]
    failures: list[BaseException] = []
    until = time.perf_counter() + seconds

    def work(timing: Timing) -> None:
        try:
            while time.perf_counter() < until and not failures:
                play(family, parts[next(numbers) % len(parts)], timing)
        except BaseException as error:  # noqa: BLE001 - raised below, in the main thread
            failures.append(error)

    workers = [threading.Thread(target=work, args=(timing,)) for timing in timings]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failures:
        raise failures[0]
    elapsed = time.perf_counter() - began
    whole = Timing([s for t in timings for s in t.episodes], [s for t in timings for s in t.creates])
    return len(whole.episodes) / elapsed, whole


async def over_http(server: ServerProcess, figures: Figures, seconds: float) -> AsyncIterator[Figure]:
    """Coroutines of this process, 32 episodes at once: by single requests, over streams, then by batches."""
    parts = scripts()
    numbers = count()

    async def single(client: EnvClient, timing: Timing) -> None:
        await play_over_http(client, parts[next(numbers) % len(parts)], timing)

    async def batch(client: EnvClient, timing: Timing) -> None:
        batch = [parts[next(numbers) % len(parts)] for _ in range(AT_ONCE // BATCHES)]
        await play_batch(client, batch, timing)

    kinds: tuple[tuple[str, int, int, Callable[[EnvClient, Timing], Awaitable[None]]], ...] = (
        ("http", 0, AT_ONCE, single),
        ("http.streams", 2, AT_ONCE, single),
        ("http.batches", 0, BATCHES, batch),
    )
    for where, streams, at_once, episode in kinds:
        async with EnvClient(server.url, streams=streams) as client:
            await repeated(client, at_once, episode, 1.0)
            pids = [server.pid, *(process.pid for process in databases_of(server.pid))]
            before, client_before = [cpu_seconds(pid) for pid in pids], time.process_time()
            rate, timing = await repeated(client, at_once, episode, seconds)
            client_s = time.process_time() - client_before
            taken = [(cpu_seconds(pid) - then) for pid, then in zip(pids, before, strict=True)]
            episodes = len(timing.episodes)
            yield figures.at_least(f"{where}.episodes_per_second", rate, "1/s", 100)
            for figure in figures.latency(where, timing):
                yield figure
            yield figures.value(f"{where}.server_cpu_per_episode", taken[0] / episodes * 1e3, "ms")
            yield figures.value(f"{where}.database_cpu_per_episode", sum(taken[1:]) / episodes * 1e3, "ms")
            yield figures.value(f"{where}.client_cpu_per_episode", client_s / episodes * 1e3, "ms")
    yield figures.value("http.server_memory", memory_bytes(server.pid) / 2**20, "MiB")


async def repeated(
    client: EnvClient, at_once: int, episode: Callable[[EnvClient, Timing], Awaitable[None]], seconds: float
) -> tuple[float, Timing]:
    """Play for so long; episodes a second, and how long each took."""
    timing = Timing()
    until = time.perf_counter() + seconds

    async def keep_playing() -> None:
        while time.perf_counter() < until:
            await episode(client, timing)

    began = time.perf_counter()
    await asyncio.gather(*(keep_playing() for _ in range(at_once)))
    return len(timing.episodes) / (time.perf_counter() - began), timing


def http(binary: str | None, folder: str, seconds: float, figures: Figures) -> Iterator[Figure]:
    """The figures of ``over_http``, as they come."""
    with served(folder, binary=binary) as server, asyncio.Runner() as runner:
        coming = over_http(server, figures, seconds)

        async def following() -> Figure | None:
            return await anext(coming, None)

        while (figure := runner.run(following())) is not None:
            yield figure


def measure(arguments: argparse.Namespace) -> Iterator[Figure]:
    seconds = 4.0 if arguments.quick else 20.0
    binaries = [arguments.server_binary] + ([arguments.mysql_binary] if arguments.mysql_binary else [])
    for binary in binaries:
        with tempfile.TemporaryDirectory(prefix="envloop-bench-") as folder:
            figures = Figures("")
            for figure in start(binary, folder):
                figures.kind = figure.name.split(".")[1]
                yield figure
            yield from in_process(binary, seconds)
            yield from http(binary, folder, seconds, figures)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--server-binary", default=None, help="a mariadbd or mysqld; without it, the one found")
    parser.add_argument("--mysql-binary", default=None, help="a mysqld, measured after the first, without bars")


if __name__ == "__main__":
    run(__doc__ or "", measure, options=options)
