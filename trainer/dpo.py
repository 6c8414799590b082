"""Direct preference optimisation on pairs from the episode store (TRL's DPOTrainer, PEFT's LoRA)."""

from __future__ import annotations

from typing import Any

from datasets import Dataset
from rich.console import Console
from transformers import TrainerCallback
from trl import DPOConfig

from envs.types import Split
from rollout_server.episode_store import EpisodeStore
from trainer.checkpoint import write_state
from trainer.config import TrainConfig
from trainer.models import LoadedModel
from trainer.preference_run import PreferenceResult, Recipe, reference_model, run_preferences, shared_arguments
from trainer.preferences import Pair, pair_rows
from trainer.trl_preference_seams import MaskedPairCollator, StoredDPOTrainer

__all__ = ["train_dpo"]


def train_dpo(
    config: TrainConfig,
    *,
    store: EpisodeStore | None = None,
    splits: tuple[Split, ...] = (),
    console: Console | None = None,
    check: bool = False,
) -> PreferenceResult:
    """Run a recipe with ``recipe = "dpo"``; see ``run_preferences`` for the arguments and what is raised."""
    return run_preferences(
        config, Recipe("dpo", pair_rows, _trainer), store=store, splits=splits, console=console, check=check
    )


def _trainer(
    config: TrainConfig, loaded: LoadedModel, rows: list[Pair], callbacks: list[TrainerCallback]
) -> StoredDPOTrainer:
    d = config.dpo
    losses = {"loss_type": [d.loss_type], "loss_weights": [1.0]}
    if d.sft_weight:
        losses = {"loss_type": [d.loss_type, "sft"], "loss_weights": [1.0, d.sft_weight]}
    return StoredDPOTrainer(
        model=loaded.model,
        ref_model=reference_model(config),
        args=DPOConfig(**shared_arguments(config, device=loaded.device), label_smoothing=d.label_smoothing, **losses),
        data_collator=MaskedPairCollator(pad_token_id=loaded.tokenizer.hf.pad_token_id),
        train_dataset=Dataset.from_dict(_columns(rows)),
        processing_class=loaded.tokenizer.hf,
        peft_config=loaded.peft_config,
        callbacks=callbacks,
        complete=lambda part, step: write_state(part, config, step=step),
        keep_checkpoints=config.run.keep_checkpoints,
    )


def _columns(pairs: list[Pair]) -> dict[str, list[Any]]:
    return {
        "prompt_ids": [list(p.prompt_ids) for p in pairs],
        "chosen_ids": [list(p.chosen.ids) for p in pairs],
        "chosen_mask": [list(p.chosen.mask) for p in pairs],
        "rejected_ids": [list(p.rejected.ids) for p in pairs],
        "rejected_mask": [list(p.rejected.mask) for p in pairs],
    }
