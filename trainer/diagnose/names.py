"""The names of the checks, apart from the checks: the settings name them too."""

from __future__ import annotations

__all__ = ["CHECK_NAMES"]

CHECK_NAMES = (
    "no_group_variance",
    "reward_hacking",
    "starving_type",
    "kl_runaway",
    "entropy_collapse",
    "clip_share",
    "rollout_mismatch",
    "stale_policy",
    "lr_too_high",
    "gradient_spikes",
    "non_finite",
    "loss_divergence",
    "length_explosion",
    "truncation",
    "invalid_actions",
    "repetition",
    "data_leak",
    "infrastructure_losses",
    "infrastructure_failures",
    "log_order",
    "log_stopped",
    "overfitting",
    "preference_margins",
    "preference_stuck",
)
"""Every check, in the order in which findings are shown. ``docs/doctor.md`` has a paragraph on each."""
