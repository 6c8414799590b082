"""Supervised fine-tuning (TRL's SFTTrainer, PEFT's LoRA) on stored episodes, with the same tokens and masks as in play,
or on a chat file: validated first, evaluated in the loop by playing held-out tasks."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
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
from trainer.datasets import IGNORED, SftRows
from trainer.diagnose.live import stop_if_asked
from trainer.held_out import FullModelPlayer, HeldOutCallback, open_held_out
from trainer.held_out_tasks import list_evaluation_tasks
from trainer.loops import LoopThread
from trainer.lora import PolicyPublisher, save_adapter
from trainer.models import LoadedModel, liger_arguments, load_model, template_line, weights_dtype
from trainer.monitors import MetricSink, example_text, finite_numbers, open_sinks
from trainer.record import ADAPTER_RECORD, RUN_RECORD, TrainingRecord, write_json
from trainer.sampler import TaskSampler
from trainer.services import UNTRAINED_ENGINES, open_rollouts, store_url
from trainer.sft_rows import read_rows
from trainer.sft_validation import SFT_REPORT, check_overlap, sft_report_view
from trainer.splits import SplitGuard
from trainer.status import run_status
from trainer.trl_seams import QuietSFTTrainer, adapter_in_float32

__all__ = ["SftResult", "collect_expert_episodes", "train_sft"]


@dataclass(slots=True)
class SftResult:
    """What a run did. ``adapter`` is the folder of the trained adapter (or of the whole model with ``lora.full``).

    ``best_step`` and ``best_success`` are those of the best evaluation in the loop, None where none was made;
    ``stopped_early`` says that ``eval.patience`` ended the run.
    """

    output_dir: Path
    adapter: Path
    episodes: int
    left_out: dict[str, int]
    steps: int = 0
    metrics: list[dict[str, float]] = field(default_factory=list)
    best_step: int | None = None
    best_success: float | None = None
    stopped_early: bool = False


async def collect_expert_episodes(config: TrainConfig, service: RolloutService, *, count: int) -> int:
    """Play ``count`` tasks of the recipe with a service whose engine is the expert; give the number of successes."""
    sampler = TaskSampler(config.data.sources, seed=config.run.seed, stream="sft")
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
    """Run the recipe: play expert episodes where ``sft.collect`` asks for them, choose and validate rows, train, save.

    ``store`` None opens what the recipe names. The rows' report is written to ``sft_report.json`` before any weight is
    loaded. Raises ConfigError for an evaluation split, another tokenizer's episodes, a broken file or no row at all.
    """
    if config.recipe != "sft":
        raise ConfigError(f"this is a recipe for {config.recipe}", hint=f"run envloop train {config.recipe}")
    guard = SplitGuard(config.data.allow_eval_split, splits)
    guard.check_sources(config.data.sources)
    checkpoint = open_run_folder(config)
    console = console or Console(stderr=True)
    if config.sft.collect and checkpoint is None:
        _collect(config, console)
    with ExitStack() as stack:
        stack.enter_context(run_status(config.run.output_dir))
        if store is None and config.sft.jsonl is None:
            store = stack.enter_context(EpisodeStore(config.sft.store or store_url(config)))
        # Checked before any weight is loaded: this is where a recipe usually goes wrong.
        with LoopThread() as asking:
            evaluations = asking.run(list_evaluation_tasks(config, (s.env for s in config.data.sources)))
        rows, report = read_rows(config, store, guard, evaluations.all)
        write_json(config.run.output_dir / SFT_REPORT, report.to_json())
        if "console" in config.run.report_to:
            console.print(sft_report_view(report))
        check_overlap(report.overlap, config.data.allow_eval_split)
        state = read_state(checkpoint) if checkpoint is not None else None
        after = state["step"] if state is not None else 0
        record = TrainingRecord(config)
        record.see(rows.tasks, episodes=len(rows))
        loaded = load_model(config.model, config.lora, seed=config.run.seed)
        record.save(config.run.output_dir / RUN_RECORD)  # a run that could not load its model is none
        result = SftResult(config.run.output_dir, config.run.output_dir / "adapter", len(rows), dict(rows.left_out))
        if "console" in config.run.report_to:
            _show_example(rows, loaded, console)
        held_out = _held_out(config, loaded, record, stack, console, checkpoint)
        if held_out and held_out[0].stopped and checkpoint is not None:
            # The run had ended there; only what comes after the training may be missing.
            loaded = _from_checkpoint(config, checkpoint)
            after = state["step"] if state is not None else 0
        sinks = open_sinks(config, console, steps=_steps(config, len(rows)), after_step=after)
        for sink in sinks:
            stack.callback(sink.close)
        trainer = QuietSFTTrainer(
            model=loaded.model,
            args=_arguments(config, device=loaded.device),
            train_dataset=Dataset.from_dict({"input_ids": rows.input_ids, "labels": rows.labels}),
            processing_class=loaded.tokenizer.hf,
            peft_config=loaded.peft_config,
            callbacks=[*held_out, _SftCallback(result, sinks, held_out)],
            complete=partial(_complete, config, held_out),
            keep_checkpoints=config.run.keep_checkpoints,
        )
        for chatty in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(chatty)
        if config.lora.qlora:
            adapter_in_float32(trainer.model)
        if held_out and held_out[0].stopped:
            result.steps = after
        else:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint is not None else None)
            result.steps = trainer.state.global_step
        _finish(config, trainer, record, result, held_out)
    return result


def _collect(config: TrainConfig, console: Console) -> None:
    with LoopThread() as loop:
        options = {"thoughts": config.sft.thoughts}
        service = loop.run(open_rollouts(config, engine=config.sft.expert, script_options=options))
        try:
            won = loop.run(collect_expert_episodes(config, service, count=config.sft.collect))
        finally:
            loop.run(service.close())
    console.print(f"the {config.sft.expert} played {config.sft.collect} tasks and solved {won}")


def _show_example(rows: SftRows, loaded: LoadedModel, console: Console) -> None:
    split = next(i for i, label in enumerate(rows.labels[0]) if label != IGNORED)
    mask = [int(label != IGNORED) for label in rows.labels[0][split:]]
    console.print(template_line(loaded.tokenizer), style="dim", highlight=False)
    console.print(f"{len(rows)} episodes; the first, trained tokens in green:")
    ids = rows.input_ids[0]
    console.print(example_text(ids[:split], ids[split:], mask, loaded.tokenizer), highlight=False)


def _held_out(  # noqa: PLR0917
    config: TrainConfig,
    loaded: LoadedModel,
    record: TrainingRecord,
    stack: ExitStack,
    console: Console,
    checkpoint: Path | None,
) -> list[HeldOutCallback]:
    """The evaluation in the loop, with the rollouts that it plays on; nothing is opened where there is none."""
    if not config.eval.every:
        return []
    if config.rollout.url is None and config.rollout.engine in UNTRAINED_ENGINES:
        raise ConfigError(
            f"eval.every plays what is trained, and the engine {config.rollout.engine} takes no adapters",
            hint="set rollout.engine to vllm or transformers (sft.expert says who collects), or eval.every = 0",
        )
    loop = stack.enter_context(LoopThread())
    if config.lora.full:
        tasks = loop.run(list_evaluation_tasks(config)).played
        player = FullModelPlayer(config, tasks, loaded.tokenizer.hf, loop)
        record.hold_out(tasks)

        def save(model: Any, step: int, folder: Path) -> None:
            model.save_pretrained(str(folder))
            loaded.tokenizer.hf.save_pretrained(str(folder))
            record.save(folder / ADAPTER_RECORD, step=step)

        return [HeldOutCallback(config, player, save=save, console=console, restored=checkpoint)]
    opened = loop.run(open_rollouts(config))
    stack.callback(lambda: loop.run(opened.close()))
    if opened.engine is not None:
        loop.run(opened.engine.start())  # now, while the memory that it takes can still be planned for
    publisher = PolicyPublisher(
        opened,
        loop,
        folder=config.run.output_dir / "policies",
        prefix=config.run.policy_prefix,
        keep=config.run.keep_policies,
        record=record,
    )

    def publish(model: Any, step: int) -> str:
        return publisher.publish(model, step=step).name

    return open_held_out(config, opened, loop, publish, record, console=console, checkpoint=checkpoint)


def _from_checkpoint(config: TrainConfig, checkpoint: Path) -> LoadedModel:
    """The model with the weights of a checkpoint."""
    if config.lora.full:
        model = config.model.model_copy(update={"name": str(checkpoint), "revision": None})
        return load_model(model, config.lora, seed=config.run.seed)
    return load_model(config.model, config.lora.model_copy(update={"init_adapter": checkpoint}), seed=config.run.seed)


def _finish(
    config: TrainConfig,
    trainer: QuietSFTTrainer,
    record: TrainingRecord,
    result: SftResult,
    held_out: list[HeldOutCallback],
) -> None:
    """Save what was trained, and say what evaluations found."""
    shutil.rmtree(result.adapter, ignore_errors=True)  # of the same run, resumed after its end
    if config.lora.full:
        trainer.save_model(str(result.adapter))
        record.save(result.adapter / ADAPTER_RECORD, step=result.steps)
    else:
        save_adapter(trainer.model, result.adapter, record, step=result.steps)
    for callback in held_out:
        if callback.state.best is not None:
            result.best_step, result.best_success = callback.state.best_step, callback.state.best
        result.stopped_early = callback.stopped
    record.save(config.run.output_dir / RUN_RECORD, step=result.steps, best_step=result.best_step)


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
        **liger_arguments(config.model, device),
        dataloader_pin_memory=device == "cuda",
        save_strategy="steps",
        save_steps=run.save_every,
        save_total_limit=None,  # run.keep_checkpoints, once a new one is whole
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        seed=run.seed,
    )


def _complete(config: TrainConfig, held_out: list[HeldOutCallback], checkpoint: Path, step: int) -> None:
    """Put what TRL does not know of into a step's checkpoint."""
    for callback in held_out:
        callback.write_state(checkpoint)
    write_state(checkpoint, config, step=step)


class _SftCallback(TrainerCallback):
    def __init__(self, result: SftResult, sinks: list[MetricSink], held_out: list[HeldOutCallback]) -> None:
        self._held_out = held_out
        self._result = result
        self._sinks = sinks

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:  # the closing summary
            return
        evaluated = {name: value for callback in self._held_out for name, value in callback.take().items()}
        metrics = finite_numbers({**logs, **evaluated})
        self._result.metrics.append(metrics)
        for sink in self._sinks:
            sink.write(state.global_step, metrics)
        stop_if_asked(self._sinks, control)
