"""The runs on this disk: read from what each left in its folder. There is no database, and nothing here writes.

A run is a folder with a ``config.json`` of a recipe. Every other file may be missing, and one that is broken is named.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from envs.errors import ConfigError
from trainer.monitors import METRICS_FILE
from trainer.record import ADAPTER_RECORD, RUN_RECORD
from trainer.shown_settings import set_settings
from trainer.status import RunState, RunStatus, read_status

__all__ = [
    "Adapter",
    "Best",
    "Run",
    "best_adapter",
    "curve",
    "curves_of",
    "different_settings",
    "final_adapter",
    "find_run",
    "find_runs",
    "is_running",
    "read_run",
    "runs_root",
    "shared_points",
    "sparkline",
]

CONFIG_FILE = "config.json"
FINDINGS_FILE = "findings.jsonl"
_DEPTH = 3
_BARS = "▁▂▃▄▅▆▇█"
_JUDGES = ("eval/success", "rollout/success")  # by which a run's best is told, the first that it has
_SMOOTHED = 5  # steps that a rollout's success is averaged over: one step's is mostly noise
_CURVES = (
    *("eval/success", "rollout/success", "rollout/reward", "loss", "kl", "mismatch/kl", "entropy", "grad_norm"),
    *("rollout/turns", "rollout/invalid_turns", "mean_token_accuracy", "rewards/margins", "rewards/accuracies"),
)


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter on disk, and the optimizer step that it is of."""

    path: Path
    step: int


@dataclass(frozen=True, slots=True)
class Best:
    """The best adapter that is still on disk. ``metric`` "" where nothing judges: then it is the last."""

    adapter: Adapter
    metric: str
    value: float | None
    peak_step: int | None
    """The step whose figure was the best of all, whether or not its adapter is still there."""

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON document."""
        return {
            "path": str(self.adapter.path),
            "step": self.adapter.step,
            "metric": self.metric,
            "value": self.value,
            "peak_step": self.peak_step,
        }


@dataclass(frozen=True, slots=True)
class Run:
    """What a run's folder says. ``metrics``: one mapping a step, each with ``step``, in order."""

    name: str
    folder: Path
    config: Mapping[str, Any]
    status: RunStatus
    record: Mapping[str, Any] = field(default_factory=dict)
    metrics: tuple[Mapping[str, Any], ...] = ()
    checkpoints: tuple[Adapter, ...] = ()
    policies: tuple[Adapter, ...] = ()
    adapter: Adapter | None = None
    findings: tuple[Mapping[str, Any], ...] = ()
    evaluations: tuple[Mapping[str, Any], ...] = ()
    problems: tuple[str, ...] = ()
    updated: float = 0.0

    @property
    def recipe(self) -> str:
        """``grpo``, ``sft``, …"""
        return str(self.config.get("recipe", "?"))

    @property
    def model(self) -> str:
        """The base model's name, of a folder its last part."""
        name = str(self.config.get("model", {}).get("name", "?"))
        return name.rstrip("/").rpartition("/")[2] if name.startswith(("/", ".", "~")) else name

    @property
    def step(self) -> int:
        """The last step that it tells of."""
        return max(self.status.step, int(self.metrics[-1]["step"]) if self.metrics else 0)

    @property
    def adapters(self) -> tuple[Adapter, ...]:
        """Every adapter on disk, by step; of one step the published one."""
        own = (self.adapter,) if self.adapter else ()
        by_step = {a.step: a for a in (*self.checkpoints, *self.policies, *own)}
        return tuple(by_step[step] for step in sorted(by_step))

    def last(self, metric: str) -> float | None:
        """The newest value of a metric."""
        return next((float(m[metric]) for m in reversed(self.metrics) if _number(m.get(metric))), None)


def runs_root(root: Path | None = None) -> Path:
    """Where runs are looked for: ``root``, else ENVLOOP_RUNS, else ``runs``. Raises ConfigError for no folder."""
    found = root or Path(os.environ.get("ENVLOOP_RUNS") or "runs")
    if not found.is_dir():
        raise ConfigError(f"there is no folder {found} with runs", hint="name it with --root or ENVLOOP_RUNS")
    return found


def find_runs(root: Path) -> list[Run]:
    """Every run under ``root``, the last that changed first."""
    found = [read_run(folder, name=str(folder.relative_to(root))) for folder in _folders(root, _DEPTH)]
    return sorted(found, key=lambda r: (-r.updated, r.name))


def find_run(root: Path | None, name: str) -> Run:
    """The run of this name under the root, or in this folder. Raises ConfigError with the names that are there."""
    folder = Path(name)
    if (folder / CONFIG_FILE).is_file():
        return read_run(folder, name=folder.name)
    runs = find_runs(runs_root(root))
    matching = [r for r in runs if r.name == name] or [r for r in runs if r.name.startswith(name)]
    if len(matching) != 1:
        what = "more than one run begins with" if matching else "no run is called"
        known = ", ".join(r.name for r in (matching or runs)[:8]) or "none"
        raise ConfigError(f"{what} {name!r}", hint=f"there is: {known}")
    return matching[0]


def read_run(folder: Path, *, name: str | None = None) -> Run:
    """Read a run's folder. Raises ConfigError where it is none."""
    problems: list[str] = []
    config = _json(folder / CONFIG_FILE, problems)
    if "recipe" not in config:
        raise ConfigError(f"{folder} holds no run: {'; '.join(problems) or 'its config.json names no recipe'}")
    record = _json(folder / RUN_RECORD, problems)
    metrics = [m for m in _lines(folder / METRICS_FILE, problems) if _number(m.get("step"))]
    own = folder / "adapter"
    checkpoints = sorted(
        (
            Adapter(p, int(m[1]))
            for p in folder.glob("checkpoint-*")
            if (m := re.fullmatch(r"checkpoint-(\d+)", p.name))
        ),
        key=lambda a: a.step,
    )
    policies = (Adapter(p.parent, _step(p, problems)) for p in (folder / "policies").glob(f"*/{ADAPTER_RECORD}"))
    return Run(
        name=name or folder.name,
        folder=folder,
        config=config,
        status=read_status(folder),
        record=record,
        metrics=tuple(sorted(metrics, key=lambda m: float(m["step"]))),
        checkpoints=tuple(a for a in checkpoints if (a.path / "adapter_config.json").is_file()),
        policies=tuple(sorted(policies, key=lambda a: a.step)),
        adapter=Adapter(own, _step(own / ADAPTER_RECORD, problems)) if (own / ADAPTER_RECORD).is_file() else None,
        findings=tuple(_lines(folder / FINDINGS_FILE, problems)),
        evaluations=tuple(_evaluations(folder, problems)),
        problems=tuple(problems),
        updated=max(_changed(folder / n) for n in (CONFIG_FILE, METRICS_FILE, "status.json", RUN_RECORD)),
    )


def curve(run: Run, metric: str) -> list[tuple[int, float]]:
    """(step, value) of every step that tells this metric."""
    return [(int(m["step"]), float(m[metric])) for m in run.metrics if _number(m.get(metric))]


def curves_of(runs: Sequence[Run], *, asked: Sequence[str] = ()) -> list[str]:
    """The metrics that are worth a line: those asked for, else the usual ones that any of the runs has.

    Raises ConfigError for a metric that none of them has.
    """
    there = {name for run in runs for m in run.metrics for name in m}
    if unknown := [name for name in asked if name not in there]:
        raise ConfigError(f"no run has the metric {', '.join(unknown)}", hint=f"there is: {', '.join(sorted(there))}")
    return list(asked) or [name for name in _CURVES if name in there]


def sparkline(points: Sequence[tuple[int, float]], *, width: int = 24, span: tuple[float, float] | None = None) -> str:
    """A curve in one line of at most ``width`` marks, from its own minimum to its maximum or over ``span``."""
    if not points:
        return ""
    values = [v for _, v in points]
    if len(values) > width:
        edges = [round(i * len(values) / width) for i in range(width + 1)]
        values = [fmean(values[a:b]) for a, b in itertools.pairwise(edges)]
    low, high = span or (min(values), max(values))
    if high <= low:
        return _BARS[3] * len(values)
    top = len(_BARS) - 1
    return "".join(_BARS[min(top, max(0, round((v - low) / (high - low) * top)))] for v in values)


def shared_points(runs: Sequence[Run], metric: str, *, count: int = 5) -> list[tuple[int, list[float]]]:
    """Values of a metric at up to ``count`` steps that every run has, first and last among them."""
    curves = [dict(curve(run, metric)) for run in runs]
    shared = sorted(set.intersection(*(set(c) for c in curves))) if curves else []
    if len(shared) > count:
        shared = [shared[round(i * (len(shared) - 1) / (count - 1))] for i in range(count)]
    return [(step, [c[step] for c in curves]) for step in shared]


def different_settings(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """The settings in which runs differ, by dotted name: each run's value, None for the default."""
    each = [{"recipe": r.recipe, **set_settings(r.config)} for r in runs]
    names = sorted({name for settings in each for name in settings})
    table = {name: [settings.get(name) for settings in each] for name in names}
    return {name: values for name, values in table.items() if any(v != values[0] for v in values)}


def best_adapter(run: Run) -> Best | None:
    """The adapter on disk of the best evaluation in the loop, else of the best rollouts, else the last.

    None where there is none. A step's rollouts were sampled from the adapter of the step before; they are averaged over
    five steps. An evaluation is of the step that it stands at. Of equal ones the later counts.
    """
    adapters = run.adapters
    if not adapters:
        return None
    for metric in _JUDGES:
        points = curve(run, metric)
        if not points:
            continue
        if metric == "rollout/success":
            values = [v for _, v in points]
            smooth = [fmean(values[max(0, i - _SMOOTHED // 2) : i + _SMOOTHED // 2 + 1]) for i in range(len(values))]
            points = [(step - 1, v) for (step, _), v in zip(points, smooth, strict=True)]
        scores = dict(points)
        judged = [(scores[a.step], a.step, a) for a in adapters if a.step in scores]
        if judged:
            value, _, adapter = max(judged, key=lambda j: j[:2])
            peak = max(points, key=lambda p: (p[1], p[0]))[0]
            return Best(adapter, metric, value, peak)
    return Best(adapters[-1], "", None, None)


def final_adapter(run: Run) -> Adapter:
    """The adapter that the run ended with. Raises ConfigError where it has none."""
    if run.adapter is not None:
        return run.adapter
    if not run.adapters:
        raise ConfigError(f"the run {run.name} has no adapter", hint="it has not saved one yet")
    return run.adapters[-1]


def is_running(run: Run) -> bool:
    """Whether a process works in the run's folder."""
    return run.status.state is RunState.RUNNING


def _folders(root: Path, depth: int) -> Iterator[Path]:
    if (root / CONFIG_FILE).is_file() and '"recipe"' in (root / CONFIG_FILE).read_text(
        encoding="utf-8", errors="replace"
    ):
        yield root
        return  # nothing inside a run is a run
    if depth:
        for folder in sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")):
            yield from _folders(folder, depth - 1)


def _json(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        problems.append(f"{path.name} cannot be read: {error}")
        return {}
    if not isinstance(document, dict):
        problems.append(f"{path.name} is no JSON object")
        return {}
    return document


def _lines(path: Path, problems: list[str]) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    out: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            document = json.loads(line)
        except ValueError:
            if number < len(lines):  # the last may be under way
                problems.append(f"{path.name}:{number} is no JSON")
            continue
        if isinstance(document, dict):
            out.append(document)
    return out


def _evaluations(folder: Path, problems: list[str]) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob("**/eval*.json")):
        document = _json(path, problems)
        if str(document.get("schema", "")).startswith("envloop.eval_report/"):
            yield document


def _step(record: Path, problems: list[str]) -> int:
    step = _json(record, problems).get("step", 0)
    return int(step) if _number(step) else 0


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
