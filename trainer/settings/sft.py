"""Supervised fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from trainer.settings.base import Section

__all__ = ["SftSettings"]


class SftSettings(Section):
    """Supervised fine-tuning on stored episodes, with the tokens and masks as they were played, or on a chat file."""

    store: str | None = None
    """Database URL of the episodes; None takes the run's own store."""
    jsonl: Path | None = None
    """Learn from the conversations of this JSONL file instead (``trainer/chat_jsonl.py`` says how a line must be)."""
    success_only: bool = True
    """Keep episodes that the benchmark counts as solved."""
    envs: tuple[str, ...] = ()
    """Keep episodes of these environments; empty for all."""
    engines: tuple[str, ...] = ()
    """Keep episodes played by these engines; empty for all."""
    policies: tuple[str, ...] = ()
    """Keep episodes of these policy versions; empty for all."""
    collect: int = Field(default=0, ge=0)
    """First play this many tasks with the expert (the scripted engine) and add them to the store."""
    expert: Literal["expert", "explorer", "repair"] = "expert"
    """Who plays them. ``expert`` knows everything and takes the shortest way. ``explorer`` looks around as a policy has
    to: in ALFWorld it knows what a policy sees; in DB Bench it looks at tables and rows before the gold statement.
    ``repair`` writes a wrong statement first, reads the error and corrects it; in ALFWorld it is the explorer."""
    thoughts: bool = False
    """The explorer, or who repairs, says before each action why it takes it."""
    constrained: bool = False
    """Learn from episodes whose turns were held to a grammar too: the policy might not have said that by itself."""
    drop_duplicates: Literal["none", "exact", "near"] = "none"
    """Of rows that are the same, keep the first: ``exact`` by their tokens, ``near`` also where only numbers, case,
    punctuation or white space differ."""
    limit: int = Field(default=0, ge=0)
    """Train on at most this many episodes; 0 for all."""
    learning_rate: float = Field(default=5e-5, gt=0, le=1)
    """Peak learning rate, with a cosine to 0. Recipes keep to 2e-5…1e-4."""
    epochs: float = Field(default=2.0, gt=0, le=100)
    """Passes over the episodes."""
    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps instead of epochs."""
    effective_batch: int = Field(default=16, ge=1, le=1024)
    """Episodes of an optimizer step; a multiple of ``micro_batch``."""
    micro_batch: int = Field(default=1, ge=1)
    """Episodes in one forward and backward pass."""
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps in which the learning rate rises from 0."""
    max_length: int = Field(default=4096, ge=64, le=262144)
    """Longest row in tokens. Longer episodes are left out and counted, never cut: a cut episode has lost its answer."""
    max_grad_norm: float = Field(default=1.0, gt=0, le=100)
    """Gradients are clipped to this norm."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.thoughts and self.expert == "expert":
            raise ValueError("sft.thoughts: the expert has none; set sft.expert to explorer or repair")
        if self.jsonl is not None and (self.collect or self.store is not None):
            raise ValueError("sft.jsonl is the whole data: leave sft.collect and sft.store out")
        return self
