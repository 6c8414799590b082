"""Small real models in real trainers, and the peak of what their allocator handed out."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trainer.memory import Job
from trainer.model_shapes import ModelShape

__all__ = ["Case", "measured_peak"]

_PROMPT = 8  # tokens; the rest of a row is completion, as in an episode most of it is


@dataclass(frozen=True, slots=True)
class Case:
    """One training run of two optimizer steps: a model's architecture and shape, and what is done with it."""

    name: str
    shape: ModelShape
    job: Job
    trained_share: float = 1.0


def build_model(case: Case) -> Any:
    """The model with random weights, in float32, on the CPU."""
    import torch
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        Qwen2Config,
        Qwen2ForCausalLM,
        Qwen3Config,
        Qwen3ForCausalLM,
    )

    config_class, model_class = {
        "llama": (LlamaConfig, LlamaForCausalLM),
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
        "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    }[case.shape.architecture]
    s = case.shape
    more = {"head_dim": s.head_dim} if s.architecture != "qwen2" else {}
    config: Any = config_class(
        vocab_size=s.vocabulary,
        hidden_size=s.hidden,
        intermediate_size=s.intermediate,
        num_hidden_layers=s.layers,
        num_attention_heads=s.heads,
        num_key_value_heads=s.kv_heads,
        max_position_embeddings=4096,
        tie_word_embeddings=s.tied,
        attn_implementation=case.job.attention,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
        **more,
    )
    torch.manual_seed(0)
    return model_class(config)


def measured_peak(case: Case, *, device: str = "cpu") -> int:
    """Bytes that the tensors of a run held at most at one moment: weights, adapter, gradients, everything."""
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    import torch
    from transformers import PrinterCallback

    model = build_model(case)
    dtype = {2: torch.bfloat16, 4: torch.float32}[case.job.weight_bytes]
    model = model.to(dtype)
    with tempfile.TemporaryDirectory() as folder:
        make = _grpo if case.job.recipe == "grpo" else _dpo if case.job.recipe == "dpo" else _sft
        trainer = make(case, model, folder, device)
        trainer.remove_callback(PrinterCallback)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            trainer.train()
            return torch.cuda.max_memory_allocated()
        held = sum(
            {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in _tensors(trainer.model)}.values()
        )
        return held + cpu_peak(trainer.train)


def _tensors(model: Any) -> list[Any]:
    return [*model.parameters(), *model.buffers()]


def cpu_peak(work: Callable[[], Any]) -> int:
    """The most bytes that torch's CPU allocator had handed out during ``work``, above what it had at its start.

    Counted from the allocator's own reports to the profiler: kernels' work buffers are in it, Python's memory is not.
    """
    import torch

    gc.collect()  # what an earlier run left in cycles would be freed in this one, and counted
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    results = profiler.profiler.kineto_results
    moves = sorted((e.start_ns(), e.nbytes()) for e in results.events() if e.name() == "[memory]")
    held = peak = 0
    for _, nbytes in moves:
        held += nbytes
        peak = max(peak, held)
    return peak


def _peft(case: Case) -> Any:
    if case.job.lora_rank is None:
        return None
    from trainer.lora import lora_config
    from trainer.settings import LoraSettings

    return lora_config(LoraSettings(r=case.job.lora_rank, alpha=2 * case.job.lora_rank))


def _tokenizer() -> Any:
    from trainer.tiny_model import _tokenizer as tiny

    return tiny()


def _common(case: Case, folder: str, device: str) -> dict[str, Any]:
    return {
        "output_dir": folder,
        "max_steps": 2,
        "per_device_train_batch_size": case.job.micro_batch,
        "gradient_accumulation_steps": case.job.accumulation,
        "gradient_checkpointing": case.job.checkpointing,
        "bf16": case.job.autocast,
        "use_cpu": device == "cpu",
        "dataloader_pin_memory": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "logging_strategy": "no",
        "shuffle_dataset" if case.job.recipe == "grpo" else "seed": False if case.job.recipe == "grpo" else 0,
    }


def _rows(case: Case) -> list[list[int]]:
    """Random ids; where the job has rows of unequal length, every second one is half as long."""
    import torch

    generator = torch.Generator().manual_seed(0)
    count = 2 * case.job.micro_batch * case.job.accumulation
    ids = torch.randint(3, case.shape.vocabulary, (count, case.job.tokens), generator=generator).tolist()
    return [row[: case.job.tokens // 2] if case.job.padded and i % 2 else row for i, row in enumerate(ids)]


def _sft(case: Case, model: Any, folder: str, device: str) -> Any:
    from datasets import Dataset
    from trl import SFTConfig

    from trainer.trl_seams import QuietSFTTrainer

    rows = _rows(case)
    data = Dataset.from_dict({"input_ids": rows, "labels": [[-100] * _PROMPT + r[_PROMPT:] for r in rows]})
    return QuietSFTTrainer(
        model=model,
        args=SFTConfig(**_common(case, folder, device), max_length=None, packing=False),
        train_dataset=data,
        processing_class=_tokenizer(),
        peft_config=_peft(case),
    )


def _grpo(case: Case, model: Any, folder: str, device: str) -> Any:
    from datasets import Dataset
    from trl import GRPOConfig

    from trainer.trl_seams import OutsideEngineTrainer, attach_engine

    rows = _rows(case)

    def rollouts(prompts: list[Any], trainer: Any) -> dict[str, Any]:
        chosen = [rows[i % len(rows)] for i in range(len(prompts))]
        return {
            "prompt_ids": [r[:_PROMPT] for r in chosen],
            "completion_ids": [r[_PROMPT:] for r in chosen],
            "logprobs": [[-8.0] * (len(r) - _PROMPT) for r in chosen],
            "env_mask": [[1] * (len(r) - _PROMPT) for r in chosen],
        }

    def reward(completions: list[Any], **kwargs: Any) -> list[float]:
        return [float(i % 2) for i in range(len(completions))]

    episodes = case.job.micro_batch * case.job.accumulation
    trainer = OutsideEngineTrainer(
        model=model,
        args=GRPOConfig(
            **_common(case, folder, device),
            num_generations=episodes,
            beta=0.01 if case.job.reference else 0.0,
            max_completion_length=case.job.tokens,
            vllm_importance_sampling_mode="token_truncate",
        ),
        reward_funcs=reward,
        rollout_func=rollouts,
        train_dataset=Dataset.from_dict({"prompt": [str(i) for i in range(8)]}),
        processing_class=_tokenizer(),
        peft_config=_peft(case),
    )
    attach_engine(trainer, sync=lambda: None)
    return trainer


def _dpo(case: Case, model: Any, folder: str, device: str) -> Any:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    rows = _rows(case)
    data = Dataset.from_dict(
        {
            "prompt_ids": [r[:_PROMPT] for r in rows],
            "chosen_ids": [r[_PROMPT:] for r in rows],
            "rejected_ids": [r[_PROMPT:] for r in reversed(rows)],
        }
    )

    class Prepared(DPOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset

        def _send_telemetry(self) -> None:
            return None

    return Prepared(
        model=model,
        args=DPOConfig(**_common(case, folder, device), max_length=None),
        train_dataset=data,
        processing_class=_tokenizer(),
        peft_config=_peft(case),
    )
