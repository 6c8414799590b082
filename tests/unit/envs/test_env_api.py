"""The API's successes: what each route gives, batches, the OpenAPI document."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from counting_env import COUNTING

from envs import __version__
from envs.server import batches, schemas


async def test_environments(server: Any) -> None:
    listed = (await server.http.get("/v1/envs")).json()["envs"]
    assert [env["name"] for env in listed] == ["counting", "blocking_counting"]
    one = (await server.http.get("/v1/envs/counting-v1")).json()
    assert one == listed[0]
    schemas.EnvAnswer.model_validate(one, extra="forbid", strict=False)
    assert one["tools"][0]["parameters"] == COUNTING.tools[0].parameters
    assert one["splits"] == [
        {"env": "counting", "name": "train", "role": "train", "size": 6, "description": "six targets"}
    ]
    assert one["readiness"] == {"ready": True, "detail": "", "hint": ""}


async def test_tasks_by_split_and_type_in_pages(server: Any) -> None:
    async def ids(**query: Any) -> list[str]:
        answer = await server.http.get("/v1/envs/counting/tasks", params={"split": "train", **query})
        return [task["id"] for task in answer.json()["tasks"]]

    assert await ids() == [f"train/{n}" for n in range(6)]
    assert await ids(offset=2, limit=2) == ["train/2", "train/3"]
    assert await ids(type="large") == ["train/3", "train/4", "train/5"]
    task = (await server.http.get("/v1/envs/counting/tasks/train/4")).json()
    schemas.TaskAnswer.model_validate(task, extra="forbid")
    assert task["metadata"] == {"target": 5}


@pytest.mark.parametrize("env", ["counting", "blocking_counting"])
async def test_an_episode(server: Any, env: str) -> None:
    answer = await server.http.post("/v1/episodes", json={"env": env, "task_id": "train/1", "seed": 3})
    view = answer.json()
    schemas.EpisodeAnswer.model_validate(view, extra="forbid")
    assert (view["env"], view["task"]["id"], view["seed"], view["status"]) == (env, "train/1", 3, "running")
    assert view["observation"] == {"text": "Count to 2.", "admissible_actions": ["1"]}
    wrong = (await server.count(view["id"], 7)).json()
    assert (wrong["valid"], wrong["steps"], wrong["reward"]) == (False, 1, 0.0)
    for number in (1, 2):
        expert = (await server.http.post(f"/v1/episodes/{view['id']}/expert")).json()
        assert expert == {"action": {"name": "count", "arguments": {"number": number}}}
        last = (await server.count(view["id"], number)).json()
    schemas.EpisodeAnswer.model_validate(last, extra="forbid")
    assert (last["status"], last["reward"], last["terminated"], last["truncated"]) == ("completed", 1.0, True, False)
    assert (await server.http.get(f"/v1/episodes/{view['id']}")).json() == last
    assert (await server.http.delete(f"/v1/episodes/{view['id']}")).json() == last
    assert not (await server.family(env)).live


async def test_truncated_is_not_terminated(server: Any) -> None:
    episode = await server.create()
    for _ in range(COUNTING.max_steps):
        view = (await server.count(episode, 99)).json()
    assert (view["status"], view["reward"]) == ("truncated_turns", 0.0)
    assert (view["terminated"], view["truncated"]) == (False, True)


async def test_closing_a_running_episode_cancels_it(server: Any) -> None:
    episode = await server.create()
    view = (await server.http.delete(f"/v1/episodes/{episode}")).json()
    assert (view["status"], view["reward"]) == ("cancelled", None)
    assert (await server.http.delete(f"/v1/episodes/{episode}")).json() == view
    assert not (await server.family()).live


async def test_a_task_can_be_sampled_without_an_episode(server: Any) -> None:
    async def sampled(query: str) -> str:
        answer = await server.http.get(f"/v1/envs/counting/sample?split=train&{query}")
        assert answer.status_code == 200
        return str(answer.json()["id"])

    body = {"env": "counting", "sampler": {"split": "train", "seed": 3}}
    begun = (await server.http.post("/v1/episodes", json=body)).json()["task"]["id"]
    assert await sampled("seed=3") == begun
    assert len({await sampled(f"seed={seed}") for seed in range(8)}) > 1
    assert (await server.http.get("/v1/envs/counting/sample?split=nowhere")).status_code == 404
    assert (await server.http.get("/v1/envs/counting/sample?split=train&seed=-1")).status_code == 422


async def test_a_sampler_draws_by_seed_and_type(server: Any) -> None:
    async def drawn(**sampler: Any) -> str:
        body = {"env": "counting", "sampler": {"split": "train", **sampler}}
        return (await server.http.post("/v1/episodes", json=body)).json()["task"]["id"]

    assert [await drawn(seed=4), await drawn(seed=4), await drawn(seed=4, type="large")] == [
        "train/4",
        "train/4",
        "train/4",
    ]
    assert await drawn(seed=3, type="large") == "train/3"


@pytest.mark.parametrize("env", ["counting", "blocking_counting"])
async def test_batches_keep_order_and_fail_item_by_item(server: Any, env: str) -> None:
    items = [
        {"env": env, "task_id": "train/0"},
        {"env": env, "task_id": "train/99"},
        {"env": env},
        {"env": env, "task_id": "train/1"},
    ]
    created = (await server.http.post("/v1/batch/episodes", json={"items": items})).json()
    schemas.BatchAnswer.model_validate(created)
    assert [r["ok"] for r in created["results"]] == [True, False, False, True]
    assert [r["error"]["code"] for r in created["results"][1:3]] == ["unknown_task", "invalid_option"]
    first, second = (created["results"][k]["episode"]["id"] for k in (0, 3))
    action = {"name": "count", "arguments": {"number": 1}}
    steps = [
        {"episode_id": second, "action": action, "step": 0},
        {"episode_id": first, "action": action},
        {"episode_id": first, "action": action},
        {"episode_id": second, "action": {"name": 3}},
        {"episode_id": "ep_none", "action": action},
    ]
    results = (await server.http.post("/v1/batch/steps", json={"items": steps})).json()["results"]
    assert [r["ok"] for r in results] == [True, True, False, False, False]
    assert [r["error"]["code"] for r in results[2:]] == ["episode_over", "invalid_action", "unknown_episode"]
    assert (results[0]["episode"]["id"], results[0]["episode"]["steps"]) == (second, 1)
    assert results[1]["episode"]["status"] == "completed"
    closed = (await server.http.post("/v1/batch/close", json={"ids": [first, second, "x"]})).json()["results"]
    assert [r["episode"]["status"] if r["ok"] else r["error"]["code"] for r in closed] == [
        "completed",
        "cancelled",
        "unknown_episode",
    ]


async def test_a_batch_has_a_limit(start: Any) -> None:
    server = await start(max_batch=2)
    answer = await server.http.post("/v1/batch/close", json={"ids": ["a", "b", "c"]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_option")


async def test_blocking_steps_run_side_by_side(server: Any) -> None:
    """All of a batch are in ``step`` at once before any of them may go on."""
    ids = [await server.create("blocking_counting") for _ in range(4)]
    family = await server.family("blocking_counting")
    family.release.clear()
    action = {"name": "count", "arguments": {"number": 1}}
    items = [{"episode_id": i, "action": action} for i in ids]
    batch = asyncio.create_task(server.http.post("/v1/batch/steps", json={"items": items}))
    for _ in range(4):
        await asyncio.to_thread(family.entered.acquire)
    assert (await server.http.get("/healthz")).json() == {"status": "ok"}  # the loop is free meanwhile
    family.release.set()
    assert all(r["ok"] for r in (await batch).json()["results"])


async def test_text_of_a_model_comes_back_as_it_went(server: Any) -> None:
    text = 'ünï "quoted" \ud800 \x00 \u2028'
    episode = await server.create()
    body = {"action": {"name": "count", "arguments": {"number": 1, "say": text}}}
    headers = {"content-type": "application/json"}
    path = f"/v1/episodes/{episode}/step"
    answer = await server.http.post(path, content=json.dumps(body), headers=headers)
    assert answer.json()["observation"]["text"] == text


async def test_version_and_documents(server: Any) -> None:
    assert (await server.http.get("/version")).json() == {
        "version": __version__,
        "envs": ["counting-v1", "blocking_counting-v1"],
    }
    document = (await server.http.get("/openapi.json")).json()
    assert (await server.http.get("/docs")).status_code == 200
    defined = document["components"]["schemas"]
    for name in ("CreateEpisode", "StepRequest", "EpisodeAnswer", "ErrorAnswer"):
        model = getattr(schemas, name)
        assert defined[name]["examples"], name
        for example in defined[name]["examples"]:
            model.model_validate(example)
    step = document["paths"]["/v1/episodes/{episode_id}/step"]["post"]
    assert {"200", "401", "404", "409", "422", "503"} <= set(step["responses"])
    items = defined["BatchStep"]["properties"]["items"]["items"]
    assert items == {"$ref": "#/components/schemas/StepItem"}


async def test_a_long_batch_gives_others_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that wait for nothing would else hold up every other request until the last of them is done."""
    seen: list[str] = []

    async def result(work: Any) -> bytes:
        await work
        seen.append("item")
        return b"0"

    async def item() -> None:
        pass

    async def other() -> None:
        seen.append("other")

    monkeypatch.setattr(batches, "_result", result)
    waiting = asyncio.create_task(other())
    answer = await batches._batch((item() for _ in range(100)), side_by_side=False)
    await waiting
    assert len(json.loads(answer.body)["results"]) == 100
    assert seen.index("other") < 20
