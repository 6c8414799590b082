"""Sampling from logits, with the exact logprobs of the distribution that is sampled from.

The order of the steps is vLLM's (``vllm/v1/sample/sampler.py``): repetition penalty, temperature, min_p, top_k, top_p.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from rollout_server.types import SamplingParams

__all__ = ["processed_logprobs", "sample_row", "sample_rows"]

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


def sample_rows(
    logits: torch.Tensor,
    sampling: Sequence[SamplingParams],
    generators: Sequence[torch.Generator],
    *,
    seen: Callable[[int], Sequence[int]],
) -> list[tuple[int, float]]:
    """An id and its logprob for each row of logits (B, V): what ``processed_logprobs`` and ``sample_row`` give a row.

    ``seen``: the ids of a row's prompt and completion so far, asked for only where a penalty needs them. Rows that are
    sampled by temperature alone are worked on together.
    """
    out: list[tuple[int, float]] = [(0, 0.0)] * len(sampling)
    plain = [row for row, s in enumerate(sampling) if _at_most_a_temperature(s)]
    for row in set(range(len(sampling))).difference(plain):
        s = sampling[row]
        logprobs = processed_logprobs(logits[row], s, seen(row) if s.repetition_penalty != 1.0 else ())
        token = sample_row(logprobs, s, generators[row])
        out[row] = token, float(logprobs[token])
    if plain:
        greedy = [sampling[row].temperature < _GREEDY for row in plain]
        temperatures = torch.tensor(
            [1.0 if g else sampling[row].temperature for g, row in zip(greedy, plain, strict=True)]
        )
        noise = torch.ones(len(plain), logits.shape[-1], dtype=torch.float32)
        for number, row in enumerate(plain):
            if not greedy[number]:
                noise[number].exponential_(generator=generators[row])
        logprobs = (logits[plain].float() / temperatures[:, None].to(logits.device)).log_softmax(-1)
        tokens = (logprobs.exp() / noise.to(logits.device)).argmax(-1, keepdim=True)
        chosen = logprobs.gather(-1, tokens)
        for row, token, logprob in zip(plain, tokens[:, 0].tolist(), chosen[:, 0].tolist(), strict=True):
            out[row] = token, logprob
    return out


def _at_most_a_temperature(s: SamplingParams) -> bool:
    return s.top_k == 0 and s.top_p >= 1.0 and s.min_p == 0.0 and s.repetition_penalty == 1.0


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
