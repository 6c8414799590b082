"""What a GRPO run holds beside TRL's trainer: bridge, publisher, record, clock, and our part of a checkpoint."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from transformers import TrainerCallback

from rollout_server.service import RolloutService
from rollout_server.types import PolicyVersion, RewardWeights, RolloutRequest, SamplingParams
from trainer.advantages import ORACLE_TERMS, step_credit
from trainer.checkpoint import read_state, write_state
from trainer.config import TrainConfig
from trainer.diagnose.live import stop_if_asked
from trainer.held_out import HeldOutCallback
from trainer.loops import LoopThread
from trainer.lora import PolicyPublisher
from trainer.models import LoadedModel, template_line
from trainer.monitors import MetricSink, example_text, finite_numbers
from trainer.record import RUN_RECORD, TrainingRecord
from trainer.rollouts import RolloutBatch, RolloutBridge
from trainer.sampler import TaskSampler
from trainer.samples import EpisodeSamples
from trainer.splits import SplitGuard
from trainer.timing import StepClock

if TYPE_CHECKING:
    from trainer.trl_seams import OutsideEngineTrainer

__all__ = ["GrpoResult", "GrpoRun", "keeps_mixed", "rollout_template"]

logger = logging.getLogger(__name__)


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
            shaping=_shaping(config),
            shaping_gamma=r.reward_shaping_gamma,
        ),
        options=r.env_options,
        seed=config.run.seed,
        metadata={"run": config.run.policy_prefix, "purpose": config.recipe},
        refill=r.refill,
    )


def _shaping(config: TrainConfig) -> dict[str, dict[str, float]]:
    """The recipe's terms, and with weight 0 those that the oracle's credit reads: told, and in no reward."""
    terms = {env: dict(weights) for env, weights in config.rollout.reward_shaping.items()}
    if config.grpo.advantage == "oracle_potential":
        for env in {source.env for source in config.data.sources}:
            terms[env] = dict.fromkeys(ORACLE_TERMS[env], 0.0) | terms.get(env, {})
    return terms


def keeps_mixed(config: TrainConfig) -> bool:
    """Whether episodes of more than one policy version are trained on."""
    wanted = config.rollout.mixed_episodes
    return config.grpo.importance_sampling != "off" if wanted == "auto" else wanted == "keep"


class GrpoRun:
    """The state that the bridge and the callback share during a run.

    ``checkpoint``: where to go on; its state is taken over at once, its weights when training begins.
    """

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
        checkpoint: Path | None = None,
    ) -> None:
        self.config = config
        self.clock = StepClock()
        self.trainer: OutsideEngineTrainer | None = None
        self.record = TrainingRecord(config)
        self.result = GrpoResult(config.run.output_dir)
        self.sinks: list[MetricSink] = []
        self.samples = EpisodeSamples(config, ())
        self.held_out: list[HeldOutCallback] = []
        self.published_step = 0
        self.batch_metrics: Mapping[str, float] = {}
        self.times: Mapping[str, float] = {}
        self._loaded = loaded
        self._console = console
        self._on_batch = on_batch
        self._on_policy = on_policy
        self._shown = False
        self._checkpoint = checkpoint
        self.publisher = PolicyPublisher(
            service,
            loop,
            folder=config.run.output_dir / "policies",
            prefix=config.run.policy_prefix,
            keep=config.run.keep_policies,
            record=self.record,
        )
        template = rollout_template(config)
        self.bridge = RolloutBridge(
            service,
            loop,
            sampler=TaskSampler(config.data.sources, seed=config.run.seed, curriculum=config.curriculum),
            template=template,
            dummy_id=loaded.tokenizer.end_of_turn_id,
            max_dead_fraction=config.rollout.max_dead_fraction,
            keep_mixed=keeps_mixed(config),
            credit=step_credit(config.grpo, template.rewards),
            further_groups=config.grpo.further_groups if config.grpo.filter_groups else None,
            check_task=guard.check_task,
            on_batch=self.saw,
        )
        if checkpoint is not None:
            self.record.restore(checkpoint / RUN_RECORD)
            self.bridge.sampler.load_state_dict(read_state(checkpoint)["sampler"])

    def saw(self, batch: RolloutBatch) -> None:
        """Note a batch before it is trained on."""
        self.record.see((g.task for g in batch.groups), episodes=len(batch.rows))
        self.save_record()
        self.batch_metrics = batch.metrics
        self.samples(batch.episodes, step=self.published_step + 1)
        self.clock.add("rollout", batch.metrics["rollout/seconds"])
        self.clock.add("waited", batch.waited_s)
        if empty := int(batch.metrics["groups/empty"]):
            logger.warning(
                "%d of %d groups of this step have no signal, and %d further ones had too little: it goes on without",
                empty,
                len(batch.groups),
                int(batch.metrics["groups/refilled"]),
            )
        if not self._shown and "console" in self.config.run.report_to:
            self._shown = True
            row = next((r for r in batch.rows if r.trained), batch.rows[0])
            self._console.print(template_line(self._loaded.tokenizer), style="dim", highlight=False)
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

    def policy_at(self, model: Any, step: int) -> str:
        """The version with the weights of this step, published where it is not yet."""
        if self.published_step != step:
            with self.clock.measure("publish"):
                self.publish(model, step)
        return self.bridge.policy

    def begin(self, model: Any, step: int) -> None:
        """Before the first batch: bring the engine to weights that are not the base model's."""
        if self._checkpoint is not None:
            name = read_state(self._checkpoint)["policy"]
            self.bridge.policy = self.publisher.restore(model, name, step=step).name
            self.published_step = step
            if self.trainer is not None:
                self.trainer.restore_batch(self._checkpoint)
        elif self.config.lora.init_adapter is not None:
            self.publish(model, step)

    def callback(self) -> TrainerCallback:
        """What TRL's trainer is to be given of it."""
        return _GrpoCallback(self)

    def check_in_step(self, step: int) -> None:
        """Raise RuntimeError where the next batch would be sampled from other weights than the trainer's."""
        if self.published_step != step:
            raise RuntimeError(f"step {step} is about to sample from the policy of step {self.published_step}")

    def complete(self, checkpoint: Path, step: int) -> None:
        """Put what TRL does not know of into a step's checkpoint."""
        self.record.save(checkpoint / RUN_RECORD, policies=self.publisher.number)
        for callback in self.held_out:
            callback.write_state(checkpoint)
        state = self.bridge.sampler.state_dict()
        write_state(checkpoint, self.config, step=step, policy=self.bridge.policy, sampler=state)

    def figures(self) -> dict[str, float]:
        """What is known of the step beside TRL's metrics."""
        mismatch = self.trainer.figures if self.trainer is not None else {}
        played = {name: value for callback in self.held_out for name, value in callback.take().items()}
        return {**self.batch_metrics, **mismatch, **self.times, **played}

    def save_record(self) -> None:
        """Write ``run.json``."""
        self.record.save(self.config.run.output_dir / RUN_RECORD, policies=self.publisher.number)


class _GrpoCallback(TrainerCallback):
    """Publishes after each optimizer step, and at the start where the adapter is not new; reports metrics."""

    def __init__(self, run: GrpoRun) -> None:
        self._run = run
        self._optimizing = time.perf_counter()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._run.begin(kwargs["model"], state.global_step)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._run.clock.begin()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._optimizing = time.perf_counter()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._run.clock.add("optimizer", time.perf_counter() - self._optimizing)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._run.policy_at(kwargs["model"], state.global_step)
        self._run.times = self._run.clock.figures()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:  # TRL's closing summary has no step of its own
            return
        metrics = finite_numbers({**logs, **self._run.figures()})
        self._run.result.metrics.append(metrics)
        for sink in self._run.sinks:
            sink.write(state.global_step, metrics)
        stop_if_asked(self._run.sinks, control)
