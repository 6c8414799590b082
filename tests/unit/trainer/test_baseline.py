"""SFT or RL? The share of groups with variance, by a baseline evaluation."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner

from envs.errors import ConfigError
from trainer.baseline import group_needed, mixed_share, outlook, rate_needed, read_baseline
from trainer.evaluate import EvalReport, TypeScore, wilson_interval
from trainer.plan_cli import plan_app


def row(name: str, wins: int, episodes: int) -> dict[str, object]:
    low, high = wilson_interval(wins, episodes)
    return {"type": name, "episodes": episodes, "success": wins / episodes, "low": low, "high": high}


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5, 0.93])
@pytest.mark.parametrize("size", [2, 8])
def test_the_share_is_that_of_drawn_groups(rate: float, size: int) -> None:
    draw = random.Random(0)
    groups = [[draw.random() < rate for _ in range(size)] for _ in range(20_000)]
    mixed = sum(any(g) and not all(g) for g in groups) / len(groups)
    assert mixed_share(rate, size) == pytest.approx(mixed, abs=0.012)


def test_what_is_needed_is_the_least_that_is_enough() -> None:
    for size in (2, 4, 8, 32):
        rate = rate_needed(0.25, size)
        assert mixed_share(rate, size) == pytest.approx(0.25)
        assert rate < 0.5
    for rate in (0.01, 0.05, 0.4):
        size = group_needed(0.5, rate)
        assert size is not None
        assert mixed_share(rate, size) >= 0.5 > mixed_share(rate, size - 1) * (size > 2)
    assert group_needed(0.5, 0.0) is None
    assert group_needed(0.5, 1.0) is None


@pytest.mark.parametrize(
    ("wins", "advice"),
    [(0, "sft"), (2, "sft"), (10, "rl_with_filter"), (60, "rl"), (192, "rl_with_filter"), (199, "harder_tasks")],
)
def test_the_advice_follows_from_the_share(wins: int, advice: str) -> None:
    said = outlook([row("look", wins, 200)], group_size=8, groups_per_step=8)
    assert said.advice == advice
    assert said.useful == pytest.approx(8 * mixed_share(wins / 200, 8))
    assert f"{wins / 200:.1%}" in said.reason


def test_types_count_by_their_tasks_and_starving_ones_are_named() -> None:
    said = outlook([row("easy", 50, 100), row("hard", 0, 300)], group_size=8, groups_per_step=10)
    assert said.success == pytest.approx(0.125)
    assert said.mixed == pytest.approx(mixed_share(0.5, 8) / 4)  # not the share at the mean rate, which is far higher
    assert said.starving == ("hard",)
    hard = said.types[1]
    assert hard.mixed == hard.mixed_low == 0.0
    assert hard.mixed_high == pytest.approx(mixed_share(hard.high, 8))
    easy = said.types[0]
    assert easy.mixed_low <= easy.mixed <= easy.mixed_high == mixed_share(0.5, 8)


def report(tmp_path: Path) -> Path:
    rows = tuple(
        TypeScore(name, n, wins, wins / n, *wilson_interval(wins, n))
        for name, wins, n in (("pick", 3, 100), ("heat", 0, 50))
    )
    said = EvalReport(
        env="alfworld", split="generated_eval", engine="vllm", model="m", policy="base", protocol="agentbench_fc",
        episodes=150, score=0.02, overall=rows[0], types=rows, turns=1.0, policy_tokens=1.0, invalid_turns=0.0,
        statuses={}, errors=(), seconds=1.0, tokens_per_s=1.0, task_ids=(),
    )  # fmt: skip
    path = tmp_path / "eval-alfworld-generated_eval.json"
    path.write_text(json.dumps(said.to_json()))
    return path


def test_the_command_reads_a_report_of_an_evaluation(tmp_path: Path) -> None:
    path = report(tmp_path)
    result = CliRunner().invoke(plan_app, ["--baseline", str(path)])
    assert result.exit_code == 0
    assert "SFT first" in result.output
    result = CliRunner().invoke(plan_app, ["--baseline", str(path), "--set", "rollout.group_size=64", "--json"])
    said = json.loads(result.output)["outlook"]
    assert said["group_size"] == 64
    assert [t["type"] for t in said["types"]] == ["pick", "heat"]
    assert said["advice"] != "sft"  # groups of 64 meet a win now and then, at 2 %


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "x.json"
    for text in ("{", "[]", '{"types": []}', '{"schema": "envloop.eval_report/1", "types": []}'):
        other.write_text(text)
        with pytest.raises(ConfigError):
            read_baseline(other)
    with pytest.raises(ConfigError, match="row of the report"):
        outlook([{"type": "x", "episodes": 3, "success": 0.5}], group_size=8, groups_per_step=8)
