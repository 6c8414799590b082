"""The swap, with real parts: after a GRPO step vLLM samples from the trainer's new weights, not from the old ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from contract.engine_contract import Reference

from rollout_server.engines.base import Engine, GenerationRequest
from rollout_server.episode_store import EpisodeStore
from rollout_server.types import Completion, Episode, Group, PolicyVersion, RolloutRequest, SamplingParams
from trainer.config import TrainConfig, parse_config
from trainer.loops import LoopThread
from trainer.services import OpenedRollouts, open_rollouts, store_url

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(1500),  # two cores load torch and vLLM several times over, in several processes
    pytest.mark.filterwarnings(r"ignore::DeprecationWarning:(torch|vllm|importlib)\b.*"),
    pytest.mark.filterwarnings(r"ignore::FutureWarning:(torch|vllm)\b.*"),
    pytest.mark.filterwarnings(
        "ignore:Unclosed context:ResourceWarning"
    ),  # vLLM leaves its zmq context to the collector
]

SAMPLING = SamplingParams(temperature=1.0, max_tokens=32, seed=7)
TOLERANCE = 0.005  # mean absolute difference of a token's logprob, in nats


class RewardsById:
    """The real rollouts, with a reward that surely differs within a group: a made-up function of the sampled ids.

    What is rewarded does not matter here; that the weights move does.
    """

    def __init__(self, service: OpenedRollouts) -> None:
        self._service = service

    async def rollouts(self, request: RolloutRequest, **more: Any) -> Sequence[Group]:
        return [
            replace(g, episodes=tuple(replace(e, reward_parts={"ids": sum(e.completion_ids) % 97}) for e in g.episodes))
            for g in await self._service.rollouts(request, **more)
        ]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service, name)


type Sampled = tuple[tuple[int, ...], tuple[int, ...], tuple[float, ...]]
"""One turn: every id before it, the ids that were sampled, and the logprob of each."""


def record_sampling(engine: Engine) -> list[Sampled]:
    """Keep what the engine itself is asked and answers, before any of our code has had it in hand."""
    sampled: list[Sampled] = []
    generate = engine.generate

    async def recorded(request: GenerationRequest) -> Completion:
        done = await generate(request)
        sampled.append((request.prompt_ids, done.token_ids, done.logprobs))
        return done

    engine.generate = recorded  # type: ignore[method-assign]
    return sampled


def turns_of_episode(episode: Episode) -> list[Sampled]:
    before, found = episode.prompt_ids, []
    for turn in episode.turns:
        found.append((before, turn.completion_ids, turn.logprobs))
        before = (*before, *turn.completion_ids, *turn.environment_ids)
    return found


def turns_of_loss(inputs: Mapping[str, Any], row: int) -> list[Sampled]:
    """The turns of one row of a micro-batch: its runs of tokens that the loss trains on."""
    prompt = inputs["prompt_ids"][row][inputs["prompt_mask"][row].bool()].tolist()
    here = inputs["completion_mask"][row].bool()
    columns = [inputs[name][row][here].tolist() for name in ("completion_ids", "tool_mask", "sampling_per_token_logps")]
    before, found = tuple(prompt), []
    for ours, run in groupby(zip(*columns, strict=True), key=lambda token: token[1] == 1):
        tokens = list(run)
        ids = tuple(token[0] for token in tokens)
        if ours:
            found.append((before, ids, tuple(token[2] for token in tokens)))
        before = (*before, *ids)
    return found


def recipe(model: Path, out: Path) -> TrainConfig:
    return parse_config(
        {
            "model": {
                "name": str(model),
                "dtype": "float32",
                "device": "cpu",
                "threads": 2,
                "gradient_checkpointing": False,
            },
            "lora": {"r": 8, "alpha": 32},
            "data": {"sources": [{"env": "alfworld", "split": "generated_easy"}]},
            "rollout": {
                "engine": "vllm",
                "engine_options": {
                    "dtype": "float32",  # as the trainer's: what is left of a difference is an error
                    "enforce_eager": True,
                    "gpu_memory_utilization": 0.3,
                    "max_num_seqs": 8,
                },
                "group_size": 2,
                "groups_per_step": 1,
                "max_turns": 2,
                "max_tokens": 12,
                "max_episode_tokens": 2560,
            },
            "grpo": {"steps": 1, "learning_rate": 5e-3, "beta": 0.0, "micro_batch": 1, "max_grad_norm": 1.0},
            "run": {"output_dir": str(out), "name": "swap", "report_to": ["jsonl"]},
        }
    )


@contextmanager
def opened(config: TrainConfig) -> Iterator[tuple[LoopThread, OpenedRollouts]]:
    with LoopThread() as loop:
        service = loop.run(open_rollouts(config))
        try:
            yield loop, service
        finally:
            loop.run(service.close())


def test_vllm_samples_from_the_weights_that_the_trainer_has_now(
    smollm2_dir: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    from trainer.grpo import train_grpo

    config = recipe(smollm2_dir, tmp_path / "run")
    entered: list[Sampled] = []

    def watch(inputs: Any) -> None:
        for row in range(inputs["completion_ids"].shape[0]):
            entered.extend(turns_of_loss(inputs, row))

    with opened(config) as (loop, service):
        engine = service.engine
        assert engine is not None
        sampled = record_sampling(engine)
        rewarded = RewardsById(service)
        result = train_grpo(config, service=rewarded, loop=loop, loss_observer=watch)
        assert_exact(sampled, config, entered)
        assert result.metrics[0]["sampling/sampling_logp_difference/mean"] < TOLERANCE

        base, new = loop.run(service.policies())[0], loop.run(service.policies())[-1]
        assert (base.name, new.name) == ("base", "swap-v1")
        prompt = tuple(engine.tokenizer.encode(PROMPT, markup=True))
        before = loop.run(sample(engine, prompt, base))
        after = loop.run(sample(engine, prompt, new))

    judge = Reference(smollm2_dir)
    trainers = judge.score(prompt, after[0], SAMPLING, new)
    bases = judge.score(prompt, after[0], SAMPLING, base)
    record_property("mean_abs_logprob_difference_to_trainer", gap(after[1], trainers))
    record_property("mean_abs_logprob_difference_to_base", gap(after[1], bases))
    record_property("sampling_difference_in_training", result.metrics[0]["sampling/sampling_logp_difference/mean"])
    assert gap(after[1], trainers) < TOLERANCE, "vLLM's new policy is the trainer's"
    assert gap(after[1], bases) > 2 * TOLERANCE, "vLLM's new policy is no longer the base model"
    assert gap(before[1], judge.score(prompt, before[0], SAMPLING, base)) < TOLERANCE, "the base model is untouched"


def assert_exact(sampled: Sequence[Sampled], config: TrainConfig, entered: Sequence[Sampled]) -> None:
    """Token exactness, end to end: what the engine sampled is what the store holds and what entered the loss."""
    with EpisodeStore(store_url(config)) as store:
        episodes = list(store.iter_episodes(run="swap"))
    assert len(episodes) == 2
    assert {e.engine for e in episodes} == {config.rollout.engine}
    assert sorted(turn for e in episodes for turn in turns_of_episode(e)) == sorted(sampled)
    expected, got = sorted(sampled), sorted(entered)
    assert [turn[:2] for turn in got] == [turn[:2] for turn in expected]
    for (_, _, trained), (_, _, ours) in zip(got, expected, strict=True):
        assert trained == pytest.approx(ours, abs=1e-5)  # float32 in the loss


PROMPT = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"


async def sample(
    engine: Engine, prompt: tuple[int, ...], policy: PolicyVersion
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    done = await engine.generate(GenerationRequest(prompt, SAMPLING, policy))
    return done.token_ids, done.logprobs


def gap(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return fmean(abs(a - b) for a, b in zip(ours, theirs, strict=True))
