"""The oracle is exact: against every path of small rooms, and by a property of all shortest lengths in large
ones. Both play the real engine.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alfworld_rooms import ROOMS, explore, facts, room

from envs.alfworld.expert import plan, read_task_goal, remaining
from envs.alfworld.game import Game, load_game, parse_game
from envs.alfworld.generator import generate
from envs.alfworld.state import State
from envs.registry import ALFWORLD


def wins(state: State, commands: Iterable[str]) -> bool:
    """Whether the commands win, and with the last of them."""
    state = state.clone()
    results = [state.step(command)[1] for command in commands]
    return results == [False] * (len(results) - 1) + [True] if results else state.won


@pytest.mark.parametrize("name", ROOMS)
def test_in_a_small_room_every_plan_is_as_long_as_the_shortest_path(name: str) -> None:
    """Every reachable state: what is held, open, hot, in the wrong place or treated already, in any combination."""
    game = room(name)
    assert read_task_goal(game) is not None
    states, distances = explore(game.start())
    assert len(states) > 50
    assert distances[facts(game.start())] >= 3
    for key, state in states.items():
        commands = plan(state)
        assert (None if commands is None else len(commands)) == distances.get(key)
        assert commands is None or wins(state, commands)


def walk(game: Game, rng: random.Random) -> State:
    """A state that an agent gets into: it does much, looks little, and follows the plan now and then."""
    state = game.start()
    for _ in range(rng.choice((0, 3, 10, 30, 60))):
        commands = state.admissible()
        doing = [command for command in commands if command.split()[0] not in ("go", "look", "examine", "inventory")]
        chance = rng.random()
        best = plan(state) if chance < 0.2 else None
        before = state.clone()
        state.step(best[0] if best else rng.choice(doing if chance < 0.7 and doing else commands))
        if state.won:
            return before
    return state


def check_consistent(state: State) -> None:
    """A plan wins, and no command leads to where less than its length minus one is missing.

    A length with this property in every state is no longer than any path to a win; one that a plan keeps is no shorter.
    """
    commands = plan(state)
    assert commands is None or wins(state, commands)
    for command in state.commands():
        following = state.clone()
        following.step(command)
        rest = remaining(following)
        assert rest is None or (commands is not None and len(commands) <= rest + 1), (commands, command)


def games_of(make: Callable[[int], Any], count: int) -> Iterator[Game]:
    return (parse_game(make(seed).data) for seed in range(count))


@pytest.mark.parametrize("task_type", ALFWORLD.task_types)
@pytest.mark.parametrize("difficulty", ["easy", "normal"])
def test_in_any_state_of_a_generated_room_no_command_saves_two(task_type: str, difficulty: str) -> None:
    rng = random.Random(f"{task_type} {difficulty}")
    for game in games_of(lambda seed: generate(seed, type=task_type, difficulty=difficulty), 4):
        for _ in range(10):
            check_consistent(walk(game, rng))


def test_in_any_state_of_the_official_games_no_command_saves_two(shared_dir: Path) -> None:
    rng = random.Random(5)
    paths = sorted((shared_dir / "data/alfworld/json_2.1.1").rglob("game.tw-pddl"))
    for path in paths:
        game = load_game(path)
        for _ in range(3):
            check_consistent(walk(game, rng))


def test_from_the_start_of_an_easy_room_no_path_is_shorter() -> None:
    """Every path, in breadth, through rooms of five to eight receptacles."""
    checked = 0
    for seed in range(40):
        start = parse_game(generate(seed, difficulty="easy").data).start()
        length = remaining(start)
        assert length is not None
        if length <= 5:
            checked += 1
            layer, seen = [start], {start.hash()}
            for _ in range(length - 1):
                layer = [following for state in layer for following in _followers(state, seen)]
                assert not any(state.won for state in layer)
    assert checked >= 5


def _followers(state: State, seen: set[str]) -> Iterator[State]:
    for command in state.commands():
        following = state.clone()
        following.step(command)
        if following.hash() not in seen:
            seen.add(following.hash())
            yield following


@pytest.mark.slow
def test_in_thousands_of_states_no_command_saves_two(shared_dir: Path) -> None:
    rng = random.Random(7)
    paths = sorted((shared_dir / "data/alfworld/json_2.1.1").rglob("game.tw-pddl"))
    games = [*map(load_game, paths), *games_of(generate, 30), *games_of(lambda n: generate(n, difficulty="easy"), 60)]
    for game in games:
        for _ in range(50):
            check_consistent(walk(game, rng))
