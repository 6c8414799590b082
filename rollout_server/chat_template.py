"""Is a model's own chat template the one that episodes are written in? Asked before anything is played or trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from envs.errors import ConfigError
from envs.types import ToolSpec
from rollout_server.chat import ChatFormat, tool_json
from rollout_server.tokenizer import END_OF_TURN, START_OF_TURN, HFTokenizer
from rollout_server.types import Message, Role

__all__ = ["TemplateFacts", "check_template"]

_PROBE = (
    Message(Role.SYSTEM, "You play."),
    Message(Role.USER, "Question: how many?\n"),
    Message(Role.ASSISTANT, "I count."),
    Message(Role.USER, " Go on. 1,000 \n\n"),
)
_TOOL_PROBE = (
    *_PROBE[:2],
    Message(Role.ASSISTANT, 'I look.\n<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call>'),
    Message(Role.TOOL, "[(1, 'é')]"),
    Message(Role.TOOL, "Nothing. "),
)
_TOOLS = (ToolSpec("look", 'Look at "it".', {"type": "object", "properties": {}, "required": []}),)


@dataclass(frozen=True, slots=True)
class TemplateFacts:
    """What a model's template does. ``default_system``: the system prompt that it puts in where a conversation has none
    (episodes always have theirs). ``thinking``: ``switch`` where ``enable_thinking`` changes the prompt, ``always``
    where a turn begins inside a thought. ``difference``: how it departs from what episodes are written in, None where
    it does not."""

    tools: bool
    default_system: str | None
    thinking: Literal["none", "switch", "always"]
    difference: str | None = None

    def describe(self) -> str:
        """One line for a person."""
        thinking = {
            "none": "no thinking switch",
            "switch": "thinking is left on: thoughts are the policy's tokens and stay in the conversation",
            "always": "every turn begins inside a thought",
        }[self.thinking]
        system = f"its default system prompt {self.default_system!r} is never used" if self.default_system else None
        parts = ["ChatML", "tools as in Hermes" if self.tools else "knows no tools", system, thinking, self.difference]
        return "chat template: " + "; ".join(part for part in parts if part)


def check_template(tokenizer: HFTokenizer, *, accept: Literal["expected", "any_chatml"] = "expected") -> TemplateFacts:
    """Compare our ChatML with a model's own chat template: text turns, generation prompt, system message, and tool
    calls and responses where the template knows them. A model without (SmolLM2) is shown tools in Qwen's form.

    With ``any_chatml`` a difference is only noted, as long as turns are ChatML's. Raises ConfigError with the first
    difference, for another end token than ChatML's, and for no template at all.
    """
    template = getattr(tokenizer.hf, "chat_template", None)
    if not template:
        raise ConfigError("the model has no chat template", hint="use an instruction-tuned model with ChatML")
    tools = "<tool_response>" in str(template)
    cases: list[tuple[tuple[Message, ...], tuple[ToolSpec, ...]]] = [(_PROBE[:2], ()), (_PROBE, ())]
    if tools:
        cases += [(_PROBE, _TOOLS), (_TOOL_PROBE, _TOOLS)]
    difference = next((found for case in cases if (found := _difference(tokenizer, *case))), None)
    difference = difference or _end_token(tokenizer)
    if difference is not None and accept == "expected":
        raise ConfigError(
            difference,
            hint="supported: Qwen2.5-Instruct, Qwen3-Instruct-2507, Qwen3, SmolLM2-Instruct; model.template = "
            "'any_chatml' takes any other with ChatML's turns",
        )
    if difference is not None and not _is_chatml(_render(tokenizer, _PROBE)):
        raise ConfigError(f"the model's turns are not ChatML: {difference}", hint="use a model with the ChatML format")
    return TemplateFacts(tools, _default_system(tokenizer), _thinking(tokenizer), difference)


def _render(
    tokenizer: HFTokenizer, messages: tuple[Message, ...], tools: tuple[ToolSpec, ...] = (), **more: Any
) -> str:
    from jinja2 import TemplateError

    rows = [{"role": str(m.role), "content": m.content} for m in messages]
    schemas: list[Any] | None = [tool_json(tool) for tool in tools] or None
    try:
        text = tokenizer.hf.apply_chat_template(rows, tools=schemas, tokenize=False, add_generation_prompt=True, **more)
    except TemplateError as error:
        raise ConfigError(
            f"the model's chat template cannot write a conversation of {', '.join(m.role for m in messages)}: {error}",
            hint="use a model with the ChatML format",
        ) from error
    return str(text)


def _difference(tokenizer: HFTokenizer, messages: tuple[Message, ...], tools: tuple[ToolSpec, ...]) -> str | None:
    chat = ChatFormat(tokenizer)
    ours, theirs = chat.text(messages, tools), _render(tokenizer, messages, tools)
    if ours != theirs:
        same = (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
        at = next(same, min(len(ours), len(theirs)))
        return (
            f"the model's chat template differs from the expected one at character {at}: "
            f"{theirs[at : at + 60]!r} instead of {ours[at : at + 60]!r}"
        )
    if chat.prompt(messages, tools) != tokenizer.encode(theirs, markup=True):
        return "the tokenizer splits ChatML differently piece by piece than as a whole text"
    return None


def _end_token(tokenizer: HFTokenizer) -> str | None:
    """A base model's tokenizer ends with another token than a turn does, and would never be told that one is over."""
    end = getattr(tokenizer.hf, "eos_token", None)
    if end is None or end == END_OF_TURN:
        return None
    return f"the tokenizer's end token is {end!r}, and a turn of ChatML ends with {END_OF_TURN!r}: is it a base model?"


def _is_chatml(text: str) -> bool:
    """Whether each message stands between its header and the end of its turn, and the prompt ends with a header."""
    at = 0
    for message in _PROBE:
        begin = text.find(f"{START_OF_TURN}{message.role}\n", at)
        end = text.find(END_OF_TURN, begin)
        if begin < 0 or end < 0 or message.content.strip() not in text[begin:end]:
            return False
        at = end
    return f"{START_OF_TURN}assistant\n" in text[at:]


def _default_system(tokenizer: HFTokenizer) -> str | None:
    text = _render(tokenizer, _PROBE[1:2])
    head = f"{START_OF_TURN}system\n"
    return text.removeprefix(head).split(END_OF_TURN, 1)[0] if text.startswith(head) else None


def _thinking(tokenizer: HFTokenizer) -> Literal["none", "switch", "always"]:
    on, off = (_render(tokenizer, _PROBE[:2], enable_thinking=on) for on in (True, False))
    begun = _render(tokenizer, _PROBE[:2]).rsplit(START_OF_TURN, 1)[-1]
    if "<think>" in begun and "</think>" not in begun:
        return "always"
    return "none" if on == off else "switch"
