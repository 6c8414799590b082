"""GRPO beside vLLM's own process, which sleeps during the update: a fake vLLM, a real trainer and real games."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from trainer.config import parse_config
from trainer.grpo import train_grpo

FAKE = Path(__file__).parents[2] / "fake_vllm_server.py"


def test_vllm_is_awake_while_episodes_are_played_and_asleep_while_the_trainer_works(
    tiny_model: Path, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    config = parse_config(
        {
            "model": {"name": str(tiny_model), "dtype": "float32", "device": "cpu", "gradient_checkpointing": False},
            "lora": {"r": 4, "alpha": 8},
            "data": {"sources": [{"env": "alfworld", "split": "generated_easy"}]},
            "rollout": {
                "engine": "vllm_process",
                "engine_options": {"sleep": True, "command": [sys.executable, str(FAKE), "--journal", str(journal)]},
                "group_size": 2,
                "groups_per_step": 1,
                "max_turns": 2,
                "max_tokens": 8,
                "max_episode_tokens": 8192,
                "reward_invalid_action": 0.1,
            },
            "grpo": {"steps": 4, "iterations": 2, "learning_rate": 1e-3, "micro_batch": 2},
            "run": {"output_dir": str(tmp_path / "run"), "name": "shared", "report_to": ["jsonl"], "keep_policies": 2},
        }
    )

    def seen() -> list[str]:
        """Each request's path, repetitions left out."""
        return [path for path, _ in groupby(journal.read_text().splitlines())]

    before_update: list[str] = []

    def look(_: Mapping[str, Any]) -> None:
        before_update.append(seen()[-1])

    result = train_grpo(config, loss_observer=look)
    assert result.policies == [f"shared-v{n}" for n in (1, 2, 3, 4)]
    assert set(before_update) == {"/sleep"}, "an update found vLLM awake"
    lines = seen()
    # Two batches, each trained on twice. Both versions of the first wait for the waking, and the base is not sent.
    batch = lines.index("/sleep")
    assert lines[batch:] == [
        "/sleep",  # as soon as it is started: the trainer's model is loaded now
        *("/wake_up asleep", "/reset_prefix_cache", "/v1/completions", "/sleep"),
        *("/wake_up asleep", "/reset_prefix_cache", "/v1/load_lora_adapter", "/v1/completions", "/sleep"),
    ]
    assert journal.read_text().count("/v1/load_lora_adapter") == 2
    assert (tmp_path / "run/vllm.log").is_file()
