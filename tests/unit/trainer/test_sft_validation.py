"""The report of what an SFT run is about to learn from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console
from trainer_doubles import make_episode
from typer.testing import CliRunner

from envs.errors import ConfigError
from envs.types import Task
from rollout_server.chat import ChatFormat
from rollout_server.tokenizer import HFTokenizer
from rollout_server.types import Role, RolloutRequest
from trainer.cli import train_app
from trainer.datasets import IGNORED, RowOrigin, SftRows, sft_rows
from trainer.sft_validation import (
    check_overlap,
    drop_duplicates,
    duplicates,
    find_overlap,
    percentiles,
    role_pattern,
    sft_report,
    sft_report_view,
)
from trainer.splits import SplitGuard

S, U, A, T = Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.TOOL


def task(number: int, split: str = "generated", kind: str = "pick") -> Task:
    return Task("alfworld", f"{split}/{number}", split, kind, f"hash-{number}")


def rows_of(*ids: list[int], tasks: list[Task | None] | None = None, near: list[str] | None = None) -> SftRows:
    rows = SftRows()
    for n, row in enumerate(ids):
        own = (tasks or [task(i) for i in range(len(ids))])[n]
        rows.input_ids.append(row)
        rows.labels.append([IGNORED, *row[1:]])
        rows.origins.append(RowOrigin(f"e{n}", "double", own, (S, U, A, U, A), 0, (near or [str(row)] * 9)[n]))
    return rows


def test_percentiles_are_by_nearest_rank() -> None:
    assert percentiles(range(1, 101)) == {
        "p5": 5, "p25": 25, "p50": 50, "p75": 75, "p95": 95, "p99": 99, "p100": 100,
    }  # fmt: skip
    assert percentiles([7]) == dict.fromkeys(("p5", "p25", "p50", "p75", "p95", "p99", "p100"), 7)
    assert percentiles([]) == {}


@pytest.mark.parametrize(
    ("roles", "pattern"),
    [
        ((S, U, A), "system user assistant"),
        ((S, U, A, T, A, T, T, A), "system user (assistant tool) x N assistant"),
        ((S, U, A, U, A), "system user assistant user assistant"),
        ((S, U), "system user"),
    ],
)
def test_roles_are_told_by_their_order(roles: tuple[Role, ...], pattern: str) -> None:
    assert role_pattern(roles) == pattern


def test_exact_and_near_duplicates_are_counted_and_dropped_on_request() -> None:
    def fresh() -> SftRows:
        return rows_of([1, 2], [1, 2], [1, 3], [4, 5], near=["x", "x", "x", "y"])

    assert duplicates(fresh(), "exact") == [1]
    assert duplicates(fresh(), "near") == [1, 2]
    report = sft_report(fresh(), max_length=10)
    assert (report.rows, report.exact_duplicates, report.near_duplicates) == (4, 1, 2)
    assert any("nearly others" in sentence for sentence in report.warnings)
    rows = fresh()
    assert drop_duplicates(rows, "none") == 0
    assert drop_duplicates(rows, "exact") == 1
    assert [o.name for o in rows.origins] == ["e0", "e2", "e3"]
    assert drop_duplicates(rows, "near") == 1
    assert dict(rows.left_out) == {"exact duplicate": 1, "near duplicate": 1}
    assert (len(rows.input_ids), len(rows.labels)) == (2, 2)


def test_figures(chat: ChatFormat, tokenizer: HFTokenizer) -> None:
    request = RolloutRequest(tasks=())
    played = [
        make_episode(
            chat, task=task(n, kind="heat"), seed=n, request=request, policy="base", index=0, turns=1 + 9 * (n == 2)
        )
        for n in range(3)
    ]
    long = max(len(e.prompt_ids) + len(e.completion_ids) for e in played)
    rows = sft_rows(played, tokenizer, max_length=long - 1, guard=SplitGuard())
    report = sft_report(rows, max_length=long - 1)
    assert (report.rows, report.truncated, report.truncated_lengths["p100"]) == (2, 1, long)
    assert report.left_out == {"too long": 1}
    assert report.tokens == sum(len(e.prompt_ids) + len(e.completion_ids) for e in played[:2])
    assert report.trained_share == sum(sum(e.mask) for e in played[:2]) / report.tokens
    assert report.counts == {"alfworld/generated": {"heat": 2}}
    assert report.roles == {"system user assistant": 2}
    assert report.turns["p50"] == 1
    assert report.empty_turns == 0
    assert any("left out" in sentence for sentence in report.warnings)
    assert json.loads(json.dumps(report.to_json()))["rows"] == 2
    console = Console(width=120)
    with console.capture() as shown:
        console.print(sft_report_view(report))
    assert "heat" in shown.get()
    assert "longer than" in shown.get()


def test_rows_of_evaluation_tasks_are_found_by_id_and_by_content_and_refused_unless_named() -> None:
    held_out = [task(1, "generated_eval"), Task("dbbench", "dev/0", "dev", "x", "")]
    same_content = Task("alfworld", "generated/77", "generated", "pick", "hash-1")
    other_env = Task("dbbench", "generated/1", "generated", "pick", "hash-1")
    no_hash = Task("dbbench", "generated/2", "generated", "pick", "")
    rows = rows_of(
        [1, 2],
        [1, 3],
        [1, 4],
        [1, 5],
        [1, 6],
        tasks=[same_content, task(1, "generated_eval"), other_env, no_hash, None],
    )
    overlap = find_overlap(rows.origins, held_out)
    assert [(o.row, o.by, o.held_out) for o in overlap] == [
        ("e0", "content", "alfworld:generated_eval/1"),
        ("e1", "id", "alfworld:generated_eval/1"),
    ]
    report = sft_report(rows, max_length=10, held_out=held_out)
    assert report.overlap == overlap
    assert (report.held_out_tasks, report.unknown_tasks) == (2, 1)
    with pytest.raises(ConfigError, match="e0 is of alfworld:generated/77, which has the content of"):
        check_overlap(overlap, ())
    for name in ("generated_eval", "alfworld/generated_eval"):
        check_overlap(overlap, (name,))
    check_overlap((), ())


def test_check_reports_without_training(tmp_path: Path) -> None:
    from trainer.tiny_model import save_tiny_model

    model = save_tiny_model(tmp_path / "model")
    messages = [{"role": r, "content": c} for r, c in (("system", "s"), ("user", "u"), ("assistant", "a"))]
    facts = {"env": "alfworld", "split": "generated", "task_id": "generated/1", "type": "pick"}
    data = tmp_path / "chat.jsonl"
    data.write_text(json.dumps({"messages": messages, "metadata": facts}) + "\n")
    recipe = tmp_path / "sft.toml"
    recipe.write_text(f'recipe = "sft"\n[model]\nname = "{model}"\n[sft]\njsonl = "{data}"\n')
    arguments = ["sft", "--config", str(recipe), "--check", "--output", str(tmp_path / "run")]
    shown = CliRunner().invoke(train_app, arguments, catch_exceptions=False)
    assert "1 rows to learn from" in shown.stdout
    report = json.loads(CliRunner().invoke(train_app, [*arguments, "--json"], catch_exceptions=False).stdout)
    assert (report["rows"], report["counts"]) == (1, {"alfworld/generated": {"pick": 1}})
    assert report["held_out_tasks"] > 0
    assert not (tmp_path / "run").exists()
    recipe.write_text(f'recipe = "sft"\n[model]\nname = "{model}"\n')
    nothing = CliRunner().invoke(train_app, arguments)
    assert isinstance(nothing.exception, ConfigError)
    assert "there is no episode store" in str(nothing.exception)
    assert not (tmp_path / "run").exists()
    recipe.write_text(f'recipe = "sft"\n[model]\nname = "{model}"\n[sft]\njsonl = "{data}"\n')

    held_out = {**facts, "task_id": "generated/2", "content_hash": _held_out_hash()}
    data.write_text(json.dumps({"messages": messages, "metadata": held_out}) + "\n")
    refused = CliRunner().invoke(train_app, arguments)
    assert isinstance(refused.exception, ConfigError)
    assert "has the content of alfworld:generated_eval/" in str(refused.exception)
    assert "1 rows are of tasks that evaluations play" in refused.stdout


def _held_out_hash() -> str:
    from trainer.config import parse_config
    from trainer.held_out_tasks import list_evaluation_tasks
    from trainer.loops import LoopThread

    with LoopThread() as loop:
        return loop.run(list_evaluation_tasks(parse_config({}))).played[0].content_hash
