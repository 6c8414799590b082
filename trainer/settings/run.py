"""Where a run writes and what it reports."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from trainer.settings.base import Section

__all__ = ["RunSettings"]


class RunSettings(Section):
    """Where a run writes and what it reports."""

    name: str | None = None
    """Prefix of its policy versions (``NAME-v3``); None takes the name of ``output_dir``."""
    output_dir: Path = Path("runs/default")
    """Folder of checkpoints, adapters, metrics and records."""
    seed: int = Field(default=0, ge=0)
    """Seeds tasks, sampling, weights and batch order."""
    save_every: int = Field(default=10, ge=1)
    """Steps between checkpoints; the last step is always saved."""
    keep_checkpoints: int = Field(default=3, ge=1)
    """How many checkpoints stay on disk."""
    keep_policies: int = Field(default=4, ge=2)
    """How many published adapters stay on disk. At least 2: episodes under way still sample from the last but one."""
    resume: bool | Path = False
    """Go on from the newest checkpoint where there is one (true), or from this one."""
    report_to: tuple[Literal["console", "jsonl", "tensorboard", "wandb", "trackio"], ...] = ("console", "jsonl")
    """Where metrics go."""
    samples_every: int = Field(default=10, ge=0)
    """Steps between samples of episodes (best, worst, longest) in ``samples/`` and where metrics go; 0 for none."""

    @property
    def policy_prefix(self) -> str:
        """The name in front of ``-v1``, ``-v2``, …"""
        return self.name or self.output_dir.name
