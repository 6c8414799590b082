"""The official game files of a data folder, read once and then known from the index.

A folder's signature (its task folders with their times of change) tells whether games came or went; a game's own row
holds while its file keeps its size and time of change. What does not fit is read anew, never served as it was.
"""

from __future__ import annotations

import hashlib
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from envs.alfworld.admission import admit
from envs.alfworld.dialect import retell
from envs.alfworld.difficulty import TaskMeasure, measure
from envs.alfworld.game import GameData, decode_game, parse_game, read_game_file
from envs.alfworld.index import GameEntry, GameIndex
from envs.alfworld.lists import AGENTBENCH_LISTS
from envs.alfworld.packed import pack_game
from envs.alfworld.pddl import GameFormatError
from envs.errors import TaskDataError

__all__ = ["OfficialGames", "Progress", "retold"]

# Called with (split, games read, games to read).
type Progress = Callable[[str, int, int], None]

_GAME_FILE, _TRAJ_FILE = "game.tw-pddl", "traj_data.json"
_CHUNK = 64  # games of one transaction: what an interrupted build loses
_LOG_EVERY_S = 5.0
# A file or folder younger than this may change once more within the same tick of its clock.
_SETTLED_NS = 100_000_000
_CLOCK_SKEW_NS = 1_000_000_000

logger = logging.getLogger(__name__)


class OfficialGames:
    """Every game file below ``data_dir`` (``<split>/<task>/<trial>/game.tw-pddl``), playable or not. Thread-safe.

    With ``dialect`` the games are retold in it when they are read.
    """

    def __init__(
        self,
        data_dir: Path,
        types: Sequence[str],
        *,
        index_dir: str | Path | None = None,
        dialect: str | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.index = GameIndex(data_dir, index_dir=index_dir, variant=dialect or "")
        self._types = frozenset(types)
        self._root = str(data_dir)
        self._dialect = dialect
        self._lock = threading.RLock()
        self._splits: dict[str, dict[str, GameEntry]] = {}
        self._signatures: dict[str, str] = {}

    def games(
        self, split: str, *, look: bool = True, rescan: bool = False, progress: Progress | None = None
    ) -> Mapping[str, GameEntry]:
        """A split's rows by ``<task>/<trial>``, sorted; read now as far as the index does not have them.

        The same mapping as long as nothing changes, another one after every change.

        Without ``look``, what this process already knows is taken as it is: no look at the folder. With ``rescan``,
        every file is looked at.
        """
        with self._lock:
            if not look and not rescan and split in self._splits:
                return self._splits[split]
            signature = self._signature(split)
            known = self._signatures.get(split)
            if known is None:
                known, entries = self.index.load(split)
                self._splits[split] = dict(sorted(entries.items(), key=lambda item: _order(item[0])))
            if signature == known != "" and not rescan:
                self._signatures[split] = known
                # What is added to a trial, or mended in it, does not touch the task's folder.
                for entry in [entry for entry in self._splits[split].values() if entry.size < 0 or entry.refused]:
                    self.fresh(entry)
            else:
                self._scan(split, signature, progress)
            return self._splits[split]

    def fit(self, entries: Iterable[GameEntry]) -> bool:
        """Whether all these files are as they were read."""
        for entry in entries:  # one by one through ``fresh``, a whole split would take a third longer
            try:
                found = os.stat(f"{self._root}/{entry.split}/{entry.name}/{_GAME_FILE}")
            except OSError:
                return False
            if found.st_mtime_ns != entry.mtime_ns or found.st_size != entry.size:
                return False
        return True

    def fresh(self, entry: GameEntry) -> GameEntry | None:
        """The row of a game as its file is now: the same, or read anew; None where its folder is gone."""
        if self._fits(entry):
            return entry
        with self._lock:
            known = self._splits.get(entry.split, {})
            found = known.get(entry.name)
            if found is not None and found is not entry and self._fits(found):  # another thread was faster
                return found
            if not (self.data_dir / entry.split / entry.name).is_dir():
                self._splits[entry.split] = {name: row for name, row in known.items() if name != entry.name}
                self.index.remove(entry.split, [entry.name])
                return None
            found, packed = self._read(entry.split, entry.name)
            if found != entry:
                self._replace(found, packed)
            return found

    def path(self, entry: GameEntry) -> Path:
        """The game's file."""
        return self.data_dir / entry.split / entry.name / _GAME_FILE

    def load(self, entry: GameEntry) -> GameData:
        """The game's JSON, provided that the file is still the one that was indexed. Raises TaskDataError."""
        path = self.path(entry)
        data, found = read_game_file(path)
        if found != entry.content_hash:
            with self._lock:
                self._replace(entry._replace(mtime_ns=0), [])
            msg = f"{path}: the file changed while it was being opened"
            raise TaskDataError(msg, hint="try again")
        return retold(data, self._dialect, path)

    def load_packed(self, entry: GameEntry) -> bytes:
        """The game as ``pack_game`` wrote it. Raises TaskDataError."""
        packed = self.index.packed(entry.content_hash)
        if packed is None:
            packed = pack_game(parse_game(self.load(entry), path=self.path(entry)))
            self.index.store([], [(entry.content_hash, packed)])
        return packed

    def close(self) -> None:
        """Close the index. Idempotent."""
        self.index.close()

    def _replace(self, entry: GameEntry, packed: list[tuple[str, bytes]]) -> None:
        """Take a row in, here and in the index. Whoever iterates over the old rows keeps them."""
        self.index.store([entry], packed)
        self._splits[entry.split] = {**self._splits.get(entry.split, {}), entry.name: entry}

    def _signature(self, split: str) -> str:
        """A digest of the task folders' names and times; "" while one of them is too young to be trusted."""
        lines = []
        now = time.time_ns()
        try:
            with os.scandir(self.data_dir / split) as folders:
                for folder in folders:
                    try:
                        mtime_ns = folder.stat().st_mtime_ns
                    except FileNotFoundError:  # a link to nothing, or gone meanwhile
                        mtime_ns = 0
                    if not _is_settled(mtime_ns, now):
                        return ""
                    lines.append(f"{folder.name}\0{mtime_ns}")
        except (FileNotFoundError, NotADirectoryError):
            return "absent"
        return hashlib.sha256("\n".join(sorted(lines)).encode(errors="surrogateescape")).hexdigest()

    def _scan(self, split: str, signature: str, progress: Progress | None) -> None:
        """Bring the rows of a split up to date, each game's file being read only where its row does not fit."""
        names = self._names(split)
        stored = self._splits[split]
        left = [name for name in names if name not in stored or not self._fits(stored[name])]
        entries = {name: stored[name] for name in set(names) - set(left)}
        # In a random order: processes that read at the same time then do different games, and share what they find.
        random.shuffle(left)
        total, started, told = len(left), time.monotonic(), 0.0
        self.index.changed_elsewhere()
        while left:
            if self.index.changed_elsewhere():
                _, others = self.index.load(split)
                found = {name: others[name] for name in left if name in others and self._fits(others[name])}
                entries |= found
                left = [name for name in left if name not in found]
            chunk, left = left[:_CHUNK], left[_CHUNK:]
            read = [self._read(split, name) for name in chunk]
            self.index.store([entry for entry, _ in read], [game for _, packed in read for game in packed])
            entries |= {entry.name: entry for entry, _ in read}
            if progress is not None:
                progress(split, total - len(left), total)
            if (now := time.monotonic()) - started > told + _LOG_EVERY_S:
                told = now - started
                logger.info("%s: %d of %d games indexed", self.data_dir / split, total - len(left), total)
        if gone := stored.keys() - entries.keys():
            self.index.remove(split, gone)
        if total or gone:
            self.index.sweep()
            logger.info("%s: %d games indexed, %d gone", self.data_dir / split, total, len(gone))
        self._splits[split] = {name: entries[name] for name in names}
        self._signatures[split] = ""
        if signature and signature == self._signature(split):
            self.index.set_signature(split, signature)
            self._signatures[split] = signature

    def _names(self, split: str) -> list[str]:
        """``<task>/<trial>`` of every trial's folder, sorted by task, then trial."""
        names = [
            f"{task}/{trial}"
            for task in _folders(self.data_dir / split)
            for trial in _folders(self.data_dir / split / task)
        ]
        return sorted(names, key=_order)

    def _fits(self, entry: GameEntry) -> bool:
        """Whether the file is the one that was read; of an incomplete trial, whether its folder is."""
        place = f"{self._root}/{entry.split}/{entry.name}"
        try:
            found = os.stat(place if entry.size < 0 else f"{place}/{_GAME_FILE}")
        except OSError:
            return False
        return found.st_mtime_ns == entry.mtime_ns and (entry.size < 0 or found.st_size == entry.size)

    def _read(self, split: str, name: str) -> tuple[GameEntry, list[tuple[str, bytes]]]:
        """A trial's row and its packed game, from its files."""
        trial = self.data_dir / split / name
        kind = name.partition("-")[0]
        changed = 0
        try:
            changed = _settled(os.stat(trial).st_mtime_ns)
            missing = next((file for file in (_GAME_FILE, _TRAJ_FILE) if not (trial / file).is_file()), None)
            if missing is not None:
                return GameEntry(split, name, kind, "", -1, changed, f"no {missing}", "", *TaskMeasure()), []
            raw, size, mtime_ns = _read_whole(trial / _GAME_FILE)
        except OSError as error:
            return GameEntry(split, name, kind, "", -1, 0, f"cannot be read: {error}", "", *TaskMeasure()), []
        content_hash = hashlib.sha256(raw).hexdigest()
        skipped, refused, measured, packed = "", "", TaskMeasure(), None
        try:
            data = decode_game(raw, path=trial / _GAME_FILE)
        except TaskDataError as error:
            refused = error.message
        else:
            skipped = _why_skipped(name, kind, data, self._types)
            if not skipped or name in _listed(split):
                try:
                    told = retold(data, self._dialect, trial / _GAME_FILE)
                    game = parse_game(told, path=trial / _GAME_FILE)
                    if not skipped:  # else a benchmark's list asks for it, which is played as it is
                        admit(game, told, path=trial / _GAME_FILE)
                    measured, packed = measure(game), pack_game(game)
                except TaskDataError as error:
                    refused = error.message
        entry = GameEntry(split, name, kind, content_hash, size, mtime_ns, skipped, refused, *measured)
        return entry, [] if packed is None else [(content_hash, packed)]


def retold(data: GameData, dialect: str | None, path: str | Path) -> GameData:
    """A game's JSON in another dialect; None leaves it as it is. Raises TaskDataError where that is not possible."""
    if dialect is None:
        return data
    try:
        return retell(data, dialect)
    except GameFormatError as error:
        msg = f"{path}: it cannot be told in dialect {dialect}: {error}"
        raise TaskDataError(msg) from error


def _why_skipped(name: str, kind: str, data: GameData, types: Iterable[str]) -> str:
    """Why alfworld's own loader (``alfred_tw_env.py``) leaves a game out, or ""."""
    if "movable" in name:
        return "a movable receptacle"
    if "Sliced" in name:
        return "a sliced object"
    if kind not in types:
        return "another task type"
    solvable = data.get("solvable")
    if solvable is True:
        return ""
    return "known as unsolvable" if solvable is False else "not known as solvable"


def _listed(split: str) -> frozenset[str]:
    """The games that AgentBench plays, whatever alfworld's loader says of them."""
    lists = [found for found in AGENTBENCH_LISTS.values() if found.base == split]
    return frozenset(game.name for found in lists for game in found.games())


def _read_whole(path: Path) -> tuple[bytes, int, int]:
    """A file's bytes, its size and its time of change: 0 where it changed meanwhile or is too young."""
    with path.open("rb") as file:
        before = os.fstat(file.fileno())
        raw = file.read()
        after = os.fstat(file.fileno())
    same = before.st_mtime_ns == after.st_mtime_ns and len(raw) == after.st_size
    return raw, len(raw), _settled(after.st_mtime_ns) if same else 0


def _settled(mtime_ns: int) -> int:
    return mtime_ns if _is_settled(mtime_ns, time.time_ns()) else 0


def _is_settled(mtime_ns: int, now: int) -> bool:
    return not -_CLOCK_SKEW_NS < now - mtime_ns < _SETTLED_NS


def _order(name: str) -> str:
    """Sorts by task, then trial."""
    return name.replace("/", "\0")


def _folders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as found:
            return [entry.name for entry in found if entry.is_dir() and _is_text(entry.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_text(name: str) -> bool:
    """Whether a folder's name is text: one of other bytes can be no task's id, and is none of alfworld's."""
    return name.encode(errors="ignore").decode() == name
