"""Evaluation in the loop of a training run: held-out tasks are played every so many steps; the best policy is kept.

The callback's state is part of every checkpoint, tasks and seeds are the same each time, and the trainer's random
states are left as they were: a run that is killed and resumed makes the evaluations, and the losses, that it would have
made. Episodes are stored under ``RUN-eval`` with ``purpose`` evaluation and ``held_out``; nothing is learnt from them.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

from rich.console import Console
from transformers import TrainerCallback

from envs.errors import ConfigError, InfrastructureError
from envs.types import Task
from rollout_server.service import RolloutService
from rollout_server.types import Episode, RolloutRequest, SamplingParams
from trainer.config import TrainConfig
from trainer.evaluate import wilson_interval
from trainer.held_out_tasks import list_evaluation_tasks
from trainer.loops import LoopThread
from trainer.lora import save_adapter
from trainer.record import ADAPTER_RECORD, TrainingRecord, write_json
from trainer.services import open_rollouts, task_refs

__all__ = [
    "BEST_FOLDER",
    "HELD_OUT_STATE",
    "FullModelPlayer",
    "HeldOutCallback",
    "HeldOutPlayer",
    "HeldOutState",
    "PublishedPlayer",
    "held_out_metrics",
    "held_out_request",
    "open_held_out",
]

HELD_OUT_STATE = "held_out.json"
BEST_FOLDER = "best"


@dataclass(slots=True)
class HeldOutState:
    """What evaluations have found. ``since_best``: how many there were since the best, which was at ``best_step``."""

    best: float | None = None
    best_step: int = 0
    since_best: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    def note(self, step: int, success: float, *, min_delta: float, **more: float) -> bool:
        """Take in an evaluation and say whether it is the best so far (the first one is)."""
        self.history.append({"step": float(step), "success": success, **more})
        if self.best is None or success > self.best + min_delta:
            self.best, self.best_step, self.since_best = success, step, 0
            return True
        self.since_best += 1
        return False

    def to_json(self) -> dict[str, Any]:
        """Its fields, by name."""
        return {
            "best": self.best,
            "best_step": self.best_step,
            "since_best": self.since_best,
            "history": self.history,
        }


class HeldOutPlayer(Protocol):
    """Plays the held-out tasks with the weights as they are now."""

    def play(self, model: Any, step: int) -> Sequence[Episode]:
        """One episode a task, in the order of the tasks."""
        ...


def held_out_request(config: TrainConfig, tasks: Sequence[Task], *, step: int, policy: str | None) -> RolloutRequest:
    """The request of an evaluation: the same at every step but for ``step`` and the policy."""
    r = config.rollout
    return RolloutRequest(
        tasks=tuple(task_refs(tasks)),
        sampling=SamplingParams(temperature=config.eval.temperature, max_tokens=r.max_tokens),
        protocol=r.protocol,
        policy=policy,
        max_turns=r.max_turns,
        max_episode_tokens=config.eval.max_episode_tokens or r.max_episode_tokens,
        options=r.env_options,
        seed=config.run.seed,
        metadata={
            "run": f"{config.run.policy_prefix}-eval",
            "purpose": "evaluation",
            "held_out": True,
            "step": step,
        },
        refill=r.refill,
    )


class PublishedPlayer:
    """Plays on a rollout service, after ``publish`` has made the trainer's weights a policy version of it."""

    def __init__(
        self,
        config: TrainConfig,
        tasks: Sequence[Task],
        service: RolloutService,
        loop: LoopThread,
        publish: Callable[[Any, int], str],
    ) -> None:
        self._config = config
        self._tasks = tuple(tasks)
        self._service = service
        self._loop = loop
        self._publish = publish

    def play(self, model: Any, step: int) -> Sequence[Episode]:
        """See ``HeldOutPlayer.play``."""
        policy = self._publish(model, step)
        request = held_out_request(self._config, self._tasks, step=step, policy=policy)
        return [e for g in self._loop.run(self._service.rollouts(request)) for e in g.episodes]


class FullModelPlayer:
    """Plays with whole weights, which no engine swaps: the model is saved and a transformers engine opened on it.

    Raises ConfigError for a recipe with another engine.
    """

    def __init__(self, config: TrainConfig, tasks: Sequence[Task], tokenizer: Any, loop: LoopThread) -> None:
        if config.rollout.engine != "transformers" or config.rollout.url is not None:
            raise ConfigError(
                "lora.full trains whole weights, and engines swap adapters only: they cannot evaluate it in the loop",
                hint="set rollout.engine = 'transformers' (a new engine for each evaluation), train an adapter "
                "(lora.full = false), or set eval.every = 0 and run envloop eval afterwards",
            )
        self._config = config
        self._tasks = tuple(tasks)
        self._tokenizer = tokenizer
        self._loop = loop

    def play(self, model: Any, step: int) -> Sequence[Episode]:
        """See ``HeldOutPlayer.play``."""
        folder = self._config.run.output_dir.resolve() / ".held_out_model"
        model.save_pretrained(str(folder))
        self._tokenizer.save_pretrained(str(folder))
        update = {"model": self._config.model.model_copy(update={"name": str(folder), "revision": None})}
        try:
            return self._loop.run(self._play(self._config.model_copy(update=update), step))
        finally:
            shutil.rmtree(folder)

    async def _play(self, config: TrainConfig, step: int) -> Sequence[Episode]:
        service = await open_rollouts(config)
        try:
            groups = await service.rollouts(held_out_request(config, self._tasks, step=step, policy=None))
        finally:
            await service.close()
        return [e for g in groups for e in g.episodes]


def held_out_metrics(episodes: Sequence[Episode]) -> dict[str, float]:
    """``eval/*`` of episodes: success with Wilson's 95 % interval over all, and success by ``env/split``.

    Episodes without a result are counted (``eval/lost``) and in no mean. Raises InfrastructureError where all are lost.
    """
    scored = [e for e in episodes if e.status.scored]
    if not scored:
        first = next((e.error or e.status.value for e in episodes), "no task")
        raise InfrastructureError(
            f"none of the {len(episodes)} held-out episodes has a result, first: {first}",
            hint="mend the environment or rollout service and go on with --resume",
        )
    wins = sum(e.success for e in scored)
    low, high = wilson_interval(wins, len(scored))
    out = {
        "eval/success": wins / len(scored),
        "eval/low": low,
        "eval/high": high,
        "eval/episodes": float(len(scored)),
        "eval/lost": float(len(episodes) - len(scored)),
        "eval/turns": fmean(len(e.turns) for e in scored),
    }
    splits: dict[str, list[bool]] = {}
    for e in scored:
        splits.setdefault(f"{e.env}/{e.task.split}", []).append(e.success)
    for name, won in sorted(splits.items()):
        out[f"eval/{name}/success"] = fmean(won)
        if len(splits) > 1:
            out[f"eval/{name}/low"], out[f"eval/{name}/high"] = wilson_interval(sum(won), len(won))
    return out


class HeldOutCallback(TrainerCallback):
    """Evaluates every ``eval.every`` steps and after the last, keeps the best in ``best/``, and stops in time.

    Args:
        config: the recipe; ``eval`` and ``run`` are read.
        player: who plays the tasks.
        save: writes the model's weights of a step, with their record, to a folder that is not there yet.
        console: told of every evaluation where ``run.report_to`` names it.
        restored: the checkpoint that the run goes on from. Raises ConfigError where it is not this run's.

    ``state`` is what was found so far. ``stopped`` says that patience is at its end. ``take`` gives the metrics of an
    evaluation once, for the metrics of its step.
    """

    def __init__(
        self,
        config: TrainConfig,
        player: HeldOutPlayer,
        *,
        save: Callable[[Any, int, Path], object],
        console: Console | None = None,
        restored: Path | None = None,
    ) -> None:
        self._config = config
        self._player = player
        self._save = save
        self._console = console if "console" in config.run.report_to else None
        self._pending: dict[str, float] = {}
        self._folder = config.run.output_dir
        self.state = HeldOutState() if restored is None else self._restore(restored)

    @property
    def stopped(self) -> bool:
        """Whether ``eval.patience`` evaluations in a row were not better than the best."""
        return 0 < self._config.eval.patience <= self.state.since_best

    def take(self) -> dict[str, float]:
        """The metrics of the last evaluation that nobody took yet."""
        taken, self._pending = self._pending, {}
        return taken

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Evaluate where it is time to. The step's checkpoint, if there is one, is written afterwards."""
        step = state.global_step
        if step % self._config.eval.every and step < state.max_steps:
            return
        self.evaluate(kwargs["model"], step)
        if self.stopped:
            control.should_training_stop = True
            control.should_save = True
            self._say(f"stopped: {self._config.eval.patience} evaluations without a better one than at step ", end=True)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Put the state into the checkpoint; what an earlier best was kept for is over then."""
        self.write_state(Path(args.output_dir) / f"checkpoint-{state.global_step}")
        for old in self._folder.glob(".best-*"):
            shutil.rmtree(old)

    def write_state(self, checkpoint: Path) -> None:
        """Put the state into a checkpoint."""
        write_json(checkpoint / HELD_OUT_STATE, self.state.to_json())

    def evaluate(self, model: Any, step: int) -> dict[str, float]:
        """Play the held-out tasks now and take the result in. Raises InfrastructureError."""
        import torch

        training = model.training
        with torch.random.fork_rng(
            range(torch.cuda.device_count())
        ):  # an engine in this process may draw from the same generators
            episodes = self._player.play(model, step)
        model.train(training)
        metrics = held_out_metrics(episodes)
        lost = metrics["eval/lost"] / len(episodes)
        if lost > self._config.rollout.max_dead_fraction:
            raise InfrastructureError(
                f"{metrics['eval/lost']:.0f} of {len(episodes)} held-out episodes of step {step} were lost",
                hint="mend the environment or rollout service and go on with --resume",
            )
        bounds = {name: metrics[f"eval/{name}"] for name in ("low", "high", "episodes")}
        best = self.state.note(step, metrics["eval/success"], min_delta=self._config.eval.min_delta, **bounds)
        if best:
            self._keep(model, step)
        metrics["eval/best"] = self.state.best or 0.0
        self._pending = metrics
        self._say(
            f"step {step}: held-out success {metrics['eval/success']:.1%} ({metrics['eval/low']:.1%} … "
            f"{metrics['eval/high']:.1%}) of {metrics['eval/episodes']:.0f}; best at step "
        )
        return metrics

    def _say(self, text: str, *, end: bool = False) -> None:
        if self._console is not None:
            style = "yellow" if end else None
            self._console.print(f"{text}{self.state.best_step}", style=style, highlight=False)

    def _keep(self, model: Any, step: int) -> None:
        """Make ``best/`` this step's weights. The best before stays aside until a checkpoint knows of the new one."""
        best, new = self._folder / BEST_FOLDER, self._folder / ".best.new"
        shutil.rmtree(new, ignore_errors=True)
        self._save(model, step, new)
        if best.exists():
            aside = self._folder / f".best-{_saved_step(best)}"
            shutil.rmtree(aside, ignore_errors=True)
            best.rename(aside)
        new.rename(best)

    def _restore(self, checkpoint: Path) -> HeldOutState:
        """The state of a checkpoint; ``best/`` is made what it was then, where that is still there."""
        try:
            document = json.loads((checkpoint / HELD_OUT_STATE).read_text(encoding="utf-8"))
            state = HeldOutState(**document)
        except FileNotFoundError:
            return HeldOutState()  # eval.every was 0 until then
        except (ValueError, TypeError) as error:
            raise ConfigError(
                f"{checkpoint / HELD_OUT_STATE} cannot be read: {error}", hint="resume from another"
            ) from error
        best, aside = self._folder / BEST_FOLDER, self._folder / f".best-{state.best_step}"
        if state.best is not None and _saved_step(best) != state.best_step:
            if aside.is_dir():
                shutil.rmtree(best, ignore_errors=True)
                aside.rename(best)
            else:  # an older checkpoint than the newest: these weights are gone, the next evaluation is the best
                state.best, state.best_step, state.since_best = None, 0, 0
        return state


def _saved_step(folder: Path) -> int | None:
    """The step that a kept best is of; None where there is none."""
    try:
        step = json.loads((folder / ADAPTER_RECORD).read_text(encoding="utf-8"))["step"]
    except (OSError, ValueError, KeyError):
        return None
    return int(step) if re.fullmatch(r"\d+", str(step)) else None


def open_held_out(
    config: TrainConfig,
    service: RolloutService,
    loop: LoopThread,
    publish: Callable[[Any, int], str],
    record: TrainingRecord,
    *,
    console: Console | None = None,
    checkpoint: Path | None = None,
) -> list[HeldOutCallback]:
    """The callback of a run that trains an adapter; none where ``eval.every`` is 0.

    ``publish`` makes the model's adapter of a step a version of ``service`` and gives its name. ``record`` learns which
    tasks are played. Raises ConfigError for a source that cannot be held out.
    """
    if not config.eval.every:
        return []
    tasks = loop.run(list_evaluation_tasks(config)).played
    record.hold_out(tasks)

    def save(model: Any, step: int, folder: Path) -> None:
        save_adapter(model, folder, record, step=step)

    player = PublishedPlayer(config, tasks, service, loop, publish)
    return [HeldOutCallback(config, player, save=save, console=console, restored=checkpoint)]
