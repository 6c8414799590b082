"""GRPO over a rollout service: TRL's GRPOTrainer, PEFT's LoRA, a new policy version after every optimizer step.

One step: the bridge plays ``groups_per_step`` groups at the current policy version, TRL scores and updates the adapter,
the publisher saves it and swaps it into the engine.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset
from rich.console import Console
from transformers import PrinterCallback, ProgressCallback, TrainerCallback
from trl import GRPOConfig

from envs.errors import ConfigError
from envs.types import Split
from rollout_server.service import RolloutService
from rollout_server.types import PolicyVersion, RewardWeights, RolloutRequest, SamplingParams
from trainer.checkpoint import open_run_folder, read_state, write_state
from trainer.config import TrainConfig
from trainer.diagnose.live import stop_if_asked
from trainer.loops import LoopThread
from trainer.lora import PolicyPublisher
from trainer.models import LoadedModel, load_model, weights_dtype
from trainer.monitors import MetricSink, example_text, finite_numbers, open_sinks
from trainer.record import RUN_RECORD, TrainingRecord
from trainer.rollouts import RolloutBatch, RolloutBridge, prompt_of, training_reward
from trainer.sampler import TaskSampler
from trainer.services import SCRIPTED_ENGINES, OpenedRollouts, open_rollouts
from trainer.splits import SplitGuard
from trainer.trl_seams import (
    LossObserver,
    OutsideEngineTrainer,
    adapter_in_float32,
    attach_engine,
    experimental_silenced,
)

__all__ = ["GrpoResult", "keeps_mixed", "rollout_template", "train_grpo", "trl_arguments"]


@dataclass(slots=True)
class GrpoResult:
    """What a run did: optimizer steps in all, the versions it published, the metrics of its own steps."""

    output_dir: Path
    steps: int = 0
    policies: list[str] = field(default_factory=list)
    metrics: list[dict[str, float]] = field(default_factory=list)


def rollout_template(config: TrainConfig) -> RolloutRequest:
    """The request of every step, but for its tasks, policy and seed."""
    r = config.rollout
    return RolloutRequest(
        tasks=(),
        group_size=r.group_size,
        sampling=SamplingParams(temperature=r.temperature, max_tokens=r.max_tokens),
        protocol=r.protocol,
        max_turns=r.max_turns,
        max_episode_tokens=r.max_episode_tokens,
        rewards=RewardWeights(
            task=r.reward_task,
            invalid_action=r.reward_invalid_action,
            shaping=r.reward_shaping,
            shaping_gamma=r.reward_shaping_gamma,
        ),
        options=r.env_options,
        seed=config.run.seed,
        metadata={"run": config.run.policy_prefix, "purpose": "grpo"},
        refill=r.refill,
    )


def keeps_mixed(config: TrainConfig) -> bool:
    """Whether episodes of more than one policy version are trained on."""
    wanted = config.rollout.mixed_episodes
    return config.grpo.importance_sampling != "off" if wanted == "auto" else wanted == "keep"


def trl_arguments(config: TrainConfig, *, device: str) -> GRPOConfig:
    """The recipe in TRL's words. Everything that TRL would choose by itself and that matters is set here."""
    g, r, run = config.grpo, config.rollout, config.run
    corrected = g.importance_sampling != "off"
    return GRPOConfig(
        output_dir=str(run.output_dir),
        max_steps=g.steps,
        learning_rate=g.learning_rate,
        lr_scheduler_type=g.schedule,
        warmup_steps=g.warmup,  # below 1 it is a share of the steps
        max_grad_norm=g.max_grad_norm,
        beta=g.beta,
        loss_type=g.loss_type,
        epsilon=g.epsilon,
        epsilon_high=g.epsilon_high,
        scale_rewards=g.scale_rewards,
        num_iterations=g.iterations,
        per_device_train_batch_size=g.micro_batch,
        gradient_accumulation_steps=r.group_size * r.groups_per_step // g.micro_batch,
        num_generations=r.group_size,
        max_completion_length=r.max_episode_tokens,  # only dr_grpo reads it: TRL cuts nothing of a rollout_func
        temperature=r.temperature,  # scales the trainer's logits as the engine scaled its own
        mask_truncated_completions=False,  # TRL would judge by the last token; episodes carry a status
        vllm_importance_sampling_correction=corrected,
        vllm_importance_sampling_mode=g.importance_sampling if corrected else "token_truncate",
        vllm_importance_sampling_clip_max=g.importance_clip,
        shuffle_dataset=False,  # rows come in the sampler's order, in a resumed run too
        bf16=device == "cuda" and weights_dtype(config.model) == "bfloat16",
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


def train_grpo(
    config: TrainConfig,
    *,
    service: RolloutService | None = None,
    loop: LoopThread | None = None,
    splits: tuple[Split, ...] = (),
    console: Console | None = None,
    on_batch: Callable[[RolloutBatch], None] = lambda _: None,
    on_policy: Callable[[PolicyVersion], None] = lambda _: None,
    loss_observer: LossObserver | None = None,
) -> GrpoResult:
    """Run the recipe to its last step.

    Args:
        config: a recipe with ``recipe = "grpo"``.
        service: the rollouts; None opens what the recipe names. A service must have been opened on ``loop``.
        loop: the event loop of ``service``.
        splits: what the environment service says of its splits, for the guard.
        on_batch: sees every batch of episodes as it is handed to TRL.
        on_policy: told of every version once the engine samples from it.
        loss_observer: sees every micro-batch as it enters the loss.

    Raises: ConfigError before anything is played; InfrastructureError where too many episodes of a step failed.
    """
    if config.recipe != "grpo":
        raise ConfigError(f"this is a recipe for {config.recipe}", hint=f"run envloop train {config.recipe}")
    if service is None and config.rollout.url is None and config.rollout.engine in SCRIPTED_ENGINES:
        raise ConfigError(f"the engine {config.rollout.engine} learns nothing", hint="set rollout.engine = 'vllm'")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("GRPO runs in one training process", hint="start it without accelerate launch or torchrun")
    if (service is None) != (loop is None):
        raise ConfigError("give both service and loop, or neither", hint="a service lives on the loop that opened it")
    guard = SplitGuard(config.data.allow_eval_split, splits)
    guard.check_sources(config.data.sources)
    checkpoint = open_run_folder(config)
    console = console or Console(stderr=True)
    with ExitStack() as stack:
        if service is None or loop is None:
            loop = stack.enter_context(LoopThread())
            opened = loop.run(open_rollouts(config))
            stack.callback(_close, loop, opened)
            service = opened
            guard = SplitGuard(config.data.allow_eval_split, (*splits, *loop.run(opened.splits())))
            guard.check_sources(config.data.sources)
        loaded = load_model(config.model, config.lora, seed=config.run.seed)
        state = read_state(checkpoint) if checkpoint is not None else None
        restored = state["policy"] if state is not None else None
        run = _Run(
            config,
            loaded,
            service,
            loop,
            guard=guard,
            console=console,
            on_batch=on_batch,
            on_policy=on_policy,
            restored=restored,
        )
        if state is not None:
            run.record.restore(config.run.output_dir / RUN_RECORD)
        after = state["step"] if state is not None else 0
        sinks = open_sinks(config, console, steps=config.grpo.steps, after_step=after)
        for sink in sinks:
            stack.callback(sink.close)
        run.sinks = sinks
        stack.enter_context(experimental_silenced())
        trainer = _trainer(config, loaded, run, loss_observer)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint is not None else None)
        run.result.steps = trainer.state.global_step
        run.save_record()
    return run.result


def _close(loop: LoopThread, opened: OpenedRollouts) -> None:
    loop.run(opened.close())


class _Run:
    """The state that the bridge and the callback share during a run."""

    def __init__(
        self,
        config: TrainConfig,
        loaded: LoadedModel,
        service: RolloutService,
        loop: LoopThread,
        *,
        guard: SplitGuard,
        console: Console,
        on_batch: Callable[[RolloutBatch], None],
        on_policy: Callable[[PolicyVersion], None],
        restored: str | None,
    ) -> None:
        self.config = config
        self.record = TrainingRecord(config)
        self.result = GrpoResult(config.run.output_dir)
        self.sinks: list[MetricSink] = []
        self.published_step = 0
        self.batch_metrics: Mapping[str, float] = {}
        self._loaded = loaded
        self._console = console
        self._on_batch = on_batch
        self._on_policy = on_policy
        self._shown = False
        self._restored = restored
        self.publisher = PolicyPublisher(
            service,
            loop,
            folder=config.run.output_dir / "policies",
            prefix=config.run.policy_prefix,
            keep=config.run.keep_policies,
            record=self.record,
        )
        self.bridge = RolloutBridge(
            service,
            loop,
            sampler=TaskSampler(config.data.sources, seed=config.run.seed),
            template=rollout_template(config),
            dummy_id=loaded.tokenizer.end_of_turn_id,
            max_dead_fraction=config.rollout.max_dead_fraction,
            keep_mixed=keeps_mixed(config),
            check_task=guard.check_task,
            on_batch=self.saw,
        )

    def saw(self, batch: RolloutBatch) -> None:
        """Note a batch before it is trained on."""
        self.record.see((g.task for g in batch.groups), episodes=len(batch.rows))
        self.save_record()
        self.batch_metrics = batch.metrics
        if not self._shown and "console" in self.config.run.report_to:
            self._shown = True
            row = next((r for r in batch.rows if r.trained), batch.rows[0])
            self._console.print("First episode; trained tokens are green:")
            self._console.print(
                example_text(row.prompt_ids, row.completion_ids, row.mask, self._loaded.tokenizer), highlight=False
            )
        self._on_batch(batch)

    def publish(self, model: Any, step: int) -> None:
        """Swap the model's adapter into the engine; the next batch samples from it."""
        version = self.publisher.publish(model, step=step)
        self.bridge.policy = version.name
        self.published_step = step
        self.result.policies.append(version.name)
        self._on_policy(version)

    def begin(self, model: Any, step: int) -> None:
        """Before the first batch: bring the engine to weights that are not the base model's."""
        if self._restored is not None:
            self.bridge.policy = self.publisher.restore(model, self._restored, step=step).name
            self.published_step = step
        elif self.config.lora.init_adapter is not None:
            self.publish(model, step)

    def save_record(self) -> None:
        """Write ``run.json``."""
        self.record.save(self.config.run.output_dir / RUN_RECORD, policies=self.publisher.number)


def _trainer(
    config: TrainConfig, loaded: LoadedModel, run: _Run, loss_observer: LossObserver | None
) -> OutsideEngineTrainer:
    arguments = trl_arguments(config, device=loaded.device)
    rows = config.grpo.steps * config.rollout.groups_per_step  # one epoch holds the whole run
    trainer = OutsideEngineTrainer(
        model=loaded.model,
        args=arguments,
        reward_funcs=training_reward,
        rollout_func=run.bridge,
        train_dataset=Dataset.from_dict({"prompt": [prompt_of(i) for i in range(rows)]}),
        processing_class=loaded.tokenizer.hf,
        peft_config=loaded.peft_config,
        callbacks=[_GrpoCallback(run)],
        loss_observer=loss_observer,
    )
    for chatty in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(chatty)
    if config.lora.qlora:
        adapter_in_float32(trainer.model)
    if config.grpo.importance_sampling != "off":
        attach_engine(trainer, sync=lambda: _check_in_step(run, trainer.state.global_step))
    return trainer


def _check_in_step(run: _Run, step: int) -> None:
    if run.published_step != step:
        raise RuntimeError(f"step {step} is about to sample from the policy of step {run.published_step}")


class _GrpoCallback(TrainerCallback):
    """Publishes after each optimizer step, and at the start where the adapter is not new; reports metrics."""

    def __init__(self, run: _Run) -> None:
        self._run = run

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._run.begin(kwargs["model"], state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._run.publish(kwargs["model"], state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        write_state(folder, self._run.config, step=state.global_step, policy=self._run.bridge.policy)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:  # TRL's closing summary has no step of its own
            return
        metrics = finite_numbers({**logs, **self._run.batch_metrics})
        self._run.result.metrics.append(metrics)
        for sink in self._run.sinks:
            sink.write(state.global_step, metrics)
        stop_if_asked(self._run.sinks, control)
