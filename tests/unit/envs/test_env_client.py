"""The client: views and errors as values of ours, retries only where they are safe, the sync face."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from counting_env import BLOCKING_COUNTING, counting_registry

from envs.client import EnvClient, ForkOrigin, NewEpisode, SyncEnvClient
from envs.config import EnvServerSettings
from envs.errors import (
    BackendUnavailable,
    Conflict,
    EnvloopError,
    EpisodeOver,
    InvalidAction,
    InvalidOption,
    TransportError,
    UnknownEnv,
    UnknownEpisode,
    UnknownTask,
)
from envs.server.app import create_app
from envs.types import Action, EpisodeStatus, SplitRole


def app() -> Any:
    return create_app(EnvServerSettings(envs=("counting", "blocking_counting")), counting_registry())


def count(number: int) -> Action:
    return Action("count", {"number": number})


@pytest.fixture
async def client() -> AsyncIterator[EnvClient]:
    async with EnvClient.in_process(app()) as made:
        yield made


async def test_reads(client: EnvClient) -> None:
    assert [env.spec.id for env in await client.envs()] == ["counting-v1", "blocking_counting-v1"]
    env = await client.env("blocking_counting")
    assert env.spec.tools == BLOCKING_COUNTING.tools
    assert (env.splits[0].role, env.splits[0].size, env.readiness.ready) == (SplitRole.TRAIN, 6, True)
    page = await client.tasks("counting", split="train", type="large", offset=1, limit=1)
    assert ([t.id for t in page.tasks], page.offset, page.total) == (["train/4"], 1, 3)
    assert [t.id async for t in client.iter_tasks("counting", split="train", page=4)] == [
        f"train/{n}" for n in range(6)
    ]
    assert (await client.task("counting", "train/4")) == page.tasks[0]
    assert (await client.ready())["ready"]
    assert (await client.version())["envs"] == ["counting-v1", "blocking_counting-v1"]


async def test_an_episode(client: EnvClient) -> None:
    episode = await client.create("counting", split="train", sample_seed=2, seed=5)
    assert (episode.task.id, episode.seed, episode.status) == ("train/2", 5, EpisodeStatus.RUNNING)
    while not episode.status.over:
        action = await client.expert_action(episode.id)
        assert action is not None
        episode = await client.step(episode, action)
    assert (episode.reward, episode.steps, episode.terminated) == (1.0, 3, True)
    assert await client.read(episode.id) == episode == await client.close_episode(episode.id)


async def test_forks(client: EnvClient) -> None:
    first = await client.create("counting", task_id="train/3")
    second = await client.step(first, count(1))
    third = await client.step(second, count(2))
    (now,), (seen,), (early, _) = [
        await client.fork(third.id),
        await client.fork(second),  # from where the view stands, though the episode has gone on
        await client.fork(third, at_step=0, count=2),
    ]
    assert [fork.steps for fork in (now, seen, early)] == [2, 1, 0]
    assert (seen.observation, seen.state_hash) == (second.observation, second.state_hash)
    assert (first.forked_from, now.forked_from) == (None, ForkOrigin(first.id, 2))
    assert (await client.step(seen, count(2))).observation == third.observation
    with pytest.raises(Conflict, match="lies ahead"):
        await client.fork(third, at_step=3)
    with pytest.raises(InvalidOption, match="no expert 'oracle'"):
        await client.expert_action(first.id, "oracle")


async def test_many(client: EnvClient) -> None:
    new = [NewEpisode(env="counting", task_id=f"train/{n}") for n in (0, 9, 5)]
    first, unknown, second = await client.create_many(new)
    assert isinstance(unknown, UnknownTask)
    first, second = await client.step_many([(first, count(1)), (second, count(1))])
    assert (first.status, second.steps) == (EpisodeStatus.COMPLETED, 1)
    over, bad = await client.step_many([(first.id, count(2)), (second, Action("count", {}))])
    assert (type(over), type(bad)) == (EpisodeOver, InvalidAction)
    closed = await client.close_many([first.id, second.id])
    assert [(v.status, v.reward) for v in closed] == [("completed", 1.0), ("cancelled", None)]
    assert await client.step_many([]) == []


async def test_errors_come_back_as_ours(client: EnvClient) -> None:
    with pytest.raises(UnknownEnv, match="chess"):
        await client.create("chess", task_id="x")
    episode = await client.create("counting", task_id="train/0")
    with pytest.raises(Conflict):
        await client.step(episode.id, count(1), step=4)
    with pytest.raises(InvalidAction):
        await client.step(episode, Action("jump"))
    with pytest.raises(InvalidOption, match="no JSON"):
        await client.step(episode, Action("count", {"number": float("nan")}))
    assert (await client.step(episode, Action("count", {"number": 1, "say": "\ud800"}))).observation.text == "\ud800"


@pytest.mark.parametrize("wrong", [{}, {"split": "train"}, {"task_id": "a", "split": "train"}, {"sample_seed": 1}])
async def test_a_creation_names_one_task(client: EnvClient, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption, match="task"):
        await client.create("counting", **wrong)


class Flaky(httpx.AsyncBaseTransport):
    """Loses answers: the request arrives, its answer does not, for the first ``losses`` requests of a path."""

    def __init__(self, inner: httpx.AsyncBaseTransport, losses: int, error: type[httpx.TransportError]) -> None:
        self.inner = inner
        self.losses = losses
        self.error = error
        self.seen: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request.url.path.rpartition("/")[2])
        answer = await self.inner.handle_async_request(request)
        if self.losses > 0 and request.method == "POST":
            self.losses -= 1
            await answer.aread()
            raise self.error("gone", request=request)
        return answer


@pytest.fixture
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envs.exchange._BACKOFF_S", 0.0)


@pytest.mark.usefixtures("no_wait")
async def test_a_numbered_step_is_sent_again_and_applied_once() -> None:
    server = app()
    async with server.router.lifespan_context(server):
        flaky = Flaky(httpx.ASGITransport(server), 0, httpx.ReadError)
        async with EnvClient("http://127.0.0.1", transport=flaky) as client:
            episode = await client.create("counting", task_id="train/5")
            flaky.losses = 2
            episode = await client.step(episode, count(1))
            assert (episode.steps, flaky.seen.count("step")) == (1, 3)
            family = await server.state.families.get("counting")
            assert family.applied == 1
            flaky.losses = 1
            batch = await client.step_many([(episode, count(2))])
            assert (batch[0].steps, family.applied) == (2, 2)


@pytest.mark.usefixtures("no_wait")
async def test_what_is_not_safe_is_not_sent_again() -> None:
    server = app()
    async with server.router.lifespan_context(server):
        flaky = Flaky(httpx.ASGITransport(server), 0, httpx.ReadError)
        async with EnvClient("http://127.0.0.1", transport=flaky) as client:
            episode = await client.create("counting", task_id="train/5")
            flaky.losses, flaky.seen = 1, []
            with pytest.raises(TransportError):
                await client.step(episode.id, count(1))
            assert len(flaky.seen) == 1


@pytest.mark.usefixtures("no_wait")
async def test_a_creation_is_sent_again_and_is_one_episode() -> None:
    server = app()
    async with server.router.lifespan_context(server):
        family = await server.state.families.get("counting")
        flaky = Flaky(httpx.ASGITransport(server), 0, httpx.ReadError)
        async with EnvClient("http://127.0.0.1", transport=flaky) as client:
            flaky.losses = 2
            await client.create("counting", task_id="train/1")
            assert (len(flaky.seen), len(family.live)) == (3, 1)
            flaky.losses = 1
            await client.create_many([NewEpisode(env="counting", task_id="train/1")] * 2)
            assert len(family.live) == 3


@pytest.mark.usefixtures("no_wait")
async def test_lost_forks_are_asked_for_again_and_are_the_same() -> None:
    server = app()
    async with server.router.lifespan_context(server):
        family = await server.state.families.get("counting")
        flaky = Flaky(httpx.ASGITransport(server), 0, httpx.ReadError)
        async with EnvClient("http://127.0.0.1", transport=flaky) as client:
            episode = await client.create("counting", task_id="train/5")
            flaky.losses, flaky.seen = 2, []
            forks = await client.fork(episode, count=3)
            assert (len(flaky.seen), len(family.live), len({fork.id for fork in forks})) == (3, 4, 3)


async def test_a_heartbeat_keeps_an_episode(client: EnvClient) -> None:
    views = [await client.create("counting", task_id="train/5") for _ in range(2)]
    await client.close_episode(views[1].id)
    kept, over, unknown = await client.touch([views[0].id, views[1].id, "ep_none"])
    assert (kept, type(over), type(unknown)) == (900.0, EpisodeOver, UnknownEpisode)
    assert await client.touch([]) == []


async def test_who_is_near_is_not_packed_for() -> None:
    seen: list[httpx.Headers] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers)
        return httpx.Response(200, json={"version": "", "envs": []})

    for url in ("http://127.0.0.1:1", "http://envs.example"):
        async with EnvClient(url, transport=httpx.MockTransport(answer)) as client:
            await client.version()
    assert [headers["accept-encoding"].partition(",")[0] for headers in seen] == ["identity", "gzip"]


@pytest.mark.usefixtures("no_wait")
@pytest.mark.parametrize(
    "body", [b"<html>Bad gateway</html>", b'{"error":{"code":"try_again","message":"","hint":""}}']
)
async def test_a_server_that_is_away_for_a_while_is_waited_for(body: bytes) -> None:
    server, away = app(), 0

    class Tunnel(httpx.ASGITransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            nonlocal away
            away -= 1
            return httpx.Response(502, content=body) if away >= 0 else await super().handle_async_request(request)

    async with server.router.lifespan_context(server):
        async with EnvClient("http://127.0.0.1", transport=Tunnel(server)) as client:
            episode = await client.create("counting", task_id="train/5")
            away = 40
            assert (await client.step(episode, count(1))).steps == 1
        away = 40
        async with EnvClient("http://127.0.0.1", transport=Tunnel(server)) as client:
            with pytest.raises(EnvloopError):  # it was never there
                await client.read(episode.id)


@pytest.mark.usefixtures("no_wait")
async def test_a_refused_connection_is_tried_again_for_everything_and_then_says_what_to_do() -> None:
    tries = 0

    def refuse(request: httpx.Request) -> httpx.Response:
        nonlocal tries
        tries += 1
        raise httpx.ConnectError("refused", request=request)

    async with EnvClient("http://127.0.0.1:1", transport=httpx.MockTransport(refuse), retries=3) as client:
        with pytest.raises(TransportError, match="envloop env serve"):
            await client.create("counting", task_id="train/1")
    assert tries == 4


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(502, text="<html>bad gateway</html>"),
        httpx.Response(200, text="<html>welcome</html>"),
        httpx.Response(200, json={"id": "x"}),
        httpx.Response(200, json=[]),
        httpx.Response(404, json={"detail": "Not Found"}),
    ],
)
async def test_a_foreign_server_is_a_transport_error(answer: httpx.Response) -> None:
    transport = httpx.MockTransport(lambda _: answer)
    async with EnvClient("http://127.0.0.1", transport=transport) as client:
        for call in (lambda: client.read("x"), client.envs, lambda: client.close_many(["x"]), client.ready):
            with pytest.raises(TransportError):
                await call()


async def test_an_unready_server_answers_ready() -> None:
    body = {"ready": False, "envs": {}, "error": BackendUnavailable("x").to_json()}
    async with EnvClient("http://h", transport=httpx.MockTransport(lambda _: httpx.Response(503, json=body))) as client:
        assert await client.ready() == body


async def test_the_token_is_sent() -> None:
    seen: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request.headers["authorization"], json.loads(request.content or b"null")))
        return httpx.Response(200, json={"envs": []})

    async with EnvClient("http://h/", token="secret", transport=httpx.MockTransport(answer)) as client:
        assert await client.envs() == ()
    assert seen == [("Bearer secret", None)]


def test_the_sync_face_has_every_method_of_the_async_one() -> None:
    def methods(cls: type) -> set[str]:
        return {name for name, value in vars(cls).items() if not name.startswith("_") and isinstance(value, Callable)}

    assert methods(EnvClient) - {"aclose"} == methods(SyncEnvClient) - {"close"}


def test_the_sync_face_plays_and_ends_its_thread() -> None:
    before = set(threading.enumerate())
    server = app()
    with SyncEnvClient.in_process(server) as client:
        episode = client.create("counting", split="train", sample_seed=1)
        while not episode.status.over:
            number = int(episode.observation.admissible_actions[0])
            episode = client.step(episode.id, count(number))
        assert episode.reward == 1.0
        assert len(list(client.iter_tasks("counting", split="train", page=4))) == 6
        with pytest.raises(EpisodeOver):
            client.step(episode.id, count(1))
        assert [fork.steps for fork in client.fork(episode, at_step=1, count=2)] == [1, 1]
    client.close()
    assert not [t for t in set(threading.enumerate()) - before if t.name == "env-client"]


async def test_the_sync_face_works_where_a_loop_runs_as_in_a_notebook() -> None:
    with SyncEnvClient.in_process(app()) as client:
        assert client.create("counting", split="train", sample_seed=1).status is EpisodeStatus.RUNNING
