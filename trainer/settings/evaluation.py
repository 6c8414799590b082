"""Evaluations."""

from __future__ import annotations

from pydantic import Field

from trainer.settings.base import Section

__all__ = ["EvalSettings"]


class EvalSettings(Section):
    """How an evaluation is played."""

    temperature: float = Field(default=0.0, ge=0, le=2.0)
    """Sampling temperature; 0 is greedy, as AgentBench plays."""
    max_episode_tokens: int | None = Field(default=None, ge=64, le=262144)
    """Prompt and completion of a whole episode; None takes the model's context length, at most 16384."""
    limit: int = Field(default=0, ge=0)
    """Play at most this many tasks; 0 for the whole split."""
