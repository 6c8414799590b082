"""``envloop rollout play dbbench`` with the scripts that err."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from envs.dbbench.mysql_server import find_server_binary
from envs.errors import BackendUnavailable
from rollout_server.episode_store import EpisodeStore


def envloop(store: str, *args: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ENVLOOP_", "DBBENCH_"))}
    command = [sys.executable, "-m", "envs.cli", "rollout", "play", "dbbench", *args]
    environment = clean | {"ENVLOOP_STORE_URL": store, "ENVLOOP_ENV_ENVS": "dbbench"}
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=300, env=environment)


@pytest.mark.slow
def test_a_losing_episode_is_stored_with_its_thoughts(tmp_path: Path) -> None:
    try:
        find_server_binary()
    except BackendUnavailable:
        pytest.skip("no database server is installed")
    store = f"sqlite:///{tmp_path / 'episodes.db'}"
    script = ("--engine", "near_miss", "--miss", "missing_filter", "--thoughts", "--type", "UPDATE")
    played = envloop(store, *script, "-n", "2", "--json")
    assert played.returncode == 0, played.stderr
    summaries = [json.loads(line) for line in played.stdout.splitlines()]
    with EpisodeStore(store) as opened:
        episodes = [opened.get(summary["id"]) for summary in summaries]
    assert [(e.model, e.engine, e.reward) for e in episodes] == [("scripted-missing_filter", "scripted", 0.0)] * 2
    assert all(turn.text.partition("\n<tool_call>")[0] for episode in episodes for turn in episode.turns)


def test_an_unknown_miss_is_named(tmp_path: Path) -> None:
    refused = envloop(f"sqlite:///{tmp_path / 'episodes.db'}", "--engine", "near_miss", "--miss", "wrong_table")
    assert refused.returncode == 2
    assert "no near miss is called 'wrong_table'" in refused.stderr
    assert "wrong_column" in refused.stderr
