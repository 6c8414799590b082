"""Supervised fine-tuning on scripted episodes, GRPO in the loop, and what each of the two wins of held-out tasks; of a
model that is there, or of one that is made first, with a vocabulary and no weights but random ones. Every part is the
product's own; here is only their order.

A stage that has ended is not run again in the same ``--folder``; its figures, its time too, are kept there.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from _figures import Figure, at_least, at_most, value

from rollout_server.types import Episode, RolloutRequest, SamplingParams, TaskRef
from trainer.config import TrainConfig, apply_overrides, parse_config
from trainer.evaluate import evaluate
from trainer.services import open_rollouts, split_tasks, task_refs
from trainer.small_model import ModelShape, save_small_model, word_tokenizer

__all__ = ["Course", "last_policy", "learn", "once", "prepare", "score_policy", "weights"]


@dataclass(frozen=True, kw_only=True)
class Course:
    """What is learnt, how, and how it is tested. ``recipe``, ``sft`` and ``grpo`` are settings by dotted name.

    ``bar``: points of success that GRPO must win over SFT, greedily and sampled. ``apart``: whether the 95 % intervals
    of the two must not meet either.
    """

    name: str
    env: str
    eval_split: str
    expert: str
    recipe: Mapping[str, Any]
    sft: Mapping[str, Any]
    grpo: Mapping[str, Any]
    bar: float
    apart: bool = True
    model: str | None = None
    """A model to begin with; None makes one."""
    seed: int = 0
    words_from: int = 400
    eval_tasks: int = 500
    max_minutes: float = 60.0
    shape: ModelShape = field(default_factory=ModelShape)

    def config(self, recipe: str, folder: Path, **settings: Any) -> TrainConfig:
        """A recipe of this course."""
        common = {
            "recipe": recipe,
            "model.name": self.model or str(folder / "model"),
            "model.device": "cpu",
            "model.dtype": "float32",
            "model.gradient_checkpointing": False,
            "model.threads": 1,
            "rollout.engine": "transformers",
            "run.seed": self.seed,
            "run.report_to": ["jsonl"],
            "run.save_every": 10_000,
            **self.recipe,
        }
        return parse_config(apply_overrides({}, {**common, **settings}), where=f"the course {self.name}")


def weights(folder: Path) -> int:
    """How many weights the model in a folder has."""
    from transformers import AutoModelForCausalLM

    return sum(p.numel() for p in AutoModelForCausalLM.from_pretrained(folder).parameters())


def learn(course: Course, folder: Path) -> Iterator[Figure]:
    """Run a course, giving its figures as they come."""
    at = f"learning.{course.name}"
    yield value(f"{at}.seed", course.seed, "")
    spent = 0.0
    scores: dict[str, Any] = {}
    stages: list[tuple[str, Callable[[], dict[str, Any]]]] = [
        ("words", lambda: _words(course, folder))
        if course.model is None
        else ("base_eval", lambda: _test(course, folder, None)),
        ("sft", lambda: _sft(course, folder)),
        ("sft_eval", lambda: _test(course, folder, folder / "sft" / "adapter")),
        ("grpo", lambda: _grpo(course, folder)),
        ("grpo_eval", lambda: _test(course, folder, last_policy(folder / "grpo"))),
    ]
    for name, stage in stages:
        done = once(folder / f"{name}.json", stage)
        spent += done["cpu_s"]
        yield value(f"{at}.{name}.minutes_of_cpu", done["cpu_s"] / 60, "min")
        yield value(f"{at}.{name}.minutes", done["wall_s"] / 60, "min")
        for key, number in done.get("figures", {}).items():
            yield value(f"{at}.{name}.{key}", number, "")
        for step, number in done.get("curve", {}).items():
            yield value(f"{at}.{name}.{done['of']}.to_step_{int(step):03d}", number, "")
        scores[name] = done
    for kind in ("greedy", "sampled"):
        before, after = scores["sft_eval"]["figures"], scores["grpo_eval"]["figures"]
        gain = 100 * (after[kind] - before[kind])
        gap = 100 * (after[f"{kind}.low"] - before[f"{kind}.high"])
        yield at_least(f"{at}.gain.{kind}", gain, "points", course.bar)
        name = f"{at}.gap_between_intervals.{kind}"
        yield at_least(name, gap, "points", 0.0) if course.apart else value(name, gap, "points")
    yield at_most(f"{at}.minutes_of_cpu", spent / 60, "min", course.max_minutes)


def prepare(course: Course, folder: Path) -> None:
    """What comes before GRPO: the model and its SFT."""
    for name, stage in (("words", _words), ("sft", _sft)):
        once(folder / f"{name}.json", partial(stage, course, folder))


def once(file: Path, stage: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run a stage, or give what it answered when it was run; ``wall_s`` and ``cpu_s`` are added."""
    if file.exists():
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found
    wall, cpu = time.perf_counter(), time.process_time()
    done = stage()
    done |= {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    file.write_text(json.dumps(done), encoding="utf-8")
    return done


def _words(course: Course, folder: Path) -> dict[str, Any]:
    """A vocabulary from what the expert and the environment say, and a model with random weights."""
    config = course.config("sft", folder, **{"run.output_dir": folder / "words"})
    (folder / "words").mkdir(parents=True, exist_ok=True)
    source = config.data.sources[0]
    tasks = tuple(
        # Seeds that neither training nor, being of another split, evaluation draws from.
        TaskRef(course.env, split=source.split, sample_seed=source.seed_stop + number)
        for number in range(course.words_from)
    )

    async def play() -> list[Episode]:
        service = await open_rollouts(config, engine=course.expert, with_model=False)
        try:
            request = RolloutRequest(tasks=tasks, protocol=config.rollout.protocol, max_episode_tokens=100_000)
            return [e for group in await service.rollouts(request) for e in group.episodes]
        finally:
            await service.close()

    tokenizer = word_tokenizer(text for episode in asyncio.run(play()) for text in _texts(episode))
    save_small_model(folder / "model", tokenizer, shape=course.shape, seed=course.seed, copies=True)
    return {"figures": {"vocabulary": len(tokenizer), "weights": weights(folder / "model")}}


def _texts(episode: Episode) -> Iterator[str]:
    yield from (message.content for message in episode.prompt)
    for turn in episode.turns:
        yield from (turn.text, turn.reply)


def _sft(course: Course, folder: Path) -> dict[str, Any]:
    from trainer.sft import train_sft

    full = course.model is None  # random weights have nothing to add an adapter to
    settings = {"run.output_dir": folder / "sft", "lora.full": full, "sft.expert": course.expert, **course.sft}
    result = train_sft(course.config("sft", folder, **settings))
    curve = _curve([m["loss"] for m in result.metrics], every=50)
    return {"figures": {"episodes": result.episodes, "steps": result.steps}, "of": "loss", "curve": curve}


def _grpo(course: Course, folder: Path) -> dict[str, Any]:
    from trainer.grpo import train_grpo

    begun = {"model.name" if course.model is None else "lora.init_adapter": str(folder / "sft" / "adapter")}
    settings = {"run.output_dir": folder / "grpo", **begun, **course.grpo}
    result = train_grpo(course.config("grpo", folder, **settings))
    last = {k: result.metrics[-1][k] for k in ("entropy", "mismatch/logp_max") if k in result.metrics[-1]}
    curve = _curve([m["rollout/success"] for m in result.metrics], every=10)
    return {"figures": {"steps": result.steps, **last}, "of": "success", "curve": curve}


def last_policy(run: Path) -> Path:
    """The newest adapter of a GRPO run."""
    return max((run / "policies").glob("*-v*"), key=lambda p: int(p.name.rpartition("-v")[2]))


async def score_policy(course: Course, folder: Path, trained: Path | None) -> dict[str, float]:
    """Greedy and sampled success on the held-out tasks, with 95 % intervals (Wilson).

    ``trained``: a model or an adapter; None plays the model that the course began with.
    """
    (folder / "eval").mkdir(exist_ok=True)
    adapter = trained if trained is not None and (trained / "adapter_config.json").exists() else None
    own = folder / "sft" / "adapter" if course.model is None else None
    named = {} if own is None else {"model.name": str(own)}
    config = course.config("sft", folder, **{"run.output_dir": folder / "eval", **named})
    service = await open_rollouts(config)
    figures: dict[str, float] = {}
    try:
        assert service.env is not None
        tasks = task_refs(await split_tasks(service.env, course.env, course.eval_split, limit=course.eval_tasks))
        policy = "base" if adapter is None else (await service.publish_policy("tested", adapter.resolve())).name
        for kind, temperature in (("greedy", 0.0), ("sampled", 1.0)):
            report = await evaluate(
                service,
                course.env,
                course.eval_split,
                tasks=tasks,
                sampling=SamplingParams(temperature=temperature, max_tokens=config.rollout.max_tokens),
                protocol=config.rollout.protocol,
                policy=policy,
                max_turns=config.rollout.max_turns,
                max_episode_tokens=config.rollout.max_episode_tokens,
                seed=course.seed,
            )
            score = report.overall
            figures |= {kind: score.success, f"{kind}.low": score.low, f"{kind}.high": score.high}
            figures |= {f"{kind}.tasks": float(score.episodes), f"{kind}.turns": report.turns}
    finally:
        await service.close()
    return figures


def _test(course: Course, folder: Path, trained: Path | None) -> dict[str, Any]:
    return {"figures": asyncio.run(score_policy(course, folder, trained))}


def _curve(values: Sequence[float], *, every: int) -> dict[str, float]:
    """Means of so many steps, by the last step of each."""
    chunks = [values[start : start + every] for start in range(0, len(values), every)]
    return {str(min((n + 1) * every, len(values))): fmean(chunk) for n, chunk in enumerate(chunks)}
