"""Sampling with transformers and PEFT: slower than vLLM, but it runs wherever torch does, and its every step is in the
open.

Requests of the same policy are sampled together, a token each a step; one that comes joins at the next step and one
that has ended leaves at once. Keys and values stay from one turn of an episode to the next (``KvPool``), so that a turn
costs its new tokens alone. All of the model's work is done in one thread of its own, so that the event loop never waits
for it.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from envs.errors import BackendUnavailable, ConfigError, InvalidOption, UnknownPolicy
from rollout_server.engines.adapters import check_adapter
from rollout_server.engines.base import GenerationRequest, Tokenizer
from rollout_server.engines.kv_pool import KvPool, Piece, Slot
from rollout_server.engines.ragged_attention import use_ragged_attention
from rollout_server.types import Completion, FinishReason, PolicyVersion

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["TransformersEngine"]

_GATHER_S = 0.005  # how long the first request waits for company
_STEP_TOKENS = 8192  # of all requests together in one step: longer prompts are read in several
_LEAD = 48  # a first prompt that begins with as many tokens as another's waits for that one, to copy them


@dataclass(eq=False, slots=True)
class _Job:
    request: GenerationRequest
    adapter: str | None
    room: int
    future: asyncio.Future[Completion]
    prompt: np.ndarray
    slot: Slot | None = None
    generator: Any = None
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    cancelled: bool = False

    def unread(self, most: int) -> list[int]:
        """The next tokens that the model has not read yet."""
        assert self.slot is not None
        at, prompt = self.slot.length, self.request.prompt_ids
        return list(prompt[at : at + most]) or self.ids[at - len(prompt) :]

    @property
    def whole(self) -> int:
        """Tokens in all, sampled ones too."""
        return len(self.prompt) + len(self.ids)


class TransformersEngine:
    """Samples from one model and any number of adapters, up to ``max_batch`` requests of one policy at a time.

    ``device`` None is CUDA where there is one. ``max_lora_rank`` bounds what is accepted, None accepts any.
    ``merge_adapters`` holds each adapter as a copy of all weights with the adapter added: faster where the model is
    small, since an adapter's own multiplications then cost as much as the model's.

    Keys and values of the last ``max_batch`` sequences and a quarter more are kept, as long as the longest of them:
    give it as many as episodes are live at once. Models with another attention than the causal one over all tokens
    (sliding windows, state spaces) are refused.
    """

    name = "transformers"

    def __init__(
        self,
        model: str,
        *,
        tokenizer: Tokenizer | None = None,
        dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto",
        device: str | None = None,
        max_model_len: int = 4096,
        max_batch: int = 16,
        max_lora_rank: int | None = None,
        merge_adapters: bool = False,
    ) -> None:
        self.model = model
        self.max_model_len = max_model_len
        if tokenizer is not None:
            self.tokenizer: Tokenizer = tokenizer
        self._dtype = dtype
        self._device = device
        self._max_batch = max_batch
        self._max_lora_rank = self.max_lora_rank = max_lora_rank
        self.base_models = (model,)
        self._merge = merge_adapters
        self._net: Any = None
        self._peft: Any = None
        self._merged: dict[str, Any] = {}
        self._pool = KvPool(0, max_length=1)
        self.prefill_tokens = 0
        self._thread: ThreadPoolExecutor | None = None
        self._start_lock = asyncio.Lock()
        self._waiting: list[_Job] = []
        self._sampling: list[_Job] = []
        self._pump: asyncio.Task[None] | None = None
        self._adapter_numbers = itertools.count(1)
        self._adapters: dict[str, str] = {}  # policy name -> PEFT's name (which may hold no dots)
        self._in_use: Counter[str] = Counter()
        self._retired: set[str] = set()

    async def start(self) -> None:
        """Load the model. Raises: ConfigError where it cannot be."""
        async with self._start_lock:
            if self._net is not None:
                return
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="transformers-engine")
            try:
                self._net = await self._in_thread(self._load)
            except BaseException:
                self._thread.shutdown(wait=False)
                self._thread = None
                raise

    def _load(self) -> Any:
        try:
            import torch
            from transformers import AutoModelForCausalLM
        except ImportError as error:
            raise ConfigError(
                f"the transformers engine needs {error.name}", hint="install the extra `train`"
            ) from error
        if not hasattr(self, "tokenizer"):
            from rollout_server.tokenizer import HFTokenizer

            self.tokenizer = HFTokenizer(self.model)
        self._device = self._device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = "auto" if self._dtype == "auto" else getattr(torch, self._dtype)
        try:
            net = AutoModelForCausalLM.from_pretrained(self.model, dtype=dtype)
        except (OSError, ValueError) as error:
            raise ConfigError(f"the model {self.model} cannot be loaded: {error}") from error
        limit = getattr(net.config, "max_position_embeddings", None)
        if limit:
            self.max_model_len = min(self.max_model_len, int(limit))
        move: Any = net.to  # its stub is broken
        net = move(self._device).eval()
        self._pool = KvPool(self._max_batch + self._max_batch // 4 + 1, max_length=self.max_model_len)
        use_ragged_attention(net, self.model)
        return net

    async def generate(self, request: GenerationRequest) -> Completion:
        """Sample one turn; see ``Engine.generate``. At temperature 0 the logprobs are those of temperature 1."""
        self._running()
        room = self.max_model_len - len(request.prompt_ids)
        if room < 1 or not request.prompt_ids:
            raise InvalidOption(
                f"a prompt of {len(request.prompt_ids)} tokens does not fit in a context of {self.max_model_len}",
                hint="raise the engine's max_model_len, or end the episode earlier",
            )
        import numpy as np

        with self._adapter(request.policy) as adapter:
            future: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
            prompt = np.asarray(request.prompt_ids, dtype=np.int64)
            job = _Job(request, adapter, min(room, request.sampling.max_tokens), future, prompt)
            self._waiting.append(job)
            if self._pump is None or self._pump.done():
                self._pump = asyncio.create_task(self._run())
            try:
                return await future
            finally:
                job.cancelled = True  # it is left out of the next step

    async def _run(self) -> None:
        """Step until nobody waits. Whatever is raised belongs to those who wait, not to this task."""
        await asyncio.sleep(_GATHER_S)
        while self._drop_ended() or self._waiting:
            batch: list[_Job] = []
            turn = asyncio.ensure_future(self._turn(batch))
            await asyncio.wait([turn])
            if (error := turn.exception()) is not None:
                self._fail(batch or [*self._waiting, *self._sampling], f"the model failed: {error!r}", error)
                self._pool.clear()  # nobody knows how far the step came
                self._waiting, self._sampling = [*self._sampling, *self._waiting], []

    async def _turn(self, batch: list[_Job]) -> None:
        """One step for the policy whose turn it is; ``batch`` is filled with those who take part."""
        adapter = (self._sampling or self._waiting)[0].adapter
        self._admit(adapter)
        batch += [job for job in self._sampling if job.adapter == adapter][: self._max_batch]
        self._sampling = [job for job in self._sampling if job not in batch] + batch  # policies take turns
        await self._in_thread(self._step, batch)

    def _drop_ended(self) -> bool:
        """Answer those who have ended and let their slots go. Whether any goes on."""
        for job in self._sampling:
            if self._ended(job):
                assert job.slot is not None
                self._pool.release(job.slot)
                self._answer(job)
        self._sampling = [job for job in self._sampling if not self._ended(job)]
        self._waiting = [job for job in self._waiting if not job.cancelled]
        return bool(self._sampling)

    def _ended(self, job: _Job) -> bool:
        return job.cancelled or len(job.ids) >= job.room or job.ids[-1:] == [self.tokenizer.end_of_turn_id]

    def _admit(self, adapter: str | None) -> None:
        """Give slots to those who wait for a policy."""
        leads: set[tuple[int, ...]] = set()
        live = sum(job.adapter == adapter for job in self._sampling)
        for job in [job for job in self._waiting if job.adapter == adapter]:
            if live >= self._max_batch:
                return
            lead = job.request.prompt_ids[:_LEAD]
            if lead in leads:
                continue
            slot = self._pool.take(job, adapter, job.prompt)
            if slot is None:
                return
            if slot.length < len(lead):
                leads.add(lead)
            job.slot = slot
            self._waiting.remove(job)
            self._sampling.append(job)
            live += 1

    def _fail(self, jobs: Sequence[_Job], why: str, cause: BaseException | None = None) -> None:
        for job in jobs:
            if not job.future.done():
                failure = BackendUnavailable(why)
                failure.__cause__ = cause
                job.future.set_exception(failure)
            job.cancelled = True

    def _answer(self, job: _Job) -> None:
        if not job.future.done() and not job.cancelled:
            job.future.set_result(self._completion(job))

    def _completion(self, job: _Job) -> Completion:
        stopped = job.ids[-1:] == [self.tokenizer.end_of_turn_id]
        reason = FinishReason.STOP if stopped else FinishReason.LENGTH
        return Completion(tuple(job.ids), tuple(job.logprobs), reason, job.request.policy.name)

    def _step(self, jobs: list[_Job]) -> None:
        """Feed what each request has not fed yet, and sample the next token of those that are read to their end."""
        import torch

        left, fed = _STEP_TOKENS, []
        for job in jobs:
            if left > 0 and job.slot is not None and (ids := job.unread(left)):
                fed.append((job, Piece(job.slot, ids)))
                left -= len(ids)
        fed.sort(key=lambda pair: len(pair[1].ids) > 1)  # single tokens first
        pieces = [piece for _, piece in fed]
        net, plain = self._weights(jobs[0].adapter)
        with torch.inference_mode(), plain:
            batch = self._pool.batch(pieces, self._device)
            out = net(
                input_ids=batch.ids[None],
                position_ids=batch.positions[None],
                use_cache=False,
                logits_to_keep=batch.last,
                ragged=batch,
            )
        self._pool.fed(pieces)
        self.prefill_tokens += sum(len(piece.ids) for piece in pieces) - batch.singles
        read = [i for i, (job, piece) in enumerate(fed) if piece.slot.length == job.whole]
        self._sample([fed[i][0] for i in read], out.logits[0, read])

    def _weights(self, adapter: str | None) -> tuple[Any, Any]:
        """The network that samples for a policy, and the context that it must be called in."""
        if adapter in self._merged:
            return self._merged[adapter], nullcontext()
        if self._peft is None:
            return self._net, nullcontext()
        if adapter is None:
            return self._peft, self._peft.disable_adapter()
        if self._peft.active_adapter != adapter:
            self._peft.set_adapter(adapter)
        return self._peft, nullcontext()

    def _sample(self, jobs: list[_Job], logits: torch.Tensor) -> None:
        """Draw a token for every row of ``logits`` (B, V)."""
        from rollout_server.engines.sampling import sample_rows

        for job in jobs:
            if job.generator is None:
                job.generator = _generator(job.request.sampling.seed)
        drawn = sample_rows(
            logits,
            [job.request.sampling for job in jobs],
            [job.generator for job in jobs],
            seen=lambda row: (*jobs[row].request.prompt_ids, *jobs[row].ids),
        )
        for job, (token, logprob) in zip(jobs, drawn, strict=True):
            job.ids.append(token)
            job.logprobs.append(logprob)

    @contextmanager
    def _adapter(self, policy: PolicyVersion) -> Iterator[str | None]:
        """PEFT's name of a policy's adapter, kept loaded while it is in use. None for the base model."""
        if policy.adapter_path is None:
            yield None
            return
        adapter = self._adapters.get(policy.name)
        if adapter is None:
            raise UnknownPolicy(f"the engine has no policy {policy.name!r} loaded", hint="publish it first")
        self._in_use[adapter] += 1
        try:
            yield adapter
        finally:
            self._in_use[adapter] -= 1
            self._remove_retired()

    async def load_policy(self, policy: PolicyVersion) -> None:
        """Load a LoRA adapter. It waits for the batch under way. Raises: ConfigError where it does not fit."""
        self._running()
        if policy.adapter_path is None or policy.name in self._adapters:
            return
        info = await asyncio.to_thread(check_adapter, Path(policy.adapter_path), max_rank=self._max_lora_rank)
        adapter = f"policy_{next(self._adapter_numbers)}"
        await self._in_thread(self._add_adapter, adapter, info.path)
        self._adapters[policy.name] = adapter

    def _add_adapter(self, adapter: str, path: Path) -> None:
        from peft import PeftModel

        try:
            if self._merge:
                whole = PeftModel.from_pretrained(copy.deepcopy(self._net), str(path), adapter_name=adapter)
                self._merged[adapter] = whole.merge_and_unload().eval()
                return
            if self._peft is None:
                self._peft = PeftModel.from_pretrained(self._net, str(path), adapter_name=adapter)
            else:
                self._peft.load_adapter(str(path), adapter_name=adapter)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ConfigError(f"the adapter {path} does not fit the model {self.model}: {error}") from error
        self._peft.eval()

    async def unload_policy(self, name: str) -> None:
        """Forget an adapter; its memory is freed when the last request that samples from it has ended."""
        adapter = self._adapters.pop(name, None)
        if adapter is not None:
            self._retired.add(adapter)
            self._remove_retired()

    def _remove_retired(self) -> None:
        for adapter in [a for a in self._retired if not self._in_use[a]]:
            self._retired.remove(adapter)
            del self._in_use[adapter]
            if self._thread is not None:
                self._thread.submit(self._delete_adapter, adapter)  # in order, behind the batch under way

    def _delete_adapter(self, adapter: str) -> None:
        self._pool.forget(adapter)
        if self._merged.pop(adapter, None) is not None:
            return
        others = [name for name in self._peft.peft_config if name != adapter]
        if others:
            self._peft.set_adapter(others[0])  # PEFT goes on looking for the active adapter, even a deleted one
            self._peft.delete_adapter(adapter)
        else:  # PEFT cannot be without any
            self._net, self._peft = self._peft.unload(), None

    def _running(self) -> None:
        if self._net is None or self._thread is None:
            raise BackendUnavailable("the transformers engine is not running", hint="call start() first")

    async def _in_thread(self, call: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *args)

    async def close(self) -> None:
        """Stop the sampling under way and free the model. Idempotent."""
        async with self._start_lock:
            self._fail([*self._waiting, *self._sampling], "the engine was closed")
            if self._pump is not None:
                await asyncio.wait([self._pump])
            thread, self._thread = self._thread, None
            if thread is not None:
                await asyncio.to_thread(thread.shutdown)
            self._net = self._peft = None
            self._merged.clear()
            self._pool.clear()
            self._adapters.clear()


def _generator(seed: int | None) -> torch.Generator:
    import torch

    return torch.Generator().manual_seed(secrets.randbits(62) if seed is None else seed)
