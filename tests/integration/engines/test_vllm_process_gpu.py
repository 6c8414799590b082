"""vLLM's sleep mode itself, on a GPU: the memory comes back, and afterwards it samples what it sampled before."""

from __future__ import annotations

from pathlib import Path

import pytest
from contract.engine_contract import EngineCase, Reference

from rollout_server.engines.vllm_process import VllmProcessEngine
from rollout_server.types import PolicyVersion, SamplingParams

pytestmark = [pytest.mark.gpu, pytest.mark.vllm, pytest.mark.timeout(1500)]
GREEDY = SamplingParams(temperature=0.0, max_tokens=16)


async def test_sleep_frees_the_gpu_and_adapters_come_in_on_waking(
    smollm2_dir: Path, reference: Reference, adapters: tuple[Path, Path], tmp_path: Path
) -> None:
    import torch

    total = torch.cuda.mem_get_info()[1]
    engine = VllmProcessEngine(
        str(smollm2_dir),
        dtype="bfloat16",
        max_model_len=1024,
        max_lora_rank=8,
        gpu_memory_utilization=0.3,
        log_path=tmp_path / "vllm.log",
    )
    await engine.start()
    try:
        assert engine.can_sleep
        case = EngineCase(engine, reference, adapters)
        before = await case.sample(GREEDY)
        awake = torch.cuda.mem_get_info()[0]
        await engine.sleep()
        asleep = torch.cuda.mem_get_info()[0]
        assert asleep - awake > 0.2 * total, "the key-value cache and the weights are given up"
        version = PolicyVersion("v1", 1, str(adapters[0]))
        await engine.load_policy(version)
        await engine.wake()
        assert (await case.sample(GREEDY)).token_ids == before.token_ids
        sampling = SamplingParams(temperature=1.0, max_tokens=16, seed=5)
        assert case.error(await case.sample(sampling, version), sampling, version) < 0.05
    finally:
        await engine.close()
