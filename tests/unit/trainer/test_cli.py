from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from envs.errors import ConfigError
from trainer.cli import train_app
from trainer.eval_cli import eval_app

ROOT = Path(__file__).resolve().parents[3]


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys, trainer.cli; from typer.testing import CliRunner; "
        "assert CliRunner().invoke(trainer.cli.train_app, ['--help']).exit_code == 0; "
        "print(sorted({'torch', 'trl', 'transformers', 'vllm', 'datasets'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["grpo", "--config", "configs/sft-smollm2-cpu.toml"], "is a recipe for sft"),
        (["sft", "--config", "configs/grpo-smollm2-cpu.toml"], "is a recipe for grpo"),
        (["dpo", "--config", "configs/kto-smollm2-cpu.toml"], "is a recipe for kto"),
        (["kto", "--config", "configs/dpo-smollm2-cpu.toml"], "is a recipe for dpo"),
        (["ppo", "--config", "configs/grpo-smollm2-cpu.toml"], "is a recipe for grpo"),
        (["dpo", "--config", "configs/dpo-smollm2-cpu.toml", "--collect", "-1"], "dpo.collect"),
        (["grpo", "--config", "configs/none.toml"], "cannot read"),
        (["grpo", "--config", "configs/grpo-smollm2-cpu.toml", "--set", "grpo.steps=0"], "grpo.steps"),
    ],
)
def test_mistakes_are_named(arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(train_app, arguments)
    assert isinstance(result.exception, ConfigError)
    assert message in str(result.exception)


def test_evaluation_needs_a_recipe_for_overrides() -> None:
    result = CliRunner().invoke(eval_app, ["--env", "alfworld", "--split", "generated_eval", "--set", "run.seed=1"])
    assert isinstance(result.exception, ConfigError)
    assert "--config" in str(result.exception)
