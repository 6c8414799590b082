"""Figures over stored episodes, and comparisons of two policies, as tables on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text

from rollout_server.replay_compare import Comparison, PairedResult
from rollout_server.replay_view import visible
from rollout_server.store_stats import EpisodeStats

__all__ = ["comparison_table", "stats_table"]


def stats_table(keys: Sequence[str], rows: Iterable[EpisodeStats]) -> Table:
    """A line for each combination of keys."""
    figures = ("episodes", "scored", "success", "reward", "turns", "tokens", "sampled", "bytes")
    table = _table(keys, figures)
    for row in rows:
        table.add_row(
            *(Text(visible(row.key[name])) for name in keys),
            str(row.episodes),
            str(row.scored),
            _percent(row.success),
            _number(row.reward, 3),
            *(_number(value, 1) for value in (row.turns, row.tokens, row.policy_tokens)),
            f"{row.bytes:,}",
        )
    return table


def comparison_table(found: Comparison, name_a: str, name_b: str) -> Table:
    """A line for all tasks and one for each type; B minus A."""
    table = _table(("type",), ("tasks", "pairs", "A", "B", "B - A", "95 %", "only A", "only B", "p", "p reward"))
    table.title = f"A: {visible(name_a)}   B: {visible(name_b)}"
    table.title_justify = "left"
    lines: list[PairedResult] = [found.overall, *(found.types if len(found.types) > 1 else ())]
    for line in lines:
        table.add_row(
            Text(visible(line.type)),
            str(line.tasks),
            str(line.pairs),
            _percent(line.success_a),
            _percent(line.success_b),
            f"{100 * line.difference:+.1f}",
            f"{100 * line.low:+.1f} to {100 * line.high:+.1f}",
            str(line.only_a),
            str(line.only_b),
            f"{line.p_success:.2g}",
            f"{line.p_reward:.2g}",
        )
    return table


def _table(keys: Sequence[str], figures: Sequence[str]) -> Table:
    table = Table(box=None, header_style="bold")
    for name in keys:
        table.add_column(name, overflow="fold", min_width=10)
    for name in figures:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
