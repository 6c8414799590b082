"""Generated games of every sort, written as files, loaded and won in TextWorld: the text is ours, word for word."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from envs.alfworld.diff_command import official_game
from envs.alfworld.engine import Session
from envs.alfworld.export import write_generated_games
from envs.alfworld.generator import DIFFICULTIES, Rooms
from envs.alfworld.generator_options import Phrasing
from envs.alfworld.native_engine import NativeEngine
from envs.alfworld.textworld_engine import TextWorldEngine

pytestmark = [
    pytest.mark.textworld,
    pytest.mark.skipif(importlib.util.find_spec("textworld") is None, reason="the alfworld extra is not installed"),
]

PRESETS, ROOMS, PHRASINGS = tuple(DIFFICULTIES), tuple(Rooms), tuple(Phrasing)


@pytest.mark.parametrize("number", [*range(3, 9), *(pytest.param(n, marks=pytest.mark.slow) for n in range(9, 60))])
def test_textworld_wins_the_file_and_says_what_we_say(number: int, tmp_path: Path, fast: TextWorldEngine) -> None:
    """The numbers 3 to 8 hold every task type, preset, room and phrasing."""
    (written,) = write_generated_games(
        tmp_path,
        1,
        first_seed=number,
        difficulty=PRESETS[number % 4],
        rooms=ROOMS[number % 3],
        phrasing=PHRASINGS[(number + number // 4) % 2],
    )
    source = official_game(written.path)
    walkthrough = list(source.load()["walkthrough"])
    native = NativeEngine()
    sessions: tuple[Session, Session] = (native.open(source), fast.open(source))
    try:
        texts = [session.reset() for session in sessions]
        assert texts[0].endswith(f"Your task is to: {written.goal}")
        for command in [*walkthrough, "look"]:
            assert texts[0] == texts[1]
            assert list(sessions[0].admissible()) == list(sessions[1].admissible())
            assert sessions[0].won is sessions[1].won is False
            texts = [session.step(command)[0] for session in sessions]
            if sessions[0].won:
                break
        assert sessions[1].won
        assert command == walkthrough[-1]
    finally:
        for session in sessions:
            session.close()
