"""A small model learns generated ALFWorld tasks on one core of a CPU: GRPO must win 15 of 100 held-out tasks more than
the supervised fine-tuning that it began with.

    python benchmarks/learning_alfworld.py [--json] [--quick] [--seed N] [--folder DIR]

A Qwen3 model of 5 million random weights with a vocabulary of the environment's words first learns from episodes that
the explorer has played, then plays itself. Trained on ``generated_easy`` (rooms of 4 to 8 receptacles, all six types of
tasks), tested on 500 tasks of ``generated_easy_eval`` (other floor plans, other seeds), greedily and at temperature 1.
docs/learning.md says what it found.

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
    name="alfworld",
    env="alfworld",
    eval_split="generated_easy_eval",
    expert="explorer",
    bar=15.0,
    shape=ModelShape(heads=6, key_value_heads=2),
    recipe={
        "model.autocast": True,
        "data.sources": [{"env": "alfworld", "split": "generated_easy"}],
        "rollout.protocol": "bare",
        "rollout.max_turns": 16,
        "rollout.max_tokens": 20,
        "rollout.max_episode_tokens": 1024,
        "rollout.concurrency": 64,
        "rollout.engine_options": {"max_batch": 64, "merge_adapters": True},
    },
    sft={
        "sft.collect": 3600,
        "sft.steps": 450,
        "sft.learning_rate": 1e-3,
        "sft.effective_batch": 8,
        "sft.micro_batch": 4,
        "sft.max_length": 1024,
    },
    grpo={
        "lora.r": 32,
        "lora.alpha": 64,
        "grpo.steps": 120,
        "grpo.learning_rate": 5e-4,
        "grpo.schedule": "linear",
        "grpo.advantage": "oracle_potential",  # of an episode of a dozen turns one reward says too little about each
        "grpo.step_baseline": "level",
        "grpo.step_invalid_cost": 0.1,  # well below what a step of the plan is worth
        "grpo.step_repeat_cost": 0.1,
        "grpo.loss_type": "grpo",  # lost episodes are long, and with dapo their tokens outweigh those of the won ones
        "grpo.beta": 0.0,
        "grpo.importance_sampling": "off",
        "grpo.micro_batch": 8,
        "grpo.max_grad_norm": 1.0,
        "rollout.group_size": 8,
        "rollout.groups_per_step": 8,
        "rollout.max_turns": 12,
    },
)


def in_small(course: Course) -> Course:
    """The same stages in seconds. Nothing is learnt, so nothing must be won."""
    return replace(
        course,
        words_from=20,
        eval_tasks=8,
        bar=-100.0,
        apart=False,
        shape=ModelShape(hidden=64, intermediate=128, layers=2, heads=2, head_width=32),
        sft={**course.sft, "sft.collect": 24, "sft.steps": 4},
        grpo={**course.grpo, "grpo.steps": 2, "rollout.groups_per_step": 2, "rollout.group_size": 4},
    )


def measure(arguments: argparse.Namespace) -> Iterator[Figure]:
    course = replace(COURSE, seed=arguments.seed)
    if arguments.quick:
        course = in_small(course)
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
