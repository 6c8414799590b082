"""``envloop rollout …``. Heavy libraries are imported by the command that needs them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from rollout_server.cli_options import BaseUrls, Config, EngineName, EnvUrl, Json, Model, StoreUrl, load_settings
from rollout_server.constraints import Constrain

if TYPE_CHECKING:
    from rollout_server.config import RolloutServerSettings
    from rollout_server.types import Group

__all__ = ["rollout_app"]

rollout_app = typer.Typer(
    help="Play episodes with a model: serve, play, measure.",
    no_args_is_help=True,
    add_completion=False,  # it would complete the sub-command's name, not `envloop`
    pretty_exceptions_enable=False,
)


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

    settings = load_settings(
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
    max_turn_s: Annotated[float | None, typer.Option(help="Seconds to sample a turn in; without: no end.")] = None,
    max_episode_s: Annotated[float | None, typer.Option(help="Seconds for an episode; without: no end.")] = None,
    constrain: Annotated[
        Constrain, typer.Option(help="Hold turns to the admissible commands, or to the tools' schemas.")
    ] = Constrain.NONE,
    refill: Annotated[int, typer.Option(min=0, help="Play a member again that failed by infrastructure.")] = 1,
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
    settings = load_settings(config, **given, env_url=env_url, store_url=store)
    script: dict[str, Any] = ({"thoughts": True} if thoughts else {}) | ({"miss": miss} if miss else {})
    if constrain is not Constrain.NONE and settings.engine == "vllm":
        script["constraints"] = True
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
        max_turn_s=max_turn_s,
        max_episode_s=max_episode_s,
        constrain=constrain,
        refill=refill,
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

    settings = load_settings(None, engine=engine or "expert", model=model, env_url=env_url)
    for figure in run_bench(settings, quick=quick):
        typer.echo(json.dumps(figure.to_json()) if as_json else figure.line())


def _default_tokens(settings: RolloutServerSettings) -> tuple[int, int]:
    """Tokens a turn and an episode. A script without a model writes bytes, four to eight for a model's token."""
    from rollout_server.engines.scripted import ScriptKind

    bytes_only = settings.model is None and settings.engine in get_args(ScriptKind)
    return (8 * 256, 8 * 16384) if bytes_only else (256, 4096)


async def _run(settings: RolloutServerSettings, request: Any) -> list[Group]:
    from rich.console import Console
    from rich.progress import Progress

    from rollout_server.config import open_service

    total = len(request.tasks) * request.group_size
    async with open_service(settings) as service:
        with Progress(console=Console(stderr=True), transient=True) as progress:
            bar = progress.add_task("playing", total=total)
            return list(await service.rollouts.rollouts(request, on_episode=lambda _: progress.advance(bar)))
