"""Tokenizers: a Hugging Face one for real models, and bytes for scripted play without any model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from envs.errors import ConfigError

__all__ = ["END_OF_TURN", "START_OF_TURN", "ByteTokenizer", "HFTokenizer"]

START_OF_TURN = "<|im_start|>"
END_OF_TURN = "<|im_end|>"


class HFTokenizer:
    """A transformers fast tokenizer behind the ``Tokenizer`` seam.

    Text from outside must never become markup. transformers' own switch for that (``split_special_tokens``) is a flag
    on shared state and spares added tokens that are not called special (Qwen's ``<tool_call>``); so a second backend
    without any added token encodes such text. Both are only read: safe for many tasks and threads.

    Args:
        source: a model folder or name, or a transformers tokenizer.

    Raises: ConfigError where it is no fast tokenizer or has no ``<|im_end|>``.
    """

    def __init__(self, source: str | Path | Any) -> None:
        from tokenizers import Tokenizer as Backend

        if isinstance(source, str | Path):
            from transformers import AutoTokenizer

            try:
                source = AutoTokenizer.from_pretrained(str(source))
            except (OSError, ValueError) as error:
                message = f"no tokenizer can be loaded from {str(source)!r}: {error}"
                raise ConfigError(message, hint="give a folder with tokenizer.json") from error
        backend = getattr(source, "backend_tokenizer", None)
        if not isinstance(backend, Backend):
            raise ConfigError("the tokenizer is no fast one", hint="use a model that ships tokenizer.json")
        description = json.loads(backend.to_str())
        # Truncation or padding left on by an earlier user of the tokenizer would change ids silently.
        description |= {"truncation": None, "padding": None, "post_processor": None}
        self.hf = source
        self._markup = Backend.from_str(json.dumps(description))
        self._plain = Backend.from_str(json.dumps(description | {"added_tokens": []}))
        end = self._markup.token_to_id(END_OF_TURN)
        if end is None or self._markup.encode(END_OF_TURN, add_special_tokens=False).ids != [end]:
            raise ConfigError(f"the tokenizer has no {END_OF_TURN} token", hint="use a model with the ChatML format")
        self.end_of_turn_id: int = end

    def encode(self, text: str, *, markup: bool) -> list[int]:
        """Ids of a text; see ``Tokenizer.encode``."""
        backend = self._markup if markup else self._plain
        ids: list[int] = backend.encode(_well_formed(text), add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens included; bytes that are no UTF-8 become U+FFFD."""
        text: str = self._markup.decode(list(ids), skip_special_tokens=False)
        return text


class ByteTokenizer:
    """UTF-8 bytes (0 to 255) and ChatML's two tokens (256, 257). Needs no model and loses nothing."""

    end_of_turn_id = 257
    _special = (START_OF_TURN, END_OF_TURN)

    def encode(self, text: str, *, markup: bool) -> list[int]:
        """Ids of a text; see ``Tokenizer.encode``."""
        if not markup:
            return list(_well_formed(text).encode())
        ids: list[int] = []
        for number, part in enumerate(text.split(START_OF_TURN)):
            if number:
                ids.append(256)
            for sub_number, sub in enumerate(part.split(END_OF_TURN)):
                if sub_number:
                    ids.append(257)
                ids += _well_formed(sub).encode()
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens included. Raises ValueError for an id above 257."""
        data = bytearray()
        for i in ids:
            data += self._special[i - 256].encode() if i in (256, 257) else bytes((i,))
        return data.decode(errors="replace")


def _well_formed(text: str) -> str:
    """Lone surrogates (a JSON escape can make them) have no UTF-8: they become question marks."""
    return text.encode(errors="replace").decode()
