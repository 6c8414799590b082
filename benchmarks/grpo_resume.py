"""GRPO killed with signal 9 at random moments, again and again, against the same run left alone.

Real parts: TRL, PEFT, the transformers engine, generated ALFWorld games in process, a tiny random model. The run has
every state that a checkpoint must hold: adapter, optimizer, schedule, random states, policy version, curriculum. Two
optimizer steps use each batch of episodes, and checkpoints lie between batches; one within a batch is resumed by a test
(``test_grpo_credit.py``). Such a model's actions are all invalid, so that the losses are the KL term's. It is killed
five times, each time somewhere in the step after one drawn at random (in a rollout, in an update, while a checkpoint is
written), and resumed as ``--resume`` does it. The engine samples one request at a time, so that it repeats itself to
the last bit.

Every run is a process of its own, forked from one that has imported the libraries and done nothing else: importing
takes longer than the steps do. ``tests/integration/trainer/test_grpo_resume.py`` kills one that was started afresh.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import _figures as figures
from _figures import Figure

_LIBRARIES = ["trainer.grpo", "trainer.tiny_model", "rollout_server.engines.transformers", "peft"]


def recipe(model: Path, out: Path, steps: int) -> dict[str, Any]:
    """A small run that has every state."""
    return {
        "model": {
            "name": str(model),
            "dtype": "float32",
            "device": "cpu",
            "threads": 1,
            "gradient_checkpointing": False,
        },
        "lora": {"r": 4, "alpha": 8},
        "data": {"sources": [{"env": "alfworld", "split": "generated_easy"}]},
        "curriculum": {"enabled": True, "replay": 0.5},
        "rollout": {
            "engine": "transformers",
            "concurrency": 1,
            "group_size": 2,
            "groups_per_step": 2,
            "max_turns": 3,
            "max_tokens": 8,
            "max_episode_tokens": 8192,
            "reward_invalid_action": 0.1,
        },
        "grpo": {
            "steps": steps,
            "learning_rate": 1e-3,
            "schedule": "cosine",
            "warmup": 0.1,
            "micro_batch": 2,
            "iterations": 2,
            "advantage": "gigpo",
            "beta": 0.05,
            "filter_groups": True,
            "further_groups": 1,
        },
        "run": {"output_dir": str(out), "name": "kill", "save_every": 2, "resume": True, "report_to": ["jsonl"]},
    }


def steps_of(run: Path) -> list[dict[str, float]]:
    """The steps that a run has reported, a line that is being written left out."""
    path = run / "metrics.jsonl"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def save_model(folder: Path) -> None:
    """In a process of its own: write the model's folder."""
    from trainer.tiny_model import save_tiny_model

    save_tiny_model(folder)


def train(tree: dict[str, Any]) -> None:
    """In a process of its own: start the run or go on with it."""
    from trainer.config import parse_config
    from trainer.grpo import train_grpo

    train_grpo(parse_config(tree))


def run(context: ForkServerContext, work: Callable[[Any], None], argument: Any, *, until: Callable[[], bool]) -> bool:
    """Run ``work`` in a process, to its end or until it is to be killed; whether it was."""
    process = context.Process(target=work, args=(argument,))
    process.start()
    try:
        while process.is_alive() and not until():
            time.sleep(0.01)
    finally:
        process.kill()
        process.join()
    if process.exitcode not in {0, -signal.SIGKILL}:
        raise SystemExit(f"the process ended with {process.exitcode}")
    return process.exitcode != 0


def moment(folder: Path, step: int, draw: random.Random) -> Callable[[], bool]:
    """Says when to kill: once the run has reported this step, at a random point of what such a step takes."""
    before = steps_of(folder)
    step = max(step, int(before[-1]["step"]) + 1 if before else 0)  # not for what an earlier process has reported
    at: list[float] = []

    def now() -> bool:
        if not at:
            reported = steps_of(folder)
            if not reported or reported[-1]["step"] < step:
                return False
            at.append(time.monotonic() + draw.random() * reported[-1]["time/step"])
        return time.monotonic() >= at[0]

    return now


def measure(arguments: argparse.Namespace) -> Iterator[Figure]:
    steps, kills = (6, 1) if arguments.quick else (24, 5)
    draw = random.Random(arguments.seed)
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_LIBRARIES)
    with tempfile.TemporaryDirectory(prefix="grpo-resume-") as folder:
        model, whole, killed = (Path(folder) / name for name in ("model", "whole", "killed"))
        run(context, save_model, model, until=lambda: False)
        run(context, train, recipe(model, whole, steps), until=lambda: False)
        drawn = sorted(draw.sample(range(1, steps - kills), kills))
        for after in (step + n for n, step in enumerate(drawn)):  # at least two steps between
            if not run(context, train, recipe(model, killed, steps), until=moment(killed, after, draw)):
                raise SystemExit(f"the run ended before it could be killed after step {after}")
        run(context, train, recipe(model, killed, steps), until=lambda: False)
        left_alone, resumed = steps_of(whole), steps_of(killed)
    if [m["step"] for m in resumed] != [*range(1, steps + 1)]:
        raise SystemExit(f"the killed run reports the steps {[m['step'] for m in resumed]}")
    yield figures.value("grpo.resume.kills", kills, "")
    yield figures.value("grpo.resume.steps", steps, "")
    for name in ("loss", "grad_norm", "kl", "entropy"):
        differences = [abs(a[name] - b[name]) for a, b in zip(left_alone, resumed, strict=True)]
        yield Figure(f"grpo.resume.{name}_max_difference", max(differences), "", "<= 1e-05", max(differences) <= 1e-5)
    yield figures.value("grpo.resume.loss_min_abs", min(abs(m["loss"]) for m in left_alone), "")
    yield figures.value("grpo.resume.loss_max_abs", max(abs(m["loss"]) for m in left_alone), "")


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the moments of the kills")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no run outlives this one
    figures.run(__doc__ or "", measure, options=_options)
