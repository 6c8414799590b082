"""What a run of DPO and one of KTO do alike: choose rows from the store, show them, train, save the adapter."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from envs.errors import ConfigError
from envs.types import EpisodeStatus, Split
from rollout_server.episode_store import EpisodeStore
from rollout_server.types import Episode
from trainer.checkpoint import open_run_folder, read_state
from trainer.config import TrainConfig
from trainer.datasets import select_episodes
from trainer.diagnose.live import stop_if_asked
from trainer.lora import save_adapter
from trainer.models import LoadedModel, liger_arguments, load_model, load_tokenizer, template_line, weights_dtype
from trainer.monitors import MetricSink, finite_numbers, open_sinks
from trainer.preference_collect import collect_preferences
from trainer.preference_report import REPORT_FILE, preference_report, print_report
from trainer.preferences import Pair, Preferences, Verdict, digest
from trainer.record import ADAPTER_RECORD, RUN_RECORD, TrainingRecord, write_json
from trainer.services import store_url
from trainer.settings import PreferenceSettings, SftSettings
from trainer.splits import SplitGuard
from trainer.status import run_status
from trainer.trl_preference_seams import reference_of
from trainer.trl_seams import adapter_in_float32

__all__ = ["PreferenceResult", "Recipe", "reference_model", "run_preferences", "shared_arguments"]


@dataclass(slots=True)
class PreferenceResult:
    """What a run did. ``adapter`` is the folder of the trained adapter (or of the whole model with ``lora.full``), None
    where rows were only looked at. ``reference``: what the policy was held against (``base``, ``ref``, ``model``)."""

    output_dir: Path
    adapter: Path | None
    rows: int
    left_out: dict[str, int]
    report: dict[str, Any]
    steps: int = 0
    reference: str = ""
    metrics: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Recipe[Row: (Pair, Verdict)]:
    """What sets DPO and KTO apart.

    ``select`` makes rows of episodes; ``arrange`` may leave some out when they are in their order; ``figures`` are put
    into the report; ``trainer`` makes TRL's trainer of (configuration, model, rows, callbacks).
    """

    name: str
    select: Callable[..., Preferences[Row]]
    trainer: Callable[[TrainConfig, LoadedModel, list[Row], list[TrainerCallback]], Any]
    arrange: Callable[[PreferenceSettings, list[Row]], list[Row]] = lambda _, rows: rows
    figures: Callable[[PreferenceSettings, list[Row]], dict[str, Any]] = lambda *_: {}


def run_preferences[Row: (Pair, Verdict)](
    config: TrainConfig,
    recipe: Recipe[Row],
    *,
    store: EpisodeStore | None = None,
    splits: tuple[Split, ...] = (),
    console: Console | None = None,
    check: bool = False,
) -> PreferenceResult:
    """Run a recipe: play where ``collect`` asks for it, choose rows, show them, train, save the adapter.

    ``store`` None opens what the recipe names. ``check``: stop once the rows have been shown. Raises ConfigError for an
    evaluation split, another tokenizer's episodes, no row at all, or rows that are not those of the run to resume.
    """
    if config.recipe != recipe.name:
        raise ConfigError(f"this is a recipe for {config.recipe}", hint=f"run envloop train {config.recipe}")
    guard = SplitGuard(config.data.allow_eval_split, splits)
    guard.check_sources(config.data.sources)
    begun = check and (config.run.output_dir / RUN_RECORD).exists()  # its report stays what it was
    checkpoint = None if check else open_run_folder(config)
    console = console or Console(stderr=True)
    if config.preference.collect and checkpoint is None and store is None and not begun:
        config.run.output_dir.mkdir(parents=True, exist_ok=True)
        collect_preferences(config, splits=splits, console=console)
    with ExitStack() as stack:
        if not check:
            stack.enter_context(run_status(config.run.output_dir))
        if store is None:
            store = stack.enter_context(EpisodeStore(config.preference.store or store_url(config)))
        # Checked before any weight is loaded: this is where a recipe usually goes wrong.
        tokenizer = load_tokenizer(config.model)
        found = recipe.select(_episodes(config, store), tokenizer, config.preference, guard=guard)
        _count_failures(config, store, found.left_out)
        rows = _rows(config, recipe, found)
        figures = recipe.figures(config.preference, rows)
        report = preference_report(found, rows, scope=config.preference.scope, digest=digest(rows), **figures)
        if checkpoint is not None:
            _same_rows(config.run.output_dir / REPORT_FILE, report)
        elif not begun:
            write_json(config.run.output_dir / REPORT_FILE, report)
        if check or ("console" in config.run.report_to and checkpoint is None):
            console.print(template_line(tokenizer), style="dim", highlight=False)
            print_report(console, report, rows, tokenizer)
        result = PreferenceResult(config.run.output_dir, None, len(rows), dict(found.left_out), report)
        if not check:
            _train(config, recipe, rows, result, console=console, checkpoint=checkpoint, stack=stack)
    return result


def reference_model(config: TrainConfig) -> Any:
    """A second copy of the model to hold the policy against, where every weight is trained; else None."""
    return load_model(config.model, config.lora, seed=config.run.seed).model if config.lora.full else None


def shared_arguments(config: TrainConfig, *, device: str) -> dict[str, Any]:
    """The recipe in TRL's words, as far as DPO and KTO have the same."""
    s, run = config.preference, config.run
    return {
        "output_dir": str(run.output_dir),
        "num_train_epochs": s.epochs,
        "max_steps": s.steps if s.steps is not None else -1,
        "beta": s.beta,
        "learning_rate": s.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": s.warmup,  # below 1 it is a share of the steps
        "max_grad_norm": s.max_grad_norm,
        "per_device_train_batch_size": s.micro_batch,
        "gradient_accumulation_steps": s.effective_batch // s.micro_batch,
        "max_length": None,  # TRL cuts at 1024 by default; rows are chosen by length already
        "remove_unused_columns": False,  # the masks are columns that TRL does not know
        **liger_arguments(config.model, device),
        "bf16": device == "cuda" and weights_dtype(config.model) == "bfloat16",
        "fp16": device == "cuda" and weights_dtype(config.model) == "float16",
        "use_cpu": device == "cpu",
        "gradient_checkpointing": config.model.gradient_checkpointing,
        "dataloader_pin_memory": device == "cuda",
        "save_strategy": "steps",
        "save_steps": run.save_every,
        "save_total_limit": None,  # run.keep_checkpoints, once a new one is whole
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "seed": run.seed,
    }


def _episodes(config: TrainConfig, store: EpisodeStore) -> Iterator[Episode]:
    s = config.preference
    chosen = SftSettings(
        success_only=False, envs=s.envs, engines=s.engines, policies=s.policies, constrained=s.constrained
    )
    return select_episodes(store, chosen, config.data.sources)


def _count_failures(config: TrainConfig, store: EpisodeStore, left_out: dict[str, int]) -> None:
    """Episodes that the machinery lost say nothing of a policy; they were never among the selected ones."""
    lost = EpisodeStatus.INFRASTRUCTURE_ERROR
    count = sum(store.count(env=s.env, split=s.split, status=lost) for s in config.data.sources)
    if count:
        left_out["episodes that failed by infrastructure"] = count


def _rows[Row: (Pair, Verdict)](config: TrainConfig, recipe: Recipe[Row], found: Preferences[Row]) -> list[Row]:
    """The rows in the order in which they are learnt: tasks mixed, then cut to ``limit``."""
    rows = list(found.rows)
    random.Random(config.run.seed).shuffle(rows)  # noqa: S311 (reproducible, nothing secret)
    limited = _limited(rows, config.preference.limit or len(rows))
    if len(limited) < len(rows):
        found.left_out["rows above limit"] += len(rows) - len(limited)
        rows = limited
    arranged = recipe.arrange(config.preference, rows)
    if len(arranged) < len(rows):
        found.left_out["rows of an unfilled last batch"] += len(rows) - len(arranged)
    if not arranged:
        where = ", ".join(f"{s.env}/{s.split}" for s in config.data.sources)
        raise ConfigError(
            f"the {found.episodes} stored episodes of {where} give nothing to compare"
            + (f"; left out: {dict(found.left_out)}" if found.left_out else ""),
            hint=f"play won and lost episodes of the same tasks first ({config.recipe}.collect = 100), or fork some "
            f"(envloop replay fork); or set {config.recipe}.scope = 'episode'",
        )
    return arranged


def _limited[Row: (Pair, Verdict)](rows: list[Row], limit: int) -> list[Row]:
    """The first ``limit`` rows; of desirable and undesirable ones half each, as far as there are so many."""
    wanted = [not isinstance(row, Verdict) or row.desirable for row in rows]
    spare = {kind: limit - min(wanted.count(not kind), limit // 2) for kind in (True, False)}
    kept: list[Row] = []
    for row, kind in zip(rows, wanted, strict=True):
        if spare[kind] and len(kept) < limit:
            spare[kind] -= 1
            kept.append(row)
    return kept


def _same_rows(path: Path, report: dict[str, Any]) -> None:
    """A resumed run goes on in the middle of its rows, so they must be the same ones."""
    try:
        before = json.loads(path.read_text(encoding="utf-8"))["digest"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is no report of a run: {error}", hint="resume an intact run folder") from error
    if before != report["digest"]:
        raise ConfigError(
            "the store now gives other rows than when this run began",
            hint="resume with the same recipe and a store that nothing was added to, or start a new run",
        )


def _train[Row: (Pair, Verdict)](
    config: TrainConfig,
    recipe: Recipe[Row],
    rows: list[Row],
    result: PreferenceResult,
    *,
    console: Console,
    checkpoint: Path | None,
    stack: ExitStack,
) -> None:
    after = read_state(checkpoint)["step"] if checkpoint is not None else 0
    record = TrainingRecord(config)
    record.see((row.task for row in rows), episodes=len({s.episode_id for row in rows for s in row.sides}))
    loaded = load_model(config.model, config.lora, seed=config.run.seed)
    record.save(config.run.output_dir / RUN_RECORD)  # a run that could not load its model is none
    sinks = open_sinks(config, console, steps=_steps(config.preference, len(rows)), after_step=after)
    for sink in sinks:
        stack.callback(sink.close)
    trainer = recipe.trainer(config, loaded, rows, [_Callback(result, sinks)])
    for chatty in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(chatty)
    if config.lora.qlora:
        adapter_in_float32(trainer.model)
    result.reference = reference_of(trainer)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint is not None else None)
    result.steps = trainer.state.global_step
    result.adapter = config.run.output_dir / "adapter"
    if config.lora.full:
        trainer.save_model(str(result.adapter))
        record.save(result.adapter / ADAPTER_RECORD, step=result.steps)
    else:
        save_adapter(trainer.model, result.adapter, record, step=result.steps)


def _steps(section: PreferenceSettings, rows: int) -> int:
    if section.steps is not None:
        return section.steps
    return math.ceil(section.epochs * max(1, math.ceil(rows / section.effective_batch)))


class _Callback(TrainerCallback):
    def __init__(self, result: PreferenceResult, sinks: list[MetricSink]) -> None:
        self._result = result
        self._sinks = sinks

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:  # the closing summary
            return
        metrics = finite_numbers(logs)
        chosen, rejected = (metrics.get(f"rewards/{side}") for side in ("chosen", "rejected"))
        if chosen is not None and rejected is not None:  # KTO's own leaves it out where a micro-batch has one kind
            metrics.setdefault("rewards/margins", chosen - rejected)
        self._result.metrics.append(metrics)
        for sink in self._sinks:
            sink.write(state.global_step, metrics)
        stop_if_asked(self._sinks, control)
