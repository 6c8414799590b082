"""The figures of a batch, and the stored episodes, that the doctor reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from trainer_doubles import make_episode

from envs.types import EpisodeStatus, Task
from rollout_server.chat import ChatFormat
from rollout_server.episode_store import EpisodeStore
from rollout_server.types import Episode, Group, RolloutRequest
from trainer.batch import batch_metrics, repeats
from trainer.diagnose.checks import diagnose
from trainer.diagnose.log import read_run

NEAR = Task("alfworld", "generated/1", "generated", "near", "h1")
FAR = Task("alfworld", "generated/2", "generated", "far", "h2")


def play(chat: ChatFormat, task: Task, index: int, **more: object) -> Episode:
    given = {"policy": "run-v3", "turns": 3, **more}
    return make_episode(chat, task=task, seed=0, request=RolloutRequest(()), index=index, **given)


def test_success_and_counts_by_task_type(chat: ChatFormat) -> None:
    near = [replace(play(chat, NEAR, i), reward=float(i == 0)) for i in range(4)]
    far = [replace(play(chat, FAR, i), reward=0.0) for i in range(3)]
    far.append(play(chat, FAR, 3, status=EpisodeStatus.INFRASTRUCTURE_ERROR))
    out = batch_metrics([Group("a", NEAR, tuple(near)), Group("b", FAR, tuple(far))], wall_s=1.0)
    assert {k: v for k, v in out.items() if k.startswith(("success/", "episodes/"))} == {
        "success/alfworld/near": 0.25,
        "episodes/alfworld/near": 4.0,
        "success/alfworld/far": 0.0,
        "episodes/alfworld/far": 3.0,  # one was lost: no result, in no mean
    }


def test_truncation_and_repetition_are_shares_of_scored_episodes(chat: ChatFormat) -> None:
    cut = play(chat, NEAR, 0, status=EpisodeStatus.TRUNCATED_TOKENS)
    late = play(chat, NEAR, 1, status=EpisodeStatus.TRUNCATED_TURNS)
    ruled = play(chat, NEAR, 2, status=EpisodeStatus.REPETITION)
    lost = play(chat, NEAR, 3, status=EpisodeStatus.INFRASTRUCTURE_ERROR)
    fine = varied(play(chat, NEAR, 4))
    out = batch_metrics([Group("a", NEAR, (varied(cut), varied(late), ruled, lost, fine))], wall_s=1.0)
    assert out["rollout/truncated"] == 0.5
    assert out["rollout/repeated"] == 0.25


def varied(episode: Episode) -> Episode:
    turns = tuple(
        replace(t, steps=tuple(replace(s, action=replace(s.action, arguments={"n": n})) for s in t.steps))
        for n, t in enumerate(episode.turns)
    )
    return replace(episode, turns=turns)


def test_three_turns_alike_at_the_end_are_a_repetition(chat: ChatFormat) -> None:
    episode = varied(play(chat, NEAR, 0, turns=5))
    assert not repeats(episode)
    same = replace(episode, turns=(*episode.turns[:2], *[episode.turns[4]] * 3))
    assert repeats(same)
    assert not repeats(replace(same, turns=(*same.turns[2:], episode.turns[0]))), "it got out of the circle"
    assert not repeats(replace(same, turns=same.turns[-2:])), "two turns are no circle"
    spoken = tuple(replace(t, steps=(), text="  I do not know. ") for t in same.turns)
    assert repeats(replace(same, turns=spoken)), "without an action, by what was said"


def test_tokens_of_a_turn_are_those_that_were_sampled(chat: ChatFormat) -> None:
    episode = play(chat, NEAR, 0)
    sizes = [len(t.completion_ids) for t in episode.turns]
    out = batch_metrics([Group("a", NEAR, (episode,))], wall_s=1.0)
    assert out["rollout/turn_tokens"] == pytest.approx(sum(sizes) / len(sizes))
    given = replace(episode, turns=(replace(episode.turns[0], given=True), *episode.turns[1:]))
    out = batch_metrics([Group("a", NEAR, (given,))], wall_s=1.0)
    assert out["rollout/turn_tokens"] == pytest.approx(sum(sizes[1:]) / len(sizes[1:]))


def test_policy_lag_counts_versions_and_the_updates_that_none_carries(chat: ChatFormat) -> None:
    group = Group("a", NEAR, (play(chat, NEAR, 0), play(chat, NEAR, 1, policy="run-v5")))
    assert batch_metrics([group], wall_s=1.0, policy="run-v5")["rollout/policy_lag"] == 1.0
    assert batch_metrics([group], wall_s=1.0, policy="run-v5", updates=4)["rollout/policy_lag"] == 5.0
    assert "rollout/policy_lag" not in batch_metrics([group], wall_s=1.0)
    base = Group("a", NEAR, (play(chat, NEAR, 0, policy="base"),))
    assert batch_metrics([base], wall_s=1.0, policy="run-v2")["rollout/policy_lag"] == 2.0
    assert batch_metrics([base], wall_s=1.0, policy="base")["rollout/policy_lag"] == 0.0


def test_a_runs_own_episodes_are_looked_at(chat: ChatFormat, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 1, "rollout/infrastructure_failures": 0, "rollout/episodes": 2}\n'
    )
    played = replace(play(chat, NEAR, 0), metadata={"purpose": "evaluation"}, started_at="2026-01-01T00:00:00")
    lost = play(chat, FAR, 1, status=EpisodeStatus.INFRASTRUCTURE_ERROR)
    with EpisodeStore(f"sqlite:///{tmp_path / 'episodes.db'}") as store:
        store.add_many([played, replace(lost, started_at="2026-01-02T00:00:00")])
    log = read_run(tmp_path)
    assert [(e.id, e.purpose, e.scored, e.reward) for e in log.episodes] == [
        (played.id, "evaluation", True, played.reward),
        (lost.id, "", False, None),
    ]
    assert log.episodes[0].content_hash == "h1"
    assert not diagnose(log).findings
    with EpisodeStore(f"sqlite:///{tmp_path / 'episodes.db'}") as store:
        store.add(replace(lost, id="wrong", reward=0.0, reward_parts={"task": 0.0}))
    (finding,) = diagnose(read_run(tmp_path)).findings
    assert (finding.check, finding.subject) == ("infrastructure_losses", "stored episodes")
