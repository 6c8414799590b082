"""Kahneman-Tversky optimisation on desirable and undesirable rows of the episode store (TRL's KTOTrainer, LoRA)."""

from __future__ import annotations

from typing import Any

from datasets import Dataset
from rich.console import Console
from transformers import TrainerCallback
from trl import KTOConfig

from envs.errors import ConfigError
from envs.types import Split
from rollout_server.episode_store import EpisodeStore
from trainer.checkpoint import write_state
from trainer.config import TrainConfig
from trainer.models import LoadedModel
from trainer.preference_run import PreferenceResult, Recipe, reference_model, run_preferences, shared_arguments
from trainer.preferences import Verdict, balanced_weights, verdict_rows
from trainer.settings import KtoSettings, PreferenceSettings
from trainer.trl_preference_seams import MaskedVerdictCollator, StoredKTOTrainer, kl_columns

__all__ = ["kto_weights", "train_kto"]


def train_kto(
    config: TrainConfig,
    *,
    store: EpisodeStore | None = None,
    splits: tuple[Split, ...] = (),
    console: Console | None = None,
    check: bool = False,
) -> PreferenceResult:
    """Run a recipe with ``recipe = "kto"``; see ``run_preferences`` for the arguments and what is raised."""
    recipe = Recipe("kto", verdict_rows, _trainer, arrange=_whole_batches, figures=_figures)
    return run_preferences(config, recipe, store=store, splits=splits, console=console, check=check)


def kto_weights(settings: KtoSettings, verdicts: list[Verdict]) -> tuple[float, float]:
    """Weights of desirable and undesirable rows: the recipe's, or by the counts.

    Raises ConfigError where there is only one kind: nothing could be told apart.
    """
    good = sum(v.desirable for v in verdicts)
    if not 0 < good < len(verdicts):
        kind = "desirable" if good else "undesirable"
        raise ConfigError(f"all {len(verdicts)} rows are {kind}", hint="play won and lost episodes (kto.collect = 100)")
    if settings.desirable_weight is None or settings.undesirable_weight is None:
        return balanced_weights(verdicts)
    return settings.desirable_weight, settings.undesirable_weight


def _whole_batches(settings: PreferenceSettings, rows: list[Verdict]) -> list[Verdict]:
    """Only whole micro-batches: a row alone would be set against itself in the KL term."""
    return rows[: len(rows) - len(rows) % settings.micro_batch]


def _figures(settings: PreferenceSettings, rows: list[Verdict]) -> dict[str, Any]:
    assert isinstance(settings, KtoSettings)
    desirable, undesirable = kto_weights(settings, rows)
    return {"desirable_weight": round(desirable, 4), "undesirable_weight": round(undesirable, 4)}


def _trainer(
    config: TrainConfig, loaded: LoadedModel, rows: list[Verdict], callbacks: list[TrainerCallback]
) -> StoredKTOTrainer:
    desirable, undesirable = kto_weights(config.kto, rows)
    return StoredKTOTrainer(
        model=loaded.model,
        ref_model=reference_model(config),
        args=KTOConfig(
            **shared_arguments(config, device=loaded.device),
            loss_type=config.kto.loss_type,
            desirable_weight=desirable,
            undesirable_weight=undesirable,
            train_sampling_strategy="sequential",  # rows were mixed already; the KL rows are made for this order
        ),
        data_collator=MaskedVerdictCollator(pad_token_id=loaded.tokenizer.hf.pad_token_id),
        train_dataset=Dataset.from_dict(_columns(rows, config.kto)),
        processing_class=loaded.tokenizer.hf,
        peft_config=loaded.peft_config,
        callbacks=callbacks,
        complete=lambda part, step: write_state(part, config, step=step),
        keep_checkpoints=config.run.keep_checkpoints,
    )


def _columns(rows: list[Verdict], settings: KtoSettings) -> dict[str, list[Any]]:
    ids, masks = [list(v.side.ids) for v in rows], [list(v.side.mask) for v in rows]
    columns: dict[str, list[Any]] = {
        "prompt_ids": [list(v.prompt_ids) for v in rows],
        "completion_ids": ids,
        "mask": masks,
        "label": [v.desirable for v in rows],
    }
    if settings.loss_type == "kto":
        columns |= kl_columns(ids, masks, micro_batch=settings.micro_batch)
    return columns
