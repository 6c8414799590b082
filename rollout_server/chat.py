"""ChatML with Hermes tools, as the templates of Qwen2.5-Instruct and Qwen3-Instruct-2507 write it, in token ids.

Templates render text, and an observation with ``<|im_end|>`` in it would close its own turn. Here every string from
outside is encoded as ordinary characters, and only markup that is written here becomes markup. For contents without
special tokens the ids are exactly those of the whole rendered text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from envs.errors import ConfigError
from envs.types import ToolSpec
from rollout_server.engines.base import Tokenizer
from rollout_server.tokenizer import END_OF_TURN, START_OF_TURN
from rollout_server.types import Message, Role

__all__ = ["ChatFormat", "tool_json"]

_TOOLS_HEAD = (
    "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
_TOOLS_TAIL = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n'
    "</tool_call>"
)
_CALL_TAGS = ("<tool_call>", "</tool_call>")
_MARKUP = (START_OF_TURN, END_OF_TURN, *_CALL_TAGS, "<tool_response>", "</tool_response>", "<tools>", "</tools>")


class _Text(str):
    """Text from outside: no markup in it counts."""

    __slots__ = ()


class _PolicyText(str):
    """A turn as a policy writes it: tool-call tags count, nothing else."""

    __slots__ = ()


def _plain(value: Any) -> Any:
    if hasattr(value, "items"):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def tool_json(tool: ToolSpec) -> dict[str, Any]:
    """A tool in the form that chat templates and OpenAI's API take."""
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": _plain(tool.parameters)},
    }


class ChatFormat:
    """Renders conversations with one tokenizer. Stateless: one instance serves every episode."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._atoms: dict[str, list[int]] = {}
        for tag in _MARKUP:
            ids = tokenizer.encode(tag, markup=True)
            if len(ids) == 1 and ids != tokenizer.encode(tag, markup=False):
                self._atoms[tag] = ids
        if self._atoms.get(END_OF_TURN) != [tokenizer.end_of_turn_id] or START_OF_TURN not in self._atoms:
            message = f"the tokenizer does not read {START_OF_TURN} and {END_OF_TURN} as one token each"
            raise ConfigError(message, hint="use a model with the ChatML format")

    def prompt(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> list[int]:
        """Ids of a first prompt, ending with ``<|im_start|>assistant\\n``.

        Raises ValueError where the first message is not the system's: some templates would put in one of their own.
        """
        return self._encode(_opening(messages, tools))

    def continuation(self, messages: Sequence[Message], *, closed: bool) -> list[int]:
        """The environment's ids between two sampled turns.

        Args:
            messages: the reply, users' and tools' messages only.
            closed: whether the sampled turn ended with the end-of-turn token; where not, it is added first.
        """
        return self._encode(_continuation(messages, closed=closed))

    def turn(self, text: str) -> list[int]:
        """Ids of a turn as a policy would have sampled it, end-of-turn token and all: what scripts say."""
        return self._encode([_PolicyText(text), END_OF_TURN])

    def text(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> str:
        """The rendered text of ``prompt``, to read and to compare with templates."""
        return "".join(_opening(messages, tools))

    def _encode(self, pieces: Iterable[str]) -> list[int]:
        """Join pieces to the longest runs without a markup token and encode each as a whole, as a tokenizer would."""
        ids: list[int] = []
        run = ""
        for piece in pieces:
            if isinstance(piece, _Text):
                run += piece
                continue
            tags = [t for t in self._atoms if t in _CALL_TAGS] if isinstance(piece, _PolicyText) else list(self._atoms)
            for part in re.split(f"({'|'.join(map(re.escape, tags))})", piece) if tags else [str(piece)]:
                if part in tags:
                    ids += self.tokenizer.encode(run, markup=False) if run else []
                    ids += self._atoms[part]
                    run = ""
                else:
                    run += part
        return ids + (self.tokenizer.encode(run, markup=False) if run else [])


def _opening(messages: Sequence[Message], tools: Sequence[ToolSpec]) -> list[str]:
    if not messages or messages[0].role is not Role.SYSTEM:
        raise ValueError("a prompt begins with a system message")
    pieces: list[str] = [f"{START_OF_TURN}system\n", _Text(messages[0].content)]
    if tools:
        pieces += [
            _TOOLS_HEAD,
            *(_Text("\n" + json.dumps(tool_json(t), ensure_ascii=False)) for t in tools),
            _TOOLS_TAIL,
        ]
    pieces.append(f"{END_OF_TURN}\n")
    return pieces + _turns(messages[1:]) + [f"{START_OF_TURN}assistant\n"]


def _continuation(messages: Sequence[Message], *, closed: bool) -> list[str]:
    if not messages or any(m.role not in (Role.USER, Role.TOOL) for m in messages):
        raise ValueError("a reply is made of user and tool messages, at least one")
    head = "\n" if closed else f"{END_OF_TURN}\n"
    return [head, *_turns(messages), f"{START_OF_TURN}assistant\n"]


def _turns(messages: Sequence[Message]) -> list[str]:
    pieces: list[str] = []
    for index, message in enumerate(messages):
        content = _PolicyText(message.content) if message.role is Role.ASSISTANT else _Text(message.content)
        if message.role is not Role.TOOL:
            pieces += [f"{START_OF_TURN}{message.role}\n", content, f"{END_OF_TURN}\n"]
            continue
        # Tool messages in a row share one user turn.
        if index == 0 or messages[index - 1].role is not Role.TOOL:
            pieces.append(f"{START_OF_TURN}user")
        pieces += ["\n<tool_response>\n", content, "\n</tool_response>"]
        if index + 1 == len(messages) or messages[index + 1].role is not Role.TOOL:
            pieces.append(f"{END_OF_TURN}\n")
    return pieces
