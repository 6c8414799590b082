"""The generator of ALFWorld households: how fast it is, whether every game can be won, how dense its rooms are.

    python benchmarks/alfworld_generator.py [--json] [--quick] [--textworld-games N]

Speed is CPU time on one core, the check of the plan included. Games are then read back from their own files: won by
their walkthrough natively, and in stock TextWorld with text, result and admissible commands compared at every step.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from _figures import Figure, at_least, at_most, run, value

from envs.alfworld.engine import Engine, GameSource
from envs.alfworld.export import write_generated_games
from envs.alfworld.game import Game, load_game, read_game_file
from envs.alfworld.generator import DIFFICULTIES, Rooms, generate
from envs.alfworld.generator_options import Phrasing
from envs.alfworld.native_engine import NativeEngine
from envs.alfworld.textworld_engine import TextWorldEngine

# How dense rooms should be in the mean over all task types, and how far they may be from it. Kind by kind they are held
# against real ones by tests/unit/alfworld/test_alfworld_generator_rooms.py.
WANTED = {"receptacles": 25, "objects": 40}
CLOSE = 0.1


def measure_speed(count: int) -> Iterator[Figure]:
    for seed in range(24):  # tables, and each floor plan's first use
        generate(seed).content_hash  # noqa: B018
    started = time.process_time()
    for seed in range(count):
        generate(seed)
    yield at_least("alfworld.generator.tasks", count / (time.process_time() - started), "1/s", 200)
    started = time.process_time()
    for seed in range(count, 2 * count):
        generate(seed).content_hash  # noqa: B018
    yield at_least("alfworld.generator.tasks_with_hash", count / (time.process_time() - started), "1/s", 200)
    for name in DIFFICULTIES:
        started = time.process_time()
        for seed in range(count // 4):
            generate(seed, difficulty=name)
        yield value(f"alfworld.generator.tasks.{name}", count // 4 / (time.process_time() - started), "1/s")
    games = [generate(seed) for seed in range(count // 4)]
    started = time.process_time()
    for game in games:
        game.build()
    yield value("alfworld.generator.build_game", (time.process_time() - started) / len(games) * 1e3, "ms")


def measure_rooms(games: list[Game]) -> Iterator[Figure]:
    sizes = {
        "receptacles": [len(game.receptacles) for game in games],
        "objects": [len(game.object_types) for game in games],
    }
    for name, wanted in WANTED.items():
        mean = statistics.mean(sizes[name])
        yield value(f"alfworld.generator.{name}", mean, "1")
        yield at_most(f"alfworld.generator.{name}_off_{wanted}", abs(mean / wanted - 1) * 100, "%", CLOSE * 100)


def won_natively(path: Path) -> bool:
    """Whether the file's own walkthrough wins, every command of it being accepted."""
    state = load_game(path).start()
    for command in read_game_file(path)[0]["walkthrough"]:
        if state.won or command not in state.commands():
            return False
        state.step(command)
    return state.won


def won_alike(path: Path, native: Engine, textworld: Engine) -> bool:
    """Whether the walkthrough wins in both engines, with everything that they say equal on the way."""
    data, digest = read_game_file(path)
    source = GameSource(digest, str(path), lambda: data)
    ours, theirs = native.open(source), textworld.open(source)
    try:
        said = (ours.reset(), theirs.reset())
        for command in [*data["walkthrough"], None]:
            if said[0] != said[1] or ours.won != theirs.won or list(ours.admissible()) != list(theirs.admissible()):
                print(f"{path}: {said[0]!r} against {said[1]!r}", file=sys.stderr)
                return False
            if command is not None:
                said = (ours.step(command)[0], theirs.step(command)[0])
        return ours.won
    finally:
        theirs.close()
        ours.close()


def write_all_sorts(folder: Path, count: int) -> list[Path]:
    """Games of all difficulties, rooms and phrasings in turn."""
    difficulties, rooms, phrasings = tuple(DIFFICULTIES), tuple(Rooms), tuple(Phrasing)
    paths = []
    for number in range(count):
        (written,) = write_generated_games(
            folder,
            1,
            first_seed=number,
            difficulty=difficulties[number % 4],
            rooms=rooms[number % 3],
            phrasing=phrasings[(number + number // 4) % 2],
        )
        paths.append(written.path)
    return paths


def measure(arguments: argparse.Namespace) -> Iterator[Figure]:
    quick = arguments.quick
    yield from measure_speed(200 if quick else 1000)
    with tempfile.TemporaryDirectory(prefix="envloop-generator-") as folder:
        normal = [file.path for file in write_generated_games(Path(folder) / "normal", 200 if quick else 1000)]
        yield from measure_rooms([load_game(path) for path in normal])
        won = sum(won_natively(path) for path in normal)
        yield value("alfworld.generator.games_played_natively", len(normal), "1")
        yield at_least("alfworld.generator.won_natively", 100 * won / len(normal), "%", 100)
        if importlib.util.find_spec("textworld") is None:
            print("TextWorld is not installed (extra 'alfworld'): no games in it", file=sys.stderr)
            return
        count = arguments.textworld_games or (4 if quick else 100)
        paths = write_all_sorts(Path(folder) / "sorts", count)
        native, textworld = NativeEngine(), TextWorldEngine(max_workers=1)
        try:
            alike = sum(won_alike(path, native, textworld) for path in paths)
        finally:
            textworld.close()
            native.close()
        yield value("alfworld.generator.games_played_in_textworld", count, "1")
        yield at_least("alfworld.generator.won_alike_in_textworld", 100 * alike / count, "%", 100)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--textworld-games", type=int, help="how many games TextWorld loads (100; with --quick 4)")


if __name__ == "__main__":
    run(__doc__ or "", measure, options=options)
