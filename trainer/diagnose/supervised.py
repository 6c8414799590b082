"""Learning from stored episodes and pairs: overfitting, margins without bound, preferences that are not learnt."""

from __future__ import annotations

from collections.abc import Iterator

from trainer.diagnose.findings import Change, Finding, Severity
from trainer.diagnose.log import RunLog
from trainer.diagnose.policy import slower
from trainer.diagnose.stats import beyond, shift, trend_z, two_rates_z
from trainer.diagnose.thresholds import Thresholds

__all__ = ["overfitting", "preference_margins", "preference_stuck"]


def overfitting(log: RunLog, t: Thresholds) -> Iterator[Finding]:
    """The training loss falls while evaluation becomes worse."""
    loss = log.series("loss")
    falls = trend_z(loss.values) <= -2 or shift(loss.first(t.window).values, loss.last(t.window).values).z <= -t.z
    if not falls:
        return
    yield from _eval_success(log, t)
    yield from _eval_loss(log, t)


def _eval_success(log: RunLog, t: Thresholds) -> Iterator[Finding]:
    success = log.series("eval/success")
    if len(success) < 4:
        return
    rows = {int(r["step"]): r for r in log.rows if "eval/success" in r}
    episodes = [rows[s].get("eval/episodes", 50.0) for s in success.steps]
    wins = [v * n for v, n in zip(success.values, episodes, strict=True)]
    # Pairs of neighbours: the best single evaluation of many is high by luck.
    pairs = [(wins[i] + wins[i + 1], episodes[i] + episodes[i + 1]) for i in range(len(wins) - 1)]
    at = max(range(len(pairs) - 2), key=lambda i: pairs[i][0] / max(1.0, pairs[i][1]))
    best, last = pairs[at], pairs[-1]
    if two_rates_z(*best, *last) > -t.eval_z:
        return
    yield _overfits(
        log,
        (success.steps[at], success.steps[-1]),
        f"Success on held-out tasks fell from {best[0] / best[1]:.1%} (steps {success.steps[at]} to "
        f"{success.steps[at + 1]}) "
        f"to {last[0] / last[1]:.1%} at step {success.steps[-1]}, while the training loss went on falling.",
        success.steps[at + 1],
        {"eval_success_best": best[0] / best[1], "eval_success": last[0] / last[1]},
    )


def _eval_loss(log: RunLog, t: Thresholds) -> Iterator[Finding]:
    loss = log.series("eval_loss", "eval/loss")
    if len(loss) < 4:
        return
    at = min(range(len(loss)), key=lambda i: loss.values[i])
    later = loss.values[at + 1 :]
    bound = loss.values[at] * (1 + t.eval_loss_rise)
    if len(later) < 2 or min(later[-2:]) < bound:
        return
    yield _overfits(
        log,
        (loss.steps[at], loss.steps[-1]),
        f"The evaluation loss rose from {loss.values[at]:.3g} at step {loss.steps[at]} to "
        f"{loss.values[-1]:.3g} at step "
        f"{loss.steps[-1]}, while the training loss went on falling.",
        loss.steps[at],
        {"eval_loss_least": loss.values[at], "eval_loss": loss.values[-1]},
    )


def _overfits(log: RunLog, steps: tuple[int, int], evidence: str, best: int, figures: dict[str, float]) -> Finding:
    section = log.recipe if log.recipe in ("sft", "dpo", "kto") else "sft"
    epochs = float(log.setting(f"{section}.epochs", 2.0))
    return Finding(
        "overfitting",
        Severity.WARNING,
        steps,
        evidence,
        "The model learns its rows by heart: too many passes over too few episodes.",
        f"Take the checkpoint nearest to step {best}; train fewer epochs or on more episodes.",
        (Change(f"{section}.epochs", max(1.0, epochs / 2)), Change("lora.dropout", 0.05)),
        figures,
    )


def preference_margins(log: RunLog, t: Thresholds) -> Iterator[Finding]:
    """The margin between chosen and rejected grows without bound."""
    margin = log.series("rewards/margins")
    now = margin.last(t.window)
    if not beyond(now.values, t.margin, share=t.persistence):
        return
    chosen = log.series("logps/chosen")
    drop = shift(chosen.first(t.window).values, chosen.last(t.window).values)
    falls = drop.z <= -t.z
    told = f" The chosen answers' own log-probability fell from {drop.before:.3g} to {drop.after:.3g}." if falls else ""
    section = "kto" if log.recipe == "kto" else "dpo"
    yield Finding(
        "preference_margins",
        Severity.CRITICAL if falls else Severity.WARNING,
        now.span,
        f"The reward margin is {now.median:.1f} in steps {now.steps[0]} to {now.steps[-1]}.{told}",
        "The pairs are told apart long since, and the policy goes on moving away from both answers."
        if falls
        else "The pairs are told apart long since; what is learnt now is by heart.",
        "Hold it closer to the reference, learn more slowly, stop earlier.",
        (
            Change(f"{section}.beta", min(1.0, 3 * float(log.setting(f"{section}.beta", 0.1)))),
            slower(log, 3),
        ),
        {"margin": now.median},
    )


def preference_stuck(log: RunLog, t: Thresholds) -> Iterator[Finding]:
    """Chosen and rejected are told apart no better than by chance."""
    section = "kto" if log.recipe == "kto" else "dpo"
    accuracy, margin = log.series("rewards/accuracies"), log.series("rewards/margins")
    seen = accuracy if len(accuracy) else margin
    planned = log.setting(f"{section}.steps")
    if len(seen) < max(t.stuck_steps, planned / 4 if isinstance(planned, int) else 0):
        return
    late = seen.last(max(3 * t.window, len(seen) // 3))
    # The mean of so many batches of pairs at chance is within some hundredths of 0.5.
    stuck = (
        abs(late.mean - 0.5) <= t.stuck_band and trend_z(seen.values) < 2
        if seen is accuracy
        else shift(seen.first(t.window).values, late.values).z < 2 and abs(late.median) < 0.05
    )
    if not stuck:
        return
    figure = f"accuracy is {late.mean:.2f}" if seen is accuracy else f"margin is {late.median:.3f}"
    rate = slower(log, 1 / 5)
    yield Finding(
        "preference_stuck",
        Severity.WARNING,
        late.span,
        f"After {late.steps[-1]} steps the reward {figure} (steps {late.steps[0]} to {late.steps[-1]}).",
        "The pairs do not differ in what the policy can tell, their labels are mixed up, or it hardly learns.",
        "Look at the preview of the pairs; if they are right, raise the learning rate or lower beta.",
        (rate, Change(f"{section}.beta", max(0.01, float(log.setting(f"{section}.beta", 0.1)) / 2))),
        {"accuracy" if seen is accuracy else "margin": late.mean},
    )
