"""A small chat model from scratch, for what a CPU can teach in minutes: Qwen3's architecture, a vocabulary of words.

A real model spends most of a small environment's text on pieces of words that it must not learn anew. Here every word
that the environment uses is one token, so that a few million weights learn its tasks and an episode is a few hundred
tokens long. What is no such word is written in bytes: any text is encoded, and decodes to itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs.errors import ConfigError
from trainer.induction import plant_induction
from trainer.tiny_model import chat_tokenizer

__all__ = ["ModelShape", "save_small_model", "word_tokenizer"]

_PIECES = r"(?:system|user|assistant)\n| ?[A-Za-z]+| ?\d{1,2}| ?[^\sA-Za-z\d]|\s"
"""A role of ChatML with its line's end, a word, two digits or a sign with the space before it, a single space."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes of a Qwen3 model; with a vocabulary of about 700 words the default has 5.1 million weights.

    Few and wide layers: a CPU multiplies large matrices faster than many small ones.
    """

    hidden: int = 320
    intermediate: int = 1024
    layers: int = 4
    heads: int = 5
    key_value_heads: int = 1
    head_width: int = 64
    context: int = 4096


def word_tokenizer(texts: Iterable[str], *, limit: int = 2048, at_least: int = 2) -> Any:
    """A transformers tokenizer with ChatML whose tokens are the words of these texts, 256 bytes and ChatML's own.

    Args:
        texts: what the environment says and is told; the same texts in the same order give the same ids.
        limit: words at most, the most frequent ones.
        at_least: how often a word must occur.

    Raises ConfigError for texts without any such word.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    split = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    roles = "system\nuser\nassistant\n"
    counts = Counter(piece for text in texts for piece, _ in split.pre_tokenize_str(text))
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [piece for piece, _ in split.pre_tokenize_str(roles)]
    common = (w for w, n in sorted(counts.items(), key=lambda c: (-c[1], c[0])) if n >= at_least and len(w) > 1)
    words += [word for word in common if word not in words][:limit]
    if not counts:
        raise ConfigError("there is no text to take a vocabulary from", hint="play some episodes first")
    vocabulary = {token: number for number, token in enumerate([*letters, *words])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    backend.pre_tokenizer = split
    backend.decoder = decoders.ByteLevel()
    return chat_tokenizer(backend)


def save_small_model(
    folder: Path, tokenizer: Any, *, shape: ModelShape | None = None, seed: int = 0, copies: bool = False
) -> Path:
    """Write a model folder with random weights and give it back. The same seed and sizes give the same weights.

    Args:
        folder: made where it is missing.
        tokenizer: ``word_tokenizer``'s.
        copies: let it say again what it has read before it is trained; see ``trainer/induction.py``.

    Raises ConfigError for a shape that is too small to copy.
    """
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    shape = shape or ModelShape()
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        head_dim=shape.head_width,
        max_position_embeddings=shape.context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        untyped: Any = Qwen3ForCausalLM
        model = untyped(config)
    if copies:
        plant_induction(model, seed=seed)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
