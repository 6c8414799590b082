"""The explorer's episodes as rows to learn from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rollout_server.episode_store import EpisodeStore
from rollout_server.export_files import export_episodes
from rollout_server.tokenizer import HFTokenizer
from rollout_server.types import RolloutRequest
from trainer.chat_jsonl import read_chat_jsonl
from trainer.config import parse_config
from trainer.datasets import IGNORED, chat_rows, select_episodes, sft_rows
from trainer.loops import LoopThread
from trainer.sampler import TaskSampler
from trainer.services import open_rollouts, store_url
from trainer.sft import collect_expert_episodes
from trainer.splits import SplitGuard


@pytest.mark.parametrize("protocol", ["agentbench_fc", "agentbench_classic"])
def test_its_thoughts_are_learnt_token_for_token(
    tiny_model: Path, loop: LoopThread, tmp_path: Path, protocol: str
) -> None:
    """What a recipe collects and trains on is what the explorer said: thought and action, nothing of the house."""
    config = parse_config(
        {
            "recipe": "sft",
            "model": {"name": str(tiny_model)},
            "data": {"sources": [{"env": "alfworld", "split": "generated_easy"}]},
            "rollout": {"engine": "transformers", "protocol": protocol, "max_turns": 50},
            "sft": {"expert": "explorer", "thoughts": True, "collect": 4, "max_length": 100_000},
            "run": {"output_dir": str(tmp_path / "run"), "name": "explored"},
        }
    )
    service = loop.run(
        open_rollouts(config, engine=config.sft.expert, script_options={"thoughts": config.sft.thoughts})
    )
    try:
        assert loop.run(collect_expert_episodes(config, service, count=4)) == 4
        sampler = TaskSampler(config.data.sources, seed=config.run.seed)
        grpo = RolloutRequest(tasks=tuple(sampler.task(row) for row in range(4)), max_turns=1, metadata={"run": "grpo"})
        next_played = loop.run(service.rollouts(grpo))
    finally:
        loop.run(service.close())
    with EpisodeStore(store_url(config)) as store:
        episodes = list(select_episodes(store, config.sft, config.data.sources))
    assert not {e.task.id for e in episodes} & {g.episodes[0].task.id for g in next_played}, "GRPO's are others"
    tokenizer = HFTokenizer(tiny_model)
    rows = sft_rows(episodes, tokenizer, max_length=100_000, guard=SplitGuard())
    assert len(rows.tasks) == len(episodes) == 4
    export_episodes(episodes, "chat", tmp_path / "chat.jsonl")
    back = chat_rows(read_chat_jsonl(tmp_path / "chat.jsonl"), tokenizer, settings=config.sft, guard=SplitGuard())
    assert (back.input_ids, back.labels, back.tasks) == (
        rows.input_ids,
        rows.labels,
        [replace(task, metadata={}) for task in rows.tasks],
    )
    for episode, labels in zip(episodes, rows.labels, strict=True):
        learnt = tokenizer.decode([label for label in labels if label != IGNORED])
        assert learnt == "".join(f"{turn.text}<|im_end|>" for turn in episode.turns)
        place = "THOUGHT: " if protocol == "agentbench_classic" else ""
        assert all(turn.text.startswith(place) for turn in episode.turns)
        assert all(turn.text.removeprefix(place).partition("\n")[0].endswith((".", "?")) for turn in episode.turns)
