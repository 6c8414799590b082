"""Every error of the API: its status, its code, one shape, a hint, and nothing of the inside."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import httpx
import pytest
from counting_env import AbsentFamily

from envs.errors import BackendUnavailable


def error(answer: httpx.Response, status: int, code: str) -> dict[str, str]:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "hint"}
    assert body["error"]["code"] == code
    assert body["error"]["message"]
    return body["error"]


async def test_not_found(server: Any) -> None:
    http = server.http
    assert "counting" in error(await http.get("/v1/envs/chess"), 404, "unknown_env")["hint"]
    error(await http.get("/v1/envs/counting/tasks", params={"split": "x"}), 404, "unknown_split")
    error(await http.get("/v1/envs/counting/tasks/train/99"), 404, "unknown_task")
    error(await http.post("/v1/episodes", json={"env": "counting", "task_id": "train/99"}), 404, "unknown_task")
    error(await http.get("/v1/episodes/ep_none"), 404, "unknown_episode")
    error(await http.delete("/v1/episodes/ep_none"), 404, "unknown_episode")
    error(await server.count("ep_none", 1), 404, "unknown_episode")
    assert "/v1/nothing" in error(await http.get("/v1/nothing"), 404, "not_found")["message"]
    answer = await http.put("/v1/envs")
    error(answer, 405, "method_not_allowed")
    assert "GET" in answer.headers["allow"]


async def test_409_after_the_end(server: Any) -> None:
    episode = await server.create(n=0)
    assert (await server.count(episode, 1)).json()["status"] == "completed"
    assert "completed" in error(await server.count(episode, 2), 409, "episode_over")["message"]
    error(await server.http.post(f"/v1/episodes/{episode}/expert"), 409, "episode_over")


async def test_409_out_of_step(server: Any) -> None:
    episode = await server.create()
    error(await server.count(episode, 1, step=1), 409, "conflict")
    first = await server.count(episode, 1, step=0)
    assert first.json()["steps"] == 1
    assert (await server.count(episode, 1, step=0)).json() == first.json()
    assert (await server.family()).applied == 1
    error(await server.count(episode, 2, step=0), 409, "conflict")
    error(await server.count(episode, 3, step=5), 409, "conflict")


async def test_the_last_answer_can_be_asked_for_again_after_the_end(server: Any) -> None:
    episode = await server.create(n=0)
    last = await server.count(episode, 1, step=0)
    assert last.json()["reward"] == 1.0
    assert (await server.count(episode, 1, step=0)).json() == last.json()


@pytest.mark.parametrize("chunked", [False, True])
async def test_413(server: Any, chunked: bool) -> None:
    body = b'{"env":"' + b"x" * (1 << 20) + b'"}'

    async def chunks():
        for k in range(0, len(body), 100_000):
            yield body[k : k + 100_000]

    headers = {"content-type": "application/json"}
    content = chunks() if chunked else body
    answer = await server.http.post("/v1/episodes", content=content, headers=headers)
    error(answer, 413, "payload_too_large")


@pytest.mark.parametrize(
    ("body", "code", "named"),
    [
        ({"env": "counting"}, "invalid_option", "task_id or sampler"),
        ({"env": "counting", "task_id": "a", "sampler": {"split": "train", "seed": 1}}, "invalid_option", "either"),
        ({"env": "counting", "task_id": "train/1", "sead": 3}, "invalid_option", "sead"),
        ({"env": "counting", "task_id": "train/1", "seed": -1}, "invalid_option", "seed"),
        ({"env": "counting", "task_id": "train/1", "options": {"colour": 1}}, "invalid_option", "colour"),
        ({"env": 3, "task_id": "train/1"}, "invalid_option", "env"),
        ([], "invalid_option", "body"),
    ],
)
async def test_422_create(server: Any, body: Any, code: str, named: str) -> None:
    assert named in error(await server.http.post("/v1/episodes", json=body), 422, code)["message"]


@pytest.mark.parametrize(
    ("action", "named"),
    [
        ("count 1", "action"),
        ({"arguments": {}}, "action.name"),
        ({"name": "count", "arguments": [1]}, "action.arguments"),
        ({"name": "count", "arguments": {}, "thought": "x"}, "action.thought"),
        ({"name": "count", "arguments": {"number": "1"}}, "no count"),
        ({"name": "recount", "arguments": {"number": 1}}, "no count"),
    ],
)
async def test_422_bad_action_changes_nothing(server: Any, action: Any, named: str) -> None:
    episode = await server.create()
    before = (await server.http.get(f"/v1/episodes/{episode}")).json()
    answer = await server.http.post(f"/v1/episodes/{episode}/step", json={"action": action})
    assert named in error(answer, 422, "invalid_action")["message"]
    assert (await server.http.get(f"/v1/episodes/{episode}")).json() == before
    assert (await server.count(episode, 1)).json()["steps"] == 1


async def test_422_query(server: Any) -> None:
    for query in ({"split": "train", "limit": 0}, {"split": "train", "offset": -1}, {}):
        error(await server.http.get("/v1/envs/counting/tasks", params=query), 422, "invalid_option")


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b'{"env": NaN}', b"[" * 100_000])
async def test_400_no_json(server: Any, body: bytes) -> None:
    answer = await server.http.post("/v1/episodes", content=body, headers={"content-type": "application/json"})
    error(answer, 400, "bad_request")


async def test_429_full_and_free_again(start: Any) -> None:
    server = await start(max_episodes=2)
    first, _ = await server.create(), await server.create()
    answer = await server.http.post("/v1/episodes", json={"env": "counting", "task_id": "train/1"})
    assert "max_episodes" in error(answer, 429, "capacity_exceeded")["hint"]
    assert int(answer.headers["retry-after"]) >= 1
    await server.http.delete(f"/v1/episodes/{first}")
    await server.create()


async def test_429_counts_episodes_that_are_still_starting(start: Any) -> None:
    server = await start(max_episodes=3)
    body = {"env": "counting", "task_id": "train/1", "options": {"slow_s": 0.05}}
    answers = await asyncio.gather(*(server.http.post("/v1/episodes", json=body) for _ in range(8)))
    assert sorted(a.status_code for a in answers) == [201] * 3 + [429] * 5
    assert len((await server.family()).live) == 3


@pytest.mark.parametrize("env", ["counting", "blocking_counting"])
async def test_503_is_a_status_and_never_a_reward(server: Any, env: str) -> None:
    episode = await server.create(env)
    family = await server.family(env)
    family.fail_with = BackendUnavailable("the database has died", hint="look at its log")
    assert "died" in error(await server.count(episode, 1, step=0), 503, "backend_unavailable")["message"]
    assert not family.live
    view = (await server.http.get(f"/v1/episodes/{episode}")).json()
    assert (view["status"], view["reward"], view["steps"]) == ("infrastructure_error", None, 0)
    assert (view["terminated"], view["truncated"]) == (False, False)
    family.fail_with = None
    error(await server.count(episode, 1), 409, "episode_over")
    error(await server.count(episode, 1, step=0), 503, "backend_unavailable")  # the lost answer, asked for again


@pytest.mark.parametrize("env", ["counting", "blocking_counting"])
async def test_500_shows_nothing_and_logs_an_id(server: Any, env: str, caplog: pytest.LogCaptureFixture) -> None:
    episode = await server.create(env)
    family = await server.family(env)
    family.fail_with = RuntimeError("secret path /srv/gold")
    with caplog.at_level(logging.ERROR):
        answer = await server.count(episode, 1)
    found = error(answer, 500, "internal_error")
    assert "secret" not in answer.text
    request_id = next(word for word in found["hint"].split() if len(word) == 16)
    assert request_id in caplog.text
    assert not family.live
    assert (await server.http.get(f"/v1/episodes/{episode}")).json()["status"] == "infrastructure_error"


async def test_unready_environment_is_named_and_comes_back(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envs.server.families._RETRY_S", 0.0)
    server = await start(envs=("counting", "absent"))
    answer = await server.http.get("/readyz")
    assert answer.status_code == 503
    body = answer.json()
    assert body["envs"]["counting"]["ready"]
    assert body["error"]["message"] == "absent is not ready: no database answers"
    assert body["error"]["hint"] == "start the database"
    create = {"env": "absent", "task_id": "train/1"}
    error(await server.http.post("/v1/episodes", json=create), 503, "backend_unavailable")
    listed = (await server.http.get("/v1/envs/absent")).json()
    assert (listed["readiness"]["ready"], listed["splits"]) == (False, [])
    AbsentFamily.present = True
    assert (await server.http.get("/readyz")).status_code == 200
    assert (await server.http.post("/v1/episodes", json=create)).status_code == 201
