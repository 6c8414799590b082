"""A small model learns DB Bench's basic level on one core of a CPU: GRPO must win 10 of 100 held-out tasks more than
the supervised fine-tuning that it began with.

    python benchmarks/learning_dbbench.py [--json] [--quick] [--seed N] [--folder DIR]

A Qwen3 model of 5 million random weights with a vocabulary of the environment's words learns from a few thousand
episodes of the expert, each seen once, and is stopped early; then it plays itself, for the benchmark's own reward of 0
or 1. Trained on ``generated_basic``, tested on 500 tasks of ``generated_basic_eval`` (other seeds), greedily and at
temperature 1. Every episode, in training and in the test, has a database of its own on a private MariaDB or MySQL.

Why these settings: docs/learning-dbbench.md.

``--folder`` keeps what was trained; a stage that has ended is not run again there. ``--quick`` runs every stage in
small, to show that it runs: it learns nothing.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from _figures import Figure, run
from _learning import Course, learn

from trainer.small_model import ModelShape

COURSE = Course(
    name="dbbench",
    env="dbbench",
    eval_split="generated_basic_eval",
    expert="expert",
    bar=10.0,
    apart=False,
    shape=ModelShape(hidden=448, intermediate=1536, layers=2, heads=7),
    recipe={
        "model.autocast": True,
        "data.sources": [{"env": "dbbench", "split": "generated_basic"}],
        "rollout.protocol": "bare",
        "rollout.max_turns": 4,
        "rollout.max_tokens": 80,
        "rollout.max_episode_tokens": 384,
        "rollout.concurrency": 64,
        "rollout.engine_options": {"max_batch": 64, "merge_adapters": True},
    },
    sft={
        "sft.collect": 1000,
        "sft.epochs": 1.0,
        "sft.learning_rate": 2e-3,
        "sft.effective_batch": 8,
        "sft.micro_batch": 8,
        "sft.max_length": 1024,
    },
    grpo={
        "lora.r": 32,
        "lora.alpha": 64,
        "grpo.steps": 180,
        "grpo.learning_rate": 6e-4,
        "grpo.schedule": "linear",
        "grpo.loss_type": "grpo",
        "grpo.beta": 0.0,
        "grpo.importance_sampling": "off",
        "grpo.filter_groups": True,  # a model that is sure of itself gives few groups a signal
        "grpo.further_groups": 8,
        "grpo.micro_batch": 16,
        "grpo.max_grad_norm": 1.0,
        "rollout.group_size": 8,
        "rollout.groups_per_step": 8,
    },
)


def measure(arguments: argparse.Namespace) -> Iterator[Figure]:
    course = replace(COURSE, seed=arguments.seed)
    if arguments.quick:
        course = replace(
            course,
            words_from=20,
            eval_tasks=8,
            bar=-100.0,
            shape=ModelShape(hidden=64, intermediate=128, layers=2, heads=2, head_width=32),
            sft={**course.sft, "sft.collect": 24, "sft.effective_batch": 8},
            grpo={**course.grpo, "grpo.steps": 2, "rollout.groups_per_step": 2, "grpo.further_groups": 2},
        )
    if arguments.folder is not None:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        yield from learn(course, arguments.folder)
        return
    with tempfile.TemporaryDirectory(prefix="envloop-learning-") as folder:
        yield from learn(course, Path(folder))


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=None, help="keeps what was trained")


if __name__ == "__main__":
    run(Path(__file__).stem + ": " + (__doc__ or ""), measure, options=options)
