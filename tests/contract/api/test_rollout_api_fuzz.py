"""The rollout server's API against schemathesis: documented answers alone, and no 5xx. The experts play."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_fuzz import ApiFuzz, httpx_request
from starlette.testclient import TestClient

from rollout_server.config import RolloutServerSettings
from rollout_server.server.app import create_app

TOKEN = "tok-fuzz-rollouts"
TASK = {"env": "alfworld", "split": "generated", "sample_seed": 1}
REQUEST = {"tasks": [TASK], "group_size": 1, "sampling": {"max_tokens": 256}, "max_turns": 2}


@pytest.fixture(params=["open", "guarded"])
def fuzz(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiFuzz]:
    monkeypatch.setenv("ENVLOOP_ENV_ENVS", "alfworld")
    guarded = request.param == "guarded"
    settings = RolloutServerSettings(
        engine="expert", store_url=f"sqlite:///{tmp_path}/episodes.db", token=TOKEN if guarded else None
    )
    headers = {"Authorization": f"Bearer {TOKEN}"} if guarded else {}
    with TestClient(create_app(settings), base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as client:

        def send(asked: dict[str, Any]) -> httpx.Response:
            return client.request(**httpx_request(asked, headers))

        stored = send({"method": "POST", "url": "/v1/rollouts", "json": REQUEST}).raise_for_status().json()
        episode = stored["groups"][0]["episodes"][0]["id"]
        known = {
            "episode_id": [episode, episode[:6], "none"],
            "name": ["base", "step-1"],
            "tasks": [[TASK], [{"env": "alfworld", "task_id": "nothing/1"}], []],
            "group_size": [1],
            "max_turns": [1],
            "env": ["alfworld"],
            "status": ["completed"],
            "format": ["html", "json"],
            "adapter_path": [str(tmp_path)],
        }
        yield ApiFuzz(client.get("/openapi.json").json(), send, known)


def test_every_answer_is_as_documented(fuzz: ApiFuzz) -> None:
    fuzz.generated(8, derandomize=True)
    assert fuzz.sent > 40


def test_bad_bodies_are_refused_as_documented(fuzz: ApiFuzz) -> None:
    fuzz.malformed()
    assert fuzz.sent > 40


@pytest.mark.slow
def test_thousands_of_requests(fuzz: ApiFuzz) -> None:
    fuzz.generated(300, derandomize=False)
    assert fuzz.sent > 2000


def test_every_operation_asks_for_its_token(tmp_path: Path) -> None:
    settings = RolloutServerSettings(engine="expert", store_url=f"sqlite:///{tmp_path}/episodes.db", token=TOKEN)
    with TestClient(create_app(settings), base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as client:
        for path, methods in client.get("/openapi.json").json()["paths"].items():
            for method in methods:
                answer = client.request(method, path.replace("{", "").replace("}", ""))
                assert (answer.status_code == 401) == path.startswith("/v1/"), (path, method)
