"""Whether the native ALFWorld engine tells what TextWorld tells: official and generated games, in both dialects.

    python benchmarks/alfworld_differences.py [--json] [--quick] [--data-dir DIR] [--jobs J] [--resume FILE]

After every command text, win, admissible commands and facts are compared. Random, curious, expert and adversarial
walkers play. The mass is judged by TextWorld with its pure work remembered (``fast``: 20 times faster, the same
answers), a sample of the same episodes by TextWorld as it is installed (``stock``); the figures' names say which.
Without --data-dir the official games are those of ALFWORLD_DATA or of the user's data folder, where there are any.

--resume keeps every finished game in FILE and goes on from there, as long as code and arguments are the same.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from _figures import Figure, at_least, at_most, run, value

import envs.alfworld
from envs.alfworld.dialect import DIALECTS
from envs.alfworld.diff import DiffReport, GameReport, compare_games, summarize
from envs.alfworld.diff_command import find_game_files, generated_games, official_game
from envs.alfworld.engine import GameSource
from envs.alfworld.tasks import find_data_dir
from envs.alfworld.textworld_engine import FAST_WORKER, STOCK_WORKER, TextWorldEngine
from envs.alfworld.walkers import WALKERS

__all__ = ["Progress", "Section", "measure"]

_MOST_OFFICIAL_GAMES = 100


@dataclass(frozen=True, slots=True)
class Section:
    """Games to compare in each dialect: ``steps`` commands an episode, rounds until ``total_steps`` are reached."""

    name: str
    judge: str
    games: Sequence[GameSource]
    steps: int
    total_steps: int = 0
    walkers: tuple[str, ...] = tuple(WALKERS)


@dataclass(slots=True)
class Progress:
    """The games that are finished, by (section, dialect, round, game), kept in a file where one is named."""

    about: str
    path: Path | None
    reports: dict[str, GameReport] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path is None:
            return
        if self.path.exists():
            first, *lines = self.path.read_text(encoding="utf-8").splitlines() or [""]
            if first != self.about:
                sys.exit(f"{self.path} is of other code or arguments: name another file, or delete it")
            for line in lines:
                if line.endswith("}"):  # the last may have been cut
                    found = json.loads(line)
                    self.reports[found["key"]] = GameReport.from_json(found["report"])
        self.path.write_text(self.about + "\n", encoding="utf-8")
        for key, report in self.reports.items():
            self._write(key, report)

    def add(self, key: str, report: GameReport) -> None:
        """A game is finished."""
        self.reports[key] = report
        self._write(key, report)

    def _write(self, key: str, report: GameReport) -> None:
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, "report": report.to_json()}) + "\n")


def compare(section: Section, dialect: str, progress: Progress, *, jobs: int, seed: int) -> DiffReport:
    """Play what is not finished yet; all of the section's reports, summed up."""
    command = {"fast": FAST_WORKER, "stock": STOCK_WORKER}[section.judge]
    reference = TextWorldEngine(max_workers=jobs, command=command, with_facts=True)
    found: list[GameReport] = []
    try:
        for number in itertools.count():
            prefix = f"{section.name}/{section.judge}/{dialect}/{number}"
            done = {game.path: progress.reports.get(f"{prefix}/{game.path}") for game in section.games}
            found += [report for report in done.values() if report is not None]
            left = [game for game in section.games if done[game.path] is None]
            playing = compare_games(
                left,
                reference=reference,
                dialect=dialect,
                steps=section.steps,
                seed=seed + number,
                walkers=section.walkers,
                jobs=jobs,
            )
            with contextlib.closing(playing) as reports:
                for game in left:  # each game once, then as many again as it takes
                    if number > 0 and steps_of(found) >= section.total_steps:
                        break
                    report = next(reports)
                    progress.add(f"{prefix}/{game.path}", report)
                    found.append(report)
                    tell(prefix, report, found)
            if steps_of(found) >= section.total_steps:
                return summarize(found)
    finally:
        reference.close()


def steps_of(reports: Sequence[GameReport]) -> int:
    return sum(report.num_steps for report in reports)


def tell(prefix: str, report: GameReport, found: Sequence[GameReport]) -> None:
    """A line on standard error, and any difference in full."""
    steps, parted = steps_of(found), sum(len(one.differences) for one in found)
    refused = f" refused: {report.refused}" if report.refused else ""
    print(f"{prefix}: {len(found)} games, {steps} steps, {parted} differences{refused}", file=sys.stderr, flush=True)
    for difference in report.differences:
        print(difference.transcript(), file=sys.stderr, flush=True)


def sections(official: Sequence[GameSource], *, quick: bool) -> list[Section]:
    """What is compared. The stock judge gets games of the mass, played with the same seeds: their walks, cut short."""
    if quick:
        generated = generated_games(0, 3)
        return [
            *([Section("official", "fast", official[:4], 20)] if official else []),
            Section("generated", "fast", generated, 10),
            Section("stock_sample", "stock", (official or generated)[:1], 5, walkers=("expert", "adversarial")),
        ]
    generated = generated_games(0, 100)
    sample = [*official[::16], *generated[:2]] if official else generated[:6]
    return [
        *([Section("official", "fast", official, 100, total_steps=50_000)] if official else []),
        Section("generated", "fast", generated, 25, total_steps=0 if official else 50_000),
        Section("stock_sample", "stock", sample, 20),
    ]


def measure(arguments: argparse.Namespace) -> Iterator[Figure]:
    folder = find_data_dir(arguments.data_dir)
    paths = find_game_files(folder) if folder is not None else []
    paths = paths[:: -(-len(paths) // _MOST_OFFICIAL_GAMES) or 1]
    if folder is None:
        print("no official games here (--data-dir): generated ones alone", file=sys.stderr)
    found = sections([official_game(path) for path in paths], quick=arguments.quick)
    about = {"code": code_digest(), "quick": arguments.quick, "seed": arguments.seed, "games": len(paths)}
    progress = Progress(json.dumps(about), arguments.resume)
    all_steps = all_differences = 0
    for section, dialect in itertools.product(found, DIALECTS):
        report = compare(section, dialect, progress, jobs=arguments.jobs, seed=arguments.seed)
        name = f"alfworld.differences.{section.name}.{dialect}.judge_{section.judge}"
        yield value(f"{name}.games", report.num_games, "")
        yield at_most(f"{name}.refused", report.num_refused, "", 0)
        if section.total_steps:
            yield at_least(f"{name}.steps", report.num_steps, "", section.total_steps)
        else:
            yield value(f"{name}.steps", report.num_steps, "")
        yield value(f"{name}.wins", report.num_wins, "")
        yield at_most(f"{name}.differences", report.num_differences, "", 0)
        all_steps, all_differences = all_steps + report.num_steps, all_differences + report.num_differences
    if arguments.quick:
        yield value("alfworld.differences.steps", all_steps, "")
    else:
        yield at_least("alfworld.differences.steps", all_steps, "", 50_000)
    yield at_most("alfworld.differences", all_differences, "", 0)


def code_digest() -> str:
    """Of the engine's sources: a comparison that is gone on with must be one of the same code."""
    digest = hashlib.sha256()
    for path in sorted(Path(envs.alfworld.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", help="folder of the official games")
    parser.add_argument("--jobs", type=int, default=1, help="games at a time, each in a TextWorld process")
    parser.add_argument("--seed", type=int, default=0, help="seed of the walkers")
    parser.add_argument("--resume", type=Path, help="keep finished games in this file, and go on from it")


if __name__ == "__main__":
    run(__doc__ or "", measure, options=options)
