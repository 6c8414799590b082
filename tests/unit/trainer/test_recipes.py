"""Every recipe in configs/ parses and keeps to the bounds that the field found to work."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.config import load_config

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
RECIPES = sorted(CONFIGS.glob("*.toml"))
CPU = {f"{recipe}-smollm2-cpu" for recipe in ("grpo", "sft", "dpo", "kto", "ppo")}
LARGE = [p for p in RECIPES if p.stem not in CPU]


def test_every_promised_recipe_is_there() -> None:
    machines = ("t4", "l4", "a100-40", "a100-80", "h100")
    wanted = {f"{r}-{m}-{g}" for r in ("grpo", "sft") for m in ("qwen2.5-7b", "qwen3-4b") for g in machines}
    wanted |= {f"{r}-{m}-{g}" for r in ("dpo", "kto") for m in ("qwen2.5-7b", "qwen3-4b") for g in machines[:3]}
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
    for section in (small.dpo, small.kto):
        assert section.collect <= 6
        assert 2 <= section.limit <= 16
        assert section.effective_batch % section.micro_batch == 0


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
    elif config.recipe in ("dpo", "kto"):
        section = config.preference
        assert 1e-6 <= section.learning_rate <= 2e-5
        assert section.effective_batch == 16
        assert 0.05 <= section.beta <= 0.5
        assert section.micro_batch == (1 if config.recipe == "dpo" else 2)
        assert 2048 <= section.max_length <= 4096
        assert section.better == "fork", "both sides share all that comes before"
    else:
        assert 1e-6 <= config.grpo.learning_rate <= 5e-6
        assert config.grpo.beta == 0 or 0.01 <= config.grpo.beta <= 0.1
        assert 4 <= config.rollout.group_size <= 8
        assert 512 <= config.rollout.max_tokens <= 1024
        assert 0.7 <= config.rollout.temperature <= 1.0
        assert config.grpo.max_grad_norm <= 1
        assert config.grpo.importance_sampling == "token_truncate"
