"""Every recipe in configs/ parses and keeps to the bounds that the field found to work."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.config import load_config

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
RECIPES = sorted(CONFIGS.glob("*.toml"))
CPU = {"grpo-smollm2-cpu", "sft-smollm2-cpu"}
LARGE = [p for p in RECIPES if p.stem not in CPU]


def test_every_promised_recipe_is_there() -> None:
    machines = ("t4", "l4", "a100-40", "a100-80", "h100")
    wanted = {f"{r}-{m}-{g}" for r in ("grpo", "sft") for m in ("qwen2.5-7b", "qwen3-4b") for g in machines}
    assert {p.stem for p in RECIPES} == wanted | CPU


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipe_parses_and_shrinks(path: Path) -> None:
    config = load_config(path)
    assert config.recipe == path.stem.split("-")[0]
    assert config.run.output_dir == Path("runs") / path.stem
    small = config.debugged()
    episodes = small.grpo.steps * small.rollout.groups_per_step * small.rollout.group_size
    assert 8 <= episodes <= 50
    assert small.sft.limit <= 50
    assert small.sft.collect <= 12


@pytest.mark.parametrize("path", LARGE, ids=lambda p: p.stem)
def test_recipe_keeps_to_the_bounds(path: Path) -> None:
    config = load_config(path)
    assert (config.lora.r, config.lora.alpha) == (64, 128)
    assert set(config.lora.targets) == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert config.model.gradient_checkpointing
    assert config.model.dtype == ("float16" if path.stem.endswith("-t4") else "bfloat16")
    assert config.lora.qlora or "t4" not in path.stem
    if config.recipe == "sft":
        assert 2e-5 <= config.sft.learning_rate <= 1e-4
        assert 16 <= config.sft.effective_batch <= 32
        assert 2 <= config.sft.epochs <= 3
        assert 0.05 <= config.sft.warmup <= 0.1
        assert 2048 <= config.sft.max_length <= 4096
    else:
        assert 1e-6 <= config.grpo.learning_rate <= 5e-6
        assert config.grpo.beta == 0 or 0.01 <= config.grpo.beta <= 0.1
        assert 4 <= config.rollout.group_size <= 8
        assert 512 <= config.rollout.max_tokens <= 1024
        assert 0.7 <= config.rollout.temperature <= 1.0
        assert config.grpo.max_grad_norm <= 1
        assert config.grpo.importance_sampling == "token_truncate"
