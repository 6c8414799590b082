"""Conversations of a JSONL file as training rows: OpenAI's format, as ``envloop replay export --format chat`` has it.

A line is ``{"messages": [...], "tools": [...], "metadata": {...}}``. What is not listed here is refused by its line:

- ``messages``: ``role`` (system, user, assistant, tool) and ``content``; the system's first. AgentBench's ``agent`` is
  the assistant; so are ShareGPT's ``conversations`` of ``from`` (system, human, gpt, tool) and ``value``.
- ``tool_calls`` of an assistant are written into its text as Qwen's templates do.
- ``weight`` 0, or ``loss`` false, on an assistant's message: nothing is learnt from it.
- ``finish_reason`` ``length``: the turn was cut, and no end of it is learnt.
- ``env``, ``split``, ``task_id``, ``task_type``, ``content_hash``, ``reward``: what it is, here or in ``metadata``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from envs.errors import ConfigError
from envs.types import Task, ToolSpec
from rollout_server.chat import ChatFormat, tool_json
from rollout_server.tokenizer import HFTokenizer
from rollout_server.types import Message, Role

__all__ = ["IGNORED", "ChatExample", "SaidMessage", "check_rendering", "encode_example", "read_chat_jsonl"]

IGNORED = -100
"""The label that no loss counts."""

_SHOWN_ERRORS = 10
_ROLES = {
    **{role.value: role for role in Role},
    "agent": Role.ASSISTANT,
    "gpt": Role.ASSISTANT,
    "human": Role.USER,
}
_KEYS = frozenset({"role", "content", "tool_calls", "tool_call_id", "name", "weight", "loss", "finish_reason"})


@dataclass(frozen=True, slots=True)
class SaidMessage:
    """A message, whether its tokens are learnt (assistants' only), and whether it was cut before its end of turn."""

    message: Message
    learnt: bool = False
    cut: bool = False


@dataclass(frozen=True, slots=True)
class ChatExample:
    """One line. ``name`` is ``FILE:LINE``; ``task`` and ``reward`` are None where the line does not tell them.

    ``dropped``: messages after the assistant's last one: nothing answers them, so they are in no row.
    """

    name: str
    said: tuple[SaidMessage, ...]
    tools: tuple[ToolSpec, ...]
    task: Task | None
    reward: float | None
    dropped: int = 0

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages, without what is learnt of them."""
        return tuple(s.message for s in self.said)


class _LineError(ValueError):
    """What is wrong with a line, in words."""


def read_chat_jsonl(path: Path) -> list[ChatExample]:
    """Every conversation of a file. Raises ConfigError that names the broken lines and what is wrong with each."""
    found: list[ChatExample] = []
    errors: list[str] = []
    for number, line in _lines(path):
        try:
            found.append(_example(json.loads(line), f"{path.name}:{number}"))
        except RecursionError:
            errors.append(f"line {number}: nested too deeply")
        except _LineError as error:
            errors.append(f"line {number}: {error}")
        except ValueError as error:
            errors.append(f"line {number}: no JSON ({error})")
    if errors:
        more = f"; and {len(errors) - _SHOWN_ERRORS} more" if len(errors) > _SHOWN_ERRORS else ""
        raise ConfigError(
            f"{path} has {len(errors)} broken lines: {'; '.join(errors[:_SHOWN_ERRORS])}{more}",
            hint="one JSON object a line; the format is described in docs/training.md",
        )
    return found


def encode_example(example: ChatExample, chat: ChatFormat) -> tuple[list[int], list[int]]:
    """Ids and labels of a conversation, as the agent loop would have written it: learnt turns' own tokens, with their
    end of turn, are the labels; everything else is ``IGNORED``."""
    said = example.said
    first = next(i for i, s in enumerate(said) if s.learnt)
    ids = chat.prompt(example.messages[:first], example.tools)
    labels = [IGNORED] * len(ids)
    at = first
    while at < len(said):
        turn = said[at]
        own = chat.turn(turn.message.content)
        own = own[:-1] if turn.cut else own
        ids += own
        labels += own if turn.learnt else [IGNORED] * len(own)
        reply = at + 1
        while reply < len(said) and said[reply].message.role is not Role.ASSISTANT:
            reply += 1
        if reply < len(said):
            between = chat.continuation(example.messages[at + 1 : reply], closed=not turn.cut)
            ids += between
            labels += [IGNORED] * len(between)
        at = reply
    return ids, labels


def check_rendering(example: ChatExample, tokenizer: HFTokenizer) -> None:
    """Raise ConfigError where the model's own template would write this conversation otherwise (a template that cuts
    thoughts out of earlier turns, say). A template without tools is asked only where there are none."""
    template = str(getattr(tokenizer.hf, "chat_template", "") or "")
    uses_tools = example.tools or any(m.role is Role.TOOL for m in example.messages)
    if any(s.cut for s in example.said) or (uses_tools and "<tool_response>" not in template):
        return
    rows = [{"role": m.role.value, "content": m.content} for m in example.messages]
    schemas: list[Any] | None = [tool_json(tool) for tool in example.tools] or None
    theirs = str(tokenizer.hf.apply_chat_template(rows, tools=schemas, tokenize=False, add_generation_prompt=True))
    ours = ChatFormat(tokenizer).text(example.messages, example.tools)
    if ours != theirs:
        same = (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
        at = next(same, min(len(ours), len(theirs)))
        raise ConfigError(
            f"{example.name}: the model's chat template writes this conversation otherwise at character {at}: "
            f"{theirs[at : at + 60]!r} instead of {ours[at : at + 60]!r}",
            hint="leave such conversations out, or mend their texts",
        )


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}", hint="sft.jsonl names a JSONL file in UTF-8") from error


def _example(row: Any, name: str) -> ChatExample:
    if not isinstance(row, dict):
        raise _LineError("no JSON object")
    raw = row.get("messages", row.get("conversations"))
    if not isinstance(raw, list) or not raw:
        raise _LineError("no list of messages")
    said = [_said(message, f"message {i}") for i, message in enumerate(raw)]
    if said[0].message.role is not Role.SYSTEM:
        raise _LineError(
            f"begins with {said[0].message.role.value}, not with system: a template would put in a text of its own"
        )
    whole = len(said)
    while said and said[-1].message.role is not Role.ASSISTANT:
        said.pop()
    if not any(s.learnt for s in said):
        raise _LineError("no message of the assistant to learn from")
    for before, s in pairwise(said):
        if s.message.role is Role.SYSTEM:
            raise _LineError("a system message that is not the first")
        if s.message.role is Role.ASSISTANT and before.message.role is Role.ASSISTANT:
            raise _LineError("two messages of the assistant in a row")
        if s.message.role is Role.TOOL and before.message.role not in (Role.ASSISTANT, Role.TOOL):
            raise _LineError("a tool's message that answers no assistant")
    if said[1].message.role is Role.ASSISTANT:
        raise _LineError("the assistant speaks before any user")
    tools = tuple(_tool(tool) for tool in row.get("tools") or ())
    facts = {**row, **row["metadata"]} if isinstance(row.get("metadata"), dict) else row
    return ChatExample(name, tuple(said), tools, _task(facts), _reward(facts), whole - len(said))


def _said(row: Any, where: str) -> SaidMessage:
    if not isinstance(row, dict):
        raise _LineError(f"{where} is no object")
    if "from" in row:
        row = {
            **{k: v for k, v in row.items() if k not in ("from", "value")},
            "role": row["from"],
            "content": row.get("value"),
        }
    if unknown := sorted(k for k, v in row.items() if k not in _KEYS and v is not None):
        raise _LineError(f"{where} has {', '.join(unknown)}, which nothing here reads")
    role = _ROLES.get(str(row.get("role")))
    if role is None:
        raise _LineError(f"{where} is of the role {row.get('role')!r}; known: {', '.join(sorted(_ROLES))}")
    content = row.get("content")
    if content is not None and not isinstance(content, str):
        raise _LineError(f"{where} has a content that is no text")
    calls = row.get("tool_calls") or []
    if role is not Role.ASSISTANT:
        if calls or content is None:
            raise _LineError(f"{where} ({role.value}) has " + ("tool calls" if calls else "no content"))
        return SaidMessage(Message(role, content))
    text = "\n".join([*([content] if content else []), *(_call(call, where) for call in calls)])
    weight, loss = row.get("weight"), row.get("loss")
    if weight not in (None, 0, 1) or loss not in (None, True, False):
        raise _LineError(f"{where} has weight {weight!r} and loss {loss!r}; weight is 0 or 1, loss true or false")
    return SaidMessage(Message(role, text), weight != 0 and loss is not False, row.get("finish_reason") == "length")


def _call(call: Any, where: str) -> str:
    """A tool call as the template writes it: arguments that are text already stay as they are."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise _LineError(f"{where} has a tool call without a name")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            given, written = json.loads(arguments), arguments
        except ValueError as error:
            raise _LineError(f"{where} calls {function['name']} with arguments that are no JSON: {error}") from error
    else:
        given, written = arguments, json.dumps(arguments, ensure_ascii=False)
    if not isinstance(given, dict):
        raise _LineError(f"{where} calls {function['name']} with arguments that are no object")
    return f'<tool_call>\n{{"name": "{function["name"]}", "arguments": {written}}}\n</tool_call>'


def _tool(row: Any) -> ToolSpec:
    function = row.get("function") if isinstance(row, dict) else None
    if not isinstance(function, dict):
        raise _LineError('a tool that is no {"type": "function", "function": {...}}')
    tool = ToolSpec(str(function.get("name")), str(function.get("description")), dict(function.get("parameters") or {}))
    if tool_json(tool) != row:
        raise _LineError(f"the tool {tool.name!r} has more or fewer fields than name, description and parameters")
    return tool


def _task(facts: Mapping[str, Any]) -> Task | None:
    """The task that a line is of; None where it does not tell its environment."""
    env = facts.get("env")
    if env is None:
        return None
    split, task_id = facts.get("split"), facts.get("task_id")
    if not all(isinstance(text, str) and text for text in (env, split, task_id)):
        raise _LineError("names env, and not split and task_id: an evaluation task could not be told from others")
    kind, digest = facts.get("task_type", facts.get("type")), facts.get("content_hash")
    return Task(str(env), str(task_id), str(split), str(kind or "unknown"), str(digest or ""))


def _reward(facts: Mapping[str, Any]) -> float | None:
    reward = facts.get("reward")
    if reward is None or (isinstance(reward, int | float) and not isinstance(reward, bool)):
        return None if reward is None else float(reward)
    raise _LineError(f"reward is {reward!r}, no number")
