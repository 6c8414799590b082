"""Tasks by difficulty."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from trainer.settings.base import Section

__all__ = ["CurriculumSettings"]


class CurriculumSettings(Section):
    """Draw more of the tasks that the policy sometimes solves. The shares of the sources stay as they are."""

    enabled: bool = False
    """Whether success decides what is drawn; without it every task of a source is as likely as any other."""
    low: float = Field(default=0.1, ge=0, le=1)
    """Task types and tasks that are solved less often than this are drawn less."""
    high: float = Field(default=0.9, ge=0, le=1)
    """Those solved more often than this are drawn less."""
    outside: float = Field(default=0.1, gt=0, le=1)
    """How often those outside the bounds are drawn, relative to one within. Never 0: what is too hard today is not
    forever."""
    replay: float = Field(default=0.25, ge=0, le=1)
    """Share of draws that go to a task met before whose success was within the bounds, where there is one."""
    memory: float = Field(default=0.9, ge=0, lt=1)
    """How much the episodes before count when a new group of a kind is played: 0.9 remembers about ten groups."""
    tasks: int = Field(default=2000, ge=1, le=100_000)
    """How many tasks are remembered, the latest played."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"curriculum.low ({self.low}) must be below curriculum.high ({self.high})")
        return self
