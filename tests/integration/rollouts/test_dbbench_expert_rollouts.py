"""Episodes of DB Bench's experts through the real loop, in both protocols: played, stored, read back, played again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from envs.client import EnvClient
from envs.dbbench.experts import NEAR_MISSES
from rollout_server.engines.scripted import ScriptedEngine
from rollout_server.episode_store import EpisodeStore
from rollout_server.local import LocalRollouts
from rollout_server.replay import verify
from rollout_server.types import Episode, RewardWeights, RolloutRequest, SamplingParams, TaskRef

ROOM = 1_000_000
PROTOCOLS = ("agentbench_fc", "agentbench_classic")
CHANGES = ("INSERT", "UPDATE", "DELETE")


def tasks() -> tuple[TaskRef, ...]:
    """Generated tasks of every type, and AgentBench's: questions, INSERTs, UPDATEs."""
    generated = [f"generated/{i}" for i in range(26)]
    dev = [f"dev/{i}" for i in (0, 7, 12, 15, 18, 19, 20, 33, 40, 58)]
    return tuple(TaskRef("dbbench", task_id=task_id) for task_id in (*generated, *dev))


async def played(
    client: EnvClient, engine: ScriptedEngine, protocol: str, refs: Sequence[TaskRef], **changes: object
) -> list[Episode]:
    """The episodes as the store gives them back."""
    with EpisodeStore("sqlite://") as store:
        service = LocalRollouts(client, engine, store=store, max_concurrency=4)
        request = RolloutRequest(
            tuple(refs), protocol=protocol, sampling=SamplingParams(max_tokens=8192), max_episode_tokens=ROOM, **changes
        )
        groups = await service.rollouts(request)
        return [store.get(episode.id) for group in groups for episode in group.episodes]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", ["explorer", "repair"])
async def test_who_looks_around_solves_every_task_and_says_why(everything: EnvClient, kind: str, protocol: str) -> None:
    episodes = await played(everything, ScriptedEngine(kind, thoughts=True), protocol, tasks())
    assert [e.task.id for e in episodes if not e.success] == []
    assert {e.model for e in episodes} == {f"scripted-{kind}"}
    assert {e.task.type for e in episodes} >= {"counting", "ranking", "comparison", "other", "INSERT", "UPDATE"}
    for episode in episodes:
        assert len(episode.turns) <= 10
        refused = [turn for turn in episode.turns if not all(step.valid for step in turn.steps)]
        assert len(refused) == (kind == "repair")
        for turn in episode.turns:
            assert len(turn.steps) == 1, "a turn is one action: the thought is read over"
            thought = turn.text.partition("\nAction: " if protocol == "agentbench_classic" else "\n<tool_call>")[0]
            assert thought
            assert thought != turn.text
    assert (await verify(episodes[0], everything)).ok
    assert (await verify(episodes[-1], everything)).ok


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_near_misses_are_stored_as_what_they_are(everything: EnvClient, protocol: str) -> None:
    refs = [ref for ref in tasks() if ref.task_id and not ref.task_id.startswith("dev/")]
    episodes = await played(everything, ScriptedEngine("near_miss", thoughts=True), protocol, refs, group_size=3)
    assert {e.model for e in episodes} == {"scripted-near_miss"}
    assert [(e.task.id, e.status) for e in episodes if e.reward != 0.0 or not e.status.scored] == []
    assert not any(e.metadata["invalid_turns"] for e in episodes)
    changed = [e for e in episodes if any(query(s.action).startswith(CHANGES) for s in e.steps[:-1])]
    assert {e.task.id for e in changed} == {e.task.id for e in episodes if e.task.type in CHANGES}
    ways = Counter(task_id for task_id, _ in {(e.task.id, tuple(query(s.action) for s in e.steps)) for e in episodes})
    assert max(ways.values()) > 1, "a group's members err in different ways"
    assert (await verify(episodes[0], everything)).ok


def query(action: object) -> str:
    return str(next(iter(action.arguments.values()), ""))  # type: ignore[attr-defined]


async def test_a_question_without_gold_statement_has_no_near_miss_and_is_not_answered(everything: EnvClient) -> None:
    (episode,) = await played(
        everything, ScriptedEngine("near_miss"), PROTOCOLS[0], [TaskRef("dbbench", task_id="dev/0")]
    )
    assert [step.action.arguments for step in episode.steps] == [{"answers": []}]
    assert episode.reward == 0.0


@pytest.mark.parametrize("miss", NEAR_MISSES)
async def test_a_near_miss_may_be_named(everything: EnvClient, miss: str) -> None:
    refs = [TaskRef("dbbench", split="generated", type="aggregation-MAX", sample_seed=seed) for seed in range(4)]
    episodes = await played(everything, ScriptedEngine("near_miss", miss=miss), PROTOCOLS[0], refs)
    assert {(e.model, e.reward) for e in episodes} == {(f"scripted-{miss}", 0.0)}
    assert any(len(e.steps) > 1 for e in episodes)


async def test_a_win_and_a_loss_of_one_task_make_a_pair(everything: EnvClient) -> None:
    """What preference data needs: the same prompt, one episode that is solved and one that is not."""
    refs = [TaskRef("dbbench", task_id=f"generated/{i}") for i in range(6)]
    won = await played(everything, ScriptedEngine("explorer", thoughts=True), PROTOCOLS[0], refs)
    lost = await played(everything, ScriptedEngine("near_miss", thoughts=True), PROTOCOLS[0], refs)
    assert [(a.prompt_ids == b.prompt_ids, a.reward, b.reward) for a, b in zip(won, lost, strict=True)] == [
        (True, 1.0, 0.0)
    ] * 6


async def test_shaping_terms_come_back_as_parts_of_the_training_reward(everything: EnvClient) -> None:
    weights = {"right_table": 0.25, "overlap": 0.5, "executable": 0.125, "step_cost": 0.0625, "invalid_cost": 2.0}
    (episode,) = await played(
        everything,
        ScriptedEngine("repair"),
        PROTOCOLS[0],
        [TaskRef("dbbench", split="generated", type="counting", sample_seed=1)],
        rewards=RewardWeights(shaping={"dbbench": weights}),
    )
    assert episode.options["shaping"] == sorted(weights)
    assert episode.reward == 1.0
    assert episode.reward_parts == {
        "task": 1.0,
        "invalid_action": 0.0,
        "shaping.right_table": pytest.approx(0.25),
        "shaping.overlap": pytest.approx(0.5),
        "shaping.executable": pytest.approx(0.125 * (len(episode.steps) - 2)),
        "shaping.step_cost": pytest.approx(-0.0625 * len(episode.steps)),
        "shaping.invalid_cost": -2.0,
    }
    assert (await verify(episode, everything)).ok
