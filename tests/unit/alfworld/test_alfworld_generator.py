from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from envs.alfworld.export import write_generated_games
from envs.alfworld.game import load_game, parse_game
from envs.alfworld.generator import DIFFICULTIES, Rooms, generate
from envs.alfworld.households import HELD_OUT_FLOOR_PLANS, load_households
from envs.errors import InvalidOption, UnknownTaskType
from envs.registry import ALFWORLD

# Raise GENERATOR_VERSION when these change: recorded episodes name the games by seed.
GOLDEN = {
    (0, "normal", "train"): "fb227fd61922acad12ed9204c3c08ef06e675201a8dd21f5a4a046188cb6bef0",
    (7, "easy", "train"): "e6d3f5855964e4b1ba93fdee73c98aad44aaad639ccc727278872876e8335fad",
    (7, "easy", "evaluation"): "4ef4ccdc83ba1cb7c1e7288bcd1df3f1b361eb491eb6bc54b26cd5ee0fc19c8e",
}


@pytest.mark.parametrize(("seed", "difficulty", "rooms"), GOLDEN)
def test_a_seed_keeps_its_game(seed: int, difficulty: str, rooms: str) -> None:
    game = generate(seed, difficulty=difficulty, rooms=rooms)
    assert game.content_hash == GOLDEN[seed, difficulty, rooms]


def test_a_seed_gives_the_same_bytes_in_every_process(repo_root: Path) -> None:
    code = "from envs.alfworld.generator import generate; print([generate(s).content_hash for s in range(5)])"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=repo_root,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(repo_root)},
        ).stdout
        for seed in ("0", "12345")
    }  # fmt: skip
    assert outputs == {f"{[generate(seed).content_hash for seed in range(5)]}\n"}


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
@pytest.mark.parametrize("rooms", Rooms)
def test_games_are_different_solvable_and_never_from_held_out_rooms(difficulty: str, rooms: Rooms) -> None:
    games = [generate(seed, difficulty=difficulty, rooms=rooms) for seed in range(40)]
    assert len({game.content_hash for game in games}) == len(games)
    assert Counter(game.type for game in games).keys() == set(ALFWORLD.task_types)
    for game in games:
        assert game.floor_plan not in HELD_OUT_FLOOR_PLANS
        assert (game.floor_plan in load_households().test_floor_plans) == (rooms is Rooms.EVALUATION)
        state = parse_game(game.data).start()
        assert not state.won
        results = [state.step(command) for command in game.data["walkthrough"]]
        assert "Nothing happens." not in [text for text, _ in results]
        assert results[-1][1]


def test_easy_rooms_are_small_and_normal_ones_like_the_official() -> None:
    sizes: dict[str, list[tuple[int, int]]] = {"easy": [], "normal": []}
    for difficulty, found in sizes.items():
        for seed in range(60):
            game = parse_game(generate(seed, difficulty=difficulty).data)
            found.append((len(game.receptacles), len(game.object_types)))
    assert all(4 <= receptacles <= 8 and objects <= 9 for receptacles, objects in sizes["easy"])
    receptacles, objects = (sum(column) / 60 for column in zip(*sizes["normal"], strict=True))
    assert 18 <= receptacles <= 28  # the shared official games: 21.5
    assert 27 <= objects <= 40  # 33.5


@pytest.mark.parametrize("task_type", ALFWORLD.task_types)
@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_the_type_asked_for_is_made(task_type: str, difficulty: str) -> None:
    game = generate(3, type=task_type, difficulty=difficulty)
    assert game.type == game.traj["task_type"] == task_type


def test_wrong_wishes_are_refused() -> None:
    with pytest.raises(UnknownTaskType, match="juggle"):
        generate(0, type="juggle")
    with pytest.raises(InvalidOption, match="absurd"):
        generate(0, difficulty="absurd")
    with pytest.raises(InvalidOption, match="attic"):
        generate(0, rooms="attic")


def test_files_are_written_in_the_official_layout(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    paths = write_generated_games(tmp_path, 3, first_seed=5, difficulty="easy", progress=lambda *at: seen.append(at))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    for seed, path in zip(range(5, 8), paths, strict=True):
        game = generate(seed, difficulty="easy")
        assert path.read_bytes() == game.to_bytes()
        assert path.relative_to(tmp_path).parts[:2] == ("json_2.1.1", "train")
        assert path.parent.parent.name.startswith(f"{game.type}-")
        assert load_game(path).goal_text == parse_game(game.data).goal_text
        traj = json.loads((path.parent / "traj_data.json").read_text())
        assert traj["task_type"] == game.type
        assert traj["generator"]["seed"] == seed
