"""``envloop env …``: serve, look at, check, measure and prepare the environments."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from envs.alfworld.diff_command import diff_engines_command
from envs.dbbench.convert_command import convert_command
from envs.errors import ConfigError
from envs.generate import generate_app
from envs.types import Readiness, Split

if TYPE_CHECKING:
    from rich.progress import Progress

    from envs.base import EnvFamily

__all__ = ["app"]

app = typer.Typer(
    help="Serve, list, check, measure and prepare the environments.",
    no_args_is_help=True,
    add_completion=False,  # it would complete `env`, not `envloop env`
    pretty_exceptions_enable=False,
)

_Config = Annotated[Path | None, typer.Option("--config", help="TOML file with the server's settings.")]
_AlfworldData = Annotated[
    Path | None, typer.Option("--alfworld-data", help="Folder of the official games (else ALFWORLD_DATA).")
]
_Data = Annotated[Path | None, typer.Option("--data-dir", help="The environment's data folder.")]
_Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


@app.command("serve")
def _serve(  # noqa: PLR0917 - options of the command line
    host: Annotated[str | None, typer.Option(help="Address to bind; beyond loopback ENVLOOP_TOKEN is needed.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.")] = None,
    env: Annotated[
        list[str] | None, typer.Option("--env", help="Serve only this environment; may be repeated.")
    ] = None,
    openenv: Annotated[
        list[str] | None,
        typer.Option("--openenv", help="Be an OpenEnv server of this one too; may be repeated."),
    ] = None,
    config: _Config = None,
    alfworld_data: _AlfworldData = None,
    max_episodes: Annotated[int | None, typer.Option(help="Live episodes at once, in each process.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that serve the port together.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    log_format: Annotated[str | None, typer.Option(help="text, or json: one object a line.")] = None,
    ready_file: Annotated[Path | None, typer.Option(help="Write {url, pid} here once the server listens.")] = None,
    stop_on_eof: Annotated[bool, typer.Option("--stop-on-eof", help="Stop when standard input is closed.")] = False,
) -> None:
    """Serve the environments over HTTP until Ctrl-C.

    Episodes outlive the server: it goes on with them when it is started again. Tokens and databases' addresses come
    from the environment: ENVLOOP_TOKEN, ENVLOOP_EXPERT_TOKEN, DBBENCH_URL, ENVLOOP_JOURNAL_URL.
    """
    from envs.config import EnvServerSettings
    from envs.server.app import serve
    from envs.server_logs import configure_logs
    from envs.server_process import write_ready_file

    settings = EnvServerSettings.load(
        config,
        host=host,
        port=port,
        envs=tuple(env) if env else None,
        openenv=tuple(openenv) if openenv else None,
        alfworld={"data_dir": alfworld_data} if alfworld_data else None,
        max_episodes=max_episodes,
        workers=workers,
        log_level=log_level,
        log_format=log_format,
    )
    configure_logs(settings.log_level, settings.log_format)

    def announce(url: str, states: Mapping[str, Readiness]) -> None:
        if ready_file is not None:
            write_ready_file(ready_file, url, pid=os.getpid() if settings.workers == 1 else os.getppid())
        ready = [name for name, state in states.items() if state.ready]
        typer.echo(f"envloop env server ready at {url} ({', '.join(ready) or 'no environment is ready'})")
        for name, state in states.items():
            if not state.ready:
                typer.echo(f"{name} is not ready: {state.detail} / what to do: {state.hint}", err=True)

    try:
        serve(settings, on_ready=announce, stop_on_eof=stop_on_eof)
    finally:
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)


@app.command("tasks")
def _tasks(  # noqa: PLR0917 - options of the command line
    env: Annotated[str, typer.Argument(help="alfworld or dbbench.")],
    split: Annotated[str | None, typer.Option(help="List this split's tasks; without it, the splits.")] = None,
    type: Annotated[str | None, typer.Option(help="Only tasks of this type.")] = None,
    offset: Annotated[int, typer.Option(min=0)] = 0,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    data_dir: _Data = None,
    as_json: _Json = False,
) -> None:
    """List the splits of an environment, or the tasks of one split."""
    from envs.wire import task_to_json

    with _family(env, data_dir) as family:
        if split is None:
            _show_splits(family.splits(), as_json=as_json)
            return
        page = family.tasks(split, type=type, offset=offset, limit=limit)
    width = max((len(task.id) for task in page.tasks), default=0)
    for task in page.tasks:
        typer.echo(json.dumps(task_to_json(task)) if as_json else f"{task.id:<{width}} {task.type}")
    if not as_json:
        typer.echo(f"{len(page.tasks)} of {'endlessly many' if page.total is None else page.total} tasks", err=True)


@app.command("check")
def _check(  # noqa: PLR0917 - options of the command line
    env: Annotated[list[str] | None, typer.Argument(help="Environments; without one, all.")] = None,
    task: Annotated[list[str] | None, typer.Option("--task", help="Check on this task; repeat for more.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sampled tasks.")] = 0,
    data_dir: _Data = None,
    data: Annotated[
        Path | None, typer.Option(help="dbbench: run every gold label of this task file instead, or of 'dev'.")
    ] = None,
    split_name: Annotated[str | None, typer.Option(help="With --data: the split's name, if not the file's.")] = None,
    rules: Annotated[str, typer.Option(help="With --data: fc or classic.")] = "fc",
    jobs: Annotated[int, typer.Option(min=1, max=64, help="With --data: tasks at once.")] = 8,
    as_json: _Json = False,
) -> None:
    """Check an environment against the contract: determinism, gold solves, nothing scores 0, bad input refused.

    With --data, check the gold of a file of DB Bench tasks instead; the exit status is 1 where any does not reproduce
    that is not known not to.
    """
    if data is None and as_json:
        raise ConfigError("--json is for --data", hint="envloop env check dbbench --data FILE --json")
    if data is not None:
        from envs.dbbench.gold_command import check_gold_file

        if env != ["dbbench"]:
            raise ConfigError("--data is for dbbench", hint="envloop env check dbbench --data FILE")
        lines, well = check_gold_file(data, split_name=split_name, rules=rules, jobs=jobs, as_json=as_json)
        for line in lines:
            typer.echo(line)
        raise typer.Exit(0 if well else 1)
    from envs.checker import check_env
    from envs.registry import default_registry

    failed = False
    for name in env or [spec.name for spec in default_registry()]:
        with _family(name, data_dir) as family:
            report = check_env(family, tasks=task or None, seed=seed)
        typer.echo(report.summary())
        failed |= not report.ok
    raise typer.Exit(1 if failed else 0)


@app.command("bench")
def _bench(
    quick: Annotated[bool, typer.Option("--quick", help="First figures within a minute.")] = False,
    env: Annotated[list[str] | None, typer.Option("--env", help="Measure this environment only.")] = None,
    alfworld_data: _AlfworldData = None,
    as_json: _Json = False,
) -> None:
    """Measure a real server over HTTP with expert episodes: steps/s, episodes/s, latency."""
    from envs.bench import run_bench

    data = {"ALFWORLD_DATA": str(alfworld_data)} if alfworld_data else {}
    for figure in run_bench(env or (), quick=quick, env=data, log=lambda line: typer.echo(line, err=True)):
        typer.echo(json.dumps(figure.to_json()) if as_json else figure.line())


@app.command("fetch")
def _fetch(
    env: Annotated[str, typer.Argument(help="alfworld or dbbench.")] = "alfworld",
    dest: Annotated[Path | None, typer.Option(help="Folder for the data; default: your data folder.")] = None,
    as_json: _Json = False,
) -> None:
    """Download the official games or tasks, checked and resumable, and say where they are."""
    fetchers = {"alfworld": _fetch_alfworld, "dbbench": _fetch_dbbench}
    if env not in fetchers:
        raise ConfigError(f"there is nothing to fetch for {env!r}", hint="known: alfworld, dbbench")
    fetchers[env](dest, as_json=as_json)


def _fetch_alfworld(dest: Path | None, *, as_json: bool) -> None:
    from envs.alfworld.fetch import FetchProgress, fetch_alfworld
    from envs.config import EnvServerSettings

    with _progress() as bar:
        tasks: dict[tuple[str, str], Any] = {}

        def show(now: FetchProgress) -> None:
            key = (now.archive, now.phase)
            if key not in tasks:
                tasks[key] = bar.add_task(f"{now.phase} {now.archive}", total=now.total)
            bar.update(tasks[key], completed=now.done, total=now.total)

        report = fetch_alfworld(dest, progress=show, index_dir=EnvServerSettings.load().alfworld.index_dir)
    index = str(report.index) if report.index else None
    if as_json:
        typer.echo(json.dumps({"data_dir": str(report.data_dir), "num_games": report.num_games, "index": index}))
        return
    for archive in report.archives:
        checked = "checked" if archive.sha256_known else "recorded"
        typer.echo(f"{archive.name}: {archive.num_files} files, SHA-256 {archive.sha256} ({checked})")
    for split, size in report.num_games.items():
        typer.echo(f"{split}: {size} games")
    typer.echo(f"their index is {index}" if index else "their index could not be written: every start reads them again")
    typer.echo(f"the games are in {report.data_dir}; found there by default, or set ALFWORLD_DATA to it")


def _fetch_dbbench(dest: Path | None, *, as_json: bool) -> None:
    from envs.dbbench.fetch import fetch_dbbench

    with _progress() as bar:
        tasks: dict[str, Any] = {}

        def show(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(f"download {name}", total=total)
            bar.update(tasks[name], completed=done, total=total)

        report = fetch_dbbench(dest, progress=show)
    if as_json:
        sizes = {file.name: file.num_tasks for file in report.files}
        typer.echo(json.dumps({"data_dir": str(report.data_dir), "num_tasks": sizes}))
        return
    for file in report.files:
        checked = "checked" if file.sha256_known else "recorded"
        typer.echo(f"{file.name}: {file.num_tasks} tasks, SHA-256 {file.sha256} ({checked})")
    typer.echo(f"the tasks are in {report.data_dir}; found there by default, or set DBBENCH_DATA to it")


@app.command("index")
def _index(
    env: Annotated[str, typer.Argument(help="alfworld.")] = "alfworld",
    data_dir: _Data = None,
    as_json: _Json = False,
) -> None:
    """Read the official games that are new or have changed into the index, and say what is here and what is missing."""
    from envs.alfworld.index_command import index_games

    if env != "alfworld":
        raise ConfigError(f"there is nothing to index for {env!r}", hint="known: alfworld")
    with _progress() as bar:
        tasks: dict[str, Any] = {}

        def show(split: str, read: int, total: int) -> None:
            if split not in tasks:
                tasks[split] = bar.add_task(f"index {split}", total=total)
            bar.update(tasks[split], completed=read)

        lines = index_games(data_dir, progress=show, as_json=as_json)
    for line in lines:
        typer.echo(line)


app.add_typer(generate_app, name="generate")
app.command("diff-engines")(diff_engines_command)
app.command("convert")(convert_command)


def _progress() -> Progress:
    """A bar on standard error; nothing where that is no terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)


@contextlib.contextmanager
def _family(name: str, data_dir: Path | None) -> Iterator[EnvFamily]:
    """The family of this process, with the server's settings, closed in any case."""
    from envs.config import EnvServerSettings
    from envs.registry import default_registry

    registry = default_registry()
    spec = registry.spec(name)
    settings: dict[str, Any] = EnvServerSettings.load().family_settings(spec.name)
    if data_dir is not None:
        if not data_dir.is_dir():
            raise ConfigError(f"{data_dir} is no folder", hint="name the folder that holds the data")
        settings["data_dir"] = data_dir
    family = registry.make(spec.name, **settings)
    try:
        yield family
    finally:
        family.close()


def _show_splits(splits: Sequence[Split], *, as_json: bool) -> None:
    width = max((len(split.name) for split in splits), default=0)
    for split in splits:
        size = "endless" if split.size is None else str(split.size)
        if as_json:
            typer.echo(json.dumps({"name": split.name, "role": split.role, "size": split.size}))
        else:
            typer.echo(f"{split.name:<{width}} {split.role:<11} {size:>8}  {split.description}")
