"""SFT or RL? What a baseline evaluation says about the groups that GRPO would learn from.

A group whose episodes all win, or all lose, has no variance and no gradient. With success rate p a group of G episodes
has both with probability 1 - p^G - (1 - p)^G. Tasks of one type are not equally hard, and the expression is concave in
p: at a type's mean rate it is the most that can be expected, not the least.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from envs.errors import ConfigError

__all__ = ["Outlook", "TypeOutlook", "group_needed", "mixed_share", "outlook", "rate_needed", "read_baseline"]

_ENOUGH = 0.25  # below this share of useful groups a step teaches little for what it costs
_GOOD = 0.5
_STARVING = 0.1


@dataclass(frozen=True, slots=True)
class TypeOutlook:
    """A task type: its success rate with a 95 % interval, and the share of its groups with variance at each of them."""

    type: str
    episodes: int
    success: float
    low: float
    high: float
    mixed: float
    mixed_low: float
    mixed_high: float


@dataclass(frozen=True, slots=True)
class Outlook:
    """The answer. ``useful``: expected groups with variance in a step; ``starving``: types that would hardly have one.

    ``rate_needed``: the success rate from which a quarter of the groups differ; ``group_needed``: the group size at
    which half of them would at the rate there is, None where no size can.
    """

    advice: Literal["sft", "rl", "harder_tasks", "rl_with_filter"]
    reason: str
    success: float
    group_size: int
    groups_per_step: int
    mixed: float
    useful: float
    types: tuple[TypeOutlook, ...]
    starving: tuple[str, ...]
    rate_needed: float
    group_needed: int | None

    def to_json(self) -> dict[str, Any]:
        """The outlook as a JSON document."""
        return {"schema": "envloop.outlook/1", **asdict(self)}


def mixed_share(rate: float, group_size: int) -> float:
    """The probability that a group of ``group_size`` episodes, each won with probability ``rate``, has both."""
    return 1.0 - rate**group_size - (1.0 - rate) ** group_size


def rate_needed(share: float, group_size: int) -> float:
    """The smallest success rate at which ``share`` of the groups have both, by bisection; 0.5 where none does."""
    low, high = 0.0, 0.5
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if mixed_share(middle, group_size) < share else (low, middle)
    return high


def group_needed(share: float, rate: float) -> int | None:
    """The smallest group size at which ``share`` of the groups have both; None for a rate of 0 or 1, or above 4096."""
    if not 0 < rate < 1:
        return None
    return next((size for size in range(2, 4097) if mixed_share(rate, size) >= share), None)


def read_baseline(path: Path) -> list[dict[str, Any]]:
    """The per-type rows of a report of ``envloop eval``. Raises ConfigError for a file that is none."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}", hint="give an eval-….json of envloop eval") from error
    rows = report.get("types") if isinstance(report, dict) else None
    if not isinstance(rows, list) or not str(report.get("schema", "")).startswith("envloop.eval_report/"):
        raise ConfigError(f"{path} is no report of an evaluation", hint="give an eval-….json of envloop eval")
    played = [row for row in rows if isinstance(row, dict) and row.get("episodes")]
    if not played:
        raise ConfigError(f"{path} has no scored episode", hint="evaluate again; see the report's errors")
    return played


def outlook(types: Sequence[dict[str, Any]], *, group_size: int, groups_per_step: int) -> Outlook:
    """What GRPO could learn from, by a baseline's rows ``{"type", "episodes", "success", "low", "high"}``.

    Types count by the tasks that were evaluated. Raises ConfigError for rows that lack a figure.
    """
    try:
        rows = tuple(_type(row, group_size) for row in types)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"a row of the report has no {error}", hint="give an eval-….json of envloop eval") from error
    total = sum(row.episodes for row in rows)
    success = sum(row.success * row.episodes for row in rows) / total
    mixed = sum(row.mixed * row.episodes for row in rows) / total
    useful = mixed * groups_per_step
    starving = tuple(row.type for row in rows if row.mixed < _STARVING and row.success < 0.5)
    needed = rate_needed(_ENOUGH, group_size)
    advice, reason = _advice(success, mixed, group_size, groups_per_step, needed)
    return Outlook(
        advice,
        reason,
        success,
        group_size,
        groups_per_step,
        mixed,
        useful,
        rows,
        starving,
        needed,
        group_needed(_GOOD, success),
    )


def _type(row: dict[str, Any], size: int) -> TypeOutlook:
    rate, low, high = (float(row[key]) for key in ("success", "low", "high"))
    ends = sorted((mixed_share(low, size), mixed_share(high, size)))
    if low <= 0.5 <= high:
        ends[1] = mixed_share(0.5, size)
    values = (rate, low, high, mixed_share(rate, size), *ends)
    if not all(math.isfinite(v) and 0 <= v <= 1 for v in values):
        raise ValueError("rate in [0, 1]")
    return TypeOutlook(str(row["type"]), int(row["episodes"]), *values)


def _advice(
    success: float, mixed: float, size: int, groups: int, needed: float
) -> tuple[Literal["sft", "rl", "harder_tasks", "rl_with_filter"], str]:
    numbers = (
        f"with {success:.1%} of episodes won, at most {mixed:.0%} of groups of {size} have both a win and a loss: "
        f"{mixed * groups:.1f} useful groups in a step of {groups}"
    )
    if mixed < _ENOUGH and success < 0.5:
        return (
            "sft",
            f"too low a success rate for group variance means SFT first: {numbers}. RL pays from {needed:.1%}.",
        )
    if mixed < _ENOUGH:
        return "harder_tasks", f"nearly every group wins altogether: harder tasks, or done. {numbers}."
    if mixed < _GOOD:
        return "rl_with_filter", (
            f"RL can learn, slowly: {numbers}. SFT first, larger groups (rollout.group_size) or groups played anew "
            "where all are equal (grpo.filter_groups) make more of each step."
        )
    return "rl", f"RL: {numbers}."
