"""Which ALFWorld games there are: the official files in a data folder, and games made by the generator.

Official files keep alfworld's layout: ``json_2.1.1/<split>/<task>/<trial>/game.tw-pddl`` beside ``traj_data.json``.
The filters are those of alfworld's own loader (``alfred_tw_env.py``): no movable receptacles, no slices, only games
known as solvable. A task's id says all that is needed to find or rebuild its game:

    valid_unseen/<task>/<trial>          an official file
    agentbench_dev/<task>/<trial>        the same file, in AgentBench's list
    generated/<type>/<seed>              made by the generator; also generated_easy, generated_eval, generated_easy_eval
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import platformdirs

from envs.alfworld.engine import GameSource
from envs.alfworld.game import GameData, read_game_file
from envs.alfworld.generator import GENERATOR_VERSION, GeneratedGame, Rooms, generate
from envs.alfworld.keep import Keep
from envs.errors import ConfigError, TaskDataError, UnknownSplit, UnknownTask, UnknownTaskType
from envs.types import Split, SplitRole, Task, TaskPage

__all__ = [
    "AGENTBENCH_DEV",
    "DATA_DIR_VARIABLE",
    "GENERATED_SPLITS",
    "OFFICIAL_SPLITS",
    "GeneratedSplit",
    "Tasks",
    "default_data_dir",
    "find_data_dir",
]

DATA_DIR_VARIABLE = "ALFWORLD_DATA"
OFFICIAL_SPLITS = {
    "train": SplitRole.TRAIN,
    "valid_seen": SplitRole.EVALUATION,
    "valid_unseen": SplitRole.EVALUATION,
}
AGENTBENCH_DEV = "agentbench_dev"
# The first seed of held-out games. Seeds below it are for training; a listing never leaves its own range.
_FIRST_EVAL_SEED = 1 << 31
_GAME_FILE, _TRAJ_FILE = "game.tw-pddl", "traj_data.json"
_SOLVABLE = re.compile(rb'(?<!\\)"solvable"\s*:\s*(true|false|null)')
_TAIL_BYTES = 4096
_GENERATED_CACHE = 512


@dataclass(frozen=True, slots=True)
class GeneratedSplit:
    """A split that the generator makes: endless, so its tasks are numbered by seed."""

    name: str
    difficulty: str
    rooms: Rooms
    description: str

    @property
    def role(self) -> SplitRole:
        """Training and evaluation share neither seeds nor floor plans."""
        return SplitRole.TRAIN if self.rooms is Rooms.TRAIN else SplitRole.EVALUATION

    def seed(self, number: int) -> int:
        """The generator's seed of the task with this number."""
        return number + (_FIRST_EVAL_SEED if self.role is SplitRole.EVALUATION else 0)


GENERATED_SPLITS = {
    split.name: split
    for split in (
        GeneratedSplit("generated", "normal", Rooms.TRAIN, "endless games in households of the official size"),
        GeneratedSplit("generated_easy", "easy", Rooms.TRAIN, "endless games in small rooms (4 to 8 receptacles)"),
        GeneratedSplit("generated_eval", "normal", Rooms.EVALUATION, "held out: other floor plans and other seeds"),
        GeneratedSplit("generated_easy_eval", "easy", Rooms.EVALUATION, "held out: small rooms of other floor plans"),
    )
}


@dataclass(frozen=True, slots=True)
class _Entry:
    """An official game: its id behind the split's name, task type and file."""

    name: str
    type: str
    path: Path


def default_data_dir() -> Path:
    """Where the official games are fetched to, unless another place is named: the user's data folder."""
    return Path(platformdirs.user_data_dir("envloop")) / "alfworld"


def find_data_dir(data_dir: str | Path | None) -> Path | None:
    """The folder with the official splits: the setting, else ``ALFWORLD_DATA``, else ``default_data_dir()``; itself or
    its ``json_2.1.1``.

    None where none is named and nothing has been fetched. Raises ConfigError where what is named holds no split.
    """
    named = data_dir or os.environ.get(DATA_DIR_VARIABLE)
    root = Path(named).expanduser() if named else default_data_dir()
    for folder in (root / "json_2.1.1", root):
        if any((folder / split).is_dir() for split in OFFICIAL_SPLITS):
            return folder
    if not named:
        return None
    msg = f"{root} holds none of ALFWorld's splits ({', '.join(OFFICIAL_SPLITS)})"
    raise ConfigError(msg, hint="run `envloop env fetch alfworld`, or name the folder that contains json_2.1.1")


class Tasks:
    """Every task of ALFWorld that can be played here. Thread-safe. Listing reads no game beyond its page."""

    def __init__(self, env: str, types: Sequence[str], data_dir: str | Path | None = None) -> None:
        self.data_dir = find_data_dir(data_dir)
        self._env = env
        self._types = tuple(types)
        self._lock = threading.Lock()
        self._entries: dict[str, dict[str, _Entry]] = {}
        self._hashes: dict[tuple[str, int, int], str] = {}
        self._generated: Keep[tuple[str, str, int], GeneratedGame] = Keep(_GENERATED_CACHE)

    def splits(self) -> tuple[Split, ...]:
        """The splits, official ones first."""
        found = []
        for name, role in OFFICIAL_SPLITS.items():
            if entries := self._official(name):
                found.append(Split(self._env, name, role, len(entries), f"ALFWorld's official {name} games"))
        if entries := self._official(AGENTBENCH_DEV):
            total = len(_agentbench_paths())
            note = f"AgentBench's dev list ({len(entries)} of its {total} games are here)"
            found.append(Split(self._env, AGENTBENCH_DEV, SplitRole.EVALUATION, len(entries), note))
        found += [
            Split(self._env, split.name, split.role, None, split.description) for split in GENERATED_SPLITS.values()
        ]
        return tuple(found)

    def page(self, split: str, *, type: str | None = None, offset: int = 0, limit: int = 100) -> TaskPage:
        """A page of a split's tasks. Raises UnknownSplit, UnknownTaskType."""
        self._check_type(type)
        if split in GENERATED_SPLITS:
            numbers = range(offset, min(offset + limit, _FIRST_EVAL_SEED))
            return TaskPage(tuple(self._generated_task(split, type, number) for number in numbers), offset, None)
        entries = self._entries_of(split, type)
        tasks = tuple(self._official_task(split, entry) for entry in entries[offset : offset + limit])
        return TaskPage(tasks, offset, len(entries))

    def task(self, task_id: str) -> Task:
        """The task with this id. Raises UnknownTask."""
        split, _, name = task_id.partition("/")
        if split in GENERATED_SPLITS:
            return self._generated_task(split, *self._read_generated_name(task_id, name))
        return self._official_task(split, self._entry(task_id))

    def sample(self, split: str, seed: int, *, type: str | None = None) -> Task:
        """A task drawn by seed. Raises UnknownSplit, UnknownTaskType."""
        self._check_type(type)
        draw = int.from_bytes(hashlib.sha256(f"{split}/{type or ''}/{seed}".encode()).digest()[:8])
        if split in GENERATED_SPLITS:
            return self._generated_task(split, type, draw % _FIRST_EVAL_SEED)
        entries = self._entries_of(split, type)
        if not entries:
            msg = f"the split {split!r} has no task of type {type!r} here"
            raise UnknownTaskType(msg)
        return self._official_task(split, entries[draw % len(entries)])

    def source(self, task: Task) -> GameSource:
        """The game of a task. Raises UnknownTask, TaskDataError."""
        split, _, name = task.id.partition("/")
        if split in GENERATED_SPLITS:
            game = self._generate(split, *self._read_generated_name(task.id, name))
            return GameSource(game.content_hash, task.id, lambda: game.data)
        path = self._entry(task.id).path
        content_hash = self._hash_file(path)
        return GameSource(content_hash, str(path), lambda: _load(path, content_hash))

    # Generated games

    def _generated_task(self, split: str, type: str | None, number: int) -> Task:
        """Without a type, the types take turns: number n is of type n modulo 6."""
        chosen = type or self._types[number % len(self._types)]
        game = self._generate(split, chosen, number)
        metadata = {
            "difficulty": GENERATED_SPLITS[split].difficulty,
            "floor_plan": game.floor_plan,
            "generator_version": GENERATOR_VERSION,
        }
        return Task(self._env, f"{split}/{chosen}/{number}", split, chosen, game.content_hash, metadata)

    def _generate(self, split: str, type: str, number: int) -> GeneratedGame:
        made = GENERATED_SPLITS[split]
        return self._generated.get(
            (split, type, number),
            lambda: generate(made.seed(number), type=type, difficulty=made.difficulty, rooms=made.rooms),
        )

    def _read_generated_name(self, task_id: str, name: str) -> tuple[str, int]:
        kind, _, digits = name.partition("/")
        number = int(digits) if re.fullmatch(r"0|[1-9][0-9]{0,9}", digits) else -1
        if kind not in self._types or not 0 <= number < _FIRST_EVAL_SEED:
            msg = f"alfworld has no task {task_id!r:.200}"
            raise UnknownTask(msg, hint=f"generated ids are <split>/<type>/<number below {_FIRST_EVAL_SEED}>")
        return kind, number

    # Official games

    def _official_task(self, split: str, entry: _Entry) -> Task:
        return Task(self._env, f"{split}/{entry.name}", split, entry.type, self._hash_file(entry.path))

    def _hash_file(self, path: Path) -> str:
        """SHA-256 (hex) of a file, remembered as long as its size and time of change stay."""
        try:
            stat = path.stat()
            key = (str(path), stat.st_size, stat.st_mtime_ns)
            found = self._hashes.get(key)
            if found is None:
                found = self._hashes[key] = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            msg = f"{path}: cannot be read: {error}"
            raise TaskDataError(msg) from error
        return found

    def _entries_of(self, split: str, type: str | None) -> tuple[_Entry, ...]:
        entries = self._official(split)
        if not entries:
            hint = f"set {DATA_DIR_VARIABLE} or run `envloop env fetch alfworld` for the official games"
            msg = f"alfworld has no split {split!r:.80} here"
            raise UnknownSplit(msg, hint=f"known: {', '.join(found.name for found in self.splits())}; {hint}")
        return tuple(entry for entry in entries.values() if type in (None, entry.type))

    def _entry(self, task_id: str) -> _Entry:
        split, _, name = task_id.partition("/")
        entry = self._official(split).get(name)
        if entry is not None:
            return entry
        msg = f"alfworld has no task {task_id!r:.200} here"
        raise UnknownTask(msg, hint=f"official games need the data folder ({DATA_DIR_VARIABLE})")

    def _official(self, split: str) -> Mapping[str, _Entry]:
        """A split's games by name, found once; empty where it is not here."""
        if self.data_dir is None:
            return {}
        with self._lock:
            if split not in self._entries:
                self._entries[split] = {entry.name: entry for entry in self._find(split, self.data_dir)}
            return self._entries[split]

    def _find(self, split: str, data_dir: Path) -> Iterator[_Entry]:
        if split == AGENTBENCH_DEV:
            names = [path.split("/")[2:4] for path in _agentbench_paths()]
            candidates = [data_dir / "valid_unseen" / task / trial for task, trial in names]
        elif split in OFFICIAL_SPLITS:
            candidates = sorted((data_dir / split).glob("*/*"))
        else:
            return
        for trial in candidates:
            name = f"{trial.parent.name}/{trial.name}"
            kind = trial.parent.name.partition("-")[0]
            if kind in self._types and "movable" not in name and "Sliced" not in name and _is_playable(trial):
                yield _Entry(name, kind, trial / _GAME_FILE)

    def _check_type(self, type: str | None) -> None:
        if type is not None and type not in self._types:
            msg = f"alfworld has no task type {type!r:.80}"
            raise UnknownTaskType(msg, hint=f"known: {', '.join(self._types)}")


def _is_playable(trial: Path) -> bool:
    """Whether alfworld's loader would take this folder: both files are there and the game is known as solvable.

    ``solvable`` stands behind the long texts in every known game file, so its end is read, and the whole only in need.
    """
    path = trial / _GAME_FILE
    if not path.is_file() or not (trial / _TRAJ_FILE).is_file():
        return False
    readers: tuple[Callable[[], bytes], ...] = (lambda: _tail(path), path.read_bytes)
    for read in readers:
        if found := _SOLVABLE.findall(read()):
            return bool(found[-1] == b"true")
    return False


def _load(path: Path, content_hash: str) -> GameData:
    """The game's JSON, provided the file is still the one that was hashed."""
    data, found = read_game_file(path)
    if found != content_hash:
        msg = f"{path}: the file changed while it was being opened"
        raise TaskDataError(msg, hint="try again")
    return data


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        return file.read()


def _agentbench_paths() -> list[str]:
    """AgentBench's dev list: paths ``json_2.1.1/valid_unseen/<task>/<trial>/game.tw-pddl`` in its own order."""
    text = resources.files("envs.alfworld").joinpath("agentbench_dev.json").read_text(encoding="utf-8")
    lists: dict[str, list[str]] = json.loads(text)
    return [path for paths in lists.values() for path in paths]
