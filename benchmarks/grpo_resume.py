"""GRPO killed with signal 9 at random moments, again and again, against the same run left alone.

Real parts: TRL, PEFT, the transformers engine, generated ALFWorld games in process, a tiny random model. The run has
every state that a checkpoint must hold: adapter, optimizer, schedule, random states, policy version, curriculum, and
with two optimizer steps on each batch of episodes the batch itself. It is killed five times, each time somewhere after
a step drawn at random (in a rollout, in an update, while a checkpoint is written), and resumed as ``--resume`` does it.
The engine samples one request at a time, so that it repeats itself to the last bit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _figures as figures
from _figures import Figure

_CODE = (
    "import json, pathlib, sys; from trainer.config import parse_config; from trainer.grpo import train_grpo; "
    "train_grpo(parse_config(json.loads(pathlib.Path(sys.argv[1]).read_text())))"
)


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


def run_to(model: Path, run: Path, steps: int, *, kill_after: int | None = None, draw: random.Random) -> None:
    """Start the run or go on with it; kill it within a second after it has reported step ``kill_after``."""
    run.mkdir(parents=True, exist_ok=True)
    path = run / "recipe.json"
    path.write_text(json.dumps(recipe(model, run, steps)), encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", _CODE, str(path)], env=environment)
    try:
        while kill_after is not None and process.poll() is None:
            reported = steps_of(run)
            if reported and reported[-1]["step"] >= kill_after:
                time.sleep(draw.uniform(0.0, 1.0))
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.02)
        code = process.wait()
    finally:
        process.kill()
    if kill_after is None and code:
        raise SystemExit(f"the run ended with {code}")
    if kill_after is not None and code != -signal.SIGKILL:
        raise SystemExit(f"the run ended with {code} before it was killed")


def measure(arguments: argparse.Namespace) -> Iterator[Figure]:
    from trainer.tiny_model import save_tiny_model

    steps, kills = (8, 1) if arguments.quick else (24, 5)
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="grpo-resume-") as folder:
        model = save_tiny_model(Path(folder) / "model")
        whole, killed = Path(folder) / "whole", Path(folder) / "killed"
        run_to(model, whole, steps, draw=draw)
        for after in sorted(draw.sample(range(1, steps - 1), kills)):
            run_to(model, killed, steps, kill_after=after, draw=draw)
        run_to(model, killed, steps, draw=draw)
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
