"""How well the explorer plays ALFWorld from what it reads alone, beside alfworld's own hand-coded expert.

    python benchmarks/alfworld_explorer.py [--json] [--quick] [--data-dir DIR]

Games: the held-out generated ones (``generated_eval``), and with ``--data-dir`` the official games of valid_unseen and
train that are there. The names say which. The explorer gets the texts of an episode and nothing else; what it expects
where was counted in 54 games of train, so that the figures of train flatter it a little.

The hand-coded expert is that of the installed package ``alfworld`` (extra ``alfworld``), which also reads the game's
facts. Two slips of it are mended from outside, by translation: it awaits ``move … to …`` among the admissible commands,
which older games do not say, and notes only a ``put`` as its own, which it never says. Without the second it takes the
thing that it has put away for still in its hands.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import re
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from _figures import Figure, at_least, at_most, run, value

from envs.alfworld.explorer import Explorer
from envs.alfworld.game import Game, load_game, parse_game
from envs.alfworld.generator import Rooms, generate
from envs.alfworld.state import State
from envs.alfworld.text import introduction

STEPS = 50
FEW_STEPS = 20
# The first seed of held-out games, as in envs.alfworld.tasks.
FIRST_SEED = 1 << 31
PUT = re.compile(r"put (.+) in/on (.+)")
MOVE = re.compile(r"move (.+) to (.+)")


@dataclass(frozen=True, slots=True)
class Played:
    """A game that is to be played, and its file where it has one."""

    game: Game
    path: Path | None = None


def generated_games(count: int) -> list[Played]:
    return [Played(parse_game(generate(FIRST_SEED + n, rooms=Rooms.EVALUATION).data)) for n in range(count)]


def official_games(data_dir: str, split: str) -> list[Played]:
    return [Played(load_game(path), path) for path in sorted(Path(data_dir).rglob(f"{split}/*/*/game.tw-pddl"))]


def play_explorer(played: Played) -> int | None:
    """The number of steps until the win, or None."""
    state = played.game.start()
    explorer = Explorer(introduction(state))
    for step in range(STEPS):
        command = explorer.choose()
        text, won = state.step(command)
        if won:
            return step + 1
        explorer.observe(command, text)
    return None


def play_hand_coded(played: Played) -> int | None:
    """The same for alfworld's expert; as in alfworld's own environment it begins with a look, and looks where its
    command is not admissible."""
    from alfworld.agents.expert import HandCodedAgentFailed, HandCodedAgentTimeout, HandCodedTWAgent

    agent = HandCodedTWAgent(max_steps=STEPS)
    agent.reset(str(played.path))
    state = played.game.start()
    agent.observe(introduction(state))
    command = "look"
    for step in range(STEPS):
        text, won = state.step(command)
        if won:
            return step + 1
        try:
            wanted = agent.act(observed(state, text), 0, won, MOVE.sub(r"put \1 in/on \2", command))
        except (HandCodedAgentFailed, HandCodedAgentTimeout):
            return None
        spoken = PUT.sub(r"move \1 to \2", wanted) if played.game.dialect.move else MOVE.sub(r"put \1 in/on \2", wanted)
        command = spoken if spoken in state.admissible() else "look"
    return None


def observed(state: State, text: str) -> dict[str, Any]:
    """What alfworld's environment shows its expert, with every put spelled as that expert awaits it."""
    names = state.game.names
    pairs = [("inreceptacle", thing, place) for place in state.game.receptacles for thing in state.contents_of(place)]
    marks = [(name, thing) for name, things in (("isclean", state.clean), ("ishot", state.hot), ("iscool", state.cool))
             for thing in things]  # fmt: skip
    facts = [SimpleNamespace(name="holds", names=("agent 1", names[thing])) for thing in state.held]
    facts += [
        SimpleNamespace(name=name, names=[names[thing] for thing in things]) for name, *things in (*pairs, *marks)
    ]
    commands = [PUT.sub(r"move \1 to \2", command) for command in state.admissible()]
    return {"feedback": text, "facts": facts, "admissible_commands": commands}


def figures(name: str, games: list[Played], play: Callable[[Played], int | None]) -> tuple[float, float, float]:
    """(% won, % won within FEW_STEPS, mean steps of the won games)."""
    steps = [steps for steps in map(play, games) if steps is not None]
    if not steps:
        sys.exit(f"{name}: none of {len(games)} games was won")
    few = sum(count <= FEW_STEPS for count in steps)
    return 100 * len(steps) / len(games), 100 * few / len(games), statistics.mean(steps)


def measure(arguments: argparse.Namespace) -> Iterator[Figure]:
    sets = {"generated_eval": generated_games(60 if arguments.quick else 500)}
    if arguments.data_dir is not None:
        sets |= {split: official_games(arguments.data_dir, split) for split in ("valid_unseen", "train")}
    if not importlib.util.find_spec("alfworld"):
        print("alfworld is not installed (extra 'alfworld'): its hand-coded expert is left out", file=sys.stderr)
    for split, games in sets.items():
        if not games:
            sys.exit(f"{arguments.data_dir} holds no game of {split}")
        name = f"alfworld.explorer.{split}"
        won, few, mean = figures(name, games, play_explorer)
        yield value(f"{name}.games", len(games), "")
        yield at_least(f"{name}.won_within_{STEPS}", won, "%", 98)
        yield at_least(f"{name}.won_within_{FEW_STEPS}", few, "%", 80)
        yield at_most(f"{name}.mean_steps", mean, "steps", 17)
        if importlib.util.find_spec("alfworld") and games[0].path is not None:
            random.seed(0)  # the hand-coded expert draws from it
            name = f"alfworld.hand_coded.{split}"
            hand_won, hand_few, hand_mean = figures(name, games, play_hand_coded)
            yield value(f"{name}.won_within_{STEPS}", hand_won, "%")
            yield value(f"{name}.won_within_{FEW_STEPS}", hand_few, "%")
            yield value(f"{name}.mean_steps", hand_mean, "steps")
            yield at_most(f"alfworld.explorer_over_hand_coded.{split}.mean_steps", mean / hand_mean, "x", 1)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", default=os.environ.get("ALFWORLD_DATA"), help="official games as well")


if __name__ == "__main__":
    run(__doc__ or "", measure, options=options)
