"""An evaluation against a stored one, on the tasks that both played: a report's file, a folder of them, or a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from envs.errors import ConfigError
from rollout_server.episode_store import EpisodeFilters, EpisodeStore, EpisodeSummary, summary_from_json
from rollout_server.replay_compare import Comparison, PairedResult, compare_episodes
from trainer.eval_figures import EvalReport
from trainer.eval_stats import TaskTrials, paired_mean

__all__ = ["Baseline", "EvalComparison", "compare_reports", "comparison_view", "load_baseline"]


@dataclass(frozen=True, slots=True)
class Baseline:
    """A stored evaluation: its name, its episodes, and its settings where a report tells them."""

    name: str
    results: tuple[EpisodeSummary, ...]
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EvalComparison:
    """``paired`` has this evaluation as the second and the baseline as the first; differences are second minus first.

    ``mean``, ``low`` and ``high``: the mean difference of tasks' success rates with a bootstrap interval over tasks;
    the one to read where tasks were played several times. ``differing``: settings that are not the same.
    """

    baseline: str
    paired: Comparison
    mean: float
    low: float
    high: float
    differing: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The comparison as a JSON document."""
        return {
            "baseline": self.baseline,
            "paired": self.paired.to_json(),
            "mean": self.mean,
            "low": self.low,
            "high": self.high,
            "differing": list(self.differing),
        }


def load_baseline(target: str, *, env: str, split: str, store_url: str) -> Baseline:
    """The stored evaluation that ``target`` names: a report's JSON file, a folder with one of this split, or a run or a
    policy of the store. Raises ConfigError where it is none of these or holds no episode of the split."""
    path = Path(target)
    if path.is_dir():
        path = path / f"eval-{env}-{split}.json"
        if not path.is_file():
            raise ConfigError(f"{target} holds no evaluation of {env}/{split}", hint="name its report: eval-….json")
    if path.is_file():
        return _from_report(path, env, split)
    with EpisodeStore(store_url) as store:
        sides: tuple[EpisodeFilters, ...] = (
            {"env": env, "split": split, "run": target},
            {"env": env, "split": split, "policy": target},
        )
        for side in sides:
            found = store.query(limit=1_000_000_000, **side)
            if found:
                return Baseline(target, tuple(found), {})
    raise ConfigError(
        f"--compare {target}: no such report, folder, run or policy", hint="a run is named in its report: eval-KEY"
    )


def compare_reports(report: EvalReport, baseline: Baseline) -> EvalComparison:
    """Compare on the tasks that both played. Raises ConfigError where there is none."""
    own = [summary_from_json({k: v for k, v in r.items() if k != "sample"}) for r in report.results]
    paired = compare_episodes(baseline.results, own)
    if not paired.overall.pairs:
        raise ConfigError(
            f"{baseline.name} and this evaluation have no task in common", hint="compare evaluations of one split"
        )
    mean, low, high = paired_mean(_trials(baseline.results), _trials(own))
    known = [name for name in report.settings if name in baseline.settings and name not in ("limit", "type")]
    differing = tuple(name for name in known if report.settings[name] != baseline.settings[name])
    return EvalComparison(baseline.name, paired, mean, low, high, differing)


def comparison_view(found: EvalComparison) -> Group:
    """The comparison to look at."""
    table = Table(title=f"against {found.baseline}: success on the same tasks")
    table.add_column("task type")
    for name in ("pairs", "before", "now", "difference", "95 % interval", "p (McNemar)"):
        table.add_column(name, justify="right")
    for row in (*found.paired.types, found.paired.overall):
        table.add_row(*_cells(row), end_section=bool(found.paired.types) and row is found.paired.types[-1])
    lines = []
    if found.paired.overall.pairs > found.paired.overall.tasks:
        lines.append(f"mean over tasks {found.mean:+.1%} ({found.low:+.1%} … {found.high:+.1%}, bootstrap over tasks)")
    lines += [found.paired.overall.note] if found.paired.overall.note else []
    lines += [f"settings differ: {', '.join(found.differing)}"] if found.differing else []
    unpaired = found.paired.unpaired_a, found.paired.unpaired_b
    lines += [f"without a partner: {unpaired[0]} before, {unpaired[1]} now"] if any(unpaired) else []
    return Group(table, *(Text(line) for line in lines))


def _cells(row: PairedResult) -> tuple[str, ...]:
    return (
        row.type,
        str(row.pairs),
        f"{row.success_a:.1%}",
        f"{row.success_b:.1%}",
        f"{row.difference:+.1%}",
        f"{row.low:+.1%} … {row.high:+.1%}",
        f"{row.p_success:.3g}",
    )


def _from_report(path: Path, env: str, split: str) -> Baseline:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        results = tuple(summary_from_json({k: v for k, v in r.items() if k != "sample"}) for r in document["results"])
        of, settings = (document["env"], document["split"]), dict(document["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} is no report of an evaluation with its episodes: {error}", hint="make it with this envloop"
        ) from error
    if of != (env, split):
        raise ConfigError(f"{path} is of {'/'.join(of)}, not of {env}/{split}", hint="compare evaluations of one split")
    return Baseline(str(path), results, settings)


def _trials(results: Iterable[EpisodeSummary]) -> dict[str, TaskTrials]:
    found: dict[str, TaskTrials] = {}
    for summary in results:
        if summary.status.scored and summary.reward is not None:
            before = found.get(summary.task_id, TaskTrials(0, 0))
            found[summary.task_id] = TaskTrials(before.trials + 1, before.successes + (summary.reward >= 1.0))
    return found
