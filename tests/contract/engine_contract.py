"""What every engine that runs a model must do. Give an ``EngineCase`` to each of ``ENGINE_CHECKS``.

The judge is a plain float32 forward pass of transformers (with PEFT for adapters): an engine's logprobs must be those
of the distribution that its sampling parameters describe.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from envs.errors import ConfigError, InvalidOption, UnknownPolicy
from rollout_server.engines.base import Engine, GenerationRequest
from rollout_server.types import Completion, FinishReason, PolicyVersion, SamplingParams

__all__ = ["BASE", "ENGINE_CHECKS", "EngineCase", "Reference", "make_adapter"]

BASE = PolicyVersion()
GREEDY = SamplingParams(temperature=0.0, max_tokens=16)
FREE = SamplingParams(temperature=1.0, max_tokens=16, seed=11)
TOLERANCE = 0.05  # mean absolute difference of a token's logprob, in nats: bf16 against float32


class Reference:
    """Scores completions with a float32 forward pass."""

    def __init__(self, model: Path) -> None:
        self._model = model
        self._adapters: dict[str, str] = {}
        self._peft: Any = None

    @cached_property
    def _net(self) -> Any:
        import torch
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_pretrained(self._model, dtype=torch.float32).eval()

    def _logits(self, ids: list[int], adapter: str | None) -> Any:
        import torch
        from peft import PeftModel

        with torch.inference_mode():
            if adapter is None and self._peft is None:
                return self._net(torch.tensor([ids])).logits[0]
            if adapter is None:
                with self._peft.disable_adapter():
                    return self._peft(input_ids=torch.tensor([ids])).logits[0]
            if adapter not in self._adapters:
                name = f"a{len(self._adapters)}"
                if self._peft is None:
                    self._peft = PeftModel.from_pretrained(self._net, adapter, adapter_name=name).eval()
                else:
                    self._peft.load_adapter(adapter, adapter_name=name)
                self._adapters[adapter] = name
            self._peft.set_adapter(self._adapters[adapter])
            return self._peft(input_ids=torch.tensor([ids])).logits[0]

    def score(
        self, prompt: tuple[int, ...], ids: tuple[int, ...], sampling: SamplingParams, policy: PolicyVersion = BASE
    ) -> list[float]:
        """The logprob of each of ``ids`` after ``prompt``, under the sampling's own distribution."""
        from rollout_server.engines.sampling import processed_logprobs

        logits = self._logits([*prompt, *ids], policy.adapter_path)
        out = []
        for n, token in enumerate(ids):
            row = logits[len(prompt) - 1 + n]
            out.append(float(processed_logprobs(row, sampling, (*prompt, *ids[:n]))[token]))
        return out


def make_adapter(model: Path, target: Path, *, seed: int, rank: int = 8, scale: float = 0.08) -> Path:
    """A LoRA adapter whose random weights are large enough to change what the model says."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    net = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
    modules = ["q_proj", "k_proj", "v_proj", "o_proj", "down_proj"]
    peft = get_peft_model(net, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=modules))
    for name, weight in peft.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=scale)
    peft.save_pretrained(target)
    return target


@dataclass(frozen=True)
class EngineCase:
    """An engine that was started, its judge, and two adapters of rank 8 for its model."""

    engine: Engine
    reference: Reference
    adapters: tuple[Path, Path]

    def prompt(self, question: str = "What is the capital of France?") -> tuple[int, ...]:
        encode = self.engine.tokenizer.encode
        text = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
        return tuple(encode(text, markup=True))

    async def sample(
        self, sampling: SamplingParams, policy: PolicyVersion = BASE, question: str = "What is the capital of France?"
    ) -> Completion:
        return await self.engine.generate(GenerationRequest(self.prompt(question), sampling, policy))

    def error(
        self,
        completion: Completion,
        sampling: SamplingParams,
        policy: PolicyVersion = BASE,
        question: str = "What is the capital of France?",
    ) -> float:
        """Mean absolute difference to the judge's logprobs.

        Tokens at the very edge of a cut may fall on its other side.
        """
        judged = self.reference.score(self.prompt(question), completion.token_ids, sampling, policy)
        pairs = [(a, b) for a, b in zip(completion.logprobs, judged, strict=True) if b > -1e9]
        assert len(pairs) >= 0.9 * len(judged)
        return sum(abs(a - b) for a, b in pairs) / len(pairs)


async def check_greedy_answer_and_end_of_turn(case: EngineCase) -> None:
    done = await case.sample(GREEDY)
    assert "Paris" in case.engine.tokenizer.decode(done.token_ids)
    assert done.finish_reason is FinishReason.STOP
    assert done.token_ids[-1] == case.engine.tokenizer.end_of_turn_id
    assert case.engine.tokenizer.end_of_turn_id not in done.token_ids[:-1]
    assert done.policy == "base"
    assert case.error(done, GREEDY) < TOLERANCE


async def check_cut_at_max_tokens(case: EngineCase) -> None:
    cut = await case.sample(replace(GREEDY, max_tokens=3))
    whole = await case.sample(GREEDY)
    assert cut.finish_reason is FinishReason.LENGTH
    assert cut.token_ids == whole.token_ids[:3]


async def check_logprobs_are_of_the_sampled_distribution(case: EngineCase) -> None:
    question = "Tell me a story about a mug and a fridge."
    samplings = (
        FREE,
        replace(FREE, temperature=0.6),
        replace(FREE, top_k=8),
        replace(FREE, top_p=0.8),
        replace(FREE, min_p=0.1),
        replace(FREE, repetition_penalty=1.3),
        replace(FREE, temperature=1.2, top_k=50, top_p=0.9, min_p=0.02),
        GREEDY,
    )
    # All in one batch: what one asks for must not leak into another.
    done = await asyncio.gather(*(case.sample(sampling, question=question) for sampling in samplings))
    for completion, sampling in zip(done, samplings, strict=True):
        assert len(completion.token_ids) == len(completion.logprobs) > 0
        assert case.error(completion, sampling, question=question) < TOLERANCE, sampling


async def check_top_1_is_certain(case: EngineCase) -> None:
    sure = await case.sample(replace(FREE, top_k=1))
    assert max(map(abs, sure.logprobs)) < 1e-3
    assert sure.token_ids == (await case.sample(GREEDY)).token_ids


async def check_seeds(case: EngineCase) -> None:
    seeds = (11, 11, 12, None, None)
    samplings = [replace(FREE, seed=seed) for seed in seeds]
    done = await asyncio.gather(*(case.sample(s, question="Write any sentence.") for s in samplings))
    same, again, other, fresh, fresher = (completion.token_ids for completion in done)
    assert same == again
    assert len({same, other, fresh, fresher}) == 4


async def check_many_at_once(case: EngineCase) -> None:
    questions = [f"Count to {n}." + " Please do." * n for n in range(6)]
    samplings = [replace(FREE, seed=n, max_tokens=4 + 3 * n) for n in range(5)] + [replace(GREEDY, max_tokens=8)]
    done = await asyncio.gather(
        *(case.sample(s, question=q) for q, s in zip(questions, samplings, strict=True)),
    )
    for completion, question, sampling in zip(done, questions, samplings, strict=True):
        assert len(completion.token_ids) <= sampling.max_tokens
        assert case.error(completion, sampling, question=question) < TOLERANCE


async def check_cancelling(case: EngineCase) -> None:
    before = await case.sample(GREEDY)
    # An end-of-turn token cannot come: only cancelling ends this within the test.
    long = asyncio.create_task(case.sample(replace(FREE, max_tokens=1000), question="Write a very long novel."))
    short = asyncio.create_task(case.sample(replace(GREEDY, max_tokens=2)))
    await short
    long.cancel()
    with pytest.raises(asyncio.CancelledError):
        await long
    assert (await case.sample(GREEDY)).token_ids == before.token_ids


async def check_refusals(case: EngineCase) -> None:
    limit: int = case.engine.max_model_len  # type: ignore[attr-defined]
    too_long = GenerationRequest((5,) * limit, GREEDY, BASE)
    with pytest.raises(InvalidOption, match="context"):
        await case.engine.generate(too_long)
    room_for_two = GenerationRequest((*case.prompt(), *(9,) * limit)[: limit - 2], GREEDY, BASE)
    assert 0 < len((await case.engine.generate(room_for_two)).token_ids) <= 2
    with pytest.raises(UnknownPolicy):
        await case.sample(GREEDY, PolicyVersion("never-loaded", 9, str(case.adapters[0])))
    with pytest.raises(ConfigError):
        await case.engine.load_policy(PolicyVersion("broken", 9, str(case.adapters[0] / "nothing")))
    await case.engine.unload_policy("never-loaded")


async def check_adapters_swap(case: EngineCase) -> None:
    first = PolicyVersion("v1.0", 1, str(case.adapters[0]))
    second = PolicyVersion("v2.0", 2, str(case.adapters[1]))
    question = "Tell me about apples."
    before = await case.sample(GREEDY, question=question)

    await case.engine.load_policy(first)
    swapped = await case.sample(GREEDY, first, question)
    assert swapped.policy == "v1.0"
    assert case.error(swapped, GREEDY, first, question) < TOLERANCE
    assert case.error(swapped, GREEDY, BASE, question) > 2 * TOLERANCE, "the adapter changes nothing"

    await case.engine.load_policy(second)
    policies = (BASE, first, second, BASE, second, first)
    samplings = [replace(FREE, seed=n) for n in range(len(policies))]
    mixed = await asyncio.gather(
        *(case.sample(s, p, question) for s, p in zip(samplings, policies, strict=True)),
    )
    for completion, sampling, policy in zip(mixed, samplings, policies, strict=True):
        assert completion.policy == policy.name
        assert case.error(completion, sampling, policy, question) < TOLERANCE

    after = await case.sample(GREEDY, question=question)
    assert after.token_ids == before.token_ids
    assert after.logprobs == pytest.approx(before.logprobs, abs=0.02)

    # An adapter that is unloaded while it samples serves to the end of the turn; then it is unknown.
    running = asyncio.create_task(case.sample(replace(FREE, max_tokens=20), first, question))
    await asyncio.sleep(0)
    await case.engine.unload_policy("v1.0")
    assert case.error(await running, FREE, first, question) < TOLERANCE
    with pytest.raises(UnknownPolicy):
        await case.sample(GREEDY, first)

    # The name of a new version, other weights: nothing of the old one is remembered.
    third = PolicyVersion("v3.0", 3, str(case.adapters[0]))
    await case.engine.load_policy(third)
    again = await case.sample(GREEDY, third, question)
    assert again.token_ids == swapped.token_ids
    for name in ("v2.0", "v3.0"):
        await case.engine.unload_policy(name)
    assert (await case.sample(GREEDY, question=question)).token_ids == before.token_ids


async def check_swap_under_load(case: EngineCase) -> None:
    """Versions come and go while requests are under way: none is lost, and every token is of the version it names."""
    first, second = (PolicyVersion(f"u{n}", n, str(path)) for n, path in enumerate(case.adapters, 1))
    question = "Tell me about a lamp and a desk."
    asked: list[tuple[SamplingParams, PolicyVersion, asyncio.Task[Completion]]] = []

    async def ask(*policies: PolicyVersion) -> None:
        for policy in policies:
            sampling = replace(FREE, seed=len(asked), max_tokens=8)
            asked.append((sampling, policy, asyncio.create_task(case.sample(sampling, policy, question))))
        await asyncio.sleep(0)

    await case.engine.load_policy(first)
    await ask(BASE, first)
    await case.engine.load_policy(second)
    assert not all(task.done() for _, _, task in asked), "nothing was under way"
    await ask(second, BASE)
    await case.engine.unload_policy(first.name)
    await ask(second)
    for sampling, policy, task in asked:
        completion = await task
        assert completion.policy == policy.name
        assert case.error(completion, sampling, policy, question) < TOLERANCE
    with pytest.raises(UnknownPolicy):
        await case.sample(GREEDY, first)
    await case.engine.unload_policy(second.name)


ENGINE_CHECKS: tuple[Callable[[EngineCase], Awaitable[None]], ...] = (
    check_greedy_answer_and_end_of_turn,
    check_cut_at_max_tokens,
    check_logprobs_are_of_the_sampled_distribution,
    check_top_1_is_certain,
    check_seeds,
    check_many_at_once,
    check_cancelling,
    check_refusals,
    check_adapters_swap,
    check_swap_under_load,
)
