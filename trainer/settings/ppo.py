"""The critic of PPO."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainer.settings.base import Section

__all__ = ["PpoSettings"]


class PpoSettings(Section):
    """What PPO (Schulman et al. 2017) has beside ``[grpo]``, whose steps, learning rate, clipping, KL term and
    micro-batch hold for the policy: a critic, and advantages by GAE. Experimental."""

    level: Literal["token", "turn"] = "turn"
    """What counts as one action: a token, or a whole turn, whose tokens then share one advantage."""
    gamma: float = Field(default=1.0, gt=0, le=1)
    """Discount from an action to the next. Tokens of the environment take no time."""
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    """GAE's lambda: 1 trusts the episode's reward alone, 0 the critic's next value alone."""
    whiten: bool = True
    """Scale a batch's advantages to mean 0 and standard deviation 1 over the policy's tokens."""
    value_learning_rate: float = Field(default=1e-3, gt=0, le=1)
    """Learning rate of the critic (Adam)."""
    value_epochs: int = Field(default=4, ge=1, le=100)
    """Passes of the critic over each batch of episodes."""
    value_clip: float | None = Field(default=0.2, gt=0, le=100)
    """How far a value may move from the batch's old one before it stops to learn; None for no bound."""
