"""Versions are ordered, names are used once, and what is in use stays."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from adapter_folders import attention, pair, write_adapter

from envs.errors import BackendUnavailable, ConfigError, Conflict, InvalidOption, UnknownPolicy
from rollout_server.engines.base import GenerationRequest
from rollout_server.policy import PolicyRegistry
from rollout_server.tokenizer import ByteTokenizer
from rollout_server.types import Completion, PolicyVersion


class Shelf:
    """An engine that only keeps adapters."""

    name = model = "shelf"

    def __init__(self) -> None:
        self.tokenizer = ByteTokenizer()
        self.loaded: list[str] = []
        self.fail = False

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def generate(self, request: GenerationRequest) -> Completion:
        raise NotImplementedError

    async def load_policy(self, policy: PolicyVersion) -> None:
        await asyncio.sleep(0)
        if self.fail:
            raise BackendUnavailable("down")
        self.loaded.append(policy.name)

    async def unload_policy(self, name: str) -> None:
        await asyncio.sleep(0)
        if self.fail:
            raise BackendUnavailable("down")
        self.loaded.remove(name)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "adapter")


async def test_the_base_model_comes_first(adapter: Path) -> None:
    registry = PolicyRegistry(Shelf())
    assert registry.current == registry.get() == registry.get("base") == PolicyVersion("base", 0)
    version = await registry.publish("step-1", adapter)
    assert version == PolicyVersion("step-1", 1, str(adapter)) == registry.current
    assert [v.name for v in registry.versions()] == ["base", "step-1"]


async def test_old_versions_are_dropped_and_the_base_stays(adapter: Path) -> None:
    shelf = Shelf()
    registry = PolicyRegistry(shelf, keep_last=2)
    for n in range(1, 5):
        await registry.publish(f"v{n}", adapter)
    assert [(v.name, v.number) for v in registry.versions()] == [("base", 0), ("v3", 3), ("v4", 4)]
    assert shelf.loaded == ["v3", "v4"]
    with pytest.raises(UnknownPolicy, match="was dropped"):
        registry.get("v1")
    with pytest.raises(UnknownPolicy, match="never published"):
        registry.get("v9")


async def test_a_version_in_use_is_kept_until_its_last_user_leaves(adapter: Path) -> None:
    shelf = Shelf()
    registry = PolicyRegistry(shelf, keep_last=1)
    await registry.publish("v1", adapter)
    async with registry.acquire() as outer:
        async with registry.acquire("v1") as inner:
            assert outer is inner
            await registry.publish("v2", adapter)
            assert registry.current.name == "v2"
        assert shelf.loaded == ["v1", "v2"]
    assert shelf.loaded == ["v2"]
    with pytest.raises(UnknownPolicy):
        async with registry.acquire("v1"):
            pytest.fail("acquired a version that was dropped")


async def test_a_failing_episode_releases_its_version(adapter: Path) -> None:
    shelf = Shelf()
    registry = PolicyRegistry(shelf, keep_last=1)
    await registry.publish("v1", adapter)

    async def fail() -> None:
        async with registry.acquire():
            await registry.publish("v2", adapter)
            raise KeyError("x")

    with pytest.raises(KeyError):
        await fail()
    assert shelf.loaded == ["v2"]


async def test_names_are_used_once(adapter: Path) -> None:
    registry = PolicyRegistry(Shelf(), keep_last=1)
    await registry.publish("v1", adapter)
    await registry.publish("v2", adapter)
    for name in ("v1", "v2", "base"):
        with pytest.raises(Conflict):
            await registry.publish(name, adapter)
    for name in ("", "a/b", ".hidden", "x" * 101, "a b"):
        with pytest.raises(InvalidOption):
            await registry.publish(name, adapter)


async def test_nothing_changes_where_loading_fails(adapter: Path, tmp_path: Path) -> None:
    shelf = Shelf()
    registry = PolicyRegistry(shelf)
    with pytest.raises(ConfigError):
        await registry.publish("v1", tmp_path / "nothing")
    shelf.fail = True
    with pytest.raises(BackendUnavailable):
        await registry.publish("v1", adapter)
    assert registry.current.number == 0
    shelf.fail = False
    assert (await registry.publish("v1", adapter)).number == 1


async def test_an_engine_that_cannot_unload_ends_no_episode(adapter: Path, caplog: pytest.LogCaptureFixture) -> None:
    shelf = Shelf()
    registry = PolicyRegistry(shelf, keep_last=1)
    await registry.publish("v1", adapter)
    async with registry.acquire():
        await registry.publish("v2", adapter)
        shelf.fail = True
    assert "v1" in caplog.text
    assert [v.name for v in registry.versions()] == ["base", "v2"]


async def test_publishing_at_once_gives_each_a_number(adapter: Path) -> None:
    registry = PolicyRegistry(Shelf(), keep_last=8)
    await asyncio.gather(*(registry.publish(f"v{n}", adapter) for n in range(8)))
    assert [v.number for v in registry.versions()] == list(range(9))
    results = await asyncio.gather(*(registry.publish("same", adapter) for _ in range(3)), return_exceptions=True)
    assert sorted(type(r).__name__ for r in results) == ["Conflict", "Conflict", "PolicyVersion"]


async def test_a_version_dropped_by_force_is_followed_by_the_current_one(adapter: Path) -> None:
    shelf = Shelf()
    registry = PolicyRegistry(shelf)
    for name in ("v1", "v2"):
        await registry.publish(name, adapter)
    async with registry.acquire("v1"):
        async with registry.acquire("v1"):
            assert registry.pins() == {"v1": 2}
        with pytest.raises(Conflict, match="1 episodes"):
            await registry.drop("v1")
        await registry.drop("v1", force=True)
        assert shelf.loaded == ["v2"]
        assert registry.current.name == "v2"
        await registry.drop("v2")
        assert registry.current == PolicyVersion("base", 0)
    assert registry.pins() == {}
    with pytest.raises(Conflict, match="published before"):
        await registry.publish("v1", adapter)
    assert (await registry.publish("v3", adapter)).number == 3, "a number is never used again"


async def test_an_older_number_is_given_back_and_never_a_smaller_one(adapter: Path) -> None:
    registry = PolicyRegistry(Shelf())
    assert (await registry.publish("step-7", adapter, number=7)).number == 7
    assert (await registry.publish("step-5", adapter, number=5)).number == 8
    assert (await registry.publish("step-9", adapter)).number == 9


async def test_weights_that_are_no_numbers_never_reach_the_engine(tmp_path: Path) -> None:
    shelf = Shelf()
    tensors = attention(8)
    name = next(iter(tensors))
    kind, shape, content = tensors[name]
    tensors[name] = (kind, shape, b"\x00\x00\x80\x7f" + content[4:])
    with pytest.raises(ConfigError, match="an infinity"):
        await PolicyRegistry(shelf).publish("v1", write_adapter(tmp_path / "a", tensors))
    with pytest.raises(ConfigError, match="bytes of weights"):
        await PolicyRegistry(shelf, max_bytes=10).publish("v1", write_adapter(tmp_path / "b"))
    assert shelf.loaded == []


async def test_a_real_models_shapes_are_known(smollm2_dir: Path, tmp_path: Path) -> None:
    class Small(Shelf):
        base_models = (str(smollm2_dir),)

    registry = PolicyRegistry(Small())
    named = {"base_model_name_or_path": str(smollm2_dir)}
    with pytest.raises(ConfigError, match=r"q_proj as \(8, 8\), the model's is \(576, 576\)"):
        await registry.publish("v1", write_adapter(tmp_path / "a", **named))
    with pytest.raises(ConfigError, match="trained on 'models/Small'"):
        await registry.publish("v1", write_adapter(tmp_path / "b"))
    with pytest.raises(ConfigError, match="the model's is"):
        await registry.publish("v1", write_adapter(tmp_path / "b"), any_base_model=True)
    lenient = PolicyRegistry(Small(), any_base_model=True)
    with pytest.raises(ConfigError, match="the model's is"):
        await lenient.publish("v1", write_adapter(tmp_path / "b"))
    fitting = write_adapter(tmp_path / "c", pair("model.layers.29.self_attn.v_proj", 8, (192, 576)), **named)
    assert (await registry.publish("v1", fitting)).number == 1


def test_at_least_one_is_kept() -> None:
    with pytest.raises(ConfigError):
        PolicyRegistry(Shelf(), keep_last=0)
