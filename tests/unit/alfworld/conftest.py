"""Fixtures for ALFWorld's tests: games in the official layout, their index, and what is read of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from indexed_games import age

from envs.alfworld import official
from envs.alfworld.export import write_generated_games


@pytest.fixture(scope="session")
def made_games(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Official layout, made of generated games: 8 of train and 3 of valid_seen."""
    root = tmp_path_factory.mktemp("alfworld")
    write_generated_games(root, 8, difficulty="easy")
    write_generated_games(root, 3, first_seed=50, difficulty="easy", split="valid_seen")
    return root


@pytest.fixture
def old_games(made_games: Path, tmp_path: Path) -> Path:
    """A copy to change, old enough for its times to be trusted."""
    root = tmp_path / "data"
    shutil.copytree(made_games, root)
    age(root)
    return root


@pytest.fixture
def index_dir(tmp_path: Path) -> Path:
    return tmp_path / "index"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the games that are read from their files."""
    seen: list[str] = []
    read = official.OfficialGames._read

    def count(self: official.OfficialGames, split: str, name: str):
        seen.append(name)
        return read(self, split, name)

    monkeypatch.setattr(official.OfficialGames, "_read", count)
    return seen
