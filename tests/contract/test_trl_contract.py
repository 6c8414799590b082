"""What ``trainer.rollouts`` and ``trainer.trl_seams`` lean on in TRL, run for real: a TRL that moves it fails here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from trainer.tiny_model import save_tiny_model

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")

G = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


class Probe:
    """Answers TRL with fixed rows and notes everything that TRL does with them."""

    def __init__(self, tmp_path: Path, folder: Path, *, rows: Callable[[int], dict[str, Any]], **args: Any) -> None:
        from datasets import Dataset
        from peft import LoraConfig
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from trl import GRPOConfig

        from trainer.trl_seams import OutsideEngineTrainer, experimental_silenced

        self.calls: list[list[str]] = []
        self.losses: list[Mapping[str, Any]] = []
        self.rewarded: list[dict[str, Any]] = []
        self.events: list[str] = []
        self._rows = rows
        settings: dict[str, Any] = {
            "output_dir": str(tmp_path),
            "max_steps": 2,
            "learning_rate": 1e-3,
            "per_device_train_batch_size": G,
            "gradient_accumulation_steps": 2,
            "num_generations": G,
            "max_completion_length": 3,
            "use_cpu": True,
            "bf16": False,
            "gradient_checkpointing": False,
            "shuffle_dataset": False,
            "dataloader_pin_memory": False,
            "report_to": "none",
            "save_strategy": "no",
            "disable_tqdm": True,
            "logging_steps": 1,
            "vllm_importance_sampling_mode": "token_truncate",
            "vllm_importance_sampling_clip_max": 3.0,
        }
        with experimental_silenced():
            self.trainer = OutsideEngineTrainer(
                model=AutoModelForCausalLM.from_pretrained(folder),
                args=GRPOConfig(**(settings | args)),
                reward_funcs=self.reward,
                rollout_func=self.rollout,
                train_dataset=Dataset.from_dict({"prompt": [f"p{i}" for i in range(4)]}),
                processing_class=AutoTokenizer.from_pretrained(folder),
                peft_config=LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"),
                loss_observer=self.loss,
            )

    def rollout(self, prompts: Sequence[str], trainer: Any) -> dict[str, Any]:
        self.calls.append(list(prompts))
        self.events.append("rollout")
        return self._rows(len(prompts))

    def reward(self, score: Sequence[float | None], **more: Any) -> list[float | None]:
        self.rewarded.append(more)
        return list(score)

    def loss(self, inputs: Mapping[str, Any]) -> None:
        self.losses.append(dict(inputs))


def rows(n: int, **change: Any) -> dict[str, Any]:
    """n rows of 5 completion ids, the middle one the environment's; the last ends the turn (id 2)."""
    answer = {
        "prompt_ids": [[1, 7, 8]] * n,
        "completion_ids": [[20 + i, 2, 9, 30 + i, 2] for i in range(n)],
        "logprobs": [[-1.0, -2.0, 0.0, -50.0, -0.5]] * n,
        "env_mask": [[1, 1, 0, 1, 1]] * n,
        "score": [float(i % 2) for i in range(n)],
    }
    return answer | change


def test_rollout_func_mask_and_importance_sampling(tmp_path: Path, folder: Path) -> None:
    from trainer.trl_seams import attach_engine

    probe = Probe(tmp_path, folder, rows=rows)
    attach_engine(probe.trainer, lambda: probe.events.append("sync"))
    probe.trainer.train()

    repeated = [[f"p{i}" for i in pair for _ in range(G)] for pair in ((0, 1), (2, 3))]
    assert probe.calls == repeated, "one call a step, each prompt num_generations times in a row, in order"
    assert probe.events == ["sync", "rollout", "sync", "rollout"], "weights are synchronised before each new step"
    assert {"completions", "completion_ids", "prompts"} <= probe.rewarded[0].keys()

    first = probe.losses[0]
    assert first["completion_ids"].tolist() != [], "nothing is cut at max_completion_length"
    assert first["completion_ids"].shape == (G, 5)
    assert first["tool_mask"].tolist() == [[1, 1, 0, 1, 1]] * G
    ratio = first["importance_sampling_ratio"]
    assert ratio.shape == (G, 5)
    assert ratio.max().item() == pytest.approx(3.0), "token_truncate clips at the maximum, and drops nothing"
    assert ratio[:, 2].tolist() == [1.0] * G, "tokens of the environment are not corrected"
    expected = (first["old_per_token_logps"] - first["sampling_per_token_logps"])[:, 0].exp().clamp(max=3.0)
    assert ratio[:, 0].tolist() == pytest.approx(expected.tolist(), rel=1e-4)
    logged = probe.trainer.state.log_history[0]
    assert logged["sampling/sampling_logp_difference/mean"] > 0
    assert logged["completions/clipped_ratio"] == 0, "the end of an episode is read off its last token"


def test_without_the_seam_there_is_no_correction(tmp_path: Path, folder: Path) -> None:
    probe = Probe(tmp_path, folder, rows=rows, max_steps=1)
    probe.trainer.train()
    assert "importance_sampling_ratio" not in probe.losses[0]


def test_traps_that_the_bridge_keeps_us_out_of(tmp_path: Path, folder: Path) -> None:
    """Should one of these begin to fail, TRL has become safer and the bridge may become simpler."""

    def short_mask(n: int) -> dict[str, Any]:
        masks = [[1, 1, 0], *[[1, 1, 0, 1, 1]] * (n - 1)]
        return rows(n, env_mask=masks, score=[None, 1.0, 0.0, 1.0] * (n // 4))

    probe = Probe(tmp_path, folder, rows=short_mask, max_steps=1)
    probe.trainer.train()
    seen = [(i, a) for step in probe.losses for i, a in zip(step["completion_ids"], step["advantages"], strict=True)]
    masks = [m for step in probe.losses for m in step["tool_mask"].tolist()]
    assert masks == [[1, 1, 0, 1, 1]] * 8, "a short mask is padded with 1: every length must be checked"
    by_first_id = {int(ids[0]): float(advantage) for ids, advantage in seen}
    dead = [a for i, a in by_first_id.items() if (i - 20) % 4 == 0]
    assert dead == [0.0] * len(dead), "None gives no advantage"
    assert all(not math.isnan(a) for a in by_first_id.values())

    for broken in (rows(7), rows(8, completion_ids=[[]] * 8, logprobs=[[]] * 8, env_mask=[[]] * 8)):
        probe = Probe(tmp_path, folder, rows=lambda _, answer=broken: answer, max_steps=1)
        with pytest.raises((IndexError, KeyError, ValueError, RuntimeError)):
            probe.trainer.train()


def test_advantages_may_differ_by_token(tmp_path: Path, folder: Path) -> None:
    """The seam for step-level credit and for a critic: shape (B, T) is taken as it is."""
    probe = Probe(tmp_path, folder, rows=rows, max_steps=1)
    shapes = []

    def widen(inputs: Any) -> None:
        inputs["advantages"] = inputs["advantages"].unsqueeze(1).expand_as(inputs["completion_ids"]).clone()
        shapes.append(tuple(inputs["advantages"].shape))

    probe.trainer._loss_observer = widen
    probe.trainer.train()
    assert shapes == [(G, 5)] * 2
    assert math.isfinite(probe.trainer.state.log_history[0]["loss"])


def test_step_advantages_reach_the_loss_at_their_own_tokens(tmp_path: Path, folder: Path) -> None:
    """Rows are shuffled, split and padded on the way; every token keeps its own value, the environment's have 0."""
    from trainer.rollouts import CREDIT_KEY

    def answer(n: int) -> dict[str, Any]:
        lengths = [5 if i % 3 else 2 for i in range(n)]  # rows of two lengths: padding must not shift a value
        credit = [[10.0 + i, 20.0 + i, 0.0, 30.0 + i, 40.0 + i] for i in range(n)]
        whole = rows(n, **{CREDIT_KEY: credit})
        long = ("completion_ids", "logprobs", "env_mask", CREDIT_KEY)
        return whole | {key: [row[:at] for row, at in zip(whole[key], lengths, strict=True)] for key in long}

    probe = Probe(tmp_path, folder, rows=answer, max_steps=1)
    probe.trainer.train()
    seen = 0
    for step in probe.losses:
        for ids, advantages in zip(step["completion_ids"].tolist(), step["advantages"].tolist(), strict=True):
            i = ids[0] - 20
            episode = (i % 2 - 0.5) / (1 / 3**0.5 + 1e-4)  # rewards 0, 1, 0, 1 in every group
            values = [10.0 + i, 20.0 + i, None, 30.0 + i, 40.0 + i]
            expected = [0.0 if v is None else episode + v for v in values]
            if i % 3 == 0:
                expected[2:] = [0.0] * 3
            assert advantages == pytest.approx(expected, abs=1e-4)
            seen += 1
    assert seen == 2 * G


def test_no_step_advantage_is_plain_grpo(tmp_path: Path, folder: Path) -> None:
    from trainer.rollouts import CREDIT_KEY

    losses = []
    for more in ({}, {CREDIT_KEY: [[0.0] * 5] * 2 * G}):
        probe = Probe(tmp_path, folder, rows=lambda n, more=more: rows(n, **more), max_steps=1)
        probe.trainer.train()
        losses.append((probe.trainer.state.log_history[0]["loss"], probe.trainer.state.log_history[0]["grad_norm"]))
    assert losses[0] == pytest.approx(losses[1], abs=1e-7)


@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo", "bnpo", "cispo", "sapo", "luspo", "vespo"])
def test_every_loss_takes_step_advantages(tmp_path: Path, folder: Path, loss_type: str) -> None:
    from trainer.rollouts import CREDIT_KEY

    credit = [[0.5, 0.5, 0.0, -1.0, -1.0]] * 2 * G
    probe = Probe(
        tmp_path, folder, rows=lambda n: rows(n, **{CREDIT_KEY: credit}), max_steps=1, loss_type=loss_type, beta=0.0
    )
    probe.trainer.train()
    log = probe.trainer.state.log_history[0]
    assert math.isfinite(log["loss"])
    assert log["grad_norm"] > 0


def test_private_names_are_where_they_were() -> None:
    from trl import GRPOTrainer, SFTTrainer

    for cls in (GRPOTrainer, SFTTrainer):
        assert callable(cls._send_telemetry)
    generation = ("_prepare_inputs", "_generate_and_score_completions", "_get_per_token_logps_and_entropies")
    for name in (*generation, "_compute_loss", "_save_checkpoint", "_get_output_dir"):
        assert callable(getattr(GRPOTrainer, name))


def test_trained_weights_go_back_to_float32_and_the_rest_is_left_alone(folder: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from trainer.trl_seams import adapter_in_float32

    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float16)
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")).to(torch.bfloat16)
    adapter_in_float32(model)
    kinds = {weight.requires_grad: set() for weight in model.parameters()}
    for weight in model.parameters():
        kinds[weight.requires_grad].add(weight.dtype)
    assert kinds == {True: {torch.float32}, False: {torch.bfloat16}}


def test_padding_is_not_computed_and_changes_nothing(tmp_path: Path, folder: Path) -> None:
    import torch
    from trl import GRPOTrainer

    probe = Probe(tmp_path, folder, rows=rows)
    ids = torch.arange(40, 40 + 4 * 12).reshape(4, 12)
    mask = torch.ones(4, 12, dtype=torch.long)
    mask[:, 0] = mask[:2, 1] = mask[:2, 8:] = mask[2:, 11:] = 0  # prompts of 4 columns, completions of 8
    widths: list[int] = []
    hook = probe.trainer.model.register_forward_pre_hook(
        lambda _, args, kwargs: widths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    with torch.no_grad():
        ours = probe.trainer._get_per_token_logps_and_entropies(
            probe.trainer.model, ids, mask, 8, batch_size=2, compute_entropy=True
        )
        assert widths == [6, 10], "every part of the batch is as wide as its longest row"
        theirs = GRPOTrainer._get_per_token_logps_and_entropies(
            probe.trainer, probe.trainer.model, ids, mask, 8, compute_entropy=True
        )
    hook.remove()
    for own, other in zip(ours[:2], theirs[:2], strict=True):
        assert own.shape == other.shape == (4, 8)
        assert torch.allclose(own * mask[:, 4:], other * mask[:, 4:], atol=1e-5)
    assert ours[2] is None
