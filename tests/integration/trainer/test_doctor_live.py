"""The doctor beside a real GRPO run on a tiny model: it stops the run where it is told to, and sees what TRL logs."""

from __future__ import annotations

import json
from pathlib import Path

from trainer_doubles import ScriptedRollouts

from envs.types import Split, SplitRole
from rollout_server.tokenizer import HFTokenizer
from trainer.config import parse_config
from trainer.diagnose.log import read_run
from trainer.grpo import train_grpo
from trainer.loops import LoopThread
from trainer.lora import PolicyPublisher


class SilentPublisher(PolicyPublisher):
    """A test double: once it has published, it publishes nothing any more and says that it has."""

    def publish(self, model: object, *, step: int) -> object:  # type: ignore[override]
        if self.number:
            return self._service.known[-1]  # type: ignore[attr-defined]
        return super().publish(model, step=step)


def test_a_run_stops_with_a_checkpoint_and_the_log_shows_a_policy_that_is_never_published(
    tiny_model: Path, tmp_path: Path, loop: LoopThread, monkeypatch: object
) -> None:
    import trainer.grpo_run

    monkeypatch.setattr(trainer.grpo_run, "PolicyPublisher", SilentPublisher)  # type: ignore[attr-defined]
    config = parse_config(
        {
            "model": {"name": str(tiny_model), "dtype": "float32", "device": "cpu", "gradient_checkpointing": False},
            "lora": {"r": 4, "alpha": 8},
            "data": {
                "sources": [{"env": "alfworld", "split": "valid_seen"}],
                "allow_eval_split": ["alfworld/valid_seen"],
            },
            "rollout": {"group_size": 4, "groups_per_step": 1, "max_tokens": 16},
            "grpo": {"steps": 8, "learning_rate": 1e-3, "micro_batch": 4},
            "doctor": {"every": 4, "stop_on": ["data_leak"]},
            "run": {"output_dir": str(tmp_path / "run"), "name": "test", "save_every": 100, "report_to": ["jsonl"]},
        }
    )
    splits = (Split("alfworld", "valid_seen", SplitRole.EVALUATION, 10, "held out"),)
    rollouts = ScriptedRollouts(HFTokenizer(tiny_model))
    result = train_grpo(config, service=rollouts, loop=loop, splits=splits)

    assert result.steps == 4, "the fourth step's look ends the run of eight"
    assert (tmp_path / "run/checkpoint-4/envloop_state.json").is_file()
    (told,) = [json.loads(line) for line in (tmp_path / "run/findings.jsonl").read_text().splitlines()]
    assert (told["check"], told["stopped"]) == ("data_leak", True)
    assert "4 tasks of the evaluation split alfworld/valid_seen" in told["evidence"]

    log = read_run(tmp_path / "run")
    assert log.stopped
    # Batches: from the base model, then from test-v1 with 0, 1, 2 updates that it does not carry.
    assert log.series("rollout/policy_lag").values == (0.0, 0.0, 1.0, 2.0)
    for name in ("learning_rate", "entropy", "kl", "clip_ratio/region_mean", "grad_norm", "frac_reward_zero_std",
                 "rollout/truncated", "rollout/repeated", "rollout/turn_tokens", "success/alfworld/pick"):  # fmt: skip
        assert len(log.series(name)) == 4, f"a check reads {name}, and no training writes it"
