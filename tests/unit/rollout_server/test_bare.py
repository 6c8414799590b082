"""The protocol of the environment's bare words."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from protocol_samples import alfworld_view, dbbench_view

from envs.errors import ConfigError, InvalidOption
from envs.registry import ALFWORLD, DBBENCH
from envs.types import Action, EpisodeStatus
from rollout_server.constraints import Constrain
from rollout_server.protocols import get_protocol
from rollout_server.protocols.base import ProtocolSession
from rollout_server.types import Message, Role

ACTIONS = ("go to fridge 1", "look")
protocol = get_protocol("bare")


@pytest.fixture
def house() -> ProtocolSession:
    return protocol.session(ALFWORLD, alfworld_view(actions=ACTIONS))


@pytest.fixture
def database() -> ProtocolSession:
    return protocol.session(DBBENCH, dbbench_view())


def test_the_first_message_is_the_room_and_the_task(house: ProtocolSession) -> None:
    opening = house.opening()
    system, room = opening.messages
    assert (system.role, room.role) == (Role.SYSTEM, Role.USER)
    assert opening.tools == ()
    assert room.content.startswith("You are in the middle of a room.")
    assert "Welcome" not in room.content
    assert "AVAILABLE ACTIONS" not in room.content


def test_a_turn_is_a_command_and_its_answer_what_the_game_says(house: ProtocolSession) -> None:
    parsed = house.parse("I look for the fridge.\ngo to fridge 1")
    assert parsed.actions == (Action("take_action", {"action": "go to fridge 1"}),)
    view = alfworld_view("You arrive at loc 3. The fridge 1 is closed.", ACTIONS)
    assert house.reply(parsed, [view]) == (Message(Role.USER, "The fridge 1 is closed."),)


def test_what_is_no_command_is_left_to_the_game(house: ProtocolSession) -> None:
    assert house.parse("go to the fridge").actions[0].arguments == {"action": "go to the fridge"}


def test_the_same_three_times_ends_the_episode(house: ProtocolSession) -> None:
    outcomes = [house.parse(text).ends for text in ("go to fridge 1", "look", "look", "look")]
    assert outcomes == [None, None, None, EpisodeStatus.REPETITION]


def test_how_an_action_is_written() -> None:
    action = Action("take_action", {"action": "look"})
    assert protocol.render_action(ALFWORLD, action) == "look"
    assert protocol.render_action(ALFWORLD, action, "Where am I?") == "Where am I?\nlook"
    held = protocol.constraint(ALFWORLD, Constrain.ADMISSIBLE, alfworld_view(actions=ACTIONS).observation)
    assert held is not None
    assert held.choices == 2


def test_a_database_is_asked_in_statements_and_told_the_answer(database: ProtocolSession) -> None:
    opening = database.opening()
    assert [m.role for m in opening.messages] == [Role.SYSTEM, Role.USER]
    assert opening.messages[1].content == "The table is t.\nHow many?"
    parsed = database.parse("I count.\nSELECT COUNT(*) FROM t\n")
    assert parsed.actions == (Action("execute_sql", {"query": "SELECT COUNT(*) FROM t"}),)
    assert database.reply(parsed, [dbbench_view("[(4,)]")]) == (Message(Role.USER, "[(4,)]"),)
    assert database.reply(parsed, [dbbench_view("")]) == (Message(Role.USER, "No response from database."),)


@pytest.mark.parametrize("answers", [["4"], ["a, b", "ü"], []])
def test_what_an_expert_answers_is_read_as_it_was_written(database: ProtocolSession, answers: list[str]) -> None:
    text = protocol.render_action(DBBENCH, Action("commit_final_answer", {"answers": answers}))
    (action,) = database.parse(text).actions
    assert text == f"Answer: {action.arguments['answers']}"
    assert json.loads(action.arguments["answers"]) == answers


def test_a_turn_of_nothing_is_a_statement_that_the_database_refuses(database: ProtocolSession) -> None:
    assert database.parse("").actions == (Action("execute_sql", {"query": ""}),)


def test_its_limits() -> None:
    assert protocol.max_turns(ALFWORLD) == 20
    assert protocol.env_options(ALFWORLD) == {}
    assert protocol.max_turns(DBBENCH) == 6
    assert protocol.env_options(DBBENCH) == {"rules": "fc"}
    with pytest.raises(ConfigError, match="bare"):
        protocol.session(replace(DBBENCH, name="chess"), dbbench_view())
    with pytest.raises(InvalidOption, match="no tools"):
        protocol.constraint(ALFWORLD, Constrain.TOOLS)
