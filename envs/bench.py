"""``envloop env bench``: what a real server gives over HTTP, measured with expert episodes and our own client."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from envs.async_client import EnvClient, NewEpisode
from envs.errors import BackendUnavailable, EnvloopError
from envs.server_process import server_process
from envs.types import Action
from envs.wire import EnvInfo, EpisodeView

__all__ = ["Figure", "run_bench"]

_BATCH = 64


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value. ``bar`` is what it must reach (None: none is set), ``holds`` whether it does."""

    name: str
    value: float
    unit: str
    bar: float | None = None

    @property
    def holds(self) -> bool | None:
        """Whether the bar is reached; None without one."""
        return None if self.bar is None else self.value >= self.bar

    def to_json(self) -> dict[str, Any]:
        """``{"name", "value", "unit", "bar", "holds"}``."""
        return {"name": self.name, "value": self.value, "unit": self.unit, "bar": self.bar, "holds": self.holds}

    def line(self) -> str:
        """For a person."""
        return f"{self.name:<44} {self.value:>12,.2f} {self.unit}"


@dataclass(frozen=True, slots=True)
class _Script:
    """An episode to play again: its task and the expert's actions."""

    task_id: str
    actions: tuple[Action, ...]


def run_bench(
    names: Sequence[str] = (),
    *,
    quick: bool = False,
    env: Mapping[str, str] | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> Iterator[Figure]:
    """Start a server, measure every environment (or those named), stop it.

    ``env``: variables for the server. An environment that is not ready there is left out, which ``log`` is told.
    Raises BackendUnavailable where the server does not start or an expert's episode is not won.
    """
    args = [part for name in names for part in ("--env", name)]
    with server_process(args, env=env) as server:
        log(f"measuring {server.url}")
        with asyncio.Runner() as runner:
            figures = _measure_all(server.url, quick=quick, log=log)
            try:
                while (figure := runner.run(_next(figures))) is not None:
                    yield figure
            finally:
                runner.run(_end(figures))


async def _next(figures: AsyncIterator[Figure]) -> Figure | None:
    return await anext(figures, None)


async def _end(figures: AsyncIterator[Figure]) -> None:
    close = getattr(figures, "aclose", None)
    if close is not None:
        await close()


async def _measure_all(url: str, *, quick: bool, log: Callable[[str], None]) -> AsyncIterator[Figure]:
    async with EnvClient(url) as client:
        for env in await client.envs():
            if not env.readiness.ready:
                log(f"{env.spec.name} is left out: {env.readiness.detail} / what to do: {env.readiness.hint}")
                continue
            scripts = await _record(client, env, 8 if quick else 32)
            async for figure in _measure_single(client, env.spec.name, scripts, 2 if quick else 8):
                yield figure
            async for figure in _measure_batch(client, env.spec.name, scripts, 4 if quick else 16):
                yield figure


async def _record(client: EnvClient, env: EnvInfo, count: int) -> list[_Script]:
    """The expert's episodes on sampled tasks; each must be won."""
    split = next((s for s in env.splits if s.size is None), env.splits[0]).name
    scripts = []
    for k in range(count):
        episode = await client.create(env.spec.name, split=split, sample_seed=k)
        actions = []
        while not episode.status.over:
            action = await client.expert_action(episode.id)
            if action is None:
                break
            episode = await client.step(episode, action)
            actions.append(action)
        if episode.reward != 1.0:
            await client.close_episode(episode.id)
            raise BackendUnavailable(f"the expert did not win {episode.task.id}", hint="run 'envloop env check'")
        scripts.append(_Script(episode.task.id, tuple(actions)))
    return scripts


async def _measure_single(
    client: EnvClient, name: str, scripts: Sequence[_Script], rounds: int
) -> AsyncIterator[Figure]:
    """One episode after the other, one request after the other."""
    latencies: list[float] = []
    creations: list[float] = []
    start = time.perf_counter()
    for script in [script for _ in range(rounds) for script in scripts]:
        before = time.perf_counter()
        episode = await client.create(name, task_id=script.task_id)
        creations.append(time.perf_counter() - before)
        for action in script.actions:
            before = time.perf_counter()
            episode = await client.step(episode, action)
            latencies.append(time.perf_counter() - before)
    elapsed = time.perf_counter() - start
    yield Figure(f"env.{name}.single.steps_per_s", len(latencies) / sum(latencies), "steps/s")
    yield Figure(f"env.{name}.single.episodes_per_s", len(creations) / elapsed, "episodes/s")
    for what, values in (("step", latencies), ("create", creations)):
        for share in (50, 95):
            yield Figure(f"env.{name}.single.{what}_latency_p{share}", _percentile(values, share) * 1e3, "ms")


async def _measure_batch(
    client: EnvClient, name: str, scripts: Sequence[_Script], rounds: int
) -> AsyncIterator[Figure]:
    """64 episodes side by side, stepped in batches until all are over."""
    latencies: list[float] = []
    steps = 0
    start = time.perf_counter()
    for _ in range(rounds):
        chosen = [scripts[k % len(scripts)] for k in range(_BATCH)]
        views = _won(await client.create_many(NewEpisode(env=name, task_id=s.task_id) for s in chosen))
        live = list(zip(views, chosen, strict=True))
        while live:
            before = time.perf_counter()
            views = _won(await client.step_many((view, script.actions[view.steps]) for view, script in live))
            latencies.append(time.perf_counter() - before)
            steps += len(views)
            live = [(v, s) for v, (_, s) in zip(views, live, strict=True) if not v.status.over]
    elapsed = time.perf_counter() - start
    yield Figure(f"env.{name}.batch{_BATCH}.steps_per_s", steps / sum(latencies), "steps/s")
    yield Figure(f"env.{name}.batch{_BATCH}.episodes_per_s", rounds * _BATCH / elapsed, "episodes/s")
    for share in (50, 95):
        yield Figure(f"env.{name}.batch{_BATCH}.latency_p{share}", _percentile(latencies, share) * 1e3, "ms")


def _won(results: Sequence[EpisodeView | EnvloopError]) -> list[EpisodeView]:
    for result in results:
        if isinstance(result, EnvloopError):
            raise result
    return [result for result in results if isinstance(result, EpisodeView)]


def _percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile; ``share`` from 0 to 100."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share / 100 * len(ordered)) - 1)]
