"""All checks, and how a log is examined: as it is now, or as it was seen all along.

``diagnose`` looks at the log as the live doctor would have: every ``every`` steps, at what was there by then. What it
finds is what would have been told in training, with the step of it, and whether it still holds at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from trainer.diagnose import behaviour, integrity, optimiser, policy, signal, supervised
from trainer.diagnose.findings import Finding, Severity, Unchecked
from trainer.diagnose.log import RunLog
from trainer.diagnose.names import CHECK_NAMES
from trainer.diagnose.thresholds import Thresholds

__all__ = ["CHECKS", "Check", "Report", "diagnose", "examine"]

_RL = ("grpo", "ppo")
_PAIRS = ("dpo", "kto")
_ALL = ("grpo", "ppo", "sft", "dpo", "kto")


@dataclass(frozen=True, slots=True)
class Check:
    """One check. ``needs``: metrics of which the log must have one of each tuple, over ``steps`` steps at least.
    ``missing`` says why a metric may not be there."""

    look: Callable[[RunLog, Thresholds], Iterator[Finding]]
    recipes: tuple[str, ...]
    needs: tuple[tuple[str, ...], ...] = ()
    steps: int = 1
    missing: str = ""

    @property
    def name(self) -> str:
        """The function's."""
        return self.look.__name__

    def obstacle(self, log: RunLog) -> str | None:
        """Why it cannot look at this log; None where it can."""
        for names in self.needs:
            found = log.series(*names)
            if not len(found):
                why = f": {self.missing}" if self.missing else ""
                return f"the log has no {' or '.join(names)}{why}"
            if len(found) < self.steps:
                return f"{len(found)} steps have {found.name}, and it takes {self.steps}"
        if not self.needs and len(log.rows) < self.steps:
            return f"the log has {len(log.rows)} steps, and it takes {self.steps}"
        return None


_MISMATCH = (("mismatch/kl", "mismatch/logp_mean", "sampling/sampling_logp_difference/mean"),)
_ROLLOUT = "an older log, or one without rollouts"

CHECKS: tuple[Check, ...] = (
    Check(signal.no_group_variance, _RL, (("rollout/groups_without_signal", "frac_reward_zero_std"),), 10, _ROLLOUT),
    Check(signal.reward_hacking, _RL, (("rollout/reward", "reward"), ("rollout/success",)), 30, _ROLLOUT),
    Check(signal.starving_type, _RL, steps=20),
    Check(policy.kl_runaway, _RL, (("kl",),), 10, "with grpo.beta = 0 nothing measures it"),
    Check(policy.entropy_collapse, _RL, (("entropy",),), 20),
    Check(policy.clip_share, _RL, (("clip_ratio/region_mean",),), 10, "this loss does not clip"),
    Check(policy.rollout_mismatch, _RL, _MISMATCH, 10, "grpo.importance_sampling is off"),
    Check(policy.stale_policy, _RL, (("rollout/policy_lag", *_MISMATCH[0]),), 10, _ROLLOUT),
    Check(optimiser.lr_too_high, _ALL, (("learning_rate",),), 30),
    Check(optimiser.gradient_spikes, _ALL, (("grad_norm",),), 20),
    Check(optimiser.non_finite, _ALL),
    Check(optimiser.loss_divergence, ("sft", *_PAIRS), (("loss",),), 30),
    Check(behaviour.length_explosion, _RL, (("rollout/turn_tokens", "completions/mean_length"),), 20),
    Check(behaviour.truncation, _RL, (("rollout/truncated", "rollout/episodes"),), 10, _ROLLOUT),
    Check(behaviour.invalid_actions, _RL, (("rollout/invalid_turns",),), 30, _ROLLOUT),
    Check(behaviour.repetition, _RL, (("rollout/repeated",),), 30, _ROLLOUT),
    Check(integrity.data_leak, _ALL),
    Check(integrity.infrastructure_losses, _RL, (("rollout/infrastructure_failures",),), 1, _ROLLOUT),
    Check(integrity.infrastructure_failures, _RL, (("rollout/infrastructure_failures",),), 10, _ROLLOUT),
    Check(integrity.log_order, _ALL),
    Check(integrity.log_stopped, _ALL),
    Check(supervised.overfitting, ("sft", *_PAIRS), (("loss",), ("eval/success", "eval_loss", "eval/loss")), 4,
          "nothing was evaluated in the loop"),
    Check(supervised.preference_margins, _PAIRS, (("rewards/margins",),), 10),
    Check(supervised.preference_stuck, _PAIRS, (("rewards/accuracies", "rewards/margins"),), 50),
)  # fmt: skip
"""In the order of ``CHECK_NAMES``."""

_WHOLE = (integrity.data_leak, integrity.log_order, integrity.log_stopped)  # of the files, not of a point in the run


@dataclass(frozen=True, slots=True)
class Report:
    """What was found in a run, the worst first, and what could not be looked at."""

    recipe: str
    steps: int
    findings: tuple[Finding, ...]
    unchecked: tuple[Unchecked, ...]
    checked: tuple[str, ...] = field(default=())

    @property
    def problems(self) -> tuple[Finding, ...]:
        """The findings that are more than notes."""
        return tuple(f for f in self.findings if f.severity is not Severity.NOTE)

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON document."""
        return {
            "schema": "envloop.doctor_report/1",
            "recipe": self.recipe,
            "steps": self.steps,
            "findings": [f.to_json() for f in self.findings],
            "unchecked": [u.to_json() for u in self.unchecked],
            "checked": list(self.checked),
        }


def examine(
    log: RunLog, thresholds: Thresholds | None = None, *, skip: Sequence[Callable[..., Any]] = ()
) -> tuple[list[Finding], list[Unchecked]]:
    """Every check on the log as it is: findings in the order of the checks, and those that could not look."""
    t = thresholds or Thresholds()
    findings: list[Finding] = []
    unchecked: list[Unchecked] = []
    for check in CHECKS:
        if log.recipe not in check.recipes or check.look in skip:
            continue
        why = check.obstacle(log)
        if why is not None:
            unchecked.append(Unchecked(check.name, why))
        elif log.rows:
            findings += [replace(f, first_step=log.last_step) for f in check.look(log, t)]
    return findings, unchecked


def diagnose(log: RunLog, thresholds: Thresholds | None = None, *, every: int = 10) -> Report:
    """Examine a log at every ``every``-th line and at its end."""
    found: dict[tuple[str, str], Finding] = {}
    for rows in range(every, len(log.rows), every):
        for finding in examine(log.until(rows), thresholds, skip=_WHOLE)[0]:
            found[finding.key] = _merged(found.get(finding.key), replace(finding, lasts=False))
    at_end, unchecked = examine(log, thresholds)
    for finding in at_end:
        found[finding.key] = _merged(found.get(finding.key), finding)
    names = [check.name for check in CHECKS if log.recipe in check.recipes]
    blind = {u.check for u in unchecked}
    order = {name: i for i, name in enumerate(CHECK_NAMES)}
    return Report(
        log.recipe,
        log.last_step,
        tuple(sorted(found.values(), key=lambda f: (-f.severity.rank, order[f.check], f.subject))),
        tuple(unchecked),
        tuple(name for name in names if name not in blind),
    )


def _merged(before: Finding | None, now: Finding) -> Finding:
    """The same finding seen again: the worse of the two with the newer evidence, since the first time that it was
    told."""
    if before is None:
        return now
    kept = now if now.severity.rank >= before.severity.rank else before
    return replace(kept, first_step=before.first_step, lasts=now.lasts)
