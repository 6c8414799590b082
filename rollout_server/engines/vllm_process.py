"""vLLM as a second process that shares one GPU with a trainer, asleep while the trainer works.

The process is vLLM's own OpenAI-compatible server, started and ended here, and spoken to as ``OpenAIEngine`` speaks to
any: ids in, ids and their logprobs out. ``sleep()`` (vLLM's level 1) moves its weights to host memory and gives up the
key-value cache, ``wake()`` takes both back. A CPU build of vLLM cannot sleep: there both do nothing.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import httpx

from envs.errors import BackendUnavailable, ConfigError, TransportError
from rollout_server.engines.base import GenerationRequest, Tokenizer
from rollout_server.engines.openai import OpenAIEngine
from rollout_server.engines.vllm_server import VLLM_COMMAND, VllmServer
from rollout_server.types import Completion, PolicyVersion

__all__ = ["VllmProcessEngine"]

_LOG = logging.getLogger(__name__)
_GIB = 1 << 30
_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM can set aside room for
_CONTROL_S = 300.0  # a 70 GB model moves to the host and back


class VllmProcessEngine:
    """Samples from one model and up to ``max_loras`` adapters in a vLLM process of its own.

    ``gpu_memory_utilization`` is the share of the whole GPU that vLLM has while it is awake: the trainer's weights,
    adapter and optimizer, which stay, must fit beside it. ``sleep`` None sleeps wherever there is CUDA; False never, so
    that both parts must fit at once. ``log_path`` keeps the process's log. ``server_args`` go to vLLM as they are.
    Other options: see ``VllmEngine``. ``command`` replaces vLLM, for tests.

    An adapter that is loaded while vLLM sleeps is written to the GPU when it wakes: there is no room before. A process
    that died is started again by ``start()``, with the adapters that it had.
    """

    name = "vllm_process"
    constrains = True

    def __init__(
        self,
        model: str,
        *,
        tokenizer: Tokenizer | None = None,
        dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto",
        max_model_len: int = 4096,
        max_num_seqs: int = 64,
        enforce_eager: bool | None = None,
        gpu_memory_utilization: float = 0.5,
        kv_cache_gib: float | None = None,
        max_loras: int = 4,
        max_lora_rank: int = 64,
        cpu_threads: str = "auto",
        seed: int | None = None,
        sleep: bool | None = None,
        start_timeout_s: float = 1800.0,
        log_path: str | Path | None = None,
        server_args: Sequence[str] = (),
        command: Sequence[str] | None = None,
    ) -> None:
        if not 0 < gpu_memory_utilization <= 1:
            raise ConfigError(
                f"gpu_memory_utilization is {gpu_memory_utilization}: a share of the GPU, above 0, up to 1"
            )
        if max_lora_rank > _LORA_RANKS[-1]:
            raise ConfigError(f"max_lora_rank {max_lora_rank} is above vLLM's {_LORA_RANKS[-1]}")
        self.model = model
        self.max_model_len = max_model_len
        self.max_lora_rank = max_lora_rank
        self.base_models: tuple[str, ...] = (model,)
        if tokenizer is not None:
            self.tokenizer: Tokenizer = tokenizer
        self._dtype = dtype
        self._max_num_seqs = max_num_seqs
        self._enforce_eager = enforce_eager
        self._gpu_memory_utilization = gpu_memory_utilization
        self._kv_cache_gib = kv_cache_gib
        self._max_loras = max_loras
        self._cpu_threads = cpu_threads
        self._seed = secrets.randbelow(1 << 31) if seed is None else seed
        self._sleep = sleep
        self._start_timeout_s = start_timeout_s
        self._log_path = None if log_path is None else Path(log_path)
        self._server_args = tuple(server_args)
        self._command = tuple(command) if command else VLLM_COMMAND
        self._lock = asyncio.Lock()
        self._server: VllmServer | None = None
        self._engine: OpenAIEngine | None = None
        self._control: httpx.AsyncClient | None = None
        self._can_sleep = False
        self._asleep = False
        self._policies: dict[str, PolicyVersion] = {}  # those that the process has, or will have when it wakes
        self._waiting: dict[str, PolicyVersion] = {}
        self._leaving: set[str] = set()

    @property
    def can_sleep(self) -> bool:
        """Whether ``sleep()`` frees memory. Known after ``start()``."""
        return self._can_sleep

    @property
    def asleep(self) -> bool:
        """Whether it sleeps now: it must ``wake()`` before it can sample."""
        return self._asleep

    @property
    def pid(self) -> int | None:
        """The process, and its group; None where none runs."""
        return self._server.pid if self._server else None

    def arguments(self, *, on_cpu: bool, sleeps: bool) -> list[str]:
        """vLLM's command line, without the address."""
        kv_cache_gib = 1.0 if self._kv_cache_gib is None and on_cpu else self._kv_cache_gib
        eager = on_cpu if self._enforce_eager is None else self._enforce_eager
        out = ["--model", self.model, "--dtype", self._dtype, "--max-model-len", str(self.max_model_len)]
        out += ["--max-num-seqs", str(self._max_num_seqs), "--seed", str(self._seed)]
        out += ["--gpu-memory-utilization", str(self._gpu_memory_utilization)]
        # Logprobs of the distribution that is sampled from; the model's own sampling defaults must not apply.
        out += ["--logprobs-mode", "processed_logprobs", "--generation-config", "vllm", "--enable-prefix-caching"]
        out += ["--disable-uvicorn-access-log", "--disable-log-stats"]
        if kv_cache_gib is not None:
            out += ["--kv-cache-memory-bytes", str(int(kv_cache_gib * _GIB))]
        if eager:
            out.append("--enforce-eager")
        if self.max_lora_rank:
            rank = next(r for r in _LORA_RANKS if r >= self.max_lora_rank)
            out += ["--enable-lora", "--max-loras", str(self._max_loras), "--max-lora-rank", str(rank)]
        if on_cpu:  # see VllmEngine: prompts that are prefilled in parts end its engine there
            out += ["--no-enable-chunked-prefill", "--max-num-batched-tokens", str(max(4096, self.max_model_len))]
        if sleeps:
            out.append("--enable-sleep-mode")
        return [*out, *self._server_args]

    async def start(self) -> None:
        """Start the process and load the model; idempotent. Raises: ConfigError, BackendUnavailable, TransportError."""
        async with self._lock:
            if self._server is not None and self._server.alive:
                return
            lost = dict(self._policies)
            if self._server is not None:
                _LOG.warning("the vLLM process has died and is started again: %s", self._server.last_words())
                await self._end()
            try:
                await self._begin()
                for policy in lost.values():
                    await self._load(policy)
            except BaseException:
                await self._end()
                raise

    async def _begin(self) -> None:
        on_cpu = not await asyncio.to_thread(_has_cuda)
        sleeps = not on_cpu if self._sleep is None else self._sleep
        if sleeps and on_cpu and self._command == VLLM_COMMAND:
            raise ConfigError(
                "vLLM sleeps on CUDA alone, and there is no CUDA device", hint="leave the option sleep out"
            )
        if not sleeps and self._sleep is None:
            _LOG.warning("vLLM has no sleep mode on a CPU: it keeps its memory while the trainer works")
        server = self._server = VllmServer(
            self.arguments(on_cpu=on_cpu, sleeps=sleeps), command=self._command, log=self._log_path
        )
        # As the engine in this process: "auto" is vLLM's own choice, "all" every core.
        binding = None if self._cpu_threads == "auto" else self._cpu_threads
        await server.start(sleeps=sleeps, binding=binding if on_cpu else None, timeout_s=self._start_timeout_s)
        engine = self._engine = OpenAIEngine(
            "http://vllm",
            self.model,
            tokenizer=getattr(self, "tokenizer", None),
            # vLLM on CPU mixes up requests with and without an adapter: they never meet there.
            base_apart=on_cpu and bool(self.max_lora_rank),
            retries=1,  # who does not answer here has died
            transport=server.transport(),
        )
        await engine.start()
        self.tokenizer = engine.tokenizer
        self.base_models = engine.base_models
        self._control = httpx.AsyncClient(transport=server.transport(), base_url="http://vllm", timeout=_CONTROL_S)
        self._can_sleep, self._asleep = sleeps, False

    async def generate(self, request: GenerationRequest) -> Completion:
        """Sample one turn; see ``Engine.generate``. Raises BackendUnavailable while it sleeps."""
        engine = self._running()
        if self._asleep:
            raise BackendUnavailable("the vLLM process is asleep", hint="wake() it before episodes are played")
        try:
            return await engine.generate(request)
        except TransportError as error:
            if self._server is not None and not self._server.alive:
                raise BackendUnavailable(f"the vLLM process has died: {self._server.last_words()}") from error
            raise

    async def load_policy(self, policy: PolicyVersion) -> None:
        """Load a LoRA adapter, at once or, while it sleeps, when it wakes. Raises: ConfigError; BackendUnavailable."""
        self._running()
        if policy.adapter_path is None or policy.name in self._policies:
            return
        if not self.max_lora_rank:
            raise BackendUnavailable("this engine was started without adapters", hint="set max_lora_rank above 0")
        async with self._lock:
            if self._asleep:
                self._waiting[policy.name] = self._policies[policy.name] = policy
            else:
                await self._load(policy)

    async def _load(self, policy: PolicyVersion) -> None:
        await self._running().load_policy(policy)
        self._policies[policy.name] = policy

    async def unload_policy(self, name: str) -> None:
        """Forget an adapter, at once or, while it sleeps, when it wakes. Unknown names are ignored."""
        known = self._policies.pop(name, None)
        if known is None or self._waiting.pop(name, None) is not None or self._engine is None:
            return
        if self._asleep:
            self._leaving.add(name)
        else:
            await self._engine.unload_policy(name)

    async def sleep(self) -> None:
        """Give the GPU's memory to others. What is being sampled is aborted. Idempotent; nothing where it cannot, or
        where the process has died: that gave its memory up, and ``start()`` tells. Raises: BackendUnavailable.
        """
        async with self._lock:
            if self._can_sleep and not self._asleep and self._server is not None and self._server.alive:
                await self._post("/sleep", level="1")
                self._asleep = True

    async def wake(self) -> None:
        """Take the memory back, forget cached prefixes, and load the adapters that wait. Idempotent.

        Raises: BackendUnavailable (with the log's end) where the memory is not there; ConfigError and TransportError
        where an adapter cannot be loaded.
        """
        async with self._lock:
            if not self._asleep:
                return
            await self._post("/wake_up")
            await self._post("/reset_prefix_cache")  # its blocks were given up with the cache
            self._asleep = False
            while self._leaving:
                await self._running().unload_policy(self._leaving.pop())
            while self._waiting:
                name = next(iter(self._waiting))
                await self._running().load_policy(self._waiting[name])
                del self._waiting[name]

    async def _post(self, path: str, **query: str) -> None:
        self._running()
        if self._control is None or self._server is None:
            raise BackendUnavailable("the vLLM process is not running", hint="call start() first")
        try:
            response = await self._control.post(path, params=query)
        except httpx.HTTPError as error:
            raise BackendUnavailable(
                f"the vLLM process does not answer {path} ({type(error).__name__}): {self._server.last_words()}"
            ) from error
        if response.is_error:
            raise BackendUnavailable(
                f"the vLLM process answered {path} with HTTP {response.status_code}: {self._server.last_words()}",
                hint="often memory: lower gpu_memory_utilization, or what the trainer keeps on the GPU",
            )

    def _running(self) -> OpenAIEngine:
        if self._engine is None:
            raise BackendUnavailable("the vLLM process is not running", hint="call start() first")
        return self._engine

    async def close(self) -> None:
        """End the process and everything that it started. Idempotent."""
        async with self._lock:
            await self._end()

    async def _end(self) -> None:
        self._can_sleep = self._asleep = False
        self._policies.clear()
        self._waiting.clear()
        self._leaving.clear()
        control, self._control = self._control, None
        engine, self._engine = self._engine, None
        server, self._server = self._server, None
        if control is not None:
            await control.aclose()
        if server is not None:
            await server.stop()  # before the engine: adapters need not be unloaded from a process that ends
        if engine is not None:
            await engine.disconnect()


def _has_cuda() -> bool:
    """Whether vLLM's process will find a GPU. Makes no context on it."""
    import torch

    return torch.cuda.is_available()
