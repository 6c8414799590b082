"""vLLM in a process of its own, a real one: the engines' contract, a GRPO run over it, and its end with its owner."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from contract.engine_contract import ENGINE_CHECKS, EngineCase, Reference

from rollout_server.engines.vllm_process import VllmProcessEngine
from rollout_server.episode_store import EpisodeStore
from rollout_server.types import PolicyVersion, SamplingParams

pytestmark = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.timeout(1500)]
one_loop = pytest.mark.asyncio(loop_scope="module")
OPTIONS = {"dtype": "float32", "max_num_seqs": 16, "max_loras": 2, "max_lora_rank": 8, "kv_cache_gib": 0.5}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def case(
    smollm2_dir: Path, reference: Reference, adapters: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[EngineCase]:
    log = tmp_path_factory.mktemp("vllm") / "vllm.log"
    engine = VllmProcessEngine(str(smollm2_dir), max_model_len=1024, log_path=log, **OPTIONS)
    await engine.start()
    yield EngineCase(engine, reference, adapters)
    group = members(engine.pid)
    assert len(group) > 1, "vLLM's engine is a process of its own beside the server"
    await engine.close()
    assert not [p for p in group if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def members(group: int | None) -> list[psutil.Process]:
    """The processes of a group."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group:
                found.append(process)
        except ProcessLookupError:
            continue
    return found


@one_loop
@pytest.mark.parametrize("check", ENGINE_CHECKS, ids=lambda c: c.__name__.removeprefix("check_"))
async def test_contract(case: EngineCase, check: Callable[[EngineCase], Awaitable[None]]) -> None:
    await check(case)


@one_loop
async def test_a_cpu_build_says_that_it_cannot_sleep(case: EngineCase) -> None:
    engine = case.engine
    assert isinstance(engine, VllmProcessEngine)
    assert not engine.can_sleep
    await engine.sleep()
    assert not engine.asleep


def small_model(folder: Path) -> Path:
    """The tiny model with heads of the least size that vLLM's kernels take."""
    from transformers import AutoConfig, Qwen2ForCausalLM

    from trainer.tiny_model import save_tiny_model

    save_tiny_model(folder)
    config = AutoConfig.from_pretrained(folder, hidden_size=256, num_attention_heads=4, head_dim=64, dtype="float32")
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


def test_grpo_plays_a_group_over_it_and_swaps_its_adapter_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from trainer.config import parse_config
    from trainer.grpo import train_grpo
    from trainer.services import store_url

    config = parse_config(
        {
            "model": {"name": str(small_model(tmp_path / "model")), "dtype": "float32", "device": "cpu"},
            "lora": {"r": 8, "alpha": 16},
            "data": {"sources": [{"env": "alfworld", "split": "generated_easy"}]},
            "rollout": {
                "engine": "vllm_process",
                "engine_options": {"kv_cache_gib": 0.5},
                "group_size": 4,
                "groups_per_step": 1,
                "max_turns": 2,
                "max_tokens": 16,
                "max_episode_tokens": 8192,
            },
            "grpo": {"steps": 2, "learning_rate": 1e-3, "micro_batch": 2},
            "run": {"output_dir": str(tmp_path / "run"), "name": "shared", "report_to": ["jsonl"]},
        }
    )
    started: list[int] = []

    def look(_: object) -> None:
        started.extend(p.pid for p in psutil.Process().children() if "api_server" in " ".join(p.cmdline()))

    result = train_grpo(config, on_batch=look)
    assert len(set(started)) == 1
    assert not psutil.pid_exists(started[0])
    assert result.policies == ["shared-v1", "shared-v2"]
    with EpisodeStore(store_url(config)) as store:
        assert {e.policy for e in store.iter_episodes(run="shared")} == {"base", "shared-v1"}
    # The logprobs of the swapped adapter are the trainer's own: the same weights, ids and temperature.
    assert [m["sampling/sampling_logp_difference/mean"] < 5e-3 for m in result.metrics] == [True, True]
    assert "no sleep mode on a CPU" in caplog.text
    assert "vllm" in (tmp_path / "run/vllm.log").read_text().lower()


OWNER = """
import asyncio, sys
from rollout_server.engines.vllm_process import VllmProcessEngine
asyncio.run(VllmProcessEngine(sys.argv[1], log_path=sys.argv[2], kv_cache_gib=0.25).start())
"""


def test_nothing_is_left_when_the_trainer_is_killed(smollm2_dir: Path, tmp_path: Path) -> None:
    """Killed where it is hardest: while vLLM's server is starting the engine's process."""
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(smollm2_dir), str(tmp_path / "log")])
    server: list[psutil.Process] = []
    while not server or not server[0].children():
        assert owner.poll() is None
        server = [p for p in psutil.Process(owner.pid).children() if "api_server" in " ".join(p.cmdline())]
    group = members(server[0].pid)
    assert len(group) > 1
    owner.kill()
    owner.wait()
    for process in group:
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:  # bounded by the test's own limit
            try:
                process.wait(timeout=0.2)
            except psutil.TimeoutExpired:
                continue


@one_loop
async def test_a_merged_model_samples_as_base_and_adapter_do(
    smollm2_dir: Path, reference: Reference, adapters: tuple[Path, Path], tmp_path: Path
) -> None:
    """vLLM loads what merging wrote, and its logprobs are those of the judge's adapter."""
    from trainer.merge import merge_adapter
    from trainer.settings import ModelSettings

    merged = tmp_path / "merged"
    merge_adapter(ModelSettings(name=str(smollm2_dir)), adapters[0], merged, dtype="float32", device="cpu")
    engine = VllmProcessEngine(str(merged), max_model_len=1024, **{**OPTIONS, "max_lora_rank": 0})
    await engine.start()
    try:
        case = EngineCase(engine, reference, adapters)
        sampling = SamplingParams(temperature=1.0, max_tokens=24, seed=3)
        done = await case.sample(sampling)
    finally:
        await engine.close()
    assert case.error(done, sampling, PolicyVersion("judge", 1, str(adapters[0]))) < 0.01
    assert case.error(done, sampling) > 0.05, "the base model says something else"
