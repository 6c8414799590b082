"""Load the model that is trained, with the checks that fail late otherwise: precision, 4 bits, chat template."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from envs.errors import ConfigError
from rollout_server.tokenizer import HFTokenizer
from trainer.settings import LoraSettings, ModelSettings

__all__ = [
    "LoadedModel",
    "context_length",
    "liger_arguments",
    "load_model",
    "load_tokenizer",
    "model_source",
    "template_line",
    "training_device",
    "weights_dtype",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready for a trainer. ``peft_config`` is None where the model has its adapter already, or needs none."""

    model: Any
    tokenizer: HFTokenizer
    source: str
    device: str
    peft_config: Any | None


def model_source(settings: ModelSettings) -> str:
    """The folder or hub name of a model; ``smollm2`` is unpacked on first use."""
    if settings.name == "smollm2":
        from rollout_server.smollm2 import ensure_smollm2

        return str(ensure_smollm2())
    return settings.name


def context_length(settings: ModelSettings) -> int:
    """The longest sequence that the model was made for, in tokens. Raises ConfigError where it cannot be told."""
    from transformers import AutoConfig

    source = model_source(settings)
    try:
        return int(AutoConfig.from_pretrained(source, revision=settings.revision).max_position_embeddings)
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"no configuration can be loaded from {source!r}: {error}", hint="check model.name"
        ) from error


def training_device(settings: ModelSettings) -> str:
    """``cuda`` or ``cpu``. Raises ConfigError where CUDA is asked for and missing."""
    import torch

    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("model.device is cuda, but torch sees no CUDA device", hint="set model.device = 'auto'")
    return "cpu" if settings.device == "cpu" or not torch.cuda.is_available() else "cuda"


def weights_dtype(settings: ModelSettings) -> Literal["bfloat16", "float16", "float32"]:
    """``settings.dtype``, or for ``auto`` what the device computes fast. Raises ConfigError as ``training_device``.

    A CPU without bfloat16 kernels computes it a number at a time: a hundred times slower than float32.
    """
    if settings.dtype != "auto":
        return settings.dtype
    import torch

    if training_device(settings) == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return "bfloat16" if _cpu_has_bfloat16() else "float32"


def _cpu_has_bfloat16() -> bool:
    import torch

    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def liger_arguments(settings: ModelSettings, device: str) -> dict[str, bool]:
    """What TRL's configurations need to hear for ``model.liger``; empty to leave Liger out.

    TRL 1.16 lets transformers patch the layers (norms, rotary embedding, MLP) and keeps its own fused head, in every
    trainer. Raises ConfigError where ``on`` cannot be had.
    """
    installed = find_spec("liger_kernel") is not None
    if settings.liger == "on" and not installed:
        raise ConfigError(
            "model.liger is on, but the package liger-kernel is not installed",
            hint="pip install liger-kernel, or set model.liger = 'auto'",
        )
    if settings.liger == "on" and device != "cuda":
        raise ConfigError("model.liger is on, but its kernels run on CUDA alone", hint="set model.liger = 'auto'")
    return {"use_liger_kernel": True} if settings.liger != "off" and installed and device == "cuda" else {}


def load_tokenizer(settings: ModelSettings) -> HFTokenizer:
    """The model's tokenizer, its chat template checked against what episodes are written in. Raises ConfigError."""
    from transformers import AutoTokenizer

    from rollout_server.chat_template import check_template

    source = model_source(settings)
    try:
        hf = AutoTokenizer.from_pretrained(source, revision=settings.revision)
    except (OSError, ValueError) as error:
        raise ConfigError(f"no tokenizer can be loaded from {source!r}: {error}", hint="check model.name") from error
    tokenizer = HFTokenizer(hf)
    facts = check_template(tokenizer, accept=settings.template)
    if facts.difference is not None:
        logger.warning("%s", facts.describe())
    if hf.pad_token is None:
        hf.pad_token = hf.eos_token
    return tokenizer


def template_line(tokenizer: HFTokenizer) -> str:
    """What the model's chat template does, in a line for the console."""
    from rollout_server.chat_template import check_template

    return check_template(tokenizer, accept="any_chatml").describe()


def load_model(settings: ModelSettings, lora: LoraSettings, *, seed: int) -> LoadedModel:
    """Load weights and tokenizer and prepare the adapter. Raises ConfigError for what cannot work on this machine."""
    import torch
    from transformers import AutoModelForCausalLM, set_seed

    from trainer.lora import check_adapter, lora_config

    device = training_device(settings)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    dtype = weights_dtype(settings)
    if device == "cpu" and dtype == "bfloat16" and not _cpu_has_bfloat16():
        logger.warning(
            "model.dtype is bfloat16, and this CPU has no kernels for it: training will be many times slower than with "
            "float32 (set model.dtype = 'auto')"
        )
    quantization = _four_bit(device, dtype) if lora.qlora else None
    if lora.init_adapter is not None:
        check_adapter(lora.init_adapter)
    tokenizer = load_tokenizer(settings)
    source = model_source(settings)
    options: dict[str, Any] = {"dtype": getattr(torch, dtype), "revision": settings.revision}
    if settings.attention != "auto":
        options["attn_implementation"] = settings.attention
    if quantization is not None:
        options |= {"quantization_config": quantization, "device_map": {"": 0 if device == "cuda" else "cpu"}}
    set_seed(seed)
    try:
        model = AutoModelForCausalLM.from_pretrained(source, **options)
    except (OSError, ValueError) as error:
        raise ConfigError(f"no model can be loaded from {source!r}: {error}", hint="check model.name") from error
    model.config.use_cache = False  # a cache of keys is of no use in training and fights with checkpointing
    if lora.full:
        return LoadedModel(model, tokenizer, source, device, None)
    if lora.init_adapter is None:
        return LoadedModel(model, tokenizer, source, device, lora_config(lora))
    from peft import PeftModel

    adapted = PeftModel.from_pretrained(model, str(Path(lora.init_adapter)), is_trainable=True)
    return LoadedModel(adapted, tokenizer, source, device, None)


def _four_bit(device: str, dtype: str) -> Any:
    if find_spec("bitsandbytes") is None:
        raise ConfigError("lora.qlora needs the package bitsandbytes", hint="pip install bitsandbytes")
    if device == "cpu":
        logger.warning(
            "lora.qlora on a CPU: every pass unpacks the 4-bit weights anew, far slower than lora.qlora = false. It "
            "saves memory and nothing else"
        )
    import torch
    from transformers import BitsAndBytesConfig

    make: Any = BitsAndBytesConfig  # transformers leaves its constructor untyped
    return make(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )
