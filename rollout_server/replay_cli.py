"""``envloop replay …``. Heavy libraries are imported by the command that needs them."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from envs.errors import InvalidOption
from rollout_server.cli_options import EnvUrl, EpisodeId, Json, StoreUrl, load_settings, open_store

__all__ = ["replay_app"]

replay_app = typer.Typer(
    help="Look at stored episodes, re-run and export them.",
    no_args_is_help=True,
    add_completion=False,  # it would complete the sub-command's name, not `envloop`
    pretty_exceptions_enable=False,
)


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
    with open_store(store) as opened:
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

    with open_store(store) as opened:
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

    settings = load_settings(None, env_url=env_url, store_url=store)
    with open_store(store) as opened:
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
    with open_store(store) as opened:
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
