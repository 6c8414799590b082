"""The oracle is exact: against every path of small rooms, and by a property of all shortest lengths in large
ones. Both play the real engine.
"""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from alfworld_games import BURNERS, COUNTER, FRIDGE, MICROWAVE, SINK

from envs.alfworld.dialect import write_in_dialect
from envs.alfworld.expert import plan, read_task_goal, remaining
from envs.alfworld.game import Game, load_game, parse_game
from envs.alfworld.generator import generate
from envs.alfworld.households import load_households
from envs.alfworld.problem_writer import Household, Location, Placed, Receptacle, write_problem
from envs.alfworld.state import State
from envs.registry import ALFWORLD

CABINET = Receptacle("Cabinet|+03.00|+00.90|+00.00", "Cabinet", Location(3, 0, 0, 30))
SHUT_BESIDE = Receptacle("Cabinet|+03.10|+00.90|+00.00", "Cabinet", Location(3, 0, 0, 30))
OTHER_COUNTER = Receptacle("CounterTop|+00.50|+00.90|+00.00", "CounterTop", Location(7, 0, 0, 30))
SHUT_AWAY = Receptacle("Cabinet|+03.50|+00.90|+02.00", "Cabinet", Location(9, 2, 0, 30))

_PLACE, _TWO, _LIGHT = "pick_and_place_simple", "pick_two_obj_and_place", "look_at_obj_in_light"
_CLEAN, _HEAT, _COOL = (f"pick_{how}_then_place_in_recep" for how in ("clean", "heat", "cool"))
# Name → (task type, the words of its goal, receptacles, (class, where it stands) for each object).
ROOMS: dict[str, tuple[str, dict[str, str], Sequence[Receptacle], Sequence[tuple[str, Sequence[Receptacle]]]]] = {
    "into one of two cabinets": (
        _PLACE,
        {"obj": "Mug", "recep": "Cabinet"},
        (COUNTER, CABINET, SHUT_BESIDE),
        (("Mug", (COUNTER,)), ("Cup", (CABINET,))),
    ),
    "everything is shut": (
        _PLACE,
        {"obj": "Mug", "recep": "Cabinet"},
        (FRIDGE, CABINET, SHUT_AWAY),
        (("Mug", (FRIDGE,)), ("Cup", (CABINET,))),
    ),
    "one on two burners, to be cleaned and put back": (
        _CLEAN,
        {"obj": "Pan", "recep": "StoveBurner"},
        (*BURNERS, SINK, COUNTER),
        (("Pan", BURNERS), ("Knife", (COUNTER,))),
    ),
    "the fridge is the device and the source": (
        _COOL,
        {"obj": "Apple", "recep": "CounterTop"},
        (FRIDGE, COUNTER, MICROWAVE),
        (("Apple", (FRIDGE,)), ("Apple", (MICROWAVE,))),
    ),
    "the microwave is at the counter": (
        _HEAT,
        {"obj": "Mug", "recep": "CounterTop"},
        (COUNTER, MICROWAVE, FRIDGE),
        (("Mug", (COUNTER,)), ("Egg", (FRIDGE,))),
    ),
    "two, one in each of two cabinets": (
        _TWO,
        {"obj": "Mug", "recep": "Cabinet"},
        (CABINET, SHUT_AWAY, COUNTER),
        (("Mug", (CABINET,)), ("Mug", (SHUT_AWAY,)), ("Cup", (COUNTER,))),
    ),
    "one in two cabinets at once": (
        _CLEAN,
        {"obj": "Mug", "recep": "Cabinet"},
        (CABINET, SHUT_BESIDE, SINK),
        (("Mug", (CABINET, SHUT_BESIDE)), ("Cup", (CABINET,))),
    ),
    "shut neighbours, the second holds what is wanted": (
        _PLACE,
        {"obj": "Mug", "recep": "Fridge"},
        (CABINET, SHUT_BESIDE, FRIDGE),
        (("Mug", (SHUT_BESIDE,)), ("Cup", (FRIDGE,))),
    ),
    "an egg to put away, best where the mug will go": (
        _PLACE,
        {"obj": "Mug", "recep": "Microwave"},
        (CABINET, FRIDGE, MICROWAVE),
        (("Mug", (CABINET,)), ("Egg", (FRIDGE,))),
    ),
    "the nearer of two counters": (
        _HEAT,
        {"obj": "Mug", "recep": "CounterTop"},
        (OTHER_COUNTER, COUNTER, MICROWAVE, FRIDGE),
        (("Mug", (FRIDGE,)),),
    ),
    "two of three, two behind one door": (
        _TWO,
        {"obj": "Mug", "recep": "SinkBasin"},
        (CABINET, SHUT_AWAY, SINK),
        (("Mug", (CABINET,)), ("Mug", (SHUT_AWAY,)), ("Mug", (SHUT_AWAY,))),
    ),
    "two of three": (
        _TWO,
        {"obj": "Apple", "recep": "SinkBasin"},
        (COUNTER, SINK, CABINET),  # into a cabinet no apple goes back
        (("Apple", (COUNTER,)), ("Apple", (CABINET,)), ("Apple", (CABINET,))),
    ),
    "two from one cabinet, with another thing": (
        _TWO,
        {"obj": "Mug", "recep": "SinkBasin"},
        (CABINET, SINK),
        (("Mug", (CABINET,)), ("Mug", (CABINET,)), ("Cup", (SINK,))),
    ),
    "two lamps and two mugs": (
        _LIGHT,
        {"obj": "Mug", "toggle": "DeskLamp"},
        (COUNTER, CABINET, SINK),
        (("Mug", (CABINET,)), ("Mug", (SINK,)), ("DeskLamp", (COUNTER,)), ("DeskLamp", (COUNTER,))),
    ),
}


def room(name: str) -> Game:
    task, words, receptacles, things = ROOMS[name]
    tables = load_households()
    objects = [Placed(f"{kind}|+0{n}.00|+00.95|+00.00", kind, tuple(at)) for n, (kind, at) in enumerate(things)]
    household = Household("room", tuple(receptacles), tuple(objects), start=Location(5, 5, 0, 30))
    domain, grammar = write_in_dialect("0.4", "do it.")
    problem = write_problem(household, tables, tables.tasks[task].goal.format(**words))
    data: dict[str, Any] = {"pddl_domain": domain, "grammar": grammar, "pddl_problem": problem, "solvable": True}
    return parse_game(data)


def facts(state: State) -> Hashable:
    """What a state is; "taken out" says how a text is worded and what no rule asks for."""
    return frozenset(fact for fact in state.facts() if fact[0] != "takenout")


def explore(start: State) -> tuple[dict[Hashable, State], dict[Hashable, int]]:
    """Every state that any commands lead to, and the true distance to a win from each that has one."""
    states: dict[Hashable, State] = {facts(start): start}
    before: dict[Hashable, list[Hashable]] = defaultdict(list)
    waiting = deque(states)
    while waiting:
        key = waiting.popleft()
        if states[key].won:
            continue
        for command in states[key].commands():
            following = states[key].clone()
            following.step(command)
            found = facts(following)
            before[found].append(key)
            if found not in states:
                states[found] = following
                waiting.append(found)
    distances = {key: 0 for key, state in states.items() if state.won}
    waiting = deque(distances)
    while waiting:
        key = waiting.popleft()
        for earlier in before[key]:
            if earlier not in distances:
                distances[earlier] = distances[key] + 1
                waiting.append(earlier)
    return states, distances


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
