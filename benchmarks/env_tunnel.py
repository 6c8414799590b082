"""Episodes through a tunnel with 150 ms of round-trip time.

    python benchmarks/env_tunnel.py [--json] [--quick]

64 ALFWorld episodes of 20 steps, begun and closed, each with requests of its own side by side, and all in batches; a
proxy holds every byte back for 75 ms in each direction. The bar is 1.5 times the 20 round trips that the steps need,
plus what the same play takes without the tunnel.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Iterator

from _figures import Figure, at_most, collected, run, value

from envs.client import EnvClient, NewEpisode
from envs.server_process import server_process
from envs.types import Action
from envs.wire import EpisodeView

EPISODES, STEPS = 64, 20
ROUND_TRIP_S = 0.150
LOOK = Action("take_action", {"action": "look"})


class Tunnel:
    """Passes bytes on, half a round trip later."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        """Listen; the address."""
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def aclose(self) -> None:
        """End every connection."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(ROUND_TRIP_S)  # the connection's own
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        for source, target in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._pass(source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        try:
            while data := await source.read(65536):
                loop.call_later(ROUND_TRIP_S / 2, target.write, data)
            await asyncio.sleep(ROUND_TRIP_S / 2)
        finally:
            target.close()


async def alone(client: EnvClient) -> float:
    """Seconds of all episodes, each with requests of its own."""

    async def play(number: int) -> None:
        view = await client.create("alfworld", split="generated", sample_seed=number)
        for _ in range(STEPS):
            view = await client.step(view, LOOK)
        await client.close_episode(view.id)

    began = time.perf_counter()
    await asyncio.gather(*map(play, range(EPISODES)))
    return time.perf_counter() - began


async def together(client: EnvClient) -> float:
    """Seconds of all episodes in batches."""
    began = time.perf_counter()
    new = [NewEpisode(env="alfworld", split="generated", sample_seed=n) for n in range(EPISODES)]
    views = [view for view in await client.create_many(new) if isinstance(view, EpisodeView)]
    for _ in range(STEPS):
        done = await client.step_many([(view, LOOK) for view in views])
        views = [view for view in done if isinstance(view, EpisodeView)]
    assert len(views) == EPISODES
    await client.close_many([view.id for view in views])
    return time.perf_counter() - began


async def figures(*, quick: bool) -> AsyncIterator[Figure]:
    """All of them."""
    with server_process(["--env", "alfworld"]) as server:
        tunnel = Tunnel(int(server.url.rpartition(":")[2]))
        url = await tunnel.start()
        rounds = 2 if quick else 7
        try:
            for name, play in (("single", alone), ("batch", together)):
                async with EnvClient(server.url) as near, EnvClient(url) as far:
                    await play(near)
                    here = statistics.median([await play(near) for _ in range(rounds)])
                    there = statistics.median([await play(far) for _ in range(rounds)])
                yield value(f"env.tunnel.{name}.without", here, "s")
                yield at_most(f"env.tunnel.{name}", there, "s", round(1.5 * STEPS * ROUND_TRIP_S + here, 3))
        finally:
            await tunnel.aclose()


def measure(arguments: argparse.Namespace) -> Iterator[Figure]:
    """For the command line."""
    return collected(figures(quick=arguments.quick))


if __name__ == "__main__":
    run(__doc__ or "", measure)
