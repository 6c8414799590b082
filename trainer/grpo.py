"""GRPO over a rollout service: TRL's GRPOTrainer, PEFT's LoRA, a new policy version after every optimizer step.

One step: the bridge plays ``groups_per_step`` groups at the current policy version, TRL scores and updates the adapter,
the publisher saves it and swaps it into the engine.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from datasets import Dataset
from rich.console import Console
from transformers import PrinterCallback, ProgressCallback
from trl import GRPOConfig

from envs.errors import ConfigError
from envs.types import Split
from rollout_server.service import RolloutService
from rollout_server.types import PolicyVersion
from trainer.checkpoint import open_run_folder, read_state
from trainer.config import TrainConfig
from trainer.grpo_run import GrpoResult, GrpoRun, keeps_mixed, rollout_template
from trainer.held_out import open_held_out
from trainer.loops import LoopThread
from trainer.models import LoadedModel, liger_arguments, load_model, weights_dtype
from trainer.monitors import open_sinks
from trainer.rollouts import RolloutBatch, prompt_of, training_reward
from trainer.samples import EpisodeSamples
from trainer.services import UNTRAINED_ENGINES, OpenedRollouts, open_rollouts
from trainer.splits import SplitGuard
from trainer.status import run_status
from trainer.trl_seams import (
    LossObserver,
    OutsideEngineTrainer,
    adapter_in_float32,
    attach_engine,
    experimental_silenced,
    reference_is_base,
)

__all__ = ["GrpoResult", "keeps_mixed", "rollout_template", "train_grpo", "trl_arguments"]


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
    recipe: str = "grpo",
    make_trainer: Callable[..., OutsideEngineTrainer] = OutsideEngineTrainer,
) -> GrpoResult:
    """Run the recipe to its last step.

    Args:
        config: a recipe with ``recipe = "grpo"``, or what ``recipe`` names.
        service: the rollouts; None opens what the recipe names. A service must have been opened on ``loop``.
        loop: the event loop of ``service``.
        splits: what the environment service says of its splits, for the guard.
        on_batch: sees every batch of episodes as it is handed to TRL.
        on_policy: told of every version once the engine samples from it.
        loss_observer: sees every micro-batch as it enters the loss.
        recipe: the kind of recipe that ``make_trainer`` is for.
        make_trainer: makes the trainer of what ``OutsideEngineTrainer`` takes; PPO gives one with a critic.

    Raises: ConfigError before anything is played; InfrastructureError where too many episodes of a step failed.
    """
    if config.recipe != recipe:
        raise ConfigError(f"this is a recipe for {config.recipe}", hint=f"run envloop train {config.recipe}")
    if service is None and config.rollout.url is None and config.rollout.engine in UNTRAINED_ENGINES:
        raise ConfigError(f"the engine {config.rollout.engine} learns nothing", hint="set rollout.engine = 'vllm'")
    if (service is None) != (loop is None):
        raise ConfigError("give both service and loop, or neither", hint="a service lives on the loop that opened it")
    guard = SplitGuard(config.data.allow_eval_split, splits)
    guard.check_sources(config.data.sources)
    checkpoint = open_run_folder(config)
    console = console or Console(stderr=True)
    with ExitStack() as stack:
        stack.enter_context(run_status(config.run.output_dir))
        if service is None or loop is None:
            loop = stack.enter_context(LoopThread())
            opened = loop.run(open_rollouts(config))
            stack.callback(_close, loop, opened)
            service = opened
            guard = SplitGuard(config.data.allow_eval_split, (*splits, *loop.run(opened.splits())))
            guard.check_sources(config.data.sources)
        loaded = load_model(config.model, config.lora, seed=config.run.seed)
        run = GrpoRun(
            config,
            loaded,
            service,
            loop,
            guard=guard,
            console=console,
            on_batch=on_batch,
            on_policy=on_policy,
            checkpoint=checkpoint,
        )
        after = read_state(checkpoint)["step"] if checkpoint is not None else 0
        sinks = open_sinks(config, console, steps=config.grpo.steps, after_step=after)
        for sink in sinks:
            stack.callback(sink.close)
        run.sinks = sinks
        run.samples = EpisodeSamples(config, sinks)
        stack.enter_context(experimental_silenced())
        run.held_out = open_held_out(
            config, service, loop, run.policy_at, run.record, console=console, checkpoint=checkpoint
        )
        trainer = _trainer(config, loaded, run, loss_observer, make_trainer)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint is not None else None)
        run.result.steps = trainer.state.global_step
        run.save_record()
    return run.result


def _close(loop: LoopThread, opened: OpenedRollouts) -> None:
    loop.run(opened.close())


def _trainer(
    config: TrainConfig,
    loaded: LoadedModel,
    run: GrpoRun,
    loss_observer: LossObserver | None,
    make_trainer: Callable[..., OutsideEngineTrainer],
) -> OutsideEngineTrainer:
    arguments = trl_arguments(config, device=loaded.device)
    rows = config.grpo.steps * config.rollout.groups_per_step  # one epoch holds the whole run
    trainer = make_trainer(
        model=loaded.model,
        args=arguments,
        reward_funcs=training_reward,
        rollout_func=run.bridge,
        train_dataset=Dataset.from_dict({"prompt": [prompt_of(i) for i in range(rows)]}),
        processing_class=loaded.tokenizer.hf,
        peft_config=loaded.peft_config,
        callbacks=[run.callback(), *run.held_out],  # an evaluation is no part of the step that it follows
        loss_observer=loss_observer,
        complete=run.complete,
        keep_checkpoints=config.run.keep_checkpoints,
        clock=run.clock,
    )
    run.trainer = trainer
    for chatty in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(chatty)
    if config.lora.qlora:
        adapter_in_float32(trainer.model)
    if config.grpo.reference == "base":
        reference_is_base(trainer)
    if config.grpo.importance_sampling != "off":
        attach_engine(trainer, sync=lambda: run.check_in_step(trainer.state.global_step))
    return trainer
