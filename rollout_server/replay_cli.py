"""``envloop replay …``. Heavy libraries are imported by the command that needs them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from envs.errors import InvalidOption
from rollout_server.cli_options import EpisodeId, Json, StoreUrl, open_store
from rollout_server.replay_cli_again import compare, fork, rescore, verify
from rollout_server.replay_filters import named_or_found, with_filters

__all__ = ["replay_app"]

replay_app = typer.Typer(
    help="Look at stored episodes, re-run, fork, compare and export them.",
    no_args_is_help=True,
    add_completion=False,  # it would complete the sub-command's name, not `envloop`
    pretty_exceptions_enable=False,
)
for _command in (verify, fork, compare, rescore):
    replay_app.command(_command.__name__)(_command)


@replay_app.command("list")
@with_filters
def _list(
    filters: dict[str, Any],
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 20,
    offset: Annotated[int, typer.Option(min=0)] = 0,
    store: StoreUrl = None,
    as_json: Json = False,
) -> None:
    """List stored episodes, the newest first."""
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


@replay_app.command("stats")
@with_filters
def _stats(
    filters: dict[str, Any],
    by: Annotated[
        list[str] | None,
        typer.Option(help="Group by env, task_id, task_type, split, policy, status, run, day, …; repeat for more."),
    ] = None,
    store: StoreUrl = None,
    as_json: Json = False,
) -> None:
    """Count episodes, with success, mean reward, turns and tokens, by any of their keys."""
    keys = [_KEYS.get(name, name) for text in by or [] for name in text.split(",")]
    with open_store(store) as opened:
        rows = opened.stats(keys, **filters)
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row.to_json()))
        return
    from rich.console import Console

    from rollout_server.replay_tables import stats_table

    Console().print(stats_table(keys, rows))


_KEYS = {"task": "task_id", "type": "task_type", "group": "group_id"}


@replay_app.command("show")
def _show(episode_id: EpisodeId, store: StoreUrl = None) -> None:
    """Show an episode turn by turn."""
    from rollout_server.replay_view import show

    with open_store(store) as opened:
        episode = opened.get(episode_id)
        scores = opened.scores(episode.id)
    show(episode)
    for rules, reward in scores.items():
        typer.echo(f"under the {rules} rules: reward {reward:g}")


@replay_app.command("export")
@with_filters
def _export(  # noqa: PLR0917 - options of the command line
    filters: dict[str, Any],
    episode_ids: Annotated[list[str] | None, typer.Argument(help="Episodes' ids, or their unique beginnings.")] = None,
    format: Annotated[
        str, typer.Option("--format", help="html or json (one episode); jsonl, chat, agentbench or parquet.")
    ] = "html",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; without: standard output.")
    ] = None,
    tokenizer: Annotated[str | None, typer.Option(help="Model folder or name, for the page's view of tokens.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every episode of the store.")] = False,
    allow_eval_split: Annotated[
        list[str] | None,
        typer.Option(help="Let this evaluation split (env/split or split) into what is made to be trained on."),
    ] = None,
    store: StoreUrl = None,
) -> None:
    """Write an episode as a page or as JSON, or many for other tools: whole, as chat, as AgentBench's, as Parquet."""
    from rollout_server.export_files import EXPORT_FORMATS, export_episodes

    if format not in ("json", "html", *EXPORT_FORMATS):
        raise InvalidOption(f"no format {format!r}", hint=f"json or html, {', '.join(EXPORT_FORMATS)}")
    named = named_or_found(episode_ids, filters, every=every)
    with open_store(store) as opened:
        if format in EXPORT_FORMATS:
            chosen: Iterable[Any] = map(opened.get, episode_ids or ()) if named else opened.iter_episodes(**filters)
            report = export_episodes(chosen, format, output or sys.stdout, allow_eval_splits=allow_eval_split or ())
            typer.echo(f"{output or 'standard output'}: {report.line()}", err=True)
            return
        if not named or len(episode_ids or ()) != 1:
            raise InvalidOption(f"{format} takes one episode by its id", hint="jsonl takes many")
        episode = opened.get((episode_ids or [""])[0])
    _export_one(episode, format, output, tokenizer)


@replay_app.command("prune")
@with_filters
def _prune(  # noqa: PLR0917 - options of the command line
    filters: dict[str, Any],
    older_than: Annotated[str | None, typer.Option(help="Delete what began longer ago, such as 30d.")] = None,
    keep_last: Annotated[int | None, typer.Option(min=0, help="Keep so many of the newest.")] = None,
    max_bytes: Annotated[
        str | None, typer.Option(help="Keep the newest whose records take no more together, such as 500M.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count only.")] = False,
    store: StoreUrl = None,
    as_json: Json = False,
) -> None:
    """Delete old episodes, among those that match the filters, and give their space back."""
    from rollout_server.episode_filters import parse_age, parse_bytes
    from rollout_server.store_retention import Retention

    retention = Retention(
        older_than=None if older_than is None else parse_age(older_than),
        keep_last=keep_last,
        max_bytes=None if max_bytes is None else parse_bytes(max_bytes),
    )
    with open_store(store) as opened:
        report = opened.prune(retention, dry_run=dry_run, **filters)
    typer.echo(json.dumps(report.to_json()) if as_json else report.line())


def _export_one(episode: Any, format: str, output: Path | None, tokenizer: str | None) -> None:
    if format == "json":
        from rollout_server.serialize import dumps, episode_to_json

        text = dumps(episode_to_json(episode)) + "\n"
    else:
        from rollout_server.export_html import episode_to_html, find_tokenizer

        text = episode_to_html(episode, find_tokenizer(episode, tokenizer))
    if output is None:
        sys.stdout.write(text)
        return
    from rollout_server.export_files import atomic_file

    with atomic_file(output) as path:
        path.write_text(text, encoding="utf-8")
    typer.echo(f"{output}: episode {episode.id}", err=True)
