"""The function-calling protocol, case by case as AgentBench does it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from protocol_samples import QUESTION, alfworld_view, dbbench_view

from envs.errors import ConfigError, InvalidOption
from envs.registry import ALFWORLD, DBBENCH
from envs.types import Action, EpisodeStatus
from rollout_server.protocols import PROTOCOLS, get_protocol
from rollout_server.protocols.base import AgentProtocol, ParsedTurn, ProtocolSession
from rollout_server.types import Message, Role

ACTIONS = ("go to fridge 1", "go to shelf 1", "look")
protocol = get_protocol("agentbench_fc")


def call(name: str, **arguments: object) -> str:
    return protocol.render_action(ALFWORLD, Action(name, arguments))


def go(text: str) -> str:
    return call("take_action", action=text)


@pytest.fixture
def house() -> ProtocolSession:
    return protocol.session(ALFWORLD, alfworld_view(actions=ACTIONS))


@pytest.fixture
def database() -> ProtocolSession:
    return protocol.session(DBBENCH, dbbench_view())


def test_protocols_are_found_by_name() -> None:
    for known in PROTOCOLS:
        assert get_protocol(known.name) is known
        assert isinstance(known, AgentProtocol)
    with pytest.raises(InvalidOption, match="agentbench_fc, agentbench_classic"):
        get_protocol("react")


@pytest.mark.parametrize("known", PROTOCOLS, ids=lambda p: p.name)
def test_an_unknown_environment_is_refused(known: AgentProtocol) -> None:
    webshop = replace(ALFWORLD, name="webshop")
    for refused in (known.max_turns, lambda env: known.session(env, alfworld_view())):
        with pytest.raises(ConfigError, match="webshop-v1"):
            refused(webshop)


def test_the_published_limits() -> None:
    assert [protocol.max_turns(env) for env in (ALFWORLD, DBBENCH)] == [20, 15]
    assert protocol.env_options(DBBENCH) == {"rules": "fc"}
    assert protocol.env_options(ALFWORLD) == {}


def test_the_household_is_put_as_agentbench_puts_it(house: ProtocolSession) -> None:
    opening = house.opening()
    assert [message.role for message in opening.messages] == [Role.SYSTEM, Role.USER]
    assert opening.messages[1].content == (
        "Here is your task. You are in the middle of a room. Looking quickly around you, you see a fridge 1, and a "
        "shelf 1.\nYour task is to: put some mug on fridge. AVAILABLE ACTIONS: go to fridge 1\ngo to shelf 1\nlook\n"
    )
    assert opening.tools == ALFWORLD.tools


def test_of_several_calls_the_first_is_taken(house: ProtocolSession) -> None:
    parsed = house.parse(f"I go.\n{go('Go to Fridge 1')}\n{go('look')}")
    assert parsed == ParsedTurn((Action("take_action", {"action": "go to fridge 1"}),))


def test_the_first_argument_counts_whatever_the_names(house: ProtocolSession) -> None:
    parsed = house.parse(call("move_around", where="look", how="slowly"))
    assert parsed.actions == (Action("take_action", {"action": "look"}),)


def test_every_answer_has_the_list_of_now_and_matching_uses_it(house: ProtocolSession) -> None:
    view = alfworld_view("You arrive at loc 3. On the shelf 1, you see a mug 1.", ("look", "take mug 1 from shelf 1"))
    assert house.reply(house.parse(go("go to shelf 1")), [view]) == (
        Message(Role.TOOL, "On the shelf 1, you see a mug 1. AVAILABLE ACTIONS: look\ntake mug 1 from shelf 1\n"),
    )
    assert house.parse(go("take the mug")).actions[0].arguments == {"action": "take mug 1 from shelf 1"}


@pytest.mark.parametrize(
    ("text", "nudge"),
    [
        ("I would go to the fridge.", "No executable tool calls found. Please call a tool instead"),
        ("<tool_call>\n{bad\n</tool_call>", "No valid tool calls found. Please call a tool instead."),
        (call("take_action"), "No valid tool calls found. Please call a tool instead."),
        (call("take_action", action=7), "No valid tool calls found. Please call a tool instead."),
    ],
)
def test_a_turn_without_a_usable_call_is_nudged(house: ProtocolSession, text: str, nudge: str) -> None:
    parsed = house.parse(text)
    assert parsed == ParsedTurn(nudge=nudge)
    assert house.reply(parsed, []) == (Message(Role.USER, nudge),)


def test_three_identical_outputs_from_the_fourth_step_end_the_episode(house: ProtocolSession) -> None:
    assert house.parse(go("look")).ends is None
    for _ in range(2):
        assert house.parse(go("go to shelf 1")).ends is None
        house.parse("no call: such a turn is no step")
    assert house.parse(go("go to shelf 1")) == ParsedTurn(ends=EpisodeStatus.REPETITION)
    assert house.closing() == ()


def test_the_database_is_put_as_agentbench_puts_it(database: ProtocolSession) -> None:
    opening = database.opening()
    assert [message.role for message in opening.messages] == [Role.SYSTEM, Role.USER]
    assert opening.messages[1].content == QUESTION
    assert opening.tools == DBBENCH.tools


def test_all_calls_run_in_order_and_a_broken_one_answers_in_its_place(database: ProtocolSession) -> None:
    text = "\n".join(
        [
            "Let me see.",
            call("execute_sql", sql="SELECT 1"),
            "<tool_call>\nSELECT 2\n</tool_call>",
            call("drop_everything", now=True),
            call("execute_sql", query="SELECT 3", why="curious"),
        ]
    )
    parsed = database.parse(text)
    assert parsed.actions == (
        Action("execute_sql", {"query": "SELECT 1"}),
        Action("execute_sql", {"query": "SELECT 3"}),
    )
    replies = database.reply(parsed, [dbbench_view("[(1,)]"), dbbench_view("")])
    assert replies == (
        Message(Role.TOOL, "[(1,)]"),
        Message(Role.TOOL, "Error: Failed to parse tool call. Tool call format is incorrect."),
        Message(Role.TOOL, "Invalid function call. Please call a tool instead."),
        Message(Role.TOOL, "No response from database."),
    )
    assert parsed.errors == (replies[1].content, replies[2].content)


def test_a_turn_without_a_call_is_nudged(database: ProtocolSession) -> None:
    parsed = database.parse("The answer is 42.")
    assert not parsed.actions
    nudge = "Internal error: No tool calls found despite finish reason."
    assert database.reply(parsed, []) == (Message(Role.USER, nudge),)


@pytest.mark.parametrize(
    ("answers", "committed"),
    [
        (["42"], ["42"]),
        ([42, 1.5, None, True, {"a": 1}], [42, 1.5, None, True, "{'a': 1}"]),
        ('["a", "b"]', '["a", "b"]'),
        (42, [42]),
        (None, [None]),
        ([], []),
    ],
)
def test_whatever_is_committed_reaches_the_scorer(
    database: ProtocolSession, answers: object, committed: object
) -> None:
    parsed = database.parse(call("commit_final_answer", answer=answers))
    assert parsed.actions == (Action("commit_final_answer", {"answers": committed}),)


@pytest.mark.parametrize(
    "text", [call("commit_final_answer"), call("execute_sql"), call("execute_sql", query=["SELECT 1"])]
)
def test_a_call_without_its_argument_is_an_error(database: ProtocolSession, text: str) -> None:
    assert database.parse(text) == ParsedTurn(
        errors=("Error: Failed to parse tool call. Tool call format is incorrect.",)
    )
