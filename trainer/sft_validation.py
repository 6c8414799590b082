"""What an SFT run is about to learn from, looked at before any weight is loaded: figures, and what is wrong in them."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import Any, Literal

from rich.console import Group
from rich.table import Table
from rich.text import Text

from envs.errors import ConfigError
from envs.types import Task
from rollout_server.types import Role
from trainer.datasets import IGNORED, RowOrigin, SftRows

__all__ = [
    "SFT_REPORT",
    "Overlap",
    "SftReport",
    "check_overlap",
    "drop_duplicates",
    "duplicates",
    "find_overlap",
    "percentiles",
    "role_pattern",
    "sft_report",
    "sft_report_view",
]

SFT_REPORT = "sft_report.json"

_PERCENTILES = (5, 25, 50, 75, 95, 99, 100)
_FEW_TRAINED = 0.02
_MANY_LONG = 0.1
_MANY_ALIKE = 0.2


@dataclass(frozen=True, slots=True)
class Overlap:
    """A row whose task is one that evaluations play: the same ``id``, or the same ``content`` under another id."""

    row: str
    task: str
    held_out: str
    by: Literal["id", "content"]


@dataclass(frozen=True, slots=True)
class SftReport:
    """Figures of the rows of an SFT run. Lengths and tokens are in tokens, shares in [0, 1].

    ``roles`` counts rows by ``role_pattern``; ``counts`` by ``env/split``, then task type. ``exact_duplicates`` and
    ``near_duplicates`` count rows beyond the first of their kind (the near ones include the exact); ``repeated_tasks``
    those of a task that came before. ``dropped_duplicates``: of them left out on request. ``truncated``: rows over
    ``max_length``, left out and never cut. ``warnings`` are sentences.
    """

    rows: int
    unknown_tasks: int
    max_length: int
    truncated: int
    truncated_lengths: Mapping[str, int]
    left_out: Mapping[str, int]
    tokens: int
    trained_tokens: int
    trained_share: float
    lengths: Mapping[str, int]
    turns: Mapping[str, int]
    roles: Mapping[str, int]
    empty_turns: int
    rows_with_empty_turns: int
    exact_duplicates: int
    near_duplicates: int
    dropped_duplicates: int
    repeated_tasks: int
    counts: Mapping[str, Mapping[str, int]]
    sources: Mapping[str, int]
    held_out_tasks: int
    overlap: tuple[Overlap, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON document."""
        return {"schema": "envloop.sft_report/1", **asdict(self)}


def percentiles(values: Iterable[int]) -> dict[str, int]:
    """``{"p5": …, "p25": …, …, "p100": …}`` by nearest rank; empty for no value."""
    ranked = sorted(values)
    return {f"p{p}": ranked[max(0, -(-p * len(ranked) // 100) - 1)] for p in _PERCENTILES} if ranked else {}


def role_pattern(roles: Sequence[Role]) -> str:
    """The order of roles, repetition folded: ``system user (assistant tool) x N assistant`` for any N."""
    names = [role.value for role in roles]
    first = names.index("assistant") if "assistant" in names else len(names)
    head, pairs = names[:first], names[first:]
    units: list[str] = []
    for name in pairs:
        if name == "assistant" or not units:
            units.append(name)
        elif units[-1].split()[-1] != name:  # several answers of one turn are one
            units[-1] += f" {name}"
    folded = []
    for unit, same in groupby(units):
        count = len(list(same))
        folded.append(f"({unit}) x N" if count > 1 else unit)
    return " ".join([*head, *folded])


def duplicates(rows: SftRows, kind: Literal["exact", "near"]) -> list[int]:
    """The rows that an earlier one equals, by number: by ids and labels (``exact``), or by ``near_key``, in order."""
    seen: set[str] = set()
    found = []
    for index, origin in enumerate(rows.origins):
        key = _exact_key(rows.input_ids[index], rows.labels[index]) if kind == "exact" else origin.near
        if key in seen:
            found.append(index)
        seen.add(key)
    return found


def drop_duplicates(rows: SftRows, kind: Literal["none", "exact", "near"]) -> int:
    """Leave duplicates out of the rows, in place, and give their number."""
    if kind == "none":
        return 0
    gone = set(duplicates(rows, kind))
    rows.keep([i for i in range(len(rows)) if i not in gone], f"{kind} duplicate")
    return len(gone)


def find_overlap(origins: Iterable[RowOrigin], held_out: Iterable[Task]) -> tuple[Overlap, ...]:
    """Rows whose task is one of ``held_out``, by environment and id, or by content hash."""
    ids: dict[tuple[str, str], str] = {}
    hashes: dict[tuple[str, str], str] = {}
    for task in held_out:
        name = f"{task.env}:{task.id}"
        ids[task.env, task.id] = name
        if task.content_hash:
            hashes[task.env, task.content_hash] = name
    found = []
    for origin in origins:
        own = origin.task
        if own is None:
            continue
        if (own.env, own.id) in ids:
            found.append(Overlap(origin.name, f"{own.env}:{own.id}", ids[own.env, own.id], "id"))
        elif (same := hashes.get((own.env, own.content_hash))) is not None:
            found.append(Overlap(origin.name, f"{own.env}:{own.id}", same, "content"))
    return tuple(found)


def check_overlap(overlap: Sequence[Overlap], allow: Sequence[str]) -> None:
    """Raise ConfigError where a row's task is played by evaluations, unless its split is allowed by name."""
    for one in overlap:
        env, _, held_out = one.held_out.partition(":")
        split = held_out.split("/", 1)[0]
        if split in allow or f"{env}/{split}" in allow:
            continue
        same = "is" if one.by == "id" else "has the content of"
        raise ConfigError(
            f"{len(overlap)} rows are of tasks that evaluations play: {one.row} is of {one.task}, which {same} "
            f"{one.held_out}",
            hint=f"leave them out, or name the split: --allow-eval-split {env}/{split}",
        )


def sft_report(rows: SftRows, *, max_length: int, held_out: Sequence[Task] = (), dropped: int = 0) -> SftReport:
    """The figures of rows, with what was left out of them already. ``held_out``: tasks that evaluations play."""
    lengths = [len(ids) for ids in rows.input_ids]
    tokens = sum(lengths)
    trained = sum(label != IGNORED for labels in rows.labels for label in labels)
    counts: dict[str, Counter[str]] = {}
    for task in rows.tasks:
        counts.setdefault(f"{task.env}/{task.split}", Counter())[task.type] += 1
    tasks = Counter((task.env, task.id) for task in rows.tasks)
    exact, near = len(duplicates(rows, "exact")), len(duplicates(rows, "near"))
    empty = [origin.empty_turns for origin in rows.origins]
    share = trained / tokens if tokens else 0.0
    overlap = find_overlap(rows.origins, held_out)
    report = SftReport(
        rows=len(rows),
        unknown_tasks=len(rows) - len(rows.tasks),
        max_length=max_length,
        truncated=len(rows.too_long),
        truncated_lengths=percentiles(rows.too_long),
        left_out=dict(sorted(rows.left_out.items())),
        tokens=tokens,
        trained_tokens=trained,
        trained_share=share,
        lengths=percentiles(lengths),
        turns=percentiles(sum(r is Role.ASSISTANT for r in origin.roles) for origin in rows.origins),
        roles=dict(Counter(role_pattern(origin.roles) for origin in rows.origins).most_common()),
        empty_turns=sum(empty),
        rows_with_empty_turns=sum(n > 0 for n in empty),
        exact_duplicates=exact,
        near_duplicates=near,
        dropped_duplicates=dropped,
        repeated_tasks=sum(n - 1 for n in tasks.values()),
        counts={name: dict(sorted(types.items())) for name, types in sorted(counts.items())},
        sources=dict(Counter(origin.source for origin in rows.origins).most_common(20)),
        held_out_tasks=len(held_out),
        overlap=overlap[:100],
        warnings=(),
    )
    return _warned(report)


def _warned(report: SftReport) -> SftReport:
    said = []
    read = report.rows + report.truncated
    if report.truncated > _MANY_LONG * read:
        said.append(
            f"{report.truncated} of {read} rows are longer than {report.max_length} tokens and left out: the longest "
            f"tasks would be missing (sft.max_length; the longest has {report.truncated_lengths['p100']})"
        )
    if report.rows and report.trained_share < _FEW_TRAINED:
        said.append(
            f"only {report.trained_share:.1%} of the tokens are learnt: nearly all of the work goes into reading"
        )
    if report.empty_turns:
        said.append(f"{report.empty_turns} learnt turns in {report.rows_with_empty_turns} rows say nothing")
    if report.near_duplicates > _MANY_ALIKE * max(1, report.rows):
        said.append(f"{report.near_duplicates} of {report.rows} rows are nearly others (sft.drop_duplicates = 'near')")
    if report.unknown_tasks:
        said.append(f"{report.unknown_tasks} rows do not tell their task: nobody can say that no evaluation plays it")
    if report.overlap:
        said.append(f"{len(report.overlap)} rows are of tasks that evaluations play")
    return replace(report, warnings=tuple(said))


def sft_report_view(report: SftReport) -> Group:
    """The report to look at."""
    table = Table(title=f"{report.rows:,} rows to learn from", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    left_out = ", ".join(f"{n} {reason}" for reason, n in report.left_out.items()) or "none"
    for name, value in (
        ("tokens", f"{report.tokens:,}"),
        ("of them learnt", f"{report.trained_tokens:,} ({report.trained_share:.1%})"),
        ("length, tokens", _spread(report.lengths)),
        ("turns", _spread(report.turns)),
        (f"longer than {report.max_length}", f"{report.truncated} left out"),
        ("left out", left_out),
        ("empty turns", f"{report.empty_turns} in {report.rows_with_empty_turns} rows"),
        ("duplicates", f"{report.exact_duplicates} exact, {report.near_duplicates} near"),
        ("of a task before", f"{report.repeated_tasks}"),
        ("of evaluations' tasks", f"{len(report.overlap)} (looked for in {report.held_out_tasks})"),
    ):
        table.add_row(name, value)
    kinds = Table(title="tasks")
    for name in ("split", "type", "rows"):
        kinds.add_column(name, justify="right" if name == "rows" else "left")
    for split, types in report.counts.items():
        for kind, count in types.items():
            kinds.add_row(split, kind, str(count))
    if report.unknown_tasks:
        kinds.add_row("unknown", "", str(report.unknown_tasks))
    roles = Table(title="order of roles")
    roles.add_column("roles")
    roles.add_column("rows", justify="right")
    for pattern, count in list(report.roles.items())[:10]:
        roles.add_row(Text(pattern), str(count))
    return Group(table, kinds, roles, *(Text(f"! {sentence}", style="yellow") for sentence in report.warnings))


def _spread(values: Mapping[str, int]) -> str:
    if not values:
        return "none"
    return f"{values['p5']} · {values['p50']} · {values['p95']} · {values['p100']}  (p5, median, p95, most)"


def _exact_key(ids: Sequence[int], labels: Sequence[int]) -> str:
    digest = hashlib.sha256(array("q", ids).tobytes())
    digest.update(array("q", labels).tobytes())
    return digest.hexdigest()
