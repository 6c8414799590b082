"""What is trained on."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from trainer.settings.base import Section

__all__ = ["DataSettings", "TaskSource"]


class TaskSource(Section):
    """Tasks of one environment: a share of the mixture."""

    env: str
    """The environment (``alfworld``, ``dbbench``)."""
    split: str
    """The split that tasks are drawn from."""
    types: tuple[str, ...] = ()
    """Only tasks of these types, in equal shares; empty for all."""
    task_ids: tuple[str, ...] = ()
    """Draw from these tasks alone; their ids begin with ``split``."""
    weight: float = Field(default=1.0, gt=0, le=1e6)
    """How often tasks come from here, relative to the other sources."""
    seed_start: int = Field(default=0, ge=0)
    """First sampler seed that may be drawn."""
    seed_stop: int = Field(default=1_000_000, ge=1)
    """Sampler seeds below this may be drawn."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.seed_stop <= self.seed_start:
            raise ValueError(f"seed_stop ({self.seed_stop}) must be above seed_start ({self.seed_start})")
        if stray := [t for t in self.task_ids if t.split("/", 1)[0] != self.split]:
            raise ValueError(f"task {stray[0]!r} is not of split {self.split!r}: ids begin with their split")
        return self


class DataSettings(Section):
    """What is trained on."""

    sources: tuple[TaskSource, ...] = (TaskSource(env="alfworld", split="generated"),)
    """The mixture of tasks."""
    allow_eval_split: tuple[str, ...] = ()
    """Evaluation splits that may be trained on all the same, by name (``alfworld/valid_unseen``). Such a run cannot
    report a score on them; its record says so."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.sources:
            raise ValueError("data.sources is empty: name at least one environment and split")
        return self
