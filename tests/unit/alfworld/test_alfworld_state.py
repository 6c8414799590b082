"""A state: cloned, hashed as it changes, shared views, little memory, any number of threads."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alfworld_games import ALL_TASKS, KNIFE_IN_SINK, MUG_IN_LIGHT, kitchen

from envs.alfworld.game import Game, parse_game
from envs.alfworld.generator import generate
from envs.alfworld.state import State


def start(task: tuple[str, dict[str, str]] = KNIFE_IN_SINK) -> State:
    return parse_game(kitchen(task)).start()


def play(state: State, *commands: str) -> list[str]:
    return [state.step(command)[0] for command in commands]


def test_a_clone_goes_its_own_way() -> None:
    state = start()
    play(state, "go to countertop 1", "take mug 1 from countertop 1")
    before, commands = state.hash(), state.admissible()
    copy = state.clone()
    assert (copy.hash(), copy.admissible()) == (before, commands)
    play(copy, "use desklamp 1", "open microwave 1", "heat mug 1 with microwave 1", "move mug 1 to countertop 1")
    play(copy, "go to sinkbasin 1")
    assert (state.hash(), state.admissible()) == (before, commands)
    assert copy.hash() != before


def test_state_hash_is_of_the_facts_and_the_same_in_every_process(repo_root: Path) -> None:
    state, other = start(), start()
    play(state, "go to countertop 1", "take mug 1 from countertop 1", "use desklamp 1")
    play(other, "go to countertop 1", "use desklamp 1", "look", "take mug 1 from countertop 1")
    assert state.hash() == other.hash()
    code = (
        "import json,sys; from envs.alfworld.game import parse_game; s = parse_game(json.load(sys.stdin)).start();"
        "[s.step(c) for c in ('go to countertop 1', 'take mug 1 from countertop 1', 'use desklamp 1')]; print(s.hash())"
    )
    for seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", code], input=json.dumps(kitchen()), capture_output=True, text=True, check=True,
            cwd=repo_root, env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(repo_root)},
        )  # fmt: skip
        assert run.stdout.strip() == state.hash()


def test_the_digest_that_is_kept_is_the_digest_of_the_facts() -> None:
    """The exclusive or of what was gained and lost since the first state, however the state was reached."""
    for number in range(8):
        game = parse_game(generate(number, difficulty="easy").data)
        first = set(game.initial.facts())
        state, rng = game.start(), random.Random(number)
        for _ in range(150):
            staying = [command for command in state.admissible() if not command.startswith("go to ")]
            state.step(rng.choice(staying if rng.random() < 0.7 else state.admissible()))
            digest = game.first_digest
            for fact in first ^ set(state.facts()):
                digest ^= game.fact_digest(*fact)
            assert state.hash() == f"{digest:032x}"


@pytest.mark.parametrize("task", ALL_TASKS, ids=lambda task: task[0])
def test_a_rule_names_all_that_it_changes(task: tuple[str, dict[str, str]]) -> None:
    """Else a goal that reads it would not be looked at again."""
    game, rng, names = parse_game(kitchen(task)), random.Random(0), set[str]()
    state = game.start()
    for _ in range(2000):
        commands = state.commands()
        staying = [command for command in commands if not command.startswith("go to ")]
        command = rng.choice(staying if rng.random() < 0.8 else list(commands))
        rule, first, second = commands[command]
        before, probe = set(state.facts()), state.clone()
        _, changes = rule(probe, first, second)
        changed = {fact[0] for fact in before ^ set(probe.facts())} - {"takenout"}  # which no goal can read
        assert changed <= changes
        names |= {rule.__name__} if changed else set()
        assert state.step(command)[1] == game.goal.reached(state)
        if rng.random() < 0.02:
            state = game.start()
    assert names == {"go_to", "open_", "close", "take", "put", "toggle", "clean", "heat", "cool", "slice_"}


def test_states_share_their_views_and_forgetting_them_changes_nothing() -> None:
    game = parse_game(kitchen())
    one, two = game.start(), game.start()
    for state in (one, two):
        play(state, "go to countertop 1", "take mug 1 from countertop 1")
    assert one.admissible() is two.admissible()
    seen = one.admissible()
    game.forget_views()
    three = game.start()
    play(three, "go to countertop 1", "take mug 1 from countertop 1")
    assert three.admissible() == seen
    assert three.admissible() is not seen
    assert play(one, "examine mug 1") == play(three, "examine mug 1")


def test_a_game_keeps_a_bounded_number_of_views() -> None:
    game = parse_game(generate(0).data)
    state, rng, most = game.start(), random.Random(0), 0
    for _ in range(3000):
        state.step(rng.choice(state.admissible()))
        most = max(most, len(game.views))
    assert 100 < most <= 128


def test_a_live_state_takes_little_memory() -> None:
    games = [parse_game(generate(number).data) for number in range(2)]
    rng = random.Random(0)
    warm = [_wander(game, rng) for game in games for _ in range(100)]
    tracemalloc.start()
    states = [_wander(game, rng) for game in games for _ in range(500)]
    each = tracemalloc.get_traced_memory()[0] / len(states)
    tracemalloc.stop()
    assert len(warm) == 200
    assert each < 4096


def test_threads_that_share_a_game_hear_what_each_would_hear_alone() -> None:
    data = generate(5).data

    def walk(game: Game, seed: int) -> list[object]:
        state, rng, heard = game.start(), random.Random(seed), list[object]()
        for _ in range(400):
            commands = state.admissible()
            heard += [commands, state.step(rng.choice(commands)), state.hash()]
        return heard

    alone = [walk(parse_game(data), seed) for seed in range(8)]
    game, interval = parse_game(data), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that the threads meet everywhere, also where the views are forgotten
    try:
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(walk, [game] * 8, range(8))) == alone
    finally:
        sys.setswitchinterval(interval)


def _wander(game: Game, rng: random.Random) -> State:
    state = game.start()
    for _ in range(20):
        state.step(rng.choice(state.admissible()))
    return state


def test_state_hashes_are_equal_exactly_where_the_facts_are() -> None:
    rng = random.Random(5)
    seen: dict[frozenset[tuple[str, ...]], str] = {}
    for task in (KNIFE_IN_SINK, MUG_IN_LIGHT):
        game = parse_game(kitchen(task))
        for _ in range(30):
            state = game.start()
            for _ in range(40):
                state.step(rng.choice(state.admissible()))
                assert seen.setdefault(frozenset(state.facts()), state.hash()) == state.hash()
    assert len(set(seen.values())) == len(seen) > 300
