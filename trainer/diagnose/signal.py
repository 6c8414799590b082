"""Is there anything to learn from, and is it what is wanted? Variance in groups, reward against success, task types."""

from __future__ import annotations

from collections.abc import Iterator

from trainer.diagnose.findings import Change, Finding, Severity
from trainer.diagnose.log import RunLog
from trainer.diagnose.stats import Series, Shift, beyond, poisson_tail, shift
from trainer.diagnose.thresholds import Thresholds
from trainer.eval_stats import wilson_interval

__all__ = ["no_group_variance", "reward_hacking", "starving_type"]


def no_group_variance(log: RunLog, t: Thresholds) -> Iterator[Finding]:
    """Nearly every group's episodes have one and the same reward: advantages are 0, nothing is learnt."""
    flat = log.series("rollout/groups_without_signal", "frac_reward_zero_std").last(t.window)
    if not beyond(flat.values, t.flat_groups, share=t.persistence):
        return
    success = log.series("rollout/success").last(t.window)
    size = int(log.setting("rollout.group_size", 8))
    evidence = (
        f"In steps {flat.steps[0]} to {flat.steps[-1]} {flat.median:.0%} of the groups had rewards without any variance"
    )
    figures = {"groups_without_signal": flat.median, "success": success.median}
    severity = Severity.CRITICAL if flat.median >= 0.999 else Severity.WARNING
    changes: tuple[Change, ...] = ()
    if len(success) and success.median >= t.solved:
        severity = Severity.NOTE
        cause = "The tasks are solved: no episode is worse than its neighbours."
        advice = "Stop here and evaluate, or draw harder tasks."
    elif len(success) and success.median <= 0.1:
        cause = "The tasks are too hard for this policy: whole groups fail alike."
        advice = "Warm it up with SFT, draw an easier split, or give failing episodes something to differ in."
        changes = (Change("rollout.reward_invalid_action", 0.05), Change("rollout.group_size", min(256, 2 * size)))
    else:
        cause = "Some tasks always succeed and the others never, or every episode of a group is sampled alike."
        advice = (
            "Raise the temperature and the group's size; see that episodes of a group differ (envloop replay list)."
        )
        changes = (Change("rollout.temperature", 1.0), Change("rollout.group_size", min(256, 2 * size)))
    if len(success):
        evidence += f", at a success of {success.median:.0%}"
    yield Finding("no_group_variance", severity, flat.span, f"{evidence}.", cause, advice, changes, figures)


def reward_hacking(log: RunLog, t: Thresholds) -> Iterator[Finding]:
    """The training reward rises for a long time and the benchmark's success does not."""
    reward, success = _wanted_reward(log), log.series("rollout/success")
    n = min(len(reward), len(success))
    wide = max(t.window, n // 5)
    weight = float(log.setting("rollout.reward_task", 1.0))
    for back in sorted({n, min(n, 2 * t.hacking_steps + wide)}):
        if n < t.hacking_steps or back < 2 * wide:
            continue
        r, s = reward.last(back), success.last(back)
        gain, won = _ends(r, wide), _ends(s, wide)
        extra = _ends(_beside_task(r, s, weight), wide)  # without the noise of who happened to win
        whole = gain.z >= t.z and gain.change >= t.hacking_gain
        beside = extra.z >= t.z and extra.change >= 2 * t.hacking_gain
        flat = won.change <= max(0.02, 0.25 * max(gain.change, extra.change)) and won.z < t.z / 2
        if not (flat and (whole or beside)):
            continue
        falls = won.z <= -t.z and won.change <= -t.hacking_gain
        parts = _risen_parts(log, back, wide)
        yield Finding(
            "reward_hacking",
            Severity.CRITICAL if falls else Severity.WARNING,
            r.span,
            f"From step {r.steps[0]} to {r.steps[-1]} the training reward went from {gain.before:.3f} to "
            f"{gain.after:.3f}, of which beside the task's own from {extra.before:.3f} to {extra.after:.3f}, "
            f"while success went from {won.before:.1%} to {won.after:.1%}"
            + (f"; what rose is {parts[0][0]}." if parts else "."),
            "The policy earns the reward's extra terms without solving tasks.",
            "Read some episodes of high reward (envloop replay list), then lower or drop the term that rose.",
            _smaller_shaping(log, parts[0][0] if parts else ""),
            {
                "reward_before": gain.before,
                "reward_after": gain.after,
                "success_before": won.before,
                "success_after": won.after,
            },
        )
        return


def _wanted_reward(log: RunLog) -> Series:
    """The reward without the cost of invalid actions: that cost shrinks while a policy learns the format, long before
    it wins anything, and nobody calls it hacking."""
    reward = log.series("rollout/reward", "reward")
    rows = [row for row in log.rows if reward.name in row]
    return Series(
        reward.name, reward.steps, tuple(r[reward.name] - r.get("reward_part/invalid_action", 0.0) for r in rows)
    )


def _beside_task(reward: Series, success: Series, weight: float) -> Series:
    won = dict(zip(success.steps, success.values, strict=True))
    return Series(
        "beside the task",
        reward.steps,
        tuple(v - weight * won.get(s, 0.0) for s, v in zip(reward.steps, reward.values, strict=True)),
    )


def _ends(series: Series, wide: int) -> Shift:
    return shift(series.first(wide).values, series.last(wide).values)


def _risen_parts(log: RunLog, back: int, wide: int) -> list[tuple[str, float]]:
    """Parts of the reward other than the task's own, by how much they rose."""
    rises = []
    for name in log.names("reward_part/"):
        part = name.removeprefix("reward_part/")
        if part not in ("task", "invalid_action"):
            rises.append((part, _ends(log.series(name).last(back), wide).change))
    return sorted((r for r in rises if r[1] > 0), key=lambda r: -r[1])


def _smaller_shaping(log: RunLog, part: str) -> tuple[Change, ...]:
    """Half the weight of the term that rose, where the recipe names it."""
    for env, terms in log.setting("rollout.reward_shaping", {}).items():
        for term, weight in terms.items():
            if part in ("", f"shaping.{term}"):
                return (Change(f"rollout.reward_shaping.{env}.{term}", weight / 4),)
    return ()


def starving_type(log: RunLog, t: Thresholds) -> Iterator[Finding]:
    """One task type gets no episodes any more, or wins next to nothing while the others do."""
    rows = log.rows[-t.starving_steps :]
    kinds = [name.removeprefix("episodes/") for name in log.names("episodes/")]
    counts = {k: sum(r.get(f"episodes/{k}", 0.0) for r in rows) for k in kinds}
    wins = {k: sum(r.get(f"episodes/{k}", 0.0) * r.get(f"success/{k}", 0.0) for r in rows) for k in kinds}
    span = (int(rows[0]["step"]), int(rows[-1]["step"]))
    for kind in kinds:
        yield from _fewer_episodes(log, t, kind, kinds)
        others = sum(counts.values()) - counts[kind]
        if counts[kind] < t.starving_episodes or others < t.starving_episodes:
            continue
        rest = (sum(wins.values()) - wins[kind]) / others
        share = wins[kind] / counts[kind]
        alike = 1 + t.group_correlation * (float(log.setting("rollout.group_size", 8)) - 1)
        high = wilson_interval(wins[kind] / alike, counts[kind] / alike)[1]
        if rest < t.starving_overall or high >= t.starving_ratio * rest:
            continue
        yield Finding(
            "starving_type",
            Severity.WARNING,
            span,
            f"In steps {span[0]} to {span[1]} {kind} won {share:.1%} of {counts[kind]:.0f} episodes, the "
            f"other types {rest:.1%}.",
            "The policy has never learnt this type, or the other types' updates have written over it; whole groups "
            "that fail teach it nothing.",
            "Add expert episodes of this type to the warm-up, or draw it alone for a while. If it was won before: a "
            "lower learning rate, or grpo.beta, which holds to the start.",
            _drawn_more(log, kind),
            {"success": share, "success_others": rest, "episodes": counts[kind]},
            subject=kind,
        )


def _fewer_episodes(log: RunLog, t: Thresholds, kind: str, kinds: list[str]) -> Iterator[Finding]:
    """Against the type's own share of its environment's episodes earlier in the run."""
    env = kind.split("/", 1)[0]
    same = [f"episodes/{k}" for k in kinds if k.startswith(f"{env}/")]
    recent = log.rows[-t.starving_steps :]
    early = log.rows[: len(log.rows) - len(recent)]
    if len(early) < t.window:
        return
    before = sum(r.get(n, 0.0) for r in early for n in same)
    was = sum(r.get(f"episodes/{kind}", 0.0) for r in early) / max(1.0, before)
    total = sum(r.get(n, 0.0) for r in recent for n in same)
    now = sum(r.get(f"episodes/{kind}", 0.0) for r in recent)
    span = (int(recent[0]["step"]), int(recent[-1]["step"]))
    group = float(log.setting("rollout.group_size", 8))
    # Tasks are drawn, not episodes, and how often is only known from those drawn before: take the low end of that.
    expected = wilson_interval(was * before / group, before / group)[0] * total / group
    if now > was * total / 4 or poisson_tail(round(now / group), expected) > t.starving_chance:
        return
    yield Finding(
        "starving_type",
        Severity.WARNING,
        span,
        f"{kind} had {was:.0%} of the episodes of {env} before step {span[0]}, and {now / total:.1%} since.",
        "The mixture, a curriculum or a filter hardly draws this type any more.",
        "Give it a source of its own, and look at what is filtered out.",
        _drawn_more(log, kind),
        {"share_before": was, "share_after": now / total},
        subject=kind,
    )


def _drawn_more(log: RunLog, kind: str) -> tuple[Change, ...]:
    """The recipe's sources, and one more that draws this type alone, a quarter as often as all of them."""
    env, type_ = kind.split("/", 1)
    sources = [dict(s) for s in log.setting("data.sources", ())]
    split = next((s["split"] for s in sources if s.get("env") == env), None)
    if split is None:
        return ()
    weight = 0.25 * sum(float(s.get("weight", 1.0)) for s in sources)
    shown = [{k: v for k, v in s.items() if k in ("env", "split", "types", "weight") and v} for s in sources]
    return (Change("data.sources", [*shown, {"env": env, "split": split, "types": [type_], "weight": weight}]),)
