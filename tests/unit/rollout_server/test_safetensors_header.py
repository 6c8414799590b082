"""A safetensors header is read number by number, and every lie in it is an error that names it."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from adapter_folders import pair, safetensors_bytes, with_header
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.errors import ConfigError
from rollout_server.engines.safetensors_header import first_not_finite, read_header

GOOD = pair("model.layers.0.self_attn.q_proj", 2, (3, 4))
ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def test_what_the_library_writes_is_read_alike(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    tensors = {
        "a.lora_A.weight": torch.arange(12, dtype=torch.float32).reshape(3, 4),
        "b.lora_B.weight": torch.ones(2, 3, dtype=torch.bfloat16),
        "c": torch.tensor([[float("inf")]], dtype=torch.float16),
    }
    path = tmp_path / "x.safetensors"
    save_file(tensors, str(path), metadata={"format": "pt"})
    read = read_header(path)
    assert {(e.name, e.shape) for e in read} == {(name, tuple(tensor.shape)) for name, tensor in tensors.items()}
    content = path.read_bytes()
    (first,) = (e for e in read if e.name == "a.lora_A.weight")
    assert struct.unpack("<12f", content[first.start : first.end]) == tuple(range(12))
    assert first_not_finite(path, read) == "c"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "0 bytes"),
        (b"weights", "7 bytes"),
        (struct.pack("<Q", 1 << 62) + b"{}", "claims"),
        (struct.pack("<Q", 3) + b"{}", "claims 3 bytes"),
        (with_header(b"{"), "no JSON"),
        (with_header(b"[]"), "no JSON object"),
        (with_header(b"[" * 100_000), "no JSON"),
        (with_header(b'{"a": 1, "a": 2}'), "a name comes twice"),
        (with_header(b'{"__metadata__": {"format": 1}}'), "__metadata__"),
        (with_header(json.dumps({"a": {**ENTRY, "more": 1}}).encode(), bytes(8)), "nothing else"),
        (with_header(json.dumps({"a": {"dtype": "F32"}}).encode(), bytes(8)), "needs dtype"),
        (with_header(json.dumps({"a": ENTRY}).encode(), bytes(7)), "sent whole"),
        (with_header(json.dumps({"a": ENTRY}).encode(), bytes(9)), "sent whole"),
        *(
            (with_header(json.dumps({"a": {**ENTRY, **change}}).encode(), bytes(8)), said)
            for change, said in (
                ({"dtype": "I64", "shape": [1]}, "dtype 'I64'"),
                ({"dtype": "pickle"}, "dtype 'pickle'"),
                ({"dtype": ["F32"]}, "dtype"),
                ({"shape": [-2]}, "no valid shape"),
                ({"shape": [True, 2]}, "no valid shape"),
                ({"shape": [1 << 60]}, "no valid shape"),
                ({"shape": [1] * 9}, "no valid shape"),
                ({"shape": 2}, "no valid shape"),
                ({"shape": [3]}, "do not fit"),
                ({"data_offsets": [8, 0]}, "do not fit"),
                ({"data_offsets": [-8, 0]}, "do not fit"),
                ({"data_offsets": [0, 8, 8]}, "do not fit"),
                ({"data_offsets": [4, 12]}, "do not follow"),
            )
        ),
        (with_header(json.dumps({"a": ENTRY, "b": ENTRY}).encode(), bytes(8)), "do not follow"),
    ],
)
def test_every_lie_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        read_header(path)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_file_is_refused_or_means_the_same_places(tmp_path_factory: Any, data: st.DataObject) -> None:
    content = bytearray(safetensors_bytes(GOOD))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("x") / "x.safetensors"
    path.write_bytes(content)
    try:
        entries = read_header(path)
    except ConfigError:
        return
    assert all(0 < e.start <= e.end <= len(content) for e in entries)
    first_not_finite(path, entries)
