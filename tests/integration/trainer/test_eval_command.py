"""``envloop eval`` from the outside, with environments in the process."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from rollout_server.episode_store import EpisodeStore
from trainer.eval_cli import eval_app


def test_eval_prints_one_json_object_and_keeps_episodes_and_report(tmp_path: Path) -> None:
    arguments = ["--env", "alfworld", "--split", "generated_easy_eval", "--engine", "noop", "--limit", "3", "--json"]
    result = CliRunner().invoke(eval_app, [*arguments, "--output", str(tmp_path)], catch_exceptions=False)
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["score"] == 0.0
    assert report["overall"]["episodes"] == 3
    assert report["overall"]["high"] > 0.5, "three tasks say little"
    assert (
        json.loads((tmp_path / "eval-alfworld-generated_easy_eval.json").read_text())["task_ids"] == report["task_ids"]
    )
    with EpisodeStore(f"sqlite:///{tmp_path / 'episodes.db'}") as store:
        assert store.count(split="generated_easy_eval") == 3
