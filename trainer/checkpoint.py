"""Checkpoints: written whole or not at all, which one a run goes on from, what must not have changed meanwhile."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from envs.errors import ConfigError
from trainer.config import TrainConfig
from trainer.record import RUN_RECORD, write_json

__all__ = [
    "STATE_FILE",
    "find_checkpoint",
    "lasting_settings",
    "open_run_folder",
    "read_state",
    "whole_checkpoint",
    "write_state",
]

STATE_FILE = "envloop_state.json"

_STAGING = ".saving"


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
        lasting["init_adapter"] = full["lora"]["init_adapter"]  # what the KL term holds to
    return lasting


@contextmanager
def whole_checkpoint(folder: Path, step: int, *, keep: int) -> Iterator[Path]:
    """Where ``checkpoint-STEP`` is to be written. It takes its name when the context ends and all of it is on disk.

    A process that is killed meanwhile leaves the checkpoints as they were: the newest is always whole, and older ones
    go (``keep`` stay) only after it has its name. Nothing is left behind that could be taken for a checkpoint.
    """
    staging = folder / _STAGING
    shutil.rmtree(staging, ignore_errors=True)  # of a process that was killed
    part, final = staging / f"checkpoint-{step}", folder / f"checkpoint-{step}"
    part.mkdir(parents=True)
    yield part
    for path in (*part.rglob("*"), part):
        _sync(path)
    if final.exists():  # of a continuation that an earlier checkpoint was taken instead of
        final.rename(staging / "replaced")
    part.rename(final)
    _sync(folder)
    older = [path for path in _checkpoints(folder) if path != final]
    for path in older[: max(0, len(older) + 1 - keep)]:
        path.rename(staging / path.name)  # at once: half a checkpoint is none
    shutil.rmtree(staging)


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_state(
    checkpoint: Path, config: TrainConfig, *, step: int, policy: str = "", sampler: Mapping[str, Any] | None = None
) -> None:
    """Put our own state beside TRL's in a checkpoint. ``policy``: the version in the engine; empty where nothing is
    played. ``sampler``: of ``TaskSampler.state_dict``."""
    document = {"step": step, "policy": policy, "settings": lasting_settings(config), "sampler": dict(sampler or {})}
    write_json(checkpoint / STATE_FILE, document)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """What ``write_state`` wrote: ``step``, ``policy``, ``settings``, ``sampler``.

    Raises ConfigError for a folder without it.
    """
    try:
        state = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
        return {
            "step": int(state["step"]),
            "policy": str(state["policy"]),
            "settings": dict(state["settings"]),
            "sampler": dict(state.get("sampler", {})),
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{checkpoint} is no checkpoint of envloop: {error}", hint="name a checkpoint-N folder"
        ) from error


def open_run_folder(config: TrainConfig) -> Path | None:
    """Prepare the run's folder and give the checkpoint to resume from, None for a fresh start.

    ``run.resume = true`` in a folder without a checkpoint starts afresh, so that one command serves both. Raises
    ConfigError where a fresh run would write over another one, and where several processes were started to train: each
    would play, write and save as if it were alone.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            f"{config.recipe} runs in one training process", hint="start it without accelerate launch or torchrun"
        )
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
