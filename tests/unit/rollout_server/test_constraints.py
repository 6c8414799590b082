"""What a constraint's grammar admits, judged by xgrammar itself; and what cannot be constrained."""

from __future__ import annotations

import json

import pytest

from envs.errors import InvalidOption
from envs.registry import ALFWORLD, DBBENCH
from envs.types import Action, Observation, ToolSpec
from rollout_server.constraints import Constrain, Constraint, choice_constraint, tool_constraint
from rollout_server.protocols import get_protocol
from rollout_server.protocols.hermes import parse_tool_calls, render_tool_call

HARD = ("go", "go to", 'say "hi"', "back\\slash", "two\nlines\t", "é😀", "a | b ::= (c)", "del\x7f")


def admits(constraint: Constraint, text: str) -> bool:
    from xgrammar.testing import _is_grammar_accept_string

    accepted: bool = _is_grammar_accept_string(constraint.grammar, text)
    return accepted


def test_exactly_the_choices_are_admitted() -> None:
    constraint = choice_constraint((*HARD, "go"))
    assert constraint.choices == len(HARD)
    assert all(admits(constraint, text) for text in HARD)
    assert not any(admits(constraint, text) for text in ("", "g", "go ", "go to desk", "goo", "GO", 'say "hi', "gogo"))
    assert constraint.digest == choice_constraint(HARD).digest != choice_constraint(HARD[1:]).digest
    with pytest.raises(InvalidOption, match="nothing to choose"):
        choice_constraint(())


@pytest.mark.parametrize("protocol", ["agentbench_fc", "agentbench_classic"])
def test_an_admissible_command_is_admitted_in_its_protocols_frame_alone(protocol: str) -> None:
    kind = get_protocol(protocol)
    commands = ("go to desk 1", "go to desk 10", "look")
    constraint = kind.constraint(ALFWORLD, Constrain.ADMISSIBLE, Observation("", commands))
    assert constraint is not None
    for command in commands:
        said = kind.render_action(ALFWORLD, Action("take_action", {"action": command}))
        assert admits(constraint, said)
        assert not admits(constraint, "I think.\n" + said)
        assert not admits(constraint, command)
    assert not admits(constraint, kind.render_action(ALFWORLD, Action("take_action", {"action": "go to desk 11"})))
    assert kind.constraint(ALFWORLD, Constrain.NONE, Observation("", commands)) is None
    assert kind.constraint(ALFWORLD, Constrain.ADMISSIBLE, Observation("Nothing is listed.")) is None


def test_calls_of_the_tools_are_admitted_as_they_are_written() -> None:
    constraint = tool_constraint(DBBENCH.tools)
    good = (
        Action("execute_sql", {"query": "SELECT `a` FROM t WHERE b = 'x\"y\\z' -- é\n"}),
        Action("execute_sql", {"query": ""}),
        Action("commit_final_answer", {"answers": []}),
        Action("commit_final_answer", {"answers": ["1,000", "é😀", ""]}),
    )
    for action in good:
        said = render_tool_call(action)
        assert admits(constraint, said), said
        (call,) = parse_tool_calls(said)
        assert (call.name, call.arguments) == (action.name, dict(action.arguments))
    bad = (
        Action("drop_table", {"query": "x"}),
        Action("execute_sql", {"sql": "x"}),
        Action("execute_sql", {"query": 1}),
        Action("execute_sql", {"query": "x", "more": "y"}),
        Action("commit_final_answer", {"answers": "42"}),
        Action("commit_final_answer", {}),
    )
    assert not any(admits(constraint, render_tool_call(action)) for action in bad)
    said = render_tool_call(good[0])
    assert not any(admits(constraint, text) for text in (said + said, said[:-1], "Hm. " + said, said + "\n", ""))
    assert not admits(constraint, said.replace("é", "\x01"))


def test_every_kind_of_argument_is_held_to_its_schema() -> None:
    schema = {
        "type": "object",
        "properties": {
            "n": {"type": "integer"}, "x": {"type": "number"}, "b": {"type": "boolean"}, "e": {"enum": ["up", 2, None]},
            "o": {"type": "object", "properties": {"s": {"type": ["string", "null"]}}},
            "l": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
        },
    }  # fmt: skip
    constraint = tool_constraint([ToolSpec("t", "", schema)])
    good = {"n": -12, "x": 1.5e-7, "b": True, "e": None, "o": {"s": None}, "l": [[1, 2], []]}

    def call(arguments: object) -> str:
        return f'<tool_call>\n{{"name": "t", "arguments": {json.dumps(arguments)}}}\n</tool_call>'

    assert admits(constraint, call(good))
    for name, wrong in {"n": 1.5, "x": "1", "b": 1, "e": "down", "o": {}, "l": [1]}.items():
        assert not admits(constraint, call(good | {name: wrong})), name
    assert not admits(constraint, call(dict(reversed(good.items()))))


def test_a_schema_that_is_more_than_that_is_refused() -> None:
    with pytest.raises(InvalidOption, match=r"schema of t\.a\[\] cannot be constrained"):
        tool_constraint(
            [ToolSpec("t", "", {"type": "object", "properties": {"a": {"type": "array", "items": {"oneOf": []}}}})]
        )
