"""The vLLM engine with a real model, on whatever device vLLM was built for. One engine serves all the tests."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from contract.engine_contract import BASE, ENGINE_CHECKS, FREE, GREEDY, TOLERANCE, EngineCase, Reference, make_adapter

from envs.errors import BackendUnavailable, ConfigError, InvalidOption
from envs.registry import DBBENCH
from rollout_server.constraints import Constrain, Constraint, choice_constraint, tool_constraint
from rollout_server.engines.base import Engine, GenerationRequest
from rollout_server.engines.throughput import measure_throughput
from rollout_server.engines.transformers import TransformersEngine
from rollout_server.engines.vllm import VllmEngine
from rollout_server.protocols.hermes import parse_tool_calls
from rollout_server.types import Completion, FinishReason, PolicyVersion, SamplingParams

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.asyncio(loop_scope="module"),
    # vLLM imports more of itself and of torch while it starts, and these warn of their own deprecations.
    pytest.mark.filterwarnings(r"ignore::DeprecationWarning:(torch|vllm|importlib)\b.*"),
    pytest.mark.filterwarnings(r"ignore::FutureWarning:(torch|vllm)\b.*"),
]


def children() -> set[int]:
    """Live children of this process, without Python's own tracker of shared memory, which ends with the process."""
    found = psutil.Process().children(recursive=True)
    return {p.pid for p in found if p.is_running() and "resource_tracker" not in " ".join(p.cmdline())}


def sockets() -> set[Path]:
    """Socket files in the temporary folder, and in folders of ours there."""
    root = Path(tempfile.gettempdir())
    return {path for path in (*root.iterdir(), *root.glob("envloop-vllm-*/*")) if path.is_socket()}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def case(
    vllm_imported: None, smollm2_dir: Path, reference: Reference, adapters: tuple[Path, Path]
) -> AsyncIterator[EngineCase]:
    before, files = children(), sockets()
    # float32, as the judge's: what is left of a difference is an error and not rounding.
    engine = VllmEngine(
        str(smollm2_dir),
        max_model_len=1024,
        max_num_seqs=16,
        max_loras=2,
        max_lora_rank=8,
        dtype="float32",
        constraints=True,
    )
    await engine.start()
    assert children() > before
    made = sockets() - files
    assert made, "vLLM makes its sockets elsewhere now: see rollout_server/engines/sockets.py"
    yield EngineCase(engine, reference, adapters)
    await engine.close()
    await engine.close()
    assert children() == before, "the engine leaves processes behind"
    assert not any(path.parent.exists() for path in made), "the engine leaves its sockets behind"
    assert not multiprocessing.active_children()
    with pytest.raises(BackendUnavailable):
        await engine.load_policy(PolicyVersion())


@pytest.mark.parametrize("check", ENGINE_CHECKS, ids=lambda c: c.__name__.removeprefix("check_"))
async def test_contract(case: EngineCase, check: Callable[[EngineCase], Awaitable[None]]) -> None:
    await check(case)


async def test_is_an_engine(case: EngineCase) -> None:
    assert isinstance(case.engine, Engine)


async def test_cancelling_aborts_the_request_in_the_engine(case: EngineCase) -> None:
    llm = case.engine._llm  # type: ignore[attr-defined]
    task = asyncio.create_task(case.sample(GREEDY))
    for _ in range(10):  # the request is known to the front end within a few turns of the loop, long before it ends
        await asyncio.sleep(0)
    assert llm.get_num_unfinished_requests() == 1
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert llm.get_num_unfinished_requests() == 0


async def test_an_unloaded_adapter_leaves_the_engine(case: EngineCase) -> None:
    policy = PolicyVersion("gone", 1, str(case.adapters[0]))
    llm = case.engine._llm  # type: ignore[attr-defined]
    before = set(await llm.list_loras())
    await case.engine.load_policy(policy)
    assert set(await llm.list_loras()) > before
    await case.engine.unload_policy("gone")
    assert set(await llm.list_loras()) == before


async def test_more_adapters_than_fit_in_one_batch(case: EngineCase) -> None:
    """max_loras bounds what samples at the same time, not what is loaded: the rest waits for its turn."""
    policies = [PolicyVersion(f"m{n}", n, str(case.adapters[n % 2])) for n in range(1, 5)]
    for policy in policies:
        await case.engine.load_policy(policy)
    done = await asyncio.gather(*(case.sample(GREEDY, p) for p in policies))
    for completion, policy in zip(done, policies, strict=True):
        assert completion.policy == policy.name
        assert case.error(completion, GREEDY, policy) < TOLERANCE
    for policy in policies:
        await case.engine.unload_policy(policy.name)


async def test_an_adapter_of_too_high_a_rank_is_refused(case: EngineCase, smollm2_dir: Path, tmp_path: Path) -> None:
    path = make_adapter(smollm2_dir, tmp_path / "wide", seed=3, rank=16)
    with pytest.raises(ConfigError, match="rank 16"):
        await case.engine.load_policy(PolicyVersion("wide", 1, str(path)))


async def test_greedy_ids_agree_with_the_transformers_engine(case: EngineCase, smollm2_dir: Path) -> None:
    other = TransformersEngine(str(smollm2_dir), tokenizer=case.engine.tokenizer, dtype="float32")
    await other.start()
    ours, theirs = await case.sample(GREEDY), await EngineCase(other, case.reference, case.adapters).sample(GREEDY)
    await other.close()
    assert ours.token_ids == theirs.token_ids
    assert ours.logprobs == pytest.approx(theirs.logprobs, abs=0.02)


COMMANDS = ("go", "go to", "go to desk 1", "go to desk 10", "look")


def constrained_logprobs(case: EngineCase, completion: Completion) -> list[float]:
    """The judge's logprobs among what continues one of COMMANDS, whatever way it is cut into tokens."""
    import torch

    tokenizer = case.engine.tokenizer
    prompt = case.prompt("Where do you go?")
    logits = case.reference._logits([*prompt, *completion.token_ids], None)
    pieces = [tokenizer.decode([i]) for i in range(logits.shape[-1])]
    judged, done = [], ""
    for n, token in enumerate(completion.token_ids):
        allowed = [i for i, piece in enumerate(pieces) if piece and any(c.startswith(done + piece) for c in COMMANDS)]
        allowed += [tokenizer.end_of_turn_id] * (done in COMMANDS)
        row = torch.full_like(logits[0], -torch.inf)
        row[allowed] = logits[len(prompt) - 1 + n][allowed]
        judged.append(float(row.log_softmax(-1)[token]))
        done += pieces[token]
    return judged


async def test_a_turn_is_held_to_commands_that_begin_alike(case: EngineCase) -> None:
    constraint = choice_constraint(COMMANDS)
    prompt = case.prompt("Where do you go?")
    samplings = [SamplingParams(max_tokens=16, seed=seed, temperature=1.0) for seed in range(5)]
    requests = [GenerationRequest(prompt, s, BASE, constraint=constraint) for s in samplings]
    alone = await case.sample(FREE)
    *held, free = await asyncio.gather(*map(case.engine.generate, requests), case.sample(FREE))
    said = [case.engine.tokenizer.decode(c.token_ids) for c in held]
    assert {text.removesuffix("<|im_end|>") for text in said} <= set(COMMANDS)
    assert all(c.finish_reason is FinishReason.STOP for c in held)
    # The logprobs are those of the constrained distribution, to the end-of-turn token.
    for completion in held:
        assert completion.logprobs == pytest.approx(constrained_logprobs(case, completion), abs=TOLERANCE)
    # A free turn in the same batch is as free as it was alone.
    assert case.error(free, FREE) < TOLERANCE
    assert free.token_ids == alone.token_ids


async def test_a_turn_is_held_to_the_tools_schemas(case: EngineCase) -> None:
    prompt = case.prompt("How many rows are there?")
    constraint = tool_constraint(DBBENCH.tools)
    requests = [
        GenerationRequest(prompt, SamplingParams(max_tokens=40, seed=seed, top_k=2), BASE, constraint=constraint)
        for seed in range(4)
    ]
    for completion in await asyncio.gather(*map(case.engine.generate, requests)):
        text = case.engine.tokenizer.decode(completion.token_ids).removesuffix("<|im_end|>")
        # Cut at max_tokens or not: the frame and a tool's name are there.
        heads = [f'<tool_call>\n{{"name": "{tool.name}", "arguments": {{' for tool in DBBENCH.tools]
        assert any(text.startswith(head) or head.startswith(text) for head in heads)
        assert len(text) > len('<tool_call>\n{"name": ')
        if completion.finish_reason is FinishReason.STOP:
            (call,) = parse_tool_calls(text)
            (tool,) = (tool for tool in DBBENCH.tools if tool.name == call.name)
            assert call.arguments is not None
            assert list(call.arguments) == list(tool.parameters["properties"])


async def test_a_turn_whose_time_is_over_answers_what_it_has_sampled(case: EngineCase) -> None:
    llm = case.engine._llm  # type: ignore[attr-defined]
    endless = Constraint(Constrain.TOOLS, "root ::= [a-z ]{5000,6000}\n")  # so that no end-of-turn token can come
    sampling = SamplingParams(max_tokens=900, seed=1)
    request = GenerationRequest(case.prompt(), sampling, BASE, constraint=endless, time_limit_s=0.5)
    cut = await case.engine.generate(request)
    assert cut.finish_reason is FinishReason.TIME
    assert len(cut.token_ids) < 900
    assert llm.get_num_unfinished_requests() == 0
    # The same without the clock samples the same: what came in time is a part of it.
    whole = replace(request, sampling=replace(sampling, max_tokens=max(1, len(cut.token_ids))), time_limit_s=600.0)
    again = await case.engine.generate(whole)
    assert again.finish_reason is FinishReason.LENGTH
    assert again.token_ids[: len(cut.token_ids)] == cut.token_ids
    nothing = await case.engine.generate(replace(request, time_limit_s=0.0))
    assert (nothing.finish_reason, llm.get_num_unfinished_requests()) == (FinishReason.TIME, 0)


async def test_an_engine_without_a_tokenizer_of_its_own_refuses_a_constraint(case: EngineCase) -> None:
    request = GenerationRequest(case.prompt(), GREEDY, BASE, constraint=choice_constraint(COMMANDS))
    case.engine.constrains = False  # type: ignore[attr-defined]
    try:
        with pytest.raises(InvalidOption, match="constraints = true"):
            await case.engine.generate(request)
    finally:
        case.engine.constrains = True  # type: ignore[attr-defined]


@pytest.mark.slow
async def test_seeded_prompts_that_exceed_one_batch_together(case: EngineCase) -> None:
    """vLLM 0.31 prefills such prompts in parts by default, and its engine dies of it on a CPU."""
    prompts = [tuple(range(1000 + k, 1800 + k)) for k in range(6)]
    requests = [
        GenerationRequest(p, SamplingParams(max_tokens=2, seed=k), PolicyVersion()) for k, p in enumerate(prompts)
    ]
    assert sum(map(len, prompts)) > 4096
    completions = await asyncio.gather(*map(case.engine.generate, requests))
    assert [len(c.token_ids) for c in completions] == [2] * len(prompts)


async def test_throughput_counts_what_was_sampled(case: EngineCase) -> None:
    figures = await measure_throughput(case.engine, sequences=4, prompt_tokens=32, new_tokens=8)
    assert 4 <= figures["sampled_tokens"] <= 32
    assert figures["tokens_per_s"] == pytest.approx(figures["sampled_tokens"] / figures["wall_s"])
    assert 0 < figures["latency_p50_s"] <= figures["latency_p95_s"] <= figures["wall_s"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Unclosed context:ResourceWarning")  # vLLM's own, when its start is cut short
async def test_a_start_that_is_cancelled_leaves_nothing(vllm_imported: None, smollm2_dir: Path) -> None:
    before, known = children(), set(multiprocessing.active_children())
    engine = VllmEngine(str(smollm2_dir), max_model_len=256, max_num_seqs=2, max_lora_rank=0)
    starting = asyncio.create_task(engine.start())
    while set(multiprocessing.active_children()) <= known and not starting.done():  # noqa: ASYNC110 - a process tells nobody
        await asyncio.sleep(0.05)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await engine.close()
    gc.collect()
    assert children() == before
