"""The model, and the adapter that is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from trainer.settings.base import Section

__all__ = ["LORA_TARGETS", "LoraSettings", "ModelSettings"]


LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Every linear layer of a block in Qwen2, Qwen3 and Llama; never embeddings or head: vLLM does not load those."""


class ModelSettings(Section):
    """Which model is trained and how it is held in memory."""

    name: str = "Qwen/Qwen2.5-7B-Instruct"
    """A model's name on the Hugging Face hub, a folder, or ``smollm2`` for the model of the ``demo`` extra."""
    revision: str | None = None
    """The commit or tag of the model on the hub; None takes its newest."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Precision of the base weights and of the engine beside them; LoRA weights are always float32. ``auto`` takes what
    the device computes fast: bfloat16, or where it has none float16 on a GPU (a T4) and float32 on a CPU (most)."""
    autocast: bool = False
    """Multiply in bfloat16 while the weights are float32: a small model trains 1.6 times as fast on a CPU with such
    kernels. The engine goes on in ``dtype``."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the trainer's copy of the model lives; ``auto`` takes CUDA where there is one."""
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    """The attention kernel; ``auto`` leaves the choice to transformers."""
    gradient_checkpointing: bool = True
    """Recompute activations in the backward pass: about a third slower, a fraction of the memory."""
    template: Literal["expected", "any_chatml"] = "expected"
    """Which chat template the model may have. ``expected``: one that writes what episodes are played with (those of
    Qwen2.5's and Qwen3's instruct models, SmolLM2's), checked before anything is loaded. ``any_chatml``: any with
    ChatML's turns; episodes are written in the expected form all the same, and the difference is only told."""
    liger: Literal["auto", "on", "off"] = "auto"
    """Liger's fused kernels for norms, rotary embedding and MLP (package liger-kernel, CUDA): less memory for
    activations. ``auto`` takes them where they are installed and the model is on CUDA. TRL keeps its own head."""
    threads: int | None = Field(default=None, ge=1, le=256)
    """Threads of torch on CPU; None leaves torch's default. Leave cores to the engine that plays beside it."""


class LoraSettings(Section):
    """The adapter that is trained (PEFT)."""

    r: int = Field(default=64, ge=1, le=512)
    """Rank. The engine must accept it (``max_lora_rank`` of vLLM)."""
    alpha: int = Field(default=128, ge=1, le=2048)
    """Scale: an update counts ``alpha / r`` times."""
    dropout: float = Field(default=0.0, ge=0.0, le=0.5)
    """Dropout on the adapter's input. Keep 0 for GRPO: a policy that drops out is not the one that was sampled from."""
    targets: tuple[str, ...] = LORA_TARGETS
    """Names of the linear layers that carry an adapter."""
    init_adapter: Path | None = None
    """Go on from this adapter (of an SFT run, say) instead of a new one."""
    full: bool = False
    """Train every weight and no adapter. Only for SFT: GRPO swaps adapters into the engine."""
    qlora: bool = False
    """Hold the base weights in 4 bits (bitsandbytes NF4). Made for CUDA; on a CPU it works, very slowly."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.full and (self.qlora or self.init_adapter):
            raise ValueError("lora.full trains no adapter: leave lora.qlora and lora.init_adapter out")
        if not self.targets:
            raise ValueError("lora.targets is empty: name at least one layer")
        if bad := sorted({"lm_head", "embed_tokens"} & set(self.targets)):
            raise ValueError(f"lora.targets names {bad}: the engine loads adapters of a block's linear layers only")
        return self
