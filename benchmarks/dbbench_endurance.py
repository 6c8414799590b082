"""Many DB Bench episodes on one service, some of whose clients vanish: what is left on the database server and here.

    python benchmarks/dbbench_endurance.py [--json] [--quick] [--server-binary PATH]

One client in twenty goes away in the middle of its episode: between two requests, or with its connection while a
statement runs. The service (``envloop env serve``) uses a database server that this process has started and asks as its
administrator: while the service runs, beside the databases that it has made ahead, and after its end.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from itertools import count

import psutil
from _dbbench import ENV, Timing, left_in, left_on, percentile, play_over_http, scripts, served
from _figures import Figure, at_most, memory_bytes, run, value

from envs.client import EnvClient
from envs.dbbench.external_server import ServerAddress
from envs.dbbench.mysql_server import PrivateServer
from envs.errors import TransportError
from envs.server_process import ServerProcess
from envs.types import Action

AT_ONCE = 32
ONE_IN = 20  # vanishes
IDLE_S = 5.0
SPARE = 8
SLOW = Action("execute_sql", {"query": "SELECT SLEEP(0.5)"})
SETTLED_S = 4 * IDLE_S
# On the database server, of a service without episodes.
READY = {
    "databases": SPARE,
    "users": SPARE,
    "connections": 0,
    "registered_episodes": SPARE,
    "registered_services": 1,
}


class Players:
    """Plays the scripts in turn, and counts."""

    def __init__(self, server: ServerProcess) -> None:
        self.url = server.url
        self.scripts = scripts()
        self.timing = Timing()
        self.vanished = 0
        self._numbers = count(1)

    async def until(self, client: EnvClient, total: int) -> None:
        """Go on until this many episodes have begun."""

        async def keep_playing() -> None:
            while self.begun < total:
                number = next(self._numbers)
                if number % ONE_IN:
                    await play_over_http(client, self.scripts[number % len(self.scripts)], self.timing)
                else:
                    await self._vanish(number)

        await asyncio.gather(*(keep_playing() for _ in range(AT_ONCE)))

    @property
    def begun(self) -> int:
        return len(self.timing.episodes) + self.vanished

    async def _vanish(self, number: int) -> None:
        """Leave an episode alone after two steps, every other time with a third under way."""
        script = self.scripts[number % len(self.scripts)]
        self.vanished += 1
        async with EnvClient(self.url, timeout_s=30, retries=0) as client:
            view = await client.create(ENV, task_id=script.task_id)
            for action in script.statements[:2]:
                view = await client.step(view, action)
        if number // ONE_IN % 2:
            async with EnvClient(self.url, timeout_s=0.1, retries=0) as client:
                try:
                    await client.step(view, SLOW)
                except TransportError:
                    return
                raise SystemExit("the client that should have vanished got its answer")


def held(server: ServerProcess) -> dict[str, int]:
    """What the service holds of the system."""
    process = psutil.Process(server.pid)
    return {"descriptors": process.num_fds(), "threads": process.num_threads(), "memory": memory_bytes(server.pid)}


async def episodes(server: ServerProcess, address: ServerAddress, total: int) -> dict[str, dict[str, int]]:
    """Play them all; what the service held at 40 % and at the end, and what is left on the database server."""
    players = Players(server)
    async with EnvClient(server.url) as client:
        await players.until(client, total * 2 // 5)
    before = await settled(server, address)
    async with EnvClient(server.url) as client:
        began = time.perf_counter()
        done = players.begun
        await players.until(client, total)
        rate = (players.begun - done) / (time.perf_counter() - began)
    after = await settled(server, address)
    played = {"rate": round(rate), "played": len(players.timing.episodes), "vanished": players.vanished}
    played["p95"] = round(percentile(players.timing.episodes, 0.95) * 1e3)
    return {"before": before, "after": after, "left": left_on(address), "played": played}


async def settled(server: ServerProcess, address: ServerAddress) -> dict[str, int]:
    """What the service holds once the episodes of those who vanished are over; waits as long as that may take."""
    until = time.monotonic() + SETTLED_S
    while True:
        left = left_on(address)
        if left == READY or time.monotonic() > until:
            await asyncio.sleep(0.5)  # closed connections are noticed a little later
            return held(server)
        await asyncio.sleep(0.2)


def measure(arguments: argparse.Namespace) -> Iterator[Figure]:
    total = 300 if arguments.quick else 5_000
    variables = {
        "ENVLOOP_ENV_IDLE_TIMEOUT_S": str(IDLE_S),
        # What it remembers of ended episodes, and its pool of threads, are full before they are first looked at.
        "ENVLOOP_ENV_REMEMBER_ENDED": str(total // 5),
        "ENVLOOP_ENV_THREADS": str(AT_ONCE),
        "ENVLOOP_ENV_DBBENCH__SPARE_DATABASES": str(SPARE),
    }
    database = PrivateServer(arguments.server_binary)
    with tempfile.TemporaryDirectory(prefix="envloop-bench-") as folder:
        try:
            address = database.start()
            url = f"mysql://{address.user}:{address.password}@localhost?unix_socket={address.unix_socket}"
            with served(folder, **variables, DBBENCH_URL=url) as server:
                found = asyncio.run(episodes(server, address, total))
                children = len(psutil.Process(server.pid).children(recursive=True))
            left = left_on(address)
        finally:
            data = database.folder
            database.close()
        yield from figures(found, left, children, left_in(folder))
        yield at_most("dbbench.endurance.data_folders_left", int(data is not None and os.path.exists(data)), "", 0)


def figures(found: dict[str, dict[str, int]], after_end: dict[str, int], children: int, files: int) -> Iterator[Figure]:
    """All figures but the database's own folder."""
    name = "dbbench.endurance"
    played, before, after = found["played"], found["before"], found["after"]
    yield value(f"{name}.episodes_won", played["played"], "")
    yield value(f"{name}.clients_vanished", played["vanished"], "")
    yield value(f"{name}.episodes_per_second", played["rate"], "1/s")
    yield value(f"{name}.episode_p95", played["p95"], "ms")
    for what, number in found["left"].items():
        yield at_most(f"{name}.{what}_left", number - READY[what], "", 0)
    growth = 100 * (after["memory"] - before["memory"]) / before["memory"]
    yield value(f"{name}.memory", after["memory"] / 2**20, "MiB")
    yield at_most(f"{name}.memory_growth", growth, "%", 5)
    for what in ("descriptors", "threads"):
        yield at_most(f"{name}.{what}_grown", after[what] - before[what], "", 0)
    yield at_most(f"{name}.processes_left", children, "", 0)
    for what, number in after_end.items():
        yield at_most(f"{name}.{what}_left_after_end", number, "", 0)
    yield at_most(f"{name}.temporary_files_left", files, "", 0)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--server-binary", default=None, help="a mariadbd or mysqld; without it, the one found")


if __name__ == "__main__":
    run(__doc__ or "", measure, options=options)
