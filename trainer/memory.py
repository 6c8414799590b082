"""What a training step holds in memory, part by part, by arithmetic alone: nothing is loaded, nothing imported.

The arithmetic follows what transformers 5.17, PEFT 0.21 and TRL 1.16 keep: in each layer every tensor that the backward
pass needs, the fused head's tiles instead of whole logits, AdamW's two states. A step has a few moments that can be the
fullest; the plan is the largest of them. ``benchmarks/memory_plan.py`` holds it against the allocator.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainer.model_shapes import LINEAR_LAYERS, ModelShape

__all__ = ["Job", "StepMemory", "adapter_bytes", "step_memory", "weight_bytes"]

_TILE_TOKENS = 4096  # TRL's fused head: tokens of a tile
_TILE_WORDS = 32768  # and its part of the vocabulary
_NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes of a 4-bit weight: half a byte, a byte of scale for 64 of them, 4 bytes of scale for 256 of those (Dettmers et
al. 2023, QLoRA, double quantisation)."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is trained, and how, as far as memory goes.

    ``tokens``: the longest row; ``micro_batch``: rows of a pass (pairs, for DPO); ``accumulation``: passes of a step.
    ``lora_rank`` None trains every weight. ``weight_bytes``: 2 or 4, for what is not in 4 bits. ``autocast``: whether
    16-bit weights run under autocast, as on a GPU. ``padded``: whether rows of unequal length need a mask.
    ``reference_adapter``: whether the reference is a frozen copy of the adapter that training begins with.
    ``trained``: the share of tokens whose probability is asked for; the head works on no others on a GPU.
    """

    recipe: str
    tokens: int
    micro_batch: int = 1
    accumulation: int = 2
    lora_rank: int | None = 64
    targets: tuple[str, ...] = LINEAR_LAYERS
    four_bit: bool = False
    weight_bytes: int = 2
    autocast: bool = True
    checkpointing: bool = True
    attention: str = "sdpa"
    padded: bool = False
    reference: bool = True
    reference_adapter: bool = False
    liger: bool = False
    device: str = "cuda"
    trained: float = 1.0

    @property
    def full(self) -> bool:
        """Whether every weight is trained."""
        return self.lora_rank is None

    @property
    def rows(self) -> int:
        """Rows of one forward pass: DPO's has the chosen and the rejected one."""
        return self.micro_batch * (2 if self.recipe == "dpo" else 1)


@dataclass(frozen=True, slots=True)
class StepMemory:
    """Bytes at the fullest moment of a step. ``moment`` says when that is; ``resident`` is held between steps too."""

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    work: int
    moment: str

    @property
    def resident(self) -> int:
        """Weights, adapter and optimizer: what is there while episodes are played, too."""
        return self.weights + self.adapter + self.optimizer

    @property
    def total(self) -> int:
        """All of it."""
        return self.resident + self.gradients + self.activations + self.logits + self.work


def weight_bytes(shape: ModelShape, job: Job) -> int:
    """The base weights. In 4 bits the linear layers of the blocks only: embedding, head, norms and biases stay."""
    if not job.four_bit:
        return shape.parameters * job.weight_bytes
    rest = shape.parameters - shape.block_linear_parameters
    return int(shape.block_linear_parameters * _NF4) + rest * job.weight_bytes


def adapter_bytes(shape: ModelShape, job: Job) -> int:
    """The adapter, in float32."""
    return 0 if job.lora_rank is None else 4 * shape.adapter_parameters(job.lora_rank, job.targets)


def step_memory(shape: ModelShape, job: Job) -> StepMemory:
    """The fullest moment of an optimizer step after the first: the optimizer's states are there."""
    weights = weight_bytes(shape, job)
    adapter = adapter_bytes(shape, job)
    trained = weights if job.full else adapter
    keep = job.accumulation > 1  # gradients of earlier passes are there from the start
    n = job.rows * job.tokens
    layer, inputs, work = _layer_saved(shape, job) * n, job.weight_bytes * shape.hidden * n, _layer_work(shape, job)
    stored = shape.layers * (inputs if job.checkpointing else layer) + _final_saved(shape, job)
    recomputed = layer if job.checkpointing else 0
    head_forward, head_backward = _head_work(shape, job)
    head_gradient = job.weight_bytes * shape.embedding_parameters if job.full else 0
    begun = trained if keep else head_gradient
    moments: list[tuple[str, int, int, int, int]] = [
        # gradients, activations, logits, work
        ("backward pass of the head", trained if keep else 0, stored, head_backward, 0),
        ("backward pass of the last layer", begun, stored + recomputed, 0, work),
        ("backward pass of the first layer", trained, layer + (inputs if job.checkpointing else 0), 0, work),
        ("backward pass of the embedding", trained, inputs, 0, head_gradient),
    ]
    if job.recipe in ("dpo", "kto") and job.reference:  # TRL asks the reference while the policy's activations wait
        gradients = trained if keep else 0
        moments += [
            ("forward pass of the reference", gradients, stored, 0, _forward_work(shape, job)),
            ("head of the reference", gradients, stored, head_forward, 0),
        ]
    moment, gradients, activations, logits, more = max(moments, key=lambda m: sum(m[1:]))
    cast = adapter // 2 if job.autocast else 0  # autocast's 16-bit copies of the adapter
    copy = adapter if job.reference_adapter else 0
    return StepMemory(weights, adapter + cast + copy, gradients, 2 * trained, activations, logits, more, moment)


def _layer_saved(shape: ModelShape, job: Job) -> int:
    """Bytes a token that one layer keeps for its backward pass."""
    s, h, q, kv, i = job.weight_bytes, shape.hidden, shape.q_width, shape.kv_width, shape.intermediate
    norms = 2 * h * (s if job.liger else 4)  # a norm keeps its input in float32
    if shape.architecture == "qwen3":
        norms += (q + kv) * (s if job.liger else 4)
    if job.full:
        norms += 2 * s * h + (s * (q + kv) if shape.architecture == "qwen3" else 0)
    return norms + _attention_saved(shape, job) + _inputs_saved(shape, job) + s * i * (2 if job.liger else 3)


def _attention_saved(shape: ModelShape, job: Job) -> int:
    """Queries, keys, values, output and the softmax's sums; the probabilities themselves where they are written out."""
    s, q = job.weight_bytes, shape.q_width
    if job.attention == "eager":
        return 4 * s * q + shape.heads * job.tokens * (4 if s == 4 else 4 + s)
    repeated = job.attention == "sdpa" and job.padded  # torch groups heads only where there is no mask
    keys = q if repeated else shape.kv_width
    mask = s * job.tokens if repeated else 0
    return s * (2 * q + 2 * keys) + 4 * shape.heads + mask


def _inputs_saved(shape: ModelShape, job: Job) -> int:
    """Inputs of the linear layers, kept where their weights (or their adapter's) are trained."""
    s, h, i = job.weight_bytes, shape.hidden, shape.intermediate
    if job.full:
        return s * (2 * h + i)  # attention's output is kept by attention already
    assert job.lora_rank is not None
    targets = [name for name in LINEAR_LAYERS if name in job.targets]
    a = 4 if s == 4 or not job.autocast else s  # adapters compute in float32, or in 16 bits under autocast
    low = len(targets) * a * job.lora_rank
    if s != 4:  # each adapter makes a copy of its own, in its precision
        return low + a * sum(shape.linears[name][0] for name in targets)
    # Adapters of one input share it; attention's output is kept by attention already.
    inputs = sum(any(name in targets for name in group) for group in (LINEAR_LAYERS[:3], LINEAR_LAYERS[4:6]))
    return low + s * (h * inputs + (i if "down_proj" in targets else 0))


def _layer_work(shape: ModelShape, job: Job) -> int:
    """Gradients on their way through a layer where it is widest, the MLP, beyond what the layer has kept."""
    s, i = job.weight_bytes, shape.intermediate
    n = job.rows * job.tokens
    largest = max(a * b for a, b in shape.linears.values())
    narrow = 3 * s * shape.hidden * n
    if job.full:  # the gradient of a weight is made before it is added to that of earlier passes
        return narrow + max(2 * s * i * n, s * i * n + (s * largest if job.accumulation > 1 else 0))
    # Through the base weight and through the adapter; the latter in float32 for a moment.
    wide = 2 * s * i if s == 4 else (s + 4) * i
    return narrow + n * wide + (s * largest if job.four_bit else 0)


def _forward_work(shape: ModelShape, job: Job) -> int:
    """A forward pass that keeps nothing: the MLP's intermediate tensors and the residual stream."""
    s, n = job.weight_bytes, job.rows * job.tokens
    wide = max(4 * s, s + 4 + s) if not job.full else 3 * s
    dequantised = s * max(a * b for a, b in shape.linears.values()) if job.four_bit else 0
    return n * (wide * shape.intermediate + 2 * s * shape.hidden) + dequantised


def _final_saved(shape: ModelShape, job: Job) -> int:
    """What the last norm and the head keep."""
    s, h, n = job.weight_bytes, shape.hidden, job.rows * job.tokens
    norm = (s if job.liger else 4) * h + (s * h if job.full else 0)
    copied = job.device == "cuda" or job.rows > 1
    return n * (norm + s * h) + (int(n * job.trained) * s * h if copied else 0)


def _head_work(shape: ModelShape, job: Job) -> tuple[int, int]:
    """Forward and backward pass of TRL's fused head: never the logits of all tokens, a tile of them at a time."""
    s, h, v = job.weight_bytes, shape.hidden, shape.vocabulary
    n = int(job.rows * job.tokens * (job.trained if job.device == "cuda" else 1))
    tile = min(n, _TILE_TOKENS) * _TILE_WORDS * s
    gradient = n * h * (4 + s)
    weight = shape.embedding_parameters * (4 + s) if job.full else 0
    if job.device == "cuda":  # folded by a kernel, in place
        return tile, tile + gradient + weight
    words = min(n, _TILE_TOKENS) * min(v, _TILE_WORDS) * 4
    return tile + int(3.25 * words), tile + int(7.25 * words) + n * h * 4 + (
        4 * shape.embedding_parameters if job.full else 0
    )
