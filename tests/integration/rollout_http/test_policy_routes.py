"""Policies over HTTP, on a real service with an engine that takes adapters: upload, refuse, drop, restart."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json

import httpx
import pytest
from adapter_folders import attention, write_adapter
from fastapi import FastAPI
from openai_server import ChoosingEngine
from rollout_doubles import HangingEngine, WatchedEngine

from envs.client import EnvClient
from envs.config import EnvServerSettings
from envs.errors import BackendUnavailable, ConfigError, Conflict, InvalidOption, PayloadTooLarge, UnknownPolicy
from envs.server.app import create_app as create_env_app
from envs.types import EpisodeStatus
from rollout_server.client import RolloutClient
from rollout_server.config import RolloutServerSettings, Service
from rollout_server.engines.base import GenerationRequest
from rollout_server.engines.pool import EnginePool
from rollout_server.episode_store import EpisodeStore
from rollout_server.local import LocalRollouts
from rollout_server.server.adapters import pack_adapter
from rollout_server.server.app import create_app
from rollout_server.types import Completion, PolicyVersion, RolloutRequest, TaskRef


class ModelEngine(WatchedEngine):
    """A scripted engine that says it runs a model, and can refuse to start or to load."""

    base_models = ("org/Small",)
    max_lora_rank = 8
    down = False

    async def start(self) -> None:
        if self.down:
            raise BackendUnavailable("the engine is down")

    async def load_policy(self, policy: PolicyVersion) -> None:
        if policy.name == "too-much":
            raise ConfigError("no room")
        await super().load_policy(policy)


@contextlib.asynccontextmanager
async def server(engine, **settings):
    """The app over a real service with this engine, and a client of it."""

    @contextlib.asynccontextmanager
    async def opener(given):
        store = EpisodeStore("sqlite://")
        app: FastAPI = create_env_app(EnvServerSettings(envs=("alfworld",)))
        async with EnvClient.in_process(app) as envs:
            rollouts = LocalRollouts(envs, engine, keep_policies=2, adapter_limit=given.adapter_limit)
            yield Service(rollouts, envs, store)
        store.close()

    app = create_app(RolloutServerSettings(**{"body_limit": 4000, "adapter_limit": 50_000} | settings), opener)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with RolloutClient("http://127.0.0.1", transport=transport) as client:
            yield client


def packed(folder) -> bytes:
    out = io.BytesIO()
    pack_adapter(folder, out)
    return out.getvalue()


async def names(client) -> list[str]:
    return [version.name for version in await client.policies()]


async def test_post_takes_a_path_or_the_adapter_itself(tmp_path):
    adapter = write_adapter(tmp_path / "a")
    async with server(engine := ModelEngine()) as client:
        http = client._http
        body = {"name": "by-path", "adapter_path": str(adapter)}
        assert (await http.post("/v1/policy", json=body)).json()["number"] == 1
        tar = {"Content-Type": "application/x-tar"}
        answer = await http.post("/v1/policy?name=by-tar", content=packed(adapter), headers=tar)
        assert (answer.status_code, answer.json()["name"]) == (201, "by-tar")
        assert answer.json()["adapter_path"] != str(adapter)
        await client.publish_policy("by-client", adapter)
        assert await names(client) == ["base", "by-tar", "by-client"]
        assert engine.loaded == ["by-tar", "by-client"]

        for status, code, arguments in (
            (422, "invalid_option", {"content": packed(adapter), "headers": tar}),  # no name
            (422, "invalid_option", {"json": {"name": "x"}}),
            (422, "invalid_option", {"json": {**body, "more": 1}}),
            (400, "bad_request", {"content": b"{"}),
            (413, "payload_too_large", {"content": b" " * 4001}),
            (409, "conflict", {"json": body}),
        ):
            answer = await http.post("/v1/policy", **arguments)
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), arguments
        assert await names(client) == ["base", "by-tar", "by-client"]


async def test_what_the_engine_could_not_serve_never_reaches_it(tmp_path):
    poisoned = attention(8)
    name = next(iter(poisoned))
    kind, shape, content = poisoned[name]
    poisoned[name] = (kind, shape, b"\x00\x00\xc0\x7f" + content[4:])
    faults = {
        "rank 16, the engine takes 8": write_adapter(tmp_path / "wide", r=16),
        "trained on 'org/Large', the engine runs 'org/Small'": write_adapter(
            tmp_path / "other", base_model_name_or_path="org/Large"
        ),
        "a NaN": write_adapter(tmp_path / "nan", poisoned),
        "no usable safetensors": write_adapter(tmp_path / "broken"),
    }
    weights = tmp_path / "broken" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    async with server(engine := ModelEngine()) as client:
        for said, folder in faults.items():
            with pytest.raises(InvalidOption, match=said):
                await client.publish_policy("v1", folder)
        big = write_adapter(tmp_path / "big", attention(8) | {"x.lora_A.weight": ("F32", [8, 2000], bytes(64_000))})
        with pytest.raises(PayloadTooLarge):
            await client.publish_policy("v1", big)
        body = {"name": "v1", "adapter_path": str(big)}
        assert "bytes of weights" in (await client._http.post("/v1/policy", json=body)).json()["error"]["message"]
        assert engine.loaded == []
        version = await client.publish_policy("v1", tmp_path / "other", any_base_model=True)
        assert (version.name, version.number) == ("v1", 1)


async def test_dropping_is_refused_while_episodes_hold_it_and_forced_they_go_on(tmp_path):
    adapter = write_adapter(tmp_path / "a")

    class Hanging(HangingEngine, ModelEngine):
        def __init__(self) -> None:
            ModelEngine.__init__(self)
            self._turns, self.hangs = 1, asyncio.Event()

    async with server(engine := Hanging()) as client:
        for name in ("v1", "v2"):
            await client.publish_policy(name, adapter)
        request = RolloutRequest((TaskRef("alfworld", split="generated"),), max_episode_tokens=200_000)
        playing = asyncio.create_task(client.rollouts(request))
        await engine.hangs.wait()
        assert (await client._http.get("/v1/policies")).json()["pinned"] == {"v2": 1}
        with pytest.raises(Conflict, match="1 episodes hold the policy 'v2'"):
            await client.drop_policy("v2")
        assert [v.name for v in await client.drop_policy("v2", force=True)] == ["base", "v1"]
        assert engine.loaded == ["v1"]
        with pytest.raises(UnknownPolicy, match="was dropped"):
            await client.drop_policy("v2")
        with pytest.raises(Conflict, match="base model"):
            await client.drop_policy("base", force=True)
        await client.drop_policy("v1")
        assert await names(client) == ["base"]
        with pytest.raises(InvalidOption):
            await client.publish_policy("a b", adapter)
        playing.cancel()
        await asyncio.wait([playing])


async def test_uploaded_adapters_outlive_the_server(tmp_path, caplog):
    kept, adapter = tmp_path / "kept", write_adapter(tmp_path / "a")
    async with server(ModelEngine(), adapter_dir=kept) as client:
        for number in range(1, 5):
            await client.publish_policy(f"step-{number}", adapter)
        before = await client.policies()
        assert [v.name for v in before] == ["base", "step-3", "step-4"]
    assert len([p for p in kept.iterdir() if p.is_dir()]) == 2

    engine = ModelEngine()
    engine.down = True  # at first: nothing is lost, and nobody plays the base model by mistake
    async with server(engine, adapter_dir=kept) as client:
        request = RolloutRequest((TaskRef("alfworld", split="generated"),), max_turns=1, max_episode_tokens=200_000)
        with pytest.raises(BackendUnavailable, match="the engine is down"):
            await client.rollouts(request)
        engine.down = False
        (group,) = await client.rollouts(request)
        assert group.episodes[0].policy == "step-4"
        assert await client.policies() == before
        assert (await client.publish_policy("step-5", adapter)).number == 5
        assert await names(client) == ["base", "step-4", "step-5"]

    # One that cannot be loaded any more is left out, and said.
    rows = json.loads((kept / "policies.json").read_text())["versions"]
    assert [(row["name"], row["number"]) for row in rows] == [("step-4", 4), ("step-5", 5)]
    (kept / rows[1]["folder"] / "adapter_model.safetensors").write_bytes(b"")
    async with server(ModelEngine(), adapter_dir=kept) as client:
        (group,) = await client.rollouts(request)
        assert group.episodes[0].policy == "step-4"
        assert await names(client) == ["base", "step-4"]
    assert "step-5 is not published again" in caplog.text


async def test_readiness_tells_of_every_engine_of_a_pool(tmp_path):
    """Engines in this process, one of which dies: play goes on, and the operator reads which one and why."""

    class Dying(ChoosingEngine):
        dead = False

        async def generate(self, request: GenerationRequest) -> Completion:
            if self.dead:
                raise BackendUnavailable("its process has died")
            return await super().generate(request)

    engines = Dying(), ChoosingEngine()
    async with server(EnginePool(engines, probe_s=30.0, patience_s=0.05)) as client:
        await client.publish_policy("v1", write_adapter(tmp_path / "a"))
        assert [engine.loaded for engine in engines] == [["v1"], ["v1"]]
        engines[0].dead = True
        tasks = tuple(TaskRef("alfworld", split="generated", sample_seed=seed) for seed in range(4))
        groups = await client.rollouts(RolloutRequest(tasks, max_turns=2, max_episode_tokens=200_000))
        assert {group.episodes[0].policy for group in groups} == {"v1"}
        assert all(len(group.episodes[0].turns) == 2 for group in groups)
        answer = await client._http.get("/readyz")
        assert answer.status_code == 200
        first, second = answer.json()["engines"]
        assert (first["ready"], first["error"]["message"]) == (False, "its process has died")
        assert (second["ready"], second["error"], second["policies"]) == (True, None, ["v1"])
        assert second["requests"] >= 8
        engines[1].generate = engines[0].generate
        failed = await client.rollouts(RolloutRequest(tasks[:1], max_turns=2, max_episode_tokens=200_000))
        assert failed[0].episodes[0].status is EpisodeStatus.INFRASTRUCTURE_ERROR
        answer = await client._http.get("/readyz")
        assert (answer.status_code, len(answer.json()["engines"])) == (503, 2)
