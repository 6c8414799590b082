"""Can the run's figures be believed: its splits, its failures, its log."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from envs.types import SplitRole
from trainer.diagnose.findings import Change, Finding, Severity
from trainer.diagnose.log import RunLog
from trainer.diagnose.policy import recipe_section
from trainer.diagnose.stats import shift
from trainer.diagnose.thresholds import Thresholds
from trainer.splits import KNOWN_SPLITS

__all__ = ["data_leak", "infrastructure_failures", "infrastructure_losses", "log_order", "log_stopped"]

_UNSCORED = ("infrastructure_error", "cancelled", "truncated_time", "running")


def data_leak(log: RunLog, t: Thresholds) -> Iterator[Finding]:
    """Tasks of an evaluation split, or the same tasks under another name, were trained on."""
    del t
    seen = Counter(f"{task['env']}/{task['split']}" for task in _tasks(log).values())
    sources = {f"{s.get('env')}/{s.get('split')}" for s in log.setting("data.sources", ()) if isinstance(s, Mapping)}
    for split in sorted({*seen, *sources}):
        if _role(split) is not SplitRole.EVALUATION:
            continue
        count = seen.get(split, 0)
        allowed = log.setting("data.allow_eval_split", ())
        by_name = split in allowed or split.split("/", 1)[1] in allowed
        yield Finding(
            "data_leak",
            Severity.CRITICAL,
            (0, log.last_step),
            f"{count} tasks of the evaluation split {split} were trained on."
            if count
            else f"The recipe draws its tasks from the evaluation split {split}.",
            "data.allow_eval_split names it."
            if by_name
            else "The guard of splits was not asked, or was told otherwise.",
            "No score on this split can be reported for this run or for what is made from it; train on another one.",
            (Change("data.allow_eval_split", []), *_train_instead(log, split)),
            {"tasks": float(count)},
            subject=split,
        )
    yield from _same_content(log)


def _tasks(log: RunLog) -> dict[str, Mapping[str, Any]]:
    tasks = log.record.get("tasks", {})
    whole = isinstance(tasks, Mapping)
    return {k: v for k, v in tasks.items() if isinstance(v, Mapping) and "env" in v and "split" in v} if whole else {}


def _role(split: str) -> SplitRole | None:
    """What a split is for; None for one that nobody here knows (a file of the user's own)."""
    env, _, name = split.partition("/")
    return KNOWN_SPLITS.get(env, {}).get(name)


def _train_instead(log: RunLog, split: str) -> tuple[Change, ...]:
    env, _, name = split.partition("/")
    other = name.removesuffix("_eval") if name.endswith("_eval") else "generated"
    sources = [dict(s) for s in log.setting("data.sources", ())]
    if not any(s.get("env") == env and s.get("split") == name for s in sources):
        return ()
    kept = [s for s in sources if (s.get("env"), s.get("split")) != (env, name)]
    return (Change("data.sources", [*_short(kept), {"env": env, "split": other}]),)


def _short(sources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in s.items() if k in ("env", "split", "types", "weight") and v} for s in sources]


def _same_content(log: RunLog) -> Iterator[Finding]:
    """Evaluation episodes of the run's own store whose task was trained on, by the hash of what the task is."""
    trained = {task["content_hash"]: name for name, task in _tasks(log).items() if task.get("content_hash")}
    shared = {
        e.content_hash: f"{e.env}:{e.task_id}"
        for e in log.episodes
        if e.purpose == "evaluation" and e.content_hash in trained
    }
    if not shared:
        return
    digest, name = sorted(shared.items())[0]
    yield Finding(
        "data_leak",
        Severity.CRITICAL,
        (0, log.last_step),
        f"{len(shared)} tasks that the run evaluates itself on were trained on too, such as {name} (trained on as "
        f"{trained[digest]}).",
        "Evaluation and training draw the same tasks, perhaps under two names.",
        "Evaluate on a split that is none of data.sources; scores of this run say how well it remembers.",
        (),
        {"tasks": float(len(shared))},
        subject="evaluated tasks",
    )


def infrastructure_losses(log: RunLog, t: Thresholds) -> Iterator[Finding]:
    """Episodes that the machinery lost enter the training as failures of the policy."""
    del t
    yield from _diluted(log)
    miscounted = [
        (int(r["step"]), lost, r["rollout/infrastructure_failures"])
        for r in log.rows
        if "rollout/infrastructure_failures" in r
        and (lost := sum(r.get(f"status/{s}", 0.0) for s in _UNSCORED)) > r["rollout/infrastructure_failures"]
    ]
    if miscounted:
        step, lost, counted = miscounted[0]
        yield _as_losses(
            (step, miscounted[-1][0]),
            f"In {len(miscounted)} steps more episodes were lost by the machinery than were left out (step "
            f"{step}: {lost:.0f} "
            f"lost, {counted:.0f} left out).",
            {"steps": float(len(miscounted))},
            "endings",
        )
    wrong = [e for e in log.episodes if not e.scored and e.reward is not None]
    wrong += [e for e in log.episodes if e.scored and e.error and not e.turns]
    if wrong:
        yield _as_losses(
            (0, log.last_step),
            f"{len(wrong)} of {len(log.episodes)} stored episodes failed by infrastructure and have a "
            "reward all the same, such "
            f"as {wrong[0].id} ({wrong[0].status}, reward {wrong[0].reward:g}).",
            {"episodes": float(len(wrong))},
            "stored episodes",
        )


def _diluted(log: RunLog) -> Iterator[Finding]:
    """The trainer's own mean reward is the batch's, spread over the lost episodes too: they went in as zeros."""
    found = []
    for row in log.rows:
        lost, all_ = row.get("rollout/infrastructure_failures", 0.0), row.get("rollout/episodes", 0.0)
        if not lost or lost >= all_ or "rollout/reward" not in row or "reward" not in row:
            continue
        if row.get("rollout/mixed") or row.get("rollout/constrained") or row.get("groups/filtered"):
            continue  # other episodes may be left out of the one mean and not of the other
        told, alone = row["reward"], row["rollout/reward"]
        diluted = alone * (all_ - lost) / all_
        gap = abs(alone - diluted)
        if gap > 1e-4:
            found.append((int(row["step"]), abs(told - diluted) < 0.2 * gap, told, alone))
    bad = [f for f in found if f[1]]
    if not bad or len(bad) < 0.5 * len(found):
        return
    step, _, told, alone = bad[0]
    yield _as_losses(
        (step, bad[-1][0]),
        f"In {len(bad)} of {len(found)} steps with lost episodes the trainer's mean reward is that of lost "
        "episodes counted as 0 "
        f"(step {step}: {told:.4g}; the scored episodes' own mean is {alone:.4g}).",
        {"steps": float(len(bad)), "reward": told, "reward_scored": alone},
        "reward",
    )


def _as_losses(steps: tuple[int, int], evidence: str, figures: dict[str, float], subject: str) -> Finding:
    return Finding(
        "infrastructure_losses",
        Severity.CRITICAL,
        steps,
        evidence,
        "Whatever hands episodes to the trainer gives a lost one a reward: the policy is punished for our machinery.",
        "Give a lost episode no reward (None) and no token, as episode_row does; let it be played again.",
        (Change("rollout.refill", 2),),
        figures,
        subject=subject,
    )


def infrastructure_failures(log: RunLog, t: Thresholds) -> Iterator[Finding]:
    """The machinery loses many episodes."""
    rows = [r for r in log.rows if "rollout/infrastructure_failures" in r][-t.window :]
    total = sum(r.get("rollout/episodes", 0.0) for r in rows)
    if len(rows) < t.window or not total:
        return
    share = sum(r["rollout/infrastructure_failures"] for r in rows) / total
    often = sum(r["rollout/infrastructure_failures"] > 0 for r in rows)
    if share < t.failures or often < len(rows) / 2:
        return
    yield Finding(
        "infrastructure_failures",
        Severity.CRITICAL if share >= t.failures_badly else Severity.WARNING,
        (int(rows[0]["step"]), int(rows[-1]["step"])),
        f"{share:.0%} of the episodes were lost by the machinery, in {often} of the last {len(rows)} steps.",
        "The environments, the engine or the way to them are overloaded or fail.",
        "Read the episodes' errors (envloop replay list --status infrastructure_error); ask for less at once.",
        (
            Change("rollout.concurrency", max(1, int(log.setting("rollout.concurrency", 64)) // 2)),
            Change("rollout.refill", min(10, 1 + int(log.setting("rollout.refill", 1)))),
        ),
        {"share": share},
    )


def log_order(log: RunLog, t: Thresholds) -> Iterator[Finding]:
    """Steps that come twice, go back or are missing, or lines that cannot be read."""
    del t
    steps = [int(r["step"]) for r in log.rows]
    pairs = list(itertools.pairwise(steps))
    gaps = [b - a for a, b in pairs]
    usual = max(1.0, median(gaps)) if gaps else 1.0
    back = [b for a, b in pairs if b <= a]
    holes = [(a, b) for a, b in pairs if b - a > 3 * usual]
    said = []
    if back:
        said.append(f"the steps go back or repeat at {', '.join(map(str, back[:5]))} ({len(back)} times)")
    if holes:
        said.append(f"steps are missing between {', '.join(f'{a} and {b}' for a, b in holes[:3])}")
    # The last line of a killed run may be cut; any other is damage.
    broken = [p for p in log.problems if not p.startswith(f"line {len(log.rows) + len(log.problems)}:")]
    if broken:
        said.append(f"{len(broken)} lines cannot be read ({broken[0]})")
    if not said:
        return
    yield Finding(
        "log_order",
        Severity.WARNING,
        (min(steps), max(steps)),
        f"In the log {'; '.join(said)}.",
        "Two runs write to one folder, or an interrupted run was gone on with by other means than --resume.",
        "Give each run a folder of its own; figures over these steps mix two runs.",
        (Change("run.resume", True),),
        {"back": float(len(back)), "holes": float(len(holes)), "unreadable": float(len(broken))},
    )


def log_stopped(log: RunLog, t: Thresholds) -> Iterator[Finding]:
    """The log ends before the recipe does, and nobody writes to it."""
    planned = log.setting(f"{recipe_section(log)}.steps")
    last = log.last_step
    # The record of a run that ended of itself, early or not, says at which step.
    if not isinstance(planned, int) or last >= planned or log.age_s is None or log.stopped or "step" in log.record:
        return
    took = log.series("time/step", "step_time", "rollout/seconds")
    silence = max(t.stopped_s, 20 * took.last(t.window).median if len(took) else 0.0)
    if log.age_s < silence:
        return
    slower_ = shift(took.first(t.window).values, took.last(t.window).values) if len(took) >= 2 * t.window else None
    told = (
        f" Its steps had grown from {slower_.before:.0f} to {slower_.after:.0f} s."
        if slower_ is not None and slower_.after > 3 * slower_.before
        else ""
    )
    yield Finding(
        "log_stopped",
        Severity.WARNING,
        (last, last),
        f"The log ends at step {last} of {planned}, and nothing was written for {log.age_s / 60:.0f} minutes.{told}",
        "The run was stopped or killed, or it hangs.",
        "Look whether its process lives; go on from the newest checkpoint.",
        (Change("run.resume", True),),
        {"step": float(last), "planned": float(planned), "silent_s": log.age_s},
    )
