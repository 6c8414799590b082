"""The precision that a device computes fast."""

from __future__ import annotations

import logging

import pytest
import torch

from trainer.config import parse_config
from trainer.models import load_model, weights_dtype
from trainer.services import _engine_options
from trainer.settings import LoraSettings, ModelSettings


@pytest.mark.parametrize(("kernels", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_a_cpu_without_bfloat16_gets_float32(monkeypatch: pytest.MonkeyPatch, kernels: bool, expected: str) -> None:
    monkeypatch.setattr("trainer.models._cpu_has_bfloat16", lambda: kernels)
    assert weights_dtype(ModelSettings(device="cpu")) == expected
    config = parse_config({"recipe": "grpo", "model": {"device": "cpu"}, "data": {"sources": [
        {"env": "alfworld", "split": "generated"}]}}, where="a test")  # fmt: skip
    assert _engine_options(config, "vllm")["dtype"] == expected, "the engine beside the trainer has it too"


@pytest.mark.parametrize(("native", "expected"), [(True, "bfloat16"), (False, "float16")])
def test_a_gpu_without_bfloat16_gets_float16(monkeypatch: pytest.MonkeyPatch, native: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    assert weights_dtype(ModelSettings()) == expected


def test_what_is_asked_for_is_taken_and_said_to_be_slow(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("trainer.models._cpu_has_bfloat16", lambda: False)
    settings = ModelSettings(device="cpu", dtype="bfloat16", name="smollm2")
    assert weights_dtype(settings) == "bfloat16"
    with caplog.at_level(logging.WARNING):
        load_model(settings, LoraSettings(r=4, alpha=8), seed=0)
    assert "no kernels for it" in caplog.text
