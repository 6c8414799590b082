"""An episode's history: what it did, exactly, in few bytes, and how it is compared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from envs.server.history import HISTORY_LIMIT, History, digest
from envs.types import Action, Observation, StepResult

FIRST = StepResult(Observation("Begin.", ("a", "b")), 0.0, terminated=False, truncated=False)
NEXT = replace(FIRST, observation=Observation("Go on.", ("a",)), state_hash="1f")
ACTIONS = (
    Action("take_action", {"action": "go to desk 1"}),
    Action("look", {}),
    Action('\ud800 "é"\n\x00', {"list": [1, 2.5, None, True], "nested": {"ä": "\ud800"}}),
)


def history() -> History:
    made = History(FIRST)
    for action in ACTIONS:
        made.add(action, NEXT)
    return made


def test_it_gives_back_what_was_done() -> None:
    made = history()
    assert list(made.steps()) == [(digest(NEXT), action) for action in ACTIONS]
    assert (made.first_digest, made.last_action) == (digest(FIRST), ACTIONS[-1])
    assert (list(History(FIRST).steps()), History(FIRST).last_action) == ([], None)


@pytest.mark.parametrize("step", range(4))
def test_its_beginning_is_a_history_of_its_own(step: int) -> None:
    made = history()
    beginning = made.until(step)
    assert list(beginning.steps()) == list(made.steps())[:step]
    assert (beginning.first_digest, beginning.last_action) == (digest(FIRST), ACTIONS[step - 1] if step else None)
    beginning.add(ACTIONS[0], FIRST)
    assert len(list(beginning.steps())) == step + 1
    assert len(list(made.steps())) == 3


def test_a_step_takes_less_than_80_bytes() -> None:
    made = History(FIRST)
    for _ in range(1000):
        made.add(Action("take_action", {"action": "move soapbottle 2 to countertop 1"}), NEXT)
    assert len(made._data) < 80 * 1000


def test_one_that_outgrows_its_limit_keeps_the_last_action_alone() -> None:
    made, long = History(FIRST), Action("take_action", {"action": "x" * (HISTORY_LIMIT // 4)})
    for step in range(20):
        assert made.complete == (step < 4)
        made.add(long, NEXT)
        assert made.last_action == long
        assert len(made._data) <= HISTORY_LIMIT
    made.add(ACTIONS[0], NEXT)
    copy = made.until(21)
    assert (copy.complete, copy.last_action, made.last_action) == (False, ACTIONS[0], ACTIONS[0])
    copy.add(ACTIONS[1], NEXT)
    assert (copy.complete, copy.last_action, made.last_action) == (False, ACTIONS[1], ACTIONS[0])
    assert len(made._data) < 100


@pytest.mark.parametrize(
    "change",
    [
        {"observation": Observation("Go off.", ("a",))},
        {"observation": Observation("Go on.", ("b",))},
        {"reward": 1.0},
        {"terminated": True},
        {"truncated": True},
        {"valid": False},
        {"state_hash": "2f"},
    ],
)
def test_results_differ_by_all_that_a_policy_can_see(change: dict[str, Any]) -> None:
    assert digest(replace(NEXT, **change)) != digest(NEXT)


def test_measurements_make_no_difference() -> None:
    again = replace(NEXT, observation=Observation("Go" + " on.", ("a",)), info={"seconds": 2.0})
    assert digest(again) == digest(NEXT)
