"""A run that is killed goes on as if it had not been: real engine, real environments, TRL, and signal 9."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from trainer.checkpoint import find_checkpoint
from trainer.config import parse_config
from trainer.grpo import train_grpo

# One request at a time: the sums of a batch differ in their last bit with who is in it, and then tokens may, too.
ROLLOUT: dict[str, Any] = {
    "engine": "transformers",
    "concurrency": 1,
    "group_size": 2,
    "groups_per_step": 2,
    "max_turns": 2,
    "max_tokens": 8,
    "max_episode_tokens": 8192,
    "reward_invalid_action": 0.1,
}


def tree(model: Path, out: Path, **more: Any) -> dict[str, Any]:
    return {
        "model": {
            "name": str(model),
            "dtype": "float32",
            "device": "cpu",
            "threads": 1,
            "gradient_checkpointing": False,
        },
        "lora": {"r": 4, "alpha": 8},
        "data": {"sources": [{"env": "alfworld", "split": "generated_easy"}]},
        "curriculum": {"enabled": True, "replay": 0.5},
        "rollout": ROLLOUT,
        "grpo": {"steps": 4, "learning_rate": 1e-3, "micro_batch": 2, "filter_groups": True, "further_groups": 1}
        | {"advantage": "gigpo", "beta": 0.05},
        "run": {"output_dir": str(out), "name": "kill", "save_every": 1, "report_to": ["jsonl"], **more},
    }


def metrics(run: Path) -> list[dict[str, float]]:
    text = (run / "metrics.jsonl").read_text() if (run / "metrics.jsonl").exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def test_a_killed_run_resumes_to_the_same_losses(tiny_model: Path, tmp_path: Path) -> None:
    train_grpo(parse_config(tree(tiny_model, tmp_path / "whole")))

    run, recipe = tmp_path / "killed", tmp_path / "recipe.json"
    recipe.write_text(json.dumps(tree(tiny_model, run)))
    code = (
        "import json, pathlib, sys; from trainer.config import parse_config; from trainer.grpo import train_grpo; "
        "train_grpo(parse_config(json.loads(pathlib.Path(sys.argv[1]).read_text())))"
    )
    # No threads of OpenMP here as there: the same sums in the same order.
    process = subprocess.Popen([sys.executable, "-c", code, str(recipe)], env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        while len(metrics(run)) < 2:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.02)
        time.sleep(random.Random(time.time_ns()).uniform(0.0, 0.3))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    killed_at = len(metrics(run))

    config = parse_config(tree(tiny_model, run, resume=True))
    assert killed_at - 1 <= int(find_checkpoint(config).name.split("-")[1]) <= 4
    train_grpo(config)
    straight, resumed = metrics(tmp_path / "whole"), metrics(run)
    assert [m["step"] for m in resumed] == [1, 2, 3, 4]
    for name in ("loss", "grad_norm", "kl", "entropy", "rollout/policy_tokens", "groups/played"):
        assert [m[name] for m in resumed] == pytest.approx([m[name] for m in straight], abs=1e-5), name
    assert any(m["grad_norm"] > 0 for m in straight), "nothing was trained"


def test_both_environments_are_played_by_their_weights(tiny_model: Path, tmp_path: Path) -> None:
    settings = tree(tiny_model, tmp_path / "run")
    settings["curriculum"] = {}
    settings["rollout"] = {**ROLLOUT, "groups_per_step": 4, "concurrency": 8}
    settings["grpo"] = {"steps": 2, "micro_batch": 4}
    settings["data"] = {
        "sources": [
            {"env": "alfworld", "split": "generated_easy", "weight": 3.0},
            {"env": "dbbench", "split": "generated_easy", "weight": 1.0},
        ]
    }
    played: list[str] = []
    result = train_grpo(parse_config(settings), on_batch=lambda batch: played.extend(g.task.env for g in batch.groups))
    assert len(played) == 8
    assert 1 <= played.count("dbbench") <= 4
    assert played.count("alfworld") >= 4
    assert all(m["rollout/infrastructure_failures"] == 0 for m in result.metrics)
    for step in result.metrics:
        assert step["mismatch/kl"] < 1e-5, "the engine's logprobs are the trainer's, in both environments"
