"""``envloop rollout bench``: what the loop itself costs, and how fast an engine is within it.

Each figure can be taken again by anyone: the tasks are drawn by seed, the environments run in this process (or at
``env_url``), the episodes go to a store in memory.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator, Sequence

from pydantic import SecretStr

from envs.bench import Figure
from envs.errors import BackendUnavailable
from rollout_server.config import RolloutServerSettings, Service, open_service
from rollout_server.types import Episode, RolloutRequest, SamplingParams, TaskRef

__all__ = ["measure_engine", "measure_loop", "run_bench"]

_MODEL_TURNS = 4


def run_bench(settings: RolloutServerSettings, *, quick: bool = False) -> Iterator[Figure]:
    """The expert's figures, then those of the settings' engine where it is another.

    Raises BackendUnavailable where an episode failed by infrastructure, since then nothing was measured.
    """
    memory = settings.model_copy(update={"store_url": SecretStr("sqlite://")})
    expert = memory.model_copy(update={"engine": "expert", "model": None, "engine_options": {}})
    yield from asyncio.run(measure_loop(expert, episodes=32 if quick else 256))
    if settings.engine != "expert":
        yield from asyncio.run(measure_engine(memory, sequences=8 if quick else 32, new_tokens=32 if quick else 64))


async def measure_loop(settings: RolloutServerSettings, *, episodes: int) -> list[Figure]:
    """Expert episodes side by side: no model computes, the time is the loop's and the environment's."""
    async with open_service(settings) as service:
        await _play(service, _request(2, tokens=512, turns=None))  # first use: families load, the store is prepared
        began = time.perf_counter()
        played = await _play(service, _request(episodes, tokens=512, turns=None))
        wall = time.perf_counter() - began
    return _figures("rollout.expert", played, wall)


async def measure_engine(settings: RolloutServerSettings, *, sequences: int, new_tokens: int) -> list[Figure]:
    """Episodes of a few turns by the engine; then ``measure_throughput`` with prompts as long, one turn each.

    The two play different tokens: what share of plain vLLM the worker keeps is for ``benchmarks/rollout_throughput.py``
    to say, which gives both one trace.
    """
    from rollout_server.engines.throughput import measure_throughput

    async with open_service(settings) as service:
        await service.rollouts.engine.start()
        await _play(service, _request(1, tokens=new_tokens, turns=2))
        began = time.perf_counter()
        played = await _play(service, _request(sequences, tokens=new_tokens, turns=_MODEL_TURNS))
        wall = time.perf_counter() - began
        contexts = [length for episode in played for length in _contexts(episode)]
        plain = await measure_throughput(
            service.rollouts.engine,
            sequences=sequences,
            prompt_tokens=round(sum(contexts) / len(contexts)),
            new_tokens=new_tokens,
        )
        name = f"rollout.{service.rollouts.engine.name}"
    figures = _figures(name, played, wall)
    figures.append(Figure(f"{name}.plain_tokens_per_s", plain["tokens_per_s"], "tokens/s"))
    return figures


def _request(count: int, *, tokens: int, turns: int | None) -> RolloutRequest:
    return RolloutRequest(
        tasks=tuple(TaskRef("alfworld", split="generated", sample_seed=seed) for seed in range(count)),
        sampling=SamplingParams(max_tokens=tokens),
        max_turns=turns,
        max_episode_tokens=1_000_000 if turns is None else 4096,
    )


async def _play(service: Service, request: RolloutRequest) -> list[Episode]:
    groups = await service.rollouts.rollouts(request)
    played = [episode for group in groups for episode in group.episodes]
    for episode in played:
        if not episode.status.scored:
            raise BackendUnavailable(f"an episode failed: {episode.error}", hint="mend that, then measure again")
        if not episode.turns:
            raise BackendUnavailable(f"an episode had no turn: {episode.error}", hint="raise the engine's context")
    return played


def _figures(name: str, played: Sequence[Episode], wall: float) -> list[Figure]:
    turns = [turn for episode in played for turn in episode.turns]
    sampled = sum(sum(episode.mask) for episode in played)
    total = sum(len(e.prompt_ids) + len(e.completion_ids) for e in played)
    figures = [
        Figure(f"{name}.episodes_per_s", len(played) / wall, "episodes/s"),
        Figure(f"{name}.steps_per_s", sum(len(episode.steps) for episode in played) / wall, "steps/s"),
        Figure(f"{name}.sampled_tokens_per_s", sampled / wall, "tokens/s"),
        Figure(f"{name}.tokens_per_s", total / wall, "tokens/s"),
    ]
    for what in ("generate", "environment"):
        times = sorted(getattr(turn, f"{what}_s") for turn in turns)
        for share in (50, 95):
            figures.append(Figure(f"{name}.{what}_latency_p{share}", _percentile(times, share) * 1e3, "ms"))
    return figures


def _contexts(episode: Episode) -> Iterator[int]:
    """How many tokens each turn was sampled from."""
    length = len(episode.prompt_ids)
    for turn in episode.turns:
        yield length
        length += len(turn.completion_ids) + len(turn.environment_ids)


def _percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of sorted values; ``share`` from 0 to 100."""
    return ordered[max(0, math.ceil(share / 100 * len(ordered)) - 1)]
