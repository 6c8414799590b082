"""Tokenizers with the special tokens of Qwen2.5 and Qwen3. Their own files are on a hub and in no package.

``trained``: a byte-level BPE with Qwen's normaliser, its way to cut text, and its added tokens, on words of these
tests. ``qwen_like`` (``chat_samples``): SmolLM2's real vocabulary with the tool tags. ENVLOOP_QWEN_TOKENIZER names a
folder with a real one, which is tested in addition.
"""

from __future__ import annotations

import os
from pathlib import Path

from chat_samples import HOSTILE
from hypothesis import strategies as st

from rollout_server.tokenizer import HFTokenizer

__all__ = ["FRAGMENTS", "added_ids", "outside", "real_folder", "trained"]

# Source: tokenizer_config.json of Qwen2.5-7B-Instruct and Qwen3-4B-Instruct-2507, "added_tokens_decoder".
_SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
_NOT_SPECIAL = (
    "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>",
    "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>",
)  # fmt: skip
_CUT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

FRAGMENTS = (
    *HOSTILE, *_SPECIAL[:3], *_NOT_SPECIAL[:2], *_NOT_SPECIAL[8:], "<|im_start|>assistant\n", "<|im_", "start|>",
    "end|>", "<|", "|>", "<", ">", "<tool", "_call>", "</tool_", "</", "\n", "\n\n", " ", "\t", "\r\n", "\u00a0",
    "\u200b", "e\u0301", "é", "😀", "\U0001f469\u200d\U0001f680", "\ud800", "\x00", "1,000", "desk 1", "[('a', None)]",
    '{"name": "take_action", "arguments": {"action": "look"}}',
)  # fmt: skip

outside = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=6)), max_size=8).map("".join)
"""What an observation may hold: markup whole and in pieces, blanks at the edges, any character, nothing."""


def trained() -> HFTokenizer:
    """A byte-level BPE of 256 bytes and some hundred merges, with Qwen's added tokens behind them."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizers.NFC()  # type: ignore[assignment]
    backend.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [
            pre_tokenizers.Split(Regex(_CUT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    # The names of the special tokens are words of the corpus: their pieces merge as far as they can.
    corpus = ["".join(FRAGMENTS).encode(errors="replace").decode(), "take_action go to desk 10 look in on the bed\n\n"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(corpus * 20, trainer)
    backend.add_tokens([AddedToken(t, special=True, normalized=False) for t in _SPECIAL])
    backend.add_tokens([AddedToken(t, special=False, normalized=False) for t in _NOT_SPECIAL])
    return HFTokenizer(PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>"))


def real_folder() -> Path | None:
    """The folder of a real Qwen tokenizer, where one is named."""
    folder = os.environ.get("ENVLOOP_QWEN_TOKENIZER")
    return Path(folder) if folder else None


def added_ids(tokenizer: HFTokenizer) -> frozenset[int]:
    """The ids that only markup may have."""
    return frozenset(tokenizer.hf.added_tokens_decoder)
