"""Shaping terms: what they say, that no best policy changes, and who may not ask for them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Hashable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from alfworld_rooms import room_data

from envs.alfworld.engine import GameSource
from envs.alfworld.env import AlfworldEnv, Workshop
from envs.alfworld.expert import remaining
from envs.alfworld.family import AlfworldFamily
from envs.alfworld.game import Game, parse_game
from envs.alfworld.native_engine import NativeEngine
from envs.alfworld.shaping import SHAPING_TERMS, potential
from envs.alfworld.tasks import DATA_DIR_VARIABLE
from envs.errors import InvalidOption
from envs.registry import ALFWORLD
from envs.types import Action, StepResult, Task

GAMMA = 0.8


def begin(data: Mapping[str, Any], **options: Any) -> AlfworldEnv:
    """An episode of a game that is given."""
    native = NativeEngine()
    source = GameSource("0" * 64, "room", lambda: data)
    env = AlfworldEnv(
        Workshop(
            ALFWORLD,
            find_game=lambda task: source,
            find_engine=lambda name: native,
            parse_game=native.game,
            engine="native",
        )
    )
    env.reset(Task("alfworld", "generated/room", "generated", "", source.content_hash), options=options)
    return env


def act(env: AlfworldEnv, command: str) -> StepResult:
    return env.step(Action("take_action", {"action": command}))


def play(env: AlfworldEnv, *commands: str) -> list[StepResult]:
    return [act(env, command) for command in commands]


def expert_plays(env: AlfworldEnv) -> list[StepResult]:
    results = []
    while (action := env.expert_action()) is not None:
        results.append(env.step(action))
    return results


def terms(results: list[StepResult], name: str) -> list[float]:
    return [result.info["shaping"][name] for result in results]


# State → (what happened, where it leads, None at the end) for each command.
type Graph = dict[Hashable, list[tuple[StepResult, Hashable | None]]]


def explore(env: AlfworldEnv) -> Graph:
    """Every step from every state of an episode's game, each taken in a fork."""
    start = act(env, "look").state_hash
    forks = {start: env}
    graph: Graph = {}
    while forks:
        key, current = forks.popitem()
        graph[key] = []
        for command in act(current.fork() or current, "look").observation.admissible_actions:
            fork = current.fork()
            assert fork is not None
            result = act(fork, command)
            graph[key].append((result, None if result.terminated else result.state_hash))
            if not result.terminated and result.state_hash not in graph:
                forks[result.state_hash] = fork
    return graph


@cache
def graph_of(name: str) -> Graph:
    return explore(begin(room_data(name), max_steps=1000, shaping=["potential"], shaping_gamma=GAMMA))


def best_commands(graph: Graph, reward: Callable[[StepResult], float]) -> dict[Hashable, set[int]]:
    """The commands of the best policies in each state, by value iteration."""
    values = dict.fromkeys(graph, 0.0)

    def worth(step: tuple[StepResult, Hashable | None]) -> float:
        result, following = step
        return reward(result) + (0.0 if following is None else GAMMA * values[following])

    change = 1.0
    while change > 1e-10:
        change = 0.0
        for key, steps in graph.items():
            value = max(map(worth, steps))
            change, values[key] = max(change, abs(value - values[key])), value
    return {
        key: {number for number, step in enumerate(steps) if worth(step) > values[key] - 1e-7}
        for key, steps in graph.items()
    }


@pytest.mark.parametrize(
    "name",
    ["into one of two cabinets", "an egg that fits nowhere", "the nearer of two counters"],
)
@pytest.mark.parametrize("weight", [0.5, 20.0])
def test_the_potential_leaves_every_best_policy_as_it_is(name: str, weight: float) -> None:
    """Enumerated: all states of a game, all best commands in each; dead ends too."""
    graph = graph_of(name)
    assert len(graph) > 30
    plain = best_commands(graph, lambda result: result.reward)
    shaped = best_commands(graph, lambda result: result.reward + weight * result.info["shaping"]["potential"])
    assert shaped == plain
    assert any(len(best) < len(graph[key]) for key, best in plain.items())


def test_terms_that_are_no_potential_do_change_it() -> None:
    """The same enumeration sees where the discount of training is not that of the potential."""
    name = "the nearer of two counters"
    graph = explore(begin(room_data(name), max_steps=1000, shaping=["potential"], shaping_gamma=0.2))
    plain = best_commands(graph, lambda result: result.reward)
    assert best_commands(graph, lambda result: result.reward + 20 * result.info["shaping"]["potential"]) != plain


def test_the_potential_is_what_the_oracle_says_along_any_way() -> None:
    data = room_data("two of three, two behind one door")
    game, gamma = parse_game(data), 0.9
    env = begin(data, shaping=["potential"], shaping_gamma=gamma)
    state = game.start()
    scale = remaining(state)
    assert scale
    env.expert_action()  # asking changes nothing
    way = ["look", "go to sinkbasin 1", "fly", "go to cabinet 1", "open cabinet 1", "close cabinet 1", "open cabinet 1"]
    for command, result in zip(way, play(env, *way), strict=True):
        before = potential(remaining(state), scale)
        state.step(command)
        expected = gamma * potential(remaining(state), scale) - before
        assert result.info["shaping"]["potential"] == pytest.approx(expected)


def test_a_win_sums_to_one_and_nothing_else_does() -> None:
    data = room_data("the nearer of two counters")
    env = begin(data, shaping=["potential"])
    results = play(env, "go to countertop 1", "look", "fly") + expert_plays(env)
    assert results[-1].terminated
    assert sum(terms(results, "potential")) == pytest.approx(1.0)
    cut = begin(data, max_steps=3, shaping=["potential"])
    results = expert_plays(cut)
    assert results[-1].truncated
    assert results[-1].reward == 0
    assert 0 < sum(terms(results, "potential")) < 1


def test_a_dead_end_has_the_lowest_potential() -> None:
    env = begin(room_data("an egg that fits nowhere"), shaping=["potential"])
    results = play(env, "go to cabinet 1", "open cabinet 1", "take egg 2 from cabinet 1", "look")
    if not results[2].valid:
        results = play(env, "take egg 1 from cabinet 1", "look")
    assert env.expert_action() is None
    assert terms(results, "potential")[-2] < -0.5
    assert terms(results, "potential")[-1] == 0.0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("the nearer of two counters", ["found", "took", "treated", "placed"]),
        ("two lamps and two mugs", ["found", "took", "lit"]),
        ("into one of two cabinets", ["found", "took", "placed"]),
        ("two of three", ["found", "took", "placed"]),
    ],
)
def test_each_subgoal_counts_once_and_by_name(name: str, expected: list[str]) -> None:
    results = expert_plays(begin(room_data(name), shaping=["subgoals"]))
    named = [names for result in results if (names := result.info.get("subgoals"))]
    assert list(itertools.chain(*named)) == expected
    assert sum(terms(results, "subgoals")) == pytest.approx(1.0)
    for result in results:
        assert result.info["shaping"]["subgoals"] == len(result.info.get("subgoals", ())) / len(expected)


def test_a_subgoal_reached_again_counts_no_more() -> None:
    env = begin(room_data("two of three"), shaping=["subgoals"])
    take, put = "take apple 1 from countertop 1", "move apple 1 to countertop 1"
    results = play(env, "go to countertop 1", *(take, put) * 2)
    if not results[1].valid:
        results = play(env, *(take.replace("1 from", "3 from"), put.replace("1 to", "3 to")) * 2)
    reached = [name for result in results for name in result.info.get("subgoals", ())]
    assert reached.count("took") <= 1
    assert terms(results, "subgoals")[-2:] == [0.0, 0.0]


def test_what_holds_at_the_start_is_no_subgoal_reached() -> None:
    results = expert_plays(begin(room_data("one of two is there already"), shaping=["subgoals"]))
    assert results[-1].terminated
    assert [name for result in results for name in result.info.get("subgoals", ())] == ["found", "took"]
    assert sum(terms(results, "subgoals")) == pytest.approx(2 / 3)


def test_costs_count_steps_and_invalid_ones() -> None:
    env = begin(room_data("two of three"), shaping=["step_cost", "invalid_cost"])
    results = play(env, "look", "fly", "inventory")
    assert terms(results, "step_cost") == [-1.0] * 3
    assert terms(results, "invalid_cost") == [0.0, -1.0, 0.0]
    assert [set(result.info) for result in results] == [{"shaping"}] * 3


def test_it_is_off_by_default_and_changes_nothing_else() -> None:
    """Neither the reward nor a word of what the agent sees."""
    data = room_data("the nearer of two counters")
    plain, shaped = begin(data), begin(data, shaping=list(SHAPING_TERMS))
    while (action := plain.expert_action()) is not None:
        left, right = plain.step(action), shaped.step(action)
        assert dict(left.info) == {}
        assert set(right.info["shaping"]) == set(SHAPING_TERMS)
        assert (left.observation, left.reward, left.terminated) == (right.observation, right.reward, right.terminated)
        assert json.loads(json.dumps(right.info)) == right.info


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"shaping": "potential"}, "list of terms"),
        ({"shaping": ["charm"]}, "list of terms"),
        ({"shaping": [["potential"]]}, "list of terms"),
        ({"shaping": ["potential", "potential"]}, "twice"),
        ({"shaping": ["potential"], "shaping_gamma": 0}, "shaping_gamma"),
        ({"shaping": ["potential"], "shaping_gamma": 1.5}, "shaping_gamma"),
        ({"shaping": ["potential"], "shaping_gamma": True}, "shaping_gamma"),
        ({"shaping": ["potential"], "shaping_gamma": "1"}, "shaping_gamma"),
        ({"shaping_gamma": float("nan")}, "shaping_gamma"),
    ],
)
def test_a_wrong_shaping_is_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidOption, match=why):
        begin(room_data("two of three"), **options)


def test_evaluation_tasks_tell_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(DATA_DIR_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    family = AlfworldFamily(ALFWORLD)
    for split in family.splits():
        task = family.sample(split.name, 3)
        env = family.make()
        if split.role == "train":
            env.reset(task, options={"shaping": ["subgoals"]})
            continue
        for term in SHAPING_TERMS:
            with pytest.raises(InvalidOption, match="evaluation split"):
                env.reset(task, options={"shaping": [term]})
        env.reset(task, options={"shaping": [], "shaping_gamma": 0.9})
    assert {split.role for split in family.splits()} == {"train", "evaluation"}
    family.close()


def test_a_goal_of_no_task_type_has_costs_alone() -> None:
    data = dict(room_data("two of three"))
    head, _, _ = data["pddl_problem"].partition("(:goal")
    data["pddl_problem"] = head + "(:goal (exists (?o - object) (and (objectType ?o AppleType) (holds agent1 ?o)))))"
    game: Game = parse_game(data)
    assert not game.initial.won
    for term in ("potential", "subgoals"):
        with pytest.raises(InvalidOption, match="no task type"):
            begin(data, shaping=[term])
    assert terms(play(begin(data, shaping=["step_cost"]), "look"), "step_cost") == [-1.0]
