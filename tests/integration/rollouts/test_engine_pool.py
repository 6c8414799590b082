"""A pool over real HTTP servers, in processes that are killed, and one whose every answer is slow, wrong or missing."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai_server import ChoosingEngine, OpenAIServer, ServerProcess, serving

from envs.client import EnvClient
from envs.config import EnvServerSettings
from envs.errors import BackendUnavailable, ConfigError, TransportError, UnknownPolicy
from envs.server.app import create_app
from envs.types import EpisodeStatus
from rollout_server.engines.base import Engine, GenerationRequest
from rollout_server.engines.factory import make_engine
from rollout_server.engines.pool import EnginePool
from rollout_server.engines.scripted import ScriptedEngine
from rollout_server.runner import RolloutRunner
from rollout_server.tokenizer import ByteTokenizer
from rollout_server.types import Episode, PolicyVersion, RolloutRequest, SamplingParams, TaskRef

EPISODES = 32


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[ServerProcess]]:
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
    started = [ServerProcess(folder) for folder in folders]
    yield started
    for server in started:
        server.kill()


@pytest.fixture
async def many_houses() -> AsyncIterator[EnvClient]:
    async with EnvClient.in_process(create_app(EnvServerSettings(envs=("alfworld",), max_episodes=64))) as client:
        yield client


def pool_of(urls: list[str], **options: Any) -> EnginePool:
    options = {"probe_s": 0.05, "probe_limit_s": 0.2, **options}
    pool = make_engine("openai", model="small", base_url=urls, tokenizer=ByteTokenizer(), **options)
    assert isinstance(pool, EnginePool)
    assert isinstance(pool, Engine)
    return pool


async def control(url: str, **changes: Any) -> None:
    async with httpx.AsyncClient() as client:
        (await client.post(f"{url}/control", json=changes)).raise_for_status()


async def play(client: EnvClient, engine: Engine, *, episodes: int = EPISODES) -> list[Episode]:
    tasks = tuple(TaskRef("alfworld", split="generated", sample_seed=seed) for seed in range(episodes))
    request = RolloutRequest(tasks, max_turns=4, max_episode_tokens=1 << 20, sampling=SamplingParams(max_tokens=200))
    groups = await RolloutRunner(client, engine).run(request)
    return [episode for group in groups for episode in group.episodes]


def tokens(episodes: list[Episode]) -> list[tuple[int, ...]]:
    return [(*episode.prompt_ids, *episode.completion_ids) for episode in episodes]


async def test_a_server_killed_amid_32_episodes_costs_none_of_them(
    servers: list[ServerProcess], many_houses: EnvClient, caplog: pytest.LogCaptureFixture
) -> None:
    urls = [await server.url() for server in servers]
    for url in urls:
        await control(url, delay_s=0.03)
    pool = pool_of(urls)
    await pool.start()
    undisturbed = ChoosingEngine()
    generate, count, killed = pool.generate, 0, False

    async def counted(request: GenerationRequest) -> Any:
        nonlocal count, killed
        count += 1
        if not killed and count >= EPISODES * 2 and pool.status()[0]["in_flight"]:  # about two of four turns are over
            servers[0].kill()
            killed = True
        return await generate(request)

    pool.generate = counted  # type: ignore[method-assign]
    episodes = await play(many_houses, pool)
    assert killed
    assert all(episode.status is not EpisodeStatus.INFRASTRUCTURE_ERROR for episode in episodes)
    assert tokens(episodes) == tokens(await play(many_houses, undisturbed)), "an episode was played otherwise"
    dead, living = pool.status()
    assert (dead["ready"], living["ready"]) == (False, True)
    assert dead["failures"] > 0
    assert dead["error"]["code"] == "transport_error"
    assert pool.alive
    assert "is out" in caplog.text

    # It is started again, and takes its share once a probe has found it.
    servers[0].start()
    await servers[0].url()
    before = dead["requests"]
    await until(lambda: pool.status()[0]["ready"])
    await play(many_houses, pool, episodes=8)
    assert pool.status()[0]["requests"] > before
    await pool.close()
    with pytest.raises(BackendUnavailable):
        await pool.generate(request())


@pytest.fixture
async def pair() -> AsyncIterator[tuple[list[OpenAIServer], list[str]]]:
    """Two servers on this loop."""
    made = [OpenAIServer(ChoosingEngine()) for _ in range(2)]
    async with contextlib.AsyncExitStack() as stack:
        yield made, [await stack.enter_async_context(serving(server)) for server in made]


@contextlib.asynccontextmanager
async def started(urls: list[str], **options: Any) -> AsyncIterator[EnginePool]:
    pool = pool_of(urls, **options)
    await pool.start()
    try:
        yield pool
    finally:
        await pool.close()


def request(policy: PolicyVersion | None = None, number: int = 0, prompt: str = "") -> GenerationRequest:
    ids = ByteTokenizer().encode((prompt or f"episode {number} " * 40) + "AVAILABLE ACTIONS: look\n", markup=False)
    return GenerationRequest(tuple(ids), SamplingParams(seed=number), policy or PolicyVersion())


async def until(condition: Any) -> None:
    while not condition():  # noqa: ASYNC110 - bounded by the test's own time limit
        await asyncio.sleep(0.01)


async def converse(engine: Engine, number: int, turns: int = 5) -> list[tuple[int, ...]]:
    """The prompts of an episode without an environment: each begins with the last one and what was sampled."""
    ids, prompts = request(number=number).prompt_ids, []
    for _ in range(turns):
        prompts.append(ids)
        done = await engine.generate(GenerationRequest(ids, SamplingParams(seed=number), PolicyVersion()))
        ids = (*ids, *done.token_ids, *ByteTokenizer().encode("You see it. " * 9, markup=False))
    return prompts


async def test_a_flapping_member_fails_no_episode(pair: tuple[list[OpenAIServer], list[str]]) -> None:
    (flapping, _), urls = pair

    async def flap() -> None:
        while True:
            flapping.control["failing"] = not flapping.control["failing"]
            await asyncio.sleep(0.02)

    async with started(urls, probe_s=0.01, probe_limit_s=0.02) as pool:
        for server in pair[0]:
            server.control["delay_s"] = 0.01
        task = asyncio.create_task(flap())
        played = await asyncio.gather(*(converse(pool, number) for number in range(EPISODES)))
        task.cancel()
        assert pool.status()[0]["failures"] > 0
    undisturbed = ChoosingEngine()
    assert played == [await converse(undisturbed, number) for number in range(EPISODES)]


async def test_a_slow_member_gets_less(pair: tuple[list[OpenAIServer], list[str]]) -> None:
    (slow, fast), urls = pair
    async with started(urls) as pool:
        slow.control["delay_s"], fast.control["delay_s"] = 0.3, 0.002
        await asyncio.gather(*(converse(pool, number) for number in range(12)))
        assert pool.status()[0]["requests"] < pool.status()[1]["requests"]


async def test_a_member_that_never_answers_is_given_up(pair: tuple[list[OpenAIServer], list[str]]) -> None:
    servers, urls = pair
    async with started(urls, request_timeout_s=1.0) as pool:
        servers[0].control["delay_s"] = 60.0
        await asyncio.gather(*(converse(pool, number, turns=2) for number in range(6)))
        assert [entry["ready"] for entry in pool.status()] == [False, True]
        assert "ReadTimeout" in pool.status()[0]["error"]["message"]


async def test_an_episode_stays_where_its_prefix_is(pair: tuple[list[OpenAIServer], list[str]]) -> None:
    """Of an episode's turns after the first, most go where the one before went; at random half of them would."""
    servers, urls = pair
    homes: dict[tuple[int, ...], int] = {}

    def note(number: int, engine: Engine) -> None:
        generate = engine.generate

        async def noted(asked: GenerationRequest) -> Any:
            homes[asked.prompt_ids] = number
            return await generate(asked)

        engine.generate = noted  # type: ignore[method-assign]

    async with started(urls) as pool:
        for number, server in enumerate(servers):
            server.control["delay_s"] = 0.01
            note(number, server.engine)
        played = await asyncio.gather(*(converse(pool, number) for number in range(EPISODES)))
        shares = [entry["requests"] for entry in pool.status()]
    moves = [homes[a] != homes[b] for prompts in played for a, b in itertools.pairwise(prompts)]
    assert sum(moves) < len(moves) / 4
    assert min(shares) > sum(shares) / 4, "one engine did most of the work"


async def test_capacity_is_kept_and_the_rest_waits_in_order(pair: tuple[list[OpenAIServer], list[str]]) -> None:
    servers, urls = pair
    most = 0
    async with started(urls, capacity=[1, 2]) as pool:
        for server in servers:
            server.control["delay_s"] = 0.02

        async def one(number: int) -> None:
            nonlocal most
            await pool.generate(request(number=number))
            ended.append(number)
            most = max(most, sum(entry["in_flight"] for entry in pool.status()))

        ended: list[int] = []
        await asyncio.gather(*map(one, range(12)))
        assert most <= 3
        assert sorted(ended) == list(range(12))
        assert ended.index(0) < ended.index(11)
        assert all(entry["in_flight"] == 0 for entry in pool.status())


async def test_cancelling_reaches_the_server_and_frees_the_place(pair: tuple[list[OpenAIServer], list[str]]) -> None:
    servers, urls = pair
    async with started(urls[:1], capacity=1) as pool:
        servers[0].control["delay_s"] = 60.0
        first, second = (asyncio.create_task(pool.generate(request(number=n))) for n in range(2))
        await until(lambda: servers[0].stats["under_way"] == 1)
        second.cancel()  # it waits for a place
        first.cancel()
        await asyncio.wait([first, second])
        assert first.cancelled()
        assert second.cancelled()
        await until(lambda: servers[0].stats["abandoned"] == 1)
        servers[0].control["delay_s"] = 0.0
        assert (await pool.generate(request())).token_ids
        assert pool.status()[0]["failures"] == 0


async def test_a_request_fails_after_so_many_attempts_and_when_nobody_comes_back(
    pair: tuple[list[OpenAIServer], list[str]],
) -> None:
    servers, urls = pair
    async with started(urls, attempts=2, patience_s=0.05, probe_s=30.0) as pool:
        for server in servers:
            server.control["failing"] = True
        with pytest.raises(TransportError, match="the engine is dead"):
            await pool.generate(request())
        assert [server.stats["failed"] for server in servers] == [1, 1]
        assert not pool.alive
        with pytest.raises(BackendUnavailable, match="no engine of the pool"):
            await pool.generate(request())
        assert [server.stats["failed"] for server in servers] == [1, 1]


async def test_members_must_serve_the_same_model(pair: tuple[list[OpenAIServer], list[str]]) -> None:
    servers, urls = pair
    servers[1].model = "other"
    with pytest.raises(ConfigError, match="does not serve 'small'"):
        await pool_of(urls).start()
    servers[1].model = "small"
    generate = servers[1].engine.generate

    async def surer(asked: GenerationRequest) -> Any:
        done = await generate(asked)
        if asked.sampling.temperature == 0.0:
            return type(done)(done.token_ids, (-1.0,) * len(done.token_ids), done.finish_reason, done.policy)
        return done

    servers[1].engine.generate = surer  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match=r"different models: .*0\.000 .*-1\.000"):
        await pool_of(urls).start()


async def test_one_server_missing_at_the_start_is_awaited_and_all_missing_is_an_error(
    pair: tuple[list[OpenAIServer], list[str]],
) -> None:
    _, urls = pair
    async with started([urls[0], "http://127.0.0.1:1"]) as pool:
        assert [entry["ready"] for entry in pool.status()] == [True, False]
        assert (await pool.generate(request())).token_ids
    with pytest.raises(TransportError, match="cannot be reached"):
        await pool_of(["http://127.0.0.1:1", "http://127.0.0.1:2"]).start()
    with pytest.raises(ConfigError, match="named twice"):
        pool_of([urls[0], urls[0]])
    with pytest.raises(ConfigError, match="at least one engine"):
        EnginePool([])


async def test_policies_are_on_all_members_and_one_that_comes_back_gets_what_it_missed(
    pair: tuple[list[OpenAIServer], list[str]],
) -> None:
    servers, urls = pair
    first, second, third = (PolicyVersion(f"v{n}", n, f"/adapters/{n}") for n in (1, 2, 3))
    async with started(urls) as pool:
        with pytest.raises(UnknownPolicy):
            await pool.generate(request(first))
        await pool.load_policy(first)
        assert [len(server.adapters) for server in servers] == [1, 1]

        servers[0].control["failing"] = True  # so that a probe finds it unwell
        await pool.generate(request(number=1))
        await asyncio.gather(*(pool.generate(request(number=n)) for n in range(4)))
        assert [entry["ready"] for entry in pool.status()] == [False, True]
        servers[0].adapters.clear()  # started again meanwhile
        await pool.load_policy(second)
        await pool.load_policy(third)
        await pool.unload_policy("v3")
        servers[0].control["failing"] = False
        await until(lambda: pool.status()[0]["ready"])
        assert pool.status()[0]["policies"] == ["v1", "v2"]
        assert sorted(name[-2:] for name in servers[0].adapters) == ["v1", "v2"]
        done = await asyncio.gather(*(pool.generate(request(second, number=n)) for n in range(8)))
        assert {completion.policy for completion in done} == {"v2"}
        assert all(entry["requests"] for entry in pool.status())

        # A server that was started again unnoticed: the request goes elsewhere, and the adapter is loaded anew.
        servers[0].adapters.clear()
        done = await asyncio.gather(*(pool.generate(request(second, number=n)) for n in range(8)))
        assert {completion.policy for completion in done} == {"v2"}
        await until(lambda: pool.status()[0]["ready"])
        assert sorted(name[-2:] for name in servers[0].adapters) == ["v1", "v2"]
    assert [server.adapters for server in servers] == [{}, {}], "adapters stay on the servers"


async def test_a_member_that_cannot_load_is_out_and_where_none_can_it_is_the_callers_error(
    pair: tuple[list[OpenAIServer], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    servers, urls = pair
    policies = [PolicyVersion(f"v{n}", n, f"/adapters/{n}") for n in range(3)]
    async with started(urls) as pool:
        for server in servers:
            server.control["adapters"] = False
        with pytest.raises(ConfigError, match="no room"):
            await pool.load_policy(policies[0])
        assert all(entry["ready"] for entry in pool.status())
        servers[1].control["adapters"] = True
        await pool.load_policy(policies[1])
        assert [entry["ready"] for entry in pool.status()] == [False, True]
        assert "no room" in pool.status()[0]["error"]["message"]
        assert "no room" in caplog.text
        servers[0].control["adapters"] = True
        await until(lambda: pool.status()[0]["ready"])
        assert pool.status()[0]["policies"] == ["v1"]


async def test_a_load_that_is_cut_short_leaves_no_weights_under_the_name(
    pair: tuple[list[OpenAIServer], list[str]],
) -> None:
    servers, urls = pair
    async with started(urls) as pool:
        servers[1].control["loading"] = True
        cut = asyncio.create_task(pool.load_policy(PolicyVersion("v1", 1, "/adapters/old")))
        await until(lambda: servers[0].adapters)
        cut.cancel()
        await asyncio.wait([cut])
        servers[1].control["loading"] = False
        with pytest.raises(UnknownPolicy):
            await pool.generate(request(PolicyVersion("v1", 1, "/adapters/old")))
        await pool.load_policy(PolicyVersion("v1", 1, "/adapters/new"))
        assert [p.adapter_path for p in servers[0].adapters.values()] == ["/adapters/new"]
        assert "/adapters/new" in [p.adapter_path for p in servers[1].adapters.values()]


def test_a_pool_can_what_all_of_its_members_can() -> None:
    class Able(ScriptedEngine):
        constrains = keeps_time = True

    both, one = EnginePool([Able("noop"), Able("noop")]), EnginePool([Able("noop"), ScriptedEngine("noop")])
    assert [(pool.constrains, pool.keeps_time) for pool in (both, one)] == [(True, True), (False, False)]
