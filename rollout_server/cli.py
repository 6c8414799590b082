"""``envloop rollout …`` and ``envloop replay …``. Heavy libraries are imported by the command that needs them."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from envs.errors import InvalidOption

if TYPE_CHECKING:
    from rollout_server.config import RolloutServerSettings
    from rollout_server.episode_store import EpisodeStore
    from rollout_server.types import Group

__all__ = ["replay_app", "rollout_app"]

rollout_app = typer.Typer(
    help="Play episodes with a model: serve, play, measure.",
    no_args_is_help=True,
    add_completion=False,  # it would complete the sub-command's name, not `envloop`
    pretty_exceptions_enable=False,
)
replay_app = typer.Typer(
    help="Look at stored episodes, re-run and export them.",
    no_args_is_help=True,
    add_completion=False,  # it would complete the sub-command's name, not `envloop`
    pretty_exceptions_enable=False,
)

Config = Annotated[Path | None, typer.Option("--config", help="TOML file with the rollout server's settings.")]
EngineName = Annotated[
    str | None,
    typer.Option("--engine", help="vllm, openai, transformers, expert, explorer, repair, near_miss, random or noop."),
]
Model = Annotated[str | None, typer.Option("--model", help="A folder, a hub name, or smollm2.")]
BaseUrls = Annotated[
    list[str] | None, typer.Option("--base-url", help="Server of the engine openai; repeat for a pool of several.")
]
EnvUrl = Annotated[str | None, typer.Option("--env-url", help="Address of an env server; without: in this process.")]
StoreUrl = Annotated[str | None, typer.Option("--store", help="Episode store (else ENVLOOP_STORE_URL).")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
EpisodeId = Annotated[str, typer.Argument(help="An episode's id, or its unique beginning.")]


@rollout_app.command("serve")
def _serve(  # noqa: PLR0917 - options of the command line
    host: Annotated[str | None, typer.Option(help="Address to bind; beyond loopback ENVLOOP_TOKEN is needed.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.")] = None,
    engine: EngineName = None,
    model: Model = None,
    base_urls: BaseUrls = None,
    env_url: EnvUrl = None,
    store: StoreUrl = None,
    config: Config = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    log_format: Annotated[str | None, typer.Option(help="text, or json: one object a line.")] = None,
    ready_file: Annotated[Path | None, typer.Option(help="Write {url, pid} here once the server listens.")] = None,
    stop_on_eof: Annotated[bool, typer.Option("--stop-on-eof", help="Stop when standard input is closed.")] = False,
) -> None:
    """Serve rollouts over HTTP until Ctrl-C. Tokens come from the environment: ENVLOOP_TOKEN."""
    from envs.server_logs import configure_logs
    from envs.server_process import write_ready_file
    from rollout_server.server.app import serve as serve_app

    settings = _settings(
        config,
        host=host,
        port=port,
        engine=engine,
        model=model,
        base_urls=tuple(base_urls or ()) or None,
        env_url=env_url,
        store_url=store,
        log_level=log_level,
        log_format=log_format,
    )
    configure_logs(settings.log_level, settings.log_format)

    def announce(url: str) -> None:
        typer.echo(f"envloop rollout server ready at {url} (engine {settings.engine})")
        if ready_file is not None:
            write_ready_file(ready_file, url)

    try:
        serve_app(settings, on_ready=announce, stop_on_eof=stop_on_eof)
    finally:
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)


@rollout_app.command("play")
def _play(  # noqa: PLR0917 - options of the command line
    env: Annotated[str, typer.Argument(help="alfworld or dbbench.")] = "alfworld",
    split: Annotated[str, typer.Option(help="Split to draw tasks from.")] = "generated",
    task: Annotated[list[str] | None, typer.Option("--task", help="Play this task; repeat for more.")] = None,
    tasks: Annotated[int, typer.Option("--tasks", "-n", min=1, help="How many tasks to draw.")] = 4,
    group_size: Annotated[int, typer.Option(min=1, help="Episodes a task.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of sampling and of the first task drawn.")] = 0,
    type: Annotated[str | None, typer.Option(help="Draw among tasks of this type only.")] = None,
    protocol: Annotated[str | None, typer.Option(help="agentbench_fc or agentbench_classic.")] = None,
    temperature: Annotated[float, typer.Option(min=0.0)] = 1.0,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens a turn; without: 256, for a script without a model 2048 bytes.")
    ] = None,
    max_turns: Annotated[int | None, typer.Option(min=1, help="Turns; without: the protocol's limit.")] = None,
    max_episode_tokens: Annotated[
        int | None,
        typer.Option(min=2, help="Prompt and completion together; without: 4096, for such a script 131072 bytes."),
    ] = None,
    run: Annotated[str, typer.Option(help="Name stored with every episode.")] = "",
    thoughts: Annotated[
        bool, typer.Option("--thoughts", help="Let the explorer, repair or near_miss say why it acts.")
    ] = False,
    miss: Annotated[
        str | None, typer.Option(help="Which mistake near_miss makes, such as wrong_column; without: one is drawn.")
    ] = None,
    engine: EngineName = None,
    model: Model = None,
    base_urls: BaseUrls = None,
    env_url: EnvUrl = None,
    store: StoreUrl = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Play tasks with any engine, store the episodes and print them."""
    from rollout_server.episode_store import summarize
    from rollout_server.types import RolloutRequest, SamplingParams, TaskRef

    given = {"engine": engine, "model": model, "base_urls": tuple(base_urls or ()) or None, "protocol": protocol}
    settings = _settings(config, **given, env_url=env_url, store_url=store)
    script: dict[str, Any] = ({"thoughts": True} if thoughts else {}) | ({"miss": miss} if miss else {})
    if script:
        settings = settings.model_copy(update={"engine_options": {**settings.engine_options, **script}})
    drawn = [TaskRef(env, split=split, sample_seed=seed + k, type=type) for k in range(tasks)]
    turn_tokens, episode_tokens = _default_tokens(settings)
    request = RolloutRequest(
        tasks=tuple(TaskRef(env, task_id=name) for name in task) if task else tuple(drawn),
        group_size=group_size,
        sampling=SamplingParams(temperature=temperature, max_tokens=max_tokens or turn_tokens),
        protocol=settings.protocol,
        max_turns=max_turns,
        max_episode_tokens=max_episode_tokens or episode_tokens,
        seed=seed,
        metadata={"run": run} if run else {},
    )
    groups = asyncio.run(_run(settings, request))
    summaries = [summarize(episode) for group in groups for episode in group.episodes]
    if as_json:
        for summary in summaries:
            typer.echo(json.dumps(summary.to_json()))
        return
    from rich.console import Console

    from rollout_server.replay_view import render_table

    Console().print(render_table(summaries))
    scored = [s.reward for s in summaries if s.reward is not None]
    mean = f"{sum(scored) / len(scored):.3f}" if scored else "none"
    typer.echo(f"{len(scored)} of {len(summaries)} episodes scored, mean reward {mean}; see envloop replay show ID")


@rollout_app.command("bench")
def _bench(
    engine: Annotated[str | None, typer.Option("--engine", help="Also measure this engine, such as vllm.")] = None,
    model: Model = None,
    quick: Annotated[bool, typer.Option("--quick", help="First figures within a minute.")] = False,
    env_url: EnvUrl = None,
    as_json: Json = False,
) -> None:
    """Measure the loop's own overhead with the expert, and an engine's speed within it."""
    from rollout_server.bench import run_bench

    settings = _settings(None, engine=engine or "expert", model=model, env_url=env_url)
    for figure in run_bench(settings, quick=quick):
        typer.echo(json.dumps(figure.to_json()) if as_json else figure.line())


@replay_app.command("list")
def _list(  # noqa: PLR0917 - options of the command line
    env: Annotated[str | None, typer.Option(help="Only this environment.")] = None,
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    split: Annotated[str | None, typer.Option(help="Only this split.")] = None,
    policy: Annotated[str | None, typer.Option(help="Only this policy version.")] = None,
    status: Annotated[str | None, typer.Option(help="Only this status, such as completed.")] = None,
    run: Annotated[str | None, typer.Option(help="Only this run.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 20,
    offset: Annotated[int, typer.Option(min=0)] = 0,
    store: StoreUrl = None,
    as_json: Json = False,
) -> None:
    """List stored episodes, the newest first."""
    filters: dict[str, Any] = {"env": env, "task_id": task, "split": split, "policy": policy, "status": status}
    filters["run"] = run
    with _store(store) as opened:
        found = opened.query(limit=limit, offset=offset, **filters)
        total = opened.count(**filters)
    if as_json:
        for summary in found:
            typer.echo(json.dumps(summary.to_json()))
        return
    from rich.console import Console

    from rollout_server.replay_view import render_table

    Console().print(render_table(found))
    typer.echo(f"{len(found)} of {total} episodes", err=True)


@replay_app.command("show")
def _show(episode_id: EpisodeId, store: StoreUrl = None) -> None:
    """Show an episode turn by turn."""
    from rollout_server.replay_view import show

    with _store(store) as opened:
        show(opened.get(episode_id))


@replay_app.command("verify")
def _verify(
    episode_ids: Annotated[list[str], typer.Argument(help="Episodes' ids, or their unique beginnings.")],
    env_url: EnvUrl = None,
    store: StoreUrl = None,
) -> None:
    """Re-run an episode's actions and compare everything. Exit status 1 at a difference."""
    from rollout_server.config import open_env_client
    from rollout_server.replay import ReplayReport
    from rollout_server.replay import verify as replay

    settings = _settings(None, env_url=env_url, store_url=store)
    with _store(store) as opened:
        episodes = [opened.get(episode_id) for episode_id in episode_ids]

    async def run() -> list[ReplayReport]:
        async with open_env_client(settings) as client:
            return [await replay(episode, client) for episode in episodes]

    reports = asyncio.run(run())
    for report in reports:
        if report.difference is None:
            typer.echo(f"{report.episode_id}: identical, {report.steps} steps")
        else:
            typer.echo(
                f"{report.episode_id}: differs after {report.steps} of {report.total} steps\n{report.difference}"
            )
    raise typer.Exit(0 if all(report.ok for report in reports) else 1)


@replay_app.command("export")
def _export(
    episode_id: EpisodeId,
    format: Annotated[str, typer.Option("--format", help="json or html.")] = "html",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; without: standard output.")
    ] = None,
    tokenizer: Annotated[str | None, typer.Option(help="Model folder or name, for the page's view of tokens.")] = None,
    store: StoreUrl = None,
) -> None:
    """Write an episode as JSON, or as one self-contained HTML page."""
    if format not in ("json", "html"):
        raise InvalidOption(f"no format {format!r}", hint="json or html")
    with _store(store) as opened:
        episode = opened.get(episode_id)
    if format == "json":
        from rollout_server.serialize import dumps, episode_to_json

        text = dumps(episode_to_json(episode)) + "\n"
    else:
        from rollout_server.export_html import episode_to_html, find_tokenizer

        text = episode_to_html(episode, find_tokenizer(episode, tokenizer))
    if output is None:
        sys.stdout.write(text)
        return
    output.write_text(text, encoding="utf-8")
    typer.echo(f"{output}: episode {episode.id}", err=True)


def _settings(config: Path | None, **overrides: Any) -> RolloutServerSettings:
    from rollout_server.config import RolloutServerSettings

    return RolloutServerSettings.load(config, **overrides)


def _default_tokens(settings: RolloutServerSettings) -> tuple[int, int]:
    """Tokens a turn and an episode. A script without a model writes bytes, four to eight for a model's token."""
    from rollout_server.engines.scripted import ScriptKind

    bytes_only = settings.model is None and settings.engine in get_args(ScriptKind)
    return (8 * 256, 8 * 16384) if bytes_only else (256, 4096)


def _store(url: str | None) -> EpisodeStore:
    from rollout_server.episode_store import EpisodeStore

    return EpisodeStore(_settings(None, store_url=url).open_store_url())


async def _run(settings: RolloutServerSettings, request: Any) -> list[Group]:
    from rich.console import Console
    from rich.progress import Progress

    from rollout_server.config import open_service

    total = len(request.tasks) * request.group_size
    async with open_service(settings) as service:
        with Progress(console=Console(stderr=True), transient=True) as progress:
            bar = progress.add_task("playing", total=total)
            return list(await service.rollouts.rollouts(request, on_episode=lambda _: progress.advance(bar)))
