"""An environment that costs nothing, and our side of ``env_load.py``.

python _toy.py serve PORT JOURNAL
python _toy.py load URL SESSIONS SECONDS single|stream|batch      prints {"steps_per_s", "p50_ms", "p99_ms"}
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from envs.client import EnvClient, EpisodeView
from envs.config import EnvServerSettings
from envs.registry import Registry
from envs.server.app import serve
from envs.types import Action, EnvSpec, Observation, Readiness, Split, SplitRole, StepResult, Task, TaskPage, ToolSpec

PUSH = ToolSpec("push", "Go on.", {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]})
TOY = EnvSpec(
    name="toy",
    version=1,
    description="counts, and says so",
    tools=(PUSH,),
    task_types=("toy",),
    max_steps=10**9,
    blocking=False,
    entry_point="_toy:ToyFamily",
)
TASK = Task("toy", "toy/0", "toy", "toy", "0", {})
BATCHES = 4
STREAMS = 8
GO = Action("push", {"text": "go"})


class ToyEnv:
    """Counts, and says so."""

    def reset(self, task: Task, *, seed: int = 0, options: Mapping[str, Any] | None = None) -> Observation:
        del task, seed, options
        self.count = 0
        return Observation("You are at 0.", ())

    def step(self, action: Action) -> StepResult:
        del action
        self.count += 1
        return StepResult(Observation(f"You are at {self.count}.", ()), 0.0, terminated=False, truncated=False)

    def expert_action(self) -> Action | None:
        return GO

    def close(self) -> None:
        pass


class ToyFamily:
    """One task."""

    def __init__(self, spec: EnvSpec) -> None:
        self.spec = spec

    def splits(self) -> Sequence[Split]:
        return (Split("toy", "toy", SplitRole.TRAIN, 1, "the toy"),)

    def tasks(self, split: str, *, type: str | None = None, offset: int = 0, limit: int = 100) -> TaskPage:
        del split, type, limit
        return TaskPage((TASK,), offset, 1)

    def task(self, task_id: str) -> Task:
        del task_id
        return TASK

    def sample(self, split: str, seed: int, *, type: str | None = None) -> Task:
        del split, seed, type
        return TASK

    def make(self) -> ToyEnv:
        return ToyEnv()

    def ready(self) -> Readiness:
        return Readiness(True)

    def close(self) -> None:
        pass


async def load(url: str, sessions: int, seconds: float, way: str) -> dict[str, float]:
    """Every session steps as fast as it is answered: by requests of its own, over streams, or in four batches."""
    took: list[float] = []
    async with EnvClient(url, max_connections=sessions, streams=STREAMS * (way == "stream")) as client:
        views = await asyncio.gather(*(client.create("toy", task_id="toy/0") for _ in range(sessions)))
        assert len(views) == sessions
        began = time.perf_counter()

        async def play(view: EpisodeView) -> None:
            while (before := time.perf_counter()) < began + seconds:
                view = await client.step(view, GO)
                took.append(time.perf_counter() - before)

        async def play_together(views: list[EpisodeView]) -> None:
            count = len(views)
            while (before := time.perf_counter()) < began + seconds:
                done = await client.step_many([(view, GO) for view in views])
                views = [view for view in done if isinstance(view, EpisodeView)]
                assert len(views) == count, done
                took.extend([time.perf_counter() - before] * count)

        if way != "batch":
            await asyncio.gather(*map(play, views))
        else:
            await asyncio.gather(*(play_together(views[n::BATCHES]) for n in range(BATCHES)))
        rate = len(took) / (time.perf_counter() - began)
    points = statistics.quantiles(took, n=100)
    return {"steps_per_s": rate, "p50_ms": 1000 * points[49], "p99_ms": 1000 * points[98]}


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        settings = EnvServerSettings(
            envs=("toy",),
            openenv=("toy",),
            port=int(sys.argv[2]),
            journal_url=f"sqlite:///{sys.argv[3]}",
            max_episodes=4096,
        )
        serve(settings, Registry((TOY,)))
    else:
        print(json.dumps(asyncio.run(load(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), sys.argv[5]))))
