"""Every private or undocumented part of TRL 1.16 that envloop leans on, in one place.

``tests/contract/test_trl_contract.py`` runs each of them and fails when a new TRL moves one:

- ``use_vllm``, ``vllm_generation.sync_weights()`` and ``_last_loaded_step``, set after construction, switch the
  importance-sampling correction on for an engine that TRL does not know.
- ``_compute_loss(model, inputs)`` receives the padded batch that the loss is computed on.
- Trainers cast the adapter on 4-bit weights to bfloat16, which float16's gradient scaler cannot unscale: cast back.
- ``_load_from_checkpoint`` of transformers reads the adapters in a checkpoint's sub-folders (``ref``, TRL's copy of an
  adapter that training began with) and then leaves the trained one, beside them, unread: read here.
- ``_send_telemetry`` reports the run to a third party: switched off.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from trl import GRPOTrainer, SFTTrainer

__all__ = [
    "EngineSync",
    "LossObserver",
    "OutsideEngineTrainer",
    "QuietSFTTrainer",
    "ResumesAdapter",
    "adapter_in_float32",
    "attach_engine",
    "experimental_silenced",
]

type LossObserver = Callable[[Mapping[str, Any]], None]
"""Called with each micro-batch as it enters the loss: ``prompt_ids``, ``prompt_mask``, ``completion_ids``,
``completion_mask``, ``tool_mask`` (1 for policy tokens), ``advantages``, …, as tensors padded to the batch."""


class EngineSync:
    """Stands where TRL keeps its vLLM: TRL calls ``sync_weights`` before it samples from new weights."""

    def __init__(self, sync: Callable[[], None]) -> None:
        self._sync = sync

    def sync_weights(self) -> None:
        """Bring the engine to the trainer's weights."""
        self._sync()


class ResumesAdapter:
    """Beside a trainer of TRL: a resumed run gets its trained adapter back where the model carries ``ref`` too.

    Without it such a run would begin again with the adapter that it first began with, and say nothing.
    """

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc] # the trainer's
        model = self.model if model is None else model  # type: ignore[attr-defined]
        if "ref" in getattr(model, "peft_config", {}):
            model.load_adapter(resume_from_checkpoint, "default", is_trainable=True)
            model.set_adapter("default")


class OutsideEngineTrainer(ResumesAdapter, GRPOTrainer):  # type: ignore[misc] # TRL ships no types
    """GRPOTrainer whose samples come from an engine outside, and whose loss can be watched."""

    def __init__(self, *args: Any, loss_observer: LossObserver | None = None, **kwargs: Any) -> None:
        self._loss_observer = loss_observer
        super().__init__(*args, **kwargs)

    def _compute_loss(self, model: Any, inputs: Any) -> Any:
        if self._loss_observer is not None:
            self._loss_observer(inputs)
        return super()._compute_loss(model, inputs)

    def _send_telemetry(self) -> None:
        return None


class QuietSFTTrainer(SFTTrainer):  # type: ignore[misc] # TRL ships no types
    """SFTTrainer that tells nobody."""

    def _send_telemetry(self) -> None:
        return None


def attach_engine(trainer: OutsideEngineTrainer, sync: Callable[[], None]) -> None:
    """Make TRL correct for the outside engine's probabilities, and call ``sync`` before each batch from new weights."""
    for name in ("use_vllm", "vllm_importance_sampling_correction"):
        if not hasattr(trainer, name):
            raise AttributeError(f"TRL's GRPOTrainer has no {name!r} any more; envloop is made for trl==1.16.*")
    trainer.vllm_generation = EngineSync(sync)
    trainer._last_loaded_step = -1
    trainer.use_vllm = True


def adapter_in_float32(model: Any) -> None:
    """Hold the trained weights in float32, whatever a trainer made of them. Before the optimizer is made."""
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()


@contextmanager
def experimental_silenced() -> Iterator[None]:
    """Inside, TRL does not warn that ``rollout_func`` is experimental; the environment is put back afterwards."""
    name = "TRL_EXPERIMENTAL_SILENCE"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
