"""What a split holds: its games in their order, how many of a published list are here, and what is left out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from envs.alfworld.index import GameEntry
from envs.alfworld.lists import OFFICIAL_SPLITS, official_names

__all__ = ["Listing", "SplitFiles", "list_games"]


@dataclass(frozen=True, slots=True)
class SplitFiles:
    """What a split's folder, or one of AgentBench's lists, holds here.

    ``num_expected``: how many games it has when complete. ``missing``: names of a published list that are not here.
    ``skipped``: why alfworld's own loader leaves files out, with their number. ``refused``: files that the native
    engine does not take, each with the reason. ``num_others``: playable files that are none of ALFWorld's own.
    """

    split: str
    num_games: int
    num_expected: int
    missing: tuple[str, ...]
    skipped: Mapping[str, int]
    refused: Mapping[str, str]
    num_others: int

    def official_note(self) -> str:
        """One line on an official split."""
        if self.missing and len(self.missing) == self.num_expected:
            return f"games of your own in the place of ALFWorld's {self.split}{self._refused_note()}"
        notes = [] if self.num_games == self.num_expected else [f"{self.num_games} of {self.num_expected} are here"]
        if self.num_others:
            notes.append(f"{self.num_others} other files are left out")
        shown = "; ".join(notes) + self._refused_note()
        return f"ALFWorld's official {self.split} games" + (f" ({shown.removeprefix('; ')})" if shown else "")

    def list_note(self) -> str:
        """One line on how much of a published list is here."""
        return f"{self.num_games} of its {self.num_expected} games are here{self._refused_note()}"

    def _refused_note(self) -> str:
        return f"; {len(self.refused)} refused, see `envloop env index`" if self.refused else ""


class Listing:
    """The games of a split in their order, made from the rows of its folder."""

    def __init__(self, rows: Mapping[str, GameEntry], games: Sequence[GameEntry], files: SplitFiles) -> None:
        self.rows = rows
        self.files = files
        self.by_name = {game.name: game for game in games}
        self._games = tuple(games)
        self._by_type: dict[str | None, tuple[GameEntry, ...]] = {None: self._games}

    def games(self, type: str | None = None) -> tuple[GameEntry, ...]:
        """All games, or those of a type."""
        found = self._by_type.get(type)
        if found is None:
            found = self._by_type[type] = tuple(game for game in self._games if game.type == type)
        return found


def list_games(
    split: str, rows: Mapping[str, GameEntry], listed: Sequence[str] | None, *, keep_refused: bool
) -> Listing:
    """The games of AgentBench's list (``listed``), or of an official split's folder."""
    if listed is not None:
        games = [rows[name] for name in listed if name in rows and rows[name].size >= 0]
        expected, published = len(listed), listed
    else:
        games = [row for row in rows.values() if not row.skipped]
        expected, published = OFFICIAL_SPLITS[split].size, official_names(split)
    others = 0
    if listed is None and published:
        names = set(published)
        own = [game for game in games if game.name in names]
        if own:  # without any, the folder is somebody's own set of games
            games, others = own, len(games) - len(own)
    refused = {game.name: game.refused for game in games if game.refused}
    if not keep_refused:
        games = [game for game in games if not game.refused]
    skipped = Counter(row.skipped for row in rows.values() if row.skipped) if listed is None else Counter[str]()
    missing = tuple(name for name in published if name not in rows or rows[name].size < 0)
    files = SplitFiles(split, len(games), expected, missing, dict(skipped), refused, others)
    return Listing(rows, games, files)
