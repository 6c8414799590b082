"""Adapters on disk as vLLM loads them, and their publication as numbered policy versions."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from envs.errors import ConfigError
from rollout_server.service import RolloutService
from rollout_server.types import PolicyVersion
from trainer.loops import LoopThread
from trainer.record import ADAPTER_RECORD, TrainingRecord, write_json
from trainer.settings import LoraSettings

__all__ = ["PolicyPublisher", "check_adapter", "lora_config", "save_adapter"]

_NUMBERS = "numbers.json"


def lora_config(settings: LoraSettings) -> Any:
    """The settings as PEFT's LoraConfig."""
    from peft import LoraConfig

    return LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(settings.targets),
        bias="none",
        task_type="CAUSAL_LM",
    )


def save_adapter(model: Any, path: Path, record: TrainingRecord, **more: Any) -> Path:
    """Write the trained adapter of a PEFT model, with its training record beside it.

    The folder appears whole or not at all. Raises ConfigError where an engine could not load what was written.
    """
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    # Embeddings are never trained here; "auto" would ask a model hub whether they have been resized.
    model.save_pretrained(str(part), selected_adapters=["default"], save_embedding_layers=False)
    (part / "README.md").unlink(missing_ok=True)
    record.save(part / ADAPTER_RECORD, **more)
    check_adapter(part)
    part.rename(path)
    return path


def check_adapter(path: Path) -> None:
    """Raise ConfigError unless vLLM can load this adapter: LoRA pairs of linear layers and nothing else."""
    from safetensors import safe_open

    try:
        config = json.loads((path / "adapter_config.json").read_text(encoding="utf-8"))
        with safe_open(path / "adapter_model.safetensors", framework="pt") as file:
            names = list(file.keys())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} holds no adapter: {error}", hint="give a folder that PEFT saved") from error
    strange = [n for n in names if not re.search(r"\.lora_[AB]\.weight$", n)]
    if config.get("modules_to_save") or strange or not names or config.get("bias") != "none":
        found = strange[:3] or config.get("modules_to_save")
        raise ConfigError(
            f"the adapter in {path} holds more or other than LoRA pairs: {found}",
            hint="train linear layers of the blocks only (lora.targets), without bias and modules_to_save",
        )


class PolicyPublisher:
    """Publishes each new adapter under a name that was never used before, and keeps the newest few on disk.

    The last number is written down before an adapter gets it, so a run that dies and resumes goes on counting.
    """

    def __init__(
        self,
        service: RolloutService,
        loop: LoopThread,
        *,
        folder: Path,
        prefix: str,
        keep: int,
        record: TrainingRecord,
    ) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}", prefix):
            raise ConfigError(f"run.name {prefix!r} cannot name a policy", hint="use letters, digits, '.', '-', '_'")
        self._service = service
        self._loop = loop
        self._folder = folder
        self._prefix = prefix
        self._keep = keep
        self._record = record
        self.number = max(self._written(), self._known())

    def publish(self, model: Any, *, step: int) -> PolicyVersion:
        """Save the model's adapter and make it the engine's current policy. ``step``: the optimizer step behind it."""
        self.number += 1
        write_json(self._folder / _NUMBERS, {"last": self.number})
        return self._publish(model, f"{self._prefix}-v{self.number}", step)

    def restore(self, model: Any, name: str, *, step: int) -> PolicyVersion:
        """Make a version of before an interruption current again. Its weights are those that bore the name then, so the
        name stays theirs: an engine that still knows it is left alone, a fresh one is given the adapter anew."""
        known = {p.name: p for p in self._loop.run(self._service.policies())}
        if name in known:
            return known[name]
        shutil.rmtree(self._folder / name, ignore_errors=True)
        return self._publish(model, name, step)

    def _publish(self, model: Any, name: str, step: int) -> PolicyVersion:
        path = save_adapter(model, self._folder / name, self._record, policy=name, step=step)
        version = self._loop.run(self._service.publish_policy(name, path.resolve()))
        self._prune(spare=name)
        return version

    def _written(self) -> int:
        try:
            return int(json.loads((self._folder / _NUMBERS).read_text(encoding="utf-8"))["last"])
        except FileNotFoundError:
            return 0

    def _known(self) -> int:
        """The highest number under this name that a (shared) server has seen."""
        found = [self._number(p.name) for p in self._loop.run(self._service.policies())]
        return max(found, default=0)

    def _number(self, name: str) -> int:
        match = re.fullmatch(re.escape(self._prefix) + r"-v(\d+)", name)
        return int(match[1]) if match else 0

    def _prune(self, *, spare: str) -> None:
        mine = sorted((n, p) for p in self._folder.iterdir() if (n := self._number(p.name)))
        for _, path in mine[: -self._keep]:
            if path.name != spare:
                shutil.rmtree(path)
