"""Make ``tests/data/doctor``: logs of real training runs, well and faulty, each with what the doctor should find in it.

    python scripts/make_doctor_logs.py [NAME ...]
    python scripts/make_doctor_logs.py --keep NAME RUN

TRL trains a tiny random model on episodes that the transformers engine samples from its published adapters; the
environment is the double of ``tests/sampled_rollouts.py``. Every fault is provoked, none is written into a log: a
learning rate a hundred times too high, adapters that never reach the engine, an engine at another temperature, and so
on. Takes some seconds a log and, as training does, gives slightly other numbers on other machines.

``--keep`` takes the log of a run that is there, of ``benchmarks/learning_*.py``: ``KEPT`` says what it is.

``labels.json`` says of each log which check must find something, and which others may, since one fault brings another.
A learning rate too high for SFT cannot be shown so: the loss of a tiny random model ends near where it began.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from sampled_rollouts import Game, SampledRollouts  # noqa: E402

from trainer.config import TrainConfig, parse_config  # noqa: E402
from trainer.loops import LoopThread  # noqa: E402
from trainer.tiny_model import save_tiny_model  # noqa: E402

OUT = ROOT / "tests" / "data" / "doctor"


@dataclass(frozen=True)
class Case:
    """A run, and the finding that it must give (None: a healthy one)."""

    label: str | None
    game: Game = field(default_factory=Game)
    sets: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    zeros: bool = False
    """The double of a bridge that gives lost episodes the reward 0."""
    kind: str = "grpo"
    sharp: float = 1.0
    """Factor of the logits. Those of a random model are so small that no update can make it sure of anything."""
    also: dict[str, str] = field(default_factory=dict)
    """Checks that find something here too, and rightly so: why."""


RATE = 2e-3
CASES: dict[str, Case] = {
    **{f"healthy-{n}": Case(None, Game(good_share=share), sets, seed=n) for n, share, sets in (
        (0, 0.55, {"grpo.steps": 36}),
        (1, 0.5, {"rollout.group_size": 8, "rollout.groups_per_step": 2}),
        (2, 0.6, {"grpo.beta": 0.04}),
        (3, 0.55, {"grpo.schedule": "cosine", "grpo.warmup": 0.1}),
        (4, 0.55, {"grpo.iterations": 2, "grpo.learning_rate": RATE / 2}),
        (5, 0.55, {"grpo.loss_type": "dr_grpo", "rollout.max_episode_tokens": 128}),
    )},
    "healthy-sharp": Case(None, Game(good_share=0.7), {"grpo.learning_rate": RATE / 4}, seed=23, sharp=6.0),
    "healthy-lost-episodes": Case(None, Game(dead=0.03), seed=6),
    "healthy-sft": Case(None, kind="sft"),
    "rate": Case("lr_too_high", Game(good_share=0.75), {"grpo.learning_rate": 100 * RATE}, seed=17, sharp=12.0,
                 also={"kl_runaway": "one of its signs"}),
    "no-kl": Case("kl_runaway", Game(lottery=0.5, shaping=0.2),
                  {"grpo.beta": 1e-6, "grpo.learning_rate": 10 * RATE}, seed=8, sharp=12.0,
                  also={"lr_too_high": "what the KL term did not hold"}),
    "narrow": Case("entropy_collapse", Game(good_share=0.8, shaping=0.5, impossible="far"),
                   {"grpo.steps": 36, "grpo.beta": 0.0, "grpo.learning_rate": 3 * RATE}, seed=9, sharp=8.0,
                   also={"starving_type": "a type is impossible, so that the tasks are not solved",
                         "no_group_variance": "all episodes of a group are alike then"}),
    "stale": Case("stale_policy", Game(stale=True), {"grpo.steps": 26, "grpo.learning_rate": 4 * RATE}, seed=10,
                  also={"rollout_mismatch": "the mismatch by which it is told"}),
    "temperature": Case("rollout_mismatch", Game(temperature=0.6), {"grpo.steps": 36}, seed=11),
    "equal": Case("no_group_variance", Game(equal_rewards=True), sets={"grpo.steps": 12}, seed=12),
    "invalid": Case("invalid_actions", Game(invalid_above=0.9), seed=13),
    "loops": Case("repetition", Game(loops=True, turns=3), seed=14,
                  also={"rollout_mismatch": "an engine that takes the likeliest token does not sample as asked"}),
    "hacking": Case("reward_hacking", Game(lottery=0.1, shaping=0.4),
                    {"grpo.steps": 60, "grpo.learning_rate": 2 * RATE}, seed=15, sharp=6.0,
                    also={"kl_runaway": "whoever earns the shaping alone moves far from where it began"}),
    "type": Case("starving_type", Game(impossible="far", good_share=0.5), sets={"grpo.steps": 24}, seed=16),
    "clip": Case("clip_share", Game(good_share=0.75, shaping=0.5),
                 {"grpo.steps": 24, "grpo.iterations": 8, "grpo.learning_rate": 12 * RATE}, seed=17, sharp=12.0,
                 also={"kl_runaway": "where such steps lead"}),
    "cut": Case("truncation", Game(cut=0.9, good_share=0.6), sets={"grpo.steps": 12}, seed=18),
    "spikes": Case("gradient_spikes", Game(outlier=0.02),
                   {"grpo.scale_rewards": "none", "grpo.steps": 40, "grpo.learning_rate": RATE / 3}, seed=19),
    "zeros": Case("infrastructure_losses", Game(dead=0.08), sets={"grpo.steps": 12}, seed=20, zeros=True),
    "lost": Case("infrastructure_failures", Game(dead=0.25), {"grpo.steps": 36}, seed=21),
    "leak": Case("data_leak", sets={
        "data.sources": [{"env": "alfworld", "split": "valid_unseen"}],
        "data.allow_eval_split": ["alfworld/valid_unseen"], "grpo.steps": 4}, seed=22),
}  # fmt: skip

KEPT: dict[str, Case] = {
    "alfworld-sft": Case(None, kind="sft"),
    "alfworld-grpo": Case(None),
    "dbbench-sft": Case(None, kind="sft"),
    "dbbench-grpo": Case("starving_type"),  # averages stay at 0 while the rest comes to 86 %
}
"""Runs in the real environments, in which the doubles above have no part."""


def recipe(case: Case, model: Path, out: Path) -> TrainConfig:
    from trainer.config import apply_overrides

    tree: dict[str, Any] = {
        "recipe": case.kind,
        "model": {
            "name": str(model),
            "dtype": "float32",
            "device": "cpu",
            "threads": 1,
            "gradient_checkpointing": False,
        },
        "lora": {"r": 4, "alpha": 8},
        "data": {"sources": [{"env": "alfworld", "split": "generated_easy" if case.kind == "sft" else "generated"}]},
        "rollout": {"group_size": 4, "groups_per_step": 4, "max_tokens": 6, "max_episode_tokens": 256},
        "grpo": {"steps": 30, "learning_rate": RATE, "micro_batch": 16, "beta": 0.01},
        "sft": {
            "steps": 50,
            "learning_rate": 5e-3,
            "collect": 24,
            "effective_batch": 4,
            "max_length": 8192,
            "warmup": 0.1,
        },
        "run": {"output_dir": str(out), "name": "run", "seed": case.seed, "save_every": 1000, "report_to": ["jsonl"]},
    }
    return parse_config(apply_overrides(tree, case.sets))


@contextlib.contextmanager
def lost_as_zeros(on: bool) -> Iterator[None]:
    """A double of the bridge's rows: a lost episode gets the reward 0, as the product never does."""
    if not on:
        yield
        return
    from trainer import rollouts

    honest = rollouts.episode_row

    def doctored(*args: Any, **kwargs: Any) -> Any:
        row = honest(*args, **kwargs)
        return row if row.reward is not None else replace(row, reward=0.0)

    with patch.object(rollouts, "episode_row", doctored):
        yield


def sharpened(model: Path, folder: Path, factor: float) -> Path:
    """A copy of the model whose logits are so many times larger."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(model, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] *= factor
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def train(case: Case, model: Path, out: Path) -> None:
    if case.sharp != 1.0:
        model = sharpened(model, out.with_name(f"{out.name}-model"), case.sharp)
    config = recipe(case, model, out)
    if case.kind == "sft":
        from trainer.sft import train_sft

        train_sft(config)
        return
    from trainer.grpo import train_grpo

    with LoopThread() as loop, lost_as_zeros(case.zeros):
        service = SampledRollouts(model, case.game, seed=case.seed)
        try:
            train_grpo(config, service=service, loop=loop)
        finally:
            loop.run(service.close())


def compact(kind: str, out: Path) -> dict[str, Any]:
    """The run's folder as one document: what the doctor reads, without paths and with six digits."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    config["model"]["name"] = "tiny"
    config["run"]["output_dir"] = "runs/run"
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    return {
        "config": {k: config[k] for k in ("recipe", "data", "rollout", kind, "run", "model")},
        "record": {"tasks": record["tasks"], "splits": record["splits"]},
        "rows": [{k: v if isinstance(v, int) else float(f"{v:.6g}") for k, v in row.items()} for row in rows],
    }


def keep(name: str, case: Case, out: Path) -> None:
    """Keep a run's log under a name."""
    text = json.dumps(compact(case.kind, out), sort_keys=True)
    (OUT / f"{name}.json.gz").write_bytes(gzip.compress(text.encode(), mtime=0))


def make(name: str, model: Path, out: Path) -> None:
    """Train one case in ``out`` and keep its log."""
    train(CASES[name], model, out)
    keep(name, CASES[name], out)
    found = out / "findings.jsonl"
    told = [json.loads(line)["check"] for line in found.read_text().splitlines()] if found.exists() else []
    print(f"{name}: wanted {CASES[name].label}, the live doctor told {told}", flush=True)


def write_labels() -> None:
    """Say of every log that is there what the doctor must find in it, and what else it may."""
    kept = {
        n: {"label": c.label, "also": c.also} for n, c in (CASES | KEPT).items() if (OUT / f"{n}.json.gz").is_file()
    }
    (OUT / "labels.json").write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def main(names: list[str]) -> int:
    OUT.mkdir(parents=True, exist_ok=True)
    if names[:1] == ["--keep"]:
        name, run = names[1:]
        keep(name, KEPT[name], Path(run))
        write_labels()
        return 0
    with tempfile.TemporaryDirectory(prefix="envloop-doctor-") as folder:
        model = save_tiny_model(Path(folder) / "model")
        for name in names or list(CASES):
            make(name, model, Path(folder) / name)
    write_labels()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
