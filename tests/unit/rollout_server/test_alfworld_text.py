"""AgentBench's way with ALFWorld's texts and actions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_server.protocols.alfworld_text import (
    actions_text,
    intro_text,
    match_action,
    observation_text,
    repeats,
)

MOVE = ("go to fridge 1", "look", "move apple 1 to fridge 1", "take mug 2 from shelf 1")
PUT = ("go to fridge 1", "look", "put apple 1 in/on fridge 1", "take mug 2 from shelf 1")


@pytest.mark.parametrize(
    ("raw", "admissible", "action"),
    [
        ("  Go To Fridge 1 \nand then look", MOVE, "go to fridge 1"),
        ("put apple 1 in/on fridge 1", MOVE, "move apple 1 to fridge 1"),
        ("put apple 1 in fridge 1", MOVE, "move apple 1 to fridge 1"),
        ("put apple 1 on fridge 1", MOVE, "move apple 1 to fridge 1"),
        ("move apple 1 to fridge 1", PUT, "put apple 1 in/on fridge 1"),
        ("put apple 1 on fridge 1", PUT, "put apple 1 in/on fridge 1"),
        ("take the mug 2 from the shelf 1", MOVE, "take mug 2 from shelf 1"),
        ("go to the fridge", MOVE, "go to fridge 1"),
        ("dance", MOVE, "dance"),
        ("", MOVE, ""),
        ("\n\n", MOVE, ""),
        ("anything", (), "anything"),
    ],
)
def test_an_action_is_matched_to_the_games(raw: str, admissible: tuple[str, ...], action: str) -> None:
    assert match_action(raw, admissible) == action


@given(st.text())
def test_matching_gives_an_admissible_action_or_the_text_itself(raw: str) -> None:
    assert match_action(raw, MOVE) in (*MOVE, raw.strip().lower().split("\n")[0])


def test_the_first_of_equally_similar_actions_is_taken() -> None:
    assert match_action("open the drawer", ("open drawer 1", "open drawer 2")) == "open drawer 1"


def test_texts_lose_what_agentbench_drops() -> None:
    assert intro_text("-= Welcome to TextWorld, ALFRED! =-\n\nYou are here.\n\nYour task is to: x.") == (
        "You are here.\nYour task is to: x."
    )
    assert intro_text("You are here.\n\nYour task is to: x.") == "You are here.\nYour task is to: x."
    assert (
        observation_text("You arrive at loc 12. On the desk 1, you see a pen 1.") == "On the desk 1, you see a pen 1."
    )
    assert (
        observation_text("You arrive at desk 1. On the desk 1, you see.")
        == "You arrive at desk 1. On the desk 1, you see."
    )
    assert actions_text(("a", "b")) == " AVAILABLE ACTIONS: a\nb\n"


def test_three_in_a_row_count_from_the_fourth_step() -> None:
    assert not repeats(["a", "a", "a"])
    assert repeats(["a", "a", "a", "a"])
    assert repeats(["x", "a", "a", "a"])
    assert not repeats(["a", "a", "a", "b"])
    assert not repeats(["a", "a", "b", "a", "a"])
