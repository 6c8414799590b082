"""The classic text protocol, case by case as AgentBench v0.2 does it."""

from __future__ import annotations

import pytest
from protocol_samples import alfworld_view, dbbench_view

from envs.registry import ALFWORLD, DBBENCH
from envs.types import Action, EpisodeStatus
from rollout_server.protocols import get_protocol
from rollout_server.protocols.base import ParsedTurn, ProtocolSession
from rollout_server.types import Message, Role

ACTIONS = ("go to fridge 1", "go to shelf 1", "look")
INVALID = ParsedTurn(ends=EpisodeStatus.INVALID_ACTION)
protocol = get_protocol("agentbench_classic")


@pytest.fixture
def house() -> ProtocolSession:
    return protocol.session(ALFWORLD, alfworld_view(actions=ACTIONS))


@pytest.fixture
def database() -> ProtocolSession:
    return protocol.session(DBBENCH, dbbench_view())


def test_the_published_limits() -> None:
    assert [protocol.max_turns(env) for env in (ALFWORLD, DBBENCH)] == [35, 15]
    assert protocol.env_options(DBBENCH) == {"rules": "classic"}


def test_an_instruction_an_ok_one_example_and_the_task(house: ProtocolSession) -> None:
    opening = house.opening()
    assert opening.tools == ()
    system, *turns = opening.messages
    assert system.role is Role.SYSTEM
    assert [m.role for m in turns] == [(Role.USER, Role.ASSISTANT)[i % 2] for i in range(len(turns))]
    assert turns[1].content == "OK. I'll follow your instructions and try my best to solve the task."
    assert turns[2].content.startswith("Here is one example.\nYou are in the middle of a room.")
    assert "put some spraybottle on toilet" in turns[2].content
    assert turns[-2].content == "ACTION: Task succeeded.\n"
    assert turns[-1].content.endswith(" AVAILABLE ACTIONS: go to fridge 1\ngo to shelf 1\nlook\n")
    assert "Welcome" not in turns[-1].content


def test_an_action_line_is_matched_against_the_whole_list(house: ProtocolSession) -> None:
    parsed = house.parse("THOUGHT: the shelf.\nACTION: Go to the shelf 1\nACTION: look")
    assert parsed.actions == (Action("take_action", {"action": "go to shelf 1"}),)


def test_later_lists_leave_out_what_the_first_has(house: ProtocolSession) -> None:
    view = alfworld_view("You arrive at loc 3. You see a mug 1.", ("go to fridge 1", "look", "take mug 1 from shelf 1"))
    reply = house.reply(house.parse("ACTION: go to shelf 1"), [view])
    assert reply == (Message(Role.USER, "You see a mug 1. AVAILABLE ACTIONS: take mug 1 from shelf 1\n"),)
    assert house.parse("ACTION: go to fridge").actions[0].arguments == {"action": "go to fridge 1"}


def test_no_action_line_ends_the_episode(house: ProtocolSession) -> None:
    assert house.parse("I go to the shelf.") == INVALID


def test_the_same_output_three_times_ends_the_episode(house: ProtocolSession) -> None:
    house.parse("ACTION: go to fridge 1")
    assert [house.parse("ACTION: look").ends for _ in range(3)] == [None, None, EpisodeStatus.REPETITION]


def test_the_database_is_put_as_v02_puts_it(database: ProtocolSession) -> None:
    _, instruction, ok, task = database.opening().messages
    assert instruction.content.startswith("\nI will ask you a question")
    assert ok == Message(Role.ASSISTANT, "Ok.")
    assert task == Message(Role.USER, "How many?\nThe table is t.")


@pytest.mark.parametrize(
    ("text", "action"),
    [
        (
            "I count.\nAction: Operation\n```sql\nSELECT\n COUNT(*) FROM t\n```\n```sql\nDROP TABLE t\n```",
            Action("execute_sql", {"query": "SELECT  COUNT(*) FROM t"}),
        ),
        ('Done.\nAction: Answer\nFinal Answer: ["1", "2"]', Action("commit_final_answer", {"answers": ' ["1", "2"]'})),
        ("No action line.\nFinal Answer: 7", Action("commit_final_answer", {"answers": " 7"})),
    ],
)
def test_one_statement_or_one_answer_is_read(database: ProtocolSession, text: str, action: Action) -> None:
    assert database.parse(text) == ParsedTurn((action,))


@pytest.mark.parametrize(
    "text",
    ["SELECT 1", "Action: Operation\nSELECT 1", "Action: Operation\n```\nSELECT 1\n```", "Action: Answer\n42", ""],
)
def test_what_fits_no_pattern_ends_the_episode(database: ProtocolSession, text: str) -> None:
    assert database.parse(text) == INVALID


def test_a_change_is_judged_even_without_an_answer() -> None:
    closings = {kind: protocol.session(DBBENCH, dbbench_view(type=kind)).closing() for kind in ("UPDATE", "ranking")}
    assert closings == {"UPDATE": (Action("commit_final_answer", {"answers": []}),), "ranking": ()}


@pytest.mark.parametrize(
    ("action", "text"),
    [
        (Action("execute_sql", {"query": "SELECT 1"}), "Action: Operation\n```sql\nSELECT 1\n```"),
        (Action("commit_final_answer", {"answers": ["é", "2"]}), 'Action: Answer\nFinal Answer: ["é", "2"]'),
    ],
)
def test_what_is_rendered_is_read_back(database: ProtocolSession, action: Action, text: str) -> None:
    assert protocol.render_action(DBBENCH, action) == text
    assert database.parse(text).actions[0].name == action.name


def test_a_result_is_the_next_message(database: ProtocolSession) -> None:
    parsed = database.parse("Action: Operation\n```sql\nSELECT 1\n```")
    assert database.reply(parsed, [dbbench_view("")]) == (Message(Role.USER, ""),)
