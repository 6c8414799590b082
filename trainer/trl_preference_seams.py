"""Every private or undocumented part of TRL 1.16's DPO and KTO that envloop leans on, in one place.

``tests/contract/test_trl_preference_contract.py`` runs each of them and fails when a new TRL moves one:

- ``_prepare_dataset`` tokenises texts, and adds KTO's mismatched completions; here rows are ids already and whole.
- ``completion_mask`` of a collated batch decides alone which log-probabilities a loss sums, the policy's and the
  reference's: TRL sets it for everything after the prompt, so the environment's words count too. Here they do not.
- KTO's KL term sets each prompt against the completion of the row before it in its micro-batch
  (``KL_completion_ids``), whose mask must go with it.
- An adapter that a model brings along is copied as ``ref``, which the reference's forward passes switch to; with a new
  adapter they switch all adapters off. ``reference_of`` says which, and holds the copy to the very weights.
- ``_send_telemetry`` reports the run to a third party: switched off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trl import DPOTrainer, KTOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

from trainer.trl_seams import ResumesAdapter, WholeCheckpoints

__all__ = [
    "MaskedPairCollator",
    "MaskedVerdictCollator",
    "StoredDPOTrainer",
    "StoredKTOTrainer",
    "kl_columns",
    "reference_of",
]


class MaskedPairCollator(DataCollatorForPreference):  # type: ignore[misc] # TRL ships no types
    """Pads pairs as TRL does; ``completion_mask`` is 1 only where ``chosen_mask`` and ``rejected_mask`` are."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """A batch of shape (2 x pairs, tokens): the chosen sides, then the rejected ones."""
        batch: dict[str, Any] = super().torch_call(examples)
        prompts = [len(e["prompt_ids"]) for e in examples]
        masks = [e[f"{side}_mask"] for side in ("chosen", "rejected") for e in examples]
        _narrow(batch["completion_mask"], prompts * 2, masks)
        return batch


class MaskedVerdictCollator(DataCollatorForUnpairedPreference):  # type: ignore[misc] # TRL ships no types
    """Pads rows as TRL does; ``completion_mask`` is 1 only where the row's own mask is, for the KL rows too."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """A batch of shape (rows, tokens), and one of the same prompts with other completions for the KL term."""
        batch: dict[str, Any] = super().torch_call(examples)
        prompts = [len(e["prompt_ids"]) for e in examples]
        _narrow(batch["completion_mask"], prompts, [e["mask"] for e in examples])
        if "KL_completion_mask" in batch:
            _narrow(batch["KL_completion_mask"], prompts, [e["KL_mask"] for e in examples])
        return batch


class StoredDPOTrainer(ResumesAdapter, WholeCheckpoints, DPOTrainer):  # type: ignore[misc] # TRL ships no types
    """DPOTrainer on ids and masks as they were stored; tells nobody."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def _send_telemetry(self) -> None:
        return None


class StoredKTOTrainer(ResumesAdapter, WholeCheckpoints, KTOTrainer):  # type: ignore[misc] # TRL ships no types
    """KTOTrainer on ids and masks as they were stored; tells nobody."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def _send_telemetry(self) -> None:
        return None


def kl_columns(ids: Sequence[Any], masks: Sequence[Any], *, micro_batch: int) -> dict[str, list[Any]]:
    """KTO's mismatched completions: within each micro-batch every row gets the completion of the row before it, with
    its mask; the first gets the last's. Rows must come in this order (sequential sampling)."""
    order = [
        start + (i - 1) % len(chunk)
        for start in range(0, len(ids), micro_batch)
        for chunk in (ids[start : start + micro_batch],)
        for i in range(len(chunk))
    ]
    return {"KL_completion_ids": [ids[i] for i in order], "KL_mask": [masks[i] for i in order]}


def reference_of(trainer: Any) -> str:
    """What the trainer holds the policy against: ``ref`` (a copy of the adapter that training began with), ``base``
    (adapters off) or ``model`` (a second model).

    Where a trainer rounded one of the two copies (it casts what is trained on 4-bit weights), ``ref`` is given the
    policy's weights again: both begin as the same policy. Call it before training, and before a checkpoint is loaded.
    """
    if trainer.ref_model is not None:
        return "model"
    model = trainer.accelerator.unwrap_model(trainer.model)
    if "ref" not in model.peft_config:
        return "base"
    trained = {name: weight for name, weight in model.named_parameters() if ".default." in name}
    for name, weight in trained.items():
        copy = model.get_parameter(name.replace(".default.", ".ref."))
        copy.data = weight.data.clone()
        copy.requires_grad_(False)
    return "ref"


def _narrow(completion_mask: Any, prompts: Sequence[int], masks: Sequence[Sequence[int]]) -> None:
    """Zero what a row's own mask does not name. Raises ValueError where lengths disagree: nothing may be cut."""
    for row, prompt, mask in zip(completion_mask, prompts, masks, strict=True):
        if int(row.sum()) != len(mask):
            raise ValueError(f"a completion of {int(row.sum())} tokens has a mask of {len(mask)}")
        row[prompt : prompt + len(mask)] *= row.new_tensor(mask)
