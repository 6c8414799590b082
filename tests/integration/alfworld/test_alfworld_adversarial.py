"""What no player should write, and models do: the native engine gives TextWorld's own answer, text and state alike."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Iterator
from contextlib import closing
from itertools import cycle
from pathlib import Path

import pytest
from alfworld_games import MUG_IN_LIGHT, generated_source, kitchen

from envs.alfworld.comparison import first_disagreement
from envs.alfworld.dialect import DIALECTS
from envs.alfworld.diff import in_dialect
from envs.alfworld.diff_command import find_game_files, official_game
from envs.alfworld.engine import GameSource
from envs.alfworld.native_engine import NativeEngine, NativeSession
from envs.alfworld.rules import NOTHING_HAPPENS
from envs.alfworld.textworld_engine import TextWorldEngine, TextWorldSession
from envs.alfworld.walkers import NONSENSE, distortions

pytestmark = [
    pytest.mark.textworld,
    pytest.mark.skipif(importlib.util.find_spec("textworld") is None, reason="the alfworld extra is not installed"),
]

# What TextWorld's ``strip`` takes off: these distortions are still the command.
ACCEPTED = frozenset(
    {
        "as it is",
        "blanks around",
        "a line's end",
        "lines' ends around",
        "blanks beyond ASCII around",
        "very many blanks around",
    }
)


class Pair:
    """A game in both engines, which must agree after every command."""

    def __init__(self, source: GameSource, reference: TextWorldEngine) -> None:
        self.ours: NativeSession = NativeEngine().open(source)
        self.theirs: TextWorldSession = reference.open(source)
        self._check((self.ours.reset(), self.theirs.reset()), "the beginning")

    def step(self, command: str, about: str) -> str:
        texts = (self.ours.step(command)[0], self.theirs.step(command)[0])
        self._check(texts, about)
        return texts[1]

    def close(self) -> None:
        self.theirs.close()

    def _check(self, texts: tuple[str, str], about: str) -> None:
        found = first_disagreement(self.ours, self.theirs, texts)
        assert found is None, f"{about}: {found.what}\n{found.diff()}"


def play_nonsense(pair: Pair) -> None:
    for about, command in NONSENSE.items():
        before = pair.ours.state_hash()
        assert pair.step(command, about) == NOTHING_HAPPENS, about
        assert pair.ours.state_hash() == before, about


def play_distortions(pair: Pair, seed: int) -> None:
    """Each distortion of some admissible command of each verb that there is, on a way that goes on with the rest."""
    rng = random.Random(seed)
    verbs: Iterator[str] = cycle(("go ", "open ", "take ", "examine ", "put ", "move ", "use ", "look", "close "))
    for about in distortions("look"):
        found: list[str] = []
        while not found:
            verb = next(verbs)
            found = [command for command in pair.ours.admissible() if command.startswith(verb)]
        command = rng.choice(found)
        distorted, admissible = distortions(command)[about], pair.ours.admissible()
        accepted = pair.step(distorted, f"{command!r}, {about}") != NOTHING_HAPPENS
        assert accepted == (distorted.strip() in admissible), f"{command!r}, {about}"
        assert accepted or about not in ACCEPTED, f"{command!r}, {about}"
        pair.step(command, command)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_nonsense_changes_nothing_in_a_generated_game(fast: TextWorldEngine, dialect: str) -> None:
    with closing(Pair(in_dialect(generated_source(4, difficulty="easy"), dialect), fast)) as pair:
        play_nonsense(pair)
        play_distortions(pair, 4)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_real_games_answer_the_adversary_as_textworld_does(
    fast: TextWorldEngine, shared_dir: Path, dialect: str
) -> None:
    for number, path in enumerate(find_game_files(shared_dir / "data" / "alfworld")[::40]):
        with closing(Pair(in_dialect(official_game(path), dialect), fast)) as pair:
            if number == 0:
                play_nonsense(pair)
            play_distortions(pair, number)


def test_stock_textworld_answers_nonsense_the_same(stock: TextWorldEngine) -> None:
    """Unpatched, on a small game: the fast judge is no other judge."""
    data = kitchen(MUG_IN_LIGHT, dialect="0.2")
    with closing(Pair(GameSource("kitchen", "kitchen", lambda: data), stock)) as pair:
        for command in ("go to countertop 1", "take mug 1 from countertop 1", "use desklamp 1"):
            assert pair.step(command, command) != NOTHING_HAPPENS
        assert pair.ours.won
        play_nonsense(pair)


@pytest.mark.slow
@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_shared_game_answers_the_adversary_as_textworld_does(
    fast: TextWorldEngine, shared_dir: Path, dialect: str
) -> None:
    for seed, path in enumerate(find_game_files(shared_dir / "data" / "alfworld")):
        with closing(Pair(in_dialect(official_game(path), dialect), fast)) as pair:
            play_nonsense(pair)
            play_distortions(pair, seed)
