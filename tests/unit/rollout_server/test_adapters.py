"""An adapter folder is judged before an engine sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from adapter_folders import attention, pair, write_adapter

from envs.errors import ConfigError
from rollout_server.engines.adapters import check_adapter, check_finite, check_fit, plain_model_name
from rollout_server.engines.model_shapes import model_shapes


def test_a_good_adapter(tmp_path: Path) -> None:
    info = check_adapter(
        write_adapter(tmp_path / "a", rank_pattern={"q_proj": 16}), max_rank=16, base_models=["org/small"]
    )
    assert (info.rank, info.base_model, info.target_modules) == (16, "models/Small", ("q_proj", "v_proj"))
    assert info.path.is_absolute()
    assert info.shapes == {f"model.layers.0.self_attn.{name}_proj": (8, 8) for name in "qv"}
    check_finite(info)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": 32}, "rank 32"),
        ({"rank_pattern": {"q_proj": 64}}, "rank 64"),
        ({"r": "eight"}, "no valid rank"),
        ({"peft_type": "IA3"}, "IA3"),
        ({"use_dora": True}, "DoRA"),
        ({"bias": "all"}, "biases"),
        ({"modules_to_save": ["lm_head"]}, "lm_head"),
        ({"base_model_name_or_path": "org/Different"}, "Different.*'small'.*any_base_model"),
        ({"rank_pattern": [1]}, "no valid rank"),
        ({"r": True}, "no valid rank"),
        ({"target_modules": ["q_proj"]}, "v_proj, its config only q_proj"),
        ({"r": 4, "tensors": attention(8)}, "rank 8 and 8 .* its config says 4"),
        ({"tensors": {k: v for k, v in attention(8).items() if "lora_B" not in k}}, "one half"),
        ({"tensors": {"base_model.model.lm_head.weight": ("F32", [2, 2], bytes(16))}}, "lm_head.weight"),
        ({"tensors": {"x.lora_A.weight": ("F32", [8], bytes(32))}}, "of shape"),
        ({"tensors": {"x.lora_A.weight": ("F32", [8, 0], b"")}}, "of shape"),
    ],
)
def test_what_no_engine_can_serve(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    changes = dict(changes)
    tensors = changes.pop("tensors", None)
    with pytest.raises(ConfigError, match=message):
        check_adapter(write_adapter(tmp_path / "a", tensors, **changes), max_rank=16, base_models=["other", "small"])


@pytest.mark.parametrize("missing", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    path = write_adapter(tmp_path / "a")
    (path / missing).unlink()
    with pytest.raises(ConfigError, match=missing):
        check_adapter(path)


def test_a_broken_config_and_a_missing_folder(tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "a")
    for text in ("{", "[]"):
        (path / "adapter_config.json").write_text(text)
        with pytest.raises(ConfigError, match=r"adapter_config\.json"):
            check_adapter(path)
    with pytest.raises(ConfigError, match="no adapter folder"):
        check_adapter(tmp_path / "nowhere")


def test_sizes_are_bounded(tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "a")
    size = (path / "adapter_model.safetensors").stat().st_size
    check_adapter(path, max_bytes=size)
    with pytest.raises(ConfigError, match=f"{size} bytes"):
        check_adapter(path, max_bytes=size - 1)
    (path / "adapter_config.json").write_text(" " * (1 << 20) + "{}")
    with pytest.raises(ConfigError, match="larger than"):
        check_adapter(path)


@pytest.mark.parametrize(
    ("dtype", "bad"),
    [
        ("F32", b"\x00\x00\xc0\x7f"),  # NaN
        ("F32", b"\x00\x00\x80\xff"),  # minus infinity
        ("F16", b"\x00\x7c"),
        ("BF16", b"\x81\x7f"),
        ("F64", b"\x00\x00\x00\x00\x00\x00\xf0\x7f"),
    ],
)
def test_an_adapter_that_has_diverged_is_refused(tmp_path: Path, dtype: str, bad: bytes) -> None:
    tensors = attention(8, dtype=dtype)
    check_finite(check_adapter(write_adapter(tmp_path / "good", tensors)))
    name = next(n for n in tensors if "v_proj.lora_B" in n)
    kind, shape, content = tensors[name]
    tensors[name] = (kind, shape, content[: -len(bad)] + bad)
    with pytest.raises(ConfigError, match=r"a NaN or an infinity in .*v_proj\.lora_B"):
        check_finite(check_adapter(write_adapter(tmp_path / "bad", tensors)))
    largest = {"F32": b"\xff\xff\x7f\x7f", "F16": b"\xff\x7b", "BF16": b"\x7f\x7f"}.get(dtype)
    if largest is not None:
        tensors[name] = (kind, shape, content[: -len(largest)] + largest)
        check_finite(check_adapter(write_adapter(tmp_path / "large", tensors)))


def test_names_of_one_model() -> None:
    same = ("Qwen/Qwen3-4B", "/models/qwen3-4b/", "/cache/hub/models--Qwen--Qwen3-4B/snapshots/0a1b2c")
    assert {plain_model_name(name) for name in same} == {"qwen3-4b"}


def test_an_adapter_is_held_against_the_models_own_shapes(smollm2_dir: Path, tmp_path: Path) -> None:
    shapes = model_shapes(str(smollm2_dir))
    query, key = "model.layers.3.self_attn.q_proj", "model.layers.3.self_attn.k_proj"
    assert shapes[f"{query}.weight"] == (576, 576)
    config = {"target_modules": ["q_proj", "k_proj", "c_attn"]}

    def fit(modules: dict[str, tuple[int, int]]) -> None:
        tensors = {n: v for module, shape in modules.items() for n, v in pair(module, 8, shape).items()}
        check_fit(check_adapter(write_adapter(tmp_path / "a", tensors, **config)), shapes)

    fit({query: (576, 576), key: (192, 576)})
    with pytest.raises(ConfigError, match=r"k_proj as \(576, 576\), the model's is \(192, 576\)"):
        fit({query: (576, 576), key: (576, 576)})
    with pytest.raises(ConfigError, match=r"layers\.30\.self_attn\.q_proj, which the model does not have"):
        fit({query: (576, 576), query.replace("3", "30"): (576, 576)})
    with pytest.raises(ConfigError, match="c_attn, which the model does not have"):
        fit({"transformer.h.0.attn.c_attn": (2304, 768)})
    assert model_shapes(str(tmp_path / "nowhere")) == model_shapes("org/never-downloaded") == {}
