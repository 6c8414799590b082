"""The registry of runs: read from their folders, whatever state these are in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from run_folders import make_run
from typer.testing import CliRunner

from envs.errors import ConfigError
from trainer.runs import best_adapter, different_settings, find_run, find_runs, read_run, shared_points, sparkline
from trainer.runs_cli import runs_app
from trainer.runs_view import run_panel
from trainer.shown_settings import set_settings, shown_settings
from trainer.status import RunState, StatusSink, read_status, run_status

ROOT = Path(__file__).resolve().parents[3]


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(runs_app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def text_of(renderable: object) -> str:
    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(renderable)
    console.file.close()
    return console.export_text()


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys, trainer.runs_cli as c; from typer.testing import CliRunner; "
        "assert CliRunner().invoke(c.runs_app, ['list', '--help']).exit_code == 0; "
        "print(sorted({'torch', 'trl', 'transformers', 'matplotlib'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"


def test_runs_are_found_where_they_lie_and_models_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path / "a", success=[0.1, 0.2])
    make_run(tmp_path / "deep/er/b", recipe="sft", metrics={"loss": [2.0]})
    (tmp_path / "a/merged").mkdir()
    (tmp_path / "a/merged/config.json").write_text('{"model_type": "qwen2"}')
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text('{"model_type": "qwen2"}')
    assert {r.name for r in find_runs(tmp_path)} == {"a", "deep/er/b"}
    monkeypatch.setenv("ENVLOOP_RUNS", str(tmp_path))
    lines = {line["name"]: line for line in json.loads(invoke("list", "--json"))}
    assert (lines["a"]["recipe"], lines["a"]["success"], lines["a"]["step"]) == ("grpo", 0.2, 2)
    assert lines["deep/er/b"]["recipe"] == "sft"
    assert find_run(None, "deep").name == "deep/er/b"
    with pytest.raises(ConfigError, match=r"no run is called 'c'.*a, deep/er/b|no run is called 'c'"):
        find_run(None, "c")
    monkeypatch.setenv("ENVLOOP_RUNS", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="no folder"):
        find_run(None, "a")


def test_broken_files_are_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", success=[0.5, 0.6])
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('broken\n{"step": 3, "rollout/success": 0.7}\n{"step": 4, "rollo')
    (folder / "run.json").write_text("[")
    run = read_run(folder)
    assert run.step == 3
    assert [p.split()[0] for p in run.problems] == ["run.json", "metrics.jsonl:3"]
    assert "metrics.jsonl:3 is no JSON" in text_of(run_panel(run))
    with pytest.raises(ConfigError, match="holds no run"):
        read_run(tmp_path)


# --- status ------------------------------------------------------------------------------------------------------


def test_status_follows_a_run_from_its_start_to_its_end(tmp_path: Path) -> None:
    assert read_status(tmp_path).state is RunState.UNKNOWN
    with run_status(tmp_path):
        sink = StatusSink(tmp_path, steps=10, after_step=4)
        status = read_status(tmp_path)
        assert (status.state, status.step, status.steps, status.pid) == (RunState.RUNNING, 4, 10, os.getpid())
        begun = status.started_at
        sink.write(7, {})
        sink.close()
    status = read_status(tmp_path)
    assert (status.state, status.step, status.started_at) == (RunState.FINISHED, 7, begun)


@pytest.mark.parametrize(
    ("error", "state", "said"),
    [
        (ConfigError("no such model"), "failed", "ConfigError: no such model"),
        (KeyboardInterrupt(), "stopped", "interrupted"),
    ],
)
def test_what_ended_a_run_is_written_down(tmp_path: Path, error: BaseException, state: str, said: str) -> None:
    with pytest.raises(type(error)), run_status(tmp_path):
        raise error
    status = read_status(tmp_path)
    assert (status.state, status.error[: len(said)]) == (state, said)


def test_a_recipe_without_the_context_still_tells_how_far_it_came(tmp_path: Path) -> None:
    for steps, state in ((5, RunState.FINISHED), (6, RunState.STOPPED)):
        sink = StatusSink(tmp_path, steps=steps)
        assert read_status(tmp_path).state is RunState.RUNNING
        sink.write(5, {})
        sink.close()
        assert read_status(tmp_path).state is state


def test_a_killed_run_has_died_and_a_later_process_of_its_number_is_not_it(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from trainer.status import StatusSink; "
        "StatusSink(Path(sys.argv[1]), steps=9); print('up', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    process.stdout.readline()
    assert read_status(tmp_path).state is RunState.RUNNING
    process.kill()
    process.wait()
    process.stdout.close()
    assert read_status(tmp_path).state is RunState.DIED
    document = json.loads((tmp_path / "status.json").read_text())
    (tmp_path / "status.json").write_text(json.dumps({**document, "pid": os.getpid()}))
    assert read_status(tmp_path).state is RunState.DIED, "our process, begun at another time"
    (tmp_path / "status.json").write_text(json.dumps({**document, "host": "elsewhere"}))
    assert read_status(tmp_path).state is RunState.RUNNING, "nobody here can know"


# --- settings ----------------------------------------------------------------------------------------------------


def test_nothing_private_is_shown(tmp_path: Path) -> None:
    run = read_run(
        make_run(
            tmp_path / "a",
            success=[0.0],
            tree={
                "model": {"name": str(tmp_path / "models/mine")},
                "rollout": {
                    "env_url": "https://envs.example.org",
                    "store": "postgresql://me:hunter2@db/x",
                    "engine_options": {"api_key": "tok-abc", "max_num_seqs": 4},
                    "max_tokens": 99,
                },
            },
        )
    )
    for shown in (shown_settings(run.config), set_settings(run.config)):
        text = json.dumps(shown)
        for private in ("example.org", "hunter2", "tok-abc", str(tmp_path)):
            assert private not in text
        assert shown["model.name"] == "mine"
        assert shown["rollout.max_tokens"] == 99
        assert shown["rollout.engine_options.max_num_seqs"] == 4
    assert "grpo.steps" not in set_settings(run.config), "a default"
    panel = text_of(run_panel(run))
    assert "hunter2" not in panel
    assert "ENVLOOP_STORE_URL" in panel


def test_compared_runs_show_what_differs_and_nothing_else(tmp_path: Path) -> None:
    a = read_run(make_run(tmp_path / "a", success=[0.1, 0.2, 0.3], tree={"grpo": {"steps": 7, "beta": 0.02}}))
    b = read_run(make_run(tmp_path / "b", success=[0.2, 0.1], tree={"grpo": {"steps": 7}, "sft": {"limit": 4}}))
    assert different_settings([a, b]) == {"grpo.beta": [0.02, None]}
    assert shared_points([a, b], "rollout/success") == [(1, [0.1, 0.2]), (2, [0.2, 0.1])]
    printed = invoke("compare", str(a.folder), str(b.folder), "--plot", str(tmp_path / "plots/ab.png"))
    assert "grpo.beta" in printed
    assert "0.01 (default)" in printed
    assert "grpo.steps" not in printed
    assert (tmp_path / "plots/ab.png").read_bytes().startswith(b"\x89PNG")
    document = json.loads(invoke("compare", "a", "b", "--root", str(tmp_path), "--metric", "rollout/success", "--json"))
    assert document["curves"]["rollout/success"][1] == {"step": 2, "values": [0.2, 0.1]}
    with pytest.raises(ConfigError, match="no run has the metric nope"):
        invoke("compare", "a", "b", "--root", str(tmp_path), "--metric", "nope")


def test_shared_points_keep_the_first_and_the_last_step(tmp_path: Path) -> None:
    a = read_run(make_run(tmp_path / "a", success=[n / 100 for n in range(100)]))
    assert [step for step, _ in shared_points([a, a], "rollout/success", count=4)] == [1, 34, 67, 100]


def test_sparklines_are_scaled_and_bounded() -> None:
    points = [(n, float(n)) for n in range(8)]
    assert sparkline(points) == "▁▂▃▄▅▆▇█"
    assert sparkline(points[:2], span=(0.0, 7.0)) == "▁▂"
    assert sparkline([(0, 1.0), (1, 1.0)]) == "▄▄"
    assert sparkline([]) == ""
    assert len(sparkline([(n, float(n % 7)) for n in range(1000)], width=24)) == 24


# --- best --------------------------------------------------------------------------------------------------------


def test_the_best_adapter_is_judged_by_evaluation_then_by_its_own_rollouts(tmp_path: Path) -> None:
    success = [0.0, 0.0, 0.2, 0.9, 0.9, 0.9, 0.1, 0.0]  # best around step 5: sampled from the adapter of step 4
    rollouts = read_run(make_run(tmp_path / "a", success=success, policies=[6, 7], checkpoints=[2, 4]))
    best = best_adapter(rollouts)
    assert best is not None
    assert (best.adapter.path.name, best.metric, best.peak_step) == ("checkpoint-4", "rollout/success", 4)
    evaluated = make_run(
        tmp_path / "b", success=success, metrics={"eval/success": [0.0, 0.0, 0.3, 0.1, 0.1, 0.6, 0.5]}, policies=[3, 7]
    )
    best = best_adapter(read_run(evaluated))
    assert best is not None
    assert (best.adapter.step, best.metric, best.value, best.peak_step) == (7, "eval/success", 0.5, 6)
    result = CliRunner().invoke(runs_app, ["best", str(evaluated)])
    assert result.stdout == f"{evaluated}/policies/p-v7\n"
    assert "step 6, whose adapter is not on disk" in result.stderr
    unjudged = best_adapter(read_run(make_run(tmp_path / "c", recipe="sft", metrics={"loss": [1.0]}, checkpoints=[1])))
    assert unjudged is not None
    assert (unjudged.adapter.step, unjudged.metric) == (1, "")
    assert best_adapter(read_run(make_run(tmp_path / "d", success=[0.1]))) is None


def test_show_tells_everything(tmp_path: Path) -> None:
    data = {"sources": [{"env": "alfworld", "split": "generated"}], "allow_eval_split": ["alfworld/valid_seen"]}
    folder = make_run(tmp_path / "a", success=[0.1, 0.4], policies=[1, 2], tree={"data": data})
    (folder / "findings.jsonl").write_text('{"name": "entropy_collapse", "evidence": "steps 3 to 9"}\n')
    report = {"schema": "envloop.eval_report/1", "env": "alfworld", "split": "valid_unseen", "policy": "p-v2",
              "overall": {"success": 0.5, "low": 0.4, "high": 0.6, "episodes": 134}}  # fmt: skip
    (folder / "eval-alfworld-valid_unseen.json").write_text(json.dumps(report))
    printed = text_of(run_panel(read_run(folder)))
    for said in (
        *("alfworld/generated: 3 tasks", "24 episodes", "EVALUATION SPLITS WERE ALLOWED: alfworld/valid_seen"),
        *("entropy_collapse: steps 3 to 9", "alfworld/valid_unseen p-v2: 50.0% [40.0%, 60.0%] of 134 episodes"),
        *("rollout/success", "▁█", f"--store sqlite:///{folder}/episodes.db", "policies/p-v"),
    ):
        assert said in printed
    document = json.loads(invoke("show", str(folder), "--json"))
    assert document["evaluations"][0]["high"] == 0.6
    assert document["splits"] == ["alfworld/generated"]


def test_prune_shows_first_and_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", success=[0.0] * 3 + [0.9] * 5 + [0.0] * 4, checkpoints=[1, 5, 8, 11])
    assert "would go" in invoke("prune", str(folder))
    assert len(list(folder.glob("checkpoint-*"))) == 4
    invoke("prune", str(folder), "--yes")
    assert {p.name for p in folder.glob("checkpoint-*")} == {"checkpoint-5", "checkpoint-11"}
    with run_status(folder), pytest.raises(ConfigError, match="goes on"):
        invoke("prune", str(folder), "--yes", "--whole")
    invoke("prune", str(folder), "--yes", "--whole")
    assert not folder.exists()
