"""Tool calls read from a model's text: every shape of it, and nothing that could do harm later."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.types import Action
from rollout_server.protocols.hermes import ToolCall, parse_tool_calls, render_tool_call

BROKEN = ToolCall("", None)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=8,
)


def tidy(text: str) -> bool:
    return "tool_call" not in text and text.isprintable()


@given(st.text(min_size=1).filter(tidy), st.dictionaries(st.text().filter(tidy), st.text().filter(tidy), max_size=3))
def test_what_is_written_is_read_back(name: str, arguments: dict[str, str]) -> None:
    text = f"I think.\n{render_tool_call(Action(name, arguments))}"
    assert parse_tool_calls(text + text) == (ToolCall(name, arguments),) * 2


@given(st.text())
def test_any_text_is_read_without_an_exception(text: str) -> None:
    for call in parse_tool_calls(f"<tool_call>{text}</tool_call>{text}<tool_call>{text}"):
        json.dumps(dict(call.arguments or {}), allow_nan=False).encode()


@given(values)
def test_any_json_is_read_as_a_call_or_refused(value: object) -> None:
    (call,) = parse_tool_calls(f"<tool_call>{json.dumps(value)}</tool_call>")
    assert call == BROKEN or isinstance(value, dict)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        '"go"',
        '{"name": "f"}',
        '{"name": 3, "arguments": {}}',
        '{"name": "f", "arguments": [1]}',
        '{"name": "f", "arguments": "go"}',
        '{"name": "f", "arguments": {"a": NaN}}',
        '{"name": "f", "arguments": {"a": 1e999}}',
        '{"name": "f", "arguments": {"a": ' + "9" * 5000 + "}}",
        "[" * 100_000,
        "__import__('os').system('true')",
    ],
)
def test_what_is_no_call_is_broken(body: str) -> None:
    assert parse_tool_calls(f"<tool_call>\n{body}\n</tool_call>") == (BROKEN,)


def test_arguments_as_a_string_of_json_are_read() -> None:
    text = '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>'
    assert parse_tool_calls(text) == (ToolCall("f", {"a": 1}),)


def test_a_last_call_without_its_closing_tag_counts() -> None:
    text = 'Well.\n<tool_call>\n{"name": "f", "arguments": {}}\n'
    assert parse_tool_calls(text) == (ToolCall("f", {}),)
    assert parse_tool_calls(text[:-8]) == (BROKEN,)
    assert parse_tool_calls("no call") == ()


def test_lone_surrogates_become_question_marks() -> None:
    text = '<tool_call>{"name": "f", "arguments": {"\\ud800": ["\\udfff"]}}</tool_call>'
    assert parse_tool_calls(text) == (ToolCall("f", {"?": ["?"]}),)
