"""What watches over a run."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from trainer.diagnose.names import CHECK_NAMES
from trainer.settings.base import Section

__all__ = ["DoctorSettings"]


class DoctorSettings(Section):
    """The checks of ``envloop doctor``, made while the run goes on."""

    every: int = Field(default=10, ge=0)
    """Steps between two looks at the log; 0 never looks. What is found is printed once and kept in
    ``findings.jsonl``."""
    stop_on: tuple[str, ...] = ()
    """Checks whose warning ends the run, with a checkpoint, such as ``["kl_runaway", "non_finite"]``."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if unknown := sorted(set(self.stop_on) - set(CHECK_NAMES)):
            raise ValueError(f"doctor.stop_on names no check {unknown[0]!r}; known: {', '.join(CHECK_NAMES)}")
        if self.stop_on and not self.every:
            raise ValueError("doctor.stop_on needs doctor.every above 0: nothing would look")
        return self
