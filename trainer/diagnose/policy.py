"""Where the policy is: against its reference, its own entropy, the engine that samples from it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from trainer.diagnose.findings import Change, Finding, Severity
from trainer.diagnose.log import RunLog
from trainer.diagnose.stats import Series, beyond, trend_z
from trainer.diagnose.thresholds import Thresholds

__all__ = [
    "clip_share",
    "entropy_collapse",
    "kl_runaway",
    "recipe_section",
    "rollout_mismatch",
    "slower",
    "stale_policy",
]


def recipe_section(log: RunLog) -> str:
    """The section with the run's optimizer settings; PPO reads GRPO's."""
    return log.recipe if log.recipe in ("sft", "dpo", "kto") else "grpo"


def slower(log: RunLog, factor: float) -> Change:
    """The learning rate of the run's recipe, divided."""
    section = recipe_section(log)
    seen = log.series("learning_rate")
    peak = log.setting(f"{section}.learning_rate") or max(seen.values, default=0.0) or 1e-5
    return Change(f"{section}.learning_rate", float(f"{peak / factor:.2g}"))


def kl_runaway(log: RunLog, t: Thresholds) -> Iterator[Finding]:
    """The policy leaves the reference ever faster, or has left it."""
    kl = log.series("kl")
    now = kl.last(t.window)
    earlier = kl.between(max(0, len(kl) - 2 * t.window - t.window), max(0, len(kl) - 2 * t.window))
    gone = beyond(now.values, t.kl_level, share=t.persistence)
    grows = (
        len(earlier) >= t.window
        and beyond(now.values, t.kl_growing, share=t.persistence)
        and now.median >= t.kl_factor * max(earlier.median, 1e-3)
    )
    if not gone and not grows:
        return
    beta = float(log.setting("grpo.beta", 0.01))
    told = f" (it was {earlier.median:.3g} in steps {earlier.steps[0]} to {earlier.steps[-1]})" if len(earlier) else ""
    yield Finding(
        "kl_runaway",
        Severity.CRITICAL if gone else Severity.WARNING,
        now.span,
        f"KL to the reference is {now.median:.3g} nats a token in steps {now.steps[0]} to {now.steps[-1]}{told}.",
        "The updates are too large, or the KL term too weak to hold the policy.",
        "Go back to a checkpoint from before, with a lower learning rate and a stronger KL term.",
        (slower(log, 3), Change("grpo.beta", min(0.1, max(0.01, 4 * beta)))),
        {"kl": now.median, "kl_before": earlier.median} if len(earlier) else {"kl": now.median},
    )


def entropy_collapse(log: RunLog, t: Thresholds) -> Iterator[Finding]:
    """The policy says the same in every episode long before it has solved its tasks."""
    entropy = log.series("entropy")
    start, now = entropy.first(t.window), entropy.last(t.window)
    if len(entropy) < 2 * t.window or start.median <= 0:
        return
    if not beyond([-v for v in now.values], -t.entropy_ratio * start.median, share=t.persistence):
        return
    success = log.series("rollout/success").last(t.window)
    solved = len(success) > 0 and success.median >= t.solved
    ratio = now.median / start.median
    at = f", at a success of {success.median:.0%}" if len(success) else ""
    yield Finding(
        "entropy_collapse",
        Severity.NOTE if solved else Severity.CRITICAL if ratio <= t.entropy_gone else Severity.WARNING,
        now.span,
        f"Entropy fell from {start.median:.3g} to {now.median:.3g} nats a token ({ratio:.0%}) by step "
        f"{now.steps[-1]}{at}.",
        "The tasks are solved and nothing is left to explore."
        if solved
        else "A few rewarded habits have crowded everything else out: the groups will soon have no variance.",
        "Stop and evaluate."
        if solved
        else "Let rare tokens gain more (clip higher), sample warmer, learn more slowly, from an earlier checkpoint.",
        () if solved else (_clip_higher(log), slower(log, 2)),
        {"entropy_before": start.median, "entropy": now.median},
    )


def _clip_higher(log: RunLog) -> Change:
    high = log.setting("grpo.epsilon_high")
    return Change("grpo.epsilon_high", 0.28 if high is None or high < 0.28 else 0.4)


def clip_share(log: RunLog, t: Thresholds) -> Iterator[Finding]:
    """A large share of the tokens meets the clip: the batch is used beyond what it can carry."""
    clipped = log.series("clip_ratio/region_mean").last(t.window)
    if not beyond(clipped.values, t.clipped, share=t.persistence):
        return
    iterations = int(log.setting("grpo.iterations", 1))
    fewer = (Change("grpo.iterations", max(1, iterations // 2)),) if iterations > 1 else ()
    yield Finding(
        "clip_share",
        Severity.CRITICAL if clipped.median >= t.clipped_badly else Severity.WARNING,
        clipped.span,
        f"{clipped.median:.0%} of the tokens were clipped in steps {clipped.steps[0]} to {clipped.steps[-1]}.",
        f"The policy moves too far on one batch ({iterations} optimizer step{'s' * (iterations > 1)} a batch).",
        "Take fewer steps on each batch, or smaller ones.",
        (*fewer, slower(log, 2)),
        {"clipped": clipped.median},
    )


def rollout_mismatch(log: RunLog, t: Thresholds) -> Iterator[Finding]:
    """Engine and trainer disagree about the probabilities of what was sampled."""
    logp = log.series("mismatch/logp_mean", "sampling/sampling_logp_difference/mean").last(t.window)
    kl = log.series("mismatch/kl").last(t.window)
    by_kl = beyond(kl.values, t.mismatch_kl, share=t.persistence)
    by_logp = beyond(logp.values, t.mismatch_logp, share=t.persistence)
    if not by_kl and not by_logp:
        return
    badly = (by_kl and kl.median >= t.mismatch_badly * t.mismatch_kl) or (
        by_logp and logp.median >= 4 * t.mismatch_logp
    )
    shown = [f"|Δ log p| is {logp.median:.3g}"] if len(logp) else []
    shown += [f"KL(engine || trainer) is {kl.median:.3g}"] if len(kl) else []
    seen = logp if len(logp) else kl
    corrected = log.setting("grpo.importance_sampling", "token_truncate") != "off"
    changes: list[Change] = [] if corrected else [Change("grpo.importance_sampling", "token_truncate")]
    yield Finding(
        "rollout_mismatch",
        Severity.CRITICAL if badly else Severity.WARNING,
        seen.span,
        f"A token's {' and '.join(shown)} nats in steps {seen.steps[0]} to {seen.steps[-1]}.",
        "The engine samples from other weights, at another temperature, in another precision, or from a constrained "
        "distribution; the policy gradient is off policy by that much.",
        "Compare the engine's temperature, dtype, quantisation and adapter with the trainer's; leave the "
        "correction on.",
        (*changes, Change("model.dtype", _other_dtype(log.setting("model.dtype", "auto")))),
        {k: v for k, v in (("logp_mean", logp.median), ("kl", kl.median)) if not math.isnan(v)},
    )


def _other_dtype(dtype: Any) -> str:
    """Engine and trainer read one setting; where their kernels disagree, more bits help."""
    return "float32" if dtype == "float16" else "float16" if dtype == "bfloat16" else "float32"


def stale_policy(log: RunLog, t: Thresholds) -> Iterator[Finding]:
    """Episodes are sampled from weights that the trainer has long left behind."""
    lag = log.series("rollout/policy_lag").last(t.window)
    if beyond(lag.values, t.policy_lag, share=t.persistence):
        yield _stale(
            Severity.CRITICAL if lag.median >= 4 * t.policy_lag else Severity.WARNING,
            lag,
            f"Turns were sampled {lag.median:.1f} policy versions behind the trainer in steps "
            f"{lag.steps[0]} to {lag.steps[-1]}.",
            {"policy_lag": lag.median},
        )
        return
    drift = log.series("mismatch/kl", "sampling/sampling_logp_difference/mean")
    bound = t.mismatch_kl if drift.name == "mismatch/kl" else t.mismatch_logp
    start, now = drift.first(min(3, len(drift))), drift.last(t.window)
    # New weights under every name would keep the mismatch where it began. It begins at the engines' own noise.
    if (
        len(drift) >= 2 * t.window
        and start.median < bound / 2
        and beyond(now.values, bound, share=t.persistence)
        and now.median >= 5 * max(start.median, bound / 50)
        and trend_z(drift.last(4 * t.window).values) >= 2
    ):
        yield _stale(
            Severity.CRITICAL,
            drift.last(4 * t.window),
            f"The mismatch of engine and trainer ({drift.name}) grew steadily from {start.median:.3g} to "
            f"{now.median:.3g} by "
            f"step {now.steps[-1]}, although it began near nothing.",
            {"mismatch_before": start.median, "mismatch": now.median},
        )


def _stale(severity: Severity, seen: Series, evidence: str, figures: dict[str, float]) -> Finding:
    return Finding(
        "stale_policy",
        severity,
        seen.span,
        evidence,
        "New weights do not reach the engine: publishing fails, another client made its own policy "
        "current, or the rollout "
        "server keeps too few adapters.",
        "Look at the server's policies (envloop rollout), use a server of its own, or let the engine run "
        "in this process.",
        (Change("run.keep_policies", 8),),
        figures,
    )
