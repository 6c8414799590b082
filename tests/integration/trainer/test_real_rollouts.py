"""The whole loop on CPU with real parts: generated ALFWorld games, the agent protocol, a sampling engine, TRL, PEFT."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from trainer_doubles import make_episode

from envs.errors import ConfigError
from envs.types import Task
from rollout_server.chat import ChatFormat
from rollout_server.episode_store import EpisodeStore
from rollout_server.tokenizer import HFTokenizer
from rollout_server.types import RolloutRequest
from trainer.config import parse_config
from trainer.evaluate import play_split
from trainer.grpo import train_grpo
from trainer.loops import LoopThread
from trainer.services import store_url
from trainer.sft import train_sft


def settings(model: Path, out: Path, recipe: str) -> dict[str, Any]:
    return {
        "recipe": recipe,
        "model": {
            "name": str(model),
            "dtype": "float32",
            "device": "cpu",
            "threads": 2,
            "gradient_checkpointing": False,
        },
        "lora": {"r": 8, "alpha": 16},
        "data": {"sources": [{"env": "alfworld", "split": "generated_easy"}]},
        "rollout": {
            "engine": "transformers",
            "group_size": 2,
            "groups_per_step": 2,
            "max_turns": 2,
            "max_tokens": 8,
            "max_episode_tokens": 8192,
            "reward_invalid_action": 0.1,
        },
        "grpo": {"steps": 2, "learning_rate": 1e-3, "micro_batch": 2},
        "run": {"output_dir": str(out), "name": "real", "save_every": 1, "report_to": ["jsonl"]},
    }


def test_grpo_trains_on_what_the_engine_sampled_and_swaps_each_adapter_in(tiny_model: Path, tmp_path: Path) -> None:
    config = parse_config(settings(tiny_model, tmp_path / "run", "grpo"))
    seen: list[tuple[tuple[int, ...], ...]] = []

    def watch(inputs: Mapping[str, Any]) -> None:
        for i in range(inputs["prompt_ids"].shape[0]):
            here = inputs["completion_mask"][i].bool()
            prompt = inputs["prompt_ids"][i][inputs["prompt_mask"][i].bool()]
            columns = (prompt, inputs["completion_ids"][i][here], inputs["tool_mask"][i][here])
            seen.append(tuple(tuple(c.tolist()) for c in columns))

    result = train_grpo(config, loss_observer=watch)

    assert result.policies == ["real-v1", "real-v2"]
    with EpisodeStore(store_url(config)) as store:
        stored = list(store.iter_episodes(run="real"))
    assert len(stored) == 8
    assert sorted(seen) == sorted((e.prompt_ids, e.completion_ids, e.mask) for e in stored)
    assert all(any(m == 0 for m in e.mask) and any(e.mask) for e in stored), "both kinds of tokens are in every row"
    assert {e.policy for e in stored} == {"base", "real-v1"}
    # The engine's own logprobs are the trainer's: the same weights, the same ids, the same temperature.
    for step in result.metrics:
        assert step["sampling/sampling_logp_difference/mean"] < 1e-3
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert set(record["tasks"]) == {f"alfworld:{e.task.id}" for e in stored}
    assert all(t["content_hash"] for t in record["tasks"].values())


def test_sft_learns_expert_episodes_from_their_own_tokens(tiny_model: Path, tmp_path: Path) -> None:
    tree = settings(tiny_model, tmp_path / "run", "sft")
    tree["sft"] = {"collect": 3, "learning_rate": 2e-2, "steps": 3, "effective_batch": 1, "max_length": 8192}
    tree["rollout"]["max_turns"] = 20
    config = parse_config(tree)
    result = train_sft(config)

    assert result.episodes + sum(result.left_out.values()) == 3, "the expert solves every game"
    assert result.steps == 3
    assert all(m["loss"] > 0 for m in result.metrics)
    assert (result.adapter / "adapter_model.safetensors").is_file()
    record = json.loads((result.adapter / "training_record.json").read_text())
    assert record["splits"] == ["alfworld/generated_easy"]

    # The same rows overfit. All weights: under a frozen random head no adapter could become sure of anything.
    whole = settings(tiny_model, tmp_path / "whole", "sft")
    whole["lora"] = {"full": True}
    whole["run"]["save_every"] = 100
    whole["sft"] = tree["sft"] | {
        "collect": 0,
        "steps": 20,
        "learning_rate": 3e-2,
        "store": store_url(config),
        "limit": 1,
    }
    losses = [m["loss"] for m in train_sft(parse_config(whole)).metrics]
    assert losses[-1] < 0.5 * losses[0]

    # What was learnt can be played: the adapter loads into an engine and gives other tokens than the base model's.
    with LoopThread() as loop:
        tree["eval"] = {"limit": 1}
        tree["rollout"] |= {"max_turns": 2, "max_tokens": 8}
        tree["run"]["output_dir"] = str(tmp_path / "eval")
        report = loop.run(
            play_split(parse_config(tree), "alfworld", "generated_eval", adapter=result.adapter.resolve())
        )
    assert report.episodes == 1
    assert report.statuses.keys() <= {
        "completed",
        "truncated_turns",
        "truncated_tokens",
        "invalid_action",
        "repetition",
    }


def test_evaluation_splits_are_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    tree = settings(tmp_path / "no-such-model", tmp_path / "run", "grpo")
    tree["data"]["sources"] = [{"env": "alfworld", "split": "generated_eval"}]
    for recipe, train in (("grpo", train_grpo), ("sft", train_sft)):
        with pytest.raises(ConfigError, match="alfworld/generated_eval is an evaluation split"):
            train(parse_config({**tree, "recipe": recipe}))
    assert not (tmp_path / "run").exists()


def test_sft_that_cannot_load_its_model_may_be_started_again(tiny_model: Path, tmp_path: Path) -> None:
    tree = settings(tiny_model, tmp_path / "run", "sft")
    tree["lora"]["init_adapter"] = str(tmp_path / "mistyped")
    config = parse_config(tree)
    task = Task("alfworld", "generated_easy/1", "generated_easy", "pick", "abc")
    request = RolloutRequest(tasks=())
    episode = make_episode(
        ChatFormat(HFTokenizer(tiny_model)), task=task, seed=1, request=request, policy="expert", index=0
    )
    with EpisodeStore(store_url(config)) as store:
        store.add(replace(episode, reward=1.0))
        for _ in range(2):
            with pytest.raises(ConfigError, match="mistyped"):
                train_sft(config, store=store)
    assert not (tmp_path / "run/run.json").exists()


def test_the_expert_scores_one_on_generated_games(tmp_path: Path) -> None:
    config = parse_config(
        {"rollout": {"engine": "expert", "max_turns": 50}, "eval": {"limit": 4}, "run": {"output_dir": str(tmp_path)}}
    )
    seen = []
    with LoopThread() as loop:
        report = loop.run(
            play_split(config, "alfworld", "generated_eval", with_model=False, on_episode=lambda e: seen.append(e.id))
        )
    assert report.score == 1.0
    assert report.overall.low > 0.4
    assert len(seen) == 4
    assert report.statuses == {"completed": 4}
