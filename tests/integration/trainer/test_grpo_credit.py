"""GRPO's further parts in TRL's own trainer: credit for turns, mismatch, reference, and the states of a resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from trainer_doubles import ScriptedRollouts, Watch
from trainer_doubles import grpo_recipe as recipe

from rollout_server.tokenizer import HFTokenizer
from trainer.advantages import gigpo, per_token
from trainer.checkpoint import read_state
from trainer.grpo import GrpoResult, rollout_template, train_grpo
from trainer.loops import LoopThread


def test_turns_are_trained_with_their_own_advantage(tiny_model: Path, tmp_path: Path, loop: LoopThread) -> None:
    """Episode by episode: TRL's advantage of the episode, plus GiGPO's of the turn, on that turn's own tokens."""
    rollouts, watch = ScriptedRollouts(HFTokenizer(tiny_model), fail=[(0, 0, 1)]), Watch()
    config = recipe(tiny_model, tmp_path / "run", grpo__steps=1, grpo__advantage="gigpo", grpo__step_weight=0.5)
    result = train_grpo(config, service=rollouts, loop=loop, loss_observer=watch.loss)

    got = {row: advantages for row, advantages in watch.rows if any(row[2])}
    weights, turned = rollout_template(config).rewards, 0
    for members in (rollouts.episodes[:4], rollouts.episodes[4:]):
        alive = [e for e in members if e.status.scored]
        rewards = torch.tensor([e.training_reward for e in alive], dtype=torch.float32)
        own = ((rewards - rewards.mean()) / (rewards.std() + 1e-4)).tolist()
        for episode, base, values in zip(
            alive, own, gigpo(alive, weights=weights, gamma=0.95, scale="std"), strict=True
        ):
            tokens = per_token(episode, values, len(episode.completion_ids))
            expected = [m * (base + 0.5 * v) for m, v in zip(episode.mask, tokens, strict=True)]
            assert got[episode.prompt_ids, episode.completion_ids, episode.mask] == pytest.approx(expected, abs=1e-4)
            turned += len({round(v, 6) for v in values}) > 1
    assert turned, "every turn of every episode had the same advantage: nothing was shown"
    assert len(got) == 7
    metrics = result.metrics[0]
    assert metrics["advantage/mean_abs"] > 0
    for name in ("rollout", "update", "publish", "step", "overhead_share"):
        assert f"time/{name}" in metrics
    assert metrics["time/update"] < metrics["time/step"]
    assert 0 < metrics["time/overhead_share"] < 1


def test_mismatch_is_told_with_the_correction_and_without(tiny_model: Path, tmp_path: Path, loop: LoopThread) -> None:
    tokenizer = HFTokenizer(tiny_model)
    told = [
        train_grpo(
            recipe(tiny_model, tmp_path / mode, grpo__importance_sampling=mode, grpo__beta=0.0),
            service=ScriptedRollouts(tokenizer),
            loop=loop,
        ).metrics
        for mode in ("token_truncate", "off")
    ]
    for step in range(2):
        corrected, off = told[0][step], told[1][step]
        assert corrected["mismatch/kl"] > 0.1, "the double's logprobs are no policy's"
        assert corrected["mismatch/logp_mean"] == pytest.approx(
            corrected["sampling/sampling_logp_difference/mean"], rel=1e-4
        )
        assert corrected["mismatch/logp_max"] == pytest.approx(corrected["sampling/sampling_logp_difference/max"])
        assert "sampling/sampling_logp_difference/mean" not in off
        assert off["mismatch/kl"] > 0.1
    first = [{k: v for k, v in run[0].items() if k.startswith("mismatch/")} for run in told]
    assert first[0] == pytest.approx(first[1], rel=1e-4)


def test_the_reference_is_where_the_run_began_or_the_base_model(
    tiny_model: Path, tmp_path: Path, loop: LoopThread
) -> None:
    def run(name: str, **sets: Any) -> GrpoResult:
        config = recipe(tiny_model, tmp_path / name, grpo__learning_rate=0.05, grpo__beta=0.1, **sets)
        return train_grpo(config, service=ScriptedRollouts(HFTokenizer(tiny_model)), loop=loop)

    fresh = run("fresh")
    assert fresh.metrics[0]["kl"] == pytest.approx(0.0, abs=1e-6), "a new adapter changes nothing"
    assert fresh.metrics[1]["kl"] > 1e-5
    adapter = str(tmp_path / "fresh/policies/test-v2")
    start = run("start", lora__init_adapter=adapter, grpo__steps=3)
    base = run("base", lora__init_adapter=adapter, grpo__steps=1, grpo__reference="base")
    assert start.metrics[0]["kl"] == pytest.approx(0.0, abs=1e-6)
    assert base.metrics[0]["kl"] > 1e-5

    # A resumed run holds to the same reference, not to the weights that it resumes from.
    run("cut", lora__init_adapter=adapter, grpo__steps=2)
    resumed = run("cut", lora__init_adapter=adapter, grpo__steps=3, run__resume=True)
    assert start.metrics[2]["kl"] > 1e-5
    assert resumed.metrics[0]["kl"] == pytest.approx(start.metrics[2]["kl"], abs=1e-6)


def test_resume_goes_on_in_the_middle_of_a_batch_with_every_state(
    tiny_model: Path, tmp_path: Path, loop: LoopThread
) -> None:
    """Two steps on each batch, stopped after the first of them; curriculum, filter and credit have states too."""
    sets: dict[str, Any] = {
        "grpo__iterations": 2,
        "grpo__advantage": "gigpo",
        "grpo__filter_groups": True,
        "grpo__further_groups": 2,
        "grpo__schedule": "linear",
        "grpo__warmup": 0.2,
        "curriculum__enabled": True,
        "curriculum__replay": 0.5,
        "data__sources": [{"env": "alfworld", "split": "generated", "types": ["pick", "heat", "cool"]}],
    }

    def run(name: str, stop: int = 0, **more: Any) -> tuple[GrpoResult, ScriptedRollouts]:
        rollouts = ScriptedRollouts(HFTokenizer(tiny_model))
        config = recipe(tiny_model, tmp_path / name, grpo__steps=6, **sets, **more)

        def stopper(_: Any) -> None:
            if stop and len(rollouts.known) > stop:
                raise KeyboardInterrupt

        try:
            return train_grpo(config, service=rollouts, loop=loop, on_policy=stopper), rollouts
        except KeyboardInterrupt:
            return GrpoResult(tmp_path / name), rollouts

    whole, straight = run("whole")
    run("cut", stop=4)  # in step 4: the last checkpoint is that of step 3, in the middle of the second batch
    checkpoints = sorted(p.name for p in (tmp_path / "cut").glob("checkpoint-*"))
    assert checkpoints == ["checkpoint-1", "checkpoint-2", "checkpoint-3"]
    assert read_state(tmp_path / "cut/checkpoint-3")["sampler"]["kinds"]
    resumed, after = run("cut", run__resume=True)

    assert [m["loss"] for m in resumed.metrics] == pytest.approx([m["loss"] for m in whole.metrics[3:]], abs=1e-6)
    for name in ("grad_norm", "learning_rate", "entropy"):
        assert [m[name] for m in resumed.metrics] == pytest.approx([m[name] for m in whole.metrics[3:]], abs=1e-6)
    played = [r.tasks for r in straight.requests]
    assert [r.tasks for r in after.requests] == played[len(played) - len(after.requests) :]
    assert len(after.requests) < len(played)
    lines = [json.loads(line) for line in (tmp_path / "cut/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    record = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("whole", "cut")]
    assert record[0]["tasks"] == record[1]["tasks"]
    assert record[0]["episodes"] == record[1]["episodes"], "what was played twice is trained on once"
