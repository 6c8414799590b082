"""Env servers in this process, and plans of episodes on them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from fastapi import FastAPI

from envs.client import EnvClient
from envs.config import EnvServerSettings
from envs.registry import ALFWORLD
from envs.server.app import create_app
from rollout_server.agent_loop import EpisodePlan
from rollout_server.protocols import get_protocol
from rollout_server.types import PolicyVersion, SamplingParams

KIND = "pick_clean_then_place_in_recep"  # the expert needs at least five steps


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DBBENCH_URL", "ALFWORLD_DATA", "ENVLOOP_TOKEN", "ENVLOOP_EXPERT_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def house_app() -> FastAPI:
    """An env server with generated households only: no process, no database."""
    return create_app(EnvServerSettings(envs=("alfworld",), max_episodes=8))


@pytest.fixture
async def houses(house_app: FastAPI) -> AsyncIterator[EnvClient]:
    async with EnvClient.in_process(house_app) as client:
        yield client


@pytest.fixture
async def everything() -> AsyncIterator[EnvClient]:
    """An env server with both environments, the databases on a private server of its own."""
    async with EnvClient.in_process(create_app(EnvServerSettings())) as client:
        state = (await client.env("dbbench")).readiness
        if not state.ready:
            pytest.skip(f"{state.detail}: {state.hint}")
        yield client


@pytest.fixture
def plan() -> Callable[..., Any]:
    """Makes the plan of an episode of a generated household."""

    async def make(
        client: EnvClient, number: int = 0, *, protocol: str = "agentbench_fc", **changes: Any
    ) -> EpisodePlan:
        values: dict[str, Any] = {
            "env": ALFWORLD,
            "task": await client.task("alfworld", f"generated/{KIND}/{number}"),
            "protocol": get_protocol(protocol),
            "policy": PolicyVersion(),
            "sampling": SamplingParams(max_tokens=256),
            "max_episode_tokens": 1_000_000,
        }
        return EpisodePlan(**values | changes)

    return make
