"""Folders of runs as the recipes leave them, by the recipes' own writers, without any training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from envs.types import Task
from trainer.config import parse_config
from trainer.monitors import JsonlSink
from trainer.record import TrainingRecord, write_json

__all__ = ["make_run"]


def make_run(
    folder: Path,
    *,
    recipe: str = "grpo",
    success: Sequence[float] = (),
    metrics: Mapping[str, Sequence[float]] | None = None,
    policies: Sequence[int] = (),
    checkpoints: Sequence[int] = (),
    status: Mapping[str, Any] | None = None,
    tree: Mapping[str, Any] | None = None,
) -> Path:
    """A run whose adapters hold nothing but their step. ``success`` is ``rollout/success`` of steps 1, 2, …"""
    config = parse_config(
        {
            "recipe": recipe,
            "data": {"sources": [{"env": "alfworld", "split": "generated"}]},
            "run": {"output_dir": str(folder)},
            **(tree or {}),
        }
    )
    write_json(folder / "config.json", config.model_dump(mode="json"))
    record = TrainingRecord(config)
    record.see([Task("alfworld", f"generated/{n}", "generated", "pick", f"hash{n}") for n in range(3)], episodes=24)
    record.save(folder / "run.json")
    columns = {"rollout/success": success, **(metrics or {})}
    sink = JsonlSink(folder / "metrics.jsonl")
    for at in range(max(map(len, columns.values()))):
        sink.write(at + 1, {name: values[at] for name, values in columns.items() if at < len(values)})
    sink.close()
    for step in policies:
        place = folder / "policies" / f"p-v{step}"
        place.mkdir(parents=True)
        record.save(place / "training_record.json", step=step, policy=f"p-v{step}")
    for step in checkpoints:
        place = folder / f"checkpoint-{step}"
        place.mkdir()
        (place / "adapter_config.json").write_text("{}")
        (place / "optimizer.pt").write_bytes(b"0" * 1000)
    if status is not None:
        (folder / "status.json").write_text(json.dumps(status))
    return folder
