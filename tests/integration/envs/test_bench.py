"""``envloop env bench`` measures a real server and prints one JSON object a line."""

from __future__ import annotations

import json
import subprocess
import sys


def test_bench_prints_figures_of_both_environments() -> None:
    command = [sys.executable, "-m", "envs.cli", "env", "bench", "--json", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    figures = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(set(figure) == {"name", "value", "unit", "bar", "holds"} for figure in figures)
    values = {figure["name"]: figure["value"] for figure in figures}
    for env in ("alfworld", "dbbench"):
        for way in ("single", "batch64"):
            assert values[f"env.{env}.{way}.steps_per_s"] > 0
            assert values[f"env.{env}.{way}.episodes_per_s"] > 0
        assert values[f"env.{env}.single.step_latency_p95"] >= values[f"env.{env}.single.step_latency_p50"] > 0
