"""``envloop env check dbbench --data FILE``: whether a task file's gold reproduces, on the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from envs.dbbench.backend import Backend
from envs.dbbench.backends import open_backend
from envs.dbbench.gold_check import GoldReport, check_gold
from envs.dbbench.scoring import Rules, rules_names
from envs.dbbench.tasks import DbTask, TaskFile, find_task_files
from envs.errors import ConfigError, InvalidOption
from envs.types import SplitRole

__all__ = ["check_gold_file", "check_rules", "own_backend", "report_lines"]


def check_gold_file(
    path: Path, *, split_name: str | None = None, rules: str = "fc", jobs: int = 8, as_json: bool = False
) -> tuple[list[str], bool]:
    """Check a file of tasks, ``dev`` being the bundled split; lines to print, and whether all is well.

    The server is that of the settings, or a private one. Raises TaskDataError for a file that cannot be read,
    InvalidOption, ConfigError, InfrastructureError.
    """
    from rich.console import Console
    from rich.progress import Progress

    chosen = check_rules(rules)
    if jobs < 1:
        raise InvalidOption(f"jobs is {jobs}", hint="1 or more")
    tasks = _read(path, split_name)
    backend = own_backend(jobs)
    console = Console(stderr=True)
    try:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            shown = bar.add_task("gold", total=len(tasks))
            report = check_gold(
                tasks,
                backend,
                rules=chosen,
                jobs=jobs,
                progress=lambda done, _: bar.update(shown, completed=done),
            )
    finally:
        backend.close()
    lines = [json.dumps(report.to_json(), ensure_ascii=False)] if as_json else list(report_lines(report))
    return lines, report.ok


def check_rules(rules: str) -> Rules:
    """The rules by name. Raises InvalidOption."""
    if rules not in rules_names():
        raise InvalidOption(f"rules is {rules!r}", hint=f"one of {', '.join(rules_names())}")
    return cast("Rules", rules)


def own_backend(jobs: int) -> Backend:
    """The database of the settings, as episodes have it, for so many tasks at once."""
    from envs.config import EnvServerSettings

    settings = EnvServerSettings.load().family_settings("dbbench")
    binary = settings.get("server_binary")
    return open_backend(settings.get("url"), binary, max_live=2 * jobs + 8, admin_connections=jobs)


def report_lines(report: GoldReport) -> Iterator[str]:
    """The report for a person: a line for each type, then one for each task that does not reproduce."""
    yield f"{report.num_tasks} tasks on {report.server}, rules {report.rules}"
    for kind, (good, total) in report.types.items():
        yield f"{kind:<16} {good:>5} of {total}"
    if report.unchecked:
        yield f"{report.unchecked} answers have no trusted statement: their tables load, and they pass their own scorer"
    yield f"{report.untouched} untouched tables have the gold hash already"
    for miss in report.misses:
        known = " (known: a mistake of AgentBench's)" if miss.known else ""
        yield f"{miss.task} {miss.type}: {miss.reason}{known}"
    yield "the gold reproduces" if report.ok else "the gold does NOT reproduce"


def _read(path: Path, split_name: str | None) -> tuple[DbTask, ...]:
    if not path.is_file():
        if str(path) == "dev":
            return find_task_files(None)[0].tasks
        raise ConfigError(f"{path} is no file", hint="name a file of DB Bench tasks, one JSON object a line")
    name = split_name or path.name.removesuffix(".gz").removesuffix(".jsonl")
    return TaskFile(name, path, SplitRole.EVALUATION).tasks
