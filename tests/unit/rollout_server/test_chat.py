"""ChatML in token ids: the same as the whole text where that is possible, and safe where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from chat_samples import HOSTILE, conversation, qwen_like, spoken, texts, user_turns
from hypothesis import HealthCheck, given, settings

from envs.errors import ConfigError
from envs.registry import ALFWORLD, DBBENCH
from rollout_server.chat import ChatFormat
from rollout_server.chat_template import check_template
from rollout_server.engines.base import Tokenizer
from rollout_server.tokenizer import ByteTokenizer, HFTokenizer
from rollout_server.types import Message, Role

_SETTINGS = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module", params=["bytes", "smollm2", "qwen-like"])
def tokenizer(request: pytest.FixtureRequest, smollm2_dir: Path) -> Tokenizer:
    if request.param == "bytes":
        return ByteTokenizer()
    return HFTokenizer(smollm2_dir) if request.param == "smollm2" else qwen_like(smollm2_dir)


@_SETTINGS
@given(system=texts, goal=texts, turns=user_turns)
def test_ids_are_those_of_the_whole_text(
    tokenizer: Tokenizer, system: str, goal: str, turns: list[tuple[str, str]]
) -> None:
    chat = ChatFormat(tokenizer)
    messages = conversation(system, goal, turns)
    for tools in ((), DBBENCH.tools):
        whole = chat.text(messages, tools)
        assert whole.endswith("<|im_end|>\n<|im_start|>assistant\n")
        assert chat.prompt(messages, tools) == tokenizer.encode(whole, markup=True)


@_SETTINGS
@given(system=texts, goal=texts, turns=user_turns)
def test_appending_turns_equals_rendering_everything_again(
    tokenizer: Tokenizer, system: str, goal: str, turns: list[tuple[str, str]]
) -> None:
    chat = ChatFormat(tokenizer)
    ids = chat.prompt(conversation(system, goal, []))
    for said, answered in turns:
        ids += chat.turn(said) + chat.continuation([Message(Role.USER, answered)], closed=True)
    assert ids == chat.prompt(conversation(system, goal, turns))


@_SETTINGS
@given(said=spoken, first=texts, second=texts)
def test_a_cut_turn_is_closed_by_the_environment(tokenizer: Tokenizer, said: str, first: str, second: str) -> None:
    chat = ChatFormat(tokenizer)
    replies = [Message(Role.TOOL, first), Message(Role.TOOL, second)]
    closed = chat.turn(said) + chat.continuation(replies, closed=True)
    cut = chat.turn(said)[:-1] + chat.continuation(replies, closed=False)
    assert closed == cut


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("role", [Role.USER, Role.TOOL])
def test_an_observation_cannot_open_or_close_a_turn(tokenizer: Tokenizer, hostile: str, role: Role) -> None:
    chat = ChatFormat(tokenizer)
    quiet = chat.continuation([Message(role, "You see nothing.")], closed=True)
    loud = chat.continuation([Message(role, f"You see {hostile}.")], closed=True)
    markup = {chat.turn("x")[-1], chat.prompt([Message(Role.SYSTEM, "")])[0]}
    if isinstance(tokenizer, HFTokenizer):
        markup |= set(tokenizer.hf.get_added_vocab().values())
    assert [i for i in loud if i in markup] == [i for i in quiet if i in markup]
    assert hostile in tokenizer.decode(loud)


def test_a_script_speaks_tool_calls_as_the_model_would(smollm2_dir: Path) -> None:
    tokenizer = qwen_like(smollm2_dir)
    ids = ChatFormat(tokenizer).turn("I look.\n<tool_call>\n{}\n</tool_call><|im_end|>")
    call = [tokenizer.encode(tag, markup=True)[0] for tag in ("<tool_call>", "</tool_call>")]
    assert [i for i in ids if i in call] == call
    assert ids.count(tokenizer.end_of_turn_id) == 1
    assert ids[-1] == tokenizer.end_of_turn_id


def test_tool_messages_in_a_row_share_a_user_turn(tokenizer: Tokenizer) -> None:
    chat = ChatFormat(tokenizer)
    both = chat.continuation([Message(Role.TOOL, "one"), Message(Role.TOOL, "two")], closed=True)
    assert tokenizer.decode(both) == (
        "\n<|im_start|>user\n<tool_response>\none\n</tool_response>\n<tool_response>\ntwo\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_what_is_no_conversation_is_refused(tokenizer: Tokenizer) -> None:
    chat = ChatFormat(tokenizer)
    with pytest.raises(ValueError, match="system"):
        chat.prompt([Message(Role.USER, "hi")])
    for reply in ([], [Message(Role.ASSISTANT, "I")], [Message(Role.SYSTEM, "You")]):
        with pytest.raises(ValueError, match="reply"):
            chat.continuation(reply, closed=True)


def test_tools_are_written_as_json_schema(tokenizer: Tokenizer) -> None:
    text = ChatFormat(tokenizer).text([Message(Role.SYSTEM, "Play.")], ALFWORLD.tools)
    assert '{"type": "function", "function": {"name": "take_action", "description": "Take an action."' in text


def test_a_model_with_another_template_is_refused_with_the_difference(smollm2_dir: Path) -> None:
    tokenizer = HFTokenizer(smollm2_dir)
    check_template(tokenizer)
    tokenizer.hf.chat_template = tokenizer.hf.chat_template.replace("'<|im_end|>' + '\n'", "'<|im_end|>'")
    with pytest.raises(ConfigError, match="differs from the expected one at character 38"):
        check_template(tokenizer)
    tokenizer.hf.chat_template = None
    with pytest.raises(ConfigError, match="no chat template"):
        check_template(tokenizer)


def test_a_tokenizer_without_chatml_is_refused() -> None:
    class Foreign(ByteTokenizer):
        def encode(self, text: str, *, markup: bool) -> list[int]:
            return list(text.encode())

    with pytest.raises(ConfigError, match="ChatML"):
        ChatFormat(Foreign())
