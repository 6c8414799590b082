"""How fast an engine samples: tokens a second with so many sequences at once."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

from rollout_server.engines.base import Engine, GenerationRequest
from rollout_server.types import PolicyVersion, SamplingParams

__all__ = ["measure_throughput"]

_TEXT = "You are in the middle of a room. Looking quickly around you, you see a cabinet 4, a cabinet 3 and a desk 1. "


async def measure_throughput(
    engine: Engine,
    *,
    sequences: int,
    prompt_tokens: int,
    new_tokens: int,
    policy: PolicyVersion | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Sample ``sequences`` completions at once from different prompts, after one short warm-up.

    A completion may end before ``new_tokens``: what was sampled counts. Answers the figures with their units in the
    names: ``tokens_per_s`` (sampled), ``wall_s``, ``latency_p50_s`` and ``latency_p95_s`` (of one completion),
    ``sampled_tokens``.
    """
    chosen = policy or PolicyVersion()
    ids = engine.tokenizer.encode(_TEXT * (prompt_tokens // 8 + 2), markup=False)
    draw = random.Random(seed)  # noqa: S311 - no secret
    latencies: list[float] = []

    async def one(number: int, tokens: int) -> int:
        start = draw.randrange(len(ids) - prompt_tokens)
        prompt = tuple(ids[start : start + prompt_tokens])
        began = time.perf_counter()
        sampling = SamplingParams(max_tokens=tokens, seed=seed + number)
        completion = await engine.generate(GenerationRequest(prompt, sampling, chosen))
        latencies.append(time.perf_counter() - began)
        return len(completion.token_ids)

    await one(-1, 2)
    latencies.clear()
    began = time.perf_counter()
    counts = await asyncio.gather(*(one(number, new_tokens) for number in range(sequences)))
    wall = time.perf_counter() - began
    latencies.sort()
    return {
        "engine": engine.name,
        "model": engine.model,
        "sequences": sequences,
        "prompt_tokens": prompt_tokens,
        "new_tokens": new_tokens,
        "sampled_tokens": sum(counts),
        "wall_s": wall,
        "tokens_per_s": sum(counts) / wall,
        "latency_p50_s": latencies[len(latencies) // 2],
        "latency_p95_s": latencies[min(len(latencies) - 1, int(len(latencies) * 0.95))],
    }
