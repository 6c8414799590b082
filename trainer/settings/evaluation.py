"""Evaluations: those of a trained policy, and those in the loop of a training run."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from trainer.settings.base import Section

__all__ = ["EvalSettings", "EvalSource"]


class EvalSource(Section):
    """Held-out tasks of one environment."""

    env: str
    """The environment (``alfworld``, ``dbbench``)."""
    split: str
    """The split; its first tasks are played."""
    type: str | None = None
    """Only tasks of this type."""


class EvalSettings(Section):
    """How evaluations are played: ``envloop eval``, and the held-out tasks that a training run plays (``every``)."""

    temperature: float = Field(default=0.0, ge=0, le=2.0)
    """Sampling temperature; 0 is greedy, as AgentBench plays."""
    max_episode_tokens: int | None = Field(default=None, ge=64, le=262144)
    """Prompt and completion of a whole episode; None takes the model's context length, at most 16384. In the loop of a
    training run None takes ``rollout.max_episode_tokens``."""
    limit: int = Field(default=0, ge=0)
    """``envloop eval``: play at most this many tasks; 0 for the whole split."""
    samples: int = Field(default=1, ge=1, le=1024)
    """``envloop eval``: episodes of each task. More than one tells pass@k, and needs a temperature above 0."""
    every: int = Field(default=0, ge=0)
    """In training: play held-out tasks after every so many optimizer steps, and after the last; 0 never."""
    tasks: int = Field(default=50, ge=1, le=10_000)
    """In training: how many tasks of each source are played, always the same ones, once each."""
    sources: tuple[EvalSource, ...] = ()
    """In training: what is played. Empty: the split ``generated_eval`` of every environment that is trained on.
    A split of ``data.sources`` cannot be held out."""
    patience: int = Field(default=0, ge=0)
    """Stop after so many evaluations in a row without a better one; 0 never stops early."""
    min_delta: float = Field(default=0.0, ge=0, lt=1)
    """How much the success rate must rise over the best before it counts as better."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.patience and not self.every:
            raise ValueError("eval.patience counts evaluations in training: set eval.every too")
        if self.samples > 1 and self.temperature == 0:
            raise ValueError("eval.samples above 1 at temperature 0 plays the same episode again: set eval.temperature")
        return self
