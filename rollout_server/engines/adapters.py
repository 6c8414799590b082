"""What a LoRA adapter's folder must hold before an engine is asked to load it (PEFT's format).

Nothing in it is trusted: sizes are bounded, the weights' header is read number by number, and no pickle is opened.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs.errors import ConfigError
from rollout_server.engines.safetensors_header import TensorEntry, first_not_finite, read_header

__all__ = ["AdapterInfo", "check_adapter", "check_finite", "check_fit", "plain_model_name"]

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_CONFIG_LIMIT = 1 << 20
_PREFIX = "base_model.model."
_HALF = re.compile(r"(?P<module>.+)\.lora_(?P<half>[AB])\.weight")
_DENSE = "model.layers.0.self_attn.q_proj"  # a model with this module names all of its modules as transformers does


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """A checked adapter: absolute folder, largest rank, the base model it was trained on, the modules it changes.

    ``shapes``: module → (outputs, inputs), as the module's own weight has them. ``tensors``: where the weights lie.
    """

    path: Path
    rank: int
    base_model: str
    target_modules: tuple[str, ...]
    shapes: Mapping[str, tuple[int, int]]
    tensors: tuple[TensorEntry, ...]


def check_adapter(
    path: Path, *, max_rank: int | None = None, base_models: Collection[str] = (), max_bytes: int | None = None
) -> AdapterInfo:
    """Read an adapter's config and its weights' header, and check that an engine can serve it.

    ``base_models``: the names of the served model; empty accepts any. The last part of one must agree with the one that
    the adapter was trained on (a model is often named by folder in one place and by hub name in the other).
    ``max_bytes`` bounds the weights. Raises ConfigError with the folder and the reason. The numbers themselves are
    ``check_finite``'s, the model's shapes ``check_fit``'s.
    """
    path = path.absolute()
    config = _read(path)
    weights = path / _WEIGHTS
    if not weights.is_file():
        raise ConfigError(f"the adapter {path} has no {_WEIGHTS}", hint="save it with PEFT's save_pretrained")
    if max_bytes is not None and (size := weights.stat().st_size) > max_bytes:
        raise ConfigError(
            f"the adapter {path} has {size} bytes of weights, {max_bytes} are allowed",
            hint="raise the server's adapter_limit",
        )
    _check_kind(path, config)
    rank = _rank(path, config)
    if max_rank is not None and rank > max_rank:
        raise ConfigError(
            f"the adapter {path} has rank {rank}, the engine takes {max_rank}", hint="raise the engine's max_lora_rank"
        )
    named = str(config.get("base_model_name_or_path") or "")
    if base_models and named and plain_model_name(named) not in map(plain_model_name, base_models):
        raise ConfigError(
            f"the adapter {path} was trained on {named!r}, the engine runs {' alias '.join(map(repr, base_models))}",
            hint="publish it with any_base_model where the two are the same model under other names",
        )
    targets = config.get("target_modules") or ()
    listed = (targets,) if isinstance(targets, str) else tuple(sorted(map(str, targets)))
    tensors = read_header(weights)
    shapes = _pairs(path, config, tensors, () if isinstance(targets, str) else listed)
    return AdapterInfo(path, rank, named, listed, shapes, tensors)


def plain_model_name(name: str) -> str:
    """The last part of a folder or a hub name, in small letters; of a hub's cache folder the name it caches."""
    cached = re.search(r"models--([^/]+)/snapshots/[^/]+/?$", name)
    return (cached[1].rpartition("--")[2] if cached else Path(name).name).lower()


def check_finite(info: AdapterInfo) -> None:
    """Read every weight. Raises ConfigError for a NaN or an infinity: such an adapter samples nonsense in silence."""
    name = first_not_finite(info.path / _WEIGHTS, info.tensors)
    if name is not None:
        raise ConfigError(
            f"the adapter {info.path} has a NaN or an infinity in {name}",
            hint="the training has diverged: lower the learning rate, and publish an earlier checkpoint",
        )


def check_fit(info: AdapterInfo, model: Mapping[str, Sequence[int]]) -> None:
    """Hold the adapter's modules against the shapes of the model's own weights, by name (``model_shapes``).

    Raises ConfigError for a module that the model does not have or that has another shape there. A model whose weights
    are named otherwise than the adapter's modules altogether says nothing.
    """
    found = {module: model[f"{module}.weight"] for module in info.shapes if f"{module}.weight" in model}
    for module, shape in found.items():
        if tuple(shape) != info.shapes[module]:
            raise ConfigError(
                f"the adapter {info.path} changes {module} as {info.shapes[module]}, the model's is {tuple(shape)}",
                hint="it was trained on a model of another size",
            )
    missing = [module for module in info.shapes if module not in found and module != "lm_head"]  # may be tied
    if missing and (found or f"{_DENSE}.weight" in model):
        raise ConfigError(
            f"the adapter {info.path} changes {missing[0]}, which the model does not have ({len(missing)} such)",
            hint="it was trained on another model",
        )


def _check_kind(path: Path, config: Mapping[str, Any]) -> None:
    if str(config.get("peft_type", "LORA")).upper() != "LORA":
        raise ConfigError(f"the adapter {path} is a {config['peft_type']}, not a LoRA", hint="engines take LoRA alone")
    if config.get("use_dora"):
        raise ConfigError(f"the adapter {path} uses DoRA, which vLLM cannot serve", hint="train with use_dora=False")
    if config.get("bias", "none") != "none":
        raise ConfigError(f"the adapter {path} trains biases, which vLLM cannot serve", hint="train with bias='none'")
    if config.get("modules_to_save"):
        raise ConfigError(
            f"the adapter {path} replaces whole modules {config['modules_to_save']}", hint="leave modules_to_save out"
        )


def _pairs(
    path: Path, config: Mapping[str, Any], tensors: Sequence[TensorEntry], targets: Sequence[str]
) -> dict[str, tuple[int, int]]:
    """The adapter's modules with their shapes, from halves A (rank, inputs) and B (outputs, rank)."""
    halves: dict[str, dict[str, tuple[int, ...]]] = {}
    for entry in tensors:
        matched = _HALF.fullmatch(entry.name)
        if not matched or len(entry.shape) != 2 or 0 in entry.shape:
            raise ConfigError(
                f"the adapter {path} holds {entry.name[:100]!r} of shape {entry.shape}",
                hint="engines take pairs lora_A, lora_B of linear layers and nothing else",
            )
        halves.setdefault(matched["module"].removeprefix(_PREFIX), {})[matched["half"]] = entry.shape
    if not halves:
        raise ConfigError(f"the adapter {path} holds no weights", hint="save it with PEFT's save_pretrained")
    allowed = {config.get("r"), *(config.get("rank_pattern") or {}).values()}
    shapes = {}
    for module, pair in halves.items():
        if pair.keys() != {"A", "B"}:
            raise ConfigError(f"the adapter {path} has one half of {module} alone: lora_{next(iter(pair))}")
        (rank, inputs), (outputs, other) = pair["A"], pair["B"]
        if rank != other or rank not in allowed:
            raise ConfigError(
                f"the adapter {path} has halves of rank {rank} and {other} for {module}, its config says "
                f"{', '.join(map(str, sorted(allowed, key=str)))}"
            )
        if targets and not any(module == target or module.endswith(f".{target}") for target in targets):
            raise ConfigError(
                f"the adapter {path} changes {module}, its config only {', '.join(targets)}",
                hint="the two files are not of one adapter",
            )
        shapes[module] = (outputs, inputs)
    return shapes


def _read(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise ConfigError(f"there is no adapter folder {path}")
    file = path / _CONFIG
    if not file.is_file():
        raise ConfigError(f"the adapter {path} has no {_CONFIG}", hint="save it with PEFT's save_pretrained")
    if file.stat().st_size > _CONFIG_LIMIT:
        raise ConfigError(f"{file} is larger than {_CONFIG_LIMIT} bytes: that is no adapter's config")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{file} is not a JSON object")
    return config


def _rank(path: Path, config: Mapping[str, Any]) -> int:
    pattern = config.get("rank_pattern") or {}
    ranks = [config.get("r"), *(pattern.values() if isinstance(pattern, dict) else [pattern])]
    if not all(type(r) is int and r > 0 for r in ranks):
        raise ConfigError(f"the adapter {path} has no valid rank: {ranks}")
    return max(r for r in ranks if isinstance(r, int))
