"""DPO and KTO with TRL's own trainers on a tiny model, from episodes that real scripted engines play on DB Bench."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from typer.testing import CliRunner

from envs.errors import ConfigError
from rollout_server.episode_store import EpisodeStore
from trainer.cli import train_app
from trainer.config import TrainConfig, parse_config
from trainer.dpo import train_dpo
from trainer.kto import train_kto
from trainer.loops import LoopThread
from trainer.lora import check_adapter
from trainer.preference_run import PreferenceResult
from trainer.services import open_rollouts


def recipe(kind: str, model: Path, out: Path, store: str, *, lora: dict[str, Any] | None = None, **sets: Any) -> Any:
    run = {"output_dir": str(out), "name": "prefs", "save_every": 1, "report_to": ["jsonl"]}
    resume, split = sets.pop("resume", False), sets.pop("split", "generated")
    common = {
        "learning_rate": 2e-2,
        "steps": 3,
        "effective_batch": 1 if kind == "dpo" else 2,
        "micro_batch": 1 if kind == "dpo" else 2,
        "warmup": 0.0,
        "max_length": 16384,
    }
    return parse_config(
        {
            "recipe": kind,
            "model": {
                "name": str(model),
                "dtype": "float32",
                "device": "cpu",
                "threads": 1,
                "gradient_checkpointing": False,
            },
            "lora": {"r": 4, "alpha": 8} | (lora or {}),
            "data": {"sources": [{"env": "dbbench", "split": split}]},
            "rollout": {"max_episode_tokens": 16384, "store": store},
            kind: common | sets,
            "run": run | {"resume": resume},
        }
    )


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('played') / 'episodes.db'}"


@pytest.fixture(scope="module")
def checked(database: str, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[PreferenceResult, str]:
    """Near misses, and the expert that takes each of them up, played once for all tests here; and what is shown."""
    config = recipe("dpo", tiny_model, tmp_path_factory.mktemp("check") / "run", database, collect=3)
    with LoopThread() as loop:
        service = loop.run(open_rollouts(config, engine="noop"))
        readiness = loop.run(service.env.env("dbbench")).readiness
        loop.run(service.close())
    if not readiness.ready:
        pytest.skip(f"{readiness.detail}: {readiness.hint}")
    out = io.StringIO()
    console = Console(file=out, width=400, force_terminal=True, color_system="truecolor")
    result = train_dpo(config, console=console, check=True)
    assert not (config.run.output_dir / "run.json").exists(), "looking trains nothing"
    again = train_dpo(config, console=Console(file=io.StringIO()), check=True)
    assert again.report["digest"] == result.report["digest"], "nothing is played twice"
    return result, out.getvalue()


def test_what_would_be_learnt_is_shown_and_nothing_is_trained(
    checked: tuple[PreferenceResult, str], database: str
) -> None:
    result, shown = checked
    assert (result.adapter, result.steps) == (None, 0)
    assert result.rows >= 2
    assert json.loads((result.output_dir / "preferences.json").read_text()) == result.report
    assert sum(kind["rows"] for kind in result.report["kinds"]) == result.rows
    with EpisodeStore(database) as store:
        first = result.report["first"]
        chosen, rejected = (store.get(name) for name in first["episodes"])
        assert (chosen.success, rejected.success) == (True, False)
        turn = first["turn"]
        assert chosen.turns[:turn] != rejected.turns[:turn], "of the kept turns nothing is learnt: they are given"
        assert all(turn.given for turn in chosen.turns[:turn])
        assert [t.completion_ids for t in chosen.turns[:turn]] == [t.completion_ids for t in rejected.turns[:turn]]
        texts = [e.turns[turn].text for e in (chosen, rejected)]
    assert texts[0] != texts[1]
    for style, text in zip(("\x1b[1;32m", "\x1b[1;31m"), texts, strict=True):
        assert all(f"{style}{line[:60]}" in shown for line in text.splitlines()), "chosen in green, rejected in red"
    assert "pairs by turn" in shown
    for kind in result.report["kinds"]:
        assert kind["type"] in shown


def numbers(result: PreferenceResult, name: str) -> list[float]:
    return [m[name] for m in result.metrics]


def test_dpo_widens_the_margin_and_resumes_to_the_same_losses_against_the_same_reference(
    checked: tuple[PreferenceResult, str], database: str, tiny_model: Path, tmp_path: Path
) -> None:
    first = train_dpo(
        recipe("dpo", tiny_model, tmp_path / "first", database, scope="episode", limit=1, learning_rate=3e-3)
    )
    assert (first.steps, first.reference) == (3, "base")
    margins = numbers(first, "rewards/margins")
    assert margins[0] == pytest.approx(0, abs=1e-5)
    assert 0 < margins[1] < margins[2]
    assert numbers(first, "loss")[-1] < numbers(first, "loss")[0]
    check_adapter(first.adapter)
    record = json.loads((first.adapter / "training_record.json").read_text())
    assert record["splits"] == ["dbbench/generated"]
    assert record["recipe"] == "dpo"
    lines = (tmp_path / "first/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]

    # From an adapter on: the reference is that adapter, in a resumed run too. Against the base model the margin
    # would begin above 0.
    def onward(out: str, **sets: Any) -> TrainConfig:
        return recipe(
            "dpo", tiny_model, tmp_path / out, database, lora={"init_adapter": str(first.adapter)}, limit=2, **sets
        )

    straight = train_dpo(onward("straight"))
    assert straight.reference == "ref"
    assert numbers(straight, "rewards/margins")[0] == pytest.approx(0, abs=1e-5)
    assert any(margin != 0 for margin in numbers(straight, "rewards/margins")[1:])
    shutil.copytree(tmp_path / "straight", tmp_path / "cut")  # killed after its first step
    for lost in ("checkpoint-2", "checkpoint-3", "adapter"):
        shutil.rmtree(tmp_path / "cut" / lost)
    resumed = train_dpo(onward("cut", resume=True))
    for name in ("loss", "rewards/margins", "logps/chosen"):
        assert numbers(resumed, name) == pytest.approx(numbers(straight, name)[1:], abs=1e-5)
    saved = load_file(straight.adapter / "adapter_model.safetensors")
    assert not any("ref" in name for name in saved), "the reference is no part of the adapter"
    assert not (straight.adapter / "ref").exists()
    assert all(
        torch.allclose(tensor, load_file(resumed.adapter / "adapter_model.safetensors")[name], atol=1e-5)
        for name, tensor in saved.items()
    )
    with pytest.raises(ConfigError, match="other rows than when this run began"):
        train_dpo(onward("cut", resume=True, scope="episode"))


def test_kto_widens_the_margin_between_desirable_and_undesirable(
    checked: tuple[PreferenceResult, str], database: str, tiny_model: Path, tmp_path: Path
) -> None:
    config = recipe("kto", tiny_model, tmp_path / "run", database, scope="episode", limit=2, learning_rate=3e-3)
    result = train_kto(config)
    assert (result.steps, result.reference) == (3, "base")
    assert [sum(k[name] for k in result.report["kinds"]) for name in ("desirable", "undesirable")] == [1, 1]
    margins = numbers(result, "rewards/margins")
    assert margins[0] == pytest.approx(0, abs=1e-5)
    assert 0 < margins[1] < margins[2]
    check_adapter(result.adapter)


def test_in_alfworld_the_expert_takes_a_random_walk_up_and_the_command_tells_it(
    tiny_model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(
        f"""
recipe = "dpo"
[model]
name = "{tiny_model}"
[[data.sources]]
env = "alfworld"
split = "generated_easy"
[rollout]
max_turns = 15
max_episode_tokens = 16384
[dpo]
collect = 2
max_length = 16384
[run]
output_dir = "{tmp_path / "run"}"
"""
    )
    ran = CliRunner().invoke(train_app, ["dpo", "--config", str(path), "--check", "--json"], catch_exceptions=False)
    document = json.loads(ran.stdout)
    assert (document["adapter"], document["steps"]) == (None, 0)
    assert document["rows"] >= 1
    with EpisodeStore(f"sqlite:///{tmp_path / 'run/episodes.db'}") as store:
        episodes = list(store.iter_episodes())
        chosen, rejected = (store.get(name) for name in document["report"]["first"]["episodes"])
    forks = [e for e in episodes if "fork" in e.metadata]
    assert len(forks) == sum(not e.success for e in episodes if "fork" not in e.metadata)
    assert chosen.metadata["fork"]["parent"] == rejected.id
    assert chosen.metadata["fork"]["at_turn"] == document["report"]["first"]["turn"]
    assert {e.metadata["purpose"] for e in episodes} == {"dpo"}


@pytest.mark.parametrize(("kind", "train"), [("dpo", train_dpo), ("kto", train_kto)])
def test_what_cannot_work_is_refused_before_a_model_is_loaded(
    tiny_model: Path, tmp_path: Path, kind: str, train: Callable[..., PreferenceResult]
) -> None:
    store = f"sqlite:///{tmp_path / 'none.db'}"
    with pytest.raises(ConfigError, match="give nothing to compare"):
        train(recipe(kind, tiny_model, tmp_path / "run", store))
    assert not (tmp_path / "run/run.json").exists()
    held_out = recipe(kind, tmp_path / "no-such-model", tmp_path / "run", store, split="dev")
    with pytest.raises(ConfigError, match="dbbench/dev is an evaluation split"):
        train(held_out)
