"""wandb (offline) and trackio (its local database), each in a process of its own: both keep state for all of one."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
RUN = """
import json, sys, warnings
warnings.simplefilter("ignore")  # the trackers' own
from pathlib import Path
from trainer.config import parse_config
from trainer.monitors import TextSink, open_sinks
tracker, folder = sys.argv[1], Path(sys.argv[2])
for begin, after in ((1, 0), (3, 2)):  # a run of two steps, and its resumption
    config = parse_config({
        "run": {"output_dir": str(folder), "name": "mine", "report_to": [tracker]},
        "rollout": {"env_url": "https://private.example.org"},
    })
    sink = open_sinks(config, None, steps=4, after_step=after)[0]
    assert isinstance(sink, TextSink)
    for step in (begin, begin + 1):
        sink.write(step, {"loss": step / 2})
    sink.write_text(begin + 1, "samples", "# Step <b>")
    sink.close()
print("done")
"""


def run_tracker(tracker: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    nowhere = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}  # whoever asks a network fails
    return subprocess.run(
        [sys.executable, "-c", RUN, tracker, str(folder)],
        env={**os.environ, **nowhere, "HF_HUB_OFFLINE": "1", **env},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )


def test_trackio_gets_every_step_into_its_local_database_and_resumes_its_run(tmp_path: Path) -> None:
    database = tmp_path / "trackio"
    done = run_tracker("trackio", tmp_path / "run", TRACKIO_DIR=str(database), TRACKIO_PROJECT="tests")
    assert done.stdout == "done\n", "standard output is a command's own"
    with sqlite3.connect(database / "tests.db") as connection:
        rows = connection.execute("SELECT run_name, step, metrics FROM metrics ORDER BY id").fetchall()
        configs = connection.execute("SELECT config FROM configs").fetchall()
    connection.close()
    losses = {step: json.loads(metrics)["loss"] for _, step, metrics in rows if "loss" in json.loads(metrics)}
    assert losses == {1: 0.5, 2: 1.0, 3: 1.5, 4: 2.0}
    assert len({name for name, _, _ in rows}) == 1
    assert any("# Step" in str(json.loads(metrics)) for _, _, metrics in rows)
    assert configs
    assert not any("example.org" in str(config) for (config,) in configs)


@pytest.mark.slow  # its service takes several seconds to start
def test_wandb_keeps_one_run_over_a_resumption_and_needs_no_network(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = run_tracker("wandb", folder, WANDB_MODE="offline", WANDB_SILENT="true", HOME=str(tmp_path))
    assert done.stdout == "done\n"
    run_id = (folder / "wandb-run-id").read_text().strip()
    runs = sorted((folder / "wandb").glob("offline-run-*"))
    assert runs
    assert all(run.name.endswith(f"-{run_id}") for run in runs)
    files = [file for run in runs for file in run.glob("*.wandb")]
    assert files
    logged = b"".join(file.read_bytes() for file in files)
    assert b"loss" in logged
    assert b"example.org" not in logged
