"""Stored episodes again: over HTTP with a policy of the server, from the command line, and by hand through a pipe."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import subprocess
import sys

import httpx
import pytest
from rollout_doubles import WatchedEngine
from typer.testing import CliRunner

from envs.client import EnvClient
from envs.config import EnvServerSettings
from envs.errors import Conflict, InvalidOption, UnknownEpisode, UnknownPolicy
from envs.server.app import create_app as create_env_app
from envs.types import Observation
from rollout_server.client import RolloutClient
from rollout_server.config import RolloutServerSettings, Service
from rollout_server.engines.scripted import ScriptedEngine
from rollout_server.episode_store import EpisodeStore
from rollout_server.local import LocalRollouts
from rollout_server.replay_cli import replay_app
from rollout_server.replay_fork_many import ForkOptions
from rollout_server.server.app import create_app
from rollout_server.types import RolloutRequest, TaskRef

ROOM = 1_000_000
TASK = "generated/pick_clean_then_place_in_recep/0"


@pytest.fixture
def store_url(tmp_path, monkeypatch):
    for name in [n for n in os.environ if n.startswith(("ENVLOOP_", "DBBENCH_", "ALFWORLD_"))]:
        if name != "ENVLOOP_CACHE_DIR":
            monkeypatch.delenv(name)
    url = f"sqlite:///{tmp_path / 'episodes.db'}"
    monkeypatch.setenv("ENVLOOP_STORE_URL", url)
    monkeypatch.setenv("ENVLOOP_ENV_ENVS", "alfworld")
    return url


async def play(store, kind="random", *, run="lost", turns=3, env="alfworld", task=TASK, protocol="agentbench_fc"):
    settings = EnvServerSettings(envs=(env,), dbbench={"url": "sqlite:"} if env == "dbbench" else {})
    async with EnvClient.in_process(create_env_app(settings)) as client:
        request = RolloutRequest(
            (TaskRef(env, task_id=task),),
            protocol=protocol,
            max_turns=turns,
            max_episode_tokens=ROOM,
            metadata={"run": run},
        )
        (group,) = await LocalRollouts(client, ScriptedEngine(kind), store=store).rollouts(request)
    return group.episodes[0]


@pytest.fixture
async def lost(store_url):
    with EpisodeStore(store_url) as store:
        return await play(store)


@pytest.fixture
async def served(store_url, lost):
    """A rollout server with an engine that takes adapters, its store and its env server."""

    @contextlib.asynccontextmanager
    async def opener(_settings):
        envs = create_env_app(EnvServerSettings(envs=("alfworld",)))
        with EpisodeStore(store_url) as store:
            async with EnvClient.in_process(envs) as client:
                rollouts = LocalRollouts(client, WatchedEngine("expert"), store=store)
                yield Service(rollouts, client, store)

    app = create_app(RolloutServerSettings(), opener)
    async with (
        app.router.lifespan_context(app),
        RolloutClient("http://127.0.0.1", transport=httpx.ASGITransport(app)) as client,
    ):
        yield client


async def test_episodes_are_found_over_http_by_every_filter(served, lost, store_url):
    with EpisodeStore(store_url) as store:
        await play(store, "expert", run="won", turns=50)
        own = store.query()
        assert await served.episodes() == (own, 2)
        (won,) = store.query(run="won")
    filters = [
        ({"run": "won"}, 1),
        ({"run": ["won", "lost"], "status": ["completed", "truncated_turns"]}, 2),
        ({"status": "completed", "protocol": "agentbench_fc", "engine": "scripted"}, 1),
        ({"model": ["scripted-expert"], "min_reward": 1.0}, 1),
        ({"max_reward": 0.0, "group_id": lost.group_id}, 1),
        ({"env": "alfworld", "task_id": TASK, "split": "generated", "since": "1h", "until": None}, 2),
        ({"until": "2020-01-01"}, 0),
        ({"since": "2020-01-01T00:00:00+02:00", "policy": "base", "task_type": lost.task.type}, 2),
    ]
    for wanted, count in filters:
        found, total = await served.episodes(**wanted)
        assert (len(found), total) == (count, count), wanted
    assert (await served.episodes(limit=1, offset=1))[0] == own[1:]
    assert (await served.episodes(run="won"))[0] == [won]
    for bad in ({"status": "bogus"}, {"since": "soon"}, {"colour": "red"}):
        with pytest.raises(InvalidOption):
            await served.episodes(**bad)


async def test_a_server_goes_on_with_a_policy_that_it_holds(served, lost, store_url, tmp_path):
    with pytest.raises(UnknownPolicy):
        await served.fork(lost.id, ForkOptions(at=1), policy="step-1")
    forks = await served.fork(lost.id[:8], ForkOptions(at=2, count=3, run="forks", max_tokens=300), policy="base")
    assert [fork.reward for fork in forks] == [1.0] * 3
    assert len({fork.group_id for fork in forks}) == 1
    assert len({fork.sampling.seed for fork in forks}) == 3
    assert {fork.sampling.max_tokens for fork in forks} == {300}
    with EpisodeStore(store_url) as store:
        assert {s.id for s in store.query(run="forks")} == {fork.id for fork in forks}
        assert store.get(forks[0].id) == forks[0]
        before = store.count()
    with pytest.raises(UnknownEpisode):
        await served.fork("nobody", ForkOptions(at=0))
    with pytest.raises(InvalidOption, match="turn 9 is not in"):
        await served.fork(lost.id, ForkOptions(at=9))
    with pytest.raises(InvalidOption):
        await served.fork(lost.id, ForkOptions(at=-1))
    with EpisodeStore(store_url) as store:
        store.add(dataclasses.replace(lost, id="changed", initial=Observation("Elsewhere.")))
        with pytest.raises(Conflict, match="no longer plays"):
            await served.fork("changed", ForkOptions(at=1))
        assert store.count() == before + 1


def invoke(*args):
    return CliRunner().invoke(replay_app, args, catch_exceptions=False)


async def in_thread(*args):
    return await asyncio.to_thread(invoke, *args)


async def test_the_command_line_verifies_what_filters_find(lost, store_url):
    with EpisodeStore(store_url) as store:
        await play(store, "expert", run="won", turns=50)
        store.add(dataclasses.replace(lost, id="changed", metadata={"run": "changed"}, initial=Observation("Another.")))
    good = await in_thread("verify", "--run", "won", "--run", "lost")
    assert (good.exit_code, good.stdout) == (0, "")
    assert "2 episodes" in good.stderr
    assert "0 different" in good.stderr
    bad = await in_thread("verify", "--all", "--window", "2")
    assert bad.exit_code == 1
    assert bad.stdout.startswith("changed: differs after 0 of 3 steps\nstart: observation.text differs")
    told = [json.loads(line) for line in (await in_thread("verify", "--all", "--json")).stdout.splitlines()]
    assert sorted(report["ok"] for report in told) == [False, True, True]
    assert all(report["steps"] > 0 for report in told if report["ok"])
    (different,) = [report["difference"] for report in told if not report["ok"]]
    assert (different["where"], different["field"]) == ("start", "observation.text")


async def test_the_command_line_forks_here(lost, store_url):
    told = await in_thread(
        "fork", lost.id[:10], "--at", "2", "--engine", "expert", "--count", "2", "--run", "f", "--json"
    )
    forks = [json.loads(line) for line in told.stdout.splitlines()]
    assert [(fork["reward"], fork["run"]) for fork in forks] == [(1.0, "f")] * 2
    with EpisodeStore(store_url) as store:
        fork = store.get(forks[0]["id"])
        assert fork.metadata["fork"]["parent"] == lost.id
        assert store.count() == 3
    shown = await in_thread("fork", lost.id, "--at", "0", "--engine", "noop", "--max-turns", "2")
    assert "went on after 0 turns" in shown.stderr
    with pytest.raises(UnknownPolicy):
        await in_thread("fork", lost.id, "--at", "0", "--policy", "step-1")


async def test_a_person_plays_through_a_pipe(lost, store_url):
    command = [sys.executable, "-m", "envs.cli", "replay", "fork", lost.id, "--at", "1", "--by-hand"]
    done = await asyncio.to_thread(
        subprocess.run, command, input="look\n1\nquit\n", capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--- turn 1 ---" in done.stdout
    assert "--- turn 3 ---" in done.stdout
    assert lost.turns[0].steps[0].observation.text.splitlines()[0] in done.stdout
    assert f"   1 {lost.steps[0].observation.admissible_actions[0]}" in done.stdout
    with EpisodeStore(store_url) as store:
        (summary,) = store.query(engine="hand")
        episode = store.get(summary.id)
    assert (summary.status, summary.turns, episode.metadata["fork"]["at_turn"]) == ("cancelled", 3, 1)
    assert episode.steps[1].action.arguments == {"action": "look"}
    assert [turn.given for turn in episode.turns] == [True, False, False]
    assert episode.turns[0].completion_ids == lost.turns[0].completion_ids


async def test_the_command_line_rescores_and_keeps_the_original(store_url, monkeypatch):
    monkeypatch.setenv("ENVLOOP_ENV_ENVS", "dbbench")
    monkeypatch.setenv("DBBENCH_URL", "sqlite:")
    with EpisodeStore(store_url) as store:
        change = await play(
            store, "gold", turns=1, env="dbbench", task="generated/2", protocol="agentbench_classic", run="c"
        )
        wrong = await play(store, "random", turns=5, env="dbbench", task="generated/0", run="w")
        store.add(dataclasses.replace(change, id="gone", task=dataclasses.replace(change.task, content_hash="0")))
    assert (change.reward, wrong.reward) == (1.0, 0.0)
    told = await in_thread("rescore", "--rules", "fc", "--run", "c", "--run", "w")
    assert told.exit_code == 0
    assert f"{change.id}: 1 -> 0 (nothing was committed)" in told.stdout
    failed = await in_thread("rescore", "--rules", "classic", "--run", "c")
    assert failed.exit_code == 1
    assert "gone: task generated/2 is no longer what" in failed.stderr
    assert "1 could not be judged" in failed.stderr
    with EpisodeStore(store_url) as store:
        assert store.scores(change.id) == {}
    kept = await in_thread("rescore", change.id, wrong.id, "--rules", "classic", "--write", "--json")
    assert kept.exit_code == 0
    assert [json.loads(line)["rescored"] for line in kept.stdout.splitlines()] == [1.0, 0.0]
    assert "2 kept beside the originals" in kept.stderr
    with EpisodeStore(store_url) as store:
        assert (store.scores(change.id), store.get(change.id)) == ({"classic": 1.0}, change)
    assert "under the classic rules: reward 1" in (await in_thread("show", change.id)).stdout
