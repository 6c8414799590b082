"""Hermes tool calls: ``<tool_call>`` JSON ``</tool_call>``, as Qwen2.5 and Qwen3 are trained to write them.

The text comes from a model: whatever its JSON holds (NaN, infinities, lone surrogates, bottomless nesting) ends in a
refusal or a clean value, never in an exception further on.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from envs.types import Action

__all__ = ["ToolCall", "parse_tool_calls", "render_tool_call"]

# A last call without its closing tag counts too, as in vLLM's Hermes parser: the tag may have been cut with the turn.
_CALL = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call as read. ``arguments`` is None where the call could not be read; ``name`` is "" then."""

    name: str
    arguments: Mapping[str, Any] | None


def parse_tool_calls(text: str) -> tuple[ToolCall, ...]:
    """Every tool call of a completion's text, in order; broken ones too, as such."""
    return tuple(_read(match.group(1)) for match in _CALL.finditer(text))


def render_tool_call(action: Action) -> str:
    """An action as Qwen's templates write a tool call."""
    call = {"name": action.name, "arguments": dict(action.arguments)}
    return f"<tool_call>\n{json.dumps(call, ensure_ascii=False)}\n</tool_call>"


def _read(body: str) -> ToolCall:
    broken = ToolCall("", None)
    try:
        call = json.loads(body, parse_constant=_refuse)
        arguments = call.get("arguments") if isinstance(call, dict) else None
        if isinstance(arguments, str):  # some models write the arguments as JSON in a string, as OpenAI's API does
            arguments = json.loads(arguments, parse_constant=_refuse)
        if not isinstance(arguments, dict) or not isinstance(call.get("name"), str):
            return broken
        return ToolCall(_clean(call["name"]), _clean(arguments))
    except (ValueError, RecursionError):
        return broken


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _clean(value: Any) -> Any:
    """The value with well-formed text only. Raises ValueError for a number that JSON could not carry on."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number out of range")
    if isinstance(value, dict):
        return {_clean(k): _clean(v) for k, v in value.items()}
    return [_clean(v) for v in value] if isinstance(value, list) else value
