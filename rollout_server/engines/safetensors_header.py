"""The head of a safetensors file, read with no trust in it: nothing is loaded before every number in it was checked.

The format (8 bytes of length, JSON of ``{name: {dtype, shape, data_offsets}}``, then the tensors' bytes without a gap):
https://github.com/huggingface/safetensors, "Format".
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from envs.errors import ConfigError

__all__ = ["TensorEntry", "first_not_finite", "read_header"]

_HEADER_LIMIT = 16 << 20  # of an adapter with a hundred thousand tensors; the format itself allows 100 MB
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}  # what a LoRA's weights can be
_CHUNK = 4 << 20


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor: its type, shape, and place in the file, ``start`` to ``end`` in bytes from the file's beginning."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(path: Path) -> tuple[TensorEntry, ...]:
    """Every tensor of the file, in the order of its bytes.

    Raises ConfigError for a file that is no safetensors: cut, grown, with a header that is too long or no JSON, with a
    name twice, a type that no weights have, a shape that is not as long as its bytes, or bytes that lie outside, twice
    or nowhere.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        raw, start = _raw_header(path, file, size)
    try:
        header = json.loads(raw, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise _broken(path, f"its header is no JSON: {error}") from error
    if not isinstance(header, dict):
        raise _broken(path, "its header is no JSON object")
    _check_notes(path, header.pop("__metadata__", {}))
    entries = [_entry(path, name, value, start) for name, value in header.items()]
    entries.sort(key=lambda entry: (entry.start, entry.end))
    at = start
    for entry in entries:
        if entry.start != at:
            raise _broken(path, f"the bytes of {entry.name[:100]!r} do not follow the tensor before")
        at = entry.end
    if at != size:
        raise _broken(path, f"its tensors end at byte {at}, the file at {size}: was it sent whole?")
    return tuple(entries)


def _raw_header(path: Path, file: IO[bytes], size: int) -> tuple[bytes, int]:
    if size < 8:
        raise _broken(path, f"it has {size} bytes")
    (length,) = struct.unpack("<Q", file.read(8))
    if length > min(_HEADER_LIMIT, size - 8):
        raise _broken(path, f"its header claims {length} bytes, the file has {size} and {_HEADER_LIMIT} are allowed")
    return file.read(length), 8 + length


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def _check_notes(path: Path, notes: Any) -> None:
    if not isinstance(notes, dict) or not all(isinstance(value, str) for value in notes.values()):
        raise _broken(path, "its __metadata__ is not made of texts")


def _entry(path: Path, name: str, value: Any, start: int) -> TensorEntry:
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise _broken(path, f"{name[:100]!r} needs dtype, shape and data_offsets, and nothing else")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BYTES:
        raise _broken(path, f"{name[:100]!r} has the dtype {str(dtype)[:20]!r}, not one of {', '.join(_BYTES)}")
    if not _naturals(shape) or len(shape) > 8:
        raise _broken(path, f"{name[:100]!r} has no valid shape")
    if not _naturals(offsets) or len(offsets) != 2 or offsets[1] - offsets[0] != math.prod(shape) * _BYTES[dtype]:
        raise _broken(path, f"{name[:100]!r} has offsets that do not fit its shape {shape} of {dtype}")
    return TensorEntry(name, dtype, tuple(shape), start + offsets[0], start + offsets[1])


def _naturals(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 1 << 48 for v in values)


def first_not_finite(path: Path, entries: tuple[TensorEntry, ...]) -> str | None:
    """The name of the first tensor with a NaN or an infinity, or None. Reads the file once, in parts."""
    with path.open("rb") as file:
        for entry in entries:
            file.seek(entry.start)
            left = entry.end - entry.start
            while left:
                part = file.read(min(_CHUNK, left))
                if not part:
                    raise _broken(path, "it has become shorter while it was read")
                if not _finite(part, entry.dtype):
                    return entry.name
                left -= len(part)
    return None


_EXPONENT: Mapping[str, tuple[str, int]] = {  # a NaN or an infinity has every bit of the exponent set
    "F64": ("<u8", 0x7FF0_0000_0000_0000),
    "F32": ("<u4", 0x7F80_0000),
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
}


def _finite(part: bytes, dtype: str) -> bool:
    import numpy as np

    kind, mask = _EXPONENT[dtype]
    bits = np.frombuffer(part, dtype=kind)
    return not bool(((bits & mask) == mask).any())


def _broken(path: Path, why: str) -> ConfigError:
    return ConfigError(f"{path} is no usable safetensors file: {why}", hint="save the adapter with save_pretrained")
