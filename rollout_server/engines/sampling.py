"""Sampling from logits, with the exact logprobs of the distribution that is sampled from.

The order of the steps is vLLM's (``vllm/v1/sample/sampler.py``): repetition penalty, temperature, min_p, top_k, top_p.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rollout_server.types import SamplingParams

__all__ = ["processed_logprobs", "sample_row"]

_GREEDY = 1e-5  # vLLM's bound below which a temperature is greedy


def processed_logprobs(logits: torch.Tensor, sampling: SamplingParams, seen: Sequence[int] = ()) -> torch.Tensor:
    """Logprobs of one position, shape (V,) in float32: minus infinity for tokens that ``sampling`` rules out.

    ``seen`` are the ids of the prompt and of the completion so far, for the repetition penalty. At temperature 0
    nothing is ruled out and the logprobs are those of temperature 1, as in vLLM.
    """
    logits = logits.float()
    if sampling.repetition_penalty != 1.0 and seen:
        logits = _penalised(logits, sampling.repetition_penalty, seen)
    if sampling.temperature < _GREEDY:
        return logits.log_softmax(-1)
    logits = logits / sampling.temperature
    if sampling.min_p > 0.0:
        probabilities = logits.softmax(-1)
        logits = logits.masked_fill(probabilities < sampling.min_p * probabilities.max(), -torch.inf)
    if 0 < sampling.top_k < logits.shape[-1]:
        logits = logits.masked_fill(logits < logits.topk(sampling.top_k).values[-1], -torch.inf)
    if sampling.top_p < 1.0:
        logits = _nucleus(logits, sampling.top_p)
    return logits.log_softmax(-1)


def sample_row(logprobs: torch.Tensor, sampling: SamplingParams, generator: torch.Generator) -> int:
    """Draw one id from logprobs of shape (V,); the most likely one at temperature 0."""
    if sampling.temperature < _GREEDY:
        return int(logprobs.argmax())
    # An exponential race: argmax(p / e) with e ~ Exp(1) is a draw from p. The generator lives on the CPU on purpose: a
    # seed then gives the same noise on every device.
    noise = torch.empty(logprobs.shape, dtype=torch.float32).exponential_(generator=generator).to(logprobs.device)
    return int((logprobs.exp() / noise).argmax())


def _penalised(logits: torch.Tensor, penalty: float, seen: Sequence[int]) -> torch.Tensor:
    ids = torch.tensor(sorted(set(seen)), device=logits.device)
    chosen = logits[ids]
    return logits.index_put((ids,), torch.where(chosen > 0, chosen / penalty, chosen * penalty))


def _nucleus(logits: torch.Tensor, top_p: float) -> torch.Tensor:
    """Keep the smallest set of most likely tokens whose probability reaches ``top_p``."""
    ascending, order = logits.sort(-1)
    cumulative = ascending.softmax(-1).cumsum(-1)
    outside = cumulative <= 1.0 - top_p
    outside[-1] = False  # the most likely token always stays
    return logits.masked_fill(torch.zeros_like(outside).scatter(-1, order, outside), -torch.inf)
