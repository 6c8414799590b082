"""The converted model is whole, is what transformers makes of the same file, and speaks."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest
import torch
import transformers

from envs.errors import ConfigError
from rollout_server import smollm2


def test_second_call_converts_nothing(smollm2_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "_convert", lambda *_: pytest.fail("converted twice"))
    assert smollm2.ensure_smollm2(smollm2_dir.parent) == smollm2_dir
    assert not list(smollm2_dir.parent.glob(".*.tmp-*"))


def test_config_has_no_trace_of_the_quantisation(smollm2_dir: Path) -> None:
    config = json.loads((smollm2_dir / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["dtype"] == "bfloat16"


def test_tokenizer_round_trips_and_splits_digits(smollm2_dir: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(smollm2_dir)
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") == tokenizer.eos_token_id == 2
    text = "<|im_start|>user\nmug 12 in  cabinet 3; é 日本\n<|im_end|>\n"
    ids = tokenizer(text).input_ids
    assert tokenizer.decode(ids) == text
    assert tokenizer.convert_ids_to_tokens(tokenizer("12 3").input_ids) == ["1", "2", "Ġ", "3"]


def test_the_model_answers(smollm2_dir: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(smollm2_dir)
    model = transformers.AutoModelForCausalLM.from_pretrained(smollm2_dir, dtype=torch.float32)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}], tokenize=False, add_generation_prompt=True
    )
    ids = torch.tensor([tokenizer(prompt).input_ids])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
    assert "Paris" in tokenizer.decode(out[0, ids.shape[1] :])


def test_a_failed_conversion_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object, target: Path) -> None:
        (target / "half").write_text("x")
        raise OSError("disk full")

    monkeypatch.setattr(smollm2, "_convert", fail)
    with pytest.raises(OSError, match="disk full"):
        smollm2.ensure_smollm2(tmp_path)
    assert [p.name for p in tmp_path.iterdir() if not p.name.endswith(".lock")] == []


def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(smollm2.metadata, "distribution", missing)
    with pytest.raises(ConfigError, match="demo"):
        smollm2.ensure_smollm2(tmp_path)


def test_the_cache_folder_follows_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVLOOP_CACHE", str(tmp_path))
    assert smollm2.model_cache_dir() == tmp_path
    monkeypatch.delenv("ENVLOOP_CACHE")
    assert smollm2.model_cache_dir().parts[-2:] == ("envloop", "models")
