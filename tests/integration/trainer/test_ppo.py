"""PPO on GRPO's machinery with TRL's own loss; episodes come from a test double of the rollout service."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from trainer_doubles import ScriptedRollouts

from envs.errors import ConfigError
from rollout_server.tokenizer import HFTokenizer
from trainer.config import TrainConfig, parse_config
from trainer.critic import CRITIC_FILE
from trainer.gae import action_starts, gae, spread, whitened
from trainer.grpo import train_grpo
from trainer.loops import LoopThread
from trainer.lora import check_adapter
from trainer.ppo import train_ppo


def recipe(model: Path, out: Path, **ppo: Any) -> TrainConfig:
    resume, adapter = ppo.pop("resume", False), ppo.pop("init_adapter", None)
    return parse_config(
        {
            "recipe": "ppo",
            "model": {
                "name": str(model),
                "dtype": "float32",
                "device": "cpu",
                "threads": 1,
                "gradient_checkpointing": False,
            },
            "lora": {"r": 4, "alpha": 8, "init_adapter": adapter},
            "data": {"sources": [{"env": "alfworld", "split": "generated"}]},
            "rollout": {"group_size": 4, "groups_per_step": 2, "max_tokens": 16},
            "grpo": {"steps": 2, "learning_rate": 1e-3, "micro_batch": 4},
            "ppo": ppo,
            "run": {"output_dir": str(out), "name": "test", "save_every": 1, "report_to": ["jsonl"], "resume": resume},
        }
    )


class Watch:
    """Rows as they enter the loss, by what was said: the advantage of every token of the policy."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, ...], list[float]] = {}
        self.shapes: set[tuple[int, ...]] = set()

    def __call__(self, inputs: Mapping[str, Any]) -> None:
        self.shapes.add(tuple(inputs["advantages"].shape))
        mask = (inputs["completion_mask"] * inputs["tool_mask"]).bool()
        assert not inputs["advantages"][~mask].any(), "only what the policy said has an advantage"
        for row in range(len(mask)):
            said = inputs["completion_ids"][row][inputs["completion_mask"][row].bool()]
            self.rows[tuple(said.tolist())] = inputs["advantages"][row][mask[row]].tolist()


def test_two_steps_train_adapter_and_critic_and_resume_to_the_same_losses(
    tiny_model: Path, tmp_path: Path, loop: LoopThread
) -> None:
    rollouts, watch = ScriptedRollouts(HFTokenizer(tiny_model)), Watch()
    whole = train_ppo(recipe(tiny_model, tmp_path / "whole"), service=rollouts, loop=loop, loss_observer=watch)
    assert whole.steps == 2
    assert whole.policies == ["test-v1", "test-v2"]
    check_adapter(tmp_path / "whole/policies/test-v2")
    assert all(len(shape) == 2 for shape in watch.shapes)
    first, second = whole.metrics
    assert first["critic/value_mean"] == 0, "a critic begins at 0"
    assert second["critic/value_mean"] != 0
    assert first["critic/loss"] > 0
    assert first["advantage/mean_abs"] > 0

    # The advantages of the first step, from the episodes alone: the critic was 0 everywhere.
    played = rollouts.episodes[:8]
    length = max(len(e.mask) for e in played)
    mask = torch.tensor([[*e.mask, *[0] * (length - len(e.mask))] for e in played])
    rewards = torch.tensor([float(e.training_reward or 0) for e in played])
    starts = action_starts(mask, "turn")
    advantages, _ = gae(torch.zeros(mask.shape), rewards, starts, gamma=1.0, lam=0.95)
    expected = whitened(spread(advantages, starts, mask), mask)
    for row, episode in enumerate(played):
        assert watch.rows[episode.completion_ids] == pytest.approx(expected[row][mask[row].bool()].tolist(), abs=1e-5)

    # From that adapter on, killed after its first step: adapter and critic come back, and the reference stays.
    adapter = str(tmp_path / "whole/policies/test-v2")
    onward = recipe(tiny_model, tmp_path / "onward", init_adapter=adapter)
    second = train_ppo(onward, service=ScriptedRollouts(HFTokenizer(tiny_model)), loop=loop).metrics[1]
    shutil.copytree(tmp_path / "onward", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut/checkpoint-2")
    assert (tmp_path / "cut/checkpoint-1" / CRITIC_FILE).is_file()
    again = recipe(tiny_model, tmp_path / "cut", init_adapter=adapter, resume=True)
    resumed = train_ppo(again, service=ScriptedRollouts(HFTokenizer(tiny_model)), loop=loop)
    assert second["kl"] > 0, "the policy has left its reference"
    for name in ("loss", "grad_norm", "kl", "critic/loss", "critic/value_mean", "critic/explained_variance"):
        assert resumed.metrics[0][name] == pytest.approx(second[name], abs=1e-6), name


def test_recipes_are_not_taken_for_each_other(tiny_model: Path, tmp_path: Path) -> None:
    config = recipe(tiny_model, tmp_path / "run")
    with pytest.raises(ConfigError, match="this is a recipe for ppo"):
        train_grpo(config)
    with pytest.raises(ConfigError, match="this is a recipe for grpo"):
        train_ppo(config.model_copy(update={"recipe": "grpo"}))


def test_an_episode_without_a_result_teaches_neither(tiny_model: Path, tmp_path: Path, loop: LoopThread) -> None:
    rollouts = ScriptedRollouts(HFTokenizer(tiny_model), fail=[(0, 0, 1), (0, 1, 0)])
    watch = Watch()
    config = recipe(tiny_model, tmp_path / "run", level="token", whiten=False)
    config = config.model_copy(update={"grpo": config.grpo.model_copy(update={"steps": 1})})
    result = train_ppo(config, service=rollouts, loop=loop, loss_observer=watch)
    alive = [e for e in rollouts.episodes if e.status.scored]
    assert len(alive) == 6
    assert result.metrics[0]["rollout/infrastructure_failures"] == 2
    for episode in alive:
        reward = float(episode.training_reward or 0)
        count = sum(episode.mask)
        expected = [reward * 0.95 ** (count - 1 - k) for k in range(count)]
        assert watch.rows[episode.completion_ids] == pytest.approx(expected, abs=1e-5)
