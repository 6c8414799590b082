"""How fast ALFWorld games are played: the native engine, and stock TextWorld beside it where the extra is installed.

    python benchmarks/alfworld_engine.py [--json] [--quick] [--data-dir DIR]

A step is timed as an episode pays for it: the command, the goal's check and the sorted admissible commands. All figures
are CPU time, so that a busy machine does not bend them; the ratio to TextWorld is of the same commands in the same run.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from _figures import Figure, at_least, at_most, memory_bytes, run, value

from envs.alfworld.engine import Engine, GameSource
from envs.alfworld.expert import plan
from envs.alfworld.game import Game, parse_game, read_game_file
from envs.alfworld.generator import generate
from envs.alfworld.native_engine import NativeEngine
from envs.alfworld.packed import pack_game, unpack_game
from envs.alfworld.state import State
from envs.alfworld.textworld_engine import TextWorldEngine


def find_games(data_dir: str | None, count: int) -> list[GameSource]:
    """Official games where a folder is given, else generated ones of the same size."""
    if data_dir is not None:
        paths = sorted(Path(data_dir).rglob("game.tw-pddl"))[:count]
        found = [(*read_game_file(path), str(path)) for path in paths]
        return [GameSource(digest, path, lambda data=data: data) for data, digest, path in found]  # type: ignore[misc]
    games = [generate(seed) for seed in range(count)]
    return [
        GameSource(game.content_hash, f"generated/{n}", lambda game=game: game.data) for n, game in enumerate(games)
    ]  # type: ignore[misc]


def random_commands(game: Game, count: int, rng: random.Random) -> list[str]:
    """A random walk that does more than going about."""
    state, commands = game.start(), []
    for _ in range(count):
        admissible = state.admissible()
        staying = [command for command in admissible if not command.startswith("go to ")]
        commands.append(rng.choice(staying if rng.random() < 0.5 else admissible))
        state.step(commands[-1])
    return commands


def measure_native(games: list[GameSource], steps: int) -> Iterator[Figure]:
    rng = random.Random(0)
    started = time.process_time()
    parsed = [parse_game(game.load(), path=game.path) for game in games]
    yield value("alfworld.native.first_load", (time.process_time() - started) / len(games) * 1e3, "ms")
    packed = [pack_game(game) for game in parsed]
    yield value(
        "alfworld.native.load_packed",
        timed_us(lambda: [unpack_game(data) for data in packed], len(packed), 5) / 1e3,
        "ms",
    )
    walks = [random_commands(game, steps, rng) for game in parsed]
    started = time.process_time()
    for game, commands in zip(parsed, walks, strict=True):
        state = game.start()
        for command in commands:
            state.step(command)
            state.admissible()
    step_s = (time.process_time() - started) / (steps * len(games))
    yield value("alfworld.native.step", step_s * 1e6, "us")
    states = [game.start() for game in parsed]
    yield at_most("alfworld.native.clone", timed_us(lambda: [state.clone() for state in states], len(states)), "us", 50)
    yield value("alfworld.native.state_hash", timed_us(lambda: [s.hash() for s in states], len(states)), "us")
    invalid = timed_us(lambda: [state.step("fly to the moon") for state in states], len(states))
    yield value("alfworld.native.invalid_step", invalid, "us")
    started = time.process_time()
    solved = sum(plan(state) is not None for state in states)
    yield value("alfworld.oracle.plan", (time.process_time() - started) / len(states) * 1e3, "ms")
    yield at_least("alfworld.oracle.solved", 100 * solved / len(states), "%", 100)
    yield from measure_memory(parsed, 20_000)


def measure_memory(games: list[Game], count: int) -> Iterator[Figure]:
    """Resident memory of so many live states, each twenty steps from its start."""
    rng = random.Random(2)

    def play(number: int) -> State:
        state = games[number % len(games)].start()
        for command in random_commands(state.game, 20, rng):
            state.step(command)
        return state

    warm = [play(number) for number in range(count // 10)]
    before = memory_bytes()
    live = [play(number) for number in range(count)]
    each = (memory_bytes() - before) / len(live) / 1024
    assert len(warm) == count // 10
    yield at_most("alfworld.native.memory_per_live_state", each, "KB", 8)


def timed_us(work: object, items: int, repeat: int = 50) -> float:
    """CPU microseconds of ``work`` for each of its items."""
    assert callable(work)
    work()
    started = time.process_time()
    for _ in range(repeat):
        work()
    return (time.process_time() - started) / (repeat * items) * 1e6


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used, its threads included (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure_ratio(games: list[GameSource], steps: int) -> Iterator[Figure]:
    """Stock TextWorld in a worker of its own, on the very commands that the native engine gets."""
    walks = [random_commands(parse_game(game.load()), steps, random.Random(1)) for game in games]
    textworld = TextWorldEngine(max_workers=1)
    try:
        textworld.open(games[0]).close()  # imports and the worker's start are not the engine's speed
        loaded, stepped = play_all(textworld, games, walks, lambda: cpu_seconds(textworld.worker_pids()[0]))
    finally:
        textworld.close()
    repeats = 50  # the native engine needs more of the same, for a clock to tell
    native = [play_all(NativeEngine(), games, walks, time.process_time) for _ in range(repeats)]
    native_loaded, native_stepped = (sum(times) / repeats for times in zip(*native, strict=True))
    unpacked = [pack_game(parse_game(game.load())) for game in games]
    indexed = [
        GameSource(game.content_hash, game.path, game.load, lambda data=data: data)
        for game, data in zip(games, unpacked, strict=True)
    ]
    from_index = (
        sum(play_all(NativeEngine(), indexed, [[]] * len(games), time.process_time)[0] for _ in range(repeats))
        / repeats
    )
    total = sum(map(len, walks))
    yield value("alfworld.textworld.load_and_reset", loaded / len(games), "s")
    yield value("alfworld.textworld.step", stepped / total * 1e3, "ms")
    yield at_least("alfworld.native_over_textworld.first_load", loaded / native_loaded, "x", 200)
    yield at_least("alfworld.native_over_textworld.load_from_index", loaded / from_index, "x", 1000)
    yield at_least("alfworld.native_over_textworld.step", stepped / native_stepped, "x", 2000)


def play_all(
    engine: Engine, games: list[GameSource], walks: list[list[str]], clock: Callable[[], float]
) -> tuple[float, float]:
    """CPU seconds for loading the games up to their first observation, and for all steps with admissible commands."""
    loading = stepping = 0.0
    for game, commands in zip(games, walks, strict=True):
        started = clock()
        session = engine.open(game)
        session.reset()
        session.admissible()
        opened = clock()
        for command in commands:
            session.step(command)
            session.admissible()
        loading, stepping = loading + opened - started, stepping + clock() - opened
        session.close()
    return loading, stepping


def measure(arguments: argparse.Namespace) -> Iterator[Figure]:
    quick = arguments.quick
    games = find_games(arguments.data_dir, 8 if quick else 40)
    yield from measure_native(games, 200 if quick else 1000)
    if importlib.util.find_spec("textworld") is None:
        print("TextWorld is not installed (extra 'alfworld'): no ratio", file=sys.stderr)
        return
    yield from measure_ratio(games[: 2 if quick else 10], 10 if quick else 40)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir", default=os.environ.get("ALFWORLD_DATA"), help="official games, not generated ones"
    )


if __name__ == "__main__":
    run(__doc__ or "", measure, options=options)
