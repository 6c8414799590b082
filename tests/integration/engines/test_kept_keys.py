"""The transformers engine over many turns: what it keeps from one to the next changes nothing but the time it takes.

The judge is a plain forward pass over the whole sequence, without any cache.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from contract.engine_contract import BASE, Reference, make_adapter

from envs.errors import BackendUnavailable, ConfigError
from rollout_server.engines.base import GenerationRequest
from rollout_server.engines.transformers import TransformersEngine
from rollout_server.types import Completion, PolicyVersion, SamplingParams
from trainer.small_model import ModelShape, save_small_model, word_tokenizer

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHAPE = ModelShape(hidden=32, intermediate=64, layers=2, heads=4, key_value_heads=2, head_width=8, context=400)
FREE = SamplingParams(temperature=1.0, max_tokens=6)
EXACT = 1e-4  # nats: float32 in another order of sums


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = word_tokenizer(["go to desk 1 and look"], at_least=1)
    return save_small_model(tmp_path_factory.mktemp("small") / "model", words, shape=SHAPE)


@pytest.fixture(scope="module")
def reference(model: Path) -> Reference:
    return Reference(model)


@pytest.fixture(scope="module")
def policies(model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[PolicyVersion]:
    folder = tmp_path_factory.mktemp("adapters")
    paths = [make_adapter(model, folder / f"p{n}", seed=n, scale=0.5) for n in (1, 2)]
    return [PolicyVersion(f"p{n}", n, str(path)) for n, path in enumerate(paths, 1)]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[False, True], ids=["beside", "merged"])
async def engine(
    request: pytest.FixtureRequest, model: Path, policies: list[PolicyVersion]
) -> AsyncIterator[TransformersEngine]:
    made = TransformersEngine(str(model), dtype="float32", device="cpu", max_batch=8, merge_adapters=request.param)
    await made.start()
    for policy in policies:
        await made.load_policy(policy)
    yield made
    await made.close()


def request_for(ids: tuple[int, ...], policy: PolicyVersion, seed: int, **sampling: Any) -> GenerationRequest:
    return GenerationRequest(ids, replace(FREE, seed=seed, **sampling), policy)


def check(reference: Reference, prompt: tuple[int, ...], done: Completion, policy: PolicyVersion) -> None:
    judged = reference.score(prompt, done.token_ids, FREE, policy)
    assert done.logprobs == pytest.approx(judged, abs=EXACT)


async def play(
    engine: TransformersEngine, reference: Reference, policy: PolicyVersion, seed: int, turns: int = 4
) -> int:
    """An episode of several turns, each judged. The number of tokens that were the environment's."""
    ids = tuple((seed * 7 + n) % 200 for n in range(60 + seed))
    given = len(ids)
    for turn in range(turns):
        done = await engine.generate(request_for(ids, policy, seed=100 * seed + turn))
        check(reference, ids, done, policy)
        said = tuple((seed + turn + n) % 200 for n in range(5 + seed % 3))
        ids += done.token_ids + said
        given += len(said)
    return given


async def test_every_turn_is_sampled_from_the_exact_distribution(
    engine: TransformersEngine, reference: Reference, policies: list[PolicyVersion]
) -> None:
    """Episodes of three policies side by side: turns of different lengths join and leave at any step."""
    turns = (play(engine, reference, policy, seed) for seed, policy in enumerate([BASE, *policies] * 3))
    await asyncio.gather(*turns)


async def test_a_turn_reads_its_new_tokens_alone(engine: TransformersEngine, reference: Reference) -> None:
    before = engine.prefill_tokens
    given = await play(engine, reference, BASE, seed=50)
    # The last answer is not read; of each turn's sampled tokens the last is, with what the environment said.
    assert engine.prefill_tokens - before <= given + 4


async def test_members_of_a_group_read_their_first_prompt_once(
    engine: TransformersEngine, reference: Reference
) -> None:
    prompt = tuple(range(10, 110))
    before = engine.prefill_tokens
    answers = await asyncio.gather(*(engine.generate(request_for(prompt, BASE, seed)) for seed in range(6)))
    for done in answers:
        check(reference, prompt, done, BASE)
    assert len({done.token_ids for done in answers}) > 1
    assert engine.prefill_tokens - before <= len(prompt)


async def test_more_sequences_than_are_kept_stay_exact(engine: TransformersEngine, reference: Reference) -> None:
    await asyncio.gather(*(play(engine, reference, BASE, seed, turns=2) for seed in range(60, 85)))
    assert len(engine._pool.slots) == 8 + 8 // 4 + 1


async def test_another_policy_finds_nothing_of_the_first(
    engine: TransformersEngine, reference: Reference, policies: list[PolicyVersion]
) -> None:
    prompt = tuple(range(120, 180))
    answers = [await engine.generate(request_for(prompt, policy, seed=1)) for policy in (BASE, *policies, BASE)]
    for policy, done in zip((BASE, *policies, BASE), answers, strict=True):
        check(reference, prompt, done, policy)
    assert answers[0].token_ids == answers[3].token_ids
    assert answers[0].logprobs == pytest.approx(answers[3].logprobs, abs=EXACT)
    assert answers[0].logprobs != answers[1].logprobs != answers[2].logprobs


async def test_a_short_turn_does_not_wait_for_a_long_one(engine: TransformersEngine) -> None:
    end = engine.tokenizer.end_of_turn_id
    long = asyncio.create_task(engine.generate(request_for((1, 2, 3), BASE, seed=4, max_tokens=300)))
    await asyncio.sleep(0.02)
    short = await engine.generate(request_for((5, 6, 7), BASE, seed=5, max_tokens=2))
    assert len(short.token_ids) == 2 or short.token_ids[-1] == end
    alone = await engine.generate(request_for((5, 6, 7), BASE, seed=5, max_tokens=2))
    assert short.token_ids == alone.token_ids
    long.cancel()
    await asyncio.gather(long, return_exceptions=True)


async def test_a_cancelled_turn_frees_its_place(engine: TransformersEngine) -> None:
    waiting = [asyncio.create_task(engine.generate(request_for((n, 9, 9), BASE, n, max_tokens=300))) for n in range(8)]
    await asyncio.sleep(0.03)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await engine.generate(request_for((3, 3, 3), BASE, seed=0))
    assert all(slot.owner is None for slot in engine._pool.slots)


async def test_what_an_unloaded_policy_has_computed_is_forgotten(model: Path, policies: list[PolicyVersion]) -> None:
    engine = TransformersEngine(str(model), dtype="float32", device="cpu", merge_adapters=True)
    await engine.start()
    await engine.load_policy(policies[0])
    await engine.generate(request_for((1, 2, 3, 4), policies[0], seed=0))
    assert any(slot.length and slot.policy for slot in engine._pool.slots)
    await engine.unload_policy(policies[0].name)
    await engine.generate(request_for((1, 2), BASE, seed=0))  # behind the removal
    assert not any(slot.policy for slot in engine._pool.slots)
    assert not engine._merged
    await engine.close()
    assert not engine._pool.keys


async def test_a_prompt_longer_than_a_step_is_read_in_several(
    engine: TransformersEngine, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollout_server.engines.transformers._STEP_TOKENS", 32)
    prompts = [tuple((3 * n + k) % 190 for k in range(70 + n)) for n in range(3)]
    answers = await asyncio.gather(*(engine.generate(request_for(p, BASE, seed=n)) for n, p in enumerate(prompts)))
    for prompt, done in zip(prompts, answers, strict=True):
        check(reference, prompt, done, BASE)


async def test_a_step_that_fails_fails_those_who_wait_and_nobody_after(model: Path) -> None:
    engine = TransformersEngine(str(model), dtype="float32", device="cpu")
    await engine.start()
    net, engine._net = engine._net, None.__class__  # a fault that no input makes: the call itself breaks
    with pytest.raises(BackendUnavailable, match="the model failed"):
        await engine.generate(request_for((1, 2, 3), BASE, seed=0))
    engine._net = net
    assert (await engine.generate(request_for((1, 2, 3), BASE, seed=0))).token_ids
    await engine.close()


async def test_a_model_that_does_not_look_at_all_tokens_is_refused(tmp_path: Path) -> None:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    words = word_tokenizer(["go to desk 1"], at_least=1)
    config = Qwen2Config(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        use_sliding_window=True,
        sliding_window=3,
        max_window_layers=0,
        initializer_range=0.5,
    )
    torch.manual_seed(0)
    untyped: Any = Qwen2ForCausalLM
    untyped(config).save_pretrained(tmp_path / "windows")
    words.save_pretrained(tmp_path / "windows")
    engine = TransformersEngine(str(tmp_path / "windows"), dtype="float32", device="cpu")
    with pytest.raises(ConfigError, match="attends otherwise"):
        await engine.start()
    await engine.close()
