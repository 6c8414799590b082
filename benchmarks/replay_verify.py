"""Verifying stored episodes: replayed steps a second, all of them compared, and a listing among many against a scan.

ALFWorld's episodes are explorers' (generated households, groups of 8, up to 50 turns), read from a store on disk,
replayed in this process and compared: observations, admissible actions, rewards, ends, state hashes. The bar is the
product's own: 1,000 steps a second. Every episode must be found identical, and one that was changed must not.

A listing: the first page of a rare run among 100,000 episodes, with its index and without any, in one run.
"""

from __future__ import annotations

import argparse
import dataclasses
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from _figures import Figure, at_least, at_most, collected, run, value

from envs.client import EnvClient
from envs.config import EnvServerSettings
from envs.server.app import create_app
from envs.types import Observation, Task
from rollout_server.engines.scripted import ScriptedEngine
from rollout_server.episode_store import EpisodeStore
from rollout_server.local import LocalRollouts
from rollout_server.replay_verify import verify_many
from rollout_server.types import Episode, EpisodeStatus, RolloutRequest, SamplingParams, TaskRef

_ROOM = 10_000_000


def _measure(arguments: argparse.Namespace) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        yield from collected(_verifying(Path(folder), quick=arguments.quick))
        yield from _listing(Path(folder), quick=arguments.quick)


async def _verifying(folder: Path, *, quick: bool) -> AsyncIterator[Figure]:
    settings = EnvServerSettings(envs=("alfworld",), max_episodes=1024)
    with EpisodeStore(f"sqlite:///{folder / 'episodes.db'}") as store:
        async with EnvClient.in_process(create_app(settings)) as client:
            service = LocalRollouts(client, ScriptedEngine("explorer"), store=store)
            tasks = [TaskRef("alfworld", split="generated", sample_seed=seed) for seed in range(32 if quick else 128)]
            request = RolloutRequest(
                tuple(tasks),
                group_size=8,
                max_turns=50,
                max_episode_tokens=_ROOM,
                sampling=SamplingParams(max_tokens=4096),
            )
            await service.rollouts(request)
        async with EnvClient.in_process(create_app(settings)) as client:  # another: no game is parsed yet
            began = time.perf_counter()
            reports = [report async for report in verify_many(store.iter_episodes(), client)]
            wall = time.perf_counter() - began
            changed = dataclasses.replace(next(store.iter_episodes()), initial=Observation("Another room."))
            (caught,) = [report async for report in verify_many([changed], client)]
    steps = sum(report.steps for report in reports)
    yield at_least("replay.verify.alfworld.steps_per_s", steps / wall, "1/s", 1000)
    yield value("replay.verify.alfworld.episodes_per_s", len(reports) / wall, "1/s")
    yield at_most("replay.verify.differing", sum(not report.ok for report in reports), "", 0)
    yield at_least("replay.verify.changed_found", float(not caught.ok), "", 1)


def _listing(folder: Path, *, quick: bool) -> Iterator[Figure]:
    path = folder / "many.db"
    count = 20_000 if quick else 100_000
    with EpisodeStore(f"sqlite:///{path}") as store:
        for first in range(0, count, 5000):
            store.add_many(_small(number, count) for number in range(first, first + 5000))
        indexed = _median(lambda: store.query(run="rare", limit=20))
        newest = _median(lambda: store.query(limit=20))
        counted = _median(lambda: store.count(run="rare", status="completed"))
        grouped = _median(lambda: store.stats(["policy", "status"]), times=3)
    connection = sqlite3.connect(path)
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'index' AND name LIKE 'ix_%'").fetchall()
    for (name,) in names:
        connection.execute(f"DROP INDEX {name}")
    connection.commit()
    connection.close()
    with EpisodeStore(f"sqlite:///{path}") as store:
        scanned = _median(lambda: store.query(run="rare", limit=20), times=3)
    yield value("store.list.newest", newest * 1e3, "ms")
    yield value("store.list.rare_run", indexed * 1e3, "ms")
    yield value("store.count.rare_run_and_status", counted * 1e3, "ms")
    yield value("store.stats.two_keys", grouped * 1e3, "ms")
    yield at_least("store.list.rare_run.scan_ratio", scanned / indexed, "x", 3 if quick else 10)


def _small(number: int, count: int) -> Episode:
    """An episode without turns: what is listed is its summary."""
    kind = ("heat", "cool", "clean")[number % 3]
    return Episode(
        id=f"{number:08x}",
        group_id=f"g{number // 8}",
        env="alfworld",
        task=Task("alfworld", f"generated/{number % 500}", "generated", kind, "0" * 64),
        seed=number,
        options={},
        protocol="agentbench_fc",
        engine="scripted",
        model="none",
        policy=f"step-{number // 1000}",
        sampling=SamplingParams(),
        status=EpisodeStatus.COMPLETED if number % 7 else EpisodeStatus.TRUNCATED_TURNS,
        reward=float(number % 2),
        reward_parts={"task": float(number % 2)},
        initial=Observation(""),
        prompt=(),
        prompt_ids=(),
        turns=(),
        started_at=f"2026-01-{1 + number * 28 // count:02d}T{number % 24:02d}:{number % 60:02d}:00.000+00:00",
        metadata={"run": "rare" if number % 5000 == 7 else f"run-{number // 10_000}"},
    )


def _median(work: object, *, times: int = 15) -> float:
    assert callable(work)
    walls = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        walls.append(time.perf_counter() - began)
    return sorted(walls)[times // 2]


if __name__ == "__main__":
    run(__doc__ or "", _measure)
