"""Logs of training runs that went well, made up: episodes are drawn group by group, so that shares, variances and
counts have the noise of real ones; curves of the optimizer are correlated from step to step and have heavy tails.

``healthy(recipe, seed)`` gives a log; ``faulty(name, seed)`` of ``_doctor_faults.py`` gives one with a fault in it.
A seed decides everything: model, lengths, environments, sizes, how the run learns, what an older log lacks.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from trainer.diagnose.log import RunLog

__all__ = [
    "RECIPES",
    "Draft",
    "Plan",
    "Wander",
    "healthy",
    "logistic",
    "make_plan",
    "play",
    "play_grpo",
    "play_pairs",
    "play_sft",
]

RECIPES = ("grpo", "grpo", "grpo", "sft", "dpo", "kto")
"""What a healthy set is mixed of: mostly GRPO."""

_TYPES = {
    "alfworld": ("pick_and_place", "look_at", "clean", "heat", "cool", "pick_two"),
    "dbbench": ("counting", "comparison", "ranking", "INSERT", "UPDATE"),
}


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, x))))


def _logit(p: float) -> float:
    return math.log(p / (1 - p))


class Wander:
    """Noise with a memory: a first-order autoregression of standard deviation ``sigma``."""

    def __init__(self, draw: random.Random, sigma: float, memory: float = 0.5) -> None:
        self._draw, self._sigma, self._memory = draw, sigma, memory
        self._at = draw.gauss(0, sigma)

    def __call__(self) -> float:
        fresh = self._sigma * math.sqrt(1 - self._memory**2)
        self._at = self._memory * self._at + self._draw.gauss(0, fresh)
        return self._at


@dataclass
class Plan:
    """A run before it is played. Faults change its curves: functions of progress in [0, 1]."""

    recipe: str
    draw: random.Random
    steps: int
    size: int
    groups: int
    types: tuple[tuple[str, str], ...]
    hard: dict[tuple[str, str], float]
    curves: dict[str, Callable[[float], float]]
    values: dict[str, float]
    config: dict[str, Any]
    lacks: tuple[str, ...] = ()
    weights: Callable[[float, tuple[str, str]], float] = lambda x, kind: 1.0


@dataclass
class Draft:
    """A log in the making."""

    rows: list[dict[str, float]] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    age_s: float | None = 5.0

    def log(self) -> RunLog:
        return RunLog(tuple(self.rows), self.config["recipe"], self.config, self.record, age_s=self.age_s)


def make_plan(recipe: str, seed: int) -> Plan:
    draw = random.Random(f"{recipe} {seed}")
    u, pick = draw.uniform, draw.choice
    steps = pick((50, 80, 120, 160, 200, 300, 400))
    size, groups = pick(((4, 4), (4, 8), (8, 4), (8, 8), (8, 8), (16, 4)))
    envs = pick((("alfworld",), ("dbbench",), ("alfworld", "dbbench")))
    types = tuple((e, k) for e in envs for k in _TYPES[e])
    start = u(0.03, 0.45)
    end = min(0.97, start + u(0.08, 0.6))
    shape = pick(("rise", "plateau", "late"))
    bend = {"rise": 1.0, "plateau": 0.35, "late": 1.8}[shape]
    rate = 10 ** u(-5.8, -4.6) if recipe == "grpo" else 10 ** u(-5, -3.6) if recipe == "sft" else 10 ** u(-6.3, -5.3)
    invalid = u(0.02, 0.5) if draw.random() < 0.5 else u(0.01, 0.1)
    repeated = u(0.0, 0.4) if draw.random() < 0.4 else u(0.0, 0.08)
    entropy, kl, length = 10 ** u(-1.5, 0.1), 10 ** u(-2.6, -0.6), 10 ** u(0.9, 2.5)
    cool, longer = u(0.33, 1.15), u(0.6, 1.7)
    values = {
        "rate": rate, "warmup": pick((0.0, 0.05, 0.1)), "iterations": pick((1, 1, 1, 2, 4)),
        "gap": 10 ** u(-5, -2.6), "cut": u(0.0, 0.08) if draw.random() < 0.5 else 0.0, "limit": u(0.2, 0.95),
        "lost": u(0.0, 0.02) if draw.random() < 0.5 else 0.0, "grad": 10 ** u(-1.5, 0.5), "turns": u(3, 25),
        "shaping": pick((0.0, 0.0, 0.1, 0.2)), "cost": pick((0.0, 0.05, 0.1)), "beta": pick((0.0, 0.01, 0.04)),
        "late": pick((0.0, 0.0, 0.0, 1.0)), "best": u(0.03, 0.6), "from": u(0.7, 2.5), "fast": u(2, 9),
        "margin": u(0.8, 7), "accurate": u(0.68, 0.93), "clipped": 10 ** u(-2.7, -1.6), "noise": u(0.04, 0.15),
    }  # fmt: skip
    curves: dict[str, Callable[[float], float]] = {
        "skill": lambda x: _logit(start) + (_logit(end) - _logit(start)) * x**bend,
        "invalid": lambda x: 0.015 + (invalid - 0.015) * math.exp(-6 * x),
        "repeated": lambda x: 0.01 + (repeated - 0.01) * math.exp(-5 * x),
        "entropy": lambda x: entropy * (1 + (cool - 1) * x**0.7),
        "kl": lambda x: kl * x**0.8 + 1e-5,
        "length": lambda x: length * (1 + (longer - 1) * x),
        "grad": lambda x: values["grad"] * (1 - 0.3 * x),
        "gap": lambda x: values["gap"] * (1 + 0.5 * x),
        "clipped": lambda x: 0.0 if values["iterations"] == 1 else values["clipped"],
        "cut": lambda x: values["cut"],
        "lost": lambda x: values["lost"],
        "lag": lambda x: 0.0,
        "extra": lambda x: 0.0,
        "spike": lambda x: 0.0,
        "loss": lambda x: values["best"] + (values["from"] - values["best"]) * math.exp(-values["fast"] * x),
        "margin": lambda x: values["margin"] * (1 - math.exp(-3 * x)),
        "accuracy": lambda x: 0.5 + (values["accurate"] - 0.5) * (1 - math.exp(-5 * x)),
        "chosen": lambda x: -2.0 * x * values["margin"] / 3,
        "eval_loss": lambda x: (
            1.02 * (values["best"] + (values["from"] - values["best"]) * math.exp(-values["fast"] * x))
        ),
    }
    return Plan(
        recipe,
        draw,
        steps,
        size,
        groups,
        types,
        # Whoever wins a good part of the episodes wins some of every type: else a type starves.
        {kind: max(-1.2, min(1.2, draw.gauss(0, 0.7))) for kind in types},
        curves,
        values,
        _config(recipe, envs, values, steps=steps, size=size, groups=groups),
        pick(
            ((), (), (), ("rollout/turn_tokens", "rollout/repeated", "rollout/truncated", "mismatch/"), ("mismatch/",))
        ),
    )


def _config(
    recipe: str, envs: tuple[str, ...], v: dict[str, float], *, steps: int, size: int, groups: int
) -> dict[str, Any]:
    shaping = {e: {"potential" if e == "alfworld" else "overlap": v["shaping"]} for e in envs} if v["shaping"] else {}
    return {
        "recipe": recipe,
        "data": {"sources": [{"env": e, "split": "generated", "weight": 1.0} for e in envs], "allow_eval_split": []},
        "rollout": {"group_size": size, "groups_per_step": groups, "reward_invalid_action": v["cost"],
                    "reward_shaping": shaping, "max_tokens": 512, "max_episode_tokens": 4096, "temperature": 1.0},
        recipe: {"learning_rate": v["rate"], "steps": steps, "warmup": v["warmup"]}
        | ({"beta": v["beta"], "iterations": int(v["iterations"]), "max_grad_norm": 0.2} if recipe == "grpo" else {}),
    }  # fmt: skip


def healthy(recipe: str, seed: int) -> RunLog:
    """A run that went well."""
    return play(make_plan(recipe, seed)).log()


def play(plan: Plan) -> Draft:
    return {"grpo": play_grpo, "sft": play_sft}.get(plan.recipe, play_pairs)(plan)


def _rate(plan: Plan, step: int, *, cosine: bool) -> float:
    warm = plan.values["warmup"] * plan.steps
    rate = plan.values["rate"]
    if step <= warm:
        return rate * step / warm
    return rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1.0, plan.steps - warm))) if cosine else rate


def _grad(plan: Plan, x: float, wander: Wander, share: float = 1.0) -> float:
    draw = plan.draw
    value = plan.curves["grad"](x) * math.exp(wander()) * math.sqrt(share)
    if draw.random() < 0.02:  # heavy tails are healthy
        value *= draw.uniform(2, 4)
    if draw.random() < plan.curves["spike"](x):
        value *= draw.uniform(15, 120)
    return value


def play_grpo(plan: Plan) -> Draft:
    """Group after group: every share below is counted, not drawn from a curve."""
    draw, v, curves = plan.draw, plan.values, plan.curves
    skill, entropy, kl, grad = Wander(draw, 0.15), Wander(draw, 0.1), Wander(draw, 0.25), Wander(draw, 0.4, 0.2)
    length, gap, lag = Wander(draw, 0.08), Wander(draw, 0.3), Wander(draw, 0.2)
    out = Draft(config=plan.config)
    tasks: dict[str, dict[str, str]] = {}
    for step in range(1, plan.steps + 1):
        x = step / plan.steps
        up = skill()
        weights = [plan.weights(x, kind) for kind in plan.types]
        lost_burst = 0.15 if draw.random() < 0.3 * bool(v["lost"]) / 10 else 0.0
        per: dict[tuple[str, str], list[bool]] = {}
        rewards, deviations, invalid_turns, turns, counts = (
            [],
            [],
            0,
            0,
            dict.fromkeys(("cut", "limit", "loop", "lost"), 0),
        )
        parts = {"task": 0.0, "invalid_action": 0.0, "shaping.potential": 0.0}
        for _ in range(plan.groups):
            kind = draw.choices(plan.types, weights)[0]
            chance = logistic(curves["skill"](x) + up - plan.hard[kind] - draw.gauss(0, 1.2)) if x >= 0 else 0.0
            chance = 0.0 if plan.hard[kind] > 20 else chance
            task = f"{kind[0]}:generated/{draw.randrange(10**6)}"
            tasks[task] = {
                "env": kind[0],
                "split": "generated",
                "type": kind[1],
                "content_hash": f"{draw.getrandbits(64):x}",
            }
            group = []
            for _ in range(plan.size):
                if draw.random() < curves["lost"](x) + lost_burst:
                    counts["lost"] += 1
                    continue
                won = draw.random() < chance
                long = max(1, round(v["turns"] * (draw.uniform(0.4, 0.9) if won else draw.uniform(0.8, 1.2))))
                bad = sum(draw.random() < curves["invalid"](x) for _ in range(long))
                shaped = v["shaping"] * (1.0 if won else max(0.0, min(1.0, draw.gauss(0.2 + 0.5 * chance, 0.15))))
                shaped += curves["extra"](x) * draw.uniform(0.7, 1.3)
                turns, invalid_turns = turns + long, invalid_turns + bad
                per.setdefault(kind, []).append(won)
                if not won:
                    cut = draw.random() < curves["cut"](x) / max(0.05, 1 - chance)
                    counts["cut"] += cut
                    counts["limit"] += not cut and draw.random() < v["limit"]
                counts["loop"] += draw.random() < curves["repeated"](x)
                for part, value in (
                    ("task", float(won)),
                    ("invalid_action", -v["cost"] * bad),
                    ("shaping.potential", shaped),
                ):
                    parts[part] += value
                reward = float(won) - v["cost"] * bad + shaped
                group.append(0.0 if v.get("equal") and x >= v["equal"] else reward)
            rewards += group
            if len(group) > 1:
                mean = sum(group) / len(group)
                deviations.append(math.sqrt(sum((r - mean) ** 2 for r in group) / (len(group) - 1)))
        total, scored = plan.size * plan.groups, len(rewards)
        if not scored:
            continue
        flat = sum(d < 1e-9 for d in deviations) / max(1, len(deviations))
        mean = sum(rewards) / scored
        row = {
            "step": step,
            "learning_rate": _rate(plan, step, cosine=False),
            "loss": draw.gauss(0, 0.02),
            "grad_norm": _grad(plan, x, grad, 1 - flat),
            "entropy": curves["entropy"](x) * math.exp(entropy()),
            "clip_ratio/region_mean": curves["clipped"](x) * math.exp(draw.gauss(0, 0.4)),
            "rollout/success": sum(map(sum, per.values())) / scored,
            "rollout/reward": mean,
            "reward": mean + draw.gauss(0, 1e-7),
            "rollout/episodes": total,
            "rollout/infrastructure_failures": counts["lost"],
            "rollout/turns": turns / scored,
            "rollout/invalid_turns": invalid_turns / turns,
            "rollout/truncated": (counts["cut"] + counts["limit"]) / scored,
            "rollout/repeated": counts["loop"] / scored,
            "rollout/turn_tokens": curves["length"](x) * math.exp(length()),
            "rollout/group_reward_std": sum(deviations) / max(1, len(deviations)),
            "rollout/groups_without_signal": flat,
            "rollout/policy_lag": max(
                0.0, curves["lag"](x * plan.steps) + (v["late"] * (0.5 + lag()) if v["late"] else 0.0)
            ),
            "status/completed": scored - counts["cut"] - counts["limit"],
            "time/step": 30 * math.exp(draw.gauss(0, 0.1)),
        }
        for status, name in (
            ("truncated_tokens", "cut"),
            ("truncated_turns", "limit"),
            ("infrastructure_error", "lost"),
        ):
            if counts[name]:
                row[f"status/{status}"] = counts[name]
        if v["beta"]:
            row["kl"] = curves["kl"](x) * math.exp(kl()) * (draw.uniform(3, 6) if draw.random() < 0.02 else 1)
        difference = curves["gap"](x) * math.exp(gap())
        row["mismatch/kl"], row["mismatch/logp_mean"] = difference, 0.45 * math.sqrt(2 * difference)
        row["sampling/sampling_logp_difference/mean"] = row["mismatch/logp_mean"]
        for part, value in parts.items():
            if value or part == "task":
                row[f"reward_part/{part}"] = value / scored
        for (env, kind_), wins in per.items():
            row[f"episodes/{env}/{kind_}"], row[f"success/{env}/{kind_}"] = len(wins), sum(wins) / len(wins)
        if step % 20 == 0:
            p = logistic(curves["skill"](x))
            row["eval/episodes"], row["eval/success"] = 50, sum(draw.random() < p for _ in range(50)) / 50
        out.rows.append({k: float(n) for k, n in row.items() if not k.startswith(plan.lacks or ("?",))})
    out.record = {"tasks": tasks, "splits": sorted({f"{t['env']}/{t['split']}" for t in tasks.values()})}
    return out


def play_sft(plan: Plan) -> Draft:
    """Losses of batches around a curve that falls, a little drop at every pass over the rows."""
    draw, curves = plan.draw, plan.curves
    loss, grad = Wander(draw, plan.values["noise"], 0.2), Wander(draw, 0.3, 0.2)
    out = Draft(config=plan.config)
    for step in range(1, plan.steps + 1):
        x = step / plan.steps
        value = curves["loss"](x) * math.exp(loss()) * (0.93 if x > 0.5 else 1.0)
        row = {
            "step": step,
            "learning_rate": _rate(plan, step, cosine=True),
            "loss": value,
            "grad_norm": _grad(plan, x, grad),
            "entropy": 0.9 * value,
            "mean_token_accuracy": math.exp(-0.5 * value),
        }
        if step % 20 == 0:
            p = logistic(curves["skill"](x))
            row["eval/episodes"], row["eval/success"] = 60, sum(draw.random() < p for _ in range(60)) / 60
            row["eval_loss"] = curves["eval_loss"](x) * math.exp(draw.gauss(0, 0.01))
        out.rows.append({k: float(n) for k, n in row.items()})
    return out


def play_pairs(plan: Plan) -> Draft:
    """DPO and KTO: accuracy and margin of small batches."""
    draw, curves = plan.draw, plan.curves
    margin, grad = Wander(draw, 0.2, 0.3), Wander(draw, 0.4, 0.2)
    batch = draw.choice((8, 16, 32))
    out = Draft(config=plan.config)
    for step in range(1, plan.steps + 1):
        x = step / plan.steps
        wide = curves["margin"](x) * math.exp(margin()) + draw.gauss(0, 0.05)
        right = curves["accuracy"](x)
        falling = (0.69 * (1 - x) + x * max(0.05, 0.69 - 0.4 * (plan.values["accurate"] - 0.5) / 0.4)) * math.exp(
            draw.gauss(0, 0.1)
        )
        row = {
            "step": step,
            "learning_rate": _rate(plan, step, cosine=True),
            "loss": curves["pair_loss"](x) if "pair_loss" in curves else falling,
            "grad_norm": _grad(plan, x, grad),
            "rewards/margins": wide,
            "rewards/chosen": 0.3 * wide,
            "rewards/rejected": -0.7 * wide,
            "logps/chosen": -40 + curves["chosen"](x) + draw.gauss(0, 2),
            "logps/rejected": -45 - 3 * wide + draw.gauss(0, 2),
        }
        if plan.recipe == "dpo":
            row["rewards/accuracies"] = sum(draw.random() < right for _ in range(batch)) / batch
        else:
            row["kl"] = abs(draw.gauss(2, 2))
        out.rows.append({k: float(n) for k, n in row.items()})
    return out
