"""The model as it is loaded: another template stops a run, 4 bits work without a GPU, Liger where it is installed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from envs.errors import ConfigError
from trainer.memory import Job, adapter_bytes, weight_bytes
from trainer.model_shapes import model_shape
from trainer.models import liger_arguments, load_model, load_tokenizer
from trainer.settings import LoraSettings, ModelSettings
from trainer.tiny_model import save_tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def settings(folder: Path, **more: Any) -> ModelSettings:
    return ModelSettings(name=str(folder), device="cpu", dtype="float32", **more)


def test_another_template_stops_the_run_unless_it_is_accepted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = save_tiny_model(tmp_path / "other")
    template = next(folder.glob("chat_template.jinja"))
    template.write_text(template.read_text().replace("{{ m.content }}", "{{ m.content | trim }}"))
    with pytest.raises(ConfigError, match="differs from the expected one") as caught:
        load_tokenizer(settings(folder))
    assert "any_chatml" in str(caught.value.hint)
    with caplog.at_level(logging.WARNING, logger="trainer.models"):
        load_tokenizer(settings(folder, template="any_chatml"))
    assert "differs from the expected one" in caplog.text
    template.write_text("{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}")
    with pytest.raises(ConfigError, match="not ChatML"):
        load_tokenizer(settings(folder, template="any_chatml"))


def test_four_bits_train_on_a_cpu(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A real NF4 model and a real adapter: the loss falls, the base stays, and it takes what the plan says."""
    import torch
    from bitsandbytes.nn import Linear4bit
    from peft import get_peft_model

    lora = LoraSettings(r=8, alpha=16, qlora=True)
    loaded = load_model(settings(folder), lora, seed=0)
    assert "lora.qlora on a CPU" in caplog.text
    linears = [m for m in loaded.model.modules() if isinstance(m, Linear4bit)]
    assert len(linears) == 7 * 2
    held = sum(p.numel() * p.element_size() for p in loaded.model.parameters()) + sum(map(_scales, linears))
    shape, job = model_shape(str(folder)), Job("sft", 32, lora_rank=8, four_bit=True, weight_bytes=4, autocast=False)
    assert held == pytest.approx(weight_bytes(shape, job), rel=0.01)
    model = get_peft_model(loaded.model, loaded.peft_config).train()  # at rest bitsandbytes may pack them anew
    trained = [p for p in model.parameters() if p.requires_grad]
    assert sum(4 * p.numel() for p in trained) == adapter_bytes(shape, job)
    before = linears[0].weight.detach().clone()
    ids = torch.arange(4, 36).reshape(1, -1)
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    losses = []
    for _ in range(8):
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1
    assert torch.equal(before, linears[0].weight.detach())


def _scales(linear: Any) -> int:
    """Bytes of a layer's scales and of the scales of the scales; its tables of values are some hundred bytes."""
    state = linear.weight.quant_state
    nested = getattr(state, "state2", None)
    tensors = [state.absmax] + ([nested.absmax] if nested is not None else [])
    return sum(t.numel() * t.element_size() for t in tensors)


def test_liger_is_taken_where_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    on, auto, off = (ModelSettings(liger=choice) for choice in ("on", "auto", "off"))
    monkeypatch.setattr("trainer.models.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="not installed"):
        liger_arguments(on, "cuda")
    assert liger_arguments(auto, "cuda") == {}
    monkeypatch.setattr("trainer.models.find_spec", lambda name: object())
    assert liger_arguments(on, "cuda") == liger_arguments(auto, "cuda") == {"use_liger_kernel": True}
    assert liger_arguments(auto, "cpu") == liger_arguments(off, "cuda") == {}
    with pytest.raises(ConfigError, match="CUDA alone"):
        liger_arguments(on, "cpu")
