"""``envloop env diff-engines``: the native engine against TextWorld, on the command line."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from envs.errors import ConfigError

if TYPE_CHECKING:
    from envs.alfworld.diff import DiffReport, GameReport
    from envs.alfworld.engine import GameSource

__all__ = ["Judge", "diff_engines_command", "find_game_files", "generated_games", "official_game"]


class Judge(StrEnum):
    """Which TextWorld the native engine is held against."""

    STOCK = "stock"
    FAST = "fast"


def diff_engines_command(  # noqa: PLR0917 - options of the command line
    games: Annotated[
        Path | None, typer.Option("--games", help="Folder with game.tw-pddl files, at any depth.", show_default=False)
    ] = None,
    generated: Annotated[
        int | None, typer.Option(min=0, help="So many generated games; 5 where no folder is given.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="At most so many games of the folder; 0: all.")] = 0,
    dialect: Annotated[
        str | None,
        typer.Option(help="Tell the games in this dialect first: 0.2 or 0.4; else as they are.", show_default=False),
    ] = None,
    steps: Annotated[int, typer.Option(min=0, help="Commands of an episode.")] = 50,
    total_steps: Annotated[
        int, typer.Option(min=0, help="Further rounds, each with the next seed, until so many steps are compared.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the walkers and of the first generated game.")] = 0,
    walkers: Annotated[
        str, typer.Option(help="Who plays each game once, parted by commas.")
    ] = "random,curious,expert,adversarial",
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Games at a time, each in a TextWorld process.")] = 1,
    judge: Annotated[
        Judge, typer.Option(help="TextWorld as installed, or with its pure work remembered: 20 times faster.")
    ] = Judge.STOCK,
    keep_going: Annotated[bool, typer.Option(help="A difference ends its episode only; else everything ends.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Play the native ALFWorld engine against TextWorld, step by step: text, win, admissible commands and facts.

    Needs the extra 'alfworld'. Exit status 1 where they differ. Games that the native engine refuses are counted and
    named.
    """
    from envs.alfworld.diff import compare_games, summarize
    from envs.alfworld.textworld_engine import FAST_WORKER, STOCK_WORKER, TextWorldEngine

    sources = [official_game(path) for path in find_game_files(games, limit=limit)] if games is not None else []
    sources += generated_games(seed, (0 if sources else 5) if generated is None else generated)
    if not sources:
        raise ConfigError("there is no game to compare", hint="name a folder with --games, or say --generated 5")
    command = FAST_WORKER if judge is Judge.FAST else STOCK_WORKER
    started = time.monotonic()
    reference = TextWorldEngine(max_workers=jobs, command=command, with_facts=True)
    try:
        reports = compare_games(
            sources,
            reference=reference,
            dialect=dialect,
            steps=steps,
            total_steps=total_steps,
            seed=seed,
            walkers=[name.strip() for name in walkers.split(",")],
            jobs=jobs,
            keep_going=keep_going,
        )
        report = summarize(list(_told(reports, len(sources))))
    finally:
        reference.close()
    about = f"TextWorld {importlib.metadata.version('textworld')}, {judge}"
    if as_json:
        seconds = round(time.monotonic() - started, 3)
        typer.echo(json.dumps({**asdict(report), "judge": about, "dialect": dialect, "seed": seed, "seconds": seconds}))
    else:
        _show(report, about)
    if not report.num_games:
        raise ConfigError(
            f"none of {report.num_refused} games could be compared: the native engine refuses them all",
            hint=f"the first reason: {report.refused[0][1]}" if report.refused else "",
        )
    raise typer.Exit(1 if report.num_differences else 0)


def find_game_files(folder: Path, *, limit: int = 0) -> list[Path]:
    """The game files below a folder, in the order of their paths. Raises ConfigError where there is none."""
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder", hint="name the folder that holds the games")
    paths = sorted(folder.rglob("game.tw-pddl"))
    if not paths:
        raise ConfigError(
            f"{folder} holds no game.tw-pddl", hint="`envloop env fetch alfworld` gets games, `env generate` makes some"
        )
    return paths[:limit] if limit else paths


def official_game(path: Path) -> GameSource:
    """A game file as engines open it, known by its bytes; parsed when one does, and refused there if it must be."""
    from envs.alfworld.engine import GameSource
    from envs.alfworld.game import read_game_file

    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        digest = str(path)
    return GameSource(digest, str(path), lambda: read_game_file(path)[0])


def generated_games(first_seed: int, count: int) -> list[GameSource]:
    """Games of the generator, made when an engine opens them. Known by their seeds."""
    from envs.alfworld.engine import GameSource
    from envs.alfworld.generator import generate

    return [
        GameSource(f"generated/{seed}", f"generated/{seed}", lambda seed=seed: generate(seed).data)  # type: ignore[misc]
        for seed in range(first_seed, first_seed + count)
    ]


def _told(reports: Iterator[GameReport], total: int) -> Iterator[GameReport]:
    """The same reports, each with a line on standard error."""
    steps = differences = 0
    for number, report in enumerate(reports, 1):
        steps += report.num_steps
        differences += len(report.differences)
        note = f" (refused: {report.refused})" if report.refused else ""
        place = f"{number} of {total}" if number <= total else f"{number}, again"
        typer.echo(f"{place}: {steps} steps, {differences} differences; {report.game}{note}", err=True)
        yield report


def _show(report: DiffReport, judge: str) -> None:
    typer.echo(
        f"{report.num_games} games, {report.num_episodes} episodes, {report.num_steps} steps, {report.num_wins} won: "
        f"{report.num_differences} differences (judge: {judge})"
    )
    if report.num_refused:
        typer.echo(f"refused by the native engine: {report.num_refused}")
        for game, reason in report.refused:
            typer.echo(f"  {game}: {reason.removeprefix(f'{game}: ')}")
    if report.first is not None:
        typer.echo(f"the first difference:\n{report.first.transcript()}")
