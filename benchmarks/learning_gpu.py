"""SmolLM2-135M-Instruct learns ALFWorld on one GPU: base model, SFT and GRPO on official games never trained on.

    python benchmarks/learning_gpu.py [--json] [--quick] [--seed N] [--folder DIR] [--split valid_unseen]

SFT on explorer episodes of ``generated``, then GRPO in the loop with vLLM on the same GPU, tested on the games of
``--split`` that are here (``ALFWORLD_DATA``, ``envloop env fetch alfworld``). GRPO must win more than SFT. The settings
are meant for at most 25 minutes on a GPU of an L4's size or more; **they have not been run on one yet**: no figures of
this script are kept. ``--quick`` runs every stage in small, on a CPU too, with the transformers engine there; without
official games it is tested on ``generated_easy_eval``.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from _figures import Figure, run
from _learning import Course, learn

COURSE = Course(
    name="gpu",
    env="alfworld",
    eval_split="valid_unseen",
    expert="explorer",
    bar=0.01,
    model="smollm2",
    max_minutes=25.0,
    recipe={
        "model.device": "auto",
        "model.dtype": "auto",
        "model.threads": None,
        "data.sources": [{"env": "alfworld", "split": "generated"}],
        "rollout.protocol": "bare",
        "rollout.max_turns": 20,
        "rollout.max_tokens": 32,
        "rollout.max_episode_tokens": 2048,
        "rollout.engine": "vllm",
        "rollout.engine_options": {"gpu_memory_utilization": 0.3, "max_lora_rank": 64},
        "rollout.concurrency": 256,
        "lora.r": 64,
        "lora.alpha": 128,
    },
    sft={
        "sft.collect": 2000,
        "sft.steps": 200,
        "sft.learning_rate": 3e-4,
        "sft.effective_batch": 32,
        "sft.micro_batch": 16,
        "sft.max_length": 2048,
    },
    grpo={
        "grpo.steps": 60,
        "grpo.learning_rate": 5e-5,
        "grpo.beta": 0.0,
        "grpo.advantage": "gigpo",
        "grpo.micro_batch": 16,
        "grpo.max_grad_norm": 1.0,
        "rollout.group_size": 8,
        "rollout.groups_per_step": 16,
    },
)


def measure(arguments: argparse.Namespace) -> Iterator[Figure]:
    import torch

    course = replace(COURSE, seed=arguments.seed, eval_split=arguments.split)
    if not torch.cuda.is_available():
        engine = {"max_batch": 16}
        more = {"rollout.engine": "transformers", "rollout.engine_options": engine, "rollout.concurrency": 16}
        course = replace(course, recipe={**course.recipe, **more})
    if arguments.quick:
        no_games = "ALFWORLD_DATA" not in os.environ
        course = replace(
            course,
            eval_split="generated_easy_eval" if no_games else course.eval_split,
            eval_tasks=2,
            bar=-100.0,
            recipe={**course.recipe, "rollout.max_turns": 3, "rollout.max_tokens": 8, "lora.r": 4, "lora.alpha": 8},
            sft={**course.sft, "sft.collect": 4, "sft.steps": 1, "sft.effective_batch": 2, "sft.micro_batch": 2},
            grpo={**course.grpo, "grpo.steps": 1, "rollout.groups_per_step": 1, "rollout.group_size": 2}
            | {"grpo.micro_batch": 2},
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
    parser.add_argument("--split", default="valid_unseen", help="tested on; never trained on")


if __name__ == "__main__":
    run(Path(__file__).stem + ": " + (__doc__ or ""), measure, options=options)
