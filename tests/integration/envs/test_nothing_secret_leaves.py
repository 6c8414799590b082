"""Nothing that a play token is told, and nothing that the server logs, holds a gold answer or a token.

A real server at DEBUG plays tasks whose gold is of words that stand nowhere else: every type, every way to ask, every
error, after a SIGKILL and after its database died.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from marked_tasks import GOLD_HASH, QUESTIONS, write_marked_games, write_marked_tasks
from websockets.sync.client import connect

from envs.registry import ALFWORLD, DBBENCH

PLAY, READ, ADMIN = "tok-secrets-play", "tok-secrets-read", "tok-secrets-admin"
GOLD = re.compile(rf"gold.marker|{GOLD_HASH}|walkthrough|high_pddl", re.IGNORECASE)
TOOLS = {"alfworld": "take_action", "dbbench": "execute_sql"}
LOOK = {"name": "take_action", "arguments": {"action": "look"}}
STATEMENTS = (
    "SELECT * FROM things",
    "SELECT nothing FROM nowhere",
    "SHOW TABLES",
    "SHOW CREATE TABLE things",
    "no statement",
)


class Server:
    """``envloop env serve`` at DEBUG, on one port and one journal, through as many processes as it takes."""

    def __init__(self, folder: Path) -> None:
        self.num_tasks = write_marked_tasks(folder / "db")
        write_marked_games(folder / "games")
        self.log = folder / "server.log"
        self._folder = folder
        self._variables = {
            "ENVLOOP_TOKENS": f"play:{PLAY} read:{READ} admin:{ADMIN}",
            "ENVLOOP_JOURNAL_URL": f"sqlite:///{folder}/journal.sqlite",
            "DBBENCH_DATA": str(folder / "db"),
            "ALFWORLD_DATA": str(folder / "games"),
        }
        self.port = "0"
        self.start()

    def start(self) -> None:
        ready = self._folder / "ready.json"
        ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "envs.cli", "env", "serve", "--port", self.port, "--log-level", "debug"]
        command += ["--openenv", "alfworld", "--openenv", "dbbench", "--ready-file", str(ready)]
        with self.log.open("ab") as log:
            variables = {**os.environ, **self._variables}
            self.process = subprocess.Popen(command, env=variables, stdout=log, stderr=subprocess.STDOUT)
        for _ in range(600):
            if ready.exists():
                break
            assert self.process.poll() is None
            time.sleep(0.1)
        self.url = str(json.loads(ready.read_text())["url"])
        self.port = self.url.rpartition(":")[2]

    def end(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
        self.process.wait(30)


class Eavesdropper:
    """Everything that came over the wire to one token: status, headers and body of every answer, and every frame."""

    def __init__(self, token: str) -> None:
        self.heard: list[str] = []
        self._headers = {"Authorization": f"Bearer {token}"}
        self.http = httpx.Client(
            headers=self._headers, trust_env=False, timeout=60, event_hooks={"response": [self._hear]}
        )

    def _hear(self, answer: httpx.Response) -> None:
        answer.read()
        head = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
        self.heard.append(f"{answer.request.method} {answer.request.url} {answer.status_code}\n{head}\n\n{answer.text}")

    def frames(self, url: str, *messages: Any) -> None:
        """Say these on a WebSocket, and hear an answer to each."""
        with connect(url.replace("http", "ws"), additional_headers=self._headers, proxy=None) as socket:
            for message in messages:
                socket.send(json.dumps(message))
                self.heard.append(f"{url}\n{socket.recv()!s}")

    def leaks(self) -> list[str]:
        return [
            f"…{text[max(0, at.start() - 60) : at.end() + 20]}…" for text in self.heard for at in GOLD.finditer(text)
        ]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    if made.process.poll() is None:
        made.end(signal.SIGTERM)


@pytest.fixture
def player() -> Iterator[Eavesdropper]:
    made = Eavesdropper(PLAY)
    yield made
    made.http.close()


def test_no_gold_and_no_token_is_told_or_logged(server: Server, player: Eavesdropper) -> None:
    api, url = player.http, server.url + "/v1"
    look_around(api, server)
    live = [play(api, url, "dbbench", f"marked/{n}") for n in range(server.num_tasks)]
    games = api.get(f"{url}/envs/alfworld/tasks?split=valid_seen").json()["tasks"]
    assert {game["type"] for game in games} == set(ALFWORLD.task_types)
    live += [play(api, url, "alfworld", game["id"]) for game in games]
    live += [play(api, url, "alfworld", f"generated/{kind}/3") for kind in ALFWORLD.task_types]
    for number in range(server.num_tasks, server.num_tasks + 3):  # their gold cannot be found
        body = {"env": "dbbench", "task_id": f"marked/{number}"}
        answers = [api.post(f"{url}/episodes", json=body), api.post(f"{url}/batch/episodes", json={"items": [body]})]
        assert answers[0].status_code >= 400
        assert not answers[1].json()["results"][0]["ok"]
    at_once(api, url, live)
    other_ways(player, server)
    the_gold_is_there(server, live)

    tell_the_time = play(api, url, "dbbench", "dev/0")
    step(api, url, tell_the_time, sql("SELECT SYSDATE(6), UUID()"))
    step(api, url, tell_the_time, sql("SELECT * FROM information_schema.processlist"))
    server.end(signal.SIGKILL)
    server.start()
    again = [step(api, url, episode, LOOK if episode in live[-12:] else sql("SELECT 1")) for episode in live]
    assert [answer.text for answer in again if answer.status_code != 200] == []
    assert "cannot be restored" in step(api, url, tell_the_time, sql("SELECT 1")).text

    for child in psutil.Process(server.process.pid).children(recursive=True):
        if "maria" in child.name() or "mysqld" in child.name():
            child.kill()
    for episode in live[:3]:
        step(api, url, episode, sql("SELECT 1"))
        api.get(f"{url}/episodes/{episode}")
    finish(api, url, live[3 : server.num_tasks])
    look_around(api, server)
    server.end(signal.SIGTERM)

    log = server.log.read_text(errors="replace")
    assert len(player.heard) > 400
    assert "GET /v1/envs" in log  # it did log everything
    assert player.leaks() == []
    assert [log[max(0, at.start() - 200) : at.end() + 20] for at in GOLD.finditer(log)] == []
    for token in (PLAY, READ, ADMIN):
        assert token not in log
        assert not [text for text in player.heard if token in text]


def sql(statement: str) -> dict[str, Any]:
    return {"name": "execute_sql", "arguments": {"query": statement}}


def step(api: httpx.Client, url: str, episode: str, action: Any, **more: Any) -> httpx.Response:
    return api.post(f"{url}/episodes/{episode}/step", json={"action": action, **more})


def look_around(api: httpx.Client, server: Server) -> None:
    """All that can be read without an episode."""
    for path in ("/readyz", "/version", "/metrics", "/openapi.json", "/docs", "/nothing", "/v1/nothing", "/v1/envs"):
        api.get(server.url + path)
    for env, spec in (("alfworld", ALFWORLD), ("dbbench", DBBENCH)):
        here = f"{server.url}/v1/envs/{env}"
        api.get(here)
        for path in ("/health", "/metadata", "/schema", "/openapi.json"):
            api.get(f"{server.url}/openenv/{env}{path}")
        for split in ("marked", "valid_seen", "dev", "generated", "nowhere"):
            page = api.get(f"{here}/tasks?split={split}&limit=60")
            for task in page.json().get("tasks", [])[:20]:
                api.get(f"{here}/tasks/{task['id']}")
            for kind in (*spec.task_types, "nothing"):
                api.get(f"{here}/sample?split={split}&type={kind}&seed=1")
                api.get(f"{here}/tasks?split={split}&type={kind}&limit=2")
        api.get(f"{here}/tasks/marked/999")


def play(api: httpx.Client, url: str, env: str, task: str) -> str:
    """Begin an episode of a task, and ask for all that can go wrong; it runs on."""
    body = {"env": env, "task_id": task, "idempotency_key": f"key of {task}"}
    episode = str(api.post(f"{url}/episodes", json=body).raise_for_status().json()["id"])
    api.post(f"{url}/episodes", json=body)
    api.post(f"{url}/episodes", json={**body, "seed": 3})
    api.post(f"{url}/episodes", json={"env": env, "task_id": task, "options": {"gold": True}})
    there = f"{url}/episodes/{episode}"
    assert api.post(there + "/expert").status_code == 403
    assert api.post(there + "/expert", json={"expert": "gold"}).status_code == 403
    actions = [{"name": "nothing"}, {"name": TOOLS[env], "arguments": {"gold": 1}}]
    for action in actions:
        assert step(api, url, episode, action).status_code == 422
    for action in [LOOK] if env == "alfworld" else [sql(statement) for statement in STATEMENTS]:
        assert step(api, url, episode, action).status_code == 200
    step(api, url, episode, LOOK, step=99)
    api.post(there + "/fork", json={"at_step": 99})
    fork = api.post(there + "/fork", json={"at_step": 1}).raise_for_status().json()["episodes"][0]["id"]
    finish(api, url, [fork])
    second = api.post(f"{url}/episodes/{fork}/fork", json={"at_step": 0}).raise_for_status().json()["episodes"][0]["id"]
    api.delete(f"{url}/episodes/{second}")
    step(api, url, second, LOOK)
    return episode


def finish(api: httpx.Client, url: str, episodes: list[str]) -> None:
    """Give a wrong answer where there is one to give, and look at what is left."""
    for episode in episodes:
        for answers in (["wrong"], [["wrong"]], ["wrong", "second"]):
            step(api, url, episode, {"name": "commit_final_answer", "arguments": {"answers": answers}})
        api.get(f"{url}/episodes/{episode}")
        api.delete(f"{url}/episodes/{episode}")


def at_once(api: httpx.Client, url: str, live: list[str]) -> None:
    """The same in batches, with items that are none."""
    steps: list[Any] = [{"episode_id": episode, "action": LOOK} for episode in live]
    steps += [{"episode_id": episode, "action": sql("SELECT 1")} for episode in [*live, "ep_none"]]
    api.post(f"{url}/batch/steps", json={"items": [*steps, 3, {}, {"episode_id": live[0], "action": {}}]})
    new = [{"env": "dbbench", "task_id": f"marked/{n}"} for n in range(4)]
    made = api.post(f"{url}/batch/episodes", json={"items": [*new, {"env": "dbbench"}, {"env": "x", "task_id": "y"}]})
    ids = [result["episode"]["id"] for result in made.json()["results"] if result["ok"]]
    assert len(ids) == 4
    finish(api, url, ids[:2])
    api.post(f"{url}/batch/close", json={"ids": [*ids, "ep_none"]})


def other_ways(player: Eavesdropper, server: Server) -> None:
    """The stream, and OpenEnv's routes."""
    create = {"op": "create", "env": "dbbench", "task_id": "marked/1"}
    stream = [[{"id": 1, **create}], [{"id": 2, "op": "expert", "episode_id": "ep_none"}], {"op": "nothing"}]
    player.frames(server.url + "/v1/stream", *stream)
    for env, task, tool, arguments in (
        ("dbbench", "marked/2", "execute_sql", {"query": "SELECT * FROM things"}),
        ("alfworld", "generated/pick_and_place_simple/3", "take_action", {"action": "look"}),
    ):
        here = f"{server.url}/openenv/{env}"
        call = {"tool_name": tool, "arguments": arguments}
        rpc = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
        wrong = [{"type": "step", "data": {"tool_name": "commit_final_answer", "arguments": {"answers": ["wrong"]}}}]
        player.frames(
            f"{here}/sessions/secrets-{env}/ws",
            {"type": "step", "data": call},
            {"type": "reset", "data": {"task_id": task}},
            {"type": "step", "data": call},
            {"type": "mcp", "data": rpc},
            {"type": "state"},
            *wrong,
            {"type": "state"},
            {"type": "reset", "data": {"task_id": f"marked/{server.num_tasks}"}},
        )
        player.http.post(here + "/reset", json={"task_id": task, "options": {"gold": 1}})
        player.http.post(here + "/mcp", json=rpc)


def the_gold_is_there(server: Server, live: list[str]) -> None:
    """An admin is told it, so that a leak would be found; who reads is told as little as who plays."""
    admin, reader = Eavesdropper(ADMIN), Eavesdropper(READ)
    for episode in live[: len(QUESTIONS)]:
        there = f"{server.url}/v1/episodes/{episode}"
        assert "gold-marker-label" in admin.http.post(there + "/expert", json={"expert": "gold"}).text
        assert reader.http.get(there).status_code == 200
        assert reader.http.post(there + "/expert").status_code == 403
        assert reader.http.delete(there).status_code == 403
    assert admin.leaks()
    assert reader.leaks() == []
    for one in (admin, reader):
        one.http.close()
