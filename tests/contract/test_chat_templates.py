"""Our ChatML is, character by character, what the models' own templates render.

Qwen's templates are read from the installed TRL, which stores them as the models ship them; SmolLM2's is its own.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from chat_samples import conversation, qwen_like, texts, user_turns
from hypothesis import HealthCheck, given, settings

from envs.errors import ConfigError
from envs.registry import ALFWORLD, DBBENCH
from envs.types import Action
from rollout_server.chat import ChatFormat, tool_json
from rollout_server.chat_template import check_template
from rollout_server.protocols.hermes import render_tool_call
from rollout_server.tokenizer import HFTokenizer
from rollout_server.types import Message, Role

QWEN = ("qwen2_5", "qwen3_instruct_2507")
FACTS = {  # default system prompt, thinking
    "qwen2_5": ("You are Qwen, created by Alibaba Cloud. You are a helpful assistant.", "none"),
    "qwen3_instruct_2507": (None, "none"),
    "qwen3": (None, "switch"),
}
_SETTINGS = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def smollm2(smollm2_dir: Path) -> HFTokenizer:
    return HFTokenizer(smollm2_dir)


@pytest.fixture(scope="module")
def qwen(smollm2_dir: Path) -> HFTokenizer:
    return qwen_like(smollm2_dir)


@pytest.fixture(scope="module", params=QWEN)
def template(request: pytest.FixtureRequest) -> str:
    return (resources.files("trl") / "chat_templates" / f"{request.param}.jinja").read_text(encoding="utf-8")


def render(tokenizer: HFTokenizer, rows: list[dict[str, Any]], template: str | None = None, tools: Any = None) -> str:
    text = tokenizer.hf.apply_chat_template(
        rows, tools=tools, chat_template=template, tokenize=False, add_generation_prompt=True
    )
    assert isinstance(text, str)
    return text


def rows_of(messages: list[Message]) -> list[dict[str, Any]]:
    return [{"role": message.role.value, "content": message.content} for message in messages]


SQL = Action("execute_sql", {"query": "SELECT `Größe` FROM t WHERE a = 'x\"y'"})
COMMIT = Action("commit_final_answer", {"answers": ["42", "é"]})
CALLS = [[SQL], [SQL, COMMIT]]
RESULTS = [["[('1,80',)]"], ["[]", "Answer committed."]]


def as_row(text: str, actions: list[Action]) -> dict[str, Any]:
    calls = [{"type": "function", "function": {"name": a.name, "arguments": dict(a.arguments)}} for a in actions]
    return {"role": "assistant", "content": text, "tool_calls": calls}


@pytest.mark.parametrize("spoken", ["", "I think.\nThen I ask."])
def test_tool_turns_are_rendered_as_qwen_does(qwen: HFTokenizer, template: str, spoken: str) -> None:
    chat = ChatFormat(qwen)
    opening = [Message(Role.SYSTEM, "You help."), Message(Role.USER, "Question: how tall?\n")]
    ids = chat.prompt(opening, DBBENCH.tools)
    messages, rows = list(opening), rows_of(opening)
    for actions, results in zip(CALLS, RESULTS, strict=True):
        said = "\n".join([spoken] * bool(spoken) + [render_tool_call(action) for action in actions])
        answers = [Message(Role.TOOL, result) for result in results]
        messages += [Message(Role.ASSISTANT, said), *answers]
        rows += [as_row(spoken, actions), *rows_of(answers)]
        whole = render(qwen, rows, template, [tool_json(tool) for tool in DBBENCH.tools])
        assert chat.text(messages, DBBENCH.tools) == whole
        ids += chat.turn(said) + chat.continuation(answers, closed=True)
        assert ids == chat.prompt(messages, DBBENCH.tools) == qwen.encode(whole, markup=True)


@_SETTINGS
@given(system=texts, goal=texts, turns=user_turns)
def test_text_turns_are_rendered_as_qwen_does(
    qwen: HFTokenizer, template: str, system: str, goal: str, turns: list[tuple[str, str]]
) -> None:
    messages = conversation(system, goal, turns)
    chat = ChatFormat(qwen)
    assert chat.text(messages) == render(qwen, rows_of(messages), template)
    with_tools = render(qwen, rows_of(messages), template, [tool_json(tool) for tool in ALFWORLD.tools])
    assert chat.text(messages, ALFWORLD.tools) == with_tools


@_SETTINGS
@given(system=texts, goal=texts, turns=user_turns)
def test_appended_ids_are_those_of_smollm2s_own_template(
    smollm2: HFTokenizer, system: str, goal: str, turns: list[tuple[str, str]]
) -> None:
    chat = ChatFormat(smollm2)
    ids = chat.prompt(conversation(system, goal, []))
    for said, answered in turns:
        ids += chat.turn(said) + chat.continuation([Message(Role.USER, answered)], closed=True)
    rows = rows_of(conversation(system, goal, turns))
    theirs = smollm2.hf.apply_chat_template(rows, tokenize=True, add_generation_prompt=True, return_dict=False)
    assert ids == theirs


def test_the_check_at_start_accepts_the_supported_models(
    smollm2: HFTokenizer, qwen: HFTokenizer, template: str
) -> None:
    check_template(smollm2)
    qwen.hf.chat_template = template
    check_template(qwen)


def test_the_check_at_start_sees_a_difference_in_the_tools_alone(qwen: HFTokenizer, template: str) -> None:
    qwen.hf.chat_template = template.replace("# Tools", "# Functions")
    with pytest.raises(ConfigError, match=r"'Functions\\n"):
        check_template(qwen)
    qwen.hf.chat_template = template.replace("</tool_response>", "</response>")
    with pytest.raises(ConfigError, match="response"):
        check_template(qwen)


def stored(name: str) -> str:
    return (resources.files("trl") / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FACTS)
def test_what_a_template_does_is_found_out(qwen: HFTokenizer, name: str) -> None:
    qwen.hf.chat_template = stored(name)
    facts = check_template(qwen)
    assert (facts.default_system, facts.thinking) == FACTS[name]
    assert facts.tools
    assert facts.difference is None
    assert ("thoughts" in facts.describe()) == (name == "qwen3")


def test_smollm2_knows_no_tools_and_has_a_system_prompt_of_its_own(smollm2: HFTokenizer) -> None:
    facts = check_template(smollm2)
    assert not facts.tools
    assert facts.default_system is not None
    assert "SmolLM" in facts.default_system


@pytest.mark.parametrize("name", ["qwen3_5_think", "qwen3_5_nothink"])
def test_another_qwen_is_refused_and_can_be_taken_all_the_same(qwen: HFTokenizer, name: str) -> None:
    qwen.hf.chat_template = stored(name)
    with pytest.raises(ConfigError, match="differs from the expected one") as caught:
        check_template(qwen)
    assert "any_chatml" in str(caught.value.hint)
    facts = check_template(qwen, accept="any_chatml")
    assert "differs" in str(facts.difference)
    assert facts.thinking == ("always" if name == "qwen3_5_think" else "switch")


def test_a_template_without_chatml_is_refused_even_so(qwen: HFTokenizer) -> None:
    qwen.hf.chat_template = stored("gemma")
    with pytest.raises(ConfigError):
        check_template(qwen, accept="any_chatml")


def test_a_base_models_end_token_is_seen(qwen: HFTokenizer, template: str) -> None:
    qwen.hf.chat_template = template
    ends = qwen.hf.eos_token
    qwen.hf.eos_token = "<|endoftext|>"
    try:
        with pytest.raises(ConfigError, match="base model"):
            check_template(qwen)
    finally:
        qwen.hf.eos_token = ends
