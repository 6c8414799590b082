"""The learning proof on DB Bench: a small model from scratch learns the basic level on a CPU, by SFT and then by GRPO.

    python benchmarks/learning_dbbench.py [--json] [--quick] [--seed N] [--out FOLDER]

A Qwen3 of 5 million weights with a tokenizer of its own, made of what a few hundred episodes say. SFT on the expert's
episodes, stopped early; then GRPO with the benchmark's own reward of 0 or 1. Everything is the product's: the recipes
``envloop train sft`` and ``grpo``, the agent loop, the ``transformers`` engine, a private MariaDB or MySQL, in training
and in the evaluation. Both models play the same 500 tasks of ``generated_basic_eval``, which neither was trained on:
greedily (the bar: 10 points more by GRPO), and sampled at temperature 1, as GRPO plays.

One core: start it with OMP_NUM_THREADS=1, under ``taskset`` where others need the machine. ``curve`` is the sampled
success on new training tasks, the mean of ten steps of GRPO.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import fmean
from typing import Any

from _figures import Figure, at_least, at_most, run, value
from rich.console import Console

from rollout_server.episode_store import EpisodeStore
from rollout_server.types import SamplingParams, TaskRef
from trainer.config import TrainConfig, parse_config
from trainer.evaluate import EvalReport, evaluate
from trainer.grpo import train_grpo
from trainer.loops import LoopThread
from trainer.services import open_rollouts
from trainer.sft import collect_expert_episodes, train_sft
from trainer.small_model import ModelShape, save_small_model, word_tokenizer

TRAIN, HELD_OUT = "generated_basic", "generated_basic_eval"
SHAPE = ModelShape(hidden=384, intermediate=1280, layers=3, heads=6)
CONTEXT = 384  # tokens of the longest episode
TURN = 80  # tokens of the longest turn
GROUP, GROUPS = 8, 8
POINTS, MINUTES = 10, 60
WORDS = 300  # episodes whose words are the vocabulary


def recipe(kind: str, model: Path, folder: Path, arguments: argparse.Namespace, **more: Any) -> TrainConfig:
    """A recipe of the product, in the sizes of this benchmark."""
    tree: dict[str, Any] = {
        "recipe": kind,
        "model": {"name": str(model), "dtype": "float32", "device": "cpu", "gradient_checkpointing": False},
        "data": {"sources": [{"env": "dbbench", "split": TRAIN, **more.pop("seeds", {})}]},
        "rollout": {
            "engine": "transformers",
            "engine_options": {"max_batch": GROUP * GROUPS, "merge_adapters": True},
            "protocol": "bare",
            "max_tokens": TURN,
            "max_episode_tokens": CONTEXT,
            "group_size": GROUP,
            "groups_per_step": GROUPS,
            "concurrency": GROUP * GROUPS,
        },
        "run": {
            "output_dir": str(folder),
            "seed": arguments.seed,
            "save_every": 1_000_000,
            "report_to": ["jsonl"],
        },
    }
    return parse_config({**tree, **more})


def first_words(folder: Path, arguments: argparse.Namespace) -> Path:
    """A model with random weights, whose vocabulary is what the expert and the database say in some episodes."""
    config = recipe("sft", folder / "none", folder / "words", arguments, seeds={"seed_start": 900_000})
    with LoopThread() as loop:
        service = loop.run(open_rollouts(config, engine="repair", with_model=False))
        try:
            config = config.model_copy(update={"sft": config.sft.model_copy(update={"max_length": 32_768})})
            loop.run(collect_expert_episodes(config, service, count=WORDS if not arguments.quick else 60))
        finally:
            loop.run(service.close())
    with EpisodeStore(f"sqlite:///{folder / 'words' / 'episodes.db'}") as store:
        episodes = sorted(store.iter_episodes(env="dbbench"), key=lambda episode: episode.task.id)
    texts = [text for e in episodes for text in (*(m.content for m in e.prompt), *words_of(e.turns))]
    return save_small_model(folder / "model", word_tokenizer(texts), shape=SHAPE, seed=arguments.seed)


def words_of(turns: Any) -> Iterator[str]:
    for turn in turns:
        yield turn.text
        yield turn.reply


def warm_up(model: Path, folder: Path, arguments: argparse.Namespace) -> Path:
    """SFT of all weights on the expert's episodes, each seen once."""
    sft = {
        "collect": arguments.episodes,
        "learning_rate": 1e-3,
        "epochs": 1.0,
        "effective_batch": 16,
        "micro_batch": 16,
        "max_length": 1024,
        "max_grad_norm": 1.0,
    }
    config = recipe("sft", model, folder / "sft", arguments, seeds={"seed_stop": 500_000}, sft=sft, lora={"full": True})
    return train_sft(config, console=Console(stderr=True)).adapter


def improve(model: Path, folder: Path, arguments: argparse.Namespace) -> tuple[Path, list[dict[str, float]]]:
    """GRPO from there on tasks of other seeds. Its adapter, and the metrics of its steps."""
    grpo = {
        "steps": arguments.steps,
        "learning_rate": arguments.learning_rate,
        "beta": 0.0,
        "micro_batch": GROUP * GROUPS,
        "max_grad_norm": 1.0,
    }
    config = recipe(
        "grpo", model, folder / "grpo", arguments, seeds={"seed_start": 500_000, "seed_stop": 900_000}, grpo=grpo
    )
    result = train_grpo(config, console=Console(stderr=True))
    return folder / "grpo" / "policies" / result.policies[-1], result.metrics


def play(model: Path, adapter: Path | None, folder: Path, arguments: argparse.Namespace) -> dict[str, EvalReport]:
    """The held-out tasks, greedily and sampled."""
    config = recipe("grpo", model, folder / "play", arguments)
    tasks = [TaskRef("dbbench", task_id=f"{HELD_OUT}/{index}") for index in range(arguments.held_out)]
    reports = {}
    with LoopThread() as loop, ExitStack() as stack:
        service = loop.run(open_rollouts(config))
        stack.callback(lambda: loop.run(service.close()))
        if adapter is not None:
            loop.run(service.publish_policy("trained", adapter.resolve()))
        for name, temperature in (("greedy", 0.0), ("sampled", 1.0)):
            playing = evaluate(
                service,
                "dbbench",
                HELD_OUT,
                tasks=tasks,
                sampling=SamplingParams(temperature=temperature, max_tokens=TURN),
                protocol="bare",
                max_episode_tokens=CONTEXT,
                seed=arguments.seed,
            )
            reports[name] = loop.run(playing)
    return reports


def told(stage: str, reports: dict[str, EvalReport]) -> Iterator[Figure]:
    for name, report in reports.items():
        overall, lead = report.overall, f"learning.dbbench.{stage}.{name}"
        yield value(f"{lead}.success", 100 * overall.success, "%")
        yield value(f"{lead}.low", 100 * overall.low, "%")
        yield value(f"{lead}.high", 100 * overall.high, "%")
    for score in reports["greedy"].types:
        yield value(f"learning.dbbench.{stage}.greedy.{score.type}", 100 * score.success, "%")


def measure(arguments: argparse.Namespace) -> Iterator[Figure]:
    import torch

    torch.set_num_threads(1)
    if arguments.quick:
        arguments.episodes, arguments.steps, arguments.held_out = 96, 2, 20
    with ExitStack() as stack:
        folder = arguments.out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="envloop-learning-")))
        folder.mkdir(parents=True, exist_ok=True)
        began, stages = time.perf_counter(), {}
        model = first_words(folder, arguments)
        if not (arguments.again and (folder / "sft" / "adapter").exists()):
            shutil.rmtree(folder / "sft", ignore_errors=True)
            warm_up(model, folder, arguments)
        taught = folder / "sft" / "adapter"
        stages["sft"] = time.perf_counter() - began
        before = play(taught, None, folder, arguments)
        yield value("learning.dbbench.weights", weights(taught), "1")
        yield value("learning.dbbench.seed", arguments.seed, "1")
        yield value("learning.dbbench.sft.episodes", arguments.episodes, "episodes")
        yield value("learning.dbbench.sft.minutes", stages["sft"] / 60, "min")
        yield from told("sft", before)
        shutil.rmtree(folder / "grpo", ignore_errors=True)
        middle = time.perf_counter()
        adapter, metrics = improve(taught, folder, arguments)
        yield value("learning.dbbench.grpo.steps", arguments.steps, "1")
        yield value("learning.dbbench.grpo.episodes", arguments.steps * GROUP * GROUPS, "episodes")
        yield value("learning.dbbench.grpo.minutes", (time.perf_counter() - middle) / 60, "min")
        for first in range(0, len(metrics), 10):
            part = metrics[first : first + 10]
            mean = 100 * fmean(step["rollout/success"] for step in part)
            yield value(f"learning.dbbench.grpo.curve.{first + len(part):03}", mean, "%")
        after = play(taught, adapter, folder, arguments)
        yield from told("grpo", after)
        minutes = (time.perf_counter() - began) / 60
        (folder / "curve.json").write_text(json.dumps(metrics), encoding="utf-8")
    for name in ("sampled", "greedy"):
        gain = 100 * (after[name].overall.success - before[name].overall.success)
        lead = f"learning.dbbench.{name}"
        apart = after[name].overall.low > before[name].overall.high
        yield value(f"{lead}.intervals_apart", float(apart), "1")
        yield (
            value(f"{lead}.gain", gain, "points")
            if arguments.quick or name == "sampled"
            else at_least(f"{lead}.gain", gain, "points", POINTS)
        )
    yield at_most("learning.dbbench.minutes", minutes, "min", MINUTES)


def weights(folder: Path) -> int:
    """How many the model has."""
    from transformers import AutoModelForCausalLM

    return int(AutoModelForCausalLM.from_pretrained(folder).num_parameters())


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, help="of the weights, the tasks and the sampling")
    parser.add_argument("--episodes", type=int, default=4000, help="of SFT")
    parser.add_argument("--steps", type=int, default=80, help="of GRPO")
    parser.add_argument("--learning-rate", type=float, default=3e-4, help="of GRPO")
    parser.add_argument("--held-out", type=int, default=500, help="tasks of the evaluation")
    parser.add_argument("--out", type=Path, help="keeps the models and the episodes in this folder")
    parser.add_argument("--again", action="store_true", help="go on from the SFT that is in --out already")


if __name__ == "__main__":
    print(f"{Path(__file__).stem}: the whole of it takes up to an hour of one core", file=sys.stderr)
    run(__doc__ or "", measure, options=options)
