"""Group-relative policy optimisation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainer.settings.base import Section

__all__ = ["GrpoSettings"]


class GrpoSettings(Section):
    """Group-relative policy optimisation (Shao et al. 2024, DeepSeekMath; TRL's GRPOTrainer)."""

    steps: int = Field(default=200, ge=1)
    """Optimizer steps; each plays ``rollout.groups_per_step`` new groups."""
    learning_rate: float = Field(default=2e-6, gt=0, le=1)
    """Peak learning rate. Recipes keep to 1e-6…5e-6; tests and swap checks go far above."""
    schedule: Literal["constant", "constant_with_warmup", "linear", "cosine"] = "constant_with_warmup"
    """How the learning rate moves."""
    warmup: float = Field(default=0.0, ge=0, lt=1)
    """Share of the steps in which the learning rate rises from 0."""
    beta: float = Field(default=0.01, ge=0, le=0.1)
    """Weight of the KL term towards the reference; 0 leaves the term, and its forward pass, out."""
    reference: Literal["start", "base"] = "start"
    """What the KL term holds to. ``start``: the policy that the run began with, which is the base model, or a frozen
    copy of ``lora.init_adapter``. ``base``: the base model, the adapter off, whatever the run began with."""
    loss_type: Literal["grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"] = "dapo"
    """TRL's loss. ``dapo`` weighs every policy token alike, whatever its episode's length. ``dr_grpo`` divides by
    ``rollout.max_episode_tokens``."""
    epsilon: float = Field(default=0.2, gt=0, lt=1)
    """Lower and, without ``epsilon_high``, upper clip of the probability ratio."""
    epsilon_high: float | None = Field(default=0.28, gt=0, le=10)
    """Upper clip (DAPO's clip-higher); None equals ``epsilon``."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """By whose standard deviation advantages are divided."""
    advantage: Literal["group", "gigpo", "oracle_potential"] = "group"
    """Credit. ``group``: an episode has one advantage, against its group. ``gigpo`` (Feng et al. 2025) adds one for
    each turn, against turns of the group that began in the same state; ``oracle_potential`` one by how much the turn
    changed a potential that only training is told. See ``trainer/advantages.py``."""
    step_weight: float = Field(default=1.0, gt=0, le=100)
    """Weight of a turn's advantage beside its episode's."""
    step_gamma: float = Field(default=0.95, gt=0, le=1)
    """Discount of the returns that ``gigpo`` compares: below 1 the shorter way to the same end is the better one."""
    step_scale: Literal["std", "none"] = "std"
    """Whether a turn's advantage is divided by the standard deviation of those that it is compared with."""
    step_baseline: Literal["group", "level"] = "group"
    """With which turns of the group ``oracle_potential`` compares one: all of them, or those that began at the same
    potential. ``level`` tells apart how well a policy searches; with ``group`` all turns of a search are poor beside
    those of a policy that has found what it needs."""
    step_invalid_cost: float = Field(default=0.0, ge=0, le=10)
    """What ``oracle_potential`` takes off a turn whose action was invalid or missing. Searching in the wrong place
    changes the potential as little as an invalid action does, and is needed. Unlike ``rollout.reward_invalid_action``
    it leaves the episode's reward alone, so that ending early wins nothing."""
    step_repeat_cost: float = Field(default=0.0, ge=0, le=10)
    """What ``oracle_potential`` takes off a valid turn that showed only what the episode had shown before, word for
    word: a place searched twice, a query asked again. Both costs are in units of the potential, of which a whole
    ALFWorld task is 1: one that is more than a step of the plan, 1/8 or so, teaches not to try."""
    filter_groups: bool = False
    """Leave out groups whose episodes all have the same reward, and play others in their place (DAPO's dynamic
    sampling)."""
    further_groups: int = Field(default=8, ge=0, le=4096)
    """How many further groups a step may play for that; after them it goes on with what it has."""
    iterations: int = Field(default=1, ge=1, le=16)
    """Optimizer steps on each batch of episodes."""
    micro_batch: int = Field(default=1, ge=1)
    """Episodes in one forward and backward pass; must divide groups_per_step x group_size."""
    max_grad_norm: float = Field(default=0.2, gt=0, le=100)
    """Gradients are clipped to this norm."""
    importance_sampling: Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask", "off"] = (
        "token_truncate"
    )
    """Correction for the engine's probabilities against the trainer's. Sequence modes drop long episodes for mere
    noise: 0.03 a token would mask 20 % of 2000-token episodes."""
    importance_clip: float = Field(default=3.0, gt=1, le=100)
    """Largest weight that the correction gives."""
