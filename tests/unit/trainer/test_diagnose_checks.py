"""Every named fault is found on its log, healthy logs raise no alarm, and what is advised is a setting that exists."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from doctor_samples import FAULTS, RECIPES, faulty, healthy, plain_log, real_logs

from trainer.config import apply_overrides, parse_config
from trainer.diagnose.checks import CHECKS, Report, diagnose, examine
from trainer.diagnose.findings import Change, Finding, Severity
from trainer.diagnose.log import EpisodeFact, RunLog
from trainer.diagnose.names import CHECK_NAMES

REAL = real_logs()


def found(log: RunLog, check: str) -> list[Finding]:
    return [f for f in diagnose(log).findings if f.check == check]


def test_checks_and_their_names_agree() -> None:
    assert tuple(check.name for check in CHECKS) == CHECK_NAMES
    assert set(FAULTS) == set(CHECK_NAMES), "a check without a log that proves it"


@pytest.mark.parametrize("name", FAULTS)
def test_a_made_fault_is_found(name: str) -> None:
    report = diagnose(faulty(name, 20))
    hits = [f for f in report.problems if f.check == name]
    assert hits, [f.sentence() for f in report.findings]
    for f in hits:
        assert 0 <= f.steps[0] <= f.steps[1] <= report.steps
        assert f.evidence.endswith((".", ")."))
        assert f.cause
        assert f.advice
        assert f.figures


@pytest.mark.parametrize("name", [name for name, real in REAL.items() if real.label is not None])
def test_a_provoked_fault_is_found_in_the_log_of_a_real_training(name: str) -> None:
    real = REAL[name]
    told = {f.check: f.sentence() for f in diagnose(real.log).problems}
    assert real.label in told
    assert told.keys() <= {real.label, *real.also}, told


@pytest.mark.parametrize("name", [name for name, real in REAL.items() if real.label is None])
def test_a_real_training_that_went_well_raises_no_alarm(name: str) -> None:
    assert not [f.sentence() for f in diagnose(REAL[name].log).problems]


def test_there_are_real_logs_of_both_kinds() -> None:
    labels = [real.label for real in REAL.values()]
    assert labels.count(None) >= 9
    assert len(set(labels) - {None}) >= 16


def test_at_most_one_of_twenty_healthy_logs_raises_an_alarm() -> None:
    """The bar is 5 %; the benchmark holds two hundred logs of other seeds against it."""
    alarms = {
        n: [f.sentence() for f in diagnose(healthy(RECIPES[n % len(RECIPES)], 500 + n)).problems] for n in range(20)
    }
    assert sum(map(bool, alarms.values())) <= 1, alarms


def as_recipe(log: RunLog, recipe: str) -> RunLog:
    """The same run under another recipe: PPO reads GRPO's section, the others have one of their own."""
    section = "grpo" if recipe == "ppo" else recipe
    config = {k: v for k, v in log.config.items() if k != log.recipe}
    return replace(log, recipe=recipe, config={**config, "recipe": recipe, section: log.config[log.recipe]})


def advised() -> Iterator[tuple[str, Finding, RunLog]]:
    """What is found in a log of each fault and kind of recipe that can have it."""
    others = {"grpo": ("grpo", "ppo"), "sft": ("sft", "dpo", "kto"), "dpo": ("dpo", "kto"), "kto": ("kto",)}
    for name in FAULTS:
        seen: set[str] = set()
        for log in (faulty(name, seed) for seed in (30, 31)):
            for recipe in others[log.recipe]:
                if recipe in seen:
                    continue
                seen.add(recipe)
                other = as_recipe(log, recipe)
                for finding in examine(other)[0]:
                    yield name, finding, other


def test_what_is_advised_can_be_set() -> None:
    checks: dict[str, set[str]] = {}
    for name, finding, log in advised():
        for change in finding.changes:
            where = f"{log.recipe}, {name}: {change}"
            new = parse_config(apply_overrides(dict(log.config), {change.setting: change.value}), where=where)
            assert new.recipe == log.recipe
            checks.setdefault(log.recipe, set()).add(finding.check)
    least = {"grpo": 12, "ppo": 12, "sft": 4, "dpo": 5, "kto": 5}
    assert not {recipe: checks.get(recipe) for recipe, n in least.items() if len(checks.get(recipe, ())) < n}


def test_a_change_reads_as_set_takes_it() -> None:
    sources = [{"env": "alfworld", "split": "generated", "types": ["heat"], "weight": 0.5}]
    assert str(Change("grpo.learning_rate", 2e-7)) == "grpo.learning_rate=2e-07"
    assert str(Change("run.resume", True)) == "run.resume=true"
    shown = str(Change("data.sources", sources))
    assert shown == 'data.sources=[{env = "alfworld", split = "generated", types = ["heat"], weight = 0.5}]'


def test_one_wild_step_is_no_finding() -> None:
    draw = random.Random(1)
    calm = {
        "kl": lambda s: 0.02 * draw.uniform(0.8, 1.2),
        "grad_norm": lambda s: draw.uniform(0.8, 1.2),
        "entropy": lambda s: draw.uniform(0.5, 0.6),
        "rollout__invalid_turns": lambda s: draw.uniform(0.02, 0.06),
        "rollout__turn_tokens": lambda s: draw.uniform(40, 50),
        "mismatch__kl": lambda s: 1e-4 * draw.uniform(0.8, 1.2),
        "clip_ratio__region_mean": lambda s: 0.01,
    }
    log = plain_log(60, **calm)
    wild = {"kl": 30.0, "grad_norm": 500.0, "entropy": 0.001, "rollout/invalid_turns": 1.0}
    wild |= {"rollout/turn_tokens": 500.0, "mismatch/kl": 5.0, "clip_ratio/region_mean": 0.9}
    rows = tuple({**row, **wild} if row["step"] == 40 else row for row in log.rows)
    assert not diagnose(replace(log, rows=rows)).findings


def test_solved_tasks_are_worth_a_note_and_no_alarm() -> None:
    log = plain_log(
        40,
        rollout__groups_without_signal=1.0,
        rollout__success=0.99,
        rollout__reward=0.99,
        entropy=lambda s: 0.5 if s < 15 else 0.02,
    )
    report = diagnose(log)
    assert {f.check for f in report.findings} == {"no_group_variance", "entropy_collapse"}
    assert not report.problems


def test_learning_the_format_first_is_no_hacking() -> None:
    """The cost of invalid actions shrinks from 1.0 to 0.1 an episode: reward up, success not, and all is well."""
    cost = lambda s: -1.0 + 0.9 * min(1.0, s / 40)  # noqa: E731
    parts = {"rollout__success": 0.05, "reward_part__task": 0.05, "reward_part__invalid_action": cost}
    assert not found(plain_log(80, rollout__reward=lambda s: 0.05 + cost(s), **parts), "reward_hacking")
    shaped = plain_log(80, rollout__reward=lambda s: 0.05 + 0.3 * min(1.0, s / 40), rollout__success=0.05)
    assert found(shaped, "reward_hacking")


def test_what_cannot_be_checked_is_said_with_the_reason() -> None:
    report = diagnose(plain_log(12, loss=0.1, grad_norm=1.0, learning_rate=1e-5))
    reasons = {u.check: u.reason for u in report.unchecked}
    assert "grpo.beta = 0" in reasons["kl_runaway"]
    assert "no rollout/invalid_turns" in reasons["invalid_actions"]
    assert reasons["gradient_spikes"] == "12 steps have grad_norm, and it takes 20"
    assert "log_order" in report.checked
    assert not set(reasons) & set(report.checked)


def test_a_fault_that_passes_is_told_with_its_time() -> None:
    log = plain_log(100, kl=lambda s: 5.0 if 20 < s <= 45 else 0.01)
    (finding,) = found(log, "kl_runaway")
    assert not finding.lasts
    assert 30 <= finding.first_step <= 40


@pytest.mark.parametrize(("dead", "zeros", "expected"), [(3.0, True, 1), (3.0, False, 0), (0.0, True, 0)])
def test_lost_episodes_that_enter_as_zeros_show_in_the_mean(dead: float, zeros: bool, expected: int) -> None:
    mean = 0.5
    told = mean * (32 - dead) / 32 if zeros else mean
    log = plain_log(
        12, rollout__episodes=32, rollout__infrastructure_failures=dead, rollout__reward=mean, reward=told,
        status__infrastructure_error=dead,
    )  # fmt: skip
    assert len(found(log, "infrastructure_losses")) == expected


def episode(**changes: object) -> EpisodeFact:
    fact = EpisodeFact(
        "ep-1", "alfworld", "generated", "generated/1", "heat", "h1", "grpo", "completed", True, 0.0, 3, ""
    )
    return replace(fact, **changes)


def test_stored_episodes_that_failed_and_have_a_reward_are_found() -> None:
    log = plain_log(12, rollout__infrastructure_failures=1, rollout__episodes=32)
    assert not found(replace(log, episodes=(episode(),)), "infrastructure_losses")
    lost = episode(status="infrastructure_error", scored=False)
    assert found(replace(log, episodes=(episode(), lost)), "infrastructure_losses")
    cut_off = episode(turns=0, error="the server hung up")
    assert found(replace(log, episodes=(episode(), cut_off)), "infrastructure_losses")


def test_the_same_task_under_another_name_is_a_leak() -> None:
    tasks = {"alfworld:generated/7": {"env": "alfworld", "split": "generated", "type": "heat", "content_hash": "h1"}}
    log = replace(plain_log(12, loss=1.0), record={"tasks": tasks})
    assert not found(replace(log, episodes=(episode(),)), "data_leak"), "a training episode of its own task"
    played = episode(purpose="evaluation", split="my_eval", task_id="my_eval/1")
    (leak,) = found(replace(log, episodes=(played,)), "data_leak")
    assert leak.severity is Severity.CRITICAL
    assert "alfworld:my_eval/1" in leak.evidence


def test_a_users_own_split_is_no_leak() -> None:
    config = {"data": {"sources": [{"env": "dbbench", "split": "train_mine"}], "allow_eval_split": []}}
    assert not found(plain_log(12, loss=1.0, config=config), "data_leak")
    config = {"data": {"sources": [{"env": "dbbench", "split": "standard"}], "allow_eval_split": ["standard"]}}
    (leak,) = found(plain_log(12, loss=1.0, config=config), "data_leak")
    assert "allow_eval_split names it" in leak.cause


def test_a_log_in_progress_has_not_stopped() -> None:
    log = plain_log(12, loss=1.0, config={"grpo": {"steps": 100}})
    assert not found(replace(log, age_s=60.0), "log_stopped")
    assert found(replace(log, age_s=7200.0), "log_stopped")
    assert not found(replace(log, age_s=7200.0, stopped=True), "log_stopped"), "the doctor stopped it"
    ended = replace(log, age_s=7200.0, record={"step": 12})
    assert not found(ended, "log_stopped"), "it ended early of itself"
    assert not found(plain_log(100, loss=1.0, config={"grpo": {"steps": 100}}), "log_stopped")


def test_float16s_loss_scaler_may_overflow_a_few_times() -> None:
    log = plain_log(40, loss=0.5, grad_norm=1.0, config={"model": {"dtype": "float16"}})
    bad = tuple({**row, "non_finite/grad_norm": 1.0} if row["step"] in (1, 2) else row for row in log.rows)
    assert not diagnose(replace(log, rows=bad)).problems
    bad = tuple({**row, "non_finite/loss": 1.0} if row["step"] == 30 else row for row in log.rows)
    assert diagnose(replace(log, rows=bad)).problems


def test_the_worst_comes_first_and_json_holds_everything() -> None:
    report: Report = diagnose(faulty("lr_too_high", 7))
    ranks = [f.severity.rank for f in report.findings]
    assert ranks == sorted(ranks, reverse=True)
    document = report.to_json()
    assert document["schema"] == "envloop.doctor_report/1"
    first = document["findings"][0]
    assert {"check", "severity", "steps", "evidence", "cause", "advice", "changes", "figures"} <= first.keys()
    assert all({"setting", "value"} == set(change) for change in first["changes"])
