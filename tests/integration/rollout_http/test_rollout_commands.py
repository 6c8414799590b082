"""``envloop rollout play`` and ``envloop replay verify`` in one process each, without any server."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys

import pytest

from envs.types import Observation
from rollout_server.bench import measure_loop
from rollout_server.config import RolloutServerSettings, open_service
from rollout_server.episode_store import EpisodeStore


@pytest.fixture
def envloop(tmp_path):
    url = f"sqlite:///{tmp_path / 'episodes.db'}"
    clean = {k: v for k, v in os.environ.items() if not k.startswith("ENVLOOP_")}

    def run(*args):
        command = [sys.executable, "-m", "envs.cli", *args]
        environment = clean | {"ENVLOOP_STORE_URL": url, "ENVLOOP_ENV_ENVS": "alfworld"}
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=300, env=environment)

    run.store_url = url
    return run


def test_played_episodes_verify_and_a_changed_one_does_not(envloop):
    # No limits named: the defaults must leave the expert, who writes bytes here, the room to win.
    played = envloop("rollout", "play", "-n", "2", "--run", "cli", "--json", "--seed", "3")
    assert played.returncode == 0, played.stderr
    summaries = [json.loads(line) for line in played.stdout.splitlines()]
    assert [(s["reward"], s["run"], s["engine"]) for s in summaries] == [(1.0, "cli", "scripted")] * 2
    with EpisodeStore(envloop.store_url) as store:
        episode = store.get(summaries[0]["id"])
        store.add(dataclasses.replace(episode, id="changed", initial=Observation("Another room.")))
    first, second = (s["id"] for s in summaries)
    verified = envloop("replay", "verify", first[:12], second[:12])
    assert (verified.returncode, verified.stdout.count("identical")) == (0, 2), verified.stderr
    differs = envloop("replay", "verify", "changed")
    assert differs.returncode == 1
    assert "start: observation.text differs" in differs.stdout
    assert "-Another room." in differs.stdout
    unknown = envloop("replay", "verify", "zzz")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert unknown.stderr.startswith("error: no stored episode has the id 'zzz'")


def test_what_an_engine_cannot_hold_to_is_refused_before_anything_is_played(envloop):
    refused = envloop("rollout", "play", "--engine", "noop", "--constrain", "admissible")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "the engine scripted cannot constrain turns" in refused.stderr
    listed = envloop("replay", "list", "--json")
    assert (listed.returncode, listed.stdout) == (0, "")


@pytest.mark.slow
def test_the_explorer_plays_with_thoughts_and_nobody_else_has_any(envloop):
    played = envloop("rollout", "play", "-n", "2", "--engine", "explorer", "--thoughts", "--max-turns", "50", "--json")
    assert played.returncode == 0, played.stderr
    summaries = [json.loads(line) for line in played.stdout.splitlines()]
    with EpisodeStore(envloop.store_url) as store:
        episodes = [store.get(summary["id"]) for summary in summaries]
    assert [(episode.model, episode.reward) for episode in episodes] == [("scripted-explorer", 1.0)] * 2
    assert all(turn.text.partition("\n<tool_call>")[0] for episode in episodes for turn in episode.turns)
    refused = envloop("rollout", "play", "--engine", "noop", "--thoughts")
    assert refused.returncode == 2
    assert "the script noop has no thoughts" in refused.stderr


@pytest.fixture
def settings(monkeypatch):
    for name in [n for n in os.environ if n.startswith("ENVLOOP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ENVLOOP_ENV_ENVS", "alfworld")
    monkeypatch.setenv("ENVLOOP_TOKEN", "a token for other servers")
    return RolloutServerSettings.load(store_url="sqlite://")


async def test_the_bench_measures_what_was_played(settings):
    figures = {figure.name: figure.value for figure in await measure_loop(settings, episodes=2)}
    assert all(value > 0 for value in figures.values())
    rates = {name.removeprefix("rollout.expert.") for name in figures if name.endswith("_per_s")}
    assert rates == {"episodes_per_s", "steps_per_s", "sampled_tokens_per_s", "tokens_per_s"}
    assert figures["rollout.expert.generate_latency_p50"] <= figures["rollout.expert.generate_latency_p95"]
    assert figures["rollout.expert.tokens_per_s"] > figures["rollout.expert.sampled_tokens_per_s"]


async def test_the_service_in_process_may_ask_the_expert_whatever_tokens_are_set(settings):
    async with open_service(settings) as service:
        view = await service.client.create("alfworld", split="generated", sample_seed=1)
        assert await service.client.expert_action(view.id) is not None
        await service.client.close_episode(view.id)
        assert service.store.count() == 0
