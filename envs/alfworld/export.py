"""Writing generated games as files in the layout of the official ones: for ``data_dir``, TextWorld and alfworld."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from envs.alfworld.generator import Rooms, generate

__all__ = ["write_generated_games"]


def write_generated_games(
    dest: str | Path,
    count: int,
    *,
    first_seed: int = 0,
    type: str | None = None,
    difficulty: str = "normal",
    rooms: Rooms | str = Rooms.TRAIN,
    split: str = "train",
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write the games of ``count`` seeds; the paths of their ``game.tw-pddl``.

    ``dest/json_2.1.1/<split>/<task>/<trial>/`` gets ``game.tw-pddl`` and ``traj_data.json``, so that ``dest`` can be
    given as ``ALFWORLD_DATA``. The same arguments write the same bytes. ``progress`` is called with (written, count).
    Raises UnknownTaskType, InvalidOption.
    """
    written: list[Path] = []
    for seed in range(first_seed, first_seed + count):
        game = generate(seed, type=type, difficulty=difficulty, rooms=rooms)
        wanted = game.traj["pddl_params"]
        place = wanted["parent_target"] or wanted["toggle_target"]
        task = f"{game.type}-{wanted['object_target']}-None-{place}-{game.floor_plan}"
        folder = Path(dest) / "json_2.1.1" / split / task / f"trial_{game.traj['task_id']}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "game.tw-pddl"
        path.write_bytes(game.to_bytes())
        (folder / "traj_data.json").write_text(json.dumps(game.traj, indent=1) + "\n", encoding="utf-8")
        written.append(path)
        if progress is not None:
            progress(len(written), count)
    return written
