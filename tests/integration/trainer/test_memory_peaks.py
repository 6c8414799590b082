"""A real run's peak is what the plan says. All cases: benchmarks/memory_plan.py."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from trainer.memory import Job, step_memory
from trainer.model_shapes import ModelShape

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.mark.parametrize(("rank", "checkpointing"), [pytest.param(8, True, marks=pytest.mark.slow), (None, False)])
def test_the_plan_is_what_the_allocator_counts(
    monkeypatch: pytest.MonkeyPatch, rank: int | None, checkpointing: bool
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    runs: Any = importlib.import_module("_memory_runs")
    shape = ModelShape("wide", "llama", 64, 2, 2, 1, 32, 4096, 512, tied=True)
    job = Job(
        "sft",
        64,
        lora_rank=rank,
        weight_bytes=4,
        autocast=False,
        device="cpu",
        checkpointing=checkpointing,
        accumulation=1,
    )
    peak = runs.measured_peak(runs.Case("wide", shape, job))
    plan = step_memory(shape, job)
    assert plan.total == pytest.approx(peak, rel=0.15)
    assert plan.total - plan.weights == pytest.approx(peak - plan.weights, rel=0.15)
