"""What a LoRA adapter's folder must hold before an engine is asked to load it (PEFT's format)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs.errors import ConfigError

__all__ = ["AdapterInfo", "check_adapter"]

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """A checked adapter: absolute folder, largest rank, the base model it was trained on, the modules it changes."""

    path: Path
    rank: int
    base_model: str
    target_modules: tuple[str, ...]


def check_adapter(path: Path, *, max_rank: int | None = None, base_model: str | None = None) -> AdapterInfo:
    """Read an adapter's config and check that an engine can serve it.

    ``base_model`` None accepts any; otherwise the last part of the names must agree (a model is often named by folder
    in one place and by hub name in the other). Raises ConfigError with the folder and the reason.
    """
    path = path.absolute()
    config = _read(path)
    if not (path / _WEIGHTS).is_file():
        raise ConfigError(f"the adapter {path} has no {_WEIGHTS}", hint="save it with PEFT's save_pretrained")
    if str(config.get("peft_type", "LORA")).upper() != "LORA":
        raise ConfigError(f"the adapter {path} is a {config['peft_type']}, not a LoRA", hint="engines take LoRA alone")
    rank = _rank(path, config)
    if max_rank is not None and rank > max_rank:
        raise ConfigError(
            f"the adapter {path} has rank {rank}, the engine takes {max_rank}", hint="raise the engine's max_lora_rank"
        )
    if config.get("use_dora"):
        raise ConfigError(f"the adapter {path} uses DoRA, which vLLM cannot serve", hint="train with use_dora=False")
    if config.get("bias", "none") != "none":
        raise ConfigError(f"the adapter {path} trains biases, which vLLM cannot serve", hint="train with bias='none'")
    if config.get("modules_to_save"):
        raise ConfigError(
            f"the adapter {path} replaces whole modules {config['modules_to_save']}", hint="leave modules_to_save out"
        )
    named = str(config.get("base_model_name_or_path") or "")
    if base_model and named and Path(named).name.lower() != Path(base_model).name.lower():
        raise ConfigError(f"the adapter {path} was trained on {named!r}, the engine runs {base_model!r}")
    targets = config.get("target_modules") or ()
    return AdapterInfo(path, rank, named, (targets,) if isinstance(targets, str) else tuple(sorted(targets)))


def _read(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise ConfigError(f"there is no adapter folder {path}")
    file = path / _CONFIG
    if not file.is_file():
        raise ConfigError(f"the adapter {path} has no {_CONFIG}", hint="save it with PEFT's save_pretrained")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{file} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{file} is not a JSON object")
    return config


def _rank(path: Path, config: dict[str, Any]) -> int:
    ranks = [config.get("r"), *(config.get("rank_pattern") or {}).values()]
    if not all(isinstance(r, int) and r > 0 for r in ranks):
        raise ConfigError(f"the adapter {path} has no valid rank: {ranks}")
    return max(r for r in ranks if isinstance(r, int))
