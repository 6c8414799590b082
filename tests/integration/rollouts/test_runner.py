"""Whole requests: groups, policies, the store, cancellation; scripted policies on both environments and protocols."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from adapter_folders import write_adapter
from rollout_doubles import HangingEngine, WatchedEngine

from envs.client import EnvClient
from envs.errors import (
    BackendUnavailable,
    ConfigError,
    InvalidOption,
    TaskDataError,
    UnknownEnv,
    UnknownPolicy,
    UnknownSplit,
    UnknownTask,
)
from envs.types import EpisodeStatus
from rollout_server.engines.base import GenerationRequest
from rollout_server.engines.scripted import ScriptedEngine
from rollout_server.local import LocalRollouts
from rollout_server.policy import PolicyRegistry
from rollout_server.runner import RolloutRunner
from rollout_server.service import RolloutService
from rollout_server.types import Completion, Episode, RolloutRequest, SamplingParams, TaskRef

PROTOCOLS = ("agentbench_fc", "agentbench_classic")
KIND = "pick_clean_then_place_in_recep"
ROOM = 1_000_000


def house(number: int) -> TaskRef:
    return TaskRef("alfworld", split="generated", sample_seed=number)


class Shelf:
    """A store that keeps episodes in a list, or fails at one."""

    def __init__(self, *, fails_at: int = -1) -> None:
        self.episodes: list[Episode] = []
        self._fails_at = fails_at

    def add(self, episode: Episode) -> None:
        if len(self.episodes) == self._fails_at:
            raise BackendUnavailable("the disk is full")
        self.episodes.append(episode)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_the_expert_solves_households_and_doing_nothing_solves_none(houses: EnvClient, protocol: str) -> None:
    request = RolloutRequest(tuple(map(house, range(24))), protocol=protocol, max_turns=50, max_episode_tokens=ROOM)
    for kind, reward in (("expert", 1.0), ("noop", 0.0)):
        groups = await RolloutRunner(houses, ScriptedEngine(kind), max_concurrency=8).run(request)
        episodes = [episode for group in groups for episode in group.episodes]
        assert [episode.reward for episode in episodes] == [reward] * 24
    assert len({episode.task.type for episode in episodes}) == 6


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_the_gold_solves_dev_and_doing_nothing_solves_none(everything: EnvClient, protocol: str) -> None:
    tasks = tuple(TaskRef("dbbench", task_id=f"dev/{number}") for number in range(60))
    request = RolloutRequest(tasks, protocol=protocol, max_episode_tokens=ROOM)
    for kind, reward in (("gold", 1.0), ("noop", 0.0)):
        groups = await RolloutRunner(everything, ScriptedEngine(kind)).run(request)
        episodes = [group.episodes[0] for group in groups]
        assert Counter(episode.reward for episode in episodes) == {reward: 60}
        assert {episode.status for episode in episodes} == {EpisodeStatus.COMPLETED}
        assert {episode.options["rules"] for episode in episodes} == {protocol.removeprefix("agentbench_")}


async def test_a_change_without_an_answer_is_judged_in_the_classic_protocol_only(everything: EnvClient) -> None:
    change = TaskRef("dbbench", task_id="generated/2")
    for protocol, reward in zip(PROTOCOLS, (0.0, 1.0), strict=True):
        request = RolloutRequest((change,), protocol=protocol, max_turns=1, max_episode_tokens=ROOM)
        ((episode,),) = [
            group.episodes for group in await RolloutRunner(everything, ScriptedEngine("gold")).run(request)
        ]
        assert (episode.status, episode.reward) == (EpisodeStatus.TRUNCATED_TURNS, reward)
        assert [step.action.name for step in episode.steps][1:] == ["commit_final_answer"] * int(reward)


async def test_groups_come_in_order_and_share_their_start(houses: EnvClient) -> None:
    shelf, seen = Shelf(), []
    runner = RolloutRunner(houses, ScriptedEngine("random"), store=shelf, max_concurrency=3)
    request = RolloutRequest(
        (house(5), house(6), house(5)), group_size=2, max_turns=6, max_episode_tokens=ROOM, metadata={"step": 1}
    )
    groups = await runner.run(request, on_episode=seen.append)
    assert [group.task.id for group in groups][0::2] == [groups[0].task.id] * 2
    assert groups[0].id != groups[2].id
    for group in groups:
        assert {e.group_id for e in group.episodes} == {group.id}
        assert [e.task for e in group.episodes] == [group.task] * 2
        assert len({(e.initial.text, e.prompt_ids) for e in group.episodes}) == 1
    # A task named twice is sampled anew, not played twice alike.
    assert len({e.completion_ids for group in (groups[0], groups[2]) for e in group.episodes}) == 4
    played = {e.id for group in groups for e in group.episodes}
    assert {e.id for e in shelf.episodes} == {e.id for e in seen} == played
    assert len(played) == 6
    assert all(e.metadata["step"] == 1 for e in seen)
    again = await runner.run(request)
    assert [e.completion_ids for g in again for e in g.episodes] == [
        e.completion_ids for g in groups for e in g.episodes
    ]


async def test_no_more_episodes_are_live_than_allowed(houses: EnvClient) -> None:
    class Counting(ScriptedEngine):
        live = most = 0

        async def generate(self, request: GenerationRequest) -> Completion:
            self.live += 1
            self.most = max(self.most, self.live)
            for _ in range(100):  # let every other episode get as far as it can
                await asyncio.sleep(0)
            self.live -= 1
            return await super().generate(request)

    engine = Counting("random")
    runner = RolloutRunner(houses, engine, max_concurrency=2)
    await runner.run(RolloutRequest((house(1), house(2)), group_size=4, max_turns=3, max_episode_tokens=ROOM))
    assert engine.most == 2


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"tasks": (TaskRef("alfworld", task_id="generated/nothing"),)}, UnknownTask),
        ({"tasks": (house(0), TaskRef("alfworld", split="nowhere"))}, UnknownSplit),
        ({"tasks": (TaskRef("webshop", task_id="1"),)}, UnknownEnv),
        ({"policy": "v9"}, UnknownPolicy),
        ({"protocol": "react"}, InvalidOption),
        ({"group_size": 0}, InvalidOption),
        ({"max_turns": 0}, InvalidOption),
        ({"seed": -1}, InvalidOption),
        ({"sampling": SamplingParams(max_tokens=0)}, InvalidOption),
        ({"sampling": SamplingParams(temperature=float("nan"))}, InvalidOption),
        ({"sampling": SamplingParams(temperature=-1.0)}, InvalidOption),
        ({"sampling": SamplingParams(top_p=1.5)}, InvalidOption),
        ({"sampling": SamplingParams(repetition_penalty=0.0)}, InvalidOption),
        ({"max_episode_tokens": 512}, InvalidOption),
        ({"tasks": (TaskRef("alfworld", split="generated"),), "options": {"gravity": 0}}, InvalidOption),
    ],
)
async def test_a_wrong_request_is_refused_before_anything_is_played(
    houses: EnvClient, change: dict[str, Any], error: type[Exception]
) -> None:
    engine = WatchedEngine("expert")
    with pytest.raises(error):
        await RolloutRunner(houses, engine).run(RolloutRequest(**{"tasks": (house(0),), **change}))
    assert engine.requests == []


async def test_an_episode_longer_than_the_engines_context_is_refused_before_anything_is_played(
    houses: EnvClient,
) -> None:
    engine = WatchedEngine("noop")
    engine.max_model_len = 8192  # type: ignore[attr-defined]
    runner = RolloutRunner(houses, engine)
    with pytest.raises(InvalidOption, match="context holds 8192") as refused:
        await runner.run(RolloutRequest((house(0),), max_episode_tokens=8193))
    assert "at most 8192" in refused.value.hint
    assert engine.requests == []
    ((episode,),) = [g.episodes for g in await runner.run(RolloutRequest((house(0),), max_episode_tokens=8192))]
    assert episode.status.scored
    engine.max_model_len = 0  # type: ignore[attr-defined] # a server that does not tell
    ((episode,),) = [g.episodes for g in await runner.run(RolloutRequest((house(0),), max_episode_tokens=ROOM))]
    assert episode.status.scored


async def test_a_number_of_slots_below_one_is_refused(houses: EnvClient) -> None:
    with pytest.raises(InvalidOption, match="max_concurrency"):
        RolloutRunner(houses, ScriptedEngine(), max_concurrency=0)


async def test_cancelling_a_request_ends_every_episode_and_keeps_them_where_asked(houses: EnvClient) -> None:
    engine, shelf = HangingEngine(turns=1), Shelf()
    runner = RolloutRunner(houses, engine, store=shelf, max_concurrency=4, record_cancelled=True)
    playing = asyncio.create_task(runner.run(RolloutRequest((house(1),), group_size=6, max_episode_tokens=ROOM)))
    await engine.hangs.wait()
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playing
    assert {episode.status for episode in shelf.episodes} == {EpisodeStatus.CANCELLED}
    # All places are free again, here and on the server (which has eight).
    done = await RolloutRunner(houses, ScriptedEngine("noop"), max_concurrency=8).run(
        RolloutRequest((house(1),), group_size=8, max_episode_tokens=ROOM)
    )
    assert {episode.status for episode in done[0].episodes} == {EpisodeStatus.REPETITION}


async def test_a_store_that_fails_stops_the_request_with_its_own_error(houses: EnvClient) -> None:
    runner = RolloutRunner(houses, ScriptedEngine("noop"), store=Shelf(fails_at=1))
    with pytest.raises(BackendUnavailable, match="disk is full"):
        await runner.run(RolloutRequest((house(1),), group_size=4, max_episode_tokens=ROOM))


async def test_one_failed_episode_leaves_the_others_alone(houses: EnvClient) -> None:
    runner = RolloutRunner(houses, WatchedEngine("expert", fails_at=5), max_concurrency=1)
    # One at a time, so that the sixth turn belongs to one episode; the engine fails for ever after.
    (group,) = await runner.run(RolloutRequest((house(1),), group_size=2, max_turns=4, max_episode_tokens=ROOM))
    statuses = [episode.status for episode in group.episodes]
    assert statuses[-1] is EpisodeStatus.INFRASTRUCTURE_ERROR
    assert statuses[0] is not EpisodeStatus.INFRASTRUCTURE_ERROR


async def test_a_broken_task_is_the_callers_error(houses: EnvClient) -> None:
    class Broken(ScriptedEngine):
        async def generate(self, request: GenerationRequest) -> Completion:
            raise TaskDataError("broken")

    with pytest.raises(TaskDataError, match="broken"):
        await RolloutRunner(houses, Broken()).run(RolloutRequest((house(1), house(2)), max_episode_tokens=ROOM))


async def test_a_published_policy_is_current_and_an_episode_keeps_the_one_it_began_with(
    houses: EnvClient, tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "adapter")

    class Publishing(WatchedEngine):
        """Publishes four versions in the middle of its first episode."""

        service: LocalRollouts

        async def generate(self, request: GenerationRequest) -> Completion:
            if len(self.requests) == 1:
                for number in range(2, 6):
                    await self.service.publish_policy(f"v{number}", folder)
                held.append(sorted(self.loaded))
            return await super().generate(request)

    held: list[list[str]] = []
    engine = Publishing("expert")
    engine.service = service = LocalRollouts(houses, engine, max_concurrency=1)
    assert isinstance(service, RolloutService)
    await service.publish_policy("v1", folder)
    request = RolloutRequest((house(1),), group_size=2, max_turns=3, max_episode_tokens=ROOM)
    (group,) = await service.rollouts(request)
    assert [e.policy for e in group.episodes] == ["v1", "v5"]
    for episode in group.episodes:
        assert {v for v in episode.policy_versions if v} == {episode.policy}
    # While the first episode needed it, v1 stayed beside the three newest; then it went.
    assert held == [["v1", "v3", "v4", "v5"]]
    assert sorted(engine.loaded) == ["v3", "v4", "v5"]
    assert [p.name for p in await service.policies()] == ["base", "v3", "v4", "v5"]
    (named,) = await service.rollouts(RolloutRequest((house(1),), policy="v3", max_turns=1, max_episode_tokens=ROOM))
    assert named.episodes[0].policy == "v3"
    with pytest.raises(UnknownPolicy):
        await service.rollouts(RolloutRequest((house(1),), policy="v1"))
    await service.close()


async def test_a_script_takes_no_adapter_and_no_unknown_kind(houses: EnvClient, tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match="takes no adapters"):
        await PolicyRegistry(ScriptedEngine()).publish("v1", write_adapter(tmp_path / "a"))
    with pytest.raises(ConfigError, match="no script is called 'clever'"):
        ScriptedEngine("clever")  # type: ignore[arg-type]
