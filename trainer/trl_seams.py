"""Every private or undocumented part of TRL 1.16 that envloop leans on, in one place.

``tests/contract/test_trl_contract.py`` runs each of them and fails when a new TRL moves one:

- ``use_vllm``, ``vllm_generation.sync_weights()`` and ``_last_loaded_step``, set after construction, switch the
  importance-sampling correction on for an engine that TRL does not know.
- ``_compute_loss(model, inputs)`` receives the padded batch that the loss is computed on.
- ``_generate_and_score_completions(inputs)`` gives that batch before it is shuffled and split, rows in the order of
  ``rollout_func``, whose further keys it has put into ``inputs``. ``advantages`` may have the shape (B, T) of
  ``completion_ids`` then, and the loss takes them as they are.
- ``_save_checkpoint`` writes into ``_get_output_dir()``; what it leaves out of a checkpoint are ``_step`` and
  ``_buffered_inputs``: how far the steps on one batch of episodes (``grpo.iterations``) have come.
- ``_get_per_token_logps_and_entropies`` does every forward pass, and what it answers for padding is masked out.
- ``"ref"`` among PEFT's adapters is the reference of the KL term; without it the reference is the adapter off. In a
  checkpoint it must not be: transformers, finding a folder of an adapter there, would not load the trained one. It is
  the recipe's ``lora.init_adapter`` in a resumed run too.
- Trainers cast the adapter on 4-bit weights to bfloat16, which float16's gradient scaler cannot unscale: cast back.
- ``_load_from_checkpoint`` of transformers reads the adapters in a checkpoint's sub-folders (``ref``, TRL's copy of an
  adapter that training began with) and then leaves the trained one, beside them, unread: read here.
- ``_send_telemetry`` reports the run to a third party: switched off.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from trl import GRPOTrainer, SFTTrainer

from trainer.checkpoint import whole_checkpoint
from trainer.rollouts import CREDIT_KEY
from trainer.timing import StepClock

__all__ = [
    "EngineSync",
    "LossObserver",
    "OutsideEngineTrainer",
    "QuietSFTTrainer",
    "ResumesAdapter",
    "WholeCheckpoints",
    "adapter_in_float32",
    "attach_engine",
    "experimental_silenced",
    "mismatch_figures",
    "reference_is_base",
]

_BUFFER_FILE = "envloop_batch.pt"
_REFERENCE = "ref"
_SCORED_ROWS = 8  # of a step, for the mismatch where nothing else needs their logprobs

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


class WholeCheckpoints:
    """Beside a trainer of TRL in one process: a checkpoint appears whole, with what is ours in it, or not at all.

    Args:
        complete: adds what TRL does not know of to the checkpoint of a step, before it appears.
        keep_checkpoints: how many stay on disk; TRL's own ``save_total_limit`` must be None.
    """

    def __init__(
        self,
        *args: Any,
        complete: Callable[[Path, int], None] = lambda *_: None,
        keep_checkpoints: int = 3,
        **kwargs: Any,
    ) -> None:
        self._complete = complete
        self._keep_checkpoints = keep_checkpoints
        self._staging: Path | None = None
        super().__init__(*args, **kwargs)

    def _get_output_dir(self, trial: Any) -> str:
        own: str = super()._get_output_dir(trial)  # type: ignore[misc] # the trainer's
        return own if self._staging is None else str(self._staging)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        trainer: Any = self
        step = trainer.state.global_step
        with whole_checkpoint(Path(trainer.args.output_dir), step, keep=self._keep_checkpoints) as part:
            self._staging = part.parent
            try:
                super()._save_checkpoint(model, trial)  # type: ignore[misc] # the trainer's
            finally:
                self._staging = None
            self._add_to_checkpoint(part)

    def _add_to_checkpoint(self, part: Path) -> None:
        self._complete(part, self.state.global_step)  # type: ignore[attr-defined] # the trainer's


class OutsideEngineTrainer(WholeCheckpoints, GRPOTrainer):  # type: ignore[misc] # TRL ships no types
    """GRPOTrainer whose samples come from an engine outside.

    Turns may have advantages of their own (``CREDIT_KEY``), the loss can be watched, and time is measured.

    Args:
        loss_observer: sees every micro-batch as it enters the loss.
        clock: is told how long the parts of a step take.

    ``figures`` are those of the last batch of episodes: ``mismatch/*`` and ``advantage/mean_abs``.
    """

    def __init__(
        self,
        *args: Any,
        loss_observer: LossObserver | None = None,
        clock: StepClock | None = None,
        **kwargs: Any,
    ) -> None:
        self._loss_observer = loss_observer
        self._clock = clock or StepClock()
        self._scoring = False
        self.figures: dict[str, float] = {}
        super().__init__(*args, **kwargs)

    def _compute_loss(self, model: Any, inputs: Any) -> Any:
        if self._loss_observer is not None:
            self._loss_observer(inputs)
        return super()._compute_loss(model, inputs)

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        self._scoring = True
        try:
            batch = super()._generate_and_score_completions(inputs)
            if CREDIT_KEY in inputs[0]:
                credit = _padded([row[CREDIT_KEY] for row in inputs], like=batch["completion_ids"])
                batch["advantages"] = batch["advantages"].unsqueeze(1) * _policy_mask(batch) + credit
            self.figures = self._batch_figures(batch)
        finally:
            self._scoring = False
        return batch

    def _batch_figures(self, batch: Mapping[str, Any]) -> dict[str, float]:
        mask = _policy_mask(batch).bool()
        advantages = batch["advantages"]
        spread = advantages if advantages.dim() == 2 else advantages.unsqueeze(1).expand(mask.shape)
        figures = {"advantage/mean_abs": spread[mask].abs().mean().item()} if mask.any() else {}
        sampled = batch.get("sampling_per_token_logps")
        if sampled is None:
            return figures
        own = batch.get("old_per_token_logps")
        if own is None:  # TRL needs them for its correction only: without it this is a forward pass of its own
            few = slice(_SCORED_ROWS)
            batch = {k: batch[k][few] for k in ("prompt_ids", "completion_ids", "prompt_mask", "completion_mask")}
            mask, sampled = mask[few], sampled[few]
            ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
            attention = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
            with torch.no_grad():
                own, *_ = self._get_per_token_logps_and_entropies(
                    self.model,
                    ids,
                    attention,
                    batch["completion_ids"].size(1),
                    batch_size=self.args.per_device_train_batch_size,
                )
        return figures | mismatch_figures(own[mask], sampled[mask])

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        **options: Any,
    ) -> Any:
        """As TRL's, without the columns in which a part of the batch has padding alone: all rows are as wide as the
        longest episode of a step, and most episodes are far shorter. What is left out is answered with 0."""
        compute = super()._get_per_token_logps_and_entropies
        parts = []
        with self._clock.measure("score") if self._scoring else nullcontext():
            size = batch_size or len(input_ids)
            for start in range(0, len(input_ids), size):
                ids, mask = input_ids[start : start + size], attention_mask[start : start + size]
                used = mask.any(0).nonzero()
                first, end = int(used[0]), int(used[-1]) + 1
                beyond = ids.size(1) - end
                found = compute(model, ids[:, first:end], mask[:, first:end], logits_to_keep - beyond, **options)
                parts.append(
                    [p if p is None or not p.dim() else torch.nn.functional.pad(p, (0, beyond)) for p in found]
                )
        logps, entropies, losses = zip(*parts, strict=True)
        loss = None if losses[0] is None else torch.stack(losses).mean()
        return torch.cat(logps), None if entropies[0] is None else torch.cat(entropies), loss

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        with self._clock.measure("prepare"):
            return super()._prepare_inputs(generation_batch)

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """A forward and a backward pass, timed."""
        with self._clock.measure("train"):
            return super().training_step(*args, **kwargs)

    def _add_to_checkpoint(self, part: Path) -> None:
        shutil.rmtree(part / _REFERENCE, ignore_errors=True)
        if self.state.global_step % self.num_iterations:  # further steps on this batch are to come
            torch.save(self._buffered_inputs, part / _BUFFER_FILE)
        super()._add_to_checkpoint(part)

    def restore_batch(self, checkpoint: Path) -> None:
        """Go on in the middle of a batch of episodes where the checkpoint was. Call it when training begins."""
        self._step = self.state.global_step * self.args.gradient_accumulation_steps
        if self.state.global_step % self.num_iterations:
            found = torch.load(checkpoint / _BUFFER_FILE, weights_only=True, map_location=self.args.device)
            self._buffered_inputs = found

    def _send_telemetry(self) -> None:
        return None


def mismatch_figures(own: torch.Tensor, sampled: torch.Tensor) -> dict[str, float]:
    """How far the trainer's logprobs of sampled tokens are from the engine's.

    Args:
        own: the trainer's logprobs of the policy's tokens, before the step, shape (N,).
        sampled: those that the engine sampled them with, shape (N,); NaN where it told none.

    ``mismatch/kl`` estimates KL(engine || trainer) per token without bias, and is never negative (k3 of Schulman 2020,
    Approximating KL divergence). ``mismatch/logp_mean`` and ``logp_max`` are of the absolute difference, in nats.
    """
    ratio = (own - sampled).float()
    ratio = ratio[~ratio.isnan()]
    if not ratio.numel():
        return {}
    return {
        "mismatch/kl": (ratio.expm1() - ratio).mean().item(),
        "mismatch/logp_mean": ratio.abs().mean().item(),
        "mismatch/logp_max": ratio.abs().max().item(),
    }


def _policy_mask(batch: Mapping[str, Any]) -> torch.Tensor:
    mask: torch.Tensor = batch["completion_mask"]
    return mask * batch["tool_mask"] if "tool_mask" in batch else mask


def _padded(rows: Sequence[Sequence[float]], *, like: torch.Tensor) -> torch.Tensor:
    """Rows of floats, padded with 0 on the right to the shape (B, T) of a batch."""
    out = torch.zeros(like.shape, dtype=torch.float32)
    for at, row in enumerate(rows):
        out[at, : len(row)] = torch.tensor(row, dtype=torch.float32)
    return out.to(like.device)


def reference_is_base(trainer: OutsideEngineTrainer) -> None:
    """Let the KL term hold to the base model, where TRL would hold it to a copy of the adapter that it was given."""
    if _REFERENCE in trainer.model.peft_config:
        trainer.model.delete_adapter(_REFERENCE)


class QuietSFTTrainer(WholeCheckpoints, SFTTrainer):  # type: ignore[misc] # TRL ships no types
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
