"""Real server processes on one journal: killed in the middle, several on one port, and several journals' databases."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pymysql
import pytest

from envs.async_client import EnvClient
from envs.client import NewEpisode
from envs.dbbench.mysql_server import PrivateServer
from envs.types import EpisodeStatus
from envs.wire import EpisodeView

SERVE = [sys.executable, "-m", "envs.cli", "env", "serve", "--log-level", "error"]
BOTH = ("alfworld", "dbbench")


class Server:
    """``envloop env serve`` on a port, with a journal."""

    def __init__(self, folder: Path, *args: str, port: int = 0, url: str = "") -> None:
        self.ready = folder / "ready.json"
        self.ready.unlink(missing_ok=True)
        journal = url or f"sqlite:///{folder / 'journal.sqlite'}"
        self.process = subprocess.Popen(
            [*SERVE, "--port", str(port), "--ready-file", str(self.ready), *args],
            env={**os.environ, "ENVLOOP_JOURNAL_URL": journal},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[5]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.communicate(timeout=30)
            assert self.process.returncode == 0


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[Server]]:
    made: list[Server] = []
    yield made
    for server in made:
        server.stop()


async def expert_steps(client: EnvClient, views: list[EpisodeView], count: int) -> list[EpisodeView]:
    for _ in range(count):
        live = [view for view in views if not view.status.over]
        if not live:
            break
        actions = await asyncio.gather(*(client.expert_action(view.id) for view in live))
        done = await client.step_many((v, a) for v, a in zip(live, actions, strict=True) if a is not None)
        found = {view.id: view for view in done if isinstance(view, EpisodeView)}
        assert len(found) == len(live), done
        views = [found.get(view.id, view) for view in views]
    return views


async def test_a_killed_server_s_episodes_are_won_on_the_next(tmp_path: Path, servers: list[Server]) -> None:
    first = Server(tmp_path)
    servers.append(first)
    port = first.port
    async with EnvClient(first.url) as client:
        new = [NewEpisode(env=name, split="generated", sample_seed=n) for n in range(6) for name in BOTH]
        views = [view for view in await client.create_many(new) if isinstance(view, EpisodeView)]
        views = await expert_steps(client, views, 1)
        steps = asyncio.create_task(expert_steps(client, views, 3))  # it meets the kill, and waits for the next
        await asyncio.sleep(0.02)
        first.kill()
        servers[0] = await asyncio.to_thread(Server, tmp_path, port=port)
        views = await steps
        views = await expert_steps(client, views, 60)
        assert [(v.status, v.reward) for v in views] == [(EpisodeStatus.COMPLETED, 1.0)] * len(new)


async def test_workers_share_a_port_and_are_started_anew(tmp_path: Path, servers: list[Server]) -> None:
    server = Server(tmp_path, "--workers", "2", "--env", "alfworld")
    servers.append(server)
    clients = [EnvClient(server.url) for _ in range(8)]  # a connection each: they meet both processes
    try:
        view = await clients[0].create("alfworld", split="generated", sample_seed=3)
        for number in range(200):
            client = clients[number % len(clients)]
            action = await client.expert_action(view.id)
            assert action is not None
            view = await client.step(view, action)
            assert view.steps == number + 1
            if view.status.over:
                break
            if number == 3:
                before = psutil.Process(server.process.pid).children()
                assert len(before) == 2
                before[0].kill()
        assert view.reward == 1.0
    finally:
        for client in clients:
            await client.aclose()
    for _ in range(100):  # a new one is started a second after the last at the earliest
        now = [child.pid for child in psutil.Process(server.process.pid).children()]
        if len(now) == 2 and before[0].pid not in now:
            break
        await asyncio.sleep(0.1)
    assert len(now) == 2
    assert before[0].pid not in now


async def test_a_worker_that_cannot_start_ends_the_server(tmp_path: Path) -> None:
    done = await asyncio.to_thread(
        subprocess.run,
        [*SERVE, "--port", "0", "--workers", "2", "--alfworld-data", str(tmp_path / "nowhere")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "ENVLOOP_CACHE_DIR": str(tmp_path)},
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "nowhere" in done.stderr


@pytest.fixture(params=["mysql", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an empty database on a real server."""
    if request.param == "postgresql":
        yield request.getfixturevalue("postgres").database()
        return
    server = PrivateServer()
    address = server.start()
    try:
        with pymysql.connect(user=address.user, password=address.password, unix_socket=address.unix_socket) as root:
            root.cursor().execute("CREATE DATABASE journal")
        yield f"mysql://{address.user}:{address.password}@localhost/journal?unix_socket={address.unix_socket}"
    finally:
        server.close()


async def test_servers_may_share_a_database_as_their_journal(
    tmp_path: Path, servers: list[Server], database: str
) -> None:
    pair = [Server(tmp_path, "--env", "alfworld", url=database) for _ in range(2)]
    servers += pair
    async with EnvClient(pair[0].url) as one, EnvClient(pair[1].url) as two:
        view = await one.create("alfworld", split="generated", sample_seed=3)
        for number in range(200):
            client = (one, two)[number % 2]
            action = await client.expert_action(view.id)
            assert action is not None
            view = await client.step(view, action)
            if view.status.over:
                break
        assert view.reward == 1.0
        assert (await two.read(view.id)).steps == view.steps
