"""Supervised fine-tuning on stored episodes (TRL's SFTTrainer, PEFT's LoRA): the same tokens and masks as in play."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset
from rich.console import Console
from transformers import PrinterCallback, ProgressCallback, TrainerCallback
from trl import SFTConfig

from envs.errors import ConfigError
from envs.types import Split
from rollout_server.episode_store import EpisodeStore
from rollout_server.service import RolloutService
from rollout_server.types import RolloutRequest
from trainer.checkpoint import open_run_folder, read_state, write_state
from trainer.config import TrainConfig
from trainer.datasets import IGNORED, SftRows, select_episodes, sft_rows
from trainer.loops import LoopThread
from trainer.lora import save_adapter
from trainer.models import load_model, load_tokenizer, weights_dtype
from trainer.monitors import MetricSink, example_text, finite_numbers, open_sinks
from trainer.record import ADAPTER_RECORD, RUN_RECORD, TrainingRecord
from trainer.sampler import TaskSampler
from trainer.services import open_rollouts, store_url
from trainer.splits import SplitGuard
from trainer.trl_seams import QuietSFTTrainer, adapter_in_float32

__all__ = ["SftResult", "collect_expert_episodes", "train_sft"]


@dataclass(slots=True)
class SftResult:
    """What a run did. ``adapter`` is the folder of the trained adapter (or of the whole model with ``lora.full``)."""

    output_dir: Path
    adapter: Path
    episodes: int
    left_out: dict[str, int]
    steps: int = 0
    metrics: list[dict[str, float]] = field(default_factory=list)


async def collect_expert_episodes(config: TrainConfig, service: RolloutService, *, count: int) -> int:
    """Play ``count`` tasks of the recipe with a service whose engine is the expert; give the number of successes."""
    sampler = TaskSampler(config.data.sources, seed=config.run.seed)
    groups = await service.rollouts(
        RolloutRequest(
            tasks=tuple(sampler.task(row) for row in range(count)),
            protocol=config.rollout.protocol,
            max_turns=config.rollout.max_turns,
            max_episode_tokens=config.sft.max_length,
            options=config.rollout.env_options,
            seed=config.run.seed,
            metadata={"run": config.run.policy_prefix, "purpose": "sft"},
        )
    )
    return sum(e.success for g in groups for e in g.episodes)


def train_sft(
    config: TrainConfig,
    *,
    store: EpisodeStore | None = None,
    splits: tuple[Split, ...] = (),
    console: Console | None = None,
) -> SftResult:
    """Run the recipe: play expert episodes where ``sft.collect`` asks for them, choose rows, train, save the adapter.

    ``store`` None opens what the recipe names. Raises ConfigError for an evaluation split, another tokenizer's episodes
    or no episode at all.
    """
    if config.recipe != "sft":
        raise ConfigError(f"this is a recipe for {config.recipe}", hint=f"run envloop train {config.recipe}")
    guard = SplitGuard(config.data.allow_eval_split, splits)
    guard.check_sources(config.data.sources)
    checkpoint = open_run_folder(config)
    console = console or Console(stderr=True)
    if config.sft.collect and checkpoint is None:
        with LoopThread() as loop:
            options = {"thoughts": config.sft.thoughts}
            service = loop.run(open_rollouts(config, engine=config.sft.expert, script_options=options))
            try:
                won = loop.run(collect_expert_episodes(config, service, count=config.sft.collect))
            finally:
                loop.run(service.close())
        console.print(f"the {config.sft.expert} played {config.sft.collect} tasks and solved {won}")
    with ExitStack() as stack:
        if store is None:
            store = stack.enter_context(EpisodeStore(config.sft.store or store_url(config)))
        # Checked before any weight is loaded: this is where a recipe usually goes wrong.
        rows = _rows(config, store, guard)
        state = read_state(checkpoint) if checkpoint is not None else None
        after = state["step"] if state is not None else 0
        record = TrainingRecord(config)
        record.see(rows.tasks, episodes=len(rows.tasks))
        loaded = load_model(config.model, config.lora, seed=config.run.seed)
        record.save(config.run.output_dir / RUN_RECORD)  # a run that could not load its model is none
        result = SftResult(
            config.run.output_dir, config.run.output_dir / "adapter", len(rows.tasks), dict(rows.left_out)
        )
        if "console" in config.run.report_to:
            split = next(i for i, label in enumerate(rows.labels[0]) if label != IGNORED)
            mask = [int(label != IGNORED) for label in rows.labels[0][split:]]
            console.print(f"{len(rows.tasks)} episodes; the first, trained tokens in green:")
            console.print(
                example_text(rows.input_ids[0][:split], rows.input_ids[0][split:], mask, loaded.tokenizer),
                highlight=False,
            )
        arguments = _arguments(config, device=loaded.device)
        sinks = open_sinks(config, console, steps=_steps(config, len(rows.tasks)), after_step=after)
        for sink in sinks:
            stack.callback(sink.close)
        trainer = QuietSFTTrainer(
            model=loaded.model,
            args=arguments,
            train_dataset=Dataset.from_dict({"input_ids": rows.input_ids, "labels": rows.labels}),
            processing_class=loaded.tokenizer.hf,
            peft_config=loaded.peft_config,
            callbacks=[_SftCallback(config, result, sinks)],
        )
        for chatty in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(chatty)
        if config.lora.qlora:
            adapter_in_float32(trainer.model)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint is not None else None)
        result.steps = trainer.state.global_step
        if config.lora.full:
            trainer.save_model(str(result.adapter))
            record.save(result.adapter / ADAPTER_RECORD, step=result.steps)
        else:
            save_adapter(trainer.model, result.adapter, record, step=result.steps)
    return result


def _rows(config: TrainConfig, store: EpisodeStore, guard: SplitGuard) -> SftRows:
    tokenizer = load_tokenizer(config.model)
    chosen = select_episodes(store, config.sft, config.data.sources)
    rows = sft_rows(chosen, tokenizer, max_length=config.sft.max_length, guard=guard, limit=config.sft.limit)
    if not rows.tasks:
        raise ConfigError(
            f"no stored episode of {', '.join(f'{s.env}/{s.split}' for s in config.data.sources)} fits the recipe"
            + (f"; left out: {dict(rows.left_out)}" if rows.left_out else ""),
            hint="play some first (sft.collect = 100), or widen the filters of [sft]",
        )
    return rows


def _steps(config: TrainConfig, rows: int) -> int:
    if config.sft.steps is not None:
        return config.sft.steps
    return max(1, round(config.sft.epochs * -(-rows // config.sft.effective_batch)))


def _arguments(config: TrainConfig, *, device: str) -> SFTConfig:
    s, run = config.sft, config.run
    return SFTConfig(
        output_dir=str(run.output_dir),
        num_train_epochs=s.epochs,
        max_steps=s.steps if s.steps is not None else -1,
        learning_rate=s.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=s.warmup,  # below 1 it is a share of the steps
        max_grad_norm=s.max_grad_norm,
        per_device_train_batch_size=s.micro_batch,
        gradient_accumulation_steps=s.effective_batch // s.micro_batch,
        max_length=None,  # TRL cuts at 1024 by default; rows are chosen by length already
        packing=False,
        bf16=config.model.autocast or (device == "cuda" and weights_dtype(config.model) == "bfloat16"),
        fp16=device == "cuda" and weights_dtype(config.model) == "float16",
        use_cpu=device == "cpu",
        gradient_checkpointing=config.model.gradient_checkpointing,
        dataloader_pin_memory=device == "cuda",
        save_strategy="steps",
        save_steps=run.save_every,
        save_total_limit=run.keep_checkpoints,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        seed=run.seed,
    )


class _SftCallback(TrainerCallback):
    def __init__(self, config: TrainConfig, result: SftResult, sinks: list[MetricSink]) -> None:
        self._config = config
        self._result = result
        self._sinks = sinks

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        write_state(folder, self._config, step=state.global_step, policy="")

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:  # the closing summary
            return
        metrics = finite_numbers(logs)
        self._result.metrics.append(metrics)
        for sink in self._sinks:
            sink.write(state.global_step, metrics)
