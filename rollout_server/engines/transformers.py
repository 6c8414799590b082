"""Sampling with transformers and PEFT: slower than vLLM, but it runs wherever torch does, and its every step is in the
open.

Requests that wait for the same policy are sampled together, left-padded, one token a step with a key-value cache. All
of the model's work is done in one thread of its own, so that the event loop never waits for it.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from envs.errors import BackendUnavailable, ConfigError, InvalidOption, UnknownPolicy
from rollout_server.engines.adapters import check_adapter
from rollout_server.engines.base import GenerationRequest, Tokenizer
from rollout_server.types import Completion, FinishReason, PolicyVersion

if TYPE_CHECKING:
    import torch

__all__ = ["TransformersEngine"]

_GATHER_S = 0.005  # how long the first request waits for company


@dataclass(eq=False, slots=True)
class _Job:
    request: GenerationRequest
    adapter: str | None
    room: int
    future: asyncio.Future[Completion]
    generator: Any = None
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    cancelled: bool = False

    @property
    def ended(self) -> bool:
        return self.cancelled or len(self.ids) >= self.room


class TransformersEngine:
    """Samples from one model and any number of adapters, up to ``max_batch`` requests of one policy at a time.

    ``device`` None is CUDA where there is one. ``max_lora_rank`` bounds what is accepted, None accepts any.
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
        self._net: Any = None
        self._peft: Any = None
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
        return move(self._device).eval()

    async def generate(self, request: GenerationRequest) -> Completion:
        """Sample one turn; see ``Engine.generate``. At temperature 0 the logprobs are those of temperature 1."""
        self._running()
        room = self.max_model_len - len(request.prompt_ids)
        if room < 1 or not request.prompt_ids:
            raise InvalidOption(
                f"a prompt of {len(request.prompt_ids)} tokens does not fit in a context of {self.max_model_len}",
                hint="raise the engine's max_model_len, or end the episode earlier",
            )
        with self._adapter(request.policy) as adapter:
            future: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
            job = _Job(request, adapter, min(room, request.sampling.max_tokens), future)
            self._waiting.append(job)
            if self._pump is None or self._pump.done():
                self._pump = asyncio.create_task(self._run_batches())
            try:
                return await future
            finally:
                job.cancelled = True  # seen by the thread before its next token; without effect after the last

    async def _run_batches(self) -> None:
        while self._waiting:
            await asyncio.sleep(_GATHER_S)
            self._waiting = [j for j in self._waiting if not j.cancelled]
            if not self._waiting:
                return
            first = self._waiting[0]
            batch = [j for j in self._waiting if j.adapter == first.adapter][: self._max_batch]
            self._waiting = [j for j in self._waiting if j not in batch]
            self._sampling = batch
            sampled = asyncio.ensure_future(self._in_thread(self._sample_batch, batch))
            await asyncio.wait([sampled])
            error = sampled.exception()  # whatever torch raised belongs to those who wait, not to this task
            for job in batch:
                if error is None and not job.cancelled:
                    self._answer(job)
                elif not job.future.done():
                    why = "the engine was closed" if error is None else f"the model failed: {error!r}"
                    failure = BackendUnavailable(why)
                    failure.__cause__ = error
                    job.future.set_exception(failure)

    def _answer(self, job: _Job) -> None:
        if not job.future.done() and not job.cancelled:
            job.future.set_result(self._completion(job))

    def _completion(self, job: _Job) -> Completion:
        stopped = job.ids[-1:] == [self.tokenizer.end_of_turn_id]
        reason = FinishReason.STOP if stopped else FinishReason.LENGTH
        return Completion(tuple(job.ids), tuple(job.logprobs), reason, job.request.policy.name)

    def _sample_batch(self, jobs: list[_Job]) -> None:
        import torch
        from transformers import DynamicCache

        net, adapter = self._peft or self._net, jobs[0].adapter
        if adapter is not None:
            self._peft.set_adapter(adapter)
        for job in jobs:
            seed = job.request.sampling.seed
            job.generator = torch.Generator().manual_seed(secrets.randbits(62) if seed is None else seed)
        plain = nullcontext() if adapter is not None or self._peft is None else self._peft.disable_adapter()
        with torch.inference_mode(), plain:
            ids, mask = self._padded(jobs)
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            cache = DynamicCache(config=self._net.config)
            while jobs:
                out = net(
                    input_ids=ids,
                    attention_mask=mask,
                    position_ids=positions,
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                )
                kept = self._sample_step(jobs, out.logits[:, -1])
                if len(kept) < len(jobs):
                    jobs = [jobs[row] for row in kept]
                    if not jobs:
                        return
                    rows = torch.tensor(kept, device=ids.device)
                    cache.batch_select_indices(rows)
                    mask, positions = mask[rows], positions[rows]
                ids = torch.tensor([[job.ids[-1]] for job in jobs], device=mask.device)
                mask = torch.cat([mask, mask.new_ones(len(jobs), 1)], dim=-1)
                positions = positions[:, -1:] + 1

    def _padded(self, jobs: list[_Job]) -> tuple[torch.Tensor, torch.Tensor]:
        """Prompts padded on the left to one length, and the mask of what is real, both of shape (B, T)."""
        import torch

        prompts = [list(job.request.prompt_ids) for job in jobs]
        width = max(map(len, prompts))
        ids = [[0] * (width - len(p)) + p for p in prompts]
        mask = [[0] * (width - len(p)) + [1] * len(p) for p in prompts]
        return torch.tensor(ids, device=self._device), torch.tensor(mask, device=self._device)

    def _sample_step(self, jobs: list[_Job], logits: torch.Tensor) -> list[int]:
        """Draw a token for every row of ``logits`` (B, V); answers the rows that go on."""
        from rollout_server.engines.sampling import processed_logprobs, sample_row

        going_on = []
        for row, job in enumerate(jobs):
            sampling = job.request.sampling
            if job.ended:
                continue
            seen = (*job.request.prompt_ids, *job.ids) if sampling.repetition_penalty != 1.0 else ()
            logprobs = processed_logprobs(logits[row], sampling, seen)
            token = sample_row(logprobs, sampling, job.generator)
            job.ids.append(token)
            job.logprobs.append(float(logprobs[token]))
            if token != self.tokenizer.end_of_turn_id and not job.ended:
                going_on.append(row)
            else:  # who asked need not wait for the rest of the batch
                job.future.get_loop().call_soon_threadsafe(self._answer, job)
        return going_on

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
            for job in [*self._waiting, *self._sampling]:
                job.cancelled = True
                if job in self._waiting and not job.future.done():
                    job.future.set_exception(BackendUnavailable("the engine was closed"))
            if self._pump is not None:
                await asyncio.wait([self._pump])
            thread, self._thread = self._thread, None
            if thread is not None:
                await asyncio.to_thread(thread.shutdown)
            self._net = self._peft = None
            self._adapters.clear()
