from __future__ import annotations

import random
import threading
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alfworld_games import generated_source

from envs.alfworld.engine import GameSource
from envs.alfworld.env import AlfworldEnv, Workshop
from envs.alfworld.explorer import Explorer
from envs.alfworld.family import AlfworldFamily
from envs.alfworld.native_engine import NativeEngine, NativeSession
from envs.alfworld.tasks import DATA_DIR_VARIABLE
from envs.base import EnvFamily, Environment, Forkable, HasExperts
from envs.errors import ConfigError, EpisodeOver, InvalidAction, InvalidOption, TaskDataError
from envs.registry import ALFWORLD, default_registry
from envs.types import Action, StepResult, Task


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[AlfworldFamily]:
    monkeypatch.delenv(DATA_DIR_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    found = AlfworldFamily(ALFWORLD)
    yield found
    found.close()


def act(env: AlfworldEnv, command: str) -> StepResult:
    return env.step(Action("take_action", {"action": command}))


def test_it_keeps_the_seams(family: AlfworldFamily) -> None:
    made = default_registry().make("alfworld-v1")
    assert isinstance(made, EnvFamily)
    env = made.make()
    assert isinstance(env, Environment)
    assert isinstance(env, Forkable)
    assert isinstance(env, HasExperts)
    assert env.experts == ("oracle", "explorer")
    made.close()
    made.close()


def test_the_expert_wins_one_and_only_at_the_end(family: AlfworldFamily) -> None:
    for task in family.tasks("generated_easy", limit=6).tasks:
        env = family.make()
        env.reset(task)
        results = []
        while (action := env.expert_action()) is not None:
            results.append(env.step(action))
        assert [result.reward for result in results] == [0.0] * (len(results) - 1) + [1.0]
        assert [result.terminated for result in results] == [False] * (len(results) - 1) + [True]
        assert not any(result.truncated for result in results)
        assert all(result.valid for result in results)
        with pytest.raises(EpisodeOver):
            act(env, "look")
        assert env.expert_action() is None


def test_doing_nothing_scores_nothing_and_is_cut(family: AlfworldFamily) -> None:
    env = family.make()
    env.reset(family.task("generated_easy/pick_and_place_simple/1"), options={"max_steps": 3})
    results = [act(env, "look") for _ in range(3)]
    assert [result.truncated for result in results] == [False, False, True]
    assert not any(result.terminated or result.reward for result in results)
    with pytest.raises(EpisodeOver):
        act(env, "look")


def test_a_win_with_the_last_step_is_no_cut(family: AlfworldFamily) -> None:
    task = family.task("generated_easy/pick_and_place_simple/1")
    env = family.make()
    env.reset(task)
    steps = 0
    while (action := env.expert_action()) is not None:
        env.step(action)
        steps += 1
    env.reset(task, options={"max_steps": steps})
    while (action := env.expert_action()) is not None:
        result = env.step(action)
    assert (result.terminated, result.truncated, result.reward) == (True, False, 1.0)


def test_valid_is_false_exactly_where_nothing_happens(family: AlfworldFamily) -> None:
    env = family.make()
    first = env.reset(family.task("generated_easy/look_at_obj_in_light/2"))
    assert first.admissible_actions == tuple(sorted(first.admissible_actions))
    before = act(env, "look")
    bad = act(env, "fly to the moon")
    assert (bad.observation.text, bad.valid) == ("Nothing happens.", False)
    assert (bad.state_hash, bad.observation.admissible_actions) == (before.state_hash, first.admissible_actions)
    for place in range(5):
        offered = act(env, "look").observation.admissible_actions
        assert act(env, offered[place]).valid


@pytest.mark.parametrize(
    "action",
    [
        Action("execute_sql", {"action": "look"}),
        Action("take_action", {}),
        Action("take_action", {"command": "look"}),
        Action("take_action", {"action": "look", "why": "curious"}),
        Action("take_action", {"action": ["look"]}),
        Action("take_action", {"action": None}),
        Action("take_action", "look"),  # type: ignore[arg-type]
    ],
)
def test_a_misshapen_action_is_refused_and_changes_nothing(family: AlfworldFamily, action: Action) -> None:
    env = family.make()
    env.reset(family.task("generated_easy/look_at_obj_in_light/2"), options={"max_steps": 1})
    with pytest.raises(InvalidAction):
        env.step(action)
    assert act(env, "look").truncated  # the refused one was no step


@pytest.mark.parametrize(
    "options",
    [{"max_steps": 0}, {"max_steps": 1001}, {"max_steps": True}, {"max_steps": "5"}, {"engine": "unity"}, {"speed": 1}],
)
def test_a_wrong_option_is_refused(family: AlfworldFamily, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption):
        family.make().reset(family.task("generated_easy/look_at_obj_in_light/2"), options=options)


def test_a_step_needs_a_reset_and_no_close(family: AlfworldFamily) -> None:
    env = family.make()
    with pytest.raises(EpisodeOver, match="not begun"):
        act(env, "look")
    env.reset(family.task("generated_easy/look_at_obj_in_light/2"))
    env.close()
    env.close()
    with pytest.raises(EpisodeOver):
        act(env, "look")
    assert env.expert_action() is None


def test_a_task_of_another_content_is_refused(family: AlfworldFamily) -> None:
    task = family.task("generated_easy/look_at_obj_in_light/2")
    with pytest.raises(TaskDataError, match="content hash"):
        family.make().reset(replace(task, content_hash="0" * 64))


def test_the_expert_replans_when_the_agent_goes_its_own_way(family: AlfworldFamily) -> None:
    env = family.make()
    for task in family.tasks("generated_easy", limit=6).tasks:
        observation = env.reset(task)
        assert env.expert_action() is not None
        away = [command for command in observation.admissible_actions if command.startswith("go to")][-1]
        observation = act(env, away).observation
        for _ in range(3):
            observation = act(env, observation.admissible_actions[0]).observation
            act(env, "look around you")  # invalid: the way stays the same
        result = None
        while (action := env.expert_action()) is not None:
            result = env.step(action)
            assert result.valid
        assert result is not None
        assert result.reward == 1.0


def test_no_task_and_no_observation_shows_the_solution(family: AlfworldFamily) -> None:
    task = family.task("generated/pick_two_obj_and_place/5")
    env = family.make()
    first = env.reset(task)
    assert "walkthrough" not in repr(task) + repr(first)
    shown = {"difficulty", "floor_plan", "generator_version", "plan_length", "receptacles_to_search"}
    assert set(task.metadata) <= shown


def test_the_same_actions_give_the_same_episode_on_many_threads(family: AlfworldFamily) -> None:
    task = family.task("generated/pick_cool_then_place_in_recep/11")

    def play() -> list[StepResult]:
        env = family.make()
        env.reset(task, seed=3)
        results = []
        while (action := env.expert_action()) is not None:
            results += [act(env, "look"), env.step(action)]
        return results[:-1] + results[-1:]

    expected = play()
    found: list[list[StepResult]] = []
    threads = [threading.Thread(target=lambda: found.extend(play() for _ in range(10))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80
    assert all(results == expected for results in found)


def test_a_fork_goes_on_alone_and_as_the_original_would(family: AlfworldFamily) -> None:
    """Also where the expert was asked, near the step limit and with shaping terms."""
    options = {"max_steps": 12, "shaping": ["potential", "subgoals"]}
    for task in family.tasks("generated_easy", limit=4).tasks:
        env = family.make()
        env.reset(task, options=options)
        played: list[Action] = []
        for _ in range(3):
            action = env.expert_action()
            assert action is not None
            played.append(action)
            env.step(action)
        fork = env.fork()
        assert fork is not None
        assert fork.num_steps == env.num_steps == 3
        away = [act(fork, "look"), act(fork, "inventory"), act(fork, "go to nowhere")]
        assert [result.valid for result in away] == [True, True, False]
        assert env.num_steps == 3
        other = family.make()  # what the original would have done all alone
        other.reset(task, options=options)
        for action in played:
            other.step(action)
        while (expected := other.expert_action()) is not None:
            assert env.expert_action() == fork.expert_action() == expected
            first, second, third = (each.step(expected) for each in (other, env, fork))
            assert first == second
            assert (third.observation, third.reward, third.info) == (first.observation, first.reward, first.info)
        assert env.num_steps + 3 == fork.num_steps


def test_a_fork_has_the_step_limit_of_its_original(family: AlfworldFamily) -> None:
    env = family.make()
    env.reset(family.task("generated_easy/look_at_obj_in_light/2"), options={"max_steps": 3})
    act(env, "look")
    fork = env.fork()
    assert fork is not None
    assert [act(fork, "look").truncated for _ in range(2)] == [False, True]
    with pytest.raises(EpisodeOver):
        fork.fork()
    assert not act(env, "look").truncated
    with pytest.raises(EpisodeOver, match="not begun"):
        family.make().fork()


def test_an_unknown_expert_is_refused(family: AlfworldFamily) -> None:
    env = family.make()
    env.reset(family.task("generated_easy/look_at_obj_in_light/2"))
    assert env.expert_action("oracle") == env.expert_action()
    with pytest.raises(InvalidOption, match="gnome"):
        env.expert_action("gnome")


def test_the_explorer_reads_what_the_episode_has_told_and_no_more(family: AlfworldFamily) -> None:
    """One that reads along from the first observation chooses the same; nothing said in vain or at length stops it."""
    for task in family.tasks("generated", limit=3).tasks:
        env = family.make()
        reader = Explorer(env.reset(task).text)
        for number, command in enumerate(["look", "fly", "y" * 5000]):
            reader.observe(command if number < 2 else "", act(env, command).observation.text)
        result = None
        while (action := env.expert_action("explorer")) is not None:
            assert action.arguments["action"] == reader.choose()
            fork = env.fork()
            assert fork is not None
            assert fork.expert_action("explorer") == action
            result = env.step(action)
            reader.observe(reader.choose(), result.observation.text)
        assert result is not None
        assert result.reward == 1.0


class Sealed:
    """A session that keeps its state to itself, as TextWorld's does."""

    def __init__(self, session: NativeSession) -> None:
        self._session = session
        self.reset, self.step, self.admissible = session.reset, session.step, session.admissible
        self.state_hash, self.close = lambda: "", session.close

    @property
    def won(self) -> bool:
        return self._session.won


class SealedEngine(NativeEngine):
    def open(self, source: GameSource) -> Sealed:  # type: ignore[override]
        return Sealed(super().open(source))


def test_experts_and_shaping_need_no_state_of_the_engine(family: AlfworldFamily) -> None:
    """Another engine's episode is played along natively. It is forked by playing it again."""
    native, sealed = NativeEngine(), SealedEngine()
    source = generated_source(4)
    task = Task("alfworld", "generated/any/4", "generated", "", source.content_hash)
    envs = []
    for engine in (native, sealed):
        workshop = Workshop(
            ALFWORLD,
            find_game=lambda task: source,
            find_engine=lambda name, engine=engine: engine,  # type: ignore[misc]
            parse_game=native.game,
            engine="native",
        )
        envs.append(AlfworldEnv(workshop))
        envs[-1].reset(task, options={"shaping": ["potential", "subgoals"], "shaping_gamma": 0.9})
    one, other = envs
    assert other.fork() is None
    for command in ("look", "fly", "inventory"):
        assert act(one, command).info == act(other, command).info
    while (action := one.expert_action()) is not None:
        assert other.expert_action() == action
        assert other.expert_action("explorer") == one.expert_action("explorer")
        left, right = one.step(action), other.step(action)
        assert (left.observation, left.info) == (right.observation, right.info)
    assert other.expert_action() is None


def test_a_live_episode_is_small(family: AlfworldFamily) -> None:
    """50 steps with model-made commands of a megabyte; what many episodes of a game share is not counted."""
    env = family.make()
    env.reset(family.task("generated/pick_two_obj_and_place/5"), options={"max_steps": 200})
    rng = random.Random(0)
    observation = act(env, "look").observation
    for _ in range(50):  # the game's own share grows here
        observation = act(env, rng.choice(observation.admissible_actions)).observation
    first = env.fork()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    forks = [first.fork() for _ in range(200) if first is not None]
    for fork in forks:
        assert fork is not None
        act(fork, "x" * 1_000_000)
        act(fork, "look" + " " * 500_000)
    each = (tracemalloc.get_traced_memory()[0] - before) / len(forks)
    tracemalloc.stop()
    assert len(forks) == 200
    assert each < 4096


def test_readiness_says_how_to_get_the_official_games(family: AlfworldFamily) -> None:
    readiness = family.ready()
    assert readiness.ready
    assert DATA_DIR_VARIABLE in readiness.hint


def test_a_wrong_engine_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigError, match="unity"):
        AlfworldFamily(ALFWORLD, engine="unity")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, family: AlfworldFamily) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="textworld, alfworld, fast_downward") as caught:
        AlfworldFamily(ALFWORLD, engine="textworld")
    assert "envloop[alfworld]" in caught.value.hint


def test_a_native_service_does_not_step_another_process(family: AlfworldFamily) -> None:
    with pytest.raises(InvalidOption, match="without threads"):
        family.make().reset(family.task("generated_easy/look_at_obj_in_light/2"), options={"engine": "textworld"})


def test_official_games_are_won_through_the_environment(shared_dir: Path) -> None:
    family = AlfworldFamily(ALFWORLD, data_dir=shared_dir / "data" / "alfworld")
    tasks = family.tasks("valid_unseen").tasks
    rewards = []
    for task in tasks:
        env = family.make()
        assert env.reset(task).text.startswith(
            "-= Welcome to TextWorld, ALFRED! =-\n\nYou are in the middle of a room."
        )
        reward = 0.0
        while (action := env.expert_action()) is not None:
            reward = env.step(action).reward
        rewards.append(reward)
    assert sum(rewards) >= 0.95 * len(tasks) == 0.95 * 39
    family.close()
