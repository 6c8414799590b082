"""Both engines at once: an episode that ends where they differ, without a reward. Needs the ``alfworld`` extra."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest
from alfworld_games import MUG_IN_LIGHT, kitchen

from envs.alfworld.both_engine import BothEngine, BothSession
from envs.alfworld.engine import ENGINES, Engine, GameSource, Session
from envs.alfworld.family import AlfworldFamily
from envs.alfworld.native_engine import NativeEngine
from envs.alfworld.state import State
from envs.alfworld.textworld_engine import TextWorldEngine
from envs.errors import (
    BackendUnavailable,
    CapacityExceeded,
    EngineMismatch,
    InfrastructureError,
    TaskDataError,
    error_from_json,
)
from envs.registry import ALFWORLD
from envs.types import Action

pytestmark = [
    pytest.mark.textworld,
    pytest.mark.skipif(importlib.util.find_spec("textworld") is None, reason="the alfworld extra is not installed"),
]

GAME = kitchen(MUG_IN_LIGHT)
KITCHEN = GameSource("kitchen", "kitchen.tw-pddl", lambda: GAME)
WAY = ("go to countertop 1", "take mug 1 from countertop 1", "use desklamp 1")


@pytest.fixture
def both(fast: TextWorldEngine) -> Iterator[BothEngine]:
    yield BothEngine(NativeEngine(), fast)  # not closed: the judge is used again
    assert "0 of 2 workers busy" in fast.ready().detail


@pytest.fixture
def lamps_without_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault that no text tells at once: a lamp's state is lost."""
    correct = State.mark

    def wrong(state: State, predicate: str, name: str, *, on: bool = True) -> None:
        if predicate != "istoggled":
            correct(state, predicate, name, on=on)

    monkeypatch.setattr(State, "mark", wrong)


def test_an_episode_of_both_is_the_native_one(both: BothEngine) -> None:
    native = NativeEngine().open(KITCHEN)
    session: Session = both.open(KITCHEN)
    assert isinstance(both, Engine)
    other = both.open(KITCHEN)
    assert not both.ready().ready  # both workers are in use
    with pytest.raises(CapacityExceeded):
        both.open(KITCHEN)
    other.close()
    assert session.reset() == native.reset()
    for command in ("nonsense", *WAY):
        assert session.step(command) == native.step(command)
        assert session.admissible() == native.admissible()
        assert session.state_hash() == native.state_hash() != ""
    assert session.won
    assert session.reset() == native.reset()
    assert not session.won
    session.close()
    session.close()
    assert both.ready().ready
    with pytest.raises(BackendUnavailable, match="closed"):
        session.step("look")


@pytest.mark.usefixtures("lamps_without_effect")
def test_the_first_difference_ends_the_episode_and_frees_the_worker(both: BothEngine) -> None:
    session = both.open(KITCHEN)
    session.reset()
    session.step(WAY[0])
    session.step(WAY[1])
    with pytest.raises(EngineMismatch) as caught:
        session.step(WAY[2])
    error = caught.value
    assert isinstance(error, InfrastructureError)
    assert "kitchen.tw-pddl: won differs after 3 commands" in error.message
    assert "> use desklamp 1" in error.message
    assert "-True" in error.message
    assert "no reward" in error.hint
    assert isinstance(session, BothSession)
    assert session.difference is not None
    assert session.difference.commands == WAY
    assert "0 of 2 workers busy" in both.ready().detail
    for call in (lambda: session.step("look"), session.reset):
        with pytest.raises(EngineMismatch, match="won differs"):
            call()
    back = error_from_json({"error": error.to_json()}, http_status=error.http_status)
    assert type(back) is EngineMismatch
    assert back.message == error.message
    session.close()


def test_a_difference_in_the_introduction_is_found(both: BothEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envs.alfworld.native_engine.introduction", lambda state: "Hello")
    session = both.open(KITCHEN)
    with pytest.raises(EngineMismatch, match="text differs after 0 commands"):
        session.reset()
    session.close()


def test_games_that_one_engine_refuses(both: BothEngine) -> None:
    broken = kitchen() | {"pddl_problem": "(define (problem x)"}
    with pytest.raises(TaskDataError, match="unbalanced"):
        both.open(GameSource("broken", "broken", lambda: broken))

    class Refusing(NativeEngine):
        name = "picky"
        closed = 0

        def close(self) -> None:
            self.closed += 1

        def open(self, source: GameSource) -> Any:
            raise TaskDataError(f"{source.path}: not for me")

    with pytest.raises(EngineMismatch, match=r"picky refuses: .*: not for me"):
        BothEngine(NativeEngine(), Refusing()).open(KITCHEN)
    picky = Refusing()
    BothEngine(NativeEngine(), picky).close()
    assert picky.closed == 1


def play(family: AlfworldFamily, task_id: str) -> tuple[list[Any], Any]:
    """An expert's episode: (results, the error that ended it)."""
    env = family.make()
    results: list[Any] = []
    try:
        env.reset(family.task(task_id))
        while (action := env.expert_action()) is not None:
            results.append(env.step(action))
    except InfrastructureError as error:
        with pytest.raises(type(error)):
            env.step(Action(ALFWORLD.tools[0].name, {"action": "look"}))
        return results, error
    finally:
        env.close()
    return results, None


def test_the_family_plays_both() -> None:
    assert "both" in ENGINES
    family = AlfworldFamily(ALFWORLD, engine="both", textworld_workers=1)
    try:
        assert family.spec.blocking
        assert "beside TextWorld" in family.ready().detail
        task = "generated_easy/look_at_obj_in_light/0"
        results, error = play(family, task)
        assert error is None
        assert results[-1].reward == 1.0
        assert all(result.state_hash for result in results)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(State, "hash", lambda _: "")  # not what is compared
            assert play(family, task)[1] is None
            correct = State.mark
            patch.setattr(
                State, "mark", lambda self, what, *a, **k: correct(self, what, *a, **k) if "tog" not in what else None
            )
            results, error = play(family, task)
        assert isinstance(error, EngineMismatch)
        assert all(result.reward == 0.0 for result in results)  # none for the step that differs
        assert family.ready().ready
    finally:
        family.close()
