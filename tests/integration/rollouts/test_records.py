"""Episodes of every ending, as a store keeps them and as a replay finds them again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rollout_doubles import WatchedEngine

from envs.client import EnvClient
from envs.config import EnvServerSettings
from envs.server.app import create_app
from envs.types import EpisodeStatus
from rollout_server.engines.scripted import ScriptedEngine
from rollout_server.episode_store import EpisodeStore
from rollout_server.local import LocalRollouts
from rollout_server.replay import verify
from rollout_server.types import RolloutRequest, TaskRef

ROOM = 1_000_000
HOUSE = TaskRef("alfworld", split="generated", sample_seed=1, type="pick_clean_then_place_in_recep")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EpisodeStore]:
    with EpisodeStore(f"sqlite:///{tmp_path / 'episodes.db'}") as store:
        yield store


@pytest.mark.parametrize(
    ("engine", "changes", "status"),
    [
        (ScriptedEngine("expert"), {}, EpisodeStatus.COMPLETED),
        (ScriptedEngine("noop"), {}, EpisodeStatus.REPETITION),
        (ScriptedEngine("random"), {"max_turns": 3}, EpisodeStatus.TRUNCATED_TURNS),
        (ScriptedEngine("random"), {"max_episode_tokens": 12_000}, EpisodeStatus.TRUNCATED_TOKENS),
        (WatchedEngine("expert", fails_at=2), {}, EpisodeStatus.INFRASTRUCTURE_ERROR),
    ],
    ids=lambda value: str(value) if isinstance(value, EpisodeStatus) else "",
)
async def test_what_was_played_is_kept_whole_and_replays(
    houses: EnvClient, store: EpisodeStore, engine: ScriptedEngine, changes: dict[str, int], status: EpisodeStatus
) -> None:
    service = LocalRollouts(houses, engine, store=store)
    (group,) = await service.rollouts(RolloutRequest((HOUSE,), **({"max_episode_tokens": ROOM} | changes)))
    (episode,) = group.episodes
    assert episode.status is status
    assert store.get(episode.id) == episode
    report = await verify(episode, houses)
    assert report.ok, report


async def test_a_change_that_was_judged_without_an_answer_replays(everything: EnvClient, store: EpisodeStore) -> None:
    task = TaskRef("dbbench", task_id="generated/2")
    request = RolloutRequest((task,), protocol="agentbench_classic", max_turns=1, max_episode_tokens=ROOM)
    (group,) = await LocalRollouts(everything, ScriptedEngine("gold"), store=store).rollouts(request)
    (episode,) = group.episodes
    assert (episode.status, episode.reward) == (EpisodeStatus.TRUNCATED_TURNS, 1.0)
    assert store.get(episode.id) == episode
    report = await verify(episode, everything)
    assert report.ok, report


async def test_a_database_episodes_record_names_its_backend_and_the_limits_it_met(store: EpisodeStore) -> None:
    app = create_app(EnvServerSettings(envs=("dbbench",), dbbench={"max_statements": 1}))
    async with EnvClient.in_process(app) as client:
        service = LocalRollouts(client, ScriptedEngine("random"), store=store)
        request = RolloutRequest((TaskRef("dbbench", task_id="dev/0"),), max_episode_tokens=ROOM)
        (group,) = await service.rollouts(request)
    (episode,) = group.episodes
    assert episode.metadata["backend"] in ("mysql", "mariadb")
    assert len(episode.steps) > 2
    assert episode.metadata["limits"] == {"statements": len(episode.steps) - 2}  # the first one ran, the last commits
    assert store.get(episode.id) == episode
