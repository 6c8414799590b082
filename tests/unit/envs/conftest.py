"""An env server in this process, with the counting double."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from counting_env import AbsentFamily, CountingFamily, counting_registry

from envs.config import EnvServerSettings
from envs.server.app import create_app


class Server:
    """A started app: raw HTTP, its client transport, and its families to break."""

    def __init__(self, app: Any, http: httpx.AsyncClient) -> None:
        self.app = app
        self.http = http

    async def family(self, name: str = "counting") -> CountingFamily:
        return await self.app.state.families.get(name)

    async def create(self, env: str = "counting", n: int = 5, **more: Any) -> str:
        answer = await self.http.post("/v1/episodes", json={"env": env, "task_id": f"train/{n}", **more})
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    async def count(self, episode_id: str, number: Any, **more: Any) -> httpx.Response:
        action = {"name": "count", "arguments": {"number": number}}
        return await self.http.post(f"/v1/episodes/{episode_id}/step", json={"action": action, **more})


@pytest.fixture(autouse=True)
def absent_database() -> None:
    AbsentFamily.present = False


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Any]]:
    """``await start(**settings)`` gives a Server that ends with the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def begin(
            *, client: tuple[str, int] = ("127.0.0.1", 1), host: str = "127.0.0.1", **settings: Any
        ) -> Server:
            settings = {"envs": ("counting", "blocking_counting"), **settings}
            app = create_app(EnvServerSettings(**settings), counting_registry())
            await stack.enter_async_context(app.router.lifespan_context(app))
            transport = httpx.ASGITransport(app, client=client)
            http = httpx.AsyncClient(transport=transport, base_url=f"http://{host}")
            return Server(app, await stack.enter_async_context(http))

        yield begin


@pytest.fixture
async def server(start: Callable[..., Any]) -> Server:
    return await start()
