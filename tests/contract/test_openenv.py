"""OpenEnv's own validator and clients, of the released package, against our servers: real processes on both sides."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from envs.server_process import ServerProcess, server_process

ROOT = Path(__file__).resolve().parents[2]
PLAY, READ, ADMIN = "tok-openenv-play", "tok-openenv-read", "tok-openenv-admin"
TOKENS = {"ENVLOOP_TOKENS": f"play:{PLAY} read:{READ} admin:{ADMIN}"}
BOTH = ("alfworld", "dbbench")
PLAYER = {"Authorization": f"Bearer {PLAY}"}


@pytest.fixture(scope="module")
def openenv() -> Path:
    """The interpreter that has the package openenv."""
    found = Path(os.environ.get("ENVLOOP_OPENENV_PYTHON") or ROOT / ".cache" / "openenv" / "bin" / "python")
    if not found.exists():
        pytest.skip("no interpreter has openenv: run scripts/bootstrap.sh --tests, or set ENVLOOP_OPENENV_PYTHON")
    return found


class Driver:
    """OpenEnv's clients in another process."""

    def __init__(self, python: Path) -> None:
        self._process = subprocess.Popen(
            [python, str(ROOT / "tests" / "openenv_driver.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._read() == {"ready": True}
        self._count = 0

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def ask(self, do: str, client: str, **more: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, "client": client, **more}) + "\n")
        self._process.stdin.flush()
        return self._read()

    def end(self) -> None:
        self._process.communicate(timeout=30)


@pytest.fixture(scope="module")
def driver(openenv: Path) -> Iterator[Driver]:
    made = Driver(openenv)
    yield made
    made.end()


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    asked = [argument for env in BOTH for argument in ("--openenv", env)]
    with server_process(asked, env={**TOKENS, "ENVLOOP_ENV_MAX_EPISODES": "6"}) as started:
        yield started


class Client:
    """One of OpenEnv's clients."""

    def __init__(self, driver: Driver, url: str, path: str, kind: str = "generic") -> None:
        self._driver = driver
        driver._count += 1
        self._name = str(driver._count)
        self._server = url
        assert driver.ask("open", self._name, url=url + path, headers=PLAYER, kind=kind) == {"ok": None}

    def ask(self, do: str, **more: Any) -> Any:
        answer = self._driver.ask(do, self._name, **more)
        assert "ok" in answer, answer
        return answer["ok"]

    def refused(self, do: str, **more: Any) -> str:
        answer = self._driver.ask(do, self._name, **more)
        assert "error" in answer, answer
        return str(answer["error"])

    def reset(self, **more: Any) -> dict[str, Any]:
        return self.ask("reset", **{"with": more})

    def step(self, action: dict[str, Any]) -> dict[str, Any]:
        return self.ask("step", action=action)

    def expert(self, view: dict[str, Any]) -> dict[str, Any]:
        """What the expert does next, as an OpenEnv action. The expert is asked over our own API, as an admin."""
        path = f"/v1/episodes/{view['metadata']['episode_id']}/expert"
        headers = {"Authorization": f"Bearer {ADMIN}"}
        action = httpx.post(self._server + path, headers=headers, trust_env=False).raise_for_status().json()["action"]
        return {"tool_name": action["name"], "arguments": action["arguments"]}

    def play(self, view: dict[str, Any]) -> dict[str, Any]:
        """To the end, by the expert."""
        while not view["done"]:
            view = self.step(self.expert(view))
        return view


@pytest.fixture
def connect(driver: Driver, server: ServerProcess) -> Iterator[Any]:
    """``connect("alfworld", "/sessions/a")`` gives a client that is closed after the test."""
    made: list[Client] = []

    def begin(env: str, path: str = "", kind: str = "generic") -> Client:
        client = Client(driver, server.url, f"/openenv/{env}{path}", kind)
        made.append(client)
        return client

    yield begin
    for client in made:
        client.ask("close")


def test_the_validator_passes(openenv: Path, server: ServerProcess, driver: Driver) -> None:
    command = [openenv.parent / "openenv", "validate", "--json", "--url", f"{server.url}/openenv/alfworld"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0
    other = driver.ask("validate", "", url=f"{server.url}/openenv/dbbench")["ok"]  # what the command calls
    for report in (json.loads(done.stdout), other):
        assert (report["passed"], report["standard_profile"], report["mode"]) == (
            True,
            "openenv-http/1.x",
            "simulation",
        )
        assert report["summary"]["passed_count"] == report["summary"]["total_count"] == 6


@pytest.mark.parametrize("env", BOTH)
def test_its_client_plays_a_whole_episode(connect: Any, env: str) -> None:
    client = connect(env)
    view = client.reset(seed=3)
    assert (view["reward"], view["done"], view["metadata"]["step"]) == (None, False, 0)
    view = client.play(view)
    assert (view["reward"], view["done"], view["metadata"]["status"]) == (1.0, True, "completed")
    assert client.ask("state")["step_count"] == view["metadata"]["step"] > 0
    assert "has ended" in client.refused("step", action={"tool_name": "take_action"})


def test_its_tool_client_plays_a_whole_episode(connect: Any) -> None:
    client = connect("dbbench", kind="mcp")
    assert client.ask("tools") == ["execute_sql", "commit_final_answer"]
    view = client.reset(seed=5)
    while not view["done"]:
        action = client.expert(view)
        found = client.ask("call", tool=action["tool_name"], arguments=action["arguments"])
        view = {**found, "metadata": found["observation"]["metadata"]}
    assert view["reward"] == 1.0


@pytest.mark.parametrize("env", BOTH)
def test_a_named_session_goes_on_after_its_socket_dropped(connect: Any, env: str) -> None:
    client = connect(env, f"/sessions/dropped-{env}")
    view = client.reset(seed=11)
    episode = view["metadata"]["episode_id"]
    while not view["done"]:
        action = client.expert(view)
        client.ask("drop")
        before = client.ask("state")
        assert (before["episode_id"], before["step_count"]) == (episode, view["metadata"]["step"])
        assert before["last"]["observation"]["text"] == view["text"]
        numbered = {**action, "metadata": {"step": before["step_count"]}}
        view = client.step(numbered)
        client.ask("drop")
        assert client.step(numbered) == view  # its answer was lost: the same again, and no second step
    assert (view["reward"], view["metadata"]["episode_id"]) == (1.0, episode)


def test_without_a_name_a_dropped_socket_is_told_that_it_plays_nothing(connect: Any) -> None:
    client = connect("alfworld")
    view = client.reset(seed=11, episode_id="mine-1")
    view = client.step(client.expert(view))
    client.ask("drop")
    assert "this connection plays no episode" in client.refused("step", action=client.expert(view))
    assert client.ask("state")["episode_id"] is None
    again = client.reset(seed=11, episode_id="mine-1")  # by its own name for the episode, it is the same one
    assert again["metadata"] == view["metadata"]
    assert client.play(again)["reward"] == 1.0


def test_a_killed_server_s_sessions_go_on_with_the_next(driver: Driver, tmp_path: Path) -> None:
    env = {**TOKENS, "ENVLOOP_JOURNAL_URL": f"sqlite:///{tmp_path}/journal.sqlite"}
    asked = ["--env", "alfworld", "--openenv", "alfworld"]
    with server_process(asked, env=env) as first:
        port = first.url.rpartition(":")[2]
        client = Client(driver, first.url, "/openenv/alfworld/sessions/killed")
        view = client.reset(seed=4)
        view = client.step(client.expert(view))
        os.kill(first.pid, signal.SIGKILL)
    with served(["--port", port, *asked], env, tmp_path):
        assert client.ask("state")["episode_id"] == view["metadata"]["episode_id"]
        assert client.play(view)["reward"] == 1.0
        client.ask("close")


@contextlib.contextmanager
def served(args: list[str], env: dict[str, str], folder: Path) -> Iterator[None]:
    """A server on a port that is named."""
    ready = folder / "ready.json"
    command = [sys.executable, "-m", "envs.cli", "env", "serve", "--ready-file", str(ready), *args]
    process = subprocess.Popen(command, env={**os.environ, **env}, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert "ready at" in process.stdout.readline()
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def test_closing_and_resetting_end_the_episode(connect: Any, server: ServerProcess) -> None:
    def status(episode: str) -> str:
        headers = {"Authorization": f"Bearer {READ}"}
        answer = httpx.get(f"{server.url}/v1/episodes/{episode}", headers=headers, trust_env=False)
        return str(answer.json()["status"])

    client = connect("alfworld")
    first = client.reset(seed=1)["metadata"]["episode_id"]
    second = client.reset(seed=1)["metadata"]["episode_id"]
    assert (status(first), status(second)) == ("cancelled", "running")
    other = connect("alfworld", "/sessions/closing")
    third = other.reset(task_id="generated/pick_and_place_simple/1")["metadata"]
    assert third["task"]["id"] == "generated/pick_and_place_simple/1"
    other.ask("drop")
    assert status(third["episode_id"]) == "running"
    connect("alfworld", "/sessions/closing").ask("close")
    assert status(third["episode_id"]) == "cancelled"


def test_what_cannot_be_done_is_an_error_and_changes_nothing(connect: Any) -> None:
    client = connect("dbbench")
    assert "splitt: Extra inputs" in client.refused("reset", **{"with": {"splitt": "dev"}})
    assert "no split" in client.refused("reset", **{"with": {"split": "nowhere"}}).lower()
    view = client.reset(seed=2, split="generated")
    for action in ({"sql": "SELECT 1"}, {"tool_name": "execute_sql", "arguments": {}}, {"tool_name": "nothing"}):
        assert "VALIDATION_ERROR" in client.refused("step", action=action)
    assert "does not follow" in client.refused("step", action={**client.expert(view), "metadata": {"step": 7}})
    assert client.ask("state")["step_count"] == 0
    assert client.play(view)["reward"] == 1.0


def test_a_full_server_says_so(connect: Any) -> None:
    clients = [connect("alfworld") for _ in range(7)]
    for client in clients[:6]:
        client.reset(seed=1)
    assert "CAPACITY_REACHED" in clients[6].refused("reset")


@pytest.mark.parametrize("token", ["", "tok-openenv-wrong", READ])
def test_nobody_plays_without_a_token_that_may(driver: Driver, server: ServerProcess, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = driver.ask("open", "stranger", url=f"{server.url}/openenv/alfworld", headers=headers)
    assert f"HTTP {403 if token == READ else 401}" in answer["error"]
