"""Every ending of an episode is reached, under its own name: budgets, rules, lost versions, constraints."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from rollout_doubles import HangingEngine, SayingEngine

from envs.client import EnvClient
from envs.errors import InvalidOption, UnknownPolicy
from envs.types import Action, EpisodeStatus
from rollout_server.agent_loop import play_episode
from rollout_server.constraints import Constrain
from rollout_server.engines.base import GenerationRequest
from rollout_server.engines.scripted import ScriptedEngine
from rollout_server.protocols.agentbench_fc import AgentBenchFC
from rollout_server.serialize import episode_from_json, episode_to_json
from rollout_server.types import Completion, Episode, FinishReason, PolicyVersion, RepetitionRule, SamplingParams


def go(text: str) -> str:
    return AgentBenchFC().render_action(None, Action("take_action", {"action": text}))  # type: ignore[arg-type]


class Stopping(HangingEngine):
    """Keeps the time as vLLM does: when it is over, it answers what it has sampled, here ``kept`` tokens."""

    keeps_time = True

    def __init__(self, turns: int, kept: int) -> None:
        super().__init__(turns)
        self._kept = kept

    async def generate(self, request: GenerationRequest) -> Completion:
        assert request.script is not None
        if request.script.turn < self._turns:
            return await super().generate(request)
        assert request.time_limit_s is not None
        ids = tuple(self._chat.turn("I think very slowly"))[: self._kept]
        return Completion(ids, (-0.5,) * len(ids), FinishReason.TIME, request.policy.name)


async def test_a_turn_that_takes_too_long_ends_the_episode_without_a_result(houses, plan) -> None:
    engine = HangingEngine(turns=2)
    episode = await play_episode(houses, engine, await plan(houses, 3, max_turn_s=0.2))
    assert (episode.status, episode.reward, len(episode.turns)) == (EpisodeStatus.TRUNCATED_TIME, None, 2)
    assert episode.error == "turn 2 was not sampled in time"
    assert engine.hangs.is_set()


async def test_what_was_sampled_in_time_is_recorded_and_not_acted_on(houses, plan) -> None:
    episode = await play_episode(houses, Stopping(turns=2, kept=5), await plan(houses, 3, max_turn_s=30.0))
    assert (episode.status, episode.reward, len(episode.turns)) == (EpisodeStatus.TRUNCATED_TIME, None, 3)
    last = episode.turns[-1]
    assert (last.text, last.finish_reason, last.steps) == ("I thi", FinishReason.TIME, ())
    assert episode.mask[-5:] == (1,) * 5
    assert episode.metadata["invalid_turns"] == []
    nothing = await play_episode(houses, Stopping(turns=2, kept=0), await plan(houses, 3, max_turn_s=30.0))
    assert (nothing.status, len(nothing.turns)) == (EpisodeStatus.TRUNCATED_TIME, 2)


async def test_an_episode_that_takes_too_long(houses, plan) -> None:
    class Slow(ScriptedEngine):
        async def generate(self, request: GenerationRequest) -> Completion:
            await asyncio.sleep(0.05)
            return await super().generate(request)

    episode = await play_episode(houses, Slow("random"), await plan(houses, 3, max_episode_s=0.4, max_turns=1000))
    assert episode.status is EpisodeStatus.TRUNCATED_TIME
    assert 0 < len(episode.turns) < 9


async def test_an_engine_that_times_out_by_itself_is_not_the_budget(houses, plan) -> None:
    class Timing(ScriptedEngine):
        async def generate(self, request: GenerationRequest) -> Completion:
            raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own"):
        await play_episode(houses, Timing("noop"), await plan(houses, max_turn_s=10.0))


@pytest.mark.parametrize(
    ("rule", "turns"),
    [(RepetitionRule(times=2), 5), (RepetitionRule(times=2, longest_cycle=2), 4), (None, 6)],
)
async def test_going_round_in_circles(houses, plan, rule: RepetitionRule | None, turns: int) -> None:
    said = ["look", "inventory", "look", "inventory", "inventory", "look"]
    engine = SayingEngine(lambda turn: go(said[turn]))
    episode = await play_episode(houses, engine, await plan(houses, max_turns=6, repetition=rule))
    expected = EpisodeStatus.TRUNCATED_TURNS if rule is None else EpisodeStatus.REPETITION
    assert (episode.status, episode.reward, len(episode.turns)) == (expected, 0.0, turns)
    assert len(episode.steps) == turns


async def test_turns_without_an_action_repeat_by_their_words(houses, plan) -> None:
    engine = SayingEngine(lambda turn: f"Hm. {turn // 2}")
    episode = await play_episode(houses, engine, await plan(houses, repetition=RepetitionRule(times=2)))
    assert (episode.status, len(episode.turns)) == (EpisodeStatus.REPETITION, 2)


async def test_a_run_of_invalid_turns(houses, plan) -> None:
    said = ["hm", go("look"), "hm", "hm!", go("look")]
    engine = SayingEngine(lambda turn: said[turn])
    episode = await play_episode(houses, engine, await plan(houses, max_turns=5, max_invalid_turns=2))
    assert (episode.status, episode.reward, len(episode.turns)) == (EpisodeStatus.INVALID_ACTION, 0.0, 4)
    free = await play_episode(houses, engine, await plan(houses, max_turns=5))
    assert free.status is EpisodeStatus.TRUNCATED_TURNS


async def test_a_solved_task_is_solved_whatever_rule_would_end_it(houses, plan) -> None:
    todo = await plan(houses, 3, repetition=RepetitionRule(times=2), max_invalid_turns=1)
    assert (await play_episode(houses, ScriptedEngine("expert"), todo)).success


class Forgetting(ScriptedEngine):
    """Loses a version at a turn, for good."""

    def __init__(self, lost: str, at: int) -> None:
        super().__init__("expert")
        self._lost, self._at = lost, at

    async def generate(self, request: GenerationRequest) -> Completion:
        assert request.script is not None
        if request.script.turn >= self._at and request.policy.name == self._lost:
            raise UnknownPolicy(f"no policy {self._lost!r} is loaded")
        return await super().generate(request)


def current(name: str, held: list[str]) -> Callable[[], object]:
    @asynccontextmanager
    async def acquire():
        held.append(name)
        yield PolicyVersion(name, 2, "/adapters/2")
        held.remove(name)

    return acquire


async def test_a_lost_version_is_replaced_by_the_current_one_and_each_token_says_which(houses, plan) -> None:
    held: list[str] = []
    todo = await plan(houses, 3, policy=PolicyVersion("v1", 1, "/adapters/1"))
    episode = await play_episode(houses, Forgetting("v1", at=2), todo, repin=current("v2", held))
    assert episode.success
    assert episode.mixed
    assert episode.policy == "v1"
    assert [turn.policy for turn in episode.turns[:3]] == ["v1", "v1", "v2"]
    versions = [v for v in episode.policy_versions if v]
    assert versions == [turn.policy for turn in episode.turns for _ in turn.completion_ids]
    assert held == [], "the version is let go with the episode"


@pytest.mark.parametrize("repin", [None, current("v1", [])])
async def test_without_another_version_that_is_no_result(houses, plan, repin) -> None:
    todo = await plan(houses, 3, policy=PolicyVersion("v1", 1, "/adapters/1"))
    episode = await play_episode(houses, Forgetting("v1", at=2), todo, repin=repin)
    assert (episode.status, episode.reward, len(episode.turns)) == (EpisodeStatus.INFRASTRUCTURE_ERROR, None, 2)
    assert "lost the policy 'v1'" in episode.error
    assert not episode.mixed


class Held(ScriptedEngine):
    """Notes the constraints that it is given, and says what the script says: one of the admissible commands."""

    constrains = True

    def __init__(self) -> None:
        super().__init__("random")
        self.seen: list[object] = []

    async def generate(self, request: GenerationRequest) -> Completion:
        self.seen.append(request.constraint)
        return await super().generate(request)


@pytest.mark.parametrize("protocol", ["agentbench_fc", "agentbench_classic"])
async def test_each_turn_is_held_to_what_is_admissible_then(houses: EnvClient, plan, protocol: str) -> None:
    engine = Held()
    todo = await plan(houses, 3, protocol=protocol, max_turns=3, constrain=Constrain.ADMISSIBLE)
    episode = await play_episode(houses, engine, todo)
    assert episode.constrained
    views = [episode.initial, *(step.observation for step in episode.steps)]
    for turn, given, view in zip(episode.turns, engine.seen, views, strict=False):
        assert turn.constraint is not None
        assert turn.constraint.choices == len(view.admissible_actions)
        assert turn.constraint.digest == given.digest  # type: ignore[attr-defined]
        for action in view.admissible_actions:
            written = todo.protocol.render_action(todo.env, Action("take_action", {"action": action}))
            assert written.replace('"', '\\"').replace("\n", "\\n") in given.grammar  # type: ignore[attr-defined]
    assert episode_from_json(episode_to_json(episode)) == episode
    free: Episode = await play_episode(houses, engine, replace(todo, constrain=Constrain.NONE))
    assert not free.constrained
    assert engine.seen[-1] is None


async def test_what_cannot_be_constrained_is_refused_before_anything_is_played(houses, plan) -> None:
    todo = await plan(houses, 3, constrain=Constrain.ADMISSIBLE, sampling=SamplingParams(max_tokens=8))
    with pytest.raises(InvalidOption, match="scripted cannot constrain"):
        await play_episode(houses, ScriptedEngine("noop"), todo)
    classic = await plan(houses, 3, protocol="agentbench_classic", constrain=Constrain.TOOLS)
    with pytest.raises(InvalidOption, match="has no tools"):
        await play_episode(houses, Held(), classic)
    with pytest.raises(InvalidOption, match="lists no admissible commands"):
        await play_episode(houses, Held(), replace(todo, env=replace(todo.env, name="dbbench")))
