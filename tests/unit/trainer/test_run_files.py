"""Records, checkpoints, metrics, policy names: what a run leaves on disk."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from envs.errors import ConfigError
from envs.types import Task
from rollout_server.tokenizer import HFTokenizer
from trainer.checkpoint import STATE_FILE, open_run_folder, whole_checkpoint, write_state
from trainer.config import TrainConfig, parse_config
from trainer.lora import check_adapter
from trainer.models import load_model
from trainer.monitors import JsonlSink, TensorBoardSink, example_text, finite_numbers
from trainer.record import TrainingRecord
from trainer.sampler import TaskSampler
from trainer.settings import LoraSettings, ModelSettings, TaskSource


def config(folder: Path, **run: object) -> TrainConfig:
    return parse_config({"run": {"output_dir": str(folder), **run}})


def test_record_survives_a_resume(tmp_path: Path) -> None:
    record = TrainingRecord(config(tmp_path))
    record.see(
        [Task("alfworld", "train/b", "train", "pick", "h2"), Task("dbbench", "generated/1", "generated", "x", "h1")]
    )
    record.see([Task("alfworld", "train/b", "train", "pick", "h2")], episodes=8)
    record.save(tmp_path / "run.json", step=3)
    document = json.loads((tmp_path / "run.json").read_text())
    assert document["splits"] == ["alfworld/train", "dbbench/generated"]
    assert document["tasks"]["alfworld:train/b"]["content_hash"] == "h2"
    assert (document["episodes"], document["step"]) == (8, 3)
    assert {"python", "torch", "trl"} <= document["versions"].keys()

    again = TrainingRecord(config(tmp_path))
    again.restore(tmp_path / "run.json")
    assert again.task_ids == record.task_ids
    (tmp_path / "bad.json").write_text("[]")
    with pytest.raises(ConfigError, match="no training record"):
        again.restore(tmp_path / "bad.json")


def test_newest_complete_checkpoint_is_resumed(tmp_path: Path) -> None:
    for step in (2, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
        write_state(tmp_path / f"checkpoint-{step}", config(tmp_path), step=step, policy=f"x-v{step}")
    (tmp_path / "checkpoint-11").mkdir()  # cut off while it was written
    assert open_run_folder(config(tmp_path, resume=True)) == tmp_path / "checkpoint-10"
    assert open_run_folder(config(tmp_path, resume=str(tmp_path / "checkpoint-2"))) == tmp_path / "checkpoint-2"
    with pytest.raises(ConfigError, match="already holds a run"):
        open_run_folder(config(tmp_path))
    with pytest.raises(ConfigError, match="other settings: seed"):
        open_run_folder(config(tmp_path, resume=True, seed=1))
    (tmp_path / "checkpoint-10" / STATE_FILE).write_text("{}")
    with pytest.raises(ConfigError, match="no checkpoint of envloop"):
        open_run_folder(config(tmp_path, resume=True))


def test_a_checkpoint_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def save(step: int, *, die: bool = False) -> None:
        with whole_checkpoint(tmp_path, step, keep=1) as part:
            write_state(part, config(tmp_path), step=step, policy=f"x-v{step}")
            (part / "deep").mkdir()
            (part / "deep/weights").write_text(str(step))
            if die:
                assert not (tmp_path / f"checkpoint-{step}").exists()
                raise KeyboardInterrupt  # as far as the files go, this is what a kill leaves

    save(1)
    with pytest.raises(KeyboardInterrupt):
        save(2, die=True)
    assert open_run_folder(config(tmp_path, resume=True)) == tmp_path / "checkpoint-1", "the one before is still there"
    save(2)
    assert open_run_folder(config(tmp_path, resume=True)) == tmp_path / "checkpoint-2"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-2"], "one is kept, and nothing is left behind"
    save(2)  # again, from an earlier checkpoint
    assert (tmp_path / "checkpoint-2/deep/weights").read_text() == "2"


def test_resume_in_an_empty_folder_starts_afresh(tmp_path: Path) -> None:
    assert open_run_folder(config(tmp_path / "new", resume=True)) is None
    with pytest.raises(ConfigError, match="no checkpoint of envloop"):
        open_run_folder(config(tmp_path, resume=str(tmp_path / "checkpoint-1")))


def test_metrics_of_an_abandoned_continuation_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = JsonlSink(path)
    for step in (1, 2, 3):
        first.write(step, {"loss": float(step)})
    first.close()
    second = JsonlSink(path, after_step=2)
    second.write(3, {"loss": 30.0})
    second.close()
    assert [json.loads(line)["loss"] for line in path.read_text().splitlines()] == [1.0, 2.0, 30.0]


def test_a_line_that_a_kill_cut_off_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 1.0}\n{"step": 2, "lo')
    JsonlSink(path, after_step=2).close()
    assert path.read_text() == '{"step": 1, "loss": 1.0}\n'


def test_only_finite_numbers_are_reported_and_others_are_told_of() -> None:
    logs = {"loss": 1, "kl": 0.5, "nan": float("nan"), "inf": float("inf"), "text": "x", "flag": True, "none": None}
    assert finite_numbers(logs) == {"loss": 1.0, "kl": 0.5, "non_finite/nan": 1.0, "non_finite/inf": 1.0}


def test_example_marks_exactly_the_trained_tokens(tokenizer: HFTokenizer) -> None:
    ids = [tokenizer.encode(word, markup=False) for word in ("Task.", "look", "You see", "take")]
    completion = [i for part in ids[1:] for i in part]
    mask = [m for m, part in ((1, ids[1]), (0, ids[2]), (1, ids[3])) for _ in part]
    text = example_text(ids[0], completion, mask, tokenizer)
    assert text.plain == "Task.lookYou seetake"
    green = "".join(text.plain[s.start : s.end] for s in text.spans if "green" in str(s.style))
    assert green == "looktake"
    assert not str(text.style), "a style of all would dim the green too"


def test_sampler_keeps_to_sources_weights_and_bounds() -> None:
    sources = [
        TaskSource(env="alfworld", split="train", weight=3, seed_start=10, seed_stop=20, types=("heat", "cool")),
        TaskSource(env="dbbench", split="generated", task_ids=("generated/1", "generated/2")),
    ]
    drawn = [TaskSampler(sources, seed=4).task(row) for row in range(400)]
    games = [t for t in drawn if t.env == "alfworld"]
    assert 260 <= len(games) <= 340
    assert {t.sample_seed for t in games} == set(range(10, 20))
    assert {t.type for t in games} == {"heat", "cool"}
    assert {t.task_id for t in drawn if t.env == "dbbench"} == {"generated/1", "generated/2"}
    assert drawn == [TaskSampler(sources, seed=4).task(row) for row in range(400)]
    assert drawn != [TaskSampler(sources, seed=5).task(row) for row in range(400)]


def test_recipes_that_follow_one_another_draw_other_tasks() -> None:
    """A policy wins what it has just been shown: GRPO after SFT of the same seed would learn from that alone."""
    sources = [TaskSource(env="alfworld", split="generated_easy")]
    streams = ("", "sft", "preferences")
    drawn = {
        stream: [TaskSampler(sources, seed=0, stream=stream).task(row).sample_seed for row in range(500)]
        for stream in streams
    }
    for one, other in itertools.combinations(streams, 2):
        assert len(set(drawn[one]) & set(drawn[other])) <= 5  # of a million, by chance


def test_four_bits_need_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.models.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="qlora needs the package bitsandbytes"):
        load_model(ModelSettings(name="nowhere", device="cpu"), LoraSettings(qlora=True), seed=0)


@pytest.mark.parametrize(
    ("config_", "tensors", "message"),
    [
        (None, {}, "holds no adapter"),
        ({"bias": "none", "modules_to_save": ["lm_head"]}, {"a.lora_A.weight": 1}, "lm_head"),
        ({"bias": "none"}, {"a.lora_A.weight": 1, "model.embed_tokens.weight": 1}, "embed_tokens"),
        ({"bias": "all"}, {"a.lora_A.weight": 1}, "other than LoRA pairs"),
        ({"bias": "none"}, {"a.lora_A.weight": 1, "a.lora_B.weight": 1}, None),
    ],
)
def test_adapters_that_an_engine_could_not_load_are_refused(
    tmp_path: Path, config_: dict[str, object] | None, tensors: dict[str, int], message: str | None
) -> None:
    import torch
    from safetensors.torch import save_file

    if config_ is not None:
        (tmp_path / "adapter_config.json").write_text(json.dumps(config_))
        save_file({k: torch.ones(v) for k, v in tensors.items()}, str(tmp_path / "adapter_model.safetensors"))
    if message is None:
        check_adapter(tmp_path)
    else:
        with pytest.raises(ConfigError, match=message):
            check_adapter(tmp_path)


def test_tensorboard_gets_every_metric(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sink = TensorBoardSink(tmp_path)
    for step in (1, 2):
        sink.write(step, {"loss": step / 2})
    sink.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 0.5), (2, 1.0)]


def test_a_start_as_one_of_several_processes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="one training process"):
        open_run_folder(config(tmp_path / "new"))
    assert not (tmp_path / "new").exists()
