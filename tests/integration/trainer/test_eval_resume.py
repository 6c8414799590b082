"""An evaluation that is killed at any moment goes on from what is stored, and comes to the same result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from rollout_server.episode_store import EpisodeStore
from trainer.eval_cli import eval_app

TASKS, SAMPLES = 8, 2


def arguments(recipe: Path, output: Path, *more: str) -> list[str]:
    fixed = ["--env", "alfworld", "--split", "generated_easy_eval", "--config", str(recipe), "--engine", "random"]
    how = ["--limit", str(TASKS), "--samples", str(SAMPLES), "--temperature", "0.7", "--no-plots", "--json"]
    return [*fixed, *how, "--output", str(output), *more]


def results(document: dict[str, Any]) -> set[tuple[Any, ...]]:
    return {(r["task_id"], r["sample"], r["status"], r["reward"], r["turns"]) for r in document["results"]}


def run(args: list[str]) -> dict[str, Any]:
    document = json.loads(CliRunner().invoke(eval_app, args, catch_exceptions=False).stdout)
    assert isinstance(document, dict)
    return document


def test_killed_and_resumed(tmp_path: Path, tiny_model: Path) -> None:
    recipe = tmp_path / "eval.toml"
    recipe.write_text(f'[model]\nname = "{tiny_model}"\n[rollout]\nconcurrency = 1\nmax_turns = 10\n')
    killed = tmp_path / "killed"
    url = f"sqlite:///{killed / 'episodes.db'}"
    command = [sys.executable, "-m", "envs.cli", "eval", *arguments(recipe, killed)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stored = 0
    while stored < 5:  # bounded by the test's own time limit
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
        if (killed / "episodes.db").exists():
            with EpisodeStore(url) as store:
                stored = store.count()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with EpisodeStore(url) as store:
        before = {e.id: (e.task.id, e.metadata["sample"]) for e in store.iter_episodes()}
    assert 5 <= len(before) < TASKS * SAMPLES

    resumed = run(arguments(recipe, killed, "--resume"))
    straight = run(arguments(recipe, tmp_path / "straight"))
    assert resumed["resumed"] == len(before)
    assert results(resumed) == results(straight)
    assert resumed["pass_at_k"] == straight["pass_at_k"]
    assert resumed["overall"] == straight["overall"]
    with EpisodeStore(url) as store:
        played = Counter((e.task.id, e.metadata["sample"]) for e in store.iter_episodes())
        assert set(before) <= {e.id for e in store.iter_episodes()}
    assert set(played.values()) == {1}, "nothing was played twice"
    assert len(played) == TASKS * SAMPLES

    # Once more: all of it is there. Other settings, or no --resume, play anew, under a name of their own.
    assert run(arguments(recipe, killed, "--resume"))["resumed"] == TASKS * SAMPLES
    other = run(arguments(recipe, killed, "--resume", "--limit", "2", "--samples", "1", "--seed", "1"))
    assert (other["resumed"], other["run"] == resumed["run"]) == (0, False)
    anew = run(arguments(recipe, killed, "--limit", "2", "--samples", "1"))
    assert (anew["resumed"], anew["run"]) == (0, f"{resumed['run']}-2")
    compared = run(arguments(recipe, killed, "--limit", "2", "--compare", resumed["run"]))["comparison"]
    assert (compared["paired"]["overall"]["pairs"], compared["mean"]) == (2 * SAMPLES, 0.0)
