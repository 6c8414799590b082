"""Which ALFWorld games there are: the official files in a data folder, and games made by the generator.

Official files keep alfworld's layout: ``json_2.1.1/<split>/<task>/<trial>/game.tw-pddl`` beside ``traj_data.json``.
The filters are those of alfworld's own loader (``alfred_tw_env.py``): no movable receptacles, no slices, only games
known as solvable. AgentBench's lists are played as they are, as AgentBench does. What a listing needs is in the index
(``envs.alfworld.index``). A task's id says all that is needed to find or rebuild its game:

    valid_unseen/<task>/<trial>          an official file
    agentbench_dev/<task>/<trial>        the same file, in AgentBench's list
    generated/<type>/<seed>              made by the generator; also generated_<difficulty>, and each with _eval
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from envs.alfworld.engine import GameSource
from envs.alfworld.generator import GENERATOR_VERSION, GeneratedGame, Rooms, generate
from envs.alfworld.index import GameEntry
from envs.alfworld.keep import Keep
from envs.alfworld.listing import Listing, SplitFiles, list_games
from envs.alfworld.lists import AGENTBENCH_LISTS, OFFICIAL_SPLITS
from envs.alfworld.official import OfficialGames, Progress, retold
from envs.errors import ConfigError, InvalidOption, TaskDataError, UnknownSplit, UnknownTask, UnknownTaskType
from envs.types import Split, SplitRole, Task, TaskPage

__all__ = [
    "DATA_DIR_VARIABLE",
    "GENERATED_SPLITS",
    "GeneratedSplit",
    "Tasks",
    "default_data_dir",
    "find_data_dir",
    "split_role",
]

DATA_DIR_VARIABLE = "ALFWORLD_DATA"
# The first seed of held-out games. Seeds below it are for training; a listing never leaves its own range.
_FIRST_EVAL_SEED = 1 << 31
_GENERATED_CACHE = 512
# How often a listing is begun again because files changed under it.
_TRIES = 5


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
        GeneratedSplit("generated_very_easy", "very_easy", Rooms.TRAIN, "endless games with 4 or 5 receptacles"),
        GeneratedSplit("generated_hard", "hard", Rooms.TRAIN, "endless games in large rooms, things behind doors"),
        GeneratedSplit("generated_eval", "normal", Rooms.EVALUATION, "held out: other floor plans and other seeds"),
        GeneratedSplit("generated_easy_eval", "easy", Rooms.EVALUATION, "held out: small rooms of other floor plans"),
        GeneratedSplit("generated_very_easy_eval", "very_easy", Rooms.EVALUATION, "held out: 4 or 5 receptacles"),
        GeneratedSplit("generated_hard_eval", "hard", Rooms.EVALUATION, "held out: large rooms of other floor plans"),
    )
}


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


def split_role(name: str) -> SplitRole:
    """What a split is for. Of a name that nobody knows the stricter is held."""
    known = GENERATED_SPLITS.get(name) or AGENTBENCH_LISTS.get(name) or OFFICIAL_SPLITS.get(name)
    return SplitRole.EVALUATION if known is None else known.role


class Tasks:
    """Every task of ALFWorld that can be played here. Thread-safe. A listing reads no game that the index has.

    ``dialect`` retells every game in 0.2 or 0.4; a task's content hash then says so. With ``keep_refused``, games that
    the native engine refuses are listed as well, for an engine that may take them.
    """

    def __init__(
        self,
        env: str,
        types: Sequence[str],
        data_dir: str | Path | None = None,
        *,
        index_dir: str | Path | None = None,
        dialect: str | None = None,
        keep_refused: bool = False,
    ) -> None:
        self.data_dir = find_data_dir(data_dir)
        self._env = env
        self._types = tuple(types)
        self._dialect = dialect
        self._keep_refused = keep_refused
        self._files: OfficialGames | None = None
        if self.data_dir is not None:
            self._files = OfficialGames(self.data_dir, types, index_dir=index_dir, dialect=dialect)
        self._listings: dict[str, Listing] = {}
        self._generated: Keep[tuple[str, str, int], GeneratedGame] = Keep(_GENERATED_CACHE)

    def splits(self) -> tuple[Split, ...]:
        """The splits, official ones first."""
        found = []
        for name, official in OFFICIAL_SPLITS.items():
            if (listing := self._listing(name, look=True)) and listing.games():
                note = listing.files.official_note()
                found.append(Split(self._env, name, official.role, len(listing.games()), note))
        for name, listed in AGENTBENCH_LISTS.items():
            if (listing := self._listing(name)) and (size := len(listing.games())):
                note = f"AgentBench's {listed.title} ({listing.files.list_note()})"
                found.append(Split(self._env, name, listed.role, size, note))
        found += [
            Split(self._env, split.name, split.role, None, split.description) for split in GENERATED_SPLITS.values()
        ]
        return tuple(found)

    def page(self, split: str, *, type: str | None = None, offset: int = 0, limit: int = 100) -> TaskPage:
        """A page of a split's tasks. Raises UnknownSplit, UnknownTaskType."""
        self._check_type(type)
        offset, limit = max(offset, 0), max(limit, 0)
        if split in GENERATED_SPLITS:
            numbers = range(offset, min(offset + limit, _FIRST_EVAL_SEED))
            return TaskPage(tuple(self._generated_task(split, type, number) for number in numbers), offset, None)
        for attempt in range(_TRIES):
            games = self._known(split, look=attempt == 0 and offset == 0).games(type)
            shown = games[offset : offset + limit]
            stale = [] if self._official.fit(shown) else [game for game in shown if not self._is_fresh(game)]
            if not stale:
                return TaskPage(tuple(self._official_task(split, game) for game in shown), offset, len(games))
        raise self._restless(split)

    def by_difficulty(
        self, split: str, *, type: str | None = None, plan_length: tuple[int, int] | None = None
    ) -> tuple[Task, ...]:
        """A split's tasks from easy to hard (plan length, then receptacles to search, then id), those alone whose plan
        is between the two lengths if these are given.

        Raises UnknownSplit, UnknownTaskType, InvalidOption (an endless split).
        """
        if split in GENERATED_SPLITS:
            msg = f"{split} is endless and cannot be put in order"
            raise InvalidOption(msg, hint="order a page of it by the tasks' metadata, or take an official split")
        low, high = plan_length or (0, 1 << 30)
        keyed = [
            (task.metadata["plan_length"], task.metadata["receptacles_to_search"] or 0, task.id, task)
            for task in self.page(split, type=type, limit=1 << 30).tasks
            if task.metadata["plan_length"] is not None
        ]
        return tuple(task for length, *_, task in sorted(keyed, key=lambda key: key[:3]) if low <= length <= high)

    def task(self, task_id: str) -> Task:
        """The task with this id. Raises UnknownTask; TaskDataError for a game that is there, but broken."""
        split, _, name = task_id.partition("/")
        if split in GENERATED_SPLITS:
            return self._generated_task(split, *self._read_generated_name(task_id, name))
        return self._official_task(split, self._game(task_id))

    def sample(self, split: str, seed: int, *, type: str | None = None) -> Task:
        """A task drawn by seed. Raises UnknownSplit, UnknownTaskType."""
        self._check_type(type)
        draw = int.from_bytes(hashlib.sha256(f"{split}/{type or ''}/{seed}".encode()).digest()[:8])
        if split in GENERATED_SPLITS:
            return self._generated_task(split, type, draw % _FIRST_EVAL_SEED)
        for _ in range(_TRIES):
            games = self._known(split).games(type)
            if not games:
                msg = f"the split {split!r} has no task of type {type!r} here"
                raise UnknownTaskType(msg)
            game = games[draw % len(games)]
            if self._is_fresh(game):
                return self._official_task(split, game)
        raise self._restless(split)

    def source(self, task: Task) -> GameSource:
        """The game of a task. Raises UnknownTask, TaskDataError."""
        split, _, name = task.id.partition("/")
        if split in GENERATED_SPLITS:
            made = self._generate(split, *self._read_generated_name(task.id, name))
            return GameSource(
                self._told(made.content_hash),
                task.id,
                lambda: retold(made.data, self._dialect, task.id),
                build=made.build if self._dialect is None else None,
            )
        game = self._game(task.id)
        files = self._official
        return GameSource(
            self._told(game.content_hash),
            str(files.path(game)),
            lambda: files.load(game),
            None if game.refused else lambda: files.load_packed(game),
        )

    def build_index(self, progress: Progress | None = None) -> tuple[SplitFiles, ...]:
        """Read every game that is new or has changed; what each split and each list holds here.

        Raises ConfigError where there is no data folder.
        """
        if self._files is None:
            msg = "there are no official games to index"
            raise ConfigError(msg, hint=f"run `envloop env fetch alfworld`, or set {DATA_DIR_VARIABLE}")
        for name in OFFICIAL_SPLITS:
            self._files.games(name, rescan=True, progress=progress)
        listings = [self._listing(name) for name in (*OFFICIAL_SPLITS, *AGENTBENCH_LISTS)]
        return tuple(listing.files for listing in listings if listing is not None)

    @property
    def index_path(self) -> Path | None:
        """The index's file; None without official games, or where it is kept in memory."""
        return None if self._files is None or self._files.index.in_memory else self._files.index.path

    def close(self) -> None:
        """Close the index. Idempotent."""
        if self._files is not None:
            self._files.close()

    # Generated games

    def _generated_task(self, split: str, type: str | None, number: int) -> Task:
        """Without a type, the types take turns: number n is of type n modulo 6."""
        chosen = type or self._types[number % len(self._types)]
        game = self._generate(split, chosen, number)
        metadata = {
            "difficulty": GENERATED_SPLITS[split].difficulty,
            "floor_plan": game.floor_plan,
            "generator_version": GENERATOR_VERSION,
            "plan_length": len(game.walkthrough),
            "receptacles_to_search": game.searched,
        }
        return Task(self._env, f"{split}/{chosen}/{number}", split, chosen, self._told(game.content_hash), metadata)

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

    @property
    def _official(self) -> OfficialGames:
        assert self._files is not None
        return self._files

    def _official_task(self, split: str, game: GameEntry) -> Task:
        metadata = {"plan_length": game.plan_length, "receptacles_to_search": game.receptacles_to_search}
        return Task(self._env, f"{split}/{game.name}", split, game.type, self._told(game.content_hash), metadata)

    def _told(self, content_hash: str) -> str:
        """The content hash of a game as it is told here."""
        if self._dialect is None:
            return content_hash
        return hashlib.sha256(f"{self._dialect}\n{content_hash}".encode()).hexdigest()

    def _is_fresh(self, game: GameEntry) -> bool:
        """Whether the game's file still says the same."""
        found = self._official.fresh(game)
        return found is game or (found is not None and found._replace(mtime_ns=game.mtime_ns) == game)

    def _known(self, split: str, *, look: bool = False) -> Listing:
        listing = self._listing(split, look=look)
        if listing is None or not listing.games():
            hint = f"set {DATA_DIR_VARIABLE} or run `envloop env fetch alfworld` for the official games"
            msg = f"alfworld has no split {split!r:.80} here"
            raise UnknownSplit(msg, hint=f"known: {', '.join(found.name for found in self.splits())}; {hint}")
        return listing

    def _game(self, task_id: str) -> GameEntry:
        split, _, name = task_id.partition("/")
        for attempt in range(_TRIES):
            listing = self._listing(split, look=attempt > 0)
            if listing is None:
                break
            row = listing.rows.get(name)
            if row is not None and not self._is_fresh(row):
                continue
            if name in listing.by_name:
                return listing.by_name[name]
            if attempt:
                raise self._why_not(task_id, row)
        raise self._why_not(task_id, None)

    def _why_not(self, task_id: str, row: GameEntry | None) -> TaskDataError | UnknownTask:
        """The error for an id that is in no listing; ``row`` is its file's, if there is one."""
        if row is not None and row.size < 0:
            return TaskDataError(f"{self._official.path(row)}: cannot be read: {row.skipped}")
        if row is not None and row.refused:
            return TaskDataError(row.refused, hint="engine='textworld' may load what the native engine refuses")
        why = f": alfworld's own loader leaves it out ({row.skipped})" if row is not None and row.skipped else " here"
        hint = f"official games need the data folder ({DATA_DIR_VARIABLE})"
        return UnknownTask(f"alfworld has no task {task_id!r:.200}{why}", hint=hint)

    def _restless(self, split: str) -> TaskDataError:
        msg = f"{self.data_dir}: the files of {split} keep changing while they are listed"
        return TaskDataError(msg, hint="wait until they are complete and try again")

    def _listing(self, split: str, *, look: bool = False) -> Listing | None:
        """A split's games; made again only after a change of its rows. None for a name that is no official split."""
        if self._files is None or (split not in OFFICIAL_SPLITS and split not in AGENTBENCH_LISTS):
            return None
        listed = AGENTBENCH_LISTS.get(split)
        rows = self._files.games(listed.base if listed else split, look=look)
        found = self._listings.get(split)
        if found is None or found.rows is not rows:
            names = [game.name for game in listed.games()] if listed else None
            found = self._listings[split] = list_games(split, rows, names, keep_refused=self._keep_refused)
        return found

    def _check_type(self, type: str | None) -> None:
        if type is not None and type not in self._types:
            msg = f"alfworld has no task type {type!r:.80}"
            raise UnknownTaskType(msg, hint=f"known: {', '.join(self._types)}")
