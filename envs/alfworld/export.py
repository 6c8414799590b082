"""Writing generated games as files in the layout of the official ones: for ``data_dir``, TextWorld and alfworld."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from envs.alfworld.generator import Rooms, generate
from envs.alfworld.generator_options import Difficulty, Phrasing
from envs.alfworld.households import load_households
from envs.errors import ConfigError, InvalidOption

__all__ = ["WrittenGame", "write_generated_games"]

_TRIAL = "trial_generated_"
_SPLIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class WrittenGame:
    """A game's file and what it is. ``kept``: it stood there already, with the same bytes."""

    path: Path
    seed: int
    type: str
    floor_plan: int
    goal: str
    plan_length: int
    receptacles_to_search: int
    content_hash: str
    kept: bool


def write_generated_games(
    dest: str | Path,
    count: int,
    *,
    first_seed: int = 0,
    types: Sequence[str] = (),
    difficulty: str | Difficulty = "normal",
    rooms: Rooms | str = Rooms.TRAIN,
    phrasing: Phrasing | str = Phrasing.OFFICIAL,
    split: str = "train",
    progress: Callable[[int, int], None] | None = None,
) -> list[WrittenGame]:
    """Write the games of ``count`` seeds, each whole or not at all.

    ``dest/json_2.1.1/<split>/<task>/<trial>/`` gets ``traj_data.json`` and ``game.tw-pddl``, so that ``dest`` can be
    given as ``ALFWORLD_DATA``. The same arguments write the same bytes; what stands there already with these bytes is
    kept, so that a second call goes on where a first was interrupted. The ``types`` take turns by seed; without any,
    all six. ``progress`` is called with (games done, count).

    Raises UnknownTaskType; InvalidOption; ConfigError where the split's folder holds other games or other files of the
    same names, or cannot be written.
    """
    if not _SPLIT.fullmatch(split):
        msg = f"{split!r:.80} is no name for a split"
        raise InvalidOption(msg, hint="letters, digits, '_', '-' and '.'")
    root = Path(dest) / "json_2.1.1" / split
    turns = tuple(types) or tuple(load_households().tasks)
    written: list[WrittenGame] = []
    try:
        _refuse_other_games(root)
        for seed in range(first_seed, first_seed + count):
            chosen = turns[seed % len(turns)]
            game = generate(seed, type=chosen, difficulty=difficulty, rooms=rooms, phrasing=phrasing)
            wanted = game.traj["pddl_params"]
            place = wanted["parent_target"] or wanted["toggle_target"]
            task = f"{game.type}-{wanted['object_target']}-None-{place}-{game.floor_plan}"
            folder = root / task / f"trial_{game.traj['task_id']}"
            folder.mkdir(parents=True, exist_ok=True)
            traj = json.dumps(game.traj, indent=1) + "\n"
            _write(folder / "traj_data.json", traj.encode())
            path = folder / "game.tw-pddl"  # last: with it the trial counts as a game
            kept = _write(path, game.to_bytes())
            written.append(
                WrittenGame(
                    path=path,
                    seed=seed,
                    type=game.type,
                    floor_plan=game.floor_plan,
                    goal=game.goal,
                    plan_length=len(game.walkthrough),
                    receptacles_to_search=game.searched,
                    content_hash=game.content_hash,
                    kept=kept,
                )
            )
            if progress is not None:
                progress(len(written), count)
    except OSError as error:
        msg = f"{dest}: cannot be written to: {error}"
        raise ConfigError(msg, hint=f"{len(written)} of {count} games are written; the same call goes on") from error
    return written


def _refuse_other_games(root: Path) -> None:
    """Generated games are not mixed with others: what a split holds should be one thing."""
    other = next((trial for trial in sorted(root.glob("*/*")) if not trial.name.startswith(_TRIAL)), None)
    if other is not None:
        msg = f"{root} holds games that were not generated, for example {other.relative_to(root)}"
        raise ConfigError(msg, hint="choose another folder, or another split's name")


def _write(path: Path, content: bytes) -> bool:
    """Write a file in one piece; True where it stood there already with this content. Raises ConfigError, OSError."""
    if path.exists():
        if path.read_bytes() == content:
            return True
        msg = f"{path} is there already, with another content"
        raise ConfigError(msg, hint="choose another folder, or delete it: other versions of the generator wrote it")
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        draft.chmod(0o644)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return False
