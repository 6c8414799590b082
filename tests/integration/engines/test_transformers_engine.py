"""The transformers engine with a real model."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from contract.engine_contract import (
    BASE,
    ENGINE_CHECKS,
    FREE,
    GREEDY,
    EngineCase,
    Reference,
    check_adapters_swap,
    check_logprobs_are_of_the_sampled_distribution,
    check_many_at_once,
    check_seeds,
)
from openai_server import OpenAIServer, serving

from envs.errors import BackendUnavailable, ConfigError
from rollout_server.engines.base import Engine
from rollout_server.engines.factory import make_engine
from rollout_server.engines.transformers import TransformersEngine

pytestmark = pytest.mark.asyncio(loop_scope="module")


def engine_threads() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if t.name.startswith("transformers-engine")}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def case(smollm2_dir: Path, reference: Reference, adapters: tuple[Path, Path]) -> AsyncIterator[EngineCase]:
    # float32: bfloat16 is emulated, and slow, on processors without it.
    engine = TransformersEngine(str(smollm2_dir), dtype="float32", device="cpu", max_model_len=512, max_batch=4)
    await engine.start()
    yield EngineCase(engine, reference, adapters)
    await engine.close()


@pytest.mark.parametrize("check", ENGINE_CHECKS, ids=lambda c: c.__name__.removeprefix("check_"))
async def test_contract(case: EngineCase, check: Callable[[EngineCase], Awaitable[None]]) -> None:
    await check(case)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool_case(case: EngineCase) -> AsyncIterator[EngineCase]:
    """Two HTTP servers before the one model, as a pool."""
    servers = [OpenAIServer(case.engine) for _ in range(2)]
    async with serving(servers[0]) as first, serving(servers[1]) as second:
        pool = make_engine("openai", model="small", base_url=[first, second], tokenizer=case.engine.tokenizer)
        await pool.start()
        yield EngineCase(pool, case.reference, case.adapters)
        await pool.close()
    assert all(server.stats["answered"] for server in servers)
    assert not any(server.adapters for server in servers)


# What a pool adds no risk to is left to the slow run: the same engine answers behind it.
LONG = (check_adapters_swap, check_logprobs_are_of_the_sampled_distribution, check_many_at_once, check_seeds)
POOL_CHECKS = [pytest.param(check, marks=pytest.mark.slow if check in LONG else ()) for check in ENGINE_CHECKS]


@pytest.mark.parametrize("check", POOL_CHECKS, ids=lambda c: c.__name__.removeprefix("check_"))
async def test_contract_of_a_pool(pool_case: EngineCase, check: Callable[[EngineCase], Awaitable[None]]) -> None:
    await check(pool_case)


async def test_is_an_engine(case: EngineCase) -> None:
    assert isinstance(case.engine, Engine)


async def test_a_batch_changes_nothing(case: EngineCase) -> None:
    """Left padding and rows that end early leave the others' tokens as they are alone."""
    questions = ["Hi", "Name three colours of the rainbow, please.", "What is two plus two? Answer with a number."]
    alone = [await case.sample(GREEDY, question=q) for q in questions]
    together = await asyncio.gather(*(case.sample(GREEDY, question=q) for q in questions))
    assert [c.token_ids for c in together] == [c.token_ids for c in alone]


async def test_closing_ends_the_thread_and_those_who_wait(smollm2_dir: Path) -> None:
    engine = TransformersEngine(str(smollm2_dir), dtype="float32", device="cpu", max_batch=1)
    before = engine_threads()
    await engine.start()
    case = EngineCase(engine, Reference(smollm2_dir), (smollm2_dir, smollm2_dir))
    first = asyncio.create_task(case.sample(replace(FREE, max_tokens=1000)))
    second = asyncio.create_task(case.sample(replace(FREE, max_tokens=1000)))
    await asyncio.sleep(0.05)
    await engine.close()
    await engine.close()
    outcomes = await asyncio.gather(first, second, return_exceptions=True)
    assert all(isinstance(o, BackendUnavailable) for o in outcomes)
    assert engine_threads() == before
    with pytest.raises(BackendUnavailable):
        await case.sample(GREEDY, BASE)


async def test_a_missing_model_is_a_clear_error(tmp_path: Path) -> None:
    engine = TransformersEngine(str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match="nothing"):
        await engine.start()
    await engine.close()
