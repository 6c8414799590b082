"""Filters keep what they name, and draws follow the distribution."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

from rollout_server.engines import sampling
from rollout_server.types import SamplingParams

PROBABILITIES = [0.5, 0.25, 0.15, 0.06, 0.04]


def kept(**fields: float) -> dict[int, float]:
    logits = torch.tensor(PROBABILITIES).log()
    out = sampling.processed_logprobs(logits, SamplingParams(**fields)).exp().tolist()
    return {i: pytest.approx(p, abs=1e-6) for i, p in enumerate(out) if p > 0}


def test_nothing_is_changed_by_default() -> None:
    assert kept() == dict(enumerate(PROBABILITIES))


def test_top_k() -> None:
    assert kept(top_k=2) == {0: 2 / 3, 1: 1 / 3}
    assert len(kept(top_k=99)) == 5


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    assert sorted(kept(top_p=0.6)) == [0, 1]
    assert sorted(kept(top_p=0.8)) == [0, 1, 2]
    assert kept(top_p=0.01) == {0: 1.0}


def test_min_p_is_relative_to_the_most_likely() -> None:
    assert sorted(kept(min_p=0.11)) == [0, 1, 2, 3]
    assert sorted(kept(min_p=0.4)) == [0, 1]


def test_temperature() -> None:
    squared = [p * p for p in PROBABILITIES]
    assert kept(temperature=0.5) == {i: p / sum(squared) for i, p in enumerate(squared)}


def test_greedy_is_judged_at_temperature_1() -> None:
    assert kept(temperature=0.0, top_k=1, top_p=0.1) == dict(enumerate(PROBABILITIES))
    row = torch.tensor(PROBABILITIES).log()
    assert sampling.sample_row(row, SamplingParams(temperature=0.0), torch.Generator()) == 0


def test_repetition_penalty_divides_what_is_positive_and_multiplies_what_is_not() -> None:
    logits = torch.tensor([2.0, -1.0, 0.5])
    out = sampling.processed_logprobs(logits, SamplingParams(repetition_penalty=2.0), [0, 1, 1])
    assert out.tolist() == pytest.approx(torch.tensor([1.0, -2.0, 0.5]).log_softmax(-1).tolist())
    assert logits.tolist() == [2.0, -1.0, 0.5]


def test_draws_follow_the_distribution_and_the_seed() -> None:
    row = torch.tensor([0.7, 0.3, 0.0]).log()
    params = SamplingParams()

    def draws(seed: int) -> list[int]:
        generator = torch.Generator().manual_seed(seed)
        return [sampling.sample_row(row, params, generator) for _ in range(4000)]

    counts = Counter(draws(1))
    assert counts[2] == 0
    assert abs(counts[0] / 4000 - 0.7) < 5 * math.sqrt(0.21 / 4000)
    assert draws(1)[:50] == draws(1)[:50] != draws(2)[:50]


def test_rows_together_are_rows_alone() -> None:
    logits = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    kinds = [
        SamplingParams(temperature=1.0),
        SamplingParams(temperature=0.0),
        SamplingParams(temperature=0.7),
        SamplingParams(top_k=3),
        SamplingParams(temperature=1.3, repetition_penalty=1.5),
        SamplingParams(temperature=0.0, top_p=0.5),
    ]
    seen = (0, 1, 2)
    together = sampling.sample_rows(
        logits, kinds, [torch.Generator().manual_seed(n) for n in range(6)], seen=lambda row: seen
    )
    for n, (kind, (token, logprob)) in enumerate(zip(kinds, together, strict=True)):
        logprobs = sampling.processed_logprobs(logits[n], kind, seen)
        assert token == sampling.sample_row(logprobs, kind, torch.Generator().manual_seed(n))
        assert logprob == pytest.approx(float(logprobs[token]), abs=1e-6)
