"""Two policies on the same tasks: how often each succeeds, by how much they differ, and whether that can be chance."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from rollout_server.episode_store import EpisodeSummary
from rollout_server.paired_stats import least_discordant, mcnemar_exact, paired_interval, sign_flip_test

__all__ = ["Comparison", "Flip", "PairedResult", "compare_episodes"]

_ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class PairedResult:
    """The paired results of ``type`` (a task type, or ``all``). Differences are the second's minus the first's.

    ``low`` and ``high`` bound the difference in success with 95 % confidence (Newcombe's paired interval).
    ``p_success`` is McNemar's exact p-value over pairs, ``p_reward`` that of the paired permutation test over the mean
    difference in reward of each task. ``note`` says where there are too few pairs, or pairs that are not independent.
    """

    type: str
    tasks: int
    pairs: int
    success_a: float
    success_b: float
    difference: float
    low: float
    high: float
    only_a: int
    only_b: int
    p_success: float
    reward_difference: float
    p_reward: float
    note: str


@dataclass(frozen=True, slots=True)
class Flip:
    """A pair that came out differently. ``gained``: the second succeeded where the first failed."""

    env: str
    task_id: str
    gained: bool
    episode_a: str
    episode_b: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that ``compare_episodes`` found. ``types`` are ordered by name.

    ``unpaired_a`` and ``unpaired_b``: scored episodes without a partner. ``unscored``: those without a result
    (infrastructure errors, cancellations), in no figure.
    """

    overall: PairedResult
    types: tuple[PairedResult, ...]
    flips: tuple[Flip, ...]
    unpaired_a: int
    unpaired_b: int
    unscored: int

    def to_json(self) -> dict[str, Any]:
        """Its fields, by name, with a schema."""
        return {"schema": "envloop.comparison/1", **asdict(self)}


type _Pair = tuple[EpisodeSummary, EpisodeSummary]


def compare_episodes(first: Iterable[EpisodeSummary], second: Iterable[EpisodeSummary]) -> Comparison:
    """Pair the episodes by environment and task, several of one task in the order in which they began, and compare."""
    unscored = 0
    sides: list[dict[tuple[str, str], list[EpisodeSummary]]] = []
    for side in (first, second):
        by_task: dict[tuple[str, str], list[EpisodeSummary]] = defaultdict(list)
        for summary in side:
            if summary.status.scored and summary.reward is not None:
                by_task[summary.env, summary.task_id].append(summary)
            else:
                unscored += 1
        for members in by_task.values():
            members.sort(key=lambda s: (s.started_at, s.id))
        sides.append(by_task)
    a, b = sides
    pairs = [pair for key in sorted(a.keys() & b.keys()) for pair in zip(a[key], b[key], strict=False)]
    by_type: dict[str, list[_Pair]] = defaultdict(list)
    for pair in pairs:
        by_type[pair[0].task_type].append(pair)
    return Comparison(
        overall=_result("all", pairs),
        types=tuple(_result(name, found) for name, found in sorted(by_type.items())),
        flips=tuple(Flip(x.env, x.task_id, _won(y), x.id, y.id) for x, y in pairs if _won(x) is not _won(y)),
        unpaired_a=sum(map(len, a.values())) - len(pairs),
        unpaired_b=sum(map(len, b.values())) - len(pairs),
        unscored=unscored,
    )


def _result(name: str, pairs: Sequence[_Pair]) -> PairedResult:
    outcomes = [(_won(x), _won(y)) for x, y in pairs]
    both, only_a = outcomes.count((True, True)), outcomes.count((True, False))
    only_b, neither = outcomes.count((False, True)), outcomes.count((False, False))
    low, high = paired_interval(both, only_a, only_b, neither)
    differences: dict[tuple[str, str], list[float]] = defaultdict(list)
    for x, y in pairs:
        differences[x.env, x.task_id].append((y.reward or 0.0) - (x.reward or 0.0))
    means = [fmean(values) for values in differences.values()]
    n = len(pairs)
    return PairedResult(
        type=name,
        tasks=len(means),
        pairs=n,
        success_a=(both + only_a) / n if n else 0.0,
        success_b=(both + only_b) / n if n else 0.0,
        difference=(only_b - only_a) / n if n else 0.0,
        low=low,
        high=high,
        only_a=only_a,
        only_b=only_b,
        p_success=mcnemar_exact(only_a, only_b),
        reward_difference=fmean(means) if means else 0.0,
        p_reward=sign_flip_test(means),
        note=_note(n, len(means), only_a + only_b),
    )


def _note(pairs: int, tasks: int, differing: int) -> str:
    if not pairs:
        return "no task was played by both"
    notes = []
    least = least_discordant(_ALPHA)
    if differing < least:
        notes.append(
            f"too few: {differing} of {pairs} pairs differ, and below {least} no outcome can have p < {_ALPHA:g}"
        )
    if pairs > tasks:
        notes.append(
            f"{pairs} pairs of {tasks} tasks are not independent: the interval and p of success are too narrow, "
            "p of reward counts tasks"
        )
    return "; ".join(notes)


def _won(summary: EpisodeSummary) -> bool:
    return summary.reward is not None and summary.reward >= 1.0
