"""A packed game is the game: the same texts, commands, hashes and plans, from a tenth of the bytes."""

from __future__ import annotations

import json
import random
import zlib
from pathlib import Path

import pytest
from alfworld_games import ALL_TASKS, kitchen

from envs.alfworld.engine import GameSource
from envs.alfworld.expert import plan
from envs.alfworld.game import Game, load_game, parse_game
from envs.alfworld.generator import generate
from envs.alfworld.native_engine import NativeEngine
from envs.alfworld.packed import PACKED_VERSION, pack_game, unpack_game
from envs.alfworld.pddl import GameFormatError
from envs.alfworld.text import introduction


def transcript(game: Game, seed: int, steps: int = 120) -> list[object]:
    state, rng = game.start(), random.Random(seed)
    heard: list[object] = [introduction(state), state.hash(), plan(state)]
    for _ in range(steps):
        commands = state.admissible()
        staying = [command for command in commands if not command.startswith("go to ")]
        heard += [state.step(rng.choice(staying if rng.random() < 0.6 else commands)), commands, state.hash()]
    return heard


@pytest.mark.parametrize("dialect", ["0.2", "0.4"])
def test_a_packed_game_plays_as_its_file_does(dialect: str) -> None:
    games = [parse_game(kitchen(task, dialect=dialect)) for task in ALL_TASKS]
    games += [parse_game(generate(seed).data) for seed in range(12)]
    for number, game in enumerate(games):
        again = unpack_game(pack_game(game))
        assert (again.problem, again.names, again.dialect) == (game.problem, game.names, game.dialect)
        assert transcript(again, number) == transcript(game, number)


def test_official_games_play_as_their_files_do(shared_dir: Path) -> None:
    paths = sorted((shared_dir / "data" / "alfworld").rglob("game.tw-pddl"))
    assert len(paths) == 93
    for number, path in enumerate(paths):
        game, size = load_game(path), path.stat().st_size
        packed = pack_game(game)
        assert len(packed) < size / 10
        assert transcript(unpack_game(packed), number, steps=25) == transcript(game, number, steps=25)


def test_packing_gives_the_same_bytes() -> None:
    assert pack_game(parse_game(kitchen())) == pack_game(parse_game(kitchen()))
    assert pack_game(unpack_game(pack_game(parse_game(kitchen())))) == pack_game(parse_game(kitchen()))


def test_what_is_no_packed_game_is_refused() -> None:
    good = pack_game(parse_game(kitchen()))
    content = json.loads(zlib.decompress(good))
    bad: list[bytes] = [b"", b"nonsense", good[:-5], zlib.compress(b"[]"), zlib.compress(b"{}"), zlib.compress(b"\xff")]
    bad += [zlib.compress(json.dumps([PACKED_VERSION, *content[1:-1]]).encode())]
    bad += [zlib.compress(json.dumps([PACKED_VERSION, *content[1:3], [], *content[4:]]).encode())]
    for data in bad:
        with pytest.raises(GameFormatError):
            unpack_game(data)
    with pytest.raises(GameFormatError, match="version 0"):
        unpack_game(zlib.compress(json.dumps([0, *content[1:]]).encode()))


def test_the_engine_reads_the_index_before_the_file(caplog: pytest.LogCaptureFixture) -> None:
    data = kitchen()
    packed = pack_game(parse_game(data))

    def unread() -> dict[str, object]:
        msg = "the file must not be read"
        raise AssertionError(msg)

    session = NativeEngine().open(GameSource("a", "kitchen", unread, lambda: packed))
    assert session.reset() == introduction(parse_game(data).start())
    for stale in (b"no packed game", None):
        caplog.clear()
        session = NativeEngine().open(GameSource("a", "kitchen", lambda: data, lambda stale=stale: stale))
        assert session.reset() == introduction(parse_game(data).start())
        assert ("reading the game's file" in caplog.text) is (stale is not None)
