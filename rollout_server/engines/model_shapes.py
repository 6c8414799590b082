"""The shapes of a model's own weights, where its files lie on this machine."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from envs.errors import ConfigError
from rollout_server.engines.safetensors_header import read_header

__all__ = ["model_shapes"]

_LOG = logging.getLogger(__name__)
_ONE, _INDEX = "model.safetensors", "model.safetensors.index.json"


def model_shapes(model: str) -> dict[str, tuple[int, ...]]:
    """Weight → shape, from the headers of the safetensors files of a folder, or of a hub name in the hub's cache.

    Empty where there are none here, or where they hold more than plain weights (a quantised model).
    """
    files = _files(model)
    try:
        return {entry.name: entry.shape for file in files for entry in read_header(file)}
    except (ConfigError, OSError) as error:
        _LOG.info("the shapes of %s are not known, adapters are not held against them: %s", model, error)
        return {}


def _files(model: str) -> list[Path]:
    folder = Path(model)
    if folder.is_dir():
        return sorted(folder.glob("model*.safetensors"))
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return []
    try:
        one, index = (try_to_load_from_cache(model, name) for name in (_ONE, _INDEX))
    except ValueError:  # not a name that a hub could have
        return []
    if isinstance(one, str):
        return [Path(one)]
    if not isinstance(index, str):
        return []
    names = set(json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"].values())
    return [Path(index).with_name(str(name)) for name in sorted(names)]
