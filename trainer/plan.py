"""Does a recipe fit a GPU? Memory by part, a yes or a no, and the smallest change that makes it a yes.

Arithmetic only. The trainer's part is ``trainer.memory``; here come the engine beside it, what CUDA takes for itself,
and the search through changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from envs.errors import ConfigError
from trainer.config import TrainConfig
from trainer.gpus import GIB, GPUS, Gpu
from trainer.memory import Job, StepMemory, step_memory
from trainer.model_shapes import ModelShape, model_shape

__all__ = ["RECIPES", "EngineShare", "Fit", "Part", "Plan", "Setup", "fit_of", "make_plan", "setup_of"]

RECIPES = ("sft", "grpo", "dpo", "kto", "ppo")
_IN_THE_LOOP = ("grpo", "ppo")
_CONTEXT = int(0.5 * GIB)  # a process's CUDA context and its libraries' work buffers
_FRAGMENTS = 0.06  # share of what comes and goes that torch's caching allocator cannot use again
_ENGINE_WORK = int(1.5 * GIB)  # vLLM's own context, its profiled activations and its CUDA graphs
_ENGINE_ASLEEP = int(1.25 * GIB)  # what of that stays while it sleeps (level 1): context and graphs
_DEFAULT_SHARE = 0.9  # VllmEngine's gpu_memory_utilization
_DEFAULT_LORAS = 4
_LEAST_CONTEXT = 1024


@dataclass(frozen=True, slots=True)
class EngineShare:
    """A rollout engine on the trainer's GPU. ``share``: of the GPU's memory, as ``gpu_memory_utilization``; ``sleeps``:
    whether it gives its weights and cache up while the trainer works; ``tokens``: the longest episode."""

    share: float
    sleeps: bool
    tokens: int
    max_loras: int = _DEFAULT_LORAS


@dataclass(frozen=True, slots=True)
class Setup:
    """A recipe on a GPU, in the numbers that memory depends on. ``engine`` None: episodes come from elsewhere."""

    shape: ModelShape
    gpu: Gpu
    job: Job
    engine: EngineShare | None
    dtype: str


@dataclass(frozen=True, slots=True)
class Part:
    """A line of the table."""

    name: str
    bytes: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether a setup fits. ``need`` and ``parts`` are those of the fullest moment; ``obstacles`` have nothing to do
    with memory. ``cache_tokens``: what the engine's key-value cache holds, None without an engine."""

    parts: tuple[Part, ...]
    need: int
    memory: int
    moment: str
    obstacles: tuple[str, ...]
    cache_tokens: int | None

    @property
    def fits(self) -> bool:
        """Whether it can run."""
        return self.need <= self.memory and not self.obstacles


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer. ``changes``: settings that make it fit, empty where it does or none help; ``changed``: the fit with
    them; ``gpus``: which of the known GPUs hold the recipe as it is."""

    setup: Setup
    fit: Fit
    changes: tuple[str, ...]
    changed: Fit | None
    gpus: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The plan as a JSON document; sizes in bytes."""
        return {
            "schema": "envloop.plan/1",
            "model": self.setup.shape.name,
            "parameters": self.setup.shape.parameters,
            "recipe": self.setup.job.recipe,
            "gpu": self.setup.gpu.name,
            "context": self.setup.job.tokens,
            "dtype": self.setup.dtype,
            "fits": self.fit.fits,
            "need": self.fit.need,
            "memory": self.fit.memory,
            "moment": self.fit.moment,
            "parts": {p.name: p.bytes for p in self.fit.parts},
            "cache_tokens": self.fit.cache_tokens,
            "obstacles": list(self.fit.obstacles),
            "changes": list(self.changes),
            "need_with_changes": None if self.changed is None else self.changed.need,
            "fits_unchanged_on": list(self.gpus),
        }


def setup_of(config: TrainConfig, gpu: Gpu, *, recipe: str | None = None, trained: float = 1.0) -> Setup:
    """The numbers of a recipe. ``recipe`` None takes the configuration's own.

    ``trained`` is the share of a row's tokens that the policy wrote; 1 plans for the worst.
    Raises ConfigError for a model or recipe that is not known.
    """
    kind = recipe or config.recipe
    if kind not in RECIPES:
        raise ConfigError(f"no recipe is called {kind!r}", hint=f"known: {', '.join(RECIPES)}")
    shape = model_shape(config.model.name)
    dtype = gpu.dtype if config.model.dtype == "auto" else config.model.dtype
    in_the_loop = kind in _IN_THE_LOOP
    section: Any = getattr(config, "grpo" if in_the_loop else kind, None)
    micro = int(getattr(section, "micro_batch", 2 if kind == "kto" else 1))
    r = config.rollout
    batch = r.group_size * r.groups_per_step if in_the_loop else int(getattr(section, "effective_batch", 16))
    tokens = r.max_episode_tokens if in_the_loop else int(getattr(section, "max_length", 4096))
    reference = config.grpo.beta > 0 if in_the_loop else kind in ("dpo", "kto")
    job = Job(
        recipe=kind,
        tokens=tokens,
        micro_batch=micro,
        accumulation=max(1, batch // micro),
        lora_rank=None if config.lora.full else config.lora.r,
        targets=config.lora.targets,
        four_bit=config.lora.qlora,
        weight_bytes=4 if dtype == "float32" else 2,
        autocast=dtype != "float32",
        checkpointing=config.model.gradient_checkpointing,
        attention="sdpa" if config.model.attention == "auto" else config.model.attention,
        padded=in_the_loop or micro > 1 or kind == "dpo",
        reference=reference,
        reference_adapter=reference and config.lora.init_adapter is not None,
        liger=config.model.liger == "on",
        trained=trained,
    )
    return Setup(shape, gpu, job, _engine(config) if in_the_loop else None, dtype)


def _engine(config: TrainConfig) -> EngineShare | None:
    r, options = config.rollout, config.rollout.engine_options
    if r.url is not None or not str(r.engine).startswith("vllm"):
        return None
    sleeps = r.engine != "vllm" and options.get("sleep") is not False
    share = float(options.get("gpu_memory_utilization", _DEFAULT_SHARE))
    return EngineShare(share, sleeps, r.max_episode_tokens, int(options.get("max_loras", _DEFAULT_LORAS)))


def fit_of(setup: Setup) -> Fit:
    """Whether a setup fits, and its memory by part."""
    step = step_memory(setup.shape, setup.job)
    spare = _CONTEXT + int(_FRAGMENTS * (step.total - step.weights))
    parts = _trainer_parts(setup, step, spare)
    moment, cache = step.moment, None
    obstacles = _obstacles(setup)
    engine = setup.engine
    if engine is not None:
        taken = int(engine.share * setup.gpu.memory)
        fixed = _engine_fixed(setup)
        cache = max(0, taken - fixed) // _cache_bytes(setup)
        if cache < engine.tokens:
            least = (fixed + engine.tokens * _cache_bytes(setup)) / setup.gpu.memory
            obstacles.append(
                f"the engine's share of {engine.share:g} holds no episode of {engine.tokens} tokens: "
                f"it needs {least:.2f}"
            )
        held = _ENGINE_ASLEEP if engine.sleeps else taken
        playing = _CONTEXT + step.resident + taken
        if engine.sleeps and playing > sum(p.bytes for p in parts) + held:
            parts = _resident_parts(setup, step)
            held, moment = taken, "while episodes are played"
        parts += _engine_parts(setup, held, taken, fixed)
    need = sum(p.bytes for p in parts)
    return Fit(tuple(parts), need, setup.gpu.memory, moment, tuple(obstacles), cache)


def make_plan(setup: Setup) -> Plan:
    """The answer for a setup: whether it fits, and else the change that costs least and makes it."""
    fit = fit_of(setup)
    unchanged = tuple(gpu.name for gpu in GPUS.values() if fit_of(replace(setup, gpu=gpu)).fits)
    if fit.fits:
        return Plan(setup, fit, (), None, unchanged)
    best: tuple[float, tuple[str, ...], Fit] | None = None
    for cost, changes, other in _changed(setup):
        if (best is None or cost < best[0]) and (tried := fit_of(other)).fits:
            best = cost, changes, tried
    if best is None:
        return Plan(setup, fit, (), None, unchanged)
    return Plan(setup, fit, best[1], best[2], unchanged)


def _trainer_parts(setup: Setup, step: StepMemory, spare: int) -> list[Part]:
    job, shape = setup.job, setup.shape
    what = "4-bit NF4; embedding, head and norms in 16 bits" if job.four_bit else setup.dtype
    rows = f"{job.rows} x {job.tokens} tokens"
    return [
        Part("weights", step.weights, f"{shape.parameters / 1e9:.2f} billion, {what}"),
        Part("adapter", step.adapter, "" if job.full else f"LoRA rank {job.lora_rank}, float32, and 16-bit copies"),
        Part("gradients", step.gradients),
        Part("optimizer", step.optimizer, "AdamW: two states for each trained weight"),
        Part("activations", step.activations, f"{rows}, {'with' if job.checkpointing else 'without'} checkpointing"),
        Part("logits", step.logits, "tiles of the fused head" if step.logits else "not at the fullest moment"),
        Part("layer at work", step.work, "gradients and intermediate results of one layer"),
        Part("CUDA and fragments", spare, "context of the process, unusable gaps"),
    ]


def _resident_parts(setup: Setup, step: StepMemory) -> list[Part]:
    parts = _trainer_parts(setup, step, _CONTEXT)
    kept = ("weights", "adapter", "optimizer", "CUDA and fragments")
    return [p if p.name in kept else Part(p.name, 0, "not while episodes are played") for p in parts]


def _engine_parts(setup: Setup, held: int, taken: int, fixed: int) -> list[Part]:
    assert setup.engine is not None
    if held != taken:
        return [Part("engine, asleep", held, "weights on the host, no cache")]
    weights = setup.shape.parameters * setup.job.weight_bytes
    cache = max(0, taken - fixed)
    return [
        Part("engine's weights", weights, setup.dtype),
        Part("engine's KV cache", cache, f"{cache // _cache_bytes(setup)} tokens"),
        Part("engine's rest", taken - weights - cache, f"a share of {setup.engine.share:g} in all"),
    ]


def _engine_fixed(setup: Setup) -> int:
    """What the engine needs before its cache: weights, room for adapters, its own work."""
    assert setup.engine is not None
    rank = setup.job.lora_rank or 0
    adapters = setup.engine.max_loras * setup.job.weight_bytes * setup.shape.adapter_parameters(rank, setup.job.targets)
    return setup.shape.parameters * setup.job.weight_bytes + adapters + _ENGINE_WORK


def _cache_bytes(setup: Setup) -> int:
    """Keys and values of one token."""
    return 2 * setup.shape.layers * setup.shape.kv_width * setup.job.weight_bytes


def _obstacles(setup: Setup) -> list[str]:
    found = []
    if setup.dtype == "bfloat16" and not setup.gpu.bfloat16:
        found.append(f"a {setup.gpu.title.split(',')[0]} has no bfloat16: set model.dtype = 'float16' (or 'auto')")
    if setup.job.full and setup.dtype == "float16":
        found.append("float16 weights cannot be trained in full: their gradients underflow; train an adapter")
    if setup.job.attention == "flash_attention_2" and not setup.gpu.bfloat16:
        found.append("FlashAttention 2 needs an Ampere GPU or newer: set model.attention = 'auto'")
    return found


type _Change = tuple[float, str | None, Setup]


def _changed(setup: Setup) -> Iterator[tuple[float, tuple[str, ...], Setup]]:
    """Every combination of changes, with what it costs: in time, in quality, in effort. The engine's comes last: its
    share follows from what the trainer needs by then."""
    kinds = (_precisions, _batches, _checkpointing, _four_bits, _adapters, _liger, _contexts, _engines)
    return _combined(setup, kinds, 0.0, ())


def _combined(
    setup: Setup, kinds: tuple[Callable[[Setup], Iterator[_Change]], ...], cost: float, names: tuple[str, ...]
) -> Iterator[tuple[float, tuple[str, ...], Setup]]:
    if not kinds:
        yield cost, names, setup
        return
    for more, name, now in kinds[0](setup):
        yield from _combined(now, kinds[1:], cost + more, (*names, name) if name else names)


def _precisions(s: Setup) -> Iterator[_Change]:
    yield 0, None, s
    if s.dtype != s.gpu.dtype:
        job = replace(s.job, weight_bytes=2, autocast=True)
        yield 0.5, f"model.dtype = '{s.gpu.dtype}'", replace(s, dtype=s.gpu.dtype, job=job)


def _batches(s: Setup) -> Iterator[_Change]:
    yield 0, None, s
    section = "grpo" if s.job.recipe in _IN_THE_LOOP else s.job.recipe
    least = 2 if s.job.recipe == "kto" else 1
    size = s.job.micro_batch
    while size > least and size % 2 == 0:
        size //= 2
        times = s.job.micro_batch // size
        job = replace(s.job, micro_batch=size, accumulation=s.job.accumulation * times)
        yield times.bit_length() - 0.5, f"{section}.micro_batch = {size}", replace(s, job=job)


def _checkpointing(s: Setup) -> Iterator[_Change]:
    yield 0, None, s
    if not s.job.checkpointing:
        yield 2, "model.gradient_checkpointing = true", replace(s, job=replace(s.job, checkpointing=True))


def _liger(s: Setup) -> Iterator[_Change]:
    yield 0, None, s
    if not s.job.liger:
        yield 1.5, "model.liger = 'on'", replace(s, job=replace(s.job, liger=True))


def _four_bits(s: Setup) -> Iterator[_Change]:
    yield 0, None, s
    if not s.job.full and not s.job.four_bit:
        yield 3, "lora.qlora = true", replace(s, job=replace(s.job, four_bit=True))


def _adapters(s: Setup) -> Iterator[_Change]:
    yield 0, None, s
    if s.job.full:
        yield 5, "lora.full = false", replace(s, job=replace(s.job, lora_rank=64))
        yield 8, "lora.full = false, lora.qlora = true", replace(s, job=replace(s.job, lora_rank=64, four_bit=True))
    elif (s.job.lora_rank or 0) > 16:
        yield 2.5, "lora.r = 16, lora.alpha = 32", replace(s, job=replace(s.job, lora_rank=16))


def _contexts(s: Setup) -> Iterator[_Change]:
    yield 0, None, s
    key = "rollout.max_episode_tokens" if s.job.recipe in _IN_THE_LOOP else f"{s.job.recipe}.max_length"
    for cost, part in ((4, 0.75), (6, 0.5), (9, 0.25)):
        tokens = int(s.job.tokens * part) // 256 * 256
        if tokens >= _LEAST_CONTEXT:
            engine = s.engine and replace(s.engine, tokens=tokens)
            yield cost, f"{key} = {tokens}", replace(s, job=replace(s.job, tokens=tokens), engine=engine)


def _engines(s: Setup) -> Iterator[_Change]:
    yield 0, None, s
    if s.engine is None:
        return
    # A share that leaves the trainer what it needs; how large it may be follows from the rest.
    alone = fit_of(replace(s, engine=None)).need
    yield from _share(s, 1, s.gpu.memory - alone, sleeps=s.engine.sleeps)
    if not s.engine.sleeps:
        step = step_memory(s.shape, s.job)
        yield from _share(s, 2, s.gpu.memory - step.resident - _CONTEXT, sleeps=True)
    yield 4.5, "rollout.url = a rollout server on another GPU", replace(s, engine=None)


def _share(s: Setup, cost: float, room: int, *, sleeps: bool) -> Iterator[_Change]:
    assert s.engine is not None
    share = int(100 * room / s.gpu.memory) / 100
    share = min(share, 0.9 if sleeps else s.engine.share)
    if share <= 0 or (share, sleeps) == (s.engine.share, s.engine.sleeps):
        return
    name = f"rollout.engine_options.gpu_memory_utilization = {share:g}"
    if sleeps and not s.engine.sleeps:
        name = f"rollout.engine = 'vllm_process', {name}"
    yield cost, name, replace(s, engine=replace(s.engine, share=share, sleeps=sleeps))
