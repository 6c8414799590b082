"""A real server process: starts, says where it is, plays both environments, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from envs.async_client import EnvClient
from envs.client import NewEpisode, SyncEnvClient
from envs.errors import BackendUnavailable, TransportError, Unauthorized
from envs.server_process import server_process

SERVE = [sys.executable, "-m", "envs.cli", "env", "serve", "--port", "0"]


@pytest.fixture
def tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Temporary folders of the server go here, so that what it leaves can be seen. Short: sockets live in it."""
    short = Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path, f"t{os.getpid()}")
    short.mkdir()
    monkeypatch.setenv("TMPDIR", str(short))
    for name in ("ENVLOOP_TOKEN", "ENVLOOP_EXPERT_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    yield short
    left = sorted(str(p.relative_to(short)) for p in short.rglob("*"))
    for path in sorted(short.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    short.rmdir()
    assert left == []


async def play(url: str, names: tuple[str, ...] = ("alfworld", "dbbench")) -> None:
    """Win two episodes of each environment side by side, and leave two more of each running."""
    async with EnvClient(url) as client:
        for name in names:
            new = [NewEpisode(env=name, split="generated", sample_seed=k) for k in range(4)]
            views = await client.create_many(new)
            live = views[:2]
            while live:
                actions = await asyncio.gather(*(client.expert_action(v.id) for v in live))
                done = await client.step_many(zip(live, actions, strict=True))
                assert all(v.reward == 1.0 for v in done if v.status.over)
                live = [v for v in done if not v.status.over]


def family_tree(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything(number: int, tmp: Path) -> None:
    ready = tmp / "ready.json"
    process = subprocess.Popen(
        [*SERVE, "--ready-file", str(ready)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline()
        assert line.startswith("envloop env server ready at http://127.0.0.1:")
        url = line.split()[5]
        assert "alfworld, dbbench" in line
        assert json.loads(ready.read_text()) == {"url": url, "pid": process.pid}
        asyncio.run(play(url))
        tree = family_tree(process.pid)
        assert len(tree) > 1  # the database is there
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, out, err) == (0, "", "")
    _, alive = psutil.wait_procs(tree, timeout=10)
    assert alive == []
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(url.rpartition(":")[2]))) != 0


def test_a_signal_during_the_start_leaves_nothing(tmp: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    # No kept template: the private database is made anew, which takes a while and leaves its marks.
    env = {**os.environ, "ENVLOOP_CACHE_DIR": str(tmp_path_factory.mktemp("no-template"))}
    process = subprocess.Popen(SERVE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    try:
        until = time.monotonic() + 60
        while process.poll() is None and not any(tmp.iterdir()) and time.monotonic() < until:
            time.sleep(0.001)
        tree = family_tree(process.pid)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    _, alive = psutil.wait_procs(tree, timeout=10)
    assert alive == []


def test_the_server_does_not_outlive_the_process_that_started_it(tmp: Path) -> None:
    code = (
        "import os, signal\n"
        "from envs.server_process import server_process\n"
        "with server_process(['--env', 'alfworld']) as server:\n"
        "    print(server.pid, server.url, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    pid, url = done.stdout.split()
    if psutil.pid_exists(int(pid)):
        _, alive = psutil.wait_procs([psutil.Process(int(pid))], timeout=30)
        assert alive == []
    with SyncEnvClient(url, retries=0) as client, pytest.raises(TransportError):
        client.version()
    for folder in tmp.glob("envloop-serve-*"):  # the killed parent's own
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def test_settings_reach_the_server(tmp: Path) -> None:
    tokens = {"ENVLOOP_TOKEN": "token-of-the-server", "ENVLOOP_EXPERT_TOKEN": "token-of-the-expert"}
    with server_process(["--env", "alfworld", "--host", "0.0.0.0"], env=tokens) as server:  # noqa: S104
        with SyncEnvClient(server.url) as client, pytest.raises(Unauthorized):
            client.envs()
        with SyncEnvClient(server.url, token="token-of-the-expert") as client:
            assert [env.spec.name for env in client.envs()] == ["alfworld"]
            episode = client.create("alfworld", split="generated", sample_seed=7)
            assert client.expert_action(episode.id) is not None
    assert not any(tmp.iterdir())


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--host", "0.0.0.0"], "what to do: set ENVLOOP_TOKEN"),  # noqa: S104
        (["--env", "chess"], "no environment is called 'chess'"),
        (["--alfworld-data", "/no/such/folder"], "/no/such/folder"),
        (["--config", "/no/such.toml"], "/no/such.toml: cannot be read"),
        (["--log-level", "loud"], "log_level"),
    ],
)
def test_a_wrong_setting_is_one_line(args: list[str], said: str, tmp: Path) -> None:
    done = subprocess.run([*SERVE, *args], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not any(tmp.iterdir())


def test_a_taken_port_says_so(tmp: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [*SERVE[:-1], port, "--env", "alfworld"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, f"cannot listen on 127.0.0.1:{port}" in done.stderr) == (2, True)


def test_a_server_that_does_not_start_says_why(tmp: Path) -> None:
    with (
        pytest.raises(BackendUnavailable, match="no environment is called 'chess'"),
        server_process(["--env", "chess"]),
    ):
        raise AssertionError("started")
    assert not any(tmp.iterdir())


def test_without_a_database_alfworld_is_served_and_readyz_says_what_is_missing(tmp: Path) -> None:
    url = {"DBBENCH_URL": "mysql://nobody:hidden-word@127.0.0.1:9/"}
    with server_process(env=url) as server, SyncEnvClient(server.url) as client:
        state = client.ready()
        assert (state["ready"], state["envs"]["alfworld"]["ready"], state["envs"]["dbbench"]["ready"]) == (
            False,
            True,
            False,
        )
        assert "dbbench is not ready" in state["error"]["message"]
        assert state["error"]["hint"]
        assert "hidden-word" not in json.dumps(state)
        assert client.create("alfworld", split="generated", sample_seed=1).steps == 0
        with pytest.raises(BackendUnavailable):
            client.create("dbbench", split="generated", sample_seed=1)
