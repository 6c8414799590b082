"""An evaluation on disk: its JSON, a report in Markdown with plots, and the commands that replay what failed."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.eval_compare import EvalComparison
from trainer.eval_figures import EvalReport
from trainer.record import write_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["report_slug", "write_report"]

_FAILED_SHOWN = 12


def report_slug(report: EvalReport) -> str:
    """The name of a report's artefacts: environment, split, protocol, temperature, samples, policy and key."""
    temperature = report.settings.get("temperature", 0.0)
    policy = re.sub(r"-[0-9a-f]{12,}$", "", report.policy)  # an adapter's name has a time stamp of its own
    parts = [report.env, report.split, report.protocol, f"t{temperature:g}", f"n{report.samples}", policy, report.key]
    return re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(part for part in parts if part))


def write_report(
    report: EvalReport, folder: Path, *, comparison: EvalComparison | None = None, plots: bool = True
) -> Path:
    """Write ``eval-ENV-SPLIT.json``, the newest of that split, and ``eval-SLUG/`` with ``report.json``, ``report.md``
    and the plots; give the path of the Markdown. Without matplotlib the report says that it has no plots."""
    document = report.to_json()
    if comparison is not None:
        document["comparison"] = comparison.to_json()
    write_json(folder / f"eval-{report.env}-{report.split}.json", document)
    own = folder / f"eval-{report_slug(report)}"
    write_json(own / "report.json", document)
    for old in own.glob("*.png"):
        old.unlink()
    drawn: list[tuple[str, str]] = []
    if plots and find_spec("matplotlib") is not None and any(row["reward"] is not None for row in report.results):
        drawn = _draw(report, own)
    text = "\n".join(_markdown(report, comparison, drawn, plots=plots)) + "\n"
    path = own / "report.md"
    path.write_text(text, encoding="utf-8")
    return path


def _markdown(
    report: EvalReport, comparison: EvalComparison | None, drawn: Sequence[tuple[str, str]], *, plots: bool
) -> Iterator[str]:
    score = "none" if report.score is None else f"{report.score:.1%}"
    overall = report.overall
    yield f"# {report.env} {report.split}: {_md(report.model)} ({_md(report.policy)})\n"
    yield (
        f"Success **{overall.success:.1%}** (95 % interval {overall.low:.1%} … {overall.high:.1%}) of {overall.tasks} "
        f"tasks, {overall.episodes} episodes. AgentBench's aggregate: {score}. {report.turns:.1f} turns and "
        f"{report.policy_tokens:.0f} {report.length_unit} of the policy an episode, {report.invalid_turns:.1%} of the "
        "turns invalid.\n"
    )
    yield "## Settings\n"
    shown = {**report.settings, **{f"policy: {k}": v for k, v in report.policy_is.items() if v}}
    yield from _table(("setting", "value"), [(k, v) for k, v in shown.items() if v not in (None, {}, "")])
    yield "## Success\n"
    interval = "Wilson" if report.samples == 1 else "bootstrap over tasks"
    rows = [
        (r.type, r.tasks, r.episodes, f"{r.success:.1%}", f"{r.low:.1%} … {r.high:.1%}")
        for r in (*report.types, overall)
    ]
    yield from _table(("task type", "tasks", "episodes", "success", f"95 % interval ({interval})"), rows)
    if report.samples > 1:
        yield "## pass@k\n"
        cells = [(p.k, f"{p.value:.1%}", f"{p.low:.1%} … {p.high:.1%}", p.tasks) for p in report.pass_at_k]
        yield from _table(("k", "pass@k", "95 % interval", "tasks"), cells)
    yield "## How episodes ended\n"
    yield from _table(("ending", "episodes"), [(k.replace("_", " "), v) for k, v in report.statuses.items()])
    for error in report.errors:
        yield f"- without a result: {_md(error)}\n"
    if comparison is not None:
        yield from _compared(comparison)
    for name, title in drawn:
        yield f"![{title}]({name})\n"
    if not drawn:
        yield "No plots: " + ("matplotlib is not installed.\n" if plots else "they were not asked for.\n")
    yield from _failed(report)


def _compared(found: EvalComparison) -> Iterator[str]:
    yield f"## Against {_md(found.baseline)}\n"
    rows = [
        (
            r.type,
            r.pairs,
            f"{r.success_a:.1%}",
            f"{r.success_b:.1%}",
            f"{r.difference:+.1%}",
            f"{r.low:+.1%} … {r.high:+.1%}",
            f"{r.p_success:.3g}",
        )
        for r in (*found.paired.types, found.paired.overall)
    ]
    heads = ("task type", "pairs", "before", "now", "difference", "95 % interval (Newcombe)", "p (McNemar, exact)")
    yield from _table(heads, rows)
    if found.paired.overall.pairs > found.paired.overall.tasks:
        yield f"Mean over tasks: {found.mean:+.1%} ({found.low:+.1%} … {found.high:+.1%}, bootstrap over tasks).\n"
    if found.paired.overall.note:
        yield f"{found.paired.overall.note}\n"
    if found.differing:
        yield f"**Settings differ: {', '.join(found.differing)}.**\n"


def _failed(report: EvalReport) -> Iterator[str]:
    lost = [row for row in report.results if row["reward"] is not None and row["reward"] < 1.0]
    yield "## Failed episodes\n"
    if not lost:
        yield "None.\n"
        return
    store = shlex.quote(report.store) if report.store else "URL"
    yield f"{len(lost)} of {len(report.results)}. All of them, then the first of each task type:\n"
    yield "```"
    yield f"envloop replay list --run {report.run} --max-reward 0.999 --store {store}"
    by_type: dict[str, list[dict[str, Any]]] = {}
    for row in lost:
        by_type.setdefault(row["task_type"], []).append(row)
    each = max(1, _FAILED_SHOWN // len(by_type))
    for kind, rows in sorted(by_type.items()):
        for row in rows[:each]:
            what = _md(f"{kind} {row['task_id']}: {str(row['status']).replace('_', ' ')}")
            yield f"envloop replay show {row['id'][:12]} --store {store}  # {what}"
    yield "```\n"


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield "| " + " | ".join(_md(cell) for cell in row) + " |"
    yield ""


def _md(value: Any) -> str:
    """A value that stays in its cell."""
    return str(value).replace("|", "\\|").replace("\n", " ")


def _draw(report: EvalReport, folder: Path) -> list[tuple[str, str]]:
    """Draw the plots and give their file names and titles."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    plots = {
        "success": ("success by task type, with 95 % intervals", _success),
        "turns": ("turns of an episode", _turns),
        "endings": ("how episodes ended", _endings),
    }
    if report.samples > 1:
        plots["pass_at_k"] = ("pass@k, with 95 % intervals", _pass_at_k)
    drawn = []
    for name, (title, draw) in plots.items():
        figure = Figure(figsize=(7, 4), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        draw(axes, report)
        axes.set_title(f"{report.env} {report.split}: {title}", fontsize=10)
        figure.savefig(folder / f"{name}.png", dpi=110)
        drawn.append((f"{name}.png", title))
    return drawn


def _success(axes: Axes, report: EvalReport) -> None:
    rows = [r for r in (*report.types, report.overall) if r.episodes]
    values = [r.success for r in rows]
    below = [max(0.0, r.success - r.low) for r in rows]
    above = [max(0.0, r.high - r.success) for r in rows]
    colours = ["tab:blue"] * (len(rows) - 1) + ["tab:gray"]
    axes.barh(range(len(rows)), values, xerr=[below, above], capsize=3, color=colours)
    axes.set_yticks(range(len(rows)), [f"{r.type} ({r.episodes})" for r in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("success")


def _turns(axes: Axes, report: EvalReport) -> None:
    scored = [row for row in report.results if row["reward"] is not None]
    won = [row["turns"] for row in scored if row["reward"] >= 1.0]
    lost = [row["turns"] for row in scored if row["reward"] < 1.0]
    most = max((row["turns"] for row in scored), default=1)
    bins = [n + 0.5 for n in range(-1, most + 1)]
    axes.hist([won, lost], bins=bins, stacked=True, label=["won", "lost"], color=["tab:green", "tab:red"])
    axes.set_xlabel("turns")
    axes.set_ylabel("episodes")
    axes.legend()


def _endings(axes: Axes, report: EvalReport) -> None:
    """Endings, of each the won part in green."""
    ended = Counter(str(row["status"]) for row in report.results)
    won = Counter(str(row["status"]) for row in report.results if (row["reward"] or 0.0) >= 1.0)
    names = [name for name, _ in ended.most_common()]
    axes.barh(range(len(names)), [ended[n] for n in names], color="tab:red", label="lost, or without a result")
    axes.barh(range(len(names)), [won[n] for n in names], color="tab:green", label="won")
    axes.set_yticks(range(len(names)), [n.replace("_", " ") for n in names], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("episodes")
    axes.legend()


def _pass_at_k(axes: Axes, report: EvalReport) -> None:
    curve = report.pass_at_k
    ks, values = [p.k for p in curve], [p.value for p in curve]
    axes.plot(ks, values, marker="o")
    axes.fill_between(ks, [p.low for p in curve], [p.high for p in curve], alpha=0.2)
    axes.set_xscale("log", base=2)
    axes.set_xticks(ks, [str(k) for k in ks])
    axes.set_ylim(0, 1)
    axes.set_xlabel("k")
    axes.set_ylabel("pass@k")
