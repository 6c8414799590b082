"""Evaluation in the loop: held-out tasks are played, the best is kept, runs stop in time and resume to the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from trainer_doubles import ScriptedRollouts, make_episode
from transformers import TrainerControl, TrainerState

from envs.errors import ConfigError, InfrastructureError
from envs.types import EpisodeStatus, Task
from rollout_server.chat import ChatFormat
from rollout_server.episode_store import EpisodeStore
from rollout_server.tokenizer import HFTokenizer
from rollout_server.types import Episode, RolloutRequest
from trainer.checkpoint import write_state
from trainer.config import TrainConfig, parse_config
from trainer.datasets import sft_rows
from trainer.grpo import train_grpo
from trainer.held_out import HELD_OUT_STATE, HeldOutCallback, HeldOutState, held_out_metrics
from trainer.held_out_tasks import held_out_sources
from trainer.loops import LoopThread
from trainer.services import store_url
from trainer.sft import train_sft
from trainer.splits import SplitGuard


def recipe(model: Path, out: Path, kind: str = "sft", **sets: Any) -> TrainConfig:
    tree: dict[str, Any] = {
        "recipe": kind,
        "model": {"name": str(model), "dtype": "float32", "device": "cpu", "gradient_checkpointing": False},
        "lora": {"r": 4, "alpha": 8},
        "data": {"sources": [{"env": "alfworld", "split": "generated_easy"}]},
        "rollout": {
            "engine": "transformers",
            "group_size": 2,
            "groups_per_step": 2,
            "max_turns": 2,
            "max_tokens": 6,
            "max_episode_tokens": 4096,
        },
        "grpo": {"steps": 3, "learning_rate": 1e-3, "micro_batch": 2},
        "sft": {"learning_rate": 1e-2, "steps": 4, "effective_batch": 1},
        "eval": {"every": 2, "tasks": 2, "sources": [{"env": "alfworld", "split": "generated_easy_eval"}]},
        "run": {"output_dir": str(out), "name": "test", "save_every": 1, "report_to": ["jsonl"]},
    }
    for key, value in sets.items():
        section, name = key.split("__")
        tree[section][name] = value
    return parse_config(tree)


def stored(config: TrainConfig, model: Path, count: int = 3) -> None:
    """Won episodes to learn from, in the run's own store."""
    chat = ChatFormat(HFTokenizer(model))
    with EpisodeStore(store_url(config)) as store:
        for n in range(count):
            task = Task("alfworld", f"generated_easy/{n}", "generated_easy", "pick", f"hash-{n}")
            made = make_episode(chat, task=task, seed=n, request=RolloutRequest(tasks=()), policy="expert", index=0)
            store.add(replace(made, reward=1.0, started_at=f"2026-01-0{n + 1}"))


def metrics_of(out: Path) -> dict[int, dict[str, float]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert len({line["step"] for line in lines}) == len(lines), "one line a step"
    return {line["step"]: line for line in lines}


def test_sft_plays_held_out_tasks_and_a_resumed_run_finds_the_same(tiny_model: Path, tmp_path: Path) -> None:
    whole = recipe(tiny_model, tmp_path / "whole")
    stored(whole, tiny_model)
    result = train_sft(whole)
    metrics = metrics_of(tmp_path / "whole")
    evaluated = [step for step, line in metrics.items() if "eval/success" in line]
    assert evaluated == [2, 4]
    line = metrics[4]
    assert line["eval/episodes"] == 2
    assert 0 <= line["eval/low"] <= line["eval/success"] <= line["eval/high"] <= 1
    assert line["eval/alfworld/generated_easy_eval/success"] == line["eval/success"]
    assert (result.best_step, result.best_success) == (2, metrics[2]["eval/success"]), "the first is the best of equals"
    with EpisodeStore(store_url(whole)) as store:
        played = list(store.iter_episodes(run="test-eval"))
        rows = sft_rows(
            store.iter_episodes(), HFTokenizer(tiny_model), max_length=4096, guard=SplitGuard(["generated_easy_eval"])
        )
    assert {(e.metadata["purpose"], e.metadata["held_out"]) for e in played} == {("evaluation", True)}
    assert {(e.policy, e.metadata["step"]) for e in played} == {("test-v1", 2), ("test-v2", 4)}
    assert all(e.sampling.temperature == 0 for e in played)
    assert rows.left_out["played to evaluate the run"] == len(played) == 4, "allowed by name and still never learnt"
    record = json.loads((tmp_path / "whole/run.json").read_text())
    assert set(record["evaluation"]["tasks"]) == {f"alfworld:{e.task.id}" for e in played}
    assert record["evaluation"]["trained_on"] == []
    assert record["best_step"] == 2
    kept = load_file(tmp_path / "whole/best/adapter_model.safetensors")
    second = load_file(tmp_path / "whole/checkpoint-2/adapter_model.safetensors")
    assert all(torch.equal(kept[name], second[name]) for name in kept)
    assert not list((tmp_path / "whole").glob(".best*"))
    state = json.loads((tmp_path / "whole/checkpoint-4" / HELD_OUT_STATE).read_text())
    assert [entry["step"] for entry in state["history"]] == [2.0, 4.0]

    # The same without evaluation: it draws nothing from the trainer's generators.
    plain = recipe(tiny_model, tmp_path / "plain", eval__every=0)
    stored(plain, tiny_model)
    assert [m["loss"] for m in train_sft(plain).metrics] == [metrics[step]["loss"] for step in (1, 2, 3, 4)]

    # Cut off after step 3 and resumed: the same losses, the same evaluations.
    cut = recipe(tiny_model, tmp_path / "cut")
    stored(cut, tiny_model)
    train_sft(cut)
    for gone in ("checkpoint-4", "adapter"):
        _remove(tmp_path / "cut" / gone)
    resumed = train_sft(recipe(tiny_model, tmp_path / "cut", run__resume=True))
    again = metrics_of(tmp_path / "cut")
    assert sorted(again) == [1, 2, 3, 4]
    for step in (1, 2, 3, 4):
        assert again[step]["loss"] == pytest.approx(metrics[step]["loss"], abs=1e-6)
        assert again[step].get("eval/success") == metrics[step].get("eval/success")
    assert (resumed.best_step, resumed.steps) == (2, 4)


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder)


def test_half_a_checkpoint_of_sft_is_none(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = recipe(tiny_model, tmp_path / "run", eval__every=0)
    stored(config, tiny_model)

    def killed(part: Path, of: TrainConfig, *, step: int) -> None:
        assert (part / "optimizer.pt").is_file(), "TRL has written all of its own"
        if step == 3:
            raise KeyboardInterrupt  # as far as the files go, this is what a kill leaves
        write_state(part, of, step=step)

    monkeypatch.setattr("trainer.sft.write_state", killed)
    with pytest.raises(KeyboardInterrupt):
        train_sft(config)
    assert sorted(path.name for path in (tmp_path / "run").glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-2"]
    monkeypatch.undo()
    resumed = train_sft(recipe(tiny_model, tmp_path / "run", eval__every=0, run__resume=True, run__keep_checkpoints=1))
    assert [sorted(metrics_of(tmp_path / "run")), len(resumed.metrics)] == [[1, 2, 3, 4], 2]
    assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-4"]


def test_sft_stops_when_it_gets_no_better_and_resumes_to_its_end(tiny_model: Path, tmp_path: Path) -> None:
    config = recipe(tiny_model, tmp_path / "run", sft__steps=50)
    config = config.model_copy(update={"eval": config.eval.model_copy(update={"every": 1, "patience": 2, "tasks": 1})})
    stored(config, tiny_model)
    result = train_sft(config)
    assert (result.steps, result.stopped_early, result.best_step) == (3, True, 1)
    assert (tmp_path / "run/checkpoint-3" / HELD_OUT_STATE).is_file()
    adapter = load_file(result.adapter / "adapter_model.safetensors")
    _remove(result.adapter)  # killed between its last checkpoint and its end
    resumed = train_sft(config.model_copy(update={"run": config.run.model_copy(update={"resume": True})}))
    assert (resumed.steps, resumed.stopped_early, resumed.metrics) == (3, True, [])
    again = load_file(resumed.adapter / "adapter_model.safetensors")
    assert all(torch.equal(adapter[name], again[name]) for name in adapter)


def test_whole_weights_are_played_by_an_engine_of_their_own(tiny_model: Path, tmp_path: Path) -> None:
    config = recipe(tiny_model, tmp_path / "run", sft__steps=2, lora__full=True, run__save_every=100)
    stored(config, tiny_model)
    result = train_sft(config)
    assert result.best_step == 2
    assert (tmp_path / "run/best/model.safetensors").is_file()
    assert not (tmp_path / "run/.held_out_model").exists()
    with EpisodeStore(store_url(config)) as store:
        assert {e.metadata["step"] for e in store.iter_episodes(run="test-eval")} == {2}
    other = recipe(tiny_model, tmp_path / "other", lora__full=True, rollout__engine="vllm")
    stored(other, tiny_model)
    with pytest.raises(ConfigError, match="swap adapters only"):
        train_sft(other)


def test_grpo_plays_held_out_tasks_with_the_policy_of_the_step(
    tiny_model: Path, tmp_path: Path, rollouts: ScriptedRollouts, loop: LoopThread
) -> None:
    config = recipe(tiny_model, tmp_path / "run", "grpo")
    result = train_grpo(config, service=rollouts, loop=loop)
    asked = [r for r in rollouts.requests if r.metadata["purpose"] == "evaluation"]
    assert [(r.policy, r.metadata["step"]) for r in asked] == [("test-v2", 2), ("test-v3", 3)]
    assert result.policies == ["test-v1", "test-v2", "test-v3"], "a version a step, evaluated or not"
    assert asked[0].tasks == asked[1].tasks
    assert {ref.task_id.split("/")[0] for ref in asked[0].tasks if ref.task_id} == {"generated_easy_eval"}
    metrics = metrics_of(tmp_path / "run")
    assert [step for step, line in metrics.items() if "eval/success" in line] == [2, 3]
    assert "rollout/success" in metrics[2]
    assert (tmp_path / "run/best/adapter_model.safetensors").is_file()
    assert (tmp_path / "run/checkpoint-3" / HELD_OUT_STATE).is_file()
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert len(record["evaluation"]["tasks"]) == 2
    assert not set(record["evaluation"]["tasks"]) & set(record["tasks"])


def test_what_cannot_be_held_out_or_played_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    trained = recipe(tiny_model, tmp_path / "a", eval__sources=[{"env": "alfworld", "split": "generated_easy"}])
    with pytest.raises(ConfigError, match="alfworld/generated_easy is trained on"):
        held_out_sources(trained)
    default = recipe(tiny_model, tmp_path / "b", eval__sources=[])
    assert [(s.env, s.split) for s in held_out_sources(default)] == [("alfworld", "generated_eval")]
    scripted = recipe(tiny_model, tmp_path / "c", rollout__engine="expert")
    stored(scripted, tiny_model)
    with pytest.raises(ConfigError, match="takes no adapters"):
        train_sft(scripted)
    with pytest.raises(ConfigError, match=r"set eval\.every too"):
        recipe(tiny_model, tmp_path / "d", eval__every=0, eval__patience=1)


class Scores:
    """Double of a player: the successes of each evaluation are given, so that what is made of them can be seen."""

    def __init__(self, chat: ChatFormat, *won: float) -> None:
        self._chat = chat
        self._won = list(won)

    def play(self, model: Any, step: int) -> Sequence[Episode]:
        share = self._won.pop(0)
        made = []
        for n in range(10):
            task = Task("alfworld", f"generated_eval/{n}", "generated_eval", "pick", "h")
            one = make_episode(self._chat, task=task, seed=n, request=RolloutRequest(tasks=()), policy="p", index=0)
            made.append(replace(one, reward=float(n < 10 * share)))
        torch.rand(3)
        return made


def test_best_patience_and_what_a_checkpoint_knows(tiny_model: Path, tmp_path: Path) -> None:
    chat = ChatFormat(HFTokenizer(tiny_model))
    config = recipe(tiny_model, tmp_path)
    rules = config.eval.model_copy(update={"every": 5, "patience": 2, "min_delta": 0.15})
    config = config.model_copy(update={"eval": rules})
    saved: list[int] = []

    def save(model: Any, step: int, folder: Path) -> None:
        saved.append(step)
        folder.mkdir()
        (folder / "training_record.json").write_text(json.dumps({"step": step}))

    def callback(*won: float, restored: Path | None = None) -> HeldOutCallback:
        return HeldOutCallback(config, Scores(chat, *won), save=save, console=Console(quiet=True), restored=restored)

    def best() -> int:
        step = json.loads((tmp_path / "best/training_record.json").read_text())["step"]
        assert isinstance(step, int)
        return step

    class Args:
        output_dir = str(tmp_path)

    model = torch.nn.Linear(1, 1)
    running = callback(0.2, 0.3, 0.4, 0.4, 0.4)
    control = TrainerControl()
    before = torch.get_rng_state()
    for step in range(1, 11):
        running.on_step_end(Args(), TrainerState(global_step=step, max_steps=100), control, model=model)
    assert torch.equal(before, torch.get_rng_state()), "an evaluation draws nothing"
    assert (saved, running.state.since_best, best()) == ([5], 1, 5), "0.3 is not better by 0.15"
    assert not running.stopped
    running.on_save(Args(), TrainerState(global_step=10, max_steps=100), control)
    running.on_step_end(Args(), TrainerState(global_step=15, max_steps=100), control, model=model)
    assert (saved, running.state.since_best, best()) == ([5, 15], 0, 15)

    # Killed here: the checkpoint of step 10 knows of the best of step 5 alone, and that is what best/ is again.
    resumed = callback(0.4, 0.4, 0.4, restored=tmp_path / "checkpoint-10")
    assert (resumed.state.best_step, resumed.state.since_best, best()) == (5, 1, 5)
    for step in (15, 20, 25):
        resumed.on_step_end(Args(), TrainerState(global_step=step, max_steps=100), control, model=model)
    assert (resumed.stopped, control.should_training_stop, control.should_save) == (True, True, True)
    assert best() == 15
    resumed.on_save(Args(), TrainerState(global_step=25, max_steps=100), control)
    assert not list(tmp_path.glob(".best*"))
    assert resumed.take()["eval/best"] == 0.4
    assert resumed.take() == {}

    # The weights of an older checkpoint's best are gone: the next evaluation is the best.
    assert callback(restored=tmp_path / "checkpoint-10").state.best is None
    (tmp_path / "checkpoint-10" / HELD_OUT_STATE).write_text("[]")
    with pytest.raises(ConfigError, match="cannot be read"):
        callback(restored=tmp_path / "checkpoint-10")
    assert callback(restored=tmp_path).state == HeldOutState(), "a run that did not evaluate until now"


def test_lost_episodes_are_in_no_rate(tiny_model: Path) -> None:
    played = list(Scores(ChatFormat(HFTokenizer(tiny_model)), 0.5).play(None, 1))
    lost = [replace(e, reward=None, status=EpisodeStatus.INFRASTRUCTURE_ERROR, error="gone") for e in played[:2]]
    metrics = held_out_metrics([*lost, *played[2:]])
    assert (metrics["eval/success"], metrics["eval/episodes"], metrics["eval/lost"]) == (3 / 8, 8.0, 2.0)
    two = held_out_metrics([*played, replace(played[0], env="dbbench")])
    assert (two["eval/alfworld/generated_eval/success"], two["eval/dbbench/generated_eval/success"]) == (0.5, 1.0)
    with pytest.raises(InfrastructureError, match="none of the 2 held-out episodes has a result, first: gone"):
        held_out_metrics(lost)
