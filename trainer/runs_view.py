"""Runs as tables, as JSON and as a plot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rollout_server.replay_view import visible
from trainer.runs import (
    Best,
    Run,
    best_adapter,
    curve,
    curves_of,
    different_settings,
    is_running,
    shared_points,
    sparkline,
)
from trainer.shown_settings import default_setting, set_settings

__all__ = [
    "compare_document",
    "compare_tables",
    "list_table",
    "plot_curves",
    "replay_hint",
    "run_document",
    "run_line",
    "run_panel",
]

_STATE_STYLES = {"running": "green", "failed": "red", "died": "red", "stopped": "yellow"}


def run_line(run: Run) -> dict[str, Any]:
    """What a list says of a run."""
    return {
        "name": run.name,
        "recipe": run.recipe,
        "model": run.model,
        "state": run.status.state.value,
        "step": run.step,
        "steps": run.status.steps,
        "success": _success(run),
        "updated_at": run.status.updated_at or datetime.fromtimestamp(run.updated, UTC).isoformat(timespec="seconds"),
        "error": run.status.error,
        "problems": list(run.problems),
    }


def list_table(runs: Sequence[Run]) -> Table:
    """One row a run."""
    table = Table("run", "recipe", "model", "step", "state", "success", "updated", box=None, pad_edge=False)
    for run in runs:
        line = run_line(run)
        state = Text(line["state"], style=_STATE_STYLES.get(line["state"], ""))
        steps = f"{line['step']}/{line['steps']}" if line["steps"] else str(line["step"])
        updated = str(line["updated_at"]).replace("T", " ").removesuffix("+00:00")
        table.add_row(run.name, run.recipe, run.model, steps, state, _percent(line["success"]), updated)
    return table


def run_document(run: Run) -> dict[str, Any]:
    """Everything that ``show`` shows."""
    return {
        **run_line(run),
        "folder": str(run.folder),
        "settings": set_settings(run.config),
        "splits": list(run.record.get("splits", ())),
        "tasks": len(run.record.get("tasks", {})),
        "episodes": int(run.record.get("episodes", 0)),
        "last": {name: run.last(name) for name in curves_of([run])},
        "best": best.to_json() if (best := best_adapter(run)) else None,
        "adapters": [{"path": str(a.path), "step": a.step} for a in run.adapters],
        "findings": [dict(f) for f in run.findings],
        "evaluations": [_evaluation(e) for e in run.evaluations],
        "replay": replay_hint(run),
    }


def run_panel(run: Run, *, metrics: Sequence[str] = ()) -> RenderableType:
    """One run for a reader."""
    status = run.status
    head = Text(f"{run.name}  ", style="bold")
    head.append(status.state.value, style=_STATE_STYLES.get(status.state.value, ""))
    head.append(f"  {run.recipe} of {run.model}, step {run.step}" + (f" of {status.steps}" if status.steps else ""))
    if is_running(run):
        head.append(f"; process {status.pid} on {status.host}")
    parts: list[RenderableType] = [head]
    if status.error:
        parts.append(Text(f"ended by {visible(status.error)}", style="red"))
    parts += [Text(problem, style="yellow") for problem in run.problems]
    splits = ", ".join(run.record.get("splits", ())) or "none yet"
    parts.append(Text(f"trained on {splits}: {len(run.record.get('tasks', {}))} tasks, "
                      f"{run.record.get('episodes', 0)} episodes"))  # fmt: skip
    if allowed := run.record.get("allow_eval_split"):
        parts.append(Text(f"EVALUATION SPLITS WERE ALLOWED: {', '.join(allowed)}", style="bold red"))
    parts += [Text(), _settings_table(set_settings(run.config)), Text(), _curve_table([run], metrics)]
    best = best_adapter(run)
    parts.append(Text(f"\nbest: {_best_text(best)}"))
    for finding in run.findings[-5:]:
        parts.append(Text(f"doctor: {_finding(finding)}", style="yellow"))
    for evaluation in map(_evaluation, run.evaluations):
        parts.append(Text(f"evaluation: {_evaluation_text(evaluation)}"))
    parts.append(Text(f"episodes: {replay_hint(run)}"))
    return Group(*parts)


def compare_document(runs: Sequence[Run], *, metrics: Sequence[str] = ()) -> dict[str, Any]:
    """Everything that ``compare`` shows; values in the order of the runs."""
    return {
        "runs": [run_line(r) for r in runs],
        "settings": different_settings(runs),
        "curves": {
            name: [{"step": step, "values": values} for step, values in shared_points(runs, name)]
            for name in curves_of(runs, asked=metrics)
        },
        "best": [best.to_json() if (best := best_adapter(r)) else None for r in runs],
    }


def compare_tables(runs: Sequence[Run], *, metrics: Sequence[str] = ()) -> RenderableType:
    """Settings that differ, curves on one scale, values at shared steps, the best adapters."""
    names = [r.name for r in runs]
    settings = Table("setting", *names, box=None, pad_edge=False, title="settings that differ", title_justify="left")
    for name, values in different_settings(runs).items():
        defaults = (f"{_value(default_setting(r.recipe, name))} (default)" for r in runs)
        settings.add_row(name, *(d if v is None else _value(v) for v, d in zip(values, defaults, strict=True)))
    at_steps = Table("metric", "step", *names, box=None, pad_edge=False, title="at shared steps", title_justify="left")
    for name in curves_of(runs, asked=metrics):
        for i, (step, values) in enumerate(shared_points(runs, name)):
            at_steps.add_row("" if i else name, str(step), *(f"{v:.4g}" for v in values))
    best = Table("run", "best", box=None, pad_edge=False)
    for run in runs:
        best.add_row(run.name, _best_text(best_adapter(run)))
    same = Text("no setting differs") if not settings.row_count else settings
    return Group(same, Text(), _curve_table(runs, metrics), Text(), at_steps, Text(), best)


def plot_curves(runs: Sequence[Run], path: Path, *, metrics: Sequence[str] = ()) -> None:
    """Draw a panel for each metric, a line for each run, into a PNG file. Raises ConfigError without matplotlib."""
    from envs.errors import ConfigError

    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("plots need matplotlib", hint="pip install matplotlib") from error
    names = curves_of(runs, asked=metrics)
    if not names:
        raise ConfigError("these runs have no metric to draw", hint="they wrote no metrics.jsonl: run.report_to")
    rows = -(-len(names) // 2)
    figure = Figure(figsize=(11, 2.8 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for at, name in enumerate(names):
        axes = figure.add_subplot(rows, 2, at + 1)
        for run in runs:
            points = curve(run, name)
            axes.plot([s for s, _ in points], [v for _, v in points], label=run.name)
        axes.set_title(name)
        axes.set_xlabel("step")
    figure.axes[0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(str(path), dpi=110)


def replay_hint(run: Run) -> str:
    """How to look at the run's episodes."""
    rollout: Mapping[str, Any] = run.config.get("rollout", {})
    store = rollout.get("store")
    prefix = run.config.get("run", {}).get("name") or Path(run.config.get("run", {}).get("output_dir", "")).name
    if rollout.get("url"):
        return f"envloop replay list --run {prefix}   # in the store of the rollout server"
    if store and "@" in str(store):
        return f"envloop replay list --run {prefix}   # ENVLOOP_STORE_URL names the run's store"
    url = store or f"sqlite:///{run.folder.resolve() / 'episodes.db'}"
    return f"envloop replay list --run {prefix} --store {url}"


def _settings_table(settings: Mapping[str, Any]) -> Table:
    table = Table("setting (not the default)", "value", box=None, pad_edge=False)
    for name, value in sorted(settings.items()):
        table.add_row(name, _value(value))
    return table


def _curve_table(runs: Sequence[Run], asked: Sequence[str]) -> Table:
    several = len(runs) > 1
    table = Table(
        "metric", *(["run"] if several else []), "curve", "first", "last", "min", "max", box=None, pad_edge=False
    )
    for name in curves_of(runs, asked=asked):
        curves = [curve(run, name) for run in runs]
        values = [v for points in curves for _, v in points]
        for i, (run, points) in enumerate(zip(runs, curves, strict=True)):
            own = [v for _, v in points]
            figures = (own[0], own[-1], min(own), max(own)) if own else ()
            line = sparkline(points, span=(min(values), max(values)))
            cells = [name if not i else "", *([run.name] if several else []), line]
            table.add_row(*cells, *(f"{v:.4g}" for v in figures))
    return table


def _success(run: Run) -> float | None:
    for metric in ("eval/success", "rollout/success"):
        if (value := run.last(metric)) is not None:
            return value
    return None


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return visible(text if len(text) <= 60 else text[:57] + "…")


def _best_text(best: Best | None) -> str:
    if best is None:
        return "no adapter on disk"
    why = f"{best.metric} {best.value:.3f}" if best.metric else "the last; nothing judges"
    missed = (
        f"; step {best.peak_step} was better, and its adapter is gone"
        if best.peak_step is not None and best.peak_step != best.adapter.step
        else ""
    )
    return f"step {best.adapter.step} ({why}{missed})  {best.adapter.path}"


def _finding(finding: Mapping[str, Any]) -> str:
    words = [str(finding[k]) for k in ("name", "check", "severity", "evidence", "message") if finding.get(k)]
    return visible(": ".join(words) or json.dumps(dict(finding)))[:200]


def _evaluation(report: Mapping[str, Any]) -> dict[str, Any]:
    overall: Mapping[str, Any] = report.get("overall") or {}
    return {
        "env": report.get("env"),
        "split": report.get("split"),
        "policy": report.get("policy"),
        "protocol": report.get("protocol"),
        "score": report.get("score"),
        "episodes": overall.get("episodes", report.get("episodes")),
        "success": overall.get("success"),
        "low": overall.get("low"),
        "high": overall.get("high"),
    }


def _evaluation_text(e: Mapping[str, Any]) -> str:
    interval = f" [{_percent(e['low'])}, {_percent(e['high'])}]" if e["low"] is not None else ""
    return f"{e['env']}/{e['split']} {e['policy']}: {_percent(e['success'])}{interval} of {e['episodes']} episodes"
