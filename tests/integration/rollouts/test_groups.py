"""Groups whose members fail by infrastructure: played again up to a bound, else marked; every attempt stays stored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from rollout_doubles import WatchedEngine

from envs.client import EnvClient
from envs.errors import BackendUnavailable, InvalidOption, UnknownPolicy
from envs.types import EpisodeStatus
from rollout_server.constraints import Constrain
from rollout_server.engines.base import GenerationRequest
from rollout_server.engines.scripted import ScriptedEngine
from rollout_server.policy import PolicyRegistry
from rollout_server.runner import RolloutRunner
from rollout_server.types import Completion, Episode, PolicyVersion, RolloutRequest, SamplingParams, TaskRef

FAILED = EpisodeStatus.INFRASTRUCTURE_ERROR
ROOM = 1_000_000


def house(size: int, **changes: object) -> RolloutRequest:
    task = TaskRef("alfworld", split="generated", sample_seed=1)
    return RolloutRequest((task,), group_size=size, max_turns=4, max_episode_tokens=ROOM, **changes)  # type: ignore[arg-type]


class Shelf:
    """A store that keeps episodes in a list."""

    def __init__(self) -> None:
        self.episodes: list[Episode] = []

    def add(self, episode: Episode) -> None:
        self.episodes.append(episode)


class Flaky(ScriptedEngine):
    """Dies at some of its requests, and lives on when it is started again, unless it is past help."""

    def __init__(self, *dies_at: int, past_help: bool = False) -> None:
        super().__init__("random")
        self._dies_at, self._past_help = dies_at, past_help
        self.count = self.starts = 0

    async def start(self) -> None:
        self.starts += 1
        if self._past_help:
            raise BackendUnavailable("no memory is left")

    async def generate(self, request: GenerationRequest) -> Completion:
        self.count += 1
        if self.count - 1 in self._dies_at:
            raise BackendUnavailable("the engine's process has died")
        return await super().generate(request)


async def test_a_failed_member_is_played_again_as_if_nothing_had_happened(houses: EnvClient) -> None:
    (whole,) = await RolloutRunner(houses, ScriptedEngine("random"), max_concurrency=1).run(house(2))
    shelf, engine, seen = Shelf(), Flaky(5), list[Episode]()
    runner = RolloutRunner(houses, engine, store=shelf, max_concurrency=1)
    (group,) = await runner.run(house(2), on_episode=seen.append)
    assert (group.refilled, group.failed, group.incomplete, engine.starts) == (1, 0, False, 1)
    assert [e.completion_ids for e in group.episodes] == [e.completion_ids for e in whole.episodes]
    # Every attempt is stored; the group and who watches it see the last of each member.
    (failed,) = (e for e in shelf.episodes if e.status is FAILED)
    assert sorted(e.id for e in seen) == sorted(e.id for e in group.episodes)
    assert len(shelf.episodes) == 3
    assert failed.group_id == group.id
    (again,) = (e for e in group.episodes if "attempt" in e.metadata)
    assert again.metadata["attempt"] == 1
    assert again.metadata["replaces"] == [failed.id]


@pytest.mark.parametrize(("refill", "attempts"), [(0, 2), (1, 4), (5, 4)])
async def test_what_fails_for_good_is_given_up_within_the_groups_bound_and_marked(
    houses: EnvClient, refill: int, attempts: int
) -> None:
    shelf = Shelf()
    runner = RolloutRunner(houses, Flaky(*range(100)), store=shelf)
    (group,) = await runner.run(house(2, refill=refill))
    assert [e.status for e in group.episodes] == [FAILED, FAILED]
    assert (group.incomplete, group.failed, group.refilled) == (True, 2, attempts - 2)
    assert len(shelf.episodes) == attempts


async def test_an_engine_that_does_not_come_back_leaves_the_failure_as_it_was(houses: EnvClient) -> None:
    (group,) = await RolloutRunner(houses, Flaky(1, past_help=True)).run(house(1))
    assert [e.error for e in group.episodes] == ["the engine's process has died"]
    assert (group.incomplete, group.refilled) == (True, 0)


class Restarted(WatchedEngine):
    """Loses its oldest adapter in the middle of its first episode, as a server does that was started again."""

    async def generate(self, request: GenerationRequest) -> Completion:
        if len(self.requests) >= 2 and request.policy.name == "v1":
            raise UnknownPolicy("no policy 'v1' is loaded")
        return await super().generate(request)


class TwoVersions(PolicyRegistry):
    """Has v1 and v2, the current one, without any file of theirs."""

    def get(self, name: str | None = None) -> PolicyVersion:
        return PolicyVersion(name or "v2", 1 if name == "v1" else 2, f"/adapters/{name or 'v2'}")

    @asynccontextmanager
    async def acquire(self, name: str | None = None) -> AsyncIterator[PolicyVersion]:
        yield self.get(name)


@pytest.mark.parametrize("mixed", [True, False])
async def test_an_episode_whose_version_is_lost_goes_on_with_the_current_one_or_fails(
    houses: EnvClient, mixed: bool
) -> None:
    engine = Restarted("expert")
    runner = RolloutRunner(houses, engine, policies=TwoVersions(engine))
    (group,) = await runner.run(house(1, policy="v1", mixed=mixed, refill=0))
    (episode,) = group.episodes
    assert (episode.policy, episode.mixed, episode.status is FAILED) == ("v1", mixed, not mixed)
    assert {turn.policy for turn in episode.turns} == ({"v1", "v2"} if mixed else {"v1"})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"refill": -1}, "refill is -1"),
        ({"max_turn_s": 0.0}, "max_turn_s is 0.0"),
        ({"max_episode_s": -1.0}, "max_episode_s is -1.0"),
        ({"max_invalid_turns": 0}, "max_invalid_turns is 0"),
        ({"constrain": Constrain.ADMISSIBLE}, "scripted cannot constrain"),
        ({"constrain": Constrain.TOOLS, "protocol": "agentbench_classic"}, "has no tools"),
    ],
)
async def test_a_wrong_bound_is_refused_before_anything_is_played(
    houses: EnvClient, changes: dict[str, object], named: str
) -> None:
    engine = Flaky()
    with pytest.raises(InvalidOption, match=named):
        await RolloutRunner(houses, engine).run(house(1, sampling=SamplingParams(max_tokens=64), **changes))
    assert engine.count == 0
