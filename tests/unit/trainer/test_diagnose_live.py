"""The doctor beside a run: told once, kept in the folder, a stop where one is wanted; its command on what is left."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from doctor_samples import faulty, healthy, plain_log
from rich.console import Console
from typer.testing import CliRunner

from envs.errors import ConfigError
from trainer.config import parse_config
from trainer.diagnose import live
from trainer.diagnose.live import DoctorSink, stop_if_asked
from trainer.diagnose.log import RunLog, guess_recipe, read_run
from trainer.doctor_cli import doctor_app
from trainer.monitors import open_sinks


def sink(folder: Path, **more: Any) -> DoctorSink:
    return DoctorSink(folder, {"recipe": "grpo"}, every=5, **more)


def feed(doctor: DoctorSink, steps: range, kl: Callable[[int], float]) -> None:
    for step in steps:
        doctor.write(step, {"kl": kl(step), "loss": 0.1})


def lines(folder: Path) -> list[dict[str, Any]]:
    path = folder / "findings.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_finding_is_printed_once_and_again_only_when_worse(tmp_path: Path) -> None:
    console = Console(record=True, width=200)
    doctor = sink(tmp_path, console=console)
    feed(doctor, range(1, 31), lambda s: 0.02)
    assert not lines(tmp_path)
    feed(doctor, range(31, 61), lambda s: 0.3)
    assert [f["severity"] for f in lines(tmp_path)] == ["warning"]
    feed(doctor, range(61, 91), lambda s: 3.0)
    doctor.close()
    assert [(f["check"], f["severity"]) for f in lines(tmp_path)] == [
        ("kl_runaway", "warning"),
        ("kl_runaway", "critical"),
    ]
    text = console.export_text()
    assert text.count("kl_runaway") == 2
    assert "grpo.beta=" in text
    assert doctor.stop is None


def test_a_resumed_run_goes_on_with_what_was_seen_and_told(tmp_path: Path) -> None:
    first = sink(tmp_path)
    with (tmp_path / "metrics.jsonl").open("w") as file:
        for step in range(1, 61):
            kl = 0.02 if step <= 30 else 3.0
            file.write(json.dumps({"step": step, "kl": kl}) + "\n")
            first.write(step, {"kl": kl})
    assert len(lines(tmp_path)) == 1
    told_at = lines(tmp_path)[0]["first_step"]

    second = sink(tmp_path, after_step=50)
    feed(second, range(51, 71), lambda s: 3.0)
    assert len(lines(tmp_path)) == 1, "it was told before the interruption"
    third = sink(tmp_path, after_step=told_at - 1)
    assert not lines(tmp_path), "what an abandoned continuation found is dropped"
    feed(third, range(told_at, told_at + 10), lambda s: 3.0)
    assert len(lines(tmp_path)) == 1, "the rows before count"


def test_only_a_check_that_is_named_stops_the_run(tmp_path: Path) -> None:
    control = SimpleNamespace(should_save=False, should_training_stop=False)
    other = sink(tmp_path, stop_on=("entropy_collapse",))
    feed(other, range(1, 21), lambda s: 3.0)
    stop_if_asked([object(), other], control)
    assert not control.should_training_stop
    (tmp_path / "findings.jsonl").unlink()
    named = sink(tmp_path, stop_on=("kl_runaway",))
    feed(named, range(1, 21), lambda s: 3.0)
    stop_if_asked([object(), named], control)
    assert control.should_training_stop
    assert control.should_save
    assert [f["stopped"] for f in lines(tmp_path)] == [True]


def test_a_check_that_fails_is_reported_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*args: object) -> None:
        raise ZeroDivisionError("a bug in a check")

    monkeypatch.setattr(live, "examine", broken)
    doctor = sink(tmp_path)
    feed(doctor, range(1, 31), lambda s: 3.0)
    doctor.close()
    assert [r.message for r in caplog.records] == ["the doctor's checks failed and are off for the rest of this run"]
    assert "a bug in a check" in caplog.text


def test_every_recipe_gets_a_doctor_unless_it_wants_none(tmp_path: Path) -> None:
    run = {"output_dir": str(tmp_path), "report_to": ["jsonl"]}
    sinks = open_sinks(parse_config({"run": run}), Console(), steps=10)
    assert isinstance(sinks[-1], DoctorSink)
    others = open_sinks(parse_config({"run": run, "doctor": {"every": 0}}), Console(), steps=10)
    assert not any(isinstance(s, DoctorSink) for s in others)
    for opened in (*sinks, *others):
        opened.close()
    with pytest.raises(ConfigError, match="no check 'kl'"):
        parse_config({"doctor": {"stop_on": ["kl"]}})
    with pytest.raises(ConfigError, match="nothing would look"):
        parse_config({"doctor": {"stop_on": ["kl_runaway"], "every": 0}})


def write(folder: Path, log: RunLog) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(dict(row)) + "\n" for row in log.rows))
    (folder / "config.json").write_text(json.dumps(log.config))
    (folder / "run.json").write_text(json.dumps(log.record))
    return folder


def test_the_live_doctor_and_the_command_find_the_same(tmp_path: Path) -> None:
    log = faulty("entropy_collapse", 5)
    folder = write(tmp_path / "run", log)
    doctor = DoctorSink(folder, log.config, every=10)
    for row in log.rows:
        doctor.write(int(row["step"]), {k: v for k, v in row.items() if k != "step"})
    doctor.close()
    result = CliRunner().invoke(doctor_app, [str(folder), "--json"])
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    told = {(f["check"], f["subject"]): f["first_step"] for f in reversed(lines(folder))}
    assert told
    assert {(f["check"], f["subject"]): f["first_step"] for f in document["findings"]} == told


def test_the_command_in_plain_words_and_its_exit_status(tmp_path: Path) -> None:
    bad = write(tmp_path / "bad", faulty("lr_too_high", 5))
    good = write(tmp_path / "good", healthy("grpo", 501))
    runner = CliRunner()
    shown = runner.invoke(doctor_app, [str(bad)], env={"COLUMNS": "160"})
    assert shown.exit_code == 0
    for word in ("lr_too_high", "likely cause", "--set grpo.learning_rate=", "since step"):
        assert word in shown.stdout
    assert runner.invoke(doctor_app, [str(bad), "--strict"]).exit_code == 1
    assert runner.invoke(doctor_app, [str(good), "--strict"]).exit_code == 0
    assert runner.invoke(doctor_app, [str(bad / "metrics.jsonl"), "--strict"]).exit_code == 1, "a metrics file alone"


def test_help_and_command_load_no_model_library(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", plain_log(12, loss=1.0))
    code = (
        "import sys; from typer.main import get_command; from trainer.doctor_cli import doctor_app; "
        f"get_command(doctor_app).main([{str(folder)!r}, '--json'], standalone_mode=False); "
        "print({'torch', 'transformers', 'trl', 'vllm', 'peft'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert out.stdout.splitlines()[-1] == "set()"


def test_a_damaged_log_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"step": 1, "loss": 1.0}\n\n{"step": 2, "loss": NaN}\n[1]\n{"step": 3, "loss": 0.9}\n{"step": 4, "lo'
    )
    log = read_run(tmp_path)
    assert [row["step"] for row in log.rows] == [1, 2, 3]
    assert "non_finite/loss" in log.rows[1]
    assert "loss" not in log.rows[1]
    assert len(log.problems) == 2
    with pytest.raises(ConfigError, match="no metrics can be read"):
        read_run(tmp_path / "nowhere")
    path.write_text("nothing\n")
    with pytest.raises(ConfigError, match="holds no step"):
        read_run(path)
    path.write_text('{"step": 1}\n')
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config\.json cannot be read"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("metric", "recipe"),
    [("rollout/reward", "grpo"), ("rewards/accuracies", "dpo"), ("rewards/margins", "kto"), ("loss", "sft")],
)
def test_the_recipe_is_guessed_from_the_metrics(metric: str, recipe: str) -> None:
    assert guess_recipe({}, [{"step": 1.0, metric: 0.5}]) == recipe
    assert guess_recipe({"recipe": "ppo"}, [{"step": 1.0, metric: 0.5}]) == "ppo"
