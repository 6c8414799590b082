"""Logs for tests of the doctor: the benchmark's made-up runs, and short ones by hand."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trainer.diagnose.log import RunLog

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from _doctor_faults import FAULTS, faulty, real_logs
from _doctor_logs import RECIPES, healthy

__all__ = ["FAULTS", "RECIPES", "faulty", "healthy", "plain_log", "real_logs"]


def plain_log(
    steps: int,
    recipe: str = "grpo",
    *,
    config: Mapping[str, Any] | None = None,
    **metrics: float | Callable[[int], float],
) -> RunLog:
    """A log of these metrics (``__`` stands for ``/``): constants, or functions of the step."""
    rows = [
        {"step": float(s), **{k.replace("__", "/"): float(v(s) if callable(v) else v) for k, v in metrics.items()}}
        for s in range(1, steps + 1)
    ]
    return RunLog(tuple(rows), recipe, {"recipe": recipe, **(config or {})}, age_s=5.0)
