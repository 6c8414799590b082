"""Samples of episodes: which ones, when, and that what they say stays text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from trainer_doubles import make_episode

from envs.types import EpisodeStatus, Task
from rollout_server.chat import ChatFormat
from rollout_server.types import Episode, RolloutRequest
from trainer.config import parse_config
from trainer.monitors import TensorBoardSink
from trainer.samples import EpisodeSamples, choose_samples, replay_command, samples_text


@pytest.fixture
def episodes(chat: ChatFormat) -> list[Episode]:
    """Rewards 0, 1, 0.5, 0 with 1, 2, 3, 5 turns; the last by far the best, and lost by the machinery."""
    made = []
    for index, (reward, turns) in enumerate([(0.0, 1), (1.0, 2), (0.5, 3), (0.0, 5), (9.0, 9)]):
        task = Task("alfworld", f"generated/{index}", "generated", "pick", "h")
        status = EpisodeStatus.INFRASTRUCTURE_ERROR if index == 4 else EpisodeStatus.COMPLETED
        request = RolloutRequest(tasks=())
        made.append(
            replace(
                make_episode(
                    chat, task=task, seed=index, request=request, policy="p-v3", index=index, turns=turns, status=status
                ),
                id=f"episode-{index}",
                reward=reward if status.scored else None,
                reward_parts={"task": reward},
            )
        )
    return made


def test_best_worst_and_longest_are_chosen_once_and_never_what_was_lost(episodes: list[Episode]) -> None:
    chosen = {label: e.id for label, e in choose_samples(episodes).items()}
    assert chosen == {"best": "episode-1", "worst": "episode-0", "longest": "episode-3"}
    assert choose_samples(episodes[4:]) == {}
    assert [*choose_samples(episodes[:1])] == ["best"]


def test_they_are_written_every_so_many_steps_with_their_replay(episodes: list[Episode], tmp_path: Path) -> None:
    config = parse_config({"run": {"output_dir": str(tmp_path), "samples_every": 5}})
    sink = TensorBoardSink(tmp_path / "tensorboard")
    samples = EpisodeSamples(config, [sink])
    written = [step for step in range(1, 13) if samples(episodes, step=step)]
    sink.close()
    assert written == [1, 6, 11]
    text = (tmp_path / "samples/step-6.md").read_text()
    assert f"envloop replay show episode-1 --store sqlite:///{tmp_path}/episodes.db" in text
    for said in ("## best: alfworld pick", "generated/1", "p-v3", "completed", "| 1 | 1.000 | 2 |"):
        assert said in text
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [e.step for e in events.Tensors("samples/text_summary")] == written
    off = EpisodeSamples(parse_config({"run": {"output_dir": str(tmp_path / "off"), "samples_every": 0}}), ())
    assert off(episodes, step=1) is None


def test_what_was_said_is_no_markup_and_is_cut(episodes: list[Episode]) -> None:
    wild = replace(episodes[0], turns=(replace(episodes[0].turns[0], text="# head\n<script>\x1b[31m" + "x" * 5000),))
    text = samples_text({"worst": wild}, step=3, command=lambda episode: f"show {episode}")
    assert "\n    # head\n    <script>" in text
    assert "\x1b" not in text
    assert len(text) < 3000


def test_a_stores_password_is_in_no_command(tmp_path: Path) -> None:
    config = parse_config({"rollout": {"store": "mysql://me:hunter2@db/x"}, "run": {"output_dir": str(tmp_path)}})
    assert replay_command(config)("e1") == "envloop replay show e1   # ENVLOOP_STORE_URL names the run's store"
    config = parse_config({"rollout": {"url": "https://me.example.org"}, "run": {"output_dir": str(tmp_path)}})
    assert "example.org" not in replay_command(config)("e1")
