"""Checkpoints of a run: which one to resume from, and what must not have changed meanwhile."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from envs.errors import ConfigError
from trainer.config import TrainConfig
from trainer.record import RUN_RECORD, write_json

__all__ = ["STATE_FILE", "find_checkpoint", "lasting_settings", "open_run_folder", "read_state", "write_state"]

STATE_FILE = "envloop_state.json"


def lasting_settings(config: TrainConfig) -> dict[str, Any]:
    """The settings that give row numbers, seeds and weights their meaning: a resumed run must have the same."""
    full = config.model_dump(mode="json")
    lasting: dict[str, Any] = {
        "recipe": config.recipe,
        "model": {k: full["model"][k] for k in ("name", "revision")},
        "lora": {k: full["lora"][k] for k in ("r", "alpha", "targets", "full")},
        "seed": config.run.seed,
    }
    if config.recipe in ("dpo", "kto"):  # the order of rows; which ones they are: see trainer.preference_run
        lasting["batch"] = [config.preference.micro_batch, config.preference.effective_batch]
    if config.recipe in ("grpo", "ppo"):
        lasting["sources"] = full["data"]["sources"]
        lasting["rollout"] = {k: full["rollout"][k] for k in ("group_size", "groups_per_step", "protocol")}
        lasting["iterations"] = config.grpo.iterations
    return lasting


def write_state(checkpoint: Path, config: TrainConfig, *, step: int, policy: str) -> None:
    """Put our own state beside TRL's in a checkpoint. The sampler needs none: it is a function of seed and row."""
    write_json(checkpoint / STATE_FILE, {"step": step, "policy": policy, "settings": lasting_settings(config)})


def read_state(checkpoint: Path) -> dict[str, Any]:
    """What ``write_state`` wrote: ``step``, ``policy``, ``settings``. Raises ConfigError for a folder without it."""
    try:
        state = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
        return {"step": int(state["step"]), "policy": str(state["policy"]), "settings": dict(state["settings"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{checkpoint} is no checkpoint of envloop: {error}", hint="name a checkpoint-N folder"
        ) from error


def open_run_folder(config: TrainConfig) -> Path | None:
    """Prepare the run's folder and give the checkpoint to resume from, None for a fresh start.

    ``run.resume = true`` in a folder without a checkpoint starts afresh, so that one command serves both. Raises
    ConfigError where a fresh run would write over another one.
    """
    folder = config.run.output_dir
    if isinstance(config.run.resume, Path) or (config.run.resume and _checkpoints(folder)):
        return find_checkpoint(config)
    if config.run.resume is False and ((folder / RUN_RECORD).exists() or _checkpoints(folder)):
        raise ConfigError(
            f"{folder} already holds a run", hint="go on with it (--resume), or set run.output_dir to another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return None


def find_checkpoint(config: TrainConfig) -> Path:
    """The checkpoint that ``run.resume`` means. Raises ConfigError where there is none, or it is another run's."""
    resume = config.run.resume
    if isinstance(resume, Path):
        found = resume
    else:
        complete = [p for p in _checkpoints(config.run.output_dir) if (p / STATE_FILE).is_file()]
        if not complete:
            raise ConfigError(f"{config.run.output_dir} holds no complete checkpoint", hint="start without --resume")
        found = complete[-1]
    before, now = read_state(found)["settings"], lasting_settings(config)
    changed = sorted(k for k in now if now[k] != before.get(k))
    if changed:
        raise ConfigError(
            f"{found} was made with other settings: {', '.join(changed)}",
            hint="resume with the same recipe, or start a new run with lora.init_adapter",
        )
    return found


def _checkpoints(folder: Path) -> list[Path]:
    """Checkpoint folders, oldest first."""
    found = [(int(m[1]), p) for p in folder.glob("checkpoint-*") if (m := re.fullmatch(r"checkpoint-(\d+)", p.name))]
    return [p for _, p in sorted(found)]
