"""One request to vLLM in this process: its sampling parameters, and its end when its time is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from rollout_server.constraints import Constraint
from rollout_server.types import SamplingParams

__all__ = ["Stopped", "stopped_after", "vllm_sampling"]

_AGAIN_S = 0.05


def vllm_sampling(sampling: SamplingParams, end_of_turn_id: int, constraint: Constraint | None) -> Any:
    """vLLM's own form of the parameters, every field sent explicitly."""
    from vllm import SamplingParams as VllmSamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    return VllmSamplingParams(
        n=1,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        repetition_penalty=sampling.repetition_penalty,
        presence_penalty=0.0,
        frequency_penalty=0.0,
        seed=sampling.seed,
        max_tokens=sampling.max_tokens,
        stop_token_ids=[end_of_turn_id],
        ignore_eos=True,  # one rule of ending a turn, the same for every engine
        logprobs=0,  # the sampled token's own
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        structured_outputs=StructuredOutputsParams(grammar=constraint.grammar) if constraint else None,
    )


class Stopped:
    """Whether time ended a request."""

    by_time = False


@asynccontextmanager
async def stopped_after(seconds: float | None, llm: Any, request_id: str) -> AsyncIterator[Stopped]:
    """Abort the request, inside the block, when so many seconds are over: vLLM then answers what it has sampled."""
    stopped = Stopped()

    async def stop(after: float) -> None:
        await asyncio.sleep(after)
        stopped.by_time = True
        while True:  # a request that still waits to enter is not known there yet
            await llm.abort(request_id)
            await asyncio.sleep(_AGAIN_S)

    if seconds is None:
        yield stopped
        return
    timer = asyncio.create_task(stop(seconds))
    try:
        yield stopped
    finally:
        timer.cancel()
        await asyncio.wait([timer])
