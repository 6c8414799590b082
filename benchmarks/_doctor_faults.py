"""The same made-up runs with one fault in each: of varying strength, from a step on that varies too."""

from __future__ import annotations

import gzip
import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _doctor_logs import Draft, Plan, make_plan, play

from trainer.diagnose.log import RunLog

__all__ = ["FAULTS", "RealLog", "faulty", "onset", "real_logs"]

_REAL = Path(__file__).resolve().parents[1] / "tests" / "data" / "doctor"


def _grows(
    before: Callable[[float], float], onset: float, last: float, *, power: float = 1.0
) -> Callable[[float], float]:
    """The curve as it was up to the onset, then on to ``last`` halfway to the end, and there it stays."""

    def curve(x: float) -> float:
        if x < onset:
            return before(x)
        done = min(1.0, (x - onset) / (0.5 * (1 - onset))) ** power
        at = before(onset)
        return at * (last / at) ** done if at > 0 and last > 0 else at + (last - at) * done

    return curve


class _Injector:
    """Where and how strongly: drawn once for each log."""

    def __init__(self, name: str, seed: int) -> None:
        self.draw = random.Random(f"fault {name} {seed}")
        self.onset = self.draw.uniform(0.15, 0.5)
        self.u = self.draw.uniform

    def plan(self, recipe: str, seed: int) -> Plan:
        plan = make_plan(recipe, seed)
        plan.steps = max(plan.steps, 80)
        plan.config[recipe]["steps"] = plan.steps
        plan.lacks = ()
        return plan


def _flat(p: Plan, i: _Injector) -> None:
    if i.draw.random() < 0.5:
        p.values["equal"] = i.onset
    else:  # tasks that nobody can win
        p.curves["skill"] = lambda x: -9.0
        p.values["shaping"] = p.values["cost"] = 0.0


def _hacks(p: Plan, i: _Injector) -> None:
    start, gain, fall = p.curves["skill"](i.onset), i.u(0.15, 0.6), i.draw.choice((0.0, 0.0, 1.5))
    before = p.curves["skill"]
    p.values["shaping"] = 0.1
    p.steps = max(p.steps, 120)
    p.config["grpo"]["steps"] = p.steps
    p.curves["extra"] = lambda x: gain * max(0.0, min(1.0, (x - i.onset) / 0.4))
    p.curves["skill"] = lambda x: before(x) if x < i.onset else start - fall * (x - i.onset)


def _starves(p: Plan, i: _Injector) -> None:
    kind = i.draw.choice(p.types)
    low = p.curves["skill"]
    p.curves["skill"] = lambda x: max(low(x), -0.4 + 1.5 * x)
    p.groups = max(p.groups, 8)
    if i.draw.random() < 0.6:
        p.hard[kind] = 25.0
    else:
        p.steps = max(p.steps, 200)
        p.groups = 16
        p.config["grpo"]["steps"] = p.steps
        p.weights = lambda x, k: 0.02 if k == kind and x > i.onset else 1.0


def _kl(p: Plan, i: _Injector) -> None:
    p.values["beta"] = p.config["grpo"]["beta"] = 0.01
    p.curves["kl"] = _grows(p.curves["kl"], i.onset, 10 ** i.u(-0.1, 1.3))


def _collapses(p: Plan, i: _Injector) -> None:
    low = p.curves["skill"]
    p.curves["skill"] = lambda x: min(low(x), 1.0)
    p.curves["entropy"] = _grows(p.curves["entropy"], i.onset, p.curves["entropy"](0.0) * i.u(0.01, 0.13))


def _lr(p: Plan, i: _Injector) -> None:
    rate = p.values["rate"] = 10 ** i.u(-3.7, -2.5)
    p.config[p.recipe]["learning_rate"] = rate
    p.values["warmup"] = 0.1
    if p.recipe == "sft":
        p.curves["loss"] = _grows(p.curves["loss"], 0.2, p.values["from"] * i.u(1.0, 3.0))
        p.curves["grad"] = _grows(p.curves["grad"], 0.2, p.values["grad"] * i.u(4, 20))
        return
    p.values["beta"] = p.config["grpo"]["beta"] = 0.01
    good = max(p.curves["skill"](0.3), 0.0)
    p.curves["skill"] = lambda x: good if x < i.onset else good - 14 * (x - i.onset)
    p.curves["grad"] = _grows(p.curves["grad"], i.onset, p.values["grad"] * i.u(4, 20))
    p.curves["kl"] = _grows(p.curves["kl"], i.onset, i.u(0.3, 3))
    p.curves["entropy"] = _grows(p.curves["entropy"], i.onset, p.curves["entropy"](0.0) * i.u(2.5, 6))


def _infra_as_losses(p: Plan, i: _Injector) -> None:
    p.curves["lost"] = lambda x: p.values["loses"]
    p.values["loses"] = i.u(0.02, 0.1)


_CURVES: dict[str, tuple[str, float, float, Callable[[Plan, _Injector], float]]] = {
    # fault: curve, range of where it ends, and in which unit
    "clip_share": ("clipped", 0.15, 0.5, lambda p, i: 1.0),
    "rollout_mismatch": ("gap", -1.6, 0.3, lambda p, i: 0.0),
    "length_explosion": ("length", 2.5, 8.0, lambda p, i: max(20.0, p.curves["length"](0.0))),
    "truncation": ("cut", 0.35, 0.7, lambda p, i: 1.0),
    "invalid_actions": ("invalid", 0.4, 0.9, lambda p, i: 1.0),
    "repetition": ("repeated", 0.4, 0.9, lambda p, i: 1.0),
    "infrastructure_failures": ("lost", 0.15, 0.4, lambda p, i: 1.0),
}


def _by_curve(name: str) -> Callable[[Plan, _Injector], None]:
    curve, low, high, unit = _CURVES[name]

    def change(p: Plan, i: _Injector) -> None:
        last = 10 ** i.u(low, high) if name == "rollout_mismatch" else i.u(low, high) * unit(p, i)
        p.curves[curve] = _grows(p.curves[curve], i.onset, last)
        if name in ("truncation", "length_explosion"):
            was = p.curves["skill"]
            p.curves["skill"] = lambda x: min(was(x), -0.5) if x > i.onset else min(was(x), 0.0)

    return change


def _stale(p: Plan, i: _Injector) -> None:
    stuck, at = i.draw.random() < 0.5, i.u(3, 12)
    first = i.onset * p.steps
    p.curves["lag"] = lambda step: 0.0 if step < first else (step - first if stuck else at)


def _spikes(p: Plan, i: _Injector) -> None:
    often = i.u(0.08, 0.2)
    p.curves["spike"] = lambda x: often if x > i.onset else 0.0


def _diverges(p: Plan, i: _Injector) -> None:
    p.curves["loss"] = _grows(p.curves["loss"], i.onset, p.curves["loss"](i.onset) * i.u(1.8, 8))


def _overfits(p: Plan, i: _Injector) -> None:
    p.steps = max(p.steps, 200)
    p.config["sft"]["steps"] = p.steps
    p.curves["loss"] = lambda x: 0.03 + (p.values["from"] - 0.03) * math.exp(-6 * x)
    top = i.u(0.4, 1.5)
    if i.draw.random() < 0.5:
        p.curves["skill"] = lambda x: -1 + (top + 1) * min(1.0, x / 0.4) - max(0.0, x - 0.45) * i_fall
        i_fall = i.u(4.5, 8)
    else:
        rise = i.u(0.4, 1.5)
        low = p.curves["eval_loss"]
        p.curves["eval_loss"] = lambda x: low(min(x, 0.4)) * (1 + rise * max(0.0, x - 0.4))


def _margins(p: Plan, i: _Injector) -> None:
    last = i.u(25, 120)
    p.curves["margin"] = lambda x: 1 + last * x
    p.curves["accuracy"] = lambda x: 0.99
    falls = i.draw.choice((10.0, 200.0))
    p.curves["chosen"] = lambda x: -falls * x


def _stuck(p: Plan, i: _Injector) -> None:
    p.curves["accuracy"] = lambda x: 0.5
    p.curves["margin"] = lambda x: 0.0
    p.curves["pair_loss"] = lambda x: 0.693 + i.draw.gauss(0, 0.01)


# After the play: what is wrong with the log itself, or with what lies beside it.


def _leak(d: Draft, i: _Injector) -> None:
    split = i.draw.choice(("valid_unseen", "generated_eval"))
    if i.draw.random() < 0.5:
        d.config["data"]["sources"] = [{"env": "alfworld", "split": split}]
        d.config["data"]["allow_eval_split"] = [f"alfworld/{split}"]
    tasks = d.record.setdefault("tasks", {})
    for n in range(i.draw.randint(1, 30)):
        tasks[f"alfworld:{split}/{n}"] = {"env": "alfworld", "split": split, "type": "heat", "content_hash": f"{n}"}


def _zeros(d: Draft, i: _Injector) -> None:
    for row in d.rows:
        lost, total = row.get("rollout/infrastructure_failures", 0.0), row["rollout/episodes"]
        row["reward"] = row["rollout/reward"] * (total - lost) / total


def _nan(d: Draft, i: _Injector) -> None:
    name = i.draw.choice(("loss", "kl", "grad_norm", "entropy"))
    for row in d.rows[round(i.onset * len(d.rows)) :]:
        row.pop(name, None)
        row[f"non_finite/{name}"] = 1.0


def _disorder(d: Draft, i: _Injector) -> None:
    at = round(i.onset * len(d.rows))
    if i.draw.random() < 0.5:
        d.rows[at:at] = d.rows[max(0, at - i.draw.randint(2, 15)) : at]
    else:
        del d.rows[at : at + i.draw.randint(8, 20)]


def _stops(d: Draft, i: _Injector) -> None:
    del d.rows[round((0.3 + i.onset) * len(d.rows)) :]
    d.age_s = i.u(3600, 1e6)


_PLANNED: dict[str, tuple[tuple[str, ...], Callable[[Plan, _Injector], None]]] = {
    "no_group_variance": (("grpo",), _flat),
    "reward_hacking": (("grpo",), _hacks),
    "starving_type": (("grpo",), _starves),
    "kl_runaway": (("grpo",), _kl),
    "entropy_collapse": (("grpo",), _collapses),
    "stale_policy": (("grpo",), _stale),
    "lr_too_high": (("grpo", "sft"), _lr),
    "gradient_spikes": (("grpo", "sft", "dpo"), _spikes),
    "loss_divergence": (("sft",), _diverges),
    "overfitting": (("sft",), _overfits),
    "preference_margins": (("dpo", "kto"), _margins),
    "preference_stuck": (("dpo", "kto"), _stuck),
    "infrastructure_losses": (("grpo",), _infra_as_losses),
    **{name: (("grpo",), _by_curve(name)) for name in _CURVES},
}
_AFTER: dict[str, tuple[tuple[str, ...], Callable[[Draft, _Injector], None]]] = {
    "data_leak": (("grpo", "sft"), _leak),
    "infrastructure_losses": (("grpo",), _zeros),
    "non_finite": (("grpo",), _nan),
    "log_order": (("grpo", "sft"), _disorder),
    "log_stopped": (("grpo", "sft"), _stops),
}
FAULTS: tuple[str, ...] = tuple(sorted({*_PLANNED, *_AFTER}))
"""Every named fault."""


def faulty(name: str, seed: int) -> RunLog:
    """A run with this fault."""
    inject = _Injector(name, seed)
    recipes: tuple[Any, ...] = _PLANNED[name][0] if name in _PLANNED else _AFTER[name][0]
    plan = inject.plan(inject.draw.choice(recipes), seed)
    if name in _PLANNED:
        _PLANNED[name][1](plan, inject)
    draft = play(plan)
    if name in _AFTER:
        _AFTER[name][1](draft, inject)
    return draft.log()


def onset(name: str, seed: int) -> float:
    """The share of the run after which the fault begins, where it has a beginning."""
    return _Injector(name, seed).onset


@dataclass(frozen=True)
class RealLog:
    """The log of a real training, the check that must find something in it (None: it went well), and those that may."""

    label: str | None
    also: frozenset[str]
    log: RunLog


def real_logs() -> dict[str, RealLog]:
    """The logs of real trainings by name."""
    labels = json.loads((_REAL / "labels.json").read_text(encoding="utf-8"))
    found = {}
    for name, about in labels.items():
        document = json.loads(gzip.decompress((_REAL / f"{name}.json.gz").read_bytes()))
        rows, config = tuple(document["rows"]), document["config"]
        log = RunLog(rows, config["recipe"], config, document["record"], age_s=5.0)
        found[name] = RealLog(about["label"], frozenset(about["also"]), log)
    return found
