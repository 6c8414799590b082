"""What a run of DPO or KTO is about to learn from, before it does: counts by kind of task, and the first row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rollout_server.engines.base import Tokenizer
from trainer.preferences import Pair, Preference, Preferences, Verdict

__all__ = ["REPORT_FILE", "preference_report", "preference_table", "preference_text", "print_report"]

REPORT_FILE = "preferences.json"
"""The report's name in a run's folder."""

_STYLES = {True: "bold green", False: "bold red"}


def preference_report(
    found: Preferences[Pair] | Preferences[Verdict], rows: Sequence[Preference], *, scope: str, **more: Any
) -> dict[str, Any]:
    """The counts as a JSON document: ``kinds`` by environment and task type, what was left out and why. Tokens are
    means over rows; of a side those that the policy said. ``more`` is put beside it (digest, weights)."""
    groups: dict[tuple[str, str], list[Preference]] = defaultdict(list)
    for row in rows:
        groups[row.task.env, row.task.type].append(row)
    first = rows[0] if rows else None
    return {
        "schema": "envloop.preferences/1",
        "scope": scope,
        "episodes": found.episodes,
        "tasks": found.tasks,
        "rows": len(rows),
        "left_out": dict(sorted(found.left_out.items())),
        "kinds": [_kind(env, kind, group) for (env, kind), group in sorted(groups.items())],
        "first": None if first is None else {"task": first.task.id, "turn": first.turn, "episodes": _ids(first)},
        **more,
    }


def preference_table(report: Mapping[str, Any]) -> Table:
    """The report's counts for a reader."""
    pairs = bool(report["kinds"]) and "chosen_tokens" in report["kinds"][0]
    columns = ["rows", "tasks", "part at turn", "prompt"]
    columns += ["chosen", "rejected"] if pairs else ["desirable", "undesirable"]
    keys = ["rows", "tasks", "turn", "prompt_tokens"]
    keys += ["chosen_tokens", "rejected_tokens"] if pairs else ["desirable", "undesirable"]
    units = "pairs" if pairs else "rows"
    table = Table(title=f"{report['rows']} {units} by {report['scope']}, of {report['episodes']} episodes", box=None)
    table.add_column("environment")
    table.add_column("type")
    for column in columns:
        table.add_column(column, justify="right")
    for kind in report["kinds"]:
        values = [f"{kind[k]:.1f}" if k == "turn" else f"{kind[k]:.0f}" for k in keys]
        table.add_row(kind["env"], kind["type"], *values)
    return table


def preference_text(row: Preference, tokenizer: Tokenizer) -> Text:
    """A row for a reader: the shared beginning dimmed, what is learnt in green, what is unlearnt in red. Words of the
    environment within a side, which no loss counts, are dimmed too."""
    text = Text()  # a style given here would hold for every part
    text.append(tokenizer.decode(row.prompt_ids), style="dim")
    good = [True, False] if isinstance(row, Pair) else [row.desirable]
    for side, better in zip(row.sides, good, strict=True):
        name = ("chosen" if better else "rejected") if isinstance(row, Pair) else ("" if better else "un") + "desirable"
        text.append(f"\n--- {name} (reward {side.reward:g}, episode {side.episode_id})\n", style="italic")
        start = 0
        for end in range(1, len(side.mask) + 1):
            if end == len(side.mask) or side.mask[end] != side.mask[start]:
                style = _STYLES[better] if side.mask[start] else "dim"
                text.append(tokenizer.decode(side.ids[start:end]), style=style)
                start = end
    return text


def print_report(console: Console, report: Mapping[str, Any], rows: Sequence[Preference], tokenizer: Tokenizer) -> None:
    """Counts, what was left out, and the first row."""
    console.print(preference_table(report))
    for reason, count in report["left_out"].items():
        console.print(f"left out: {count} {reason}", highlight=False)
    if rows:
        console.print("The first one; what is learnt in green, what is unlearnt in red:")
        console.print(preference_text(rows[0], tokenizer), highlight=False)


def _kind(env: str, kind: str, rows: Sequence[Preference]) -> dict[str, Any]:
    counts: dict[str, Any] = {
        "env": env,
        "type": kind,
        "rows": len(rows),
        "tasks": len({row.task.id for row in rows}),
        "turn": round(fmean(row.turn for row in rows), 3),
        "prompt_tokens": round(fmean(len(row.prompt_ids) for row in rows), 1),
    }
    pairs = [row for row in rows if isinstance(row, Pair)]
    if pairs:
        counts["chosen_tokens"] = round(fmean(sum(p.chosen.mask) for p in pairs), 1)
        counts["rejected_tokens"] = round(fmean(sum(p.rejected.mask) for p in pairs), 1)
    else:
        good = sum(row.desirable for row in rows if isinstance(row, Verdict))
        counts |= {"desirable": good, "undesirable": len(rows) - good}
    return counts


def _ids(row: Preference) -> list[str]:
    return [side.episode_id for side in row.sides]
