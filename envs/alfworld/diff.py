"""Playing the native engine against TextWorld at length: after every command they must tell the same."""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from envs.alfworld.comparison import Difference, first_disagreement
from envs.alfworld.dialect import DIALECTS, identify_dialect
from envs.alfworld.engine import Engine, GameSource, Session
from envs.alfworld.game import GameData, game_texts
from envs.alfworld.native_engine import NativeEngine, NativeSession
from envs.alfworld.official import retold
from envs.alfworld.pddl import GameFormatError
from envs.alfworld.walkers import WALKERS
from envs.errors import InvalidOption, TaskDataError

__all__ = [
    "DiffReport",
    "Difference",
    "GameReport",
    "compare_games",
    "diff_engines",
    "in_dialect",
    "summarize",
]


@dataclass(frozen=True, slots=True)
class GameReport:
    """One game, played by each walker. ``refused``: why the native engine does not load it, else ""."""

    game: str
    refused: str = ""
    num_episodes: int = 0
    num_steps: int = 0
    num_wins: int = 0
    differences: tuple[Difference, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As ``from_json`` reads it."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> GameReport:
        """What ``to_json`` gave. Raises TypeError, KeyError for anything else."""
        found = [Difference(**{**one, "commands": tuple(one["commands"])}) for one in data["differences"]]
        return cls(**{**data, "differences": tuple(found)})


@dataclass(frozen=True, slots=True)
class DiffReport:
    """How far two engines were compared.

    ``num_games`` counts games that were played, ``refused`` holds (game, reason) of those that the native engine does
    not load. ``num_wins`` counts episodes that reached the goal at any step (they go on after it), ``num_differences``
    those that parted, each of which ends there.
    """

    num_games: int
    num_refused: int
    num_episodes: int
    num_steps: int
    num_wins: int
    num_differences: int
    first: Difference | None
    refused: tuple[tuple[str, str], ...] = ()


def in_dialect(source: GameSource, dialect: str) -> GameSource:
    """The same household told in another dialect (``0.2``, ``0.4``); a game that speaks it already stays as it is.

    Raises InvalidOption for a dialect that does not exist.
    """
    if dialect not in DIALECTS:
        msg = f"there is no dialect {dialect!r}"
        raise InvalidOption(msg, hint=f"known: {', '.join(DIALECTS)}")

    def told() -> GameData:
        data = source.load()
        texts = game_texts(data, path=source.path)
        return data if _speaks(texts, dialect) else retold(data, dialect, source.path)

    return GameSource(f"{source.content_hash}/{dialect}", f"{source.path} ({dialect})", told)


def _speaks(texts: Mapping[str, str], dialect: str) -> bool:
    try:
        return identify_dialect(texts["grammar"], texts["pddl_domain"]).name == dialect
    except GameFormatError:  # a grammar that nobody knows speaks neither
        return False


def diff_engines(games: Iterable[GameSource], *, reference: Engine, **how: Any) -> DiffReport:
    """Play games in both engines and sum up; takes what ``compare_games`` takes, and raises what it raises."""
    return summarize(compare_games(games, reference=reference, **how))


def compare_games(
    games: Iterable[GameSource],
    *,
    reference: Engine,
    native: NativeEngine | None = None,
    dialect: str | None = None,
    steps: int = 50,
    total_steps: int = 0,
    seed: int = 0,
    walkers: Sequence[str] = ("curious", "expert", "adversarial"),
    jobs: int = 1,
    keep_going: bool = True,
) -> Generator[GameReport]:
    """Play each game with each walker in both engines, ``steps`` commands an episode; a report a game, in their order.

    ``dialect`` tells the games in another one first (None: as they are). ``total_steps``: further rounds, each with the
    next seed, until as many are compared. ``jobs`` games are compared at a time, each in a worker of the reference. A
    difference ends its episode, or, without ``keep_going``, everything. Raises InvalidOption for an unknown walker or
    dialect, BackendUnavailable and CapacityExceeded where the reference fails.
    """
    for walker in walkers or [""]:
        if walker not in WALKERS:
            msg = f"there is no walker {walker!r}"
            raise InvalidOption(msg, hint=f"known: {', '.join(WALKERS)}")
    sources = [in_dialect(game, dialect) if dialect else game for game in games]
    stopping = threading.Event()
    pair = _Pair(native or NativeEngine(), reference, tuple(walkers), steps, stopping)
    return _compare_all(pair, sources, total_steps=total_steps, seed=seed, jobs=jobs, keep_going=keep_going)


def summarize(reports: Iterable[GameReport]) -> DiffReport:
    """The sums over games; a game that was played in several rounds counts once."""
    reports = list(reports)
    refused = {report.game: report.refused for report in reports if report.refused}
    differences = [difference for report in reports for difference in report.differences]
    return DiffReport(
        num_games=len({report.game for report in reports} - refused.keys()),
        num_refused=len(refused),
        num_episodes=sum(report.num_episodes for report in reports),
        num_steps=sum(report.num_steps for report in reports),
        num_wins=sum(report.num_wins for report in reports),
        num_differences=len(differences),
        first=differences[0] if differences else None,
        refused=tuple(refused.items()),
    )


@dataclass(frozen=True, slots=True)
class _Pair:
    """The two engines and how they are played."""

    native: NativeEngine
    reference: Engine
    walkers: tuple[str, ...]
    steps: int
    stopping: threading.Event

    def compare(self, source: GameSource, seed: int) -> GameReport:
        """A game with each walker, loaded once."""
        try:
            ours = self.native.open(source)
        except TaskDataError as error:
            return GameReport(source.path, refused=error.message)
        try:
            theirs = self.reference.open(source)
        except TaskDataError as error:
            found = Difference(source.path, "", seed, (), "loading", "loads it", error.message)
            return GameReport(source.path, differences=(found,))
        try:
            episodes = [self._play(source, ours, theirs, walker, seed) for walker in self.walkers]
        finally:
            theirs.close()
        return GameReport(
            source.path,
            num_episodes=len(episodes),
            num_steps=sum(count for count, _, _ in episodes),
            num_wins=sum(won for _, won, _ in episodes),
            differences=tuple(difference for _, _, difference in episodes if difference is not None),
        )

    def _play(
        self, source: GameSource, ours: NativeSession, theirs: Session, walker: str, seed: int
    ) -> tuple[int, bool, Difference | None]:
        """One episode: (steps compared, whether it was ever won, the difference that ended it)."""
        rng = random.Random(f"{seed}/{source.content_hash}/{walker}")  # noqa: S311 - reproducible, no secret
        played: list[str] = []
        won = False
        texts = (ours.reset(), theirs.reset())
        while True:
            won = won or ours.won
            found = first_disagreement(ours, theirs, texts)
            if found is not None:
                where = (source.path, walker, seed, tuple(played))
                return len(played), won, Difference(*where, found.what, found.native, found.reference)
            if len(played) >= self.steps or self.stopping.is_set():
                return len(played), won, None
            command = WALKERS[walker](rng, ours, played)
            played.append(command)
            try:
                text = ours.step(command)[0]
            except Exception as error:  # noqa: BLE001 - whatever it raises, TextWorld has an answer, and it is shown
                where = (source.path, walker, seed, tuple(played))
                return len(played), won, Difference(*where, "failure", repr(error), theirs.step(command)[0])
            texts = (text, theirs.step(command)[0])


def _compare_all(
    pair: _Pair, sources: Sequence[GameSource], *, total_steps: int, seed: int, jobs: int, keep_going: bool
) -> Generator[GameReport]:
    refused: set[str] = set()
    done = 0
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        try:
            for number in itertools.count():
                playable = [source for source in sources if source.path not in refused]
                before = done
                with contextlib.closing(_in_order(pool, pair, playable, seed + number, jobs)) as reports:
                    for report in reports:
                        done += report.num_steps
                        if report.refused:
                            refused.add(report.game)
                        yield report
                        enough = number > 0 and done >= total_steps
                        if enough or (report.differences and not keep_going):
                            return
                if done >= total_steps or done == before:
                    return
        finally:
            pair.stopping.set()  # what still runs ends with its next step


def _in_order(
    pool: ThreadPoolExecutor, pair: _Pair, sources: Sequence[GameSource], seed: int, jobs: int
) -> Generator[GameReport]:
    """The reports in the order of the games, begun only a few ahead of the one that is waited for."""
    left = iter(sources)
    begun: deque[Future[GameReport]] = deque()
    try:
        while True:
            for source in itertools.islice(left, 2 * jobs - len(begun)):
                begun.append(pool.submit(pair.compare, source, seed))
            if not begun:
                return
            yield begun.popleft().result()
    finally:
        for future in begun:
            future.cancel()
