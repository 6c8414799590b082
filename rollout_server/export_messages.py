"""An episode as chat messages, with roles and tool calls: for reading by other tools and for fine-tuning on text.

A policy's turn is the text that it sampled. Its tool calls are taken out of the text only where Qwen's chat template,
which is also TRL's, puts exactly this text together again; else the text stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from envs.client import EpisodeView
from envs.errors import ConfigError, UnknownEnv
from envs.registry import default_registry
from envs.types import EpisodeStatus, Observation, ToolSpec
from rollout_server.chat import tool_json
from rollout_server.protocols import get_protocol
from rollout_server.protocols.base import ProtocolSession
from rollout_server.protocols.hermes import parse_tool_calls
from rollout_server.types import Episode, FinishReason, Message, Role, StepRecord, Turn

__all__ = ["Conversation", "chat_row", "conversation", "split_calls"]

_EMPTY: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Conversation:
    """The messages of an episode in order, the policy's as ASSISTANT, and the tools that it was offered.

    ``prompt`` messages are the first ones, from before the policy's first turn.
    """

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    prompt: int


def conversation(episode: Episode) -> Conversation:
    """What was said, message by message, ending with the policy's last turn.

    A reply is stored as one text: the protocol, run over the recorded steps, says what messages it was. Where that is
    not the stored text, the reply is one message.
    """
    session = _session(episode)
    messages = list(episode.prompt)
    tools: tuple[ToolSpec, ...] = ()
    if session is not None:
        opening = session.opening()
        tools = opening.tools if opening.messages == episode.prompt else ()
    step = 0
    for turn in episode.turns:
        messages.append(Message(Role.ASSISTANT, turn.text))
        reply = _reply(session, episode, turn, step)
        step += len(turn.steps)
        if turn is not episode.turns[-1]:
            messages += reply
    return Conversation(tuple(messages), tools, len(episode.prompt))


def chat_row(episode: Episode) -> dict[str, Any] | str:
    """A row of TRL's conversational format: ``messages``, and ``tools`` where there were any; then what it is.

    An assistant's message that nothing is learnt from (a worked example of the prompt) has ``weight`` 0, as in OpenAI's
    format; a turn that was cut says ``"finish_reason": "length"``: it has no end-of-turn token.

    A text says why there is none: for an episode without a result or a turn, and for a fork that begins with another
    policy's turns, since this format cannot say that they are not to be learnt.
    """
    if not episode.status.scored:
        return f"no result ({episode.status.value})"
    if not episode.turns:
        return "no turn"
    if any(turn.given or not turn.completion_ids for turn in episode.turns):  # no ids: so an earlier envloop kept them
        return "begins with another policy's turns (parquet has their mask)"
    said = conversation(episode)
    messages = [_message_json(message) for message in said.messages]
    for message in messages[: said.prompt]:
        if message["role"] == Role.ASSISTANT.value:
            message["weight"] = 0
    sampled = (message for message in messages[said.prompt :] if message["role"] == Role.ASSISTANT.value)
    for message, turn in zip(sampled, episode.turns, strict=True):
        if turn.finish_reason is not FinishReason.STOP:
            message["finish_reason"] = FinishReason.LENGTH.value
    row: dict[str, Any] = {"messages": messages}
    if said.tools:
        row["tools"] = [tool_json(tool) for tool in said.tools]
    return row | {
        "id": episode.id,
        "env": episode.env,
        "task_id": episode.task.id,
        "content_hash": episode.task.content_hash,
        "task_type": episode.task.type,
        "split": episode.task.split,
        "protocol": episode.protocol,
        "policy": episode.policy,
        "reward": episode.reward,
    }


def split_calls(text: str) -> tuple[str, list[dict[str, Any]]]:
    """A turn's text before its tool calls, and the calls as ``{"name", "arguments"}``.

    No calls and the whole text where the chat template would not write this text from them.
    """
    calls = [{"name": call.name, "arguments": call.arguments} for call in parse_tool_calls(text)]
    if not calls or any(call["arguments"] is None for call in calls):
        return text, []
    before, _, _ = text.partition("<tool_call>")
    content = before.removesuffix("\n") if before != "\n" else before
    # As the template does: the name as it is, the arguments as JSON in their own order.
    shown = [
        f'<tool_call>\n{{"name": "{c["name"]}", "arguments": {_json(c["arguments"])}}}\n</tool_call>' for c in calls
    ]
    written = "\n".join([content, *shown] if content else shown)
    return (content, calls) if written == text else (text, [])


def _message_json(message: Message) -> dict[str, Any]:
    if message.role is not Role.ASSISTANT:
        return {"role": message.role.value, "content": message.content}
    content, calls = split_calls(message.content)
    row: dict[str, Any] = {"role": message.role.value, "content": content}
    if calls:
        row["tool_calls"] = [{"type": "function", "function": call} for call in calls]
    return row


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _session(episode: Episode) -> ProtocolSession | None:
    """The protocol at the episode's beginning; None for an environment or a protocol of somebody else's."""
    try:
        spec = default_registry().spec(episode.env)
        return get_protocol(episode.protocol).session(spec, _view(episode, episode.initial, None, 0))
    except (UnknownEnv, ConfigError):
        return None


def _reply(session: ProtocolSession | None, episode: Episode, turn: Turn, first_step: int) -> tuple[Message, ...]:
    parsed = session.parse(turn.text) if session is not None else None
    called = bool(parsed and (parsed.actions or parsed.errors))
    if session is not None and parsed is not None and len(parsed.actions) == len(turn.steps) and parsed.ends is None:
        views = list(_views(episode, turn.steps, first_step))
        messages = session.reply(parsed, views)
        if "\n".join(message.content for message in messages) == turn.reply:
            return messages
    tool = called and episode.protocol == "agentbench_fc"
    return (Message(Role.TOOL if tool else Role.USER, turn.reply),)


def _views(episode: Episode, steps: Sequence[StepRecord], first: int) -> Iterator[EpisodeView]:
    for number, step in enumerate(steps, first + 1):
        yield _view(episode, step.observation, step, number)


def _view(episode: Episode, observation: Observation, step: StepRecord | None, number: int) -> EpisodeView:
    over = step is not None and (step.terminated or step.truncated)
    return EpisodeView(
        id=episode.id,
        env=episode.env,
        task=episode.task,
        seed=episode.seed,
        options=episode.options,
        status=EpisodeStatus.COMPLETED if over else EpisodeStatus.RUNNING,
        steps=number,
        observation=observation,
        reward=step.reward if step else 0.0,
        terminated=step.terminated if step else False,
        truncated=step.truncated if step else False,
        valid=step.valid if step else True,
        state_hash=step.state_hash if step else "",
        info=_EMPTY,
    )
