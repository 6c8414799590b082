"""The whole rollout worker against plain vLLM, on the same token trace and the same engine: at least 0.90 of its speed.

    python benchmarks/rollout_throughput.py [--json] [--quick] [--model smollm2] [--trace explorer|model]

A trace is a set of episodes of generated ALFWorld tasks, recorded first: ``explorer`` acts (every turn steps the
environment), ``model`` is what the model itself samples. Then the two sides take turns, each from an empty prefix
cache, and each samples as many tokens in every turn as the trace has (no token ends one early):

plain    ``AsyncLLM.generate`` alone: an episode's next request is sent when the last one is answered. No environment.
worker   the product: env server, protocol, agent loop, runner, store. The engine hands the trace's own tokens on, so
         that both sides are asked for exactly the same prompts.

``share_of_plain`` is the median ratio of neighbouring runs. ``unchained`` is plain vLLM given every request of the
trace at once, as no multi-turn play can: a figure beside it from one run, without a bar. ``idle`` is the share of the
worker's time in which the engine had nothing to do because every live episode waited for the environment or the loop,
``environment`` the share of an episode's own time in which it waited for the environment.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from _figures import Figure, at_least, collected, run, value

from rollout_server.config import RolloutServerSettings, open_env_client
from rollout_server.engines.base import Engine, GenerationRequest
from rollout_server.engines.scripted import ScriptedEngine
from rollout_server.engines.vllm import VllmEngine
from rollout_server.episode_store import EpisodeStore
from rollout_server.local import LocalRollouts
from rollout_server.smollm2 import MODEL_NAME, ensure_smollm2
from rollout_server.types import Completion, Episode, RolloutRequest, SamplingParams, TaskRef

_CONTEXT = 4096
_GROUP = 4  # episodes of one task, as in training: they share the first prompt
_MODEL_TOKENS = 40  # of a turn that the model samples
_ROOM = 160  # of a turn that the explorer writes


@dataclass(frozen=True, slots=True)
class Trace:
    """Recorded episodes, and the completion of every turn by its sampling seed."""

    episodes: tuple[Episode, ...]
    turns: dict[int, tuple[int, ...]]
    request: RolloutRequest

    @property
    def sampled(self) -> int:
        return sum(map(len, self.turns.values()))

    @property
    def prompt_tokens(self) -> int:
        """Of all turns, what they have in common counted each time."""
        return sum(len(prompt) for episode in self.episodes for prompt, _ in self.requests(episode))

    def requests(self, episode: Episode) -> Iterator[tuple[tuple[int, ...], int]]:
        """Prompt and number of new tokens of each turn."""
        ids = episode.prompt_ids
        for turn in episode.turns:
            yield ids, len(turn.completion_ids)
            ids = (*ids, *turn.completion_ids, *turn.environment_ids)


class Forced:
    """A started ``AsyncLLM`` whose requests are sampled to their full length."""

    def __init__(self, llm: Any) -> None:
        self._llm = llm

    def __getattr__(self, name: str) -> Any:
        return getattr(self._llm, name)

    def generate(self, prompt: Any, sampling: Any, **more: Any) -> AsyncIterator[Any]:
        sampling.stop_token_ids = []
        return self._llm.generate(prompt, sampling, **more)


class ForcedEngine(VllmEngine):
    """The product's engine on ``Forced``. It hands on the trace's tokens in the place of its own."""

    turns: dict[int, tuple[int, ...]]

    def __init__(self, model: str, **options: Any) -> None:
        super().__init__(model, **options)
        self.turns = {}
        self.idle_s = 0.0
        self._asked = 0
        self._empty_since = 0.0

    async def start(self) -> None:
        await super().start()
        if not isinstance(self._llm, Forced):
            self._llm = Forced(self._llm)

    def watch(self) -> None:
        """Begin to count idle time."""
        self.idle_s, self._empty_since = 0.0, time.perf_counter()

    async def generate(self, request: GenerationRequest) -> Completion:
        ids = self.turns.get(request.sampling.seed or 0, ())
        if ids:
            request = replace(request, sampling=replace(request.sampling, max_tokens=len(ids)))
        if not self._asked:
            self.idle_s += time.perf_counter() - self._empty_since
        self._asked += 1
        try:
            done = await super().generate(request)
        finally:
            self._asked -= 1
            self._empty_since = time.perf_counter()
        if not ids:  # the trace is being recorded
            return done
        assert len(done.token_ids) == len(ids), "a turn was not sampled to its full length"
        return replace(done, token_ids=ids)

    async def forget(self) -> None:
        """Empty the prefix cache, so that no side finds what the other has computed."""
        self.turns = {}
        assert await self._llm.reset_prefix_cache(), "requests are under way"


@asynccontextmanager
async def worker(engine: Engine, settings: RolloutServerSettings) -> AsyncIterator[LocalRollouts]:
    """The rollout service as ``envloop rollout serve`` has it: the engine stays open."""
    with tempfile.TemporaryDirectory(prefix="envloop-throughput-") as folder:
        store = EpisodeStore(f"sqlite:///{folder}/episodes.db")
        try:
            async with open_env_client(settings) as client:
                yield LocalRollouts(client, engine, store=store, max_concurrency=settings.max_concurrency)
        finally:
            store.close()


async def record(engine: Engine, settings: RolloutServerSettings, request: RolloutRequest) -> Trace:
    """Play the episodes once."""
    async with worker(engine, settings) as rollouts:
        groups = await rollouts.rollouts(request)
    episodes = tuple(episode for group in groups for episode in group.episodes)
    from rollout_server.agent_loop import turn_seed

    turns = {
        turn_seed(request.seed, episode.task.id, member, turn.index): turn.completion_ids
        for group in groups
        for member, episode in enumerate(group.episodes)
        for turn in episode.turns
    }
    assert all(e.status.scored and e.turns for e in episodes), {e.error for e in episodes}
    return Trace(episodes, turns, request)


async def play_worker(engine: ForcedEngine, settings: RolloutServerSettings, trace: Trace) -> tuple[float, float]:
    """Seconds that the worker takes for the trace, and the share of its turns' time that was the environment's."""
    async with worker(engine, settings) as rollouts:
        await engine.forget()
        engine.turns = trace.turns
        engine.watch()
        began = time.perf_counter()
        groups = await rollouts.rollouts(trace.request)
        wall = time.perf_counter() - began
    played = [episode for group in groups for episode in group.episodes]
    for ours, recorded in zip(played, trace.episodes, strict=True):
        assert ours.completion_ids == recorded.completion_ids, f"{ours.task.id} was not played as recorded"
    turns = [turn for episode in played for turn in episode.turns]
    environment = sum(turn.environment_s for turn in turns)
    return wall, environment / (environment + sum(turn.generate_s for turn in turns))


async def play_plain(engine: ForcedEngine, trace: Trace, *, chained: bool) -> float:
    """Seconds that vLLM alone takes for the trace's requests, with the logprobs that training needs."""
    from vllm import SamplingParams as Sampling
    from vllm.inputs.engine import tokens_input
    from vllm.sampling_params import RequestOutputKind

    llm = engine._llm
    await engine.forget()

    async def ask(name: str, prompt: Sequence[int], tokens: int) -> None:
        lean: dict[str, Any] = {"detokenize": False, "output_kind": RequestOutputKind.FINAL_ONLY, "ignore_eos": True}
        sampling = Sampling(max_tokens=tokens, logprobs=0, seed=len(prompt), **lean)
        async for _ in llm.generate(tokens_input(list(prompt)), sampling, request_id=name):
            pass

    async def episode(name: str, played: Episode) -> None:
        asked = [ask(f"{name}.{n}", prompt, tokens) for n, (prompt, tokens) in enumerate(trace.requests(played))]
        if chained:
            for one in asked:
                await one
        else:
            await asyncio.gather(*asked)

    began = time.perf_counter()
    stem = "chained" if chained else "unchained"
    await asyncio.gather(*(episode(f"{stem}-{time.monotonic_ns()}-{n}", e) for n, e in enumerate(trace.episodes)))
    return time.perf_counter() - began


async def measure(arguments: argparse.Namespace) -> AsyncIterator[Figure]:
    import torch

    model = str(ensure_smollm2()) if arguments.model == MODEL_NAME else arguments.model
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu, {torch.get_num_threads()} threads"
    quick: bool = arguments.quick
    tasks, turns, repeats = (1, 2, 1) if quick else (3, 4, 3)
    tasks, turns, repeats = arguments.tasks or tasks, arguments.turns or turns, arguments.repeats or repeats
    settings = RolloutServerSettings(env_url=arguments.env_url, max_concurrency=tasks * _GROUP)
    engine = ForcedEngine(
        model,
        dtype=arguments.dtype,
        max_model_len=_CONTEXT,
        max_num_seqs=arguments.max_num_seqs,
        max_lora_rank=0,
        cpu_threads=arguments.cpu_threads,
        kv_cache_gib=None if torch.cuda.is_available() else 3.0,  # the whole trace, so that nothing is evicted
    )
    await engine.start()
    try:
        for kind in (arguments.trace,) if arguments.trace else ("model",) if quick else ("explorer", "model"):
            request = RolloutRequest(
                tasks=tuple(TaskRef("alfworld", split="generated", sample_seed=seed) for seed in range(tasks)),
                group_size=_GROUP,
                sampling=SamplingParams(max_tokens=_MODEL_TOKENS if kind == "model" else _ROOM),
                max_turns=turns,
                max_episode_tokens=_CONTEXT,
            )
            await engine.forget()
            explorer = ScriptedEngine("explorer", engine.tokenizer, thoughts=True)
            trace = await record(engine if kind == "model" else explorer, settings, request)
            yield Figure(f"throughput.{kind}.episodes ({device})", float(len(trace.episodes)), "episodes")
            async for figure in compare(f"throughput.{kind}", engine, settings, trace, repeats):
                yield figure
    finally:
        await engine.close()


async def compare(
    name: str, engine: ForcedEngine, settings: RolloutServerSettings, trace: Trace, repeats: int
) -> AsyncIterator[Figure]:
    """Both sides in turn, the first of a pair changing from pair to pair."""
    loose = await play_plain(engine, trace, chained=False)  # also the warm-up: the first run of a shape is slower
    pairs, idle, outside = [], [], []
    for number in range(repeats):
        times: dict[str, float] = {}
        for side in ("plain", "worker") if number % 2 == 0 else ("worker", "plain"):
            if side == "plain":
                times[side] = await play_plain(engine, trace, chained=True)
            else:
                times[side], share = await play_worker(engine, settings, trace)
                outside.append(share)
                idle.append(engine.idle_s / times[side])
        pairs.append((times["plain"], times["worker"]))
    plain, ours = (statistics.median(times) for times in zip(*pairs, strict=True))
    yield value(f"{name}.turns", len(trace.turns), "turns")
    yield value(f"{name}.sampled_tokens", trace.sampled, "tokens")
    yield value(f"{name}.prompt_tokens", trace.prompt_tokens, "tokens")
    yield value(f"{name}.plain_tokens_per_s", trace.sampled / plain, "tokens/s")
    yield value(f"{name}.worker_tokens_per_s", trace.sampled / ours, "tokens/s")
    yield value(f"{name}.unchained_tokens_per_s", trace.sampled / loose, "tokens/s")
    yield value(f"{name}.environment", statistics.median(outside), "ratio")
    yield value(f"{name}.idle", statistics.median(idle), "ratio")
    yield at_least(f"{name}.share_of_plain", statistics.median(a / b for a, b in pairs), "ratio", 0.90)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default=MODEL_NAME, help="a folder, a hub name, or smollm2")
    parser.add_argument("--dtype", default="auto", help="the engine's: auto, bfloat16, float16, float32")
    parser.add_argument("--trace", choices=("explorer", "model"), help="both, with --quick the model's")
    parser.add_argument("--env-url", default=None, help="an env server; without: in this process, as by default")
    parser.add_argument(
        "--tasks", type=int, default=None, help=f"each played {_GROUP} times at once; 3, with --quick 1"
    )
    parser.add_argument("--turns", type=int, default=None, help="of an episode; 4, with --quick 2")
    parser.add_argument("--cpu-threads", default="auto", help="the engine's binding of cores, on a CPU")
    parser.add_argument("--repeats", type=int, default=None, help="pairs of runs; 3, with --quick 1")
    parser.add_argument("--max-num-seqs", type=int, default=64, help="sequences in one batch of the engine")


if __name__ == "__main__":
    run(Path(__file__).stem + ": " + (__doc__ or ""), lambda arguments: collected(measure(arguments)), options=options)
