"""GRPO with TRL's own trainer on a tiny model; episodes come from a test double of the rollout service."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from trainer_doubles import ScriptedRollouts, Watch
from trainer_doubles import grpo_recipe as recipe

from envs.errors import ConfigError, InfrastructureError
from rollout_server.tokenizer import HFTokenizer
from trainer.grpo import train_grpo
from trainer.loops import LoopThread


def test_two_steps_change_the_adapter_and_publish_every_version(
    tiny_model: Path, tmp_path: Path, rollouts: ScriptedRollouts, loop: LoopThread
) -> None:
    watch = Watch()
    result = train_grpo(recipe(tiny_model, tmp_path / "run"), service=rollouts, loop=loop, loss_observer=watch.loss)

    assert result.steps == 2
    assert [p.name for p in rollouts.known] == ["base", "test-v1", "test-v2"]
    assert [r.policy for r in rollouts.requests] == ["base", "test-v1"]
    assert len({r.seed for r in rollouts.requests}) == 2
    first, second = (load_file(tmp_path / f"run/policies/test-v{n}/adapter_model.safetensors") for n in (1, 2))
    assert any(not torch.equal(first[k], second[k]) for k in first if "lora_B" in k)
    assert any(first[k].abs().max() > 0 for k in first if "lora_B" in k)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert "sampling/sampling_logp_difference/mean" in lines[0], "the correction for the outside engine is off"
    record = json.loads((tmp_path / "run/policies/test-v2/training_record.json").read_text())
    assert record["splits"] == ["alfworld/generated"]
    assert len(record["tasks"]) == 4
    assert record["episodes"] == 16

    # What enters the loss is what the engine sampled, id for id and mask for mask.
    stored = [(e.prompt_ids, e.completion_ids, e.mask) for e in rollouts.episodes]
    assert len({len(ids) for _, ids, _ in stored}) > 1, "rows of one length would hide a padding error"
    assert sorted(row for row, _ in watch.rows) == sorted(stored)


def test_dead_episodes_leave_the_baseline_and_the_loss(tiny_model: Path, tmp_path: Path, loop: LoopThread) -> None:
    rollouts = ScriptedRollouts(HFTokenizer(tiny_model), fail=[(0, 0, 1), (0, 1, 0), (0, 1, 1)])
    watch = Watch()
    config = recipe(tiny_model, tmp_path / "run", grpo__steps=1, grpo__micro_batch=2)
    result = train_grpo(config, service=rollouts, loop=loop, loss_observer=watch.loss)

    dead = [(row, advantage) for row, advantage in watch.rows if row[2] == (0,)]
    assert len(dead) == 3
    assert all(len(row[1]) == 1 and advantage == 0 for row, advantage in dead)
    advantages = {row: advantage for row, advantage in watch.rows if any(row[2])}
    for members in (rollouts.episodes[:4], rollouts.episodes[4:]):
        alive = [e for e in members if e.status.scored]
        rewards = torch.tensor([e.training_reward for e in alive], dtype=torch.float32)
        expected = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
        got = [advantages[e.prompt_ids, e.completion_ids, e.mask] for e in alive]
        assert got == pytest.approx(expected.tolist(), abs=1e-4)
    assert result.metrics[0]["rollout/infrastructure_failures"] == 3


def test_a_step_of_dead_episodes_stops_the_run(tiny_model: Path, tmp_path: Path, loop: LoopThread) -> None:
    rollouts = ScriptedRollouts(HFTokenizer(tiny_model), fail=[(0, g, m) for g in range(2) for m in range(4)])
    with pytest.raises(InfrastructureError, match="8 of 8 episodes"):
        train_grpo(recipe(tiny_model, tmp_path / "run"), service=rollouts, loop=loop)


def test_resume_continues_losses_tasks_and_policy_names(tiny_model: Path, tmp_path: Path, loop: LoopThread) -> None:
    tokenizer = HFTokenizer(tiny_model)
    straight, before, after = (ScriptedRollouts(tokenizer) for _ in range(3))
    whole = train_grpo(recipe(tiny_model, tmp_path / "whole", grpo__steps=3), service=straight, loop=loop)
    train_grpo(recipe(tiny_model, tmp_path / "cut", grpo__steps=2), service=before, loop=loop)
    config = recipe(tiny_model, tmp_path / "cut", grpo__steps=3, run__resume=True)
    resumed = train_grpo(config, service=after, loop=loop)

    assert resumed.steps == 3
    assert [p.name for p in after.known] == ["base", "test-v2", "test-v3"], "restored under its name, then onward"
    assert after.requests == straight.requests[2:], "the same tasks, seeds and policy as without the interruption"
    for name in ("loss", "grad_norm", "sampling/sampling_logp_difference/mean"):
        assert resumed.metrics[0][name] == pytest.approx(whole.metrics[2][name], abs=1e-6)
    lines = (tmp_path / "cut/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]
    record = json.loads((tmp_path / "cut/run.json").read_text())
    assert record["episodes"] == 24

    with pytest.raises(ConfigError, match="other settings: sources"):
        train_grpo(
            recipe(
                tiny_model,
                tmp_path / "cut",
                run__resume=True,
                data__sources=[{"env": "dbbench", "split": "generated"}],
            ),
            service=after,
            loop=loop,
        )
    with pytest.raises(ConfigError, match="already holds a run"):
        train_grpo(recipe(tiny_model, tmp_path / "cut"), service=after, loop=loop)
