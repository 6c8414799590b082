"""Learn envs/alfworld/explorer_prior.json: how often each kind of thing lies in or on each kind of receptacle.

    python scripts/learn_explorer_prior.py DIR envs/alfworld

DIR holds official games (json_2.1.1); only its split ``train`` is read. Writes explorer_prior.json, the same bytes for
the same games; explorer_prior.NOTICE beside it says which games the product's own numbers come from.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from envs.alfworld.game import Game, load_game

SPLIT = "train"


def count(games: Iterable[Game]) -> dict[str, dict[str, list[int]]]:
    """For each kind of thing and of receptacle: [things found there, receptacles in the rooms that have the thing]."""
    found: Counter[tuple[str, str]] = Counter()
    receptacles: Counter[tuple[str, str]] = Counter()
    for game in games:
        state = game.initial
        kinds = {name: game.names[name].rpartition(" ")[0] for name in (*game.receptacles, *game.object_types)}
        for kind in {kinds[name] for name in game.object_types}:
            receptacles.update((kind, kinds[name]) for name in game.receptacles)
        for name in game.receptacles:
            found.update((kinds[thing], kinds[name]) for thing in state.contents_of(name))
    table: dict[str, dict[str, list[int]]] = {}
    movable = {thing for thing, _ in found}
    for (thing, place), number in sorted(item for item in receptacles.items() if item[0][0] in movable):
        table.setdefault(thing, {})[place] = [found[thing, place], number]
    return table


def learn(paths: list[Path]) -> dict[str, Any]:
    """The data file's content."""
    return {"source": "alfworld's json_2.1.1, split train (MIT, see explorer_prior.NOTICE)", "games": len(paths),
            "counts": count(load_game(path) for path in paths)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("games", type=Path, help="folder with the official games")
    parser.add_argument("out", type=Path, help="folder to write to")
    arguments = parser.parse_args()
    paths = sorted(arguments.games.glob(f"**/{SPLIT}/*/*/game.tw-pddl"))
    if not paths:
        parser.error(f"{arguments.games} holds no game of the split {SPLIT}")
    text = json.dumps(learn(paths), separators=(",", ":"))
    (arguments.out / "explorer_prior.json").write_text(text.replace('},"', '},\n"') + "\n")


if __name__ == "__main__":
    main()
