"""Steps per second of one server process and of two on the same port, with one journal.

    python benchmarks/env_replicas.py [--json] [--quick]

Each of 32 connections plays 64 ALFWorld episodes of a task of its own, with one batch request after the other and the
actions of the environment's explorer, to their end; the client makes no more of an answer than to count what succeeded,
so that it leaves the processors to the server. Afterwards
episodes are played that alternate between two servers at every step, and must be as those of one server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from _figures import Figure, at_least, at_most, collected, run, value

from envs.client import EnvClient
from envs.server_process import server_process

CONNECTIONS = 32
EPISODES = 64  # of each connection
BAR = 1.7
HEAD = "POST /v1/batch/{} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
ITEM = '{{"episode_id":"{}","step":{},"action":{}}}'
NEW = '{{"env":"alfworld","sampler":{{"split":"generated","seed":{}}}}}'


class Wire:
    """One connection, and so one process of the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def post(self, what: str, body: str) -> bytes:
        """The answer's body."""
        self._writer.write((HEAD.format(what, len(body)) + body).encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next(int(line[15:]) for line in lines if line.startswith(b"content-length"))
        return await self._reader.readexactly(length)

    def close(self) -> None:
        self._writer.close()


async def explored(url: str, number: int) -> list[str]:
    """The explorer's actions for the task of a connection, as JSON."""
    actions = []
    async with EnvClient(url) as client:
        view = await client.create("alfworld", split="generated", sample_seed=number)
        while not view.status.over:
            action = await client.expert_action(view.id, "explorer")
            assert action is not None
            actions.append(json.dumps({"name": action.name, "arguments": dict(action.arguments)}))
            view = await client.step(view, action)
    return actions


async def connection(url: str, until: float, number: int, actions: list[str]) -> int:
    """Steps that one connection got done."""
    wire = Wire(*await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2])))
    done = 0
    while time.perf_counter() < until:
        made = json.loads(await wire.post("episodes", _list("items", [NEW.format(number)] * EPISODES)))
        ids = [result["episode"]["id"] for result in made["results"]]
        for step, action in enumerate(actions):
            answer = await wire.post("steps", _list("items", [ITEM.format(one, step, action) for one in ids]))
            good = answer.count(b'"ok":true')
            assert good == len(ids), answer[:300]
            if time.perf_counter() >= until:
                break
            done += good
        else:
            continue
        await wire.post("close", _list("ids", [f'"{one}"' for one in ids]))
    wire.close()
    return done


def _list(name: str, items: list[str]) -> str:
    return f'{{"{name}":[' + ",".join(items) + "]}"


async def rate(workers: int, seconds: float, folder: Path) -> float:
    """Steps per second of so many processes."""
    journal = {"ENVLOOP_JOURNAL_URL": f"sqlite:///{folder / f'{workers}.sqlite'}"}
    args = ["--env", "alfworld", "--workers", str(workers), "--max-episodes", "4096"]
    with server_process(args, env=journal) as server:
        plays = [await explored(server.url, number) for number in range(CONNECTIONS)]
        warm = time.perf_counter() + 2
        await asyncio.gather(*(connection(server.url, warm, n, play) for n, play in enumerate(plays)))
        began = time.perf_counter()
        played = (connection(server.url, began + seconds, n, play) for n, play in enumerate(plays))
        done = await asyncio.gather(*played)
        return sum(done) / (time.perf_counter() - began)


async def alternate(folder: Path, count: int) -> int:
    """How many of the expert's episodes are lost or differ when two servers take turns."""
    journal = {"ENVLOOP_JOURNAL_URL": f"sqlite:///{folder / 'alternate.sqlite'}"}
    with (
        server_process(["--env", "alfworld"], env=journal) as a,
        server_process(["--env", "alfworld"], env=journal) as b,
    ):
        async with EnvClient(a.url) as one, EnvClient(b.url) as two:

            async def play(number: int, clients: tuple[EnvClient, ...]) -> list[str]:
                view = await one.create("alfworld", split="generated", sample_seed=number)
                texts = []
                while not view.status.over:
                    client = clients[view.steps % len(clients)]
                    action = await client.expert_action(view.id)
                    assert action is not None
                    view = await client.step(view, action)
                    texts.append(f"{view.observation.text} {view.reward} {view.state_hash}")
                return texts

            same = [await play(n, (one,)) == await play(n, (one, two)) for n in range(count)]
    return same.count(False)


async def figures(*, quick: bool) -> AsyncIterator[Figure]:
    """All of them."""
    with tempfile.TemporaryDirectory(prefix="envloop-replicas-") as name:
        folder = Path(name)
        rounds, seconds = (1, 4.0) if quick else (3, 12.0)
        rates: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(rounds):
            for workers, found in rates.items():
                found.append(await rate(workers, seconds, folder))
        one, two = (statistics.median(rates[workers]) for workers in (1, 2))
        yield value("env.replicas.one", one, "/s")
        yield value("env.replicas.two", two, "/s")
        yield at_least("env.replicas.ratio", two / one, "", BAR)
        yield at_most("env.replicas.alternating.different", await alternate(folder, 4 if quick else 40), "", 0)


def measure(arguments: argparse.Namespace) -> Iterator[Figure]:
    """For the command line."""
    return collected(figures(quick=arguments.quick))


if __name__ == "__main__":
    run(__doc__ or "", measure)
