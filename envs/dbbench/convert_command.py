"""``envloop env convert dbbench``: questions of Spider, BIRD and WikiSQL as a file of DB Bench tasks."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from envs.errors import ConfigError, InvalidOption

__all__ = ["convert_command"]

_TRAIN = "train"


def convert_command(  # noqa: PLR0917 - options of the command line
    env: Annotated[str, typer.Argument(help="dbbench.")],
    path: Annotated[Path, typer.Argument(help="The folder where the data set is unpacked.")],
    layout: Annotated[str, typer.Option("--from", help="spider, bird or wikisql.")],
    out: Annotated[Path, typer.Option(help="File to write, *.jsonl or *.jsonl.gz; its name is the split's.")],
    split: Annotated[str, typer.Option(help="The data set's own split: train, dev or test.")] = "dev",
    limit: Annotated[
        int | None, typer.Option(min=1, show_default=False, help="At most so many tasks; default: all.")
    ] = None,
    max_rows: Annotated[
        int, typer.Option(min=1, help="Rows of a table; questions on larger ones are left out, not cut.")
    ] = 1000,
    all_tables: Annotated[
        bool, typer.Option("--all-tables", help="Take a database's other tables along, too.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Run every statement on a server, and drop what finds another answer.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="With --check: tasks at once.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="The report as one JSON object.")] = False,
) -> None:
    """Write a data set's questions as typed DB Bench tasks, with the answers that its own statements find in SQLite.

    What cannot be a task is left out and counted by the reason. A file whose name begins with 'train' may be trained
    on; an evaluation split is not written to such a file.
    """
    from rich.console import Console
    from rich.progress import Progress

    from envs.dbbench.convert_sets import open_set
    from envs.dbbench.convert_tasks import ConvertReport, convert_questions
    from envs.dbbench.gold_command import own_backend

    if env != "dbbench":
        raise ConfigError(f"there is nothing to convert for {env!r:.80}", hint="known: dbbench")
    _check_out(out, split)
    found = open_set(layout, path, split)
    report = ConvertReport()
    console = Console(stderr=True)
    backend = own_backend(jobs) if check else None
    try:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("questions", total=len(found.questions))
            converted = convert_questions(
                found,
                report,
                limit=limit,
                max_rows=max_rows,
                all_tables=all_tables,
                backend=backend,
                jobs=jobs,
                progress=lambda done, _: bar.update(task, completed=done),
            )
            written = _write(out, (item.line for item in converted))
    finally:
        if backend is not None:
            backend.close()
    if not written:
        reasons = ", ".join(f"{reason} ({count})" for reason, count in report.left_out.most_common(3))
        raise ConfigError(
            f"none of {report.questions} questions can be a task: {reasons}", hint="raise --max-rows, or see the docs"
        )
    if as_json:
        typer.echo(json.dumps({"out": str(out), **report.to_json()}))
        return
    typer.echo(f"{report.written} of {report.questions} questions are tasks in {out}")
    for kind, count in sorted(report.types.items()):
        typer.echo(f"{kind:<16} {count:>5}")
    for reason, count in report.left_out.most_common():
        typer.echo(f"left out, {reason}: {count}")
    for reason, count in report.dropped_keys.most_common():
        typer.echo(f"keys dropped, {reason}: {count}")


def _check_out(out: Path, split: str) -> None:
    if not out.name.removesuffix(".gz").removesuffix(".jsonl") or not out.name.endswith((".jsonl", ".jsonl.gz")):
        raise InvalidOption(f"{out} is no name for a task file", hint="end it in .jsonl or .jsonl.gz")
    if out.name.startswith(_TRAIN) and not split.startswith(_TRAIN):
        raise InvalidOption(
            f"{out.name} would be for training by its name, but {split!r} is for evaluation",
            hint="give the file a name that does not begin with 'train'",
        )
    if not out.parent.is_dir():
        raise ConfigError(f"{out.parent} is no folder", hint="make it first")


def _write(out: Path, lines: Iterable[str]) -> int:
    """Write the file whole or, with no lines or an error, not at all; the number of lines."""
    temporary = out.with_name(f"{out.name}.part")
    opener = gzip.open if out.suffix == ".gz" else open
    count = 0
    try:
        with opener(temporary, "wt", encoding="utf-8") as file:
            for line in lines:
                file.write(line + "\n")
                count += 1
        if count:
            temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    return count
