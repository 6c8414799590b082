"""How the weights move: learning rate, gradients, loss, numbers that are none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from trainer.diagnose.findings import Change, Finding, Severity
from trainer.diagnose.log import RunLog
from trainer.diagnose.policy import recipe_section, slower
from trainer.diagnose.stats import Series, Shift, beyond, shift
from trainer.diagnose.thresholds import Thresholds

__all__ = ["gradient_spikes", "loss_divergence", "lr_too_high", "non_finite"]

_VITAL = ("loss", "grad_norm", "kl", "entropy", "mismatch/kl", "logps/chosen", "logps/rejected")


def lr_too_high(log: RunLog, t: Thresholds) -> Iterator[Finding]:
    """Once the learning rate is at its height, what the run had achieved is lost, and other signs say why."""
    rate = log.series("learning_rate")
    top = max(rate.values, default=0.0)
    if top <= 0:
        return
    peak = next(i for i, v in enumerate(rate.values) if v >= 0.95 * top)
    at = rate.steps[peak]
    lost = list(_lost(log, t, at))
    if not lost:
        return
    signs = list(_signs(log, t, top))
    if not signs:
        return
    end = log.last_step
    worst = any(severe for _, severe in lost)
    yield Finding(
        "lr_too_high",
        Severity.CRITICAL if worst else Severity.WARNING,
        (at, end),
        f"The learning rate reached {top:.2g} at step {at}. Since then {'; '.join(text for text, _ in lost)}; "
        f"{'; '.join(signs)}.",
        "The steps are larger than the loss is smooth: each undoes what others have learnt.",
        "Start again, or from a checkpoint before it fell, with a lower learning rate and a longer warm-up.",
        (slower(log, 5), Change(f"{recipe_section(log)}.warmup", 0.1)),
        {"learning_rate": top},
    )


def _lost(log: RunLog, t: Thresholds, at: int) -> Iterator[tuple[str, bool]]:
    """What has become worse since the rate was at its height: a text, and whether it is severe."""
    if log.recipe in ("grpo", "ppo"):
        for name, word in (("rollout/success", "success"), ("rollout/reward", "reward")):
            series = log.series(name, "reward") if name == "rollout/reward" else log.series(name)
            best, now, z = _best_then_now(series, t, at)
            if z <= -t.z and best - now >= max(0.05, 0.4 * abs(best)):
                yield f"{word} fell from {best:.3g} to {now:.3g}", True
        invalid = log.series("rollout/invalid_turns")
        worse = shift(invalid.first(t.window).values, invalid.last(t.window).values)
        if len(invalid) >= 2 * t.window and worse.z >= t.z and worse.change >= 0.3:
            yield f"invalid turns rose from {worse.before:.0%} to {worse.after:.0%}", True
        kl = log.series("kl").last(t.window)
        if beyond(kl.values, t.kl_level, share=t.persistence):
            yield f"KL to the reference is {kl.median:.3g}", False
        return
    rise = _loss_rise(log, t)
    if rise is not None and rise[0].steps[-1] >= at:
        yield f"the loss rose from {rise[1].before:.3g} to {rise[1].after:.3g}", rise[1].change >= rise[1].before


def _best_then_now(series: Series, t: Thresholds, at: int) -> tuple[float, float, float]:
    """The best window before the last one, the last, and the difference in standard errors.

    The best of many windows is high by luck; the drop asked for is far beyond that."""
    del at  # what was there before the peak can be lost as well
    values = series.values
    if len(values) < 3 * t.window:
        return 0.0, 0.0, 0.0
    starts = range(0, len(values) - 2 * t.window + 1, max(1, t.window // 2))
    best = max(starts, key=lambda i: median(values[i : i + t.window]))
    change = shift(values[best : best + t.window], values[-t.window :])
    return change.before, change.after, change.z


def _signs(log: RunLog, t: Thresholds, rate: float) -> Iterator[str]:
    """What points to the learning rate rather than to anything else."""
    grad = log.series("grad_norm")
    grad = Series(grad.name, *_nonzero(grad))
    before, after = grad.first(t.window).median, grad.last(t.window).median
    if len(grad) >= 2 * t.window and after >= t.grad_factor * before:
        yield f"the gradient's norm grew from {before:.3g} to {after:.3g}"
    kl = log.series("kl")
    now = kl.last(t.window).median
    if len(kl) >= t.window and now >= 0.2 and now / max(1, kl.steps[-1] - kl.steps[0]) >= 0.002:
        yield f"KL to the reference rose to {now:.3g} in {kl.steps[-1]} steps"
    entropy = log.series("entropy")
    first, last = entropy.first(t.window).median, entropy.last(t.window).median
    if len(entropy) >= 2 * t.window and first > 0:
        if last >= t.entropy_factor * first:
            yield f"entropy grew from {first:.3g} to {last:.3g}"
        elif last <= t.entropy_ratio * first:
            yield f"entropy fell from {first:.3g} to {last:.3g}"
    usual = {"grpo": t.lr_grpo, "ppo": t.lr_grpo, "sft": t.lr_sft}.get(log.recipe, t.lr_preference)
    if rate > usual:
        yield f"recipes of this kind keep far below {usual:.0e}"


def _nonzero(series: Series) -> tuple[tuple[int, ...], tuple[float, ...]]:
    kept = [(s, v) for s, v in zip(series.steps, series.values, strict=True) if v > 0]
    return tuple(s for s, _ in kept), tuple(v for _, v in kept)


def gradient_spikes(log: RunLog, t: Thresholds) -> Iterator[Finding]:
    """Again and again a gradient of many times the usual norm."""
    raw = log.series("grad_norm")
    steps, values = _nonzero(raw)
    spikes = []
    for i in range(10, len(values)):
        usual = median(values[max(0, i - 20) : i])
        after = values[i + 1 : i + 6]
        alone = not after or median(after) < values[i] / 3  # a new level is no spike
        if values[i] >= t.spike_factor * usual and alone:
            spikes.append((steps[i], values[i], values[i] / usual))
    recent = [s for s in spikes if s[0] > (steps[-1] if steps else 0) - 50]
    if len(recent) < t.spikes:
        return
    highest = max(recent, key=lambda s: s[1])
    listed = ", ".join(str(s) for s, _, _ in recent[:8])
    norm = float(log.setting(f"{recipe_section(log)}.max_grad_norm", 1.0))
    yield Finding(
        "gradient_spikes",
        Severity.CRITICAL if len(recent) >= 3 * t.spikes else Severity.WARNING,
        (recent[0][0], recent[-1][0]),
        f"The gradient's norm spiked at steps {listed}: up to {highest[1]:.3g}, {highest[2]:.0f} times the "
        "median before it.",
        "Single batches pull far harder than others: an outlier reward, a broken row, or importance "
        "weights without bound.",
        "Clip harder, bound the importance weights, and look at the episodes of these steps.",
        (
            Change(f"{recipe_section(log)}.max_grad_norm", float(f"{norm / 4:.2g}")),
            *(
                (Change("grpo.importance_clip", 2.0), Change("grpo.scale_rewards", "group"))
                if log.recipe == "grpo"
                else ()
            ),
        ),
        {"spikes": float(len(recent)), "highest": highest[1], "times_usual": highest[2]},
    )


def non_finite(log: RunLog, t: Thresholds) -> Iterator[Finding]:
    """A loss, gradient or KL that is NaN or infinite."""
    del t
    has_loss = log.has("loss")  # some sinks leave out what is no number: its absence from single steps tells as much
    for name in _VITAL:
        steps = [int(r["step"]) for r in log.rows if f"non_finite/{name}" in r]
        steps += [
            int(r["step"]) for r in log.rows if name == "loss" and has_loss and "loss" not in r and "grad_norm" in r
        ]
        steps = sorted(set(steps))
        if not steps or (
            log.recipe == "kto" and name.startswith("logps/")
        ):  # a batch of one kind has none of the other
            continue
        # float16's loss scaler tries a scale that overflows, skips the step and takes a smaller one: a few are its way.
        scaler = name == "grad_norm" and len(steps) <= 3 and log.setting("model.dtype", "auto") in ("auto", "float16")
        yield Finding(
            "non_finite",
            Severity.NOTE if scaler else Severity.CRITICAL,
            (steps[0], steps[-1]),
            f"{name} was NaN or infinite in {len(steps)} of {len(log.rows)} steps, first at step {steps[0]}.",
            "float16's loss scaler was looking for its scale; that is its way."
            if scaler
            else "Numbers overflowed, or an engine gave log-probabilities that are none; the weights may be spoilt.",
            "Nothing is to be done unless it goes on."
            if scaler
            else "Go back to a checkpoint before that step; compute in bfloat16 or float32, with a lower "
            "learning rate.",
            ()
            if scaler
            else (
                Change("model.dtype", "bfloat16" if log.setting("model.dtype") == "float16" else "float32"),
                slower(log, 3),
            ),
            {"steps": float(len(steps))},
            subject=name,
        )


def loss_divergence(log: RunLog, t: Thresholds) -> Iterator[Finding]:
    """A supervised loss that rises for good."""
    rise = _loss_rise(log, t)
    if rise is None:
        return
    now, change = rise
    yield Finding(
        "loss_divergence",
        Severity.CRITICAL if change.change >= change.before else Severity.WARNING,
        now.span,
        f"The loss rose from its best window's {change.before:.3g} to {change.after:.3g} by step {now.steps[-1]}.",
        "The learning rate is too high for this model, or the data changes in the middle of the run.",
        "Start again with a lower learning rate and a longer warm-up; the seed shuffles the data anew.",
        (slower(log, 4), Change(f"{recipe_section(log)}.warmup", 0.1)),
        {"loss_best": change.before, "loss": change.after},
    )


def _loss_rise(log: RunLog, t: Thresholds) -> tuple[Series, Shift] | None:
    """The last window and its shift against the best earlier one, where the loss has risen for good."""
    loss = log.series("loss")
    if len(loss) < 3 * t.window:
        return None
    now = loss.last(t.window)
    best = min(_windows(loss.values[: -t.window], t.window), key=median)
    change = shift(best, now.values)
    floor = max(t.divergence * abs(change.before), 0.03)
    risen = change.z >= t.z and beyond(now.values, change.before + floor, share=t.persistence)
    return (now, change) if risen else None


def _windows(values: Sequence[float], size: int) -> list[Sequence[float]]:
    return [values[i : i + size] for i in range(0, len(values) - size + 1, max(1, size // 2))]
