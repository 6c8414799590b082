"""The env server's API and its OpenEnv routes against schemathesis: documented answers alone, and no 5xx."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from api_fuzz import ApiFuzz, httpx_request
from starlette.testclient import TestClient

from envs.config import EnvServerSettings
from envs.server.app import create_app
from envs.server_process import server_process

PLAY, READ, ADMIN = "tok-fuzz-play", "tok-fuzz-read", "tok-fuzz-admin"
TOKENS = (f"play:{PLAY}", f"read:{READ}", f"admin:{ADMIN}")
ENVS = ("alfworld", "dbbench")
DOCUMENTS = ("", "/openenv/alfworld", "/openenv/dbbench")
ACTIONS = [
    {"name": "take_action", "arguments": {"action": "look"}},
    {"name": "take_action", "arguments": {"action": "go to \ud800 1"}},
    {"name": "execute_sql", "arguments": {"query": "SELECT 1"}},
    {"name": "execute_sql", "arguments": {"query": "SELECT \x00 FROM"}},
    {"name": "commit_final_answer", "arguments": {"answers": ["x"]}},
]


class Fuzzed:
    """A server, in this process or another, and what is known of it."""

    def __init__(self, client: httpx.Client, base_url: str, token: str | None) -> None:
        self._client = client
        self._base_url = base_url
        self.count = 0
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self.known: dict[str, list[Any]] = {
            "env": [*ENVS, "alfworld-v1"],
            "split": ["generated", "generated_eval", "dev"],
            "type": ["pick_and_place_simple", "INSERT", None],
            "task_id": ["generated/7", "generated/INSERT/3", "generated/pick_two_obj_and_place/1", "dev/1"],
            "episode_id": [],
            "action": list(ACTIONS),
            "tool_name": ["take_action", "execute_sql", "commit_final_answer"],
            "expert": ["oracle", "explorer", "gold", None],
            "at_step": [0, 1, None],
            "count": [1, 2],
            "step": [0, 1, None],
            "options": [{}],
            "ids": [],
        }

    def send(self, request: dict[str, Any]) -> httpx.Response:
        return self._client.request(**httpx_request(request, self._headers))

    def fresh(self) -> None:
        """Two running episodes of each environment; the old ones are closed."""
        for episode in self.known["ids"]:
            self._client.delete(f"{self._base_url}/v1/episodes/{episode}", headers=self._headers)
        made = []
        for env in ENVS * 2:
            body = {"env": env, "sampler": {"split": "generated", "seed": 1}}
            answer = self._client.post(f"{self._base_url}/v1/episodes", json=body, headers=self._headers)
            made.append(answer.raise_for_status().json()["id"])
        self.known["ids"][:] = made
        self.known["episode_id"][:] = [*made, *made, "ep_none"]

    def fuzz(self, document: str) -> ApiFuzz:
        found = self._client.get(f"{self._base_url}{document}/openapi.json").json()
        return ApiFuzz(found, self.send, self.known, fresh=self.fresh, base_url=self._base_url + document)


@pytest.fixture(scope="module", params=["open", "admin"])
def here(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    """In this process, with the approximation of a database that needs no server."""
    guarded: dict[str, Any] = {}
    if request.param == "admin":
        journal = tmp_path_factory.mktemp("fuzz") / "journal.sqlite"
        guarded = {"tokens": TOKENS, "journal_url": f"sqlite:///{journal}"}
    app = create_app(EnvServerSettings(dbbench={"url": "sqlite:"}, openenv=ENVS, max_episodes=64, **guarded))
    with TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as client:
        fuzzed = Fuzzed(client, "http://127.0.0.1", ADMIN if guarded else None)
        fuzzed.count = 5 if guarded else 2
        yield fuzzed


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_answer_is_as_documented(here: Fuzzed, document: str) -> None:
    fuzz = here.fuzz(document)
    fuzz.generated(here.count, derandomize=True)
    assert fuzz.sent > 10


@pytest.mark.parametrize("document", DOCUMENTS)
def test_bad_bodies_are_refused_as_documented(here: Fuzzed, document: str) -> None:
    fuzz = here.fuzz(document)
    fuzz.malformed()
    assert fuzz.sent > 50


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("tok-fuzz-wrong", 401), (READ, 403)])
def test_every_operation_asks_for_its_token(token: str | None, status: int) -> None:
    app = create_app(EnvServerSettings(envs=("alfworld",), openenv=("alfworld",), tokens=TOKENS))
    with TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as client:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        guarded = 0
        for document in ("", "/openenv/alfworld"):
            for path, methods in client.get(document + "/openapi.json").json()["paths"].items():
                for method in methods:
                    body = {"jsonrpc": "2.0", "method": "tools/list"} if path == "/mcp" else {}
                    url = document + path.replace("{", "").replace("}", "")
                    answer = client.request(method, url, headers=headers, json=None if method == "get" else body)
                    if "401" in methods[method]["responses"] and (status == 401 or method != "get"):
                        assert (path, method, answer.status_code) == (path, method, status)
                        guarded += 1
                    else:
                        assert answer.status_code not in (401, 403)
        assert guarded > 8


@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS)
def test_thousands_of_requests_to_a_real_server(document: str) -> None:
    arguments = [argument for env in ENVS for argument in ("--openenv", env)]
    process = server_process(arguments, env={"ENVLOOP_TOKENS": " ".join(TOKENS)})
    with process as server, httpx.Client(trust_env=False, timeout=60) as client:
        fuzz = Fuzzed(client, server.url, ADMIN).fuzz(document)
        fuzz.generated(150, derandomize=False)
        fuzz.malformed()
        assert fuzz.sent > 1000
