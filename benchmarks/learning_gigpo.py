"""GiGPO against GRPO: the same model from SFT, the same number of episodes, three seeds, on one core of a CPU.

    python benchmarks/learning_gigpo.py [--json] [--quick] [--folder DIR] [--seeds 3] [--steps 20]

The model and its SFT are those of ``learning_alfworld.py``; with the same ``--folder`` what was trained there is used.
Each seed then trains with an episode's advantage alone (``group``) and with one for each turn that shares its state
with others of the group (``gigpo``), and both are tested on the same held-out tasks. Reported: success of each with a
95 % interval over all seeds' episodes, and the difference by seed. There is no bar: neither must win.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from _figures import Figure, run, value
from _learning import Course, last_policy, once, prepare, score_policy
from learning_alfworld import COURSE, in_small

from trainer.evaluate import wilson_interval
from trainer.grpo import train_grpo

RULES = ("group", "gigpo")
SAME = {"grpo.filter_groups": False}
"""As many episodes for both: groups without a signal are not replaced, as not equally many would be."""


def measure(arguments: argparse.Namespace) -> Iterator[Figure]:
    course = in_small(COURSE) if arguments.quick else COURSE
    steps, seeds = (1, 1) if arguments.quick else (arguments.steps, arguments.seeds)
    if arguments.folder is not None:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        yield from compare(course, arguments.folder, steps=steps, seeds=seeds)
        return
    with tempfile.TemporaryDirectory(prefix="envloop-gigpo-") as folder:
        yield from compare(course, Path(folder), steps=steps, seeds=seeds)


def compare(course: Course, folder: Path, *, steps: int, seeds: int) -> Iterator[Figure]:
    """Train and test each rule with each seed."""
    prepare(course, folder)
    won: dict[tuple[str, int], dict[str, float]] = {}
    for seed in range(seeds):
        for rule in RULES:
            name = f"gigpo-{steps}-{rule}-{seed}"
            seeded = replace(course, seed=seed)
            settings = {**course.grpo, **SAME, "grpo.advantage": rule, "grpo.steps": steps}

            def stage(
                seeded: Course = seeded, name: str = name, settings: dict[str, object] = settings
            ) -> dict[str, dict[str, float]]:
                begun = {"run.output_dir": folder / name, "model.name": str(folder / "sft" / "adapter")}
                train_grpo(seeded.config("grpo", folder, **begun, **settings))
                return {"figures": asyncio.run(score_policy(course, folder, last_policy(folder / name)))}

            won[rule, seed] = once(folder / f"{name}.json", stage)["figures"]
            for kind in ("greedy", "sampled"):
                yield value(f"learning.gigpo.seed_{seed}.{rule}.{kind}", won[rule, seed][kind], "")
    for kind in ("greedy", "sampled"):
        for rule in RULES:
            played = [won[rule, seed] for seed in range(seeds)]
            total = sum(int(p[f"{kind}.tasks"]) for p in played)
            wins = sum(round(p[kind] * p[f"{kind}.tasks"]) for p in played)
            low, high = wilson_interval(wins, total)
            for what, number in (("success", wins / total), ("low", low), ("high", high)):
                yield value(f"learning.gigpo.{rule}.{kind}.{what}", number, "")
        gains = [100 * (won["gigpo", seed][kind] - won["group", seed][kind]) for seed in range(seeds)]
        yield value(f"learning.gigpo.gain.{kind}.mean", fmean(gains), "points")
        yield value(f"learning.gigpo.gain.{kind}.least", min(gains), "points")
        yield value(f"learning.gigpo.gain.{kind}.most", max(gains), "points")


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, default=None, help="keeps what was trained")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20, help="of GRPO")


if __name__ == "__main__":
    run(Path(__file__).stem + ": " + (__doc__ or ""), measure, options=options)
