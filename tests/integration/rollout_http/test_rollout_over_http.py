"""A rollout server and an env server as processes of their own: play, stream, store, replay, cancel, refuse."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import httpx
import pytest
from adapter_folders import write_adapter

from envs.client import EnvClient
from envs.errors import BackendUnavailable, InvalidOption, TransportError, Unauthorized, UnknownPolicy, UnknownTask
from envs.server_process import server_process
from envs.types import EpisodeStatus, Observation
from rollout_server.client import RolloutClient
from rollout_server.episode_store import EpisodeStore
from rollout_server.replay import verify
from rollout_server.replay_fork_many import ForkOptions
from rollout_server.service import RolloutService
from rollout_server.types import RolloutRequest, SamplingParams, TaskRef

TOKEN = "a token for this test"
WIDE = SamplingParams(max_tokens=512)


@contextlib.contextmanager
def rollout_server(folder, *args, **variables):
    ready = folder / "ready.json"
    command = [sys.executable, "-m", "envs.cli", "rollout", "serve", "--port", "0", "--stop-on-eof"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ENVLOOP_")} | variables
    process = subprocess.Popen([*command, "--ready-file", str(ready), *args], stdin=subprocess.PIPE, env=environment)
    try:
        deadline = time.monotonic() + 90
        while not ready.exists():
            assert process.poll() is None, "the rollout server did not start"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield json.loads(ready.read_text())["url"]
    finally:
        process.stdin.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert not ready.exists()


@pytest.fixture(scope="module")
def env_url():
    with server_process(["--env", "alfworld"]) as server:
        yield server.url


@pytest.fixture(scope="module")
def store_url(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'episodes.db'}"


@pytest.fixture(scope="module")
def url(env_url, store_url, tmp_path_factory):
    variables = {"ENVLOOP_ROLLOUT_TOKEN": TOKEN, "ENVLOOP_STORE_URL": store_url}
    with rollout_server(
        tmp_path_factory.mktemp("serve"), "--engine", "expert", "--env-url", env_url, **variables
    ) as url:
        yield url


@pytest.fixture
async def client(url):
    async with RolloutClient(url, TOKEN) as opened:
        yield opened


def request(*seeds, **changes):
    tasks = tuple(TaskRef("alfworld", split="generated", sample_seed=seed) for seed in seeds)
    return RolloutRequest(tasks, sampling=WIDE, max_episode_tokens=200_000, **changes)


async def test_groups_come_in_order_and_episodes_as_they_end(client, store_url):
    assert isinstance(client, RolloutService)
    ended = []
    groups = await client.rollouts(request(1, 2, group_size=2, metadata={"run": "http"}), on_episode=ended.append)
    played = [episode for group in groups for episode in group.episodes]
    assert [len(group.episodes) for group in groups] == [2, 2]
    assert {e.id for e in ended} == {e.id for e in played}
    assert all(e.status is EpisodeStatus.COMPLETED and e.reward == 1.0 for e in played)
    with EpisodeStore(store_url) as store:
        assert {e.id: e for e in store.iter_episodes(run="http")} == {e.id: e for e in played}
    assert await client.episode(played[0].id[:10]) == played[0]


async def test_two_stored_episodes_replay_exactly_and_a_tampered_one_is_found(client, env_url, store_url):
    await client.rollouts(request(3, 4, metadata={"run": "replay"}))
    with EpisodeStore(store_url) as store:
        episodes = list(store.iter_episodes(run="replay"))
    async with EnvClient(env_url) as envs:
        reports = [await verify(episode, envs) for episode in episodes]
        assert [(r.ok, r.steps) for r in reports] == [(True, len(e.steps)) for e in episodes]
        assert len(reports) == 2

        turn = episodes[0].turns[2]
        observation = Observation("You see nothing.", turn.steps[0].observation.admissible_actions)
        changed = dataclasses.replace(turn, steps=(dataclasses.replace(turn.steps[0], observation=observation),))
        tampered = dataclasses.replace(episodes[0], turns=(*episodes[0].turns[:2], changed, *episodes[0].turns[3:]))
        report = await verify(tampered, envs)
        assert (report.steps, report.difference.step, report.difference.turn) == (2, 2, 2)
        assert report.difference.field == "observation.text"
        assert "-You see nothing." in report.difference.diff
        assert f"+{episodes[0].turns[2].steps[0].observation.text.splitlines()[0]}" in report.difference.diff

        for changes, where, field in [
            ({"task": dataclasses.replace(episodes[0].task, content_hash="0" * 64)}, "task", "content_hash"),
            ({"initial": Observation("Elsewhere.")}, "start", "observation.text"),
            ({"reward": 0.0}, "end", "reward"),
        ]:
            report = await verify(dataclasses.replace(episodes[0], **changes), envs)
            assert (report.difference.where, report.difference.field) == (where, field)


async def test_without_streaming_the_answer_is_one_document(url):
    async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60) as http:
        body = {
            "tasks": [{"env": "alfworld", "split": "generated", "sample_seed": 5}],
            "sampling": {"max_tokens": 512},
            "max_episode_tokens": 200_000,
            "metadata": {"run": "whole"},
        }
        answer = (await http.post("/v1/rollouts", json=body)).raise_for_status().json()
        (episode,) = answer["groups"][0]["episodes"]
        listed = (await http.get("/v1/episodes", params={"run": "whole"})).json()
        assert [s["id"] for s in listed["episodes"]] == [episode["id"]]
        assert listed["total"] == 1
        page = await http.get(f"/v1/episodes/{episode['id']}", params={"format": "html"})
        assert page.headers["content-type"].startswith("text/html")
        assert episode["id"] in page.text
        assert (await http.get("/readyz")).json() == {"ready": True}
        assert (await http.get("/version")).json()["engine"] == "scripted"
        assert "/v1/rollouts" in (await http.get("/openapi.json")).json()["paths"]


async def test_what_cannot_be_played_is_refused_before_anything_is(client):
    with pytest.raises(UnknownTask):
        await client.rollouts(RolloutRequest((TaskRef("alfworld", task_id="generated/nothing/1"),)))
    with pytest.raises(UnknownPolicy):
        await client.rollouts(request(1, policy="step-99"))
    with pytest.raises(InvalidOption, match="group_size"):
        await client.rollouts(request(1, group_size=0))


async def test_a_broken_request_names_its_field(url):
    async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}) as http:
        wrong = await http.post("/v1/rollouts", json={"tasks": [{"env": "alfworld"}]})
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (422, "invalid_option")
        assert "tasks.0" in wrong.json()["error"]["message"]
        assert (await http.post("/v1/rollouts", content=b"{")).json()["error"]["code"] == "bad_request"
        assert (await http.get("/v1/episodes/nothing")).json()["error"]["code"] == "unknown_episode"


@pytest.mark.parametrize("token", [None, "another token"])
async def test_the_token_is_needed(url, token):
    async with RolloutClient(url, token) as stranger:
        with pytest.raises(Unauthorized):
            await stranger.policies()


async def test_an_adapter_travels_and_the_engine_has_its_say(client, tmp_path):
    with pytest.raises(BackendUnavailable, match="takes no adapters"):
        await client.publish_policy("step-1", write_adapter(tmp_path / "adapter"))
    assert [policy.name for policy in await client.policies()] == ["base"]


async def test_a_caller_that_leaves_ends_the_episodes(client, env_url):
    first = asyncio.Event()
    work = asyncio.create_task(
        client.rollouts(request(*range(100, 400), metadata={"run": "left"}), on_episode=lambda _: first.set())
    )
    await asyncio.wait_for(first.wait(), 60)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    stored = -1
    async with httpx.AsyncClient(base_url=str(client._http.base_url), headers=client._http.headers) as http:
        while True:
            total = (await http.get("/v1/episodes", params={"run": "left", "limit": 1})).json()["total"]
            if total == stored:
                break
            stored = total
            await asyncio.sleep(0.5)
    assert 0 < stored < 300


async def test_a_caller_that_leaves_ends_the_forks(client):
    ((parent,),) = [group.episodes for group in await client.rollouts(request(6, metadata={"run": "parent"}))]
    work = asyncio.create_task(client.fork(parent.id, ForkOptions(at=1, count=256, run="forks")))

    async def played():
        return (await client.stats(run="forks"))[0].episodes

    while not await played():
        assert not work.done()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    before, now = -1, await played()
    while before != now:
        await asyncio.sleep(0.5)
        before, now = now, await played()
    assert 0 < now < 256


async def test_figures_are_those_of_the_store(client, store_url):
    await client.rollouts(request(7, 8, group_size=2, metadata={"run": "figures"}))
    with EpisodeStore(store_url) as store:
        expected = store.stats(["task_id", "status"], run="figures")
    assert await client.stats(["task_id", "status"], run="figures") == expected
    assert [row.episodes for row in expected] == [2, 2]
    (every,) = await client.stats()
    assert every.episodes >= 4
    with pytest.raises(InvalidOption, match="by"):
        await client.stats(["colour"])


async def test_no_server_is_a_transport_error():
    async with RolloutClient("http://127.0.0.1:1") as nobody:
        with pytest.raises(TransportError):
            await nobody.policies()


def test_a_wrong_setting_ends_with_one_line(tmp_path):
    command = [sys.executable, "-m", "envs.cli", "rollout", "serve", "--engine", "nonsense", "--port", "0"]
    environment = {**os.environ, "ENVLOOP_STORE_URL": f"sqlite:///{tmp_path}/x.db"}
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, env=environment)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: no engine is called 'nonsense'")
    assert ended.stderr.count("\n") == 1
