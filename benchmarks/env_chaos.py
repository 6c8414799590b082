"""Episodes of both environments through a bad network, on a server that is killed every ten seconds.

    python benchmarks/env_chaos.py [--json] [--quick] [--seconds N] [--openenv-python PATH]

A proxy drops, delays, sends twice or cuts the answer of a tenth of the requests; the server gets a SIGKILL every ten
seconds and is started again. 64 episodes play at once: the expert's actions with mistakes in between, recorded from a
run without faults. Each view must be the recorded one (text, admissible actions, reward, state, number of steps); an
episode that raises an error or stands elsewhere is lost, a step that was applied twice is doubled. Then the same over
streams, whose frames are dropped with the connection, delayed, or have their answer cut.

With an interpreter that has ``openenv`` (0.10 was measured), the same faults, for at most two minutes each, for
OpenEnv's own client, on its own server and on our OpenEnv routes: a toy environment that counts, a WebSocket an
episode, and a caller that sends again what failed. An episode of its own server goes on ``blank`` where its counting
begins anew after a drop. Its messages are dropped, delayed or cut; none is sent twice, since nothing on the way could
do that inside a connection.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _chaos import KilledServer, Proxy, SocketProxy, free_port
from _figures import Figure, at_least, at_most, collected, run, value

from envs.client import EnvClient
from envs.errors import EnvloopError
from envs.server_process import server_process
from envs.types import Action
from envs.wire import EpisodeView

AT_ONCE = 64
FAULTS = 0.10
KILL_EVERY_S = 10.0
STREAMS = 8
OPENENV_S = 120.0
SCRIPTS = 48  # of each environment
WRONG = {
    "alfworld": Action("take_action", {"action": "go to nowhere 1"}),
    "dbbench": Action("execute_sql", {"query": "SELECT nothing FROM nowhere"}),
}


@dataclass(frozen=True)
class Script:
    """An episode's actions, and what each view must show."""

    env: str
    task_id: str
    actions: tuple[Action, ...]
    shown: tuple[Any, ...]


def shown(view: EpisodeView) -> Any:
    """What must be the same in every run."""
    seen = view.observation
    return (view.steps, seen.text, tuple(seen.admissible_actions), view.reward, view.status, view.state_hash)


async def record(client: EnvClient, env: str, number: int) -> Script:
    """Play an episode without faults: the expert, with a mistake now and then."""
    rng = random.Random(number)
    view = await client.create(env, split="generated", sample_seed=number)
    task_id = view.task.id
    actions, views = [], [shown(view)]
    while not view.status.over:
        action = await client.expert_action(view.id) if rng.random() < 0.75 else WRONG[env]
        assert action is not None
        view = await client.step(view, action)
        actions.append(action)
        views.append(shown(view))
    return Script(env, task_id, tuple(actions), tuple(views))


class Chaos:
    """The run: episodes one after the other in each of 64 places, until the time is over."""

    def __init__(self, scripts: list[Script], until: float) -> None:
        self._scripts = itertools.cycle(scripts)
        self._until = until
        self.endings: Counter[str] = Counter()
        self.steps = 0
        self.first_problem = ""

    async def place(self, client: EnvClient) -> None:
        """Episode after episode."""
        while time.monotonic() < self._until:
            script = next(self._scripts)
            try:
                self.endings[await self._episode(client, script)] += 1
            except EnvloopError as error:
                self.endings["lost"] += 1
                self.first_problem = self.first_problem or f"{script.env} {script.task_id}: {error}"

    async def _episode(self, client: EnvClient, script: Script) -> str:
        view = await client.create(script.env, task_id=script.task_id)
        for action, expected in zip((None, *script.actions), script.shown, strict=True):
            if action is not None:
                view = await client.step(view, action)
                self.steps += 1
            found = shown(view)
            if found != expected:
                self.first_problem = self.first_problem or f"{script.env} {script.task_id}: {found} for {expected}"
                return "doubled" if found[0] != expected[0] else "wrong reward" if found[3] != expected[3] else "lost"
        return "as without faults"


async def scripts() -> list[Script]:
    """What is played, from a server and a network without faults."""
    with server_process() as quiet:
        async with EnvClient(quiet.url) as client:
            return [await record(client, env, n) for n in range(SCRIPTS) for env in WRONG]


async def measure_chaos(seconds: float, streams: int) -> AsyncIterator[Figure]:
    """All figures, by requests or over so many streams."""
    name = "env.chaos.streams" if streams else "env.chaos"
    made = await scripts()
    with tempfile.TemporaryDirectory(prefix="envloop-chaos-") as folder:
        port = free_port()
        server = KilledServer(Path(folder), port)
        proxy = SocketProxy(port, FAULTS, seed=1) if streams else Proxy(port, FAULTS, seed=1)
        try:
            await server.start()
            chaos = Chaos(made, time.monotonic() + seconds)

            async def killer() -> None:
                while True:
                    await asyncio.sleep(KILL_EVERY_S)
                    await server.kill()

            url = await proxy.start()
            async with EnvClient(url, timeout_s=30, max_connections=AT_ONCE, streams=streams) as client:
                await client.ready()
                killing = asyncio.create_task(killer())
                await asyncio.gather(*(chaos.place(client) for _ in range(AT_ONCE)))
                killing.cancel()
                await asyncio.wait([killing])
        finally:
            await proxy.aclose()
            server.stop()
    if chaos.first_problem:
        print(f"# {chaos.first_problem}", flush=True)
    yield at_least(f"{name}.kills", server.kills, "", int(seconds / 20))
    yield value(f"{name}.messages", proxy.messages, "")
    yield value(f"{name}.faults", sum(proxy.faults.values()), "")
    yield value(f"{name}.steps", chaos.steps, "")
    yield at_least(f"{name}.episodes", chaos.endings["as without faults"], "", AT_ONCE)
    for ending in ("lost", "doubled", "wrong reward"):
        yield at_most(f"{name}.{ending.replace(' ', '_')}", chaos.endings[ending], "", 0)


async def measure_openenv(python: str, seconds: float, kind: str) -> AsyncIterator[Figure]:
    """Figures of OpenEnv's client, beside ours: on its ``own`` server, or on ``ours``."""
    name = "env.chaos.openenv" if kind == "own" else "env.chaos.openenv_client_here"
    here = Path(__file__).parent
    with tempfile.TemporaryDirectory(prefix="envloop-chaos-") as folder:
        port = free_port()
        side = [python, str(here / "_openenv_side.py")]
        if kind == "own":
            command, health, path = [*side, "serve", str(port), str(4 * AT_ONCE)], "/health", ""
        else:
            command = [sys.executable, str(here / "_toy.py"), "serve", str(port), f"{folder}/journal.sqlite"]
            health, path = "/healthz", "/openenv/toy"
        server = KilledServer(Path(folder), port, command=command, health=health)
        proxy = SocketProxy(port, FAULTS, seed=1)
        try:
            await server.start()
            play = [*side, "chaos", await proxy.start() + path, str(AT_ONCE), str(seconds), kind]
            player = await asyncio.create_subprocess_exec(*play, stdout=asyncio.subprocess.PIPE)
            playing = asyncio.create_task(player.communicate())
            until = time.monotonic() + seconds
            while time.monotonic() + KILL_EVERY_S < until:
                await asyncio.sleep(KILL_EVERY_S)
                await server.kill()
            said, _ = await playing
        finally:
            await proxy.aclose()
            server.stop()
    found = Counter(json.loads(said.splitlines()[-1]))
    yield value(f"{name}.kills", server.kills, "")
    yield value(f"{name}.messages", proxy.messages, "")
    yield value(f"{name}.faults", sum(proxy.faults.values()), "")
    yield value(f"{name}.steps", found["steps"], "")
    yield value(f"{name}.episodes", found["as without faults"], "")
    for ending in ("blank", "doubled", "lost"):
        if kind == "own":
            yield value(f"{name}.{ending}", found[ending], "")
        else:
            yield at_most(f"{name}.{ending}", found[ending], "", 0)


def measure(arguments: argparse.Namespace) -> Iterator[Figure]:
    """For the command line."""
    seconds = 30.0 if arguments.quick else arguments.seconds
    for streams in (0, STREAMS):
        yield from collected(measure_chaos(seconds, streams))
    if not arguments.openenv_python:
        print("# OpenEnv was not measured: name an interpreter that has it with --openenv-python", file=sys.stderr)
        return
    for kind in ("own", "ours"):
        yield from collected(measure_openenv(arguments.openenv_python, min(seconds, OPENENV_S), kind))


def options(parser: argparse.ArgumentParser) -> None:
    """The command line's own."""
    parser.add_argument("--seconds", type=float, default=300.0, help="how long to play, each")
    parser.add_argument("--openenv-python", help="an interpreter that has openenv")


if __name__ == "__main__":
    run(__doc__ or "", measure, options=options)
