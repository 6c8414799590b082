"""The figures that Prometheus reads."""

from __future__ import annotations

from typing import Any

import pytest

from envs.client import EnvClient
from envs.config import DbBenchSettings, EnvServerSettings
from envs.server.app import create_app

TOKEN = "token-of-the-server"


def figures(text: str) -> dict[str, float]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


async def test_episodes_and_steps_are_counted(start: Any) -> None:
    server = await start()
    won, running = await server.create(task_id="train/0"), await server.create()
    step = {"action": {"name": "count", "arguments": {"number": 1}}}
    for episode in (won, running):
        assert (await server.http.post(f"/v1/episodes/{episode}/step", json=step)).status_code == 200
    await server.http.delete(f"/v1/episodes/{await server.create()}")
    answer = await server.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = figures(answer.text)
    assert found['envloop_episodes_begun_total{env="counting"}'] == 3
    assert found['envloop_episodes_live{env="counting"}'] == 1
    assert found['envloop_episodes_ended_total{env="counting",status="completed"}'] == 1
    assert found['envloop_episodes_ended_total{env="counting",status="cancelled"}'] == 1
    assert found['envloop_step_seconds_count{env="counting"}'] == 2
    assert found["envloop_threads_waiting"] == 0


@pytest.mark.parametrize(("token", "status"), [(TOKEN, 200), ("another-token", 401)])
async def test_they_need_a_token_where_there_is_one(start: Any, token: str, status: int) -> None:
    server = await start(token=TOKEN)
    answer = await server.http.get("/metrics", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == status


async def test_what_an_environment_holds_is_shown() -> None:
    app = create_app(EnvServerSettings(envs=("dbbench",), dbbench=DbBenchSettings(url="sqlite:")))
    async with EnvClient.in_process(app) as client:
        await client.create("dbbench", split="generated", sample_seed=1)
        found = figures(app.state.metrics.text().decode())
    assert found['envloop_env_resources{env="dbbench",resource="databases_live"}'] == 1
