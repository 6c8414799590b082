"""What is dear is made once: the cache itself, and a group of episodes that costs one load."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from envs.alfworld import native_engine, tasks
from envs.alfworld.keep import Keep
from envs.client import EnvClient, EpisodeView, NewEpisode
from envs.config import EnvServerSettings
from envs.server.app import create_app

ASKERS = 8


def test_a_value_asked_for_side_by_side_is_made_once() -> None:
    keep: Keep[str, object] = Keep(2)
    made: list[object] = []
    everybody_asks = threading.Barrier(ASKERS)

    def make() -> object:
        time.sleep(0.05)  # the others ask meanwhile
        made.append(object())
        return made[-1]

    def ask() -> object:
        everybody_asks.wait(30)
        return keep.get("game", make)

    with ThreadPoolExecutor(ASKERS) as pool:
        found = list(pool.map(lambda _: ask(), range(ASKERS)))
    assert len(made) == 1
    assert set(map(id, found)) == {id(made[0])}


def test_one_key_does_not_wait_for_another() -> None:
    keep: Keep[str, str] = Keep(2)
    go_on = threading.Event()

    def slow() -> str:
        assert go_on.wait(30)
        return "slow"

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(keep.get, "a", slow)
        while "a" not in keep._making:
            time.sleep(0.001)
        assert keep.get("b", lambda: "quick") == "quick"
        go_on.set()
        assert waiting.result() == "slow"


def test_a_failure_reaches_all_who_wait_and_is_not_kept() -> None:
    keep: Keep[str, str] = Keep(2)
    go_on = threading.Event()

    def fail() -> str:
        assert go_on.wait(30)
        raise ValueError("broken game")

    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(keep.get, "a", fail) for _ in range(2)]
        go_on.set()
        for one in asked:
            with pytest.raises(ValueError, match="broken game"):
                one.result()
    assert keep.get("a", lambda: "mended") == "mended"
    assert not keep._making


def test_the_least_recently_used_value_goes_first() -> None:
    keep: Keep[str, int] = Keep(2)
    for key in ("a", "b", "a", "c"):
        keep.get(key, lambda: 0)
    assert [keep.get(key, lambda: 1) for key in ("a", "c", "b")] == [0, 0, 1]
    keep.clear()
    assert keep.get("b", lambda: 2) == 2


async def test_a_group_costs_one_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two groups of eight, mixed, created by one request: each game is made once and read once."""
    made: list[Any] = []
    read: list[Any] = []
    generate, load = tasks.generate, native_engine._load

    def generate_slowly(seed: int, **how: Any) -> Any:
        made.append((seed, how["type"]))
        time.sleep(0.05)
        return generate(seed, **how)

    def load_slowly(source: Any) -> Any:
        read.append(source.content_hash)
        time.sleep(0.05)
        return load(source)

    monkeypatch.setattr(tasks, "generate", generate_slowly)
    monkeypatch.setattr(native_engine, "_load", load_slowly)
    async with EnvClient.in_process(create_app(EnvServerSettings(envs=("alfworld",)))) as client:
        items = [NewEpisode(env="alfworld", split="generated_easy", sample_seed=k % 2) for k in range(2 * ASKERS)]
        views = await client.create_many(items)
    assert all(isinstance(view, EpisodeView) for view in views)
    assert (len(made), len(set(made))) == (2, 2)
    assert (len(read), len(set(read))) == (2, 2)
