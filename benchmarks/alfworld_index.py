"""What the index of official games saves: building it, listing a whole train split, opening a game from it.

    python benchmarks/alfworld_index.py [--json] [--quick] [--data-dir DIR]

The split has as many games as ALFWorld's train: generated ones of the same size, written in the official layout to a
temporary folder. A listing is timed as a new process meets it: it opens the index, looks at every file's time of change
and makes every task. All figures but those called clock are CPU time, so that a busy machine does not bend them; the
ratios are to TextWorld's load and reset of the same games in the same run.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from _figures import Figure, at_least, at_most, run, value
from alfworld_engine import cpu_seconds, play_all

from envs.alfworld.engine import GameSource
from envs.alfworld.export import write_generated_games
from envs.alfworld.family import AlfworldFamily
from envs.alfworld.lists import OFFICIAL_SPLITS
from envs.alfworld.native_engine import NativeEngine
from envs.alfworld.tasks import Tasks
from envs.alfworld.textworld_engine import TextWorldEngine
from envs.registry import ALFWORLD

_REPEATS = 7


def open_tasks(data_dir: Path, index_dir: Path) -> Tasks:
    return Tasks(ALFWORLD.name, ALFWORLD.task_types, data_dir, index_dir=index_dir)


def measure_index(data_dir: Path, index_dir: Path) -> Iterator[Figure]:
    tasks = open_tasks(data_dir, index_dir)
    started = time.process_time()
    sizes = [files.num_games for files in tasks.build_index() if files.split in OFFICIAL_SPLITS]
    yield value("alfworld.index.build_per_game", (time.process_time() - started) / sum(sizes) * 1e3, "ms")
    path = tasks.index_path
    assert path is not None
    tasks.close()
    yield value("alfworld.index.bytes_per_game", path.stat().st_size / sum(sizes), "B")
    largest = sizes.index(max(sizes))
    split, size = list(OFFICIAL_SPLITS)[largest], sizes[largest]

    def list_all() -> None:
        opened = open_tasks(data_dir, index_dir)
        assert len(opened.page(split, limit=size).tasks) == size
        opened.close()

    def start() -> None:
        family = AlfworldFamily(ALFWORLD, data_dir=data_dir, index_dir=index_dir)
        assert family.splits()
        assert family.tasks(split, limit=100).tasks
        family.close()

    yield value("alfworld.index.listed_tasks", size, "tasks")
    yield at_most("alfworld.index.list_a_split", milliseconds(list_all), "ms", 50)
    yield value("alfworld.index.list_a_split.clock", milliseconds(list_all, time.perf_counter), "ms")
    yield value("alfworld.index.family_start_to_first_listing", milliseconds(start), "ms")
    tasks = open_tasks(data_dir, index_dir)
    tasks.page(split, limit=1)
    yield value("alfworld.index.list_a_split_again", milliseconds(lambda: tasks.page(split, limit=size)), "ms")
    drawn = milliseconds(lambda: [tasks.sample(split, seed) for seed in range(100)])
    yield value("alfworld.index.sample", drawn / 100 * 1e3, "us")
    tasks.close()


def milliseconds(work: Callable[[], object], clock: Callable[[], float] = time.process_time) -> float:
    """The median time of one call."""
    times = []
    for _ in range(_REPEATS):
        started = clock()
        work()
        times.append((clock() - started) * 1e3)
    return statistics.median(times)


def measure_loads(data_dir: Path, index_dir: Path, *, games: int, judged: int) -> Iterator[Figure]:
    """Each game up to its first observation with its admissible commands: from its file and from the index."""
    tasks = open_tasks(data_dir, index_dir)
    split = max(OFFICIAL_SPLITS, key=lambda name: next((s.size or 0 for s in tasks.splits() if s.name == name), 0))
    chosen = random.Random(0).sample(tasks.page(split, limit=1 << 30).tasks, games)

    def from_index() -> list[GameSource]:
        return [tasks.source(task) for task in chosen]

    def from_files() -> list[GameSource]:
        return [replace(source, load_packed=None) for source in from_index()]

    native = {}
    for name, sources in (("file", from_files), ("index", from_index)):
        totals = []
        for _ in range(_REPEATS):
            started = time.process_time()
            found = sources()  # a source is looked up for every episode: the file's time of change is part of it
            looked_up = time.process_time() - started
            totals.append(looked_up + play_all(NativeEngine(), found, [[]] * games, time.process_time)[0])
        native[name] = statistics.median(totals) / games
        yield value(f"alfworld.index.load_from_{name}", native[name] * 1e3, "ms")
    yield value("alfworld.index.load_file_over_index", native["file"] / native["index"], "x")
    if importlib.util.find_spec("textworld") is None:
        print("TextWorld is not installed (extra 'alfworld'): no ratio", file=sys.stderr)
        tasks.close()
        return
    textworld = TextWorldEngine(max_workers=1)
    try:
        sources = from_files()[:judged]
        textworld.open(sources[0]).close()  # imports and the worker's start are not the engine's speed
        loaded, _ = play_all(textworld, sources, [[]] * judged, lambda: cpu_seconds(textworld.worker_pids()[0]))
    finally:
        textworld.close()
    tasks.close()
    yield value("alfworld.index.textworld_load_and_reset", loaded / judged, "s")
    yield at_least("alfworld.index.textworld_over_file", loaded / judged / native["file"], "x", 200)
    yield at_least("alfworld.index.textworld_over_index", loaded / judged / native["index"], "x", 1000)


def measure(arguments: argparse.Namespace) -> Iterator[Figure]:
    quick = arguments.quick
    count = 500 if quick else OFFICIAL_SPLITS["train"].size
    root = Path(tempfile.mkdtemp(prefix="envloop-benchmark-"))
    try:
        if arguments.data_dir is None:
            write_generated_games(root / "data", count)
        data_dir = Path(arguments.data_dir or root / "data")
        yield from measure_index(data_dir, root / "index")
        yield from measure_loads(data_dir, root / "index", games=20 if quick else 50, judged=2 if quick else 10)
    finally:
        shutil.rmtree(root)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", help="official games instead of generated ones")


if __name__ == "__main__":
    run(__doc__ or "", measure, options=options)
