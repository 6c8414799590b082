"""The protocol of the environment's bare words."""

from __future__ import annotations

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


def test_its_limits() -> None:
    assert protocol.max_turns(ALFWORLD) == 20
    assert protocol.env_options(ALFWORLD) == {}
    with pytest.raises(ConfigError, match="bare"):
        protocol.session(DBBENCH, dbbench_view())
    with pytest.raises(InvalidOption, match="no tools"):
        protocol.constraint(ALFWORLD, Constrain.TOOLS)
