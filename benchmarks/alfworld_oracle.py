"""What the oracle and an episode's own work cost: shortest plans, forks, shaping terms, memory of live episodes.

    python benchmarks/alfworld_oracle.py [--json] [--quick] [--data-dir DIR]

Times are CPU time. "anywhere" means states that an agent gets into which does much and looks little.
"""

from __future__ import annotations

import argparse
import gc
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from _figures import Figure, at_least, at_most, memory_bytes, run, value

from envs.alfworld.env import AlfworldEnv
from envs.alfworld.expert import plan
from envs.alfworld.family import AlfworldFamily
from envs.alfworld.game import Game, load_game, parse_game
from envs.alfworld.generator import generate
from envs.alfworld.state import State
from envs.registry import ALFWORLD
from envs.types import Action

LIVE = 20_000
STEPS = 20


def find_games(data_dir: str | None, count: int) -> list[Game]:
    """Official games where a folder is given, else generated ones of the same size."""
    if data_dir is not None:
        return [load_game(path) for path in sorted(Path(data_dir).rglob("game.tw-pddl"))[:count]]
    return [parse_game(generate(seed).data) for seed in range(count)]


def anywhere(game: Game, rng: random.Random) -> State:
    """A state that is not won, up to 60 steps from the start."""
    state = game.start()
    for _ in range(rng.randint(0, 60)):
        commands = state.admissible()
        doing = [command for command in commands if command.split()[0] not in ("go", "look", "examine", "inventory")]
        following = state.clone()
        following.step(rng.choice(doing if doing and rng.random() < 0.6 else commands))
        if following.won:
            break
        state = following
    return state


def cpu_us(work: Callable[[], object], items: int) -> float:
    """CPU microseconds for each of the items."""
    started = time.process_time()
    work()
    return (time.process_time() - started) / items * 1e6


def plans(games: list[Game], repeat: int) -> Iterator[Figure]:
    rng = random.Random(0)
    starts = [game.start() for game in games]
    states = [anywhere(game, rng) for game in games for _ in range(10)]
    solved = sum(plan(state) is not None for state in starts)
    each = cpu_us(lambda: [plan(state) for _ in range(repeat) for state in starts], repeat * len(starts))
    yield at_most("alfworld.oracle.plan", each / 1e3, "ms", 0.3)
    each = cpu_us(lambda: [plan(state) for state in states], len(states))
    yield at_most("alfworld.oracle.plan_anywhere", each / 1e3, "ms", 0.3)
    yield at_least("alfworld.oracle.solved", 100 * solved / len(starts), "%", 95)


def act(env: AlfworldEnv, rng: random.Random, actions: tuple[str, ...]) -> tuple[str, ...]:
    """One random step; the command's text is a new one, as a model's is. () after the end."""
    command = "".join(list(rng.choice(actions)))
    result = env.step(Action("take_action", {"action": command}))
    return () if result.done else result.observation.admissible_actions


def episodes(family: AlfworldFamily, count: int, live: int) -> Iterator[Figure]:
    rng = random.Random(0)
    tasks = family.tasks("generated", limit=count).tasks
    costs: dict[str, float] = {}
    for name, options in (("plain", {}), ("shaped", {"shaping": ["potential", "subgoals"]})):
        done, spent = 0, 0.0
        for task in tasks:
            env = family.make()
            actions = env.reset(task, options={"max_steps": 1000, **options}).admissible_actions
            started = time.process_time()
            while actions and env.num_steps < 100:
                actions = act(env, rng, actions)
            spent += time.process_time() - started
            done += env.num_steps
        costs[name] = spent / done * 1e6
    yield value("alfworld.env.step", costs["plain"], "us")
    yield value("alfworld.env.step_shaped", costs["shaped"], "us")
    env = family.make()
    actions = env.reset(tasks[0]).admissible_actions
    for _ in range(10):
        actions = act(env, rng, actions)
    yield at_most("alfworld.env.fork", cpu_us(lambda: [env.fork() for _ in range(2000)], 2000), "us", 50)
    for task in tasks:  # what all episodes of a game share is there before any is counted
        family.make().reset(task)
    gc.collect()
    before = memory_bytes()
    kept = []
    for number in range(live):
        kept.append(env := family.make())
        actions = env.reset(tasks[number % len(tasks)], options={"max_steps": 1000}).admissible_actions
        while actions and env.num_steps < STEPS:
            actions = act(env, rng, actions)
    gc.collect()
    each = (memory_bytes() - before) / len(kept) / 1024
    yield value("alfworld.env.live_episodes", len(kept), "")
    yield at_most("alfworld.env.memory_per_live_episode", each, "KB", 8)


def measure(arguments: argparse.Namespace) -> Iterator[Figure]:
    quick = arguments.quick
    yield from plans(find_games(arguments.data_dir, 20 if quick else 100), 5 if quick else 20)
    family = AlfworldFamily(ALFWORLD)
    yield from episodes(family, 20 if quick else 100, LIVE)
    family.close()


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", help="official games instead of generated ones")


if __name__ == "__main__":
    run(__doc__ or "", measure, options=options)
