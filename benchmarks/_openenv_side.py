"""OpenEnv's side of ``env_load.py`` and ``env_chaos.py``, run by an interpreter that has it: its server, its client.

python _openenv_side.py serve PORT MOST
python _openenv_side.py load URL SESSIONS SECONDS      prints {"steps_per_s", "p50_ms", "p99_ms"}
python _openenv_side.py chaos URL PLACES SECONDS own|ours
    plays episodes of 20 steps one after the other in each place, and sends again what failed, for a minute at most;
    prints {"as without faults", "blank", "doubled", "lost", "steps"}: how the episodes went
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import sys
import time
import uuid
from collections import Counter
from typing import Any

import uvicorn
from openenv.core.env_client import EnvClient, StepResult
from openenv.core.env_server.http_server import create_app
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State
from openenv.core.generic_client import GenericEnvClient


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


STEPS, PATIENCE_S, PAUSE_S = 20, 60.0, 0.2


async def chaos(url: str, places: int, seconds: float, kind: str) -> dict[str, int]:
    """``own``: against OpenEnv's server. ``ours``: against our OpenEnv routes, with named sessions, numbered steps."""
    found: Counter[str] = Counter()
    until = time.monotonic() + seconds

    async def again(call: Any) -> Any:
        """What it gives, as soon as it gives anything; OpenEnv's client connects anew by itself."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return await call()
            except Exception:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(PAUSE_S)

    async def episode() -> str:
        if kind == "own":
            client: Any = Client(base_url=url, message_timeout_s=10, connect_timeout_s=10)
        else:
            name = f"{url}/sessions/{uuid.uuid4().hex}"
            client = GenericEnvClient(base_url=name, message_timeout_s=10, connect_timeout_s=10)
        try:
            await again(lambda: client.reset() if kind == "own" else client.reset(episode_id="only"))
            for number in range(STEPS):
                action: Any = Push(text="go")
                if kind == "ours":
                    action = {"tool_name": "push", "arguments": {"text": "go"}, "metadata": {"step": number}}
                seen = (await again(lambda: client.step(action))).observation  # noqa: B023 - called at once
                text = seen["text"] if isinstance(seen, dict) else seen.text
                found["steps"] += 1
                if text != f"You are at {number + 1}.":
                    return "blank" if int(text.split()[-1][:-1]) <= number else "doubled"
        except Exception:  # noqa: BLE001 - the patience is over
            return "lost"
        finally:
            with contextlib.suppress(ConnectionError, OSError):
                await client.close()
        return "as without faults"

    async def place() -> None:
        while time.monotonic() < until:
            found[await episode()] += 1

    await asyncio.gather(*(place() for _ in range(places)))
    return dict(found)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        app = create_app(Toy, Push, Seen, env_name="toy", max_concurrent_envs=int(sys.argv[3]))
        uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error")
    elif sys.argv[1] == "chaos":
        print(json.dumps(asyncio.run(chaos(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), sys.argv[5]))))
    else:
        print(json.dumps(asyncio.run(load(sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))))
