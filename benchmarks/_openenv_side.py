"""OpenEnv's side of ``env_load.py``, run by an interpreter that has it: its own server and its own client.

python _openenv_side.py serve PORT MOST
python _openenv_side.py load URL SESSIONS SECONDS      prints {"steps_per_s", "p50_ms", "p99_ms"}
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from typing import Any

import uvicorn
from openenv.core.env_client import EnvClient, StepResult
from openenv.core.env_server.http_server import create_app
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State


class Push(Action):
    """One action."""

    text: str


class Seen(Observation):
    """One observation."""

    text: str = ""


class Toy(Environment):
    """Counts, and says so."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._state = State()

    def reset(self, **_: Any) -> Seen:
        self._state = State()
        return Seen(text="You are at 0.")

    def step(self, action: Push, **_: Any) -> Seen:
        self._state.step_count += 1
        return Seen(text=f"You are at {self._state.step_count}.", done=False, reward=0.0)

    @property
    def state(self) -> State:
        return self._state


class Client(EnvClient):
    """As its documentation has it."""

    def _step_payload(self, action: Push) -> dict[str, Any]:
        return action.model_dump()

    def _parse_result(self, payload: dict[str, Any]) -> StepResult:
        seen = Seen(**payload["observation"])
        return StepResult(observation=seen, reward=payload.get("reward"), done=payload.get("done", False))

    def _parse_state(self, payload: dict[str, Any]) -> State:
        return State(**payload)


async def load(url: str, sessions: int, seconds: float) -> dict[str, float]:
    """Every session steps as fast as it is answered."""
    clients = [Client(base_url=url) for _ in range(sessions)]
    for client in clients:
        await client.connect()
        await client.reset()
    took: list[float] = []
    began = time.perf_counter()

    async def play(client: Client) -> None:
        while (before := time.perf_counter()) < began + seconds:
            await client.step(Push(text="go"))
            took.append(time.perf_counter() - before)

    await asyncio.gather(*map(play, clients))
    rate = len(took) / (time.perf_counter() - began)
    await asyncio.gather(*(client.close() for client in clients))
    points = statistics.quantiles(took, n=100)
    return {"steps_per_s": rate, "p50_ms": 1000 * points[49], "p99_ms": 1000 * points[98]}


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        app = create_app(Toy, Push, Seen, env_name="toy", max_concurrent_envs=int(sys.argv[3]))
        uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error")
    else:
        print(json.dumps(asyncio.run(load(sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))))
