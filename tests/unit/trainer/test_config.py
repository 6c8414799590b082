from __future__ import annotations

from pathlib import Path

import pytest

from envs.errors import ConfigError
from trainer.config import TrainConfig, apply_overrides, load_config, parse_config
from trainer.settings import (
    DataSettings,
    DpoSettings,
    EvalSettings,
    GrpoSettings,
    KtoSettings,
    LoraSettings,
    ModelSettings,
    PpoSettings,
    RolloutSettings,
    RunSettings,
    SftSettings,
    TaskSource,
)

SECTIONS = (
    DataSettings,
    DpoSettings,
    EvalSettings,
    GrpoSettings,
    KtoSettings,
    LoraSettings,
    ModelSettings,
    PpoSettings,
    RolloutSettings,
    RunSettings,
    SftSettings,
    TaskSource,
)


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("section", SECTIONS, ids=lambda s: s.__name__)
def test_every_setting_is_documented_in_place(section: type[TaskSource]) -> None:
    undocumented = [name for name, field in section.model_fields.items() if not field.description]
    assert not undocumented


def test_overrides_replace_single_values_and_leave_the_rest(tmp_path: Path) -> None:
    path = write(tmp_path, "[grpo]\nsteps = 7\nlearning_rate = 1e-6\n")
    config = load_config(path, ["grpo.learning_rate=3e-6", "model.name=Qwen/Qwen3-4B-Instruct-2507", "run.resume=true"])
    assert config.grpo.steps == 7
    assert config.grpo.learning_rate == 3e-6
    assert config.model.name == "Qwen/Qwen3-4B-Instruct-2507"
    assert config.run.resume is True


def test_apply_overrides_does_not_touch_its_argument() -> None:
    tree = {"a": {"b": {"c": 1}}}
    assert apply_overrides(tree, {"a.b.c": 2, "a.b.d": 3}) == {"a": {"b": {"c": 2, "d": 3}}}
    assert tree == {"a": {"b": {"c": 1}}}
    with pytest.raises(ConfigError, match="'c' is a value"):
        apply_overrides(tree, {"a.b.c.d": 2})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[grpo]\nlerning_rate = 1e-6", "grpo.lerning_rate"),
        ("[gpro]\nsteps = 1", "gpro"),
        ("[grpo]\nbeta = 0.5", "grpo.beta"),
        ("[rollout]\ngroup_size = 1", "rollout.group_size"),
        ("[rollout]\ntemperature = 0", "rollout.temperature"),
        ("[rollout]\nmax_tokens = 4096\nmax_episode_tokens = 4096", "below rollout.max_episode_tokens"),
        ("[rollout]\ngroup_size = 4\ngroups_per_step = 1\n[grpo]\nmicro_batch = 3", "must divide"),
        ("[lora]\nfull = true", "GRPO swaps adapters"),
        ("[lora]\ntargets = ['lm_head']", "lm_head"),
        ("[lora]\ntargets = []", "lora.targets is empty"),
        ("recipe = 'sft'\n[lora]\nfull = true\nqlora = true", "leave lora.qlora"),
        ("recipe = 'sft'\n[sft]\neffective_batch = 16\nmicro_batch = 3", "multiple of sft.micro_batch"),
        ("recipe = 'sft'\n[sft]\nthoughts = true", "set sft.expert to explorer or repair"),
        ("[data]\nsources = []", "data.sources is empty"),
        ("[[data.sources]]\nenv = 'alfworld'\nsplit = 'train'\ntask_ids = ['valid_unseen/x']", "not of split 'train'"),
        ("[[data.sources]]\nenv = 'alfworld'\nsplit = 'train'\nseed_start = 5\nseed_stop = 5", "seed_stop"),
        ("recipe = 'dqo'", "recipe"),
        ("recipe = 'dpo'\n[dpo]\neffective_batch = 16\nmicro_batch = 3", "multiple of dpo.micro_batch"),
        ("recipe = 'kto'\n[kto]\nmicro_batch = 1", "kto.micro_batch"),
        ("recipe = 'kto'\n[kto]\ndesirable_weight = 2.0", "set both"),
        ("recipe = 'kto'\n[kto]\ncollect = 1\nworse = 'near_miss'", "alfworld has no near misses"),
        ("recipe = 'dpo'\n[dpo]\ncollect = 1\nthoughts = true", "dpo.thoughts: the expert has none"),
        ("recipe = 'dpo'\n[dpo]\ncollect = 1\nthoughts = true\nbetter = 'explorer'", "the random player has none"),
        ("recipe = 'ppo'\n[lora]\nfull = true", "swaps adapters"),
        ("recipe = 'ppo'\n[grpo]\nadvantage = 'gigpo'", "its critic"),
        ("grpo = ", "no TOML"),
    ],
)
def test_a_wrong_recipe_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, text))


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"grpo\.steps.*run\.seed"):
        load_config(write(tmp_path, "[grpo]\nsteps = 0\n[run]\nseed = -1"))


def test_missing_file_and_bad_override(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="no key=value"):
        load_config(write(tmp_path, ""), ["steps"])


def test_a_recipe_survives_its_own_json() -> None:
    config = parse_config({"lora": {"r": 8}, "run": {"name": "x"}})
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config
