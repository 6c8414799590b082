"""A broken game file is refused when it is loaded, with its path, or plays as any other: never a failure at a step."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from alfworld_games import ALL_TASKS, generated_source, kitchen
from alfworld_mutations import mutate

from envs.alfworld.admission import admit
from envs.alfworld.game import Game, parse_game, read_game_file
from envs.alfworld.packed import pack_game, unpack_game
from envs.alfworld.text import introduction
from envs.errors import TaskDataError


def play(game: Game, rng: random.Random, *, steps: int = 30) -> None:
    state = game.start()
    assert introduction(state).startswith("-= Welcome")
    for _ in range(steps):
        commands = state.admissible()
        near = [command for command in commands if not command.startswith("go to ")]
        command = rng.choice(near if rng.random() < 0.7 else commands)
        text, won = state.step(command)
        assert text
        assert text != "Nothing happens.", command
        assert won is game.goal.reached(state)
        state.hash()
    assert len({str(fact) for fact in state.facts()}) == len(list(state.facts()))


def refused_or_played(data: Any, path: Path, rng: random.Random) -> bool:
    """Whether the file was refused. Fails where it is refused without its path, or cannot be played."""
    path.write_text(json.dumps(data))
    try:
        read, _ = read_game_file(path)
        game = parse_game(read, path=path)
        admit(game, read, path=path)
    except TaskDataError as error:
        assert error.message.startswith(f"{path}: ")  # noqa: PT017 - many files a test
        assert len(error.message) > len(str(path)) + 15  # noqa: PT017
        return True
    play(game, rng)
    play(unpack_game(pack_game(game)), rng, steps=5)
    return False


def broken_games(originals: list[dict[str, Any]], path: Path, *, seed: int, count: int) -> int:
    """How many of so many broken games were refused."""
    rng = random.Random(seed)
    return sum(refused_or_played(mutate(rng, rng.choice(originals)), path, rng) for _ in range(count))


def test_generated_games_are_refused_or_played(tmp_path: Path) -> None:
    originals = [kitchen(task, dialect=dialect) for task in ALL_TASKS for dialect in ("0.2", "0.4")]
    originals += [dict(generated_source(seed, difficulty="easy").load()) for seed in range(6)]
    refused = broken_games(originals, tmp_path / "game.tw-pddl", seed=1, count=500)
    assert 100 < refused < 490  # both happen


def test_official_games_are_refused_or_played(shared_dir: Path, tmp_path: Path) -> None:
    paths = sorted((shared_dir / "data/alfworld/json_2.1.1").rglob("game.tw-pddl"))[::8]
    originals = [dict(read_game_file(path)[0]) for path in paths]
    refused = broken_games(originals, tmp_path / "game.tw-pddl", seed=2, count=250)
    assert 50 < refused < 245


@pytest.mark.slow
def test_very_many_broken_games_are_refused_or_played(shared_dir: Path, tmp_path: Path) -> None:
    paths = sorted((shared_dir / "data/alfworld/json_2.1.1").rglob("game.tw-pddl"))
    originals = [dict(read_game_file(path)[0]) for path in paths] + [kitchen(task) for task in ALL_TASKS]
    for seed in range(8):
        broken_games(originals, tmp_path / "game.tw-pddl", seed=seed + 10, count=1500)


@pytest.mark.parametrize("raw", [b"", b"\xff\xfe{}", b"[" * 100_000, b"nul", b'{"a": 1', b'"x"', b"[]", b"1e999"])
def test_what_is_no_game_is_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "game.tw-pddl"
    path.write_bytes(raw)
    with pytest.raises(TaskDataError) as caught:
        parse_game(read_game_file(path)[0], path=path)
    assert caught.value.message.startswith(f"{path}: ")
