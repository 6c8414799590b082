"""Adapter folders as PEFT writes them, with made-up weights."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

_SIZES = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8}


def safetensors_bytes(tensors: dict[str, tuple[str, list[int], bytes]], **header: Any) -> bytes:
    """A safetensors file of (dtype, shape, bytes), in this order. ``header``: entries that replace its own."""
    entries: dict[str, Any] = {}
    data = b""
    for name, (dtype, shape, content) in tensors.items():
        offsets = [len(data), len(data) + len(content)]
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        data += content
    return with_header(json.dumps(entries | header).encode(), data)


def with_header(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def pair(module: str, rank: int, shape: tuple[int, int] = (8, 8), dtype: str = "F32") -> dict[str, Any]:
    """The two halves for a module whose weight has this shape, of zeros."""
    outputs, inputs = shape
    size = _SIZES[dtype]
    return {
        f"base_model.model.{module}.lora_A.weight": (dtype, [rank, inputs], bytes(rank * inputs * size)),
        f"base_model.model.{module}.lora_B.weight": (dtype, [outputs, rank], bytes(outputs * rank * size)),
    }


def attention(rank: int, **options: Any) -> dict[str, Any]:
    names = [f"model.layers.0.self_attn.{name}_proj" for name in "qv"]
    return {name: value for module in names for name, value in pair(module, rank, **options).items()}


def write_adapter(path: Path, tensors: dict[str, Any] | None = None, **changes: Any) -> Path:
    config = {
        "peft_type": "LORA",
        "r": 8,
        "target_modules": ["v_proj", "q_proj"],
        "base_model_name_or_path": "models/Small",
        "bias": "none",
    } | changes
    path.mkdir(parents=True, exist_ok=True)
    (path / "adapter_config.json").write_text(json.dumps(config))
    rank = config["r"] if isinstance(config["r"], int) else 8
    (path / "adapter_model.safetensors").write_bytes(safetensors_bytes(tensors or attention(rank)))
    return path
