"""``envloop doctor``. Nothing heavy is imported before the command runs, nor by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Group

    from trainer.diagnose.checks import Report

__all__ = ["doctor_app", "report_view"]

doctor_app = typer.Typer(
    help="Say what goes wrong in a training run, why, and what to try.",
    add_completion=False,
    pretty_exceptions_enable=False,
)


@doctor_app.command()
def _doctor(
    run: Annotated[Path, typer.Argument(help="A run's folder, or a metrics file (JSONL).")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object to standard output.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 where a warning is found.")] = False,
    every: Annotated[int, typer.Option(min=1, help="Look at the log at every so many steps, as in training.")] = 10,
) -> None:
    """Examine a run's log: each finding with its evidence, its likely cause and the setting to try next."""
    from trainer.diagnose.checks import diagnose
    from trainer.diagnose.log import read_run

    report = diagnose(read_run(run), every=every)
    if as_json:
        typer.echo(json.dumps(report.to_json(), sort_keys=True))
    else:
        from rich.console import Console

        Console().print(report_view(report, name=run.name or str(run)))
    if strict and report.problems:
        raise typer.Exit(1)


def report_view(report: Report, *, name: str) -> Group:
    """The report to look at: a table of findings, and a line on what could not be checked."""
    from rich.console import Group, RenderableType
    from rich.table import Table
    from rich.text import Text

    from trainer.diagnose.findings import Severity

    colours = {Severity.NOTE: "cyan", Severity.WARNING: "yellow", Severity.CRITICAL: "bold red"}
    title = Text(f"{name}: {report.recipe}, {report.steps} steps, {len(report.checked)} checks")
    parts: list[RenderableType] = [title]
    if not report.findings:
        parts.append(Text("Nothing is wrong by these checks.", style="green"))
    else:
        table = Table(show_lines=True)
        for heading, share in (("what", 1), ("evidence", 2), ("likely cause", 2), ("try next", 2)):
            table.add_column(heading, overflow="fold", ratio=share)
        for f in report.findings:
            since = f"since step {f.first_step}" if f.lasts else f"told at step {f.first_step}, gone by the end"
            about = f" ({f.subject})" if f.subject else ""
            what = Text(f"{f.check}{about}\n", style=colours[f.severity]).append(f"{f.severity}\n{since}", style="dim")
            steps = Text(f.advice)
            for change in f.changes:
                steps.append(f"\n--set {change}", style="bold")
            table.add_row(what, Text(f.evidence), Text(f.cause), steps)
        parts.append(table)
    if report.unchecked:
        lines = "\n".join(f"  {u.check}: {u.reason}" for u in report.unchecked)
        parts.append(Text(f"Not checked:\n{lines}", style="dim"))
    return Group(*parts)
