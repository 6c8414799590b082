"""A rollout service behind HTTP answers as it does in process: the same groups, versions and errors."""

from __future__ import annotations

import asyncio
import contextlib
import json
import types

import httpx
import pytest
from episode_samples import sample_episode

from envs.errors import BackendUnavailable, Conflict, InfrastructureError, InvalidOption, TransportError, UnknownTask
from rollout_server.client import RolloutClient
from rollout_server.config import RolloutServerSettings, Service
from rollout_server.server import streams
from rollout_server.server.app import create_app
from rollout_server.service import RolloutService
from rollout_server.types import Group, PolicyVersion, RolloutRequest, TaskRef

EPISODES = tuple(sample_episode(id=f"e{i}", group_id=f"g{i // 2}") for i in range(4))
GROUPS = tuple(Group(f"g{i}", EPISODES[0].task, EPISODES[2 * i : 2 * i + 2]) for i in range(2))
REQUEST = RolloutRequest((TaskRef("alfworld", task_id="generated/7"),), group_size=2, metadata={"run": "x"})


class Scripted:
    """A rollout service whose answers the test decides. ``engine`` is itself."""

    name = model = "scripted"

    def __init__(self):
        self.engine = self
        self.error = self.start_error = None
        self.delay_s = 0.0
        self.requests, self.received = [], {}
        self.versions = [PolicyVersion()]
        self.loaded = asyncio.Event()
        self.loaded.set()

    async def start(self):
        await self.loaded.wait()
        if self.start_error:
            raise self.start_error

    async def rollouts(self, request, *, on_episode=None):
        self.requests.append(request)
        for episode in reversed(EPISODES):
            if on_episode is not None:
                on_episode(episode)
        await asyncio.sleep(self.delay_s)
        if self.error:
            raise self.error
        return GROUPS

    async def publish_policy(self, name, adapter_path, *, any_base_model=False, number=None):
        if name in self.received:
            raise Conflict(f"{name} was published before")
        self.received[name] = (adapter_path, {p.name: p.read_bytes() for p in adapter_path.iterdir()})
        version = PolicyVersion(name, len(self.received), str(adapter_path))
        self.versions = [PolicyVersion(), version]  # keeps the newest alone
        return version

    async def policies(self):
        return self.versions

    def pinned_policies(self):
        return {"base": 2}

    async def close(self):
        pass


class ReadyEnvs:
    async def ready(self):
        return {"ready": True}


@pytest.fixture
async def service():
    return Scripted()


@pytest.fixture
async def app(service):
    @contextlib.asynccontextmanager
    async def opener(settings):
        yield Service(service, ReadyEnvs(), types.SimpleNamespace())

    built = create_app(RolloutServerSettings(body_limit=2000, adapter_limit=50_000), opener)
    async with built.router.lifespan_context(built):
        await asyncio.sleep(0)
        yield built


@pytest.fixture
async def client(app):
    async with RolloutClient("http://127.0.0.1", transport=httpx.ASGITransport(app)) as opened:
        yield opened


@pytest.fixture
async def http(app):
    async with httpx.AsyncClient(base_url="http://127.0.0.1", transport=httpx.ASGITransport(app)) as opened:
        yield opened


@pytest.fixture
def adapter(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    return tmp_path


async def test_groups_and_request_travel_unchanged(client, service):
    assert isinstance(client, RolloutService)
    ended = []
    assert await client.rollouts(REQUEST, on_episode=ended.append) == GROUPS
    assert ended == list(reversed(EPISODES))
    assert service.requests == [REQUEST]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("error", "expected"), [(UnknownTask("no such task", hint="look"), UnknownTask), (KeyError(1), InfrastructureError)]
)
async def test_an_error_arrives_as_itself_early_and_late(client, service, monkeypatch, caplog, late, error, expected):
    service.error, service.delay_s = error, 0.05
    if late:
        monkeypatch.setattr(streams, "_EARLY_S", 0.0)
    with pytest.raises(expected) as caught:
        await client.rollouts(REQUEST)
    if expected is UnknownTask:
        assert (caught.value.message, caught.value.hint) == ("no such task", "look")
    else:
        assert "look for request" in caught.value.hint  # the log has the traceback, the caller only its id
        assert "KeyError" in caplog.text


async def test_a_long_silence_is_filled_with_empty_lines(http, service, monkeypatch):
    monkeypatch.setattr(streams, "_EARLY_S", 0.0)
    monkeypatch.setattr(streams, "HEARTBEAT_S", 0.01)
    service.delay_s = 0.2
    answer = await http.post("/v1/rollouts", json={"tasks": []}, headers={"Accept": "application/x-ndjson"})
    lines = answer.text.split("\n")
    assert "" in lines[4:-2]
    assert [next(iter(json.loads(line))) for line in lines if line] == ["episode"] * 4 + ["groups"]


async def test_an_adapter_is_uploaded_and_forgotten_with_its_version(client, service, adapter):
    content = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"weights"}
    first = await client.publish_policy("step-1", adapter)
    assert (first.name, first.number) == ("step-1", 1)
    path, received = service.received["step-1"]
    assert received == content
    assert path != adapter
    assert path.is_dir()
    assert [p.name for p in await client.policies()] == ["base", "step-1"]
    with pytest.raises(Conflict):
        await client.publish_policy("step-1", adapter)
    await client.publish_policy("step-2", adapter)
    assert not path.exists()
    assert [p.name for p in service.received["step-2"][0].parent.iterdir()] == [service.received["step-2"][0].name]


async def test_with_shared_files_the_folder_is_named(app, service, adapter):
    transport = httpx.ASGITransport(app)
    async with RolloutClient("http://127.0.0.1", transport=transport, shared_files=True) as client:
        await client.publish_policy("step-1", adapter)
    assert service.received["step-1"][0] == adapter


async def test_an_adapter_above_the_limit_is_refused(http, service, client, adapter):
    (adapter / "adapter_model.safetensors").write_bytes(b"x" * 60_000)
    answer = await http.put("/v1/adapters/step-1", content=b"x" * 60_000)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "payload_too_large")
    with pytest.raises(InvalidOption, match="no plain tar"):
        await client._send("PUT", "/v1/adapters/step-1", content=b"x" * 2000)
    assert service.received == {}


async def test_another_body_above_the_limit_is_refused(http):
    answer = await http.post("/v1/rollouts", content=b" " * 3000)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "payload_too_large")


async def test_ready_means_that_the_model_is_loaded(app, service, http):
    assert (await http.get("/readyz")).json() == {"ready": True}


async def test_an_engine_that_died_is_not_ready_until_it_runs_again(app, service, http):
    service.alive = False
    answer = await http.get("/readyz")
    assert (answer.status_code, answer.json()["error"]["message"]) == (503, "the engine is not running")
    service.alive = True
    assert (await http.get("/readyz")).json() == {"ready": True}


async def test_a_model_that_is_loading_or_cannot_is_told(service):
    @contextlib.asynccontextmanager
    async def opener(settings):
        yield Service(service, ReadyEnvs(), types.SimpleNamespace())

    service.loaded.clear()
    service.start_error = BackendUnavailable("no memory", hint="a smaller model")
    app = create_app(RolloutServerSettings(), opener)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(base_url="http://127.0.0.1", transport=transport) as h,
    ):
        loading = await h.get("/readyz")
        assert (loading.status_code, loading.json()["error"]["message"]) == (503, "the model is being loaded")
        assert (await h.get("/healthz")).status_code == 200
        service.loaded.set()
        await asyncio.sleep(0.01)
        failed = await h.get("/readyz")
        assert failed.status_code == 503
        assert failed.json()["error"] == {
            "code": "backend_unavailable",
            "message": "no memory",
            "hint": "a smaller model",
        }
        service.alive = True  # a later request has started it
        assert (await h.get("/readyz")).json() == {"ready": True}


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text='{"episode": {}}\n'),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, text=""),
        httpx.Response(200, text='{"groups": [{"id": "g", "task": {}, "episodes": ["gone"]}]}\n'),
        httpx.Response(502, text="Bad Gateway"),
    ],
    ids=["no episode", "html", "cut", "strange groups", "proxy"],
)
async def test_a_foreign_or_broken_answer_is_a_transport_error(answer):
    async with RolloutClient("http://server", transport=httpx.MockTransport(lambda _: answer)) as client:
        with pytest.raises(TransportError):
            await client.rollouts(REQUEST)


async def test_every_route_is_described(http):
    paths = (await http.get("/openapi.json")).json()["paths"]
    body = paths["/v1/rollouts"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["required"] == ["tasks"]
    assert "$ref" not in json.dumps(body)
    assert set(paths) >= {
        "/v1/policy",
        "/v1/policies",
        "/v1/adapters/{name}",
        "/v1/episodes",
        "/v1/episodes/{episode_id}",
    }
