"""What the policy does in its episodes: how long, how validly, in circles or not."""

from __future__ import annotations

from collections.abc import Iterator

from trainer.diagnose.findings import Change, Finding, Severity
from trainer.diagnose.log import RunLog
from trainer.diagnose.policy import slower
from trainer.diagnose.stats import Series, beyond, shift, trend_z
from trainer.diagnose.thresholds import Thresholds

__all__ = ["invalid_actions", "length_explosion", "repetition", "truncation"]


def length_explosion(log: RunLog, t: Thresholds) -> Iterator[Finding]:
    """Turns (or, in older logs, completions) grow to a multiple of what they were."""
    length = log.series("rollout/turn_tokens", "completions/mean_length")
    if len(length) < 2 * t.window:
        return
    start, now = length.first(t.window), length.last(t.window)
    bound = max(t.length_factor * start.median, start.median + t.length_tokens)
    if not beyond(now.values, bound, share=t.persistence):
        return
    success = log.series("rollout/success")
    won = shift(success.first(t.window).values, success.last(t.window).values)
    pays = won.z >= t.z and won.change >= 0.1 and now.median < t.length_badly * start.median
    limit = int(log.setting("rollout.max_tokens", 512))
    what = "a turn" if length.name == "rollout/turn_tokens" else "an episode"
    yield Finding(
        "length_explosion",
        Severity.NOTE
        if pays
        else Severity.CRITICAL
        if now.median >= t.length_badly * start.median
        else Severity.WARNING,
        now.span,
        f"The policy writes {now.median:.0f} tokens {what} in steps {now.steps[0]} to {now.steps[-1]}; it was "
        f"{start.median:.0f}" + (f", and success rose from {won.before:.0%} to {won.after:.0%}." if pays else "."),
        "Longer turns seem to pay: it has learnt to think first."
        if pays
        else "Length is rewarded by the way: long losing episodes weigh less a token, or only long ones reach "
        "the reward.",
        "Watch the truncation share." if pays else "Weigh every token alike, and bound a turn.",
        ()
        if pays
        else (
            Change("grpo.loss_type", "dr_grpo" if log.setting("grpo.loss_type") == "dapo" else "dapo"),
            Change("rollout.max_tokens", max(16, min(limit // 2, round(2 * start.median)))),
        ),
        {"tokens_before": start.median, "tokens": now.median},
    )


def truncation(log: RunLog, t: Thresholds) -> Iterator[Finding]:
    """Many episodes end because they ran out of tokens."""
    by_tokens, whole = _token_share(log), log.series("rollout/truncated")
    cut = by_tokens if by_tokens is not None else whole
    now, start = cut.last(t.window), cut.first(t.window)
    if by_tokens is None:
        # A limit on turns ends most episodes of a policy that cannot win yet. Only a rise says more.
        bound = max(t.truncated_badly, start.median + t.truncated_rise)
        if len(cut) < 2 * t.window or not beyond(now.values, bound, share=t.persistence):
            return
    elif not beyond(now.values, t.truncated, share=t.persistence):
        return
    tokens = int(log.setting("rollout.max_episode_tokens", 4096))
    yield Finding(
        "truncation",
        Severity.CRITICAL if now.median >= t.truncated_badly else Severity.WARNING,
        now.span,
        f"{now.median:.0%} of the episodes were cut off by {'tokens' if by_tokens is not None else 'a limit'} in steps "
        f"{now.steps[0]} to {now.steps[-1]} (at first {start.median:.0%}).",
        "Episodes do not fit: they are scored as lost before the policy could win.",
        "Allow longer episodes or shorter turns.",
        (
            Change("rollout.max_episode_tokens", min(262144, 2 * tokens)),
            Change("rollout.max_tokens", max(16, int(log.setting("rollout.max_tokens", 512)) // 2)),
        ),
        {"truncated": now.median, "truncated_before": start.median},
    )


def _token_share(log: RunLog) -> Series | None:
    """Share of scored episodes that a limit on tokens ended; None where the log counts no endings."""
    if not log.names("status/"):
        return None
    rows = [r for r in log.rows if "rollout/episodes" in r]
    shares = []
    for row in rows:
        scored = row["rollout/episodes"] - row.get("rollout/infrastructure_failures", 0.0)
        shares.append(row.get("status/truncated_tokens", 0.0) / scored if scored > 0 else 0.0)
    return Series("status/truncated_tokens", tuple(int(r["step"]) for r in rows), tuple(shares))


def invalid_actions(log: RunLog, t: Thresholds) -> Iterator[Finding]:
    """Turns without a valid action stay common, or become so."""
    found = _stays_or_rises(log.series("rollout/invalid_turns"), t, t.invalid, t.invalid_badly)
    if found is None:
        return
    start, now, badly = found
    yield Finding(
        "invalid_actions",
        Severity.CRITICAL if badly else Severity.WARNING,
        now.span,
        f"{now.median:.0%} of the turns had no valid action in steps {now.steps[0]} to {now.steps[-1]} (at first "
        f"{start.median:.0%}).",
        "The policy does not keep the protocol's format, or has lost it."
        if now.median > start.median + t.rise
        # it never had it
        else "The policy has not learnt the protocol's format, and reward alone does not teach it.",
        "Warm up with SFT on expert episodes, and let an invalid action cost something.",
        (
            Change(
                "rollout.reward_invalid_action", max(0.05, 2 * float(log.setting("rollout.reward_invalid_action", 0.0)))
            ),
            *((slower(log, 2),) if now.median > start.median + t.rise else ()),
        ),
        {"invalid": now.median, "invalid_before": start.median},
    )


def repetition(log: RunLog, t: Thresholds) -> Iterator[Finding]:
    """Many episodes go round in circles."""
    found = _stays_or_rises(log.series("rollout/repeated"), t, t.repeated, t.repeated_badly)
    if found is None:
        return
    start, now, badly = found
    yield Finding(
        "repetition",
        Severity.CRITICAL if badly else Severity.WARNING,
        now.span,
        f"{now.median:.0%} of the episodes repeated one action to their end in steps {now.steps[0]} to "
        f"{now.steps[-1]} (at "
        f"first {start.median:.0%}).",
        "The policy is stuck in a loop: too little is sampled besides the likeliest action, or repeating "
        "costs nothing.",
        "Sample warmer, end episodes earlier, and warm up on episodes that recover from a mistake.",
        (
            Change("rollout.temperature", max(1.0, float(log.setting("rollout.temperature", 1.0)))),
            Change("rollout.max_turns", 15),
            Change("sft.expert", "repair"),
        ),
        {"repeated": now.median, "repeated_before": start.median},
    )


def _stays_or_rises(share: Series, t: Thresholds, bound: float, badly: float) -> tuple[Series, Series, bool] | None:
    """A share that is high and does not fall, or that has risen by ``t.rise`` to half its bound at least. Gives the
    first and the last window, and whether it is critical."""
    if len(share) < 3 * t.window:
        return None
    start, now = share.first(t.window), share.last(t.window)
    before = share.between(max(0, len(share) - 2 * t.window), len(share) - t.window)
    falls = now.median <= 0.85 * max(start.median, before.median) or trend_z(share.last(6 * t.window).values) <= -2
    high = beyond(now.values, bound, share=t.persistence) and not falls
    worst = beyond(now.values, badly, share=t.persistence)
    risen = beyond(now.values, max(start.median + t.rise, bound / 2), share=t.persistence)
    return (start, now, worst) if high or risen or (worst and not falls) else None
