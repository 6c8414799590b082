"""The commands of ``envloop replay`` that run or judge stored episodes again: verify, fork, compare, rescore."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from envs.errors import ConfigError, EnvloopError, InvalidOption
from rollout_server.cli_options import (
    Config,
    EngineName,
    EnvUrl,
    EpisodeId,
    Json,
    Model,
    StoreUrl,
    load_settings,
    open_store,
)
from rollout_server.replay_filters import named_or_found, with_filters

if TYPE_CHECKING:
    from rollout_server.episode_store import EpisodeStore, EpisodeSummary
    from rollout_server.replay import ReplayReport
    from rollout_server.types import Episode

__all__ = ["compare", "fork", "rescore", "verify"]

EpisodeIds = Annotated[list[str] | None, typer.Argument(help="Episodes' ids, or their unique beginnings.")]
Every = Annotated[bool, typer.Option("--all", help="Every episode of the store.")]


@with_filters
def verify(  # noqa: PLR0917 - options of the command line
    filters: dict[str, Any],
    episode_ids: EpisodeIds = None,
    every: Every = False,
    window: Annotated[int, typer.Option(min=1, max=1024, help="Episodes that are replayed at once.")] = 128,
    env_url: EnvUrl = None,
    store: StoreUrl = None,
    as_json: Json = False,
) -> None:
    """Re-run episodes' actions and compare everything. Exit status 1 at a difference; shows the first of each."""
    from rollout_server.config import open_env_client
    from rollout_server.replay_verify import verify_many

    settings = load_settings(None, env_url=env_url, store_url=store)
    named = named_or_found(episode_ids, filters, every=every)
    counts = {"episodes": 0, "steps": 0, "different": 0, "skipped": 0}

    def tell(report: ReplayReport) -> None:
        counts["episodes"] += 1
        counts["steps"] += report.steps
        counts["different"] += not report.ok
        counts["skipped"] += bool(report.skipped)
        if as_json:
            typer.echo(json.dumps({**asdict(report), "ok": report.ok, "difference": _difference(report)}))
        elif not report.ok:
            place = f"differs after {report.steps} of {report.total} steps"
            typer.echo(f"{report.episode_id}: {place}\n{report.difference}")
        elif named:
            same = f"nothing to replay: {report.skipped}" if report.skipped else f"identical, {report.steps} steps"
            typer.echo(f"{report.episode_id}: {same}")

    async def run(episodes: Iterable[Episode]) -> None:
        async with open_env_client(settings) as client:
            async for report in verify_many(episodes, client, window=window):
                tell(report)

    with open_store(store) as opened:
        asyncio.run(run(_chosen(opened, episode_ids, filters)))
    skipped = f", {counts['skipped']} that never began" if counts["skipped"] else ""
    typer.echo(
        f"{counts['episodes']} episodes, {counts['steps']} steps equal, {counts['different']} different{skipped}",
        err=True,
    )
    raise typer.Exit(1 if counts["different"] else 0)


def fork(  # noqa: PLR0917 - options of the command line
    episode_id: EpisodeId,
    at: Annotated[int, typer.Option(min=0, help="Turns that stay; the first new one has this number.")],
    policy: Annotated[str | None, typer.Option(help="Policy version that goes on: see --adapter, --url.")] = None,
    by_hand: Annotated[bool, typer.Option("--by-hand", help="Go on yourself: type each action.")] = False,
    adapter: Annotated[Path | None, typer.Option(help="Folder of the LoRA adapter that --policy names.")] = None,
    count: Annotated[int, typer.Option(min=1, max=256, help="Forks of the same point, one group.")] = 1,
    temperature: Annotated[float | None, typer.Option(min=0.0, help="Without: as the episode was sampled.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens a turn; without: as the episode.")] = None,
    max_turns: Annotated[int | None, typer.Option(min=1, help="Turns, the kept ones too; else the protocol's.")] = None,
    max_episode_tokens: Annotated[int | None, typer.Option(min=2, help="Prompt and completion together.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of what is sampled from there on.")] = 0,
    same_policy: Annotated[
        bool | None,
        typer.Option("--same-policy/--other-policy", help="Whether the kept turns are this policy's own (else told)."),
    ] = None,
    run: Annotated[str, typer.Option(help="Name stored with the forks.")] = "",
    url: Annotated[str | None, typer.Option(help="A rollout server that holds the episode and the policy.")] = None,
    engine: EngineName = None,
    model: Model = None,
    env_url: EnvUrl = None,
    store: StoreUrl = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Go on from a turn of a stored episode with another policy or by hand, and store what becomes of it."""
    from rollout_server.episode_store import summarize
    from rollout_server.replay_fork_many import ForkOptions

    if (policy is not None or engine is not None) == by_hand:
        raise InvalidOption("who goes on?", hint="--policy NAME, --engine KIND or --by-hand, one of these")
    if by_hand and (count > 1 or url or adapter):
        raise InvalidOption("by hand one episode is played, here, without adapters", hint="leave the others out")
    options = ForkOptions(
        at=at,
        count=count,
        temperature=temperature,
        max_tokens=max_tokens,
        max_turns=max_turns,
        max_episode_tokens=max_episode_tokens,
        seed=seed,
        same_policy=same_policy,
        run=run,
    )
    settings = load_settings(config, engine=engine, model=model, env_url=env_url, store_url=store)
    if url is not None:
        if policy is None or adapter is not None:
            raise InvalidOption("a rollout server goes on with a policy that it holds", hint="--policy NAME")
        forks = asyncio.run(_fork_there(settings, url, episode_id, policy, options))
    else:
        with open_store(store) as opened:
            parent = opened.get(episode_id)
        forks = asyncio.run(_fork_here(settings, parent, options, policy, adapter, by_hand=by_hand))
    summaries = [summarize(episode) for episode in forks]
    if as_json:
        for summary in summaries:
            typer.echo(json.dumps(summary.to_json()))
        return
    from rich.console import Console

    from rollout_server.replay_view import render_table

    Console().print(render_table(summaries))
    typer.echo(f"went on after {at} turns of {episode_id}; see envloop replay show ID", err=True)


@with_filters
def compare(  # noqa: PLR0917 - options of the command line
    filters: dict[str, Any],
    first: Annotated[str, typer.Argument(metavar="A", help="A policy or a run, or filters: run=x,policy=y.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Likewise.")],
    flips: Annotated[int, typer.Option(min=0, help="How many tasks that flipped are listed.")] = 20,
    store: StoreUrl = None,
    as_json: Json = False,
) -> None:
    """Compare two policies on the tasks that both played: success, reward, and whether the difference can be chance."""
    from rollout_server.replay_compare import compare_episodes

    with open_store(store) as opened:
        sides = [_side(opened, text, filters) for text in (first, second)]
    found = compare_episodes(*sides)
    if as_json:
        typer.echo(json.dumps(found.to_json()))
        return
    from rich.console import Console

    from rollout_server.replay_tables import comparison_table
    from rollout_server.replay_view import visible

    Console().print(comparison_table(found, first, second))
    for line in (found.overall, *found.types):
        if line.note and (line is found.overall or len(found.types) > 1):
            typer.echo(f"{visible(line.type)}: {line.note}")
    for flip in found.flips[:flips]:
        typer.echo(f"{'+' if flip.gained else '-'} {flip.task_id}  A {flip.episode_a[:12]}  B {flip.episode_b[:12]}")
    more = f"; {len(found.flips) - flips} more flipped (--flips)" if len(found.flips) > flips else ""
    alone = f"without a partner: {found.unpaired_a} of A, {found.unpaired_b} of B"
    typer.echo(f"{alone}; without a result: {found.unscored}{more}", err=True)


@with_filters
def rescore(  # noqa: PLR0917 - options of the command line
    filters: dict[str, Any],
    rules: Annotated[str, typer.Option(help="classic or fc.")],
    episode_ids: EpisodeIds = None,
    every: Every = False,
    write: Annotated[bool, typer.Option("--write", help="Keep the new rewards beside the originals.")] = False,
    env_url: EnvUrl = None,
    store: StoreUrl = None,
    as_json: Json = False,
) -> None:
    """Judge episodes anew under other rules. The stored reward is never changed. Exit status 1 where one cannot be."""
    from rollout_server.config import open_env_client
    from rollout_server.replay_rescore import Rescore
    from rollout_server.replay_rescore import rescore as judge

    settings = load_settings(None, env_url=env_url, store_url=store)
    named_or_found(episode_ids, filters, every=every)
    done: list[Rescore] = []
    failed = 0

    async def run(opened: EpisodeStore) -> None:
        nonlocal failed
        async with open_env_client(settings) as client:
            for episode in _chosen(opened, episode_ids, filters):
                try:
                    found = await judge(episode, rules, client)
                except InvalidOption:
                    raise
                except EnvloopError as error:
                    failed += 1
                    typer.echo(f"{episode.id}: {error}", err=True)
                    continue
                done.append(found)
                if write and found.rescored is not None:
                    opened.add_score(found.episode_id, rules, found.rescored)
                if as_json:
                    typer.echo(json.dumps({**asdict(found), "changed": found.changed}))
                elif found.changed or episode_ids:
                    typer.echo(f"{found.episode_id}: {_shown(found.reward)} -> {_shown(found.rescored)} ({found.how})")

    with open_store(store) as opened:
        asyncio.run(run(opened))
    scored = [found for found in done if found.reward is not None and found.rescored is not None]
    means = ""
    if scored:
        before, after = (sum(getattr(f, n) for f in scored) / len(scored) for n in ("reward", "rescored"))
        means = f", mean reward {before:.4f} as played, {after:.4f} under {rules}"
    kept = f"; {len(scored)} kept beside the originals" if write else "; nothing written"
    changed = sum(found.changed for found in done)
    typer.echo(f"{len(done)} episodes, {changed} differ, {failed} could not be judged{means}{kept}", err=True)
    raise typer.Exit(1 if failed else 0)


def _chosen(opened: EpisodeStore, episode_ids: list[str] | None, filters: dict[str, Any]) -> Iterable[Episode]:
    if episode_ids:
        return [opened.get(episode_id) for episode_id in episode_ids]
    return opened.iter_episodes(**filters)


def _difference(report: ReplayReport) -> dict[str, Any] | None:
    found = report.difference
    return (
        None if found is None else {"where": found.where, "field": found.field, "turn": found.turn, "diff": found.diff}
    )


def _shown(reward: float | None) -> str:
    return "none" if reward is None else f"{reward:g}"


def _side(opened: EpisodeStore, text: str, filters: dict[str, Any]) -> list[EpisodeSummary]:
    """The episodes that a side of a comparison names: filters, else a policy, else a run."""
    from rollout_server.episode_filters import read_filters

    if "=" in text:
        sides = [read_filters(text.split(","), also=filters)]
    else:
        sides = [read_filters([f"{name}={text}"], also=filters) for name in ("policy", "run")]
    for side in sides:
        found = opened.query(limit=1_000_000_000, **side)
        if found:
            return found
    raise InvalidOption(f"no episode is of {text!r}", hint="a policy or a run of the store, or filters such as run=x")


async def _fork_there(settings: Any, url: str, episode_id: str, policy: str, options: Any) -> list[Episode]:
    from rollout_server.client import RolloutClient

    token = settings.token.get_secret_value() if settings.token else None
    async with RolloutClient(url, token) as client:
        return list(await client.fork(episode_id, options, policy=policy))


async def _fork_here(
    settings: Any, parent: Episode, options: Any, policy: str | None, adapter: Path | None, *, by_hand: bool
) -> list[Episode]:
    from rollout_server.replay_fork_many import fork_many

    if adapter is not None and policy is None:
        raise InvalidOption("an adapter needs a name", hint="--policy NAME")
    async with _service(settings, parent, by_hand=by_hand) as service:
        if adapter is not None:
            assert policy is not None
            await service.rollouts.publish_policy(policy, adapter)
        return await fork_many(service, parent, options, policy=policy)


@asynccontextmanager
async def _service(settings: Any, parent: Episode, *, by_hand: bool) -> AsyncIterator[Any]:
    from rollout_server.config import Service, open_env_client, open_service

    if not by_hand:
        async with open_service(settings) as service:
            yield service
        return
    from rollout_server.episode_store import EpisodeStore
    from rollout_server.export_html import find_tokenizer
    from rollout_server.local import LocalRollouts
    from rollout_server.replay_hand import HandEngine, LineInput

    tokenizer = find_tokenizer(parent, settings.model)
    if tokenizer is None:
        raise ConfigError(
            f"episode {parent.id} was played in the tokens of {parent.model}", hint="name that model: --model"
        )
    engine = HandEngine(tokenizer, LineInput(sys.stdin.fileno()), typer.echo)
    with EpisodeStore(settings.open_store_url()) as store:
        async with open_env_client(settings) as client:
            yield Service(LocalRollouts(client, engine, store=store), client, store)
