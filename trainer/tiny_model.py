"""A tiny chat model with random weights: debug runs of the notebooks need no download, no GPU and no minute.

It plays no better than chance and is of no other use. Its tokenizer is trained on the protocols' own prompts, so that
episodes have about as many tokens as with a real model.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from rollout_server.tokenizer import END_OF_TURN, START_OF_TURN

__all__ = ["chat_tokenizer", "save_tiny_model"]

_PADDING = "<|endoftext|>"
_CHATML = (
    "{% for m in messages %}" + START_OF_TURN + "{{ m.role }}\n{{ m.content }}" + END_OF_TURN + "\n{% endfor %}"
    "{% if add_generation_prompt %}" + START_OF_TURN + "assistant\n{% endif %}"
)
_VOCABULARY = 4096


def save_tiny_model(folder: Path, *, seed: int = 0) -> Path:
    """Write a model folder and give it back: Qwen2's architecture, 2 layers, 0.15 million weights, a ChatML tokenizer.

    ``folder`` is made where it is missing. The same seed gives the same weights.
    """
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = _tokenizer()
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=16384,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        untyped: Any = Qwen2ForCausalLM
        model = untyped(config)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=[_PADDING, START_OF_TURN, END_OF_TURN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    prompts = json.loads((files("rollout_server.protocols") / "data" / "agentbench.json").read_text(encoding="utf-8"))
    backend.train_from_iterator(sorted(json.dumps(prompt) for prompt in prompts.values()), trainer)
    return chat_tokenizer(backend)


def chat_tokenizer(backend: Any) -> Any:
    """A ``tokenizers.Tokenizer`` that knows the tokens of ChatML, as transformers' tokenizer with ChatML's template."""
    from transformers import PreTrainedTokenizerFast

    backend.add_special_tokens([_PADDING, START_OF_TURN, END_OF_TURN])  # those that it has stay as they are
    untyped: Any = PreTrainedTokenizerFast
    return untyped(tokenizer_object=backend, eos_token=END_OF_TURN, pad_token=_PADDING, chat_template=_CHATML)
