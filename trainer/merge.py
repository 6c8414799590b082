"""Merge a LoRA adapter into its base model, and prove that the two say the same.

The sum is made in float32, weight by weight, and cast once: merging in 16 bits rounds the update and then the sum. What
was saved is loaded again and its logits are held against the base model's with the adapter on.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from envs.errors import ConfigError
from rollout_server.engines.adapters import check_adapter
from trainer.settings import ModelSettings

__all__ = ["MergeReport", "merge_adapter"]

# Relative error of the logits that rounding the merged weights explains: several times what SmolLM2-135M shows, which
# is 1e-6, 2e-3 and 2e-2.
_TOLERANCE = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 6e-2}
_SAMPLE = (
    ("system", "You act in a household. Choose one of the actions and say in a sentence why."),
    ("user", "Task: put a clean mug in the coffee machine.\nYou see a cabinet 1, a sink 1 and a mug 2.\nWhat now?"),
)
_ANSWER = "I take the mug first, since it must be cleaned before it goes into the machine. ACTION: take mug 2"


@dataclass(frozen=True, slots=True)
class MergeReport:
    """How well a merged model says what base and adapter say, over the logits of a sample of ``tokens`` tokens.

    ``error`` and ``effect`` are relative to the norm of the logits: merged against adapter on, and adapter on against
    off. ``agreement`` is the share of tokens with the same most likely successor.
    """

    dtype: str
    modules: int
    tokens: int
    error: float
    effect: float
    agreement: float
    tolerance: float

    @property
    def lost(self) -> bool:
        """Whether rounding changes the logits about as much as the adapter does: little of the training is left."""
        return self.error > 0.5 * self.effect

    @property
    def text(self) -> str:
        """One line for a reader."""
        lost = "; most of the adapter is lost to rounding: merge in float32, or serve the adapter" if self.lost else ""
        return (
            f"{self.modules} layers merged into {self.dtype}; its logits differ by {self.error:.2e} from the adapter's "
            f"(which changes the base model's by {self.effect:.2e}), the likeliest token agrees in "
            f"{self.agreement:.0%}{lost}"
        )

    def to_json(self) -> dict[str, Any]:
        """Its fields, by name."""
        return asdict(self)


def merge_adapter(
    settings: ModelSettings, adapter: Path, output: Path, *, dtype: str = "auto", device: str = "auto"
) -> MergeReport:
    """Write base model plus adapter as one model into the new folder ``output``, tokenizer and settings beside it.

    The folder appears whole or not at all. ``device`` does the arithmetic; ``auto`` takes CUDA where there is one.
    Raises ConfigError for a folder that is there, an adapter that does not fit, or a merged model that does not say
    what the adapter says.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from trainer.models import load_tokenizer, model_source

    if output.exists():
        raise ConfigError(f"{output} is there already", hint="name a new folder")
    info = check_adapter(adapter)
    source = model_source(settings)
    tokenizer = load_tokenizer(settings)
    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    wanted: Any = "auto" if dtype == "auto" else getattr(torch, dtype)
    part = output.with_name(f".{output.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        try:
            base: Any = AutoModelForCausalLM.from_pretrained(source, dtype=wanted, revision=settings.revision)
            model = PeftModel.from_pretrained(base.to(where), str(adapter)).eval()
        except (OSError, ValueError, RuntimeError) as error:
            raise ConfigError(f"the adapter {adapter} does not go onto {settings.name}: {error}") from error
        made = str(base.dtype).removeprefix("torch.")
        ids = torch.tensor([_sample_ids(tokenizer)], device=where)
        with torch.inference_mode():
            on = model(input_ids=ids).logits.float()
            with model.disable_adapter():
                off = model(input_ids=ids).logits.float()
            count = _add_deltas(model)
        merged = model.unload()
        merged.save_pretrained(str(part))
        tokenizer.hf.save_pretrained(str(part))
        del merged, model, base
        again: Any = AutoModelForCausalLM.from_pretrained(str(part), dtype=wanted)
        with torch.inference_mode():
            said = again.to(where).eval()(input_ids=ids).logits.float()
        report = MergeReport(
            made,
            count,
            int(ids.shape[1]),
            _relative(said, on),
            _relative(off, on),
            float((said.argmax(-1) == on.argmax(-1)).float().mean()),
            _TOLERANCE.get(made, _TOLERANCE["bfloat16"]),
        )
        if count != len(info.shapes) or not report.error <= report.tolerance:  # not a number is no agreement
            raise ConfigError(
                f"the merged model does not say what {adapter} says: {report.text}",
                hint="merge with dtype float32, or serve the adapter itself",
            )
        output.parent.mkdir(parents=True, exist_ok=True)
        part.rename(output)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return report


def _add_deltas(model: Any) -> int:
    """Add every layer's update to its weight, in float32, and cast once. The number of layers."""
    from peft.tuners.lora import LoraLayer

    count = 0
    for module in model.modules():
        if isinstance(module, LoraLayer):
            weight = module.get_base_layer().weight
            for name in module.active_adapters:
                scale = module.scaling[name]
                update = module.lora_B[name].weight.float() @ module.lora_A[name].weight.float() * scale
                weight.data = (weight.data.float() + update).to(weight.dtype)
            count += 1
    return count


def _sample_ids(tokenizer: Any) -> list[int]:
    """A short chat as rollouts write it."""
    text = "".join(f"<|im_start|>{role}\n{said}<|im_end|>\n" for role, said in _SAMPLE)
    ids: list[int] = tokenizer.encode(f"{text}<|im_start|>assistant\n{_ANSWER}<|im_end|>", markup=True)
    return ids


def _relative(other: Any, reference: Any) -> float:
    return float((other - reference).norm() / reference.norm())
