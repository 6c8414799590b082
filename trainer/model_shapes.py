"""The numbers of a model that decide what it takes in memory: of known models, and of any folder with a config.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs.errors import ConfigError

__all__ = ["KNOWN_SHAPES", "LINEAR_LAYERS", "ModelShape", "model_shape"]

LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A dense decoder of Llama's kind: RMSNorm, grouped-query attention, a gated MLP. Widths are in numbers, not bytes.

    ``architecture`` tells what differs: ``qwen2`` has biases on query, key and value, ``qwen3`` norms on query and key.
    """

    name: str
    architecture: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    tied: bool

    @property
    def q_width(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Width of all key (or value) heads together."""
        return self.kv_heads * self.head_dim

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of each linear layer of a block."""
        h, q, kv, i = self.hidden, self.q_width, self.kv_width, self.intermediate
        return dict(zip(LINEAR_LAYERS, ((h, q), (h, kv), (h, kv), (q, h), (h, i), (h, i), (i, h)), strict=True))

    @property
    def block_linear_parameters(self) -> int:
        """Weights of the linear layers of all blocks: what 4 bits are for."""
        return self.layers * sum(a * b for a, b in self.linears.values())

    @property
    def embedding_parameters(self) -> int:
        """Weights of the token embedding; the head has as many more where it is not tied to it."""
        return self.vocabulary * self.hidden

    @property
    def head_parameters(self) -> int:
        """Weights of an output head of its own; 0 where it is the embedding."""
        return 0 if self.tied else self.embedding_parameters

    @property
    def small_parameters(self) -> int:
        """Norms and biases."""
        block = 2 * self.hidden
        if self.architecture == "qwen2":
            block += self.q_width + 2 * self.kv_width
        if self.architecture == "qwen3":
            block += 2 * self.head_dim
        return self.layers * block + self.hidden

    @property
    def parameters(self) -> int:
        """All weights."""
        return self.block_linear_parameters + self.embedding_parameters + self.head_parameters + self.small_parameters

    def adapter_parameters(self, rank: int, targets: tuple[str, ...] = LINEAR_LAYERS) -> int:
        """Weights of a LoRA adapter of this rank on these layers of every block."""
        return self.layers * sum(rank * sum(self.linears[t]) for t in targets if t in self.linears)


KNOWN_SHAPES = {
    shape.name: shape
    for shape in (
        # Source: config.json of each model on the hub.
        ModelShape("Qwen/Qwen2.5-7B-Instruct", "qwen2", 3584, 28, 28, 4, 128, 18944, 152064, tied=False),
        ModelShape("Qwen/Qwen3-4B-Instruct-2507", "qwen3", 2560, 36, 32, 8, 128, 9728, 151936, tied=True),
        ModelShape("smollm2", "llama", 576, 30, 9, 3, 64, 1536, 49152, tied=True),
    )
}
_SAME = {"HuggingFaceTB/SmolLM2-135M-Instruct": "smollm2"}
_KEYS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
_ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}


def model_shape(name: str) -> ModelShape:
    """The shape of a known model, or of a folder with a ``config.json``. No hub is asked.

    Raises ConfigError for a name that is neither, and for an architecture whose memory is not described here.
    """
    name = _SAME.get(name, name)
    if name in KNOWN_SHAPES:
        return KNOWN_SHAPES[name]
    try:
        config = json.loads((Path(name) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{name!r} is no model whose shape is known, and no folder with a config.json",
            hint=f"known: {', '.join(KNOWN_SHAPES)}; for any other model download its config.json and name its folder",
        ) from error
    return _from_config(name, config)


def _from_config(name: str, config: dict[str, Any]) -> ModelShape:
    kind = config.get("model_type")
    missing = [key for key in _KEYS if not isinstance(config.get(key), int)]
    if kind not in _ARCHITECTURES or missing:
        raise ConfigError(
            f"{name}: the memory of a model of type {kind!r} is not described"
            + (f" (config.json lacks {', '.join(missing)})" if missing else ""),
            hint=f"described: dense models of the types {', '.join(_ARCHITECTURES)}",
        )
    heads = config["num_attention_heads"]
    return ModelShape(
        name=name,
        architecture=_ARCHITECTURES[kind],
        hidden=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        intermediate=config["intermediate_size"],
        vocabulary=config["vocab_size"],
        tied=bool(config.get("tie_word_embeddings", False)),
    )
