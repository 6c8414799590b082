"""What one server process gives for ALFWorld over HTTP: steps a second, memory for each episode, what is left over.

    python benchmarks/alfworld_http.py [--json] [--quick]

Starts its own servers (``envloop env serve``), one for each part, and plays generated games by random admissible
commands. This process is the client. Steps a second depend on a quiet machine; CPU time for each step does not.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import psutil
from _figures import Figure, at_least, at_most, memory_bytes, run, value

from envs.client import EnvClient, EpisodeView, NewEpisode
from envs.errors import EnvloopError
from envs.registry import default_registry
from envs.server_process import ServerProcess, server_process
from envs.types import Action

ENV, SPLIT = "alfworld", "generated"
GAMES = 100
LIVE, BATCH, IN_FLIGHT = 256, 64, 2
SETTINGS = {"ENVLOOP_ENV_MAX_EPISODES": "40000"}


class Player:
    """Plays episodes by random commands, ``BATCH`` at a time."""

    def __init__(self, client: EnvClient, tasks: Sequence[str]) -> None:
        self.client = client
        self.tasks = tasks
        self.rng = random.Random(0)
        self.begun = 0

    async def begin(self, count: int) -> list[EpisodeView]:
        """New episodes, the games in turn."""
        ids = [self.tasks[(self.begun + k) % len(self.tasks)] for k in range(count)]
        self.begun += count
        return sound(await self.client.create_many(NewEpisode(env=ENV, task_id=task_id) for task_id in ids))

    async def step(self, views: Sequence[EpisodeView]) -> list[EpisodeView]:
        """One step of each that still runs."""
        moves = [(view, self.choose(view)) for view in views if not view.status.over]
        return sound(await self.client.step_many(moves))

    def choose(self, view: EpisodeView) -> Action:
        return Action("take_action", {"action": self.rng.choice(view.observation.admissible_actions)})


def sound(results: Sequence[EpisodeView | EnvloopError]) -> list[EpisodeView]:
    for result in results:
        if isinstance(result, EnvloopError):
            raise result
    return [result for result in results if isinstance(result, EpisodeView)]


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used, its threads included (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def player(client: EnvClient) -> Player:
    """One that has every game loaded."""
    page = await client.tasks(ENV, split=SPLIT, limit=GAMES)
    made = Player(client, [task.id for task in page.tasks])
    views = await made.begin(GAMES)
    await made.step(views)
    await client.close_many(view.id for view in views)
    return made


async def throughput(server: ServerProcess, rounds: int) -> AsyncIterator[Figure]:
    async with EnvClient(server.url) as client:
        play = await player(client)
        turns = asyncio.Semaphore(IN_FLIGHT)
        steps = 0

        async def keep_playing(views: list[EpisodeView]) -> None:
            nonlocal steps
            for _ in range(rounds):
                async with turns:
                    views = await play.step(views)
                    steps += len(views)
                    over = sum(view.status.over for view in views)
                    if over:
                        views = [view for view in views if not view.status.over] + await play.begin(over)

        groups = [await play.begin(BATCH) for _ in range(LIVE // BATCH)]
        server_before, client_before, before = cpu_seconds(server.pid), time.process_time(), time.perf_counter()
        await asyncio.gather(*map(keep_playing, groups))
        elapsed = time.perf_counter() - before
        server_s, client_s = cpu_seconds(server.pid) - server_before, time.process_time() - client_before
        yield at_least("alfworld.http.steps_per_second", steps / elapsed, "1/s", 5000)
        yield value("alfworld.http.server_cpu_per_step", server_s / steps * 1e6, "us")
        yield value("alfworld.http.client_cpu_per_step", client_s / steps * 1e6, "us")


async def forks(server: ServerProcess, count: int) -> AsyncIterator[Figure]:
    async with EnvClient(server.url) as client:
        play = await player(client)
        (view,) = await play.begin(1)
        while view.steps < 10:
            (view,) = await play.step([view])
            if view.status.over:
                (view,) = await play.begin(1)
        for name, at_step in (("present", view.steps), ("earlier", view.steps - 1)):
            taken = []
            for _ in range(count):
                before = time.perf_counter()
                (fork,) = await client.fork(view, at_step=at_step)
                taken.append(time.perf_counter() - before)
                await client.close_episode(fork.id)
            yield value(f"alfworld.http.fork_{name}", sorted(taken)[count // 2] * 1e3, "ms")


async def memory(server: ServerProcess, live: int, steps: int) -> AsyncIterator[Figure]:
    async with EnvClient(server.url) as client:
        play = await player(client)
        before = memory_bytes(server.pid)
        for _ in range(live // 500):
            views = await play.begin(500)
            for _ in range(steps):
                views = await play.step(views)
        grown = memory_bytes(server.pid) - before
        yield at_most("alfworld.http.memory_per_live_episode", grown / live / 1024, "KB", 8)
        yield value("alfworld.http.live_episodes", live, "")


async def endurance(
    server: ServerProcess, folder: str, warm_up: int, episodes: int, steps: int
) -> AsyncIterator[Figure]:
    """The warm-up is longer than the server remembers ended episodes."""
    async with EnvClient(server.url) as client:
        play = await player(client)

        async def until(total: int) -> int:
            while play.begun < total:
                views = begun = await play.begin(BATCH)
                for _ in range(steps):
                    views = await play.step(views)
                sound(await client.close_many(view.id for view in begun))
            return memory_bytes(server.pid)

        warm = await until(warm_up)
        before = left_open(server, folder)
        grown = await until(episodes) - warm
        now = left_open(server, folder)
        yield at_most("alfworld.http.memory_growth", 100 * grown / warm, "%", 5)
        yield value("alfworld.http.episodes_played_and_closed", play.begun - warm_up, "")
        for what, count in before.items():
            yield at_most(f"alfworld.http.{what}_left", now[what] - count, "", 0)


def left_open(server: ServerProcess, folder: str) -> dict[str, int]:
    """What the server holds of the system, and its temporary files."""
    process = psutil.Process(server.pid)
    return {
        "descriptors": process.num_fds(),
        "processes": len(process.children(recursive=True)),
        "files": sum(len(files) for _, _, files in os.walk(folder)),
    }


def fork_in_process(count: int) -> Iterator[Figure]:
    """A copy of a live environment, after a walk of ten steps."""
    family = default_registry().make(ENV)
    try:
        environment = family.make()
        observation = environment.reset(family.sample(SPLIT, 7))
        rng = random.Random(0)
        for _ in range(10):
            command = rng.choice([text for text in observation.admissible_actions if text.startswith(("go", "open"))])
            observation = environment.step(Action("take_action", {"action": command})).observation
        started = time.process_time()
        for _ in range(count):
            environment.fork().close()
        yield at_most("alfworld.fork_in_process", (time.process_time() - started) / count * 1e6, "us", 50)
    finally:
        family.close()


def served(part: Callable[[ServerProcess, str], AsyncIterator[Figure]]) -> Iterator[Figure]:
    """The figures of a part, as they come, on a server of its own with a folder for its temporary files."""
    with (
        tempfile.TemporaryDirectory(prefix="envloop-bench-") as folder,
        server_process(["--env", ENV], env={**SETTINGS, "TMPDIR": folder}) as server,
        asyncio.Runner() as runner,
    ):
        figures = part(server, folder)

        async def following() -> Figure | None:
            return await anext(figures, None)

        while (figure := runner.run(following())) is not None:
            yield figure


def measure(arguments: argparse.Namespace) -> Iterator[Figure]:
    quick = arguments.quick
    yield from fork_in_process(1000 if quick else 20_000)
    yield from served(lambda server, _: throughput(server, 60 if quick else 400))
    yield from served(lambda server, _: forks(server, 50 if quick else 500))
    yield from served(lambda server, _: memory(server, 4_000 if quick else 20_000, 5 if quick else 10))
    episodes = 6_000 if quick else 25_000
    yield from served(lambda server, folder: endurance(server, folder, 5_000, episodes, 5 if quick else 10))


if __name__ == "__main__":
    run(__doc__ or "", measure)
