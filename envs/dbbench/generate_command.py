"""``envloop env generate dbbench``: generated tasks as a file, on the command line."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from envs.errors import ConfigError

if TYPE_CHECKING:
    from envs.dbbench.gold_check import GoldReport
    from envs.dbbench.tasks import DbTask

__all__ = ["generate_tasks_command"]


def generate_tasks_command(  # noqa: PLR0917 - options of the command line
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to write; called train*.jsonl in DBBENCH_DATA, it is a split to train on.", show_default=False
        ),
    ] = None,
    split: Annotated[
        str, typer.Option(help="generated or generated_basic, with or without _eval; generated_easy, _medium or _hard.")
    ] = "generated",
    start: Annotated[int, typer.Option(min=0, help="Index of the first task.")] = 0,
    count: Annotated[int, typer.Option(min=1, help="How many tasks.")] = 100,
    difficulty: Annotated[
        str | None, typer.Option(help="Only tasks that are easy, medium or hard.", show_default="all")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Run every gold statement on a server: each must score 1.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Databases at once, with --check.")] = 4,
    stats: Annotated[bool, typer.Option("--stats", help="Count the draws that were not taken, by reason.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> None:
    """Write generated DB Bench tasks as JSON lines in AgentBench's format, with the gold.

    The same arguments write the same bytes: the tasks that are played under these indices of the split.
    """
    from rich.console import Console
    from rich.progress import Progress

    from envs.dbbench.generator_files import choose_indices, write_tasks

    if out is None:
        raise ConfigError("no file is named for dbbench's tasks", hint="name one with --out")
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        shown = bar.add_task("tasks", total=count)
        tasks = write_tasks(
            out,
            split,
            choose_indices(split, start, count, difficulty),
            progress=lambda done: bar.update(shown, completed=done),
        )
    rejected = _rejections(tasks) if stats else None
    report = _check(tasks, jobs) if check else None
    _say(out, tasks, rejected, report, as_json=as_json)
    raise typer.Exit(1 if report is not None and not report.ok else 0)


def _rejections(tasks: Sequence[DbTask]) -> Counter[str]:
    from envs.dbbench.generator import make_task

    rejected: Counter[str] = Counter()
    for task in tasks:
        make_task(task.split, task.index, rejected)
    return rejected


def _check(tasks: Sequence[DbTask], jobs: int) -> GoldReport:
    from envs.dbbench.gold_check import check_gold
    from envs.dbbench.gold_command import own_backend

    backend = own_backend(jobs)
    try:
        return check_gold(tasks, backend, jobs=jobs)
    finally:
        backend.close()


def _say(
    out: Path,
    tasks: Sequence[DbTask],
    rejected: Counter[str] | None,
    report: GoldReport | None,
    *,
    as_json: bool,
) -> None:
    types, levels = Counter(task.type for task in tasks), Counter(task.difficulty for task in tasks)
    if as_json:
        found = {"file": str(out), "tasks": len(tasks), "types": dict(types), "difficulty": dict(levels)}
        if rejected is not None:
            found["rejected"] = dict(rejected.most_common())
        if report is not None:
            found["gold"] = report.to_json()
        typer.echo(json.dumps(found, ensure_ascii=False))
        return
    typer.echo(f"{len(tasks)} tasks are in {out}: {', '.join(f'{n} {level}' for level, n in sorted(levels.items()))}")
    if rejected is not None:
        for reason, number in rejected.most_common():
            typer.echo(f"not taken, {reason}: {number}")
    if report is not None:
        from envs.dbbench.gold_command import report_lines

        for line in report_lines(report):
            typer.echo(line)
