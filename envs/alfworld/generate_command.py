"""``envloop env generate``: generated games as files, on the command line."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from envs.errors import ConfigError, InvalidOption

__all__ = ["generate_command"]


def generate_command(  # noqa: PLR0917 - options of the command line
    env: Annotated[str, typer.Argument(help="alfworld; or, as the only argument, the folder.")] = "alfworld",
    folder: Annotated[Path | None, typer.Argument(help="The same as --dest.", show_default=False)] = None,
    dest: Annotated[
        Path | None,
        typer.Option(help="Folder to write to; give it as ALFWORLD_DATA to play the games.", show_default=False),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many games.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first game; the next has the next.")] = 0,
    types: Annotated[
        str | None,
        typer.Option("--types", "--type", help="Task types that take turns, parted by commas.", show_default="all"),
    ] = None,
    difficulty: Annotated[str, typer.Option(help="very_easy, easy, normal or hard: what the rest changes.")] = "normal",
    receptacles: Annotated[
        str | None, typer.Option(metavar="LOW:HIGH", show_default=False, help="Receptacles of a room.")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(metavar="LOW:HIGH", show_default=False, help="Classes of objects beside the wanted one."),
    ] = None,
    objects: Annotated[
        str | None, typer.Option(metavar="LOW:HIGH", show_default=False, help="Objects that are not wanted.")
    ] = None,
    targets: Annotated[
        str | None, typer.Option(metavar="LOW:HIGH", show_default=False, help="Objects of the wanted class.")
    ] = None,
    plan_length: Annotated[
        str | None,
        typer.Option(metavar="LOW:HIGH", show_default=False, help="Commands of the shortest way to the goal."),
    ] = None,
    searched: Annotated[
        str | None,
        typer.Option(metavar="LOW:HIGH", show_default=False, help="Receptacles where a wanted object might lie."),
    ] = None,
    phrasing: Annotated[str, typer.Option(help="official: alfworld's templates; varied: further sentences too.")] = (
        "official"
    ),
    rooms: Annotated[str, typer.Option(help="train, evaluation, or all: the rooms of valid_unseen, too.")] = "train",
    split: Annotated[str, typer.Option(help="Name of the split's folder.")] = "train",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a game.")] = False,
) -> None:
    """Write generated ALFWorld games as files in the official layout: TextWorld loads and wins them.

    The same arguments write the same bytes. A game that is there already is kept, so an interrupted call is taken up by
    the same call; a folder with other games or with other files of these names is refused.

    LOW:HIGH is a range such as 4:8; 4: has no upper bound, 4 is exactly so many. What is not given is as the
    difficulty says.
    """
    from rich.console import Console
    from rich.progress import Progress

    from envs.alfworld.export import write_generated_games
    from envs.alfworld.generator_options import find_difficulty, parse_bounds

    place = _find_folder(env, folder, dest)
    texts = {
        "receptacles": receptacles,
        "classes": classes,
        "objects": objects,
        "targets": targets,
        "plan_length": plan_length,
        "searched": searched,
    }
    bounds = {name: parse_bounds(text) for name, text in texts.items() if text is not None}
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("games", total=count)
        written = write_generated_games(
            place,
            count,
            first_seed=seed,
            types=[name.strip() for name in types.split(",")] if types is not None else (),
            difficulty=find_difficulty(difficulty).within(bounds),
            rooms=rooms,
            phrasing=phrasing,
            split=split,
            progress=lambda done, _: bar.update(task, completed=done),
        )
    if as_json:
        for game in written:
            typer.echo(json.dumps({**asdict(game), "path": str(game.path)}))
        return
    kept = sum(game.kept for game in written)
    note = f" ({kept} of them were there already)" if kept else ""
    typer.echo(f"{len(written)} games are in {place}{note}; set ALFWORLD_DATA to it to play them")


def _find_folder(env: str, folder: Path | None, dest: Path | None) -> Path:
    """The folder, named by ``--dest`` or by a lone argument, which was the command's first form."""
    if folder is None and env not in ("alfworld", "dbbench"):
        env, folder = "alfworld", Path(env)
    if env != "alfworld":
        raise ConfigError(f"there are no generated files of {env!r:.80}", hint="known: alfworld")
    if folder is not None and dest is not None:
        raise InvalidOption(f"two folders are named: {folder} and {dest}", hint="name one, with --dest")
    if folder is None and dest is None:
        raise InvalidOption("no folder is named", hint="name one with --dest")
    found = dest or folder
    assert found is not None
    return found
