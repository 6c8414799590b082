"""What a GRPO step costs beside sampling and the model's passes: at most 10 % of its time.

Real parts: TRL, PEFT, the transformers engine, generated ALFWorld games in process, and what a CPU can teach these: a
model of five million weights with a vocabulary of the environment's words, here with random weights. The time of the
steps runs from one published policy to the next, so everything is in it: tasks, environments, the agent loop, tokens,
the store, TRL's and our own bookkeeping, adapters saved and swapped in, checkpoints. Of this the benchmark takes away
the time in which the engine had a request, and that of forward and backward passes and the optimizer; the rest is
overhead. The first step, in which everything warms up, is left out.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _figures as figures
from _figures import Figure

_TASKS_FOR_WORDS = 60


def recipe(model: Path, out: Path, *, quick: bool) -> dict[str, Any]:
    return {
        "model": {
            "name": str(model),
            "dtype": "float32",
            "device": "cpu",
            "threads": 1,
            "gradient_checkpointing": False,
        },
        "lora": {"r": 16, "alpha": 32},
        "data": {"sources": [{"env": "alfworld", "split": "generated_easy"}]},
        "rollout": {
            "engine": "transformers",
            "protocol": "bare",
            "group_size": 4,
            "groups_per_step": 1 if quick else 2,
            "max_turns": 3 if quick else 8,
            "max_tokens": 20,
            "max_episode_tokens": 4096,
            "reward_invalid_action": 0.1,
        },
        "grpo": {"steps": 3 if quick else 7, "learning_rate": 1e-4, "micro_batch": 4, "advantage": "gigpo"},
        "run": {"output_dir": str(out), "name": "overhead", "save_every": 2 if quick else 3, "report_to": ["jsonl"]},
    }


async def save_model(folder: Path) -> Path:
    """A model of five million random weights, whose tokens are the words of what the expert and its games say."""
    from rollout_server.types import RolloutRequest, TaskRef
    from trainer.config import parse_config
    from trainer.services import open_rollouts
    from trainer.small_model import save_small_model, word_tokenizer

    config = parse_config(recipe(folder, folder.with_name("words"), quick=True))
    config.run.output_dir.mkdir()
    # Seeds that training does not draw from.
    seeds = range(config.data.sources[0].seed_stop, config.data.sources[0].seed_stop + _TASKS_FOR_WORDS)
    tasks = tuple(TaskRef("alfworld", split="generated_easy", sample_seed=seed) for seed in seeds)
    service = await open_rollouts(config, engine="expert", with_model=False)
    try:
        request = RolloutRequest(tasks=tasks, protocol=config.rollout.protocol, max_episode_tokens=100_000)
        episodes = [e for group in await service.rollouts(request) for e in group.episodes]
    finally:
        await service.close()
    texts = [m.content for e in episodes for m in e.prompt] + [
        t for e in episodes for n in e.turns for t in (n.text, n.reply)
    ]
    return save_small_model(folder, word_tokenizer(texts))


class Generation:
    """Adds up the time in which an engine has at least one request."""

    def __init__(self, engine: Any) -> None:
        self.busy_s = 0.0
        self._asked = 0
        self._since = 0.0
        self._generate = engine.generate
        engine.generate = self.generate

    async def generate(self, request: Any) -> Any:
        if not self._asked:
            self._since = time.perf_counter()
        self._asked += 1
        try:
            return await self._generate(request)
        finally:
            self._asked -= 1
            if not self._asked:
                self.busy_s += time.perf_counter() - self._since


def measure(arguments: argparse.Namespace) -> Iterator[Figure]:
    from trainer.config import parse_config
    from trainer.grpo import train_grpo
    from trainer.loops import LoopThread
    from trainer.services import open_rollouts

    with tempfile.TemporaryDirectory(prefix="trainer-overhead-") as folder, LoopThread() as loop:
        model = loop.run(save_model(Path(folder) / "model"))
        run = Path(folder) / "run"
        config = parse_config(recipe(model, run, quick=arguments.quick))
        opened = loop.run(open_rollouts(config))
        generation = Generation(opened.engine)
        marks: list[tuple[float, float]] = []
        try:
            train_grpo(
                config,
                service=opened,
                loop=loop,
                splits=loop.run(opened.splits()),
                on_policy=lambda _: marks.append((time.perf_counter(), generation.busy_s)),
            )
        finally:
            loop.run(opened.close())
        steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()][1:]
        from safetensors import safe_open

        with safe_open(model / "model.safetensors", framework="pt") as file:
            weights = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118 - no mapping
    wall = marks[-1][0] - marks[0][0]
    generated = marks[-1][1] - marks[0][1]
    update = sum(step["time/update"] for step in steps)
    yield figures.value("trainer.overhead.weights", weights, "")
    yield figures.value("trainer.overhead.steps", len(steps), "")
    yield figures.value("trainer.overhead.step", wall / len(steps), "s")
    yield figures.value("trainer.overhead.generation_share", generated / wall, "")
    yield figures.value("trainer.overhead.update_share", update / wall, "")
    yield figures.value("trainer.overhead.publish_share", sum(s["time/publish"] for s in steps) / wall, "")
    yield figures.value("trainer.overhead.reported_share", steps[-1]["time/overhead_share"], "")
    yield figures.at_most("trainer.overhead.share", 1 - (generated + update) / wall, "", 0.10)


if __name__ == "__main__":
    figures.run(__doc__ or "", measure)
