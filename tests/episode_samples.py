"""Episodes for tests that need a record and no rollout: one by hand, and any that the types allow."""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import strategies as st

from envs.types import Action, Observation, Task
from rollout_server.types import (
    Episode,
    EpisodeStatus,
    FinishReason,
    Message,
    PolicyVersion,
    RewardWeights,
    Role,
    RolloutRequest,
    SamplingParams,
    StepRecord,
    TaskRef,
    Turn,
)

ROOM = "You are in the middle of a room. Looking quickly around you, you see a bed 1."


def sample_episode(**changes: Any) -> Episode:
    """Two turns of a small household task, won; keyword arguments replace fields."""
    turns = (
        Turn(
            index=0,
            completion_ids=(11, 12, 2),
            logprobs=(-0.1, -1.25, -0.0009765625),
            finish_reason=FinishReason.STOP,
            policy="base",
            text="I look. go to bed 1",
            steps=(
                StepRecord(
                    Action("take_action", {"action": "go to bed 1"}),
                    Observation("On the bed 1, you see a book 1.", ("look", "take book 1 from bed 1")),
                    reward=0.0,
                    terminated=False,
                    truncated=False,
                    valid=True,
                    state_hash="ab" * 32,
                ),
            ),
            reply="On the bed 1, you see a book 1.",
            environment_ids=(3, 21, 22),
            generate_s=0.25,
            environment_s=0.001,
        ),
        Turn(
            index=1,
            completion_ids=(13, 2),
            logprobs=(-2.5, -0.3),
            finish_reason=FinishReason.STOP,
            policy="step-1",
            text="take book 1 from bed 1",
            steps=(
                StepRecord(
                    Action("take_action", {"action": "take book 1 from bed 1"}),
                    Observation("You pick up the book 1 from the bed 1."),
                    reward=1.0,
                    terminated=True,
                    truncated=False,
                    valid=True,
                ),
            ),
        ),
    )
    episode = Episode(
        id="0f3a5c7e9b1d",
        group_id="g1",
        env="alfworld",
        task=Task("alfworld", "generated/7", "generated", "pick_and_place_simple", "cd" * 32, {"goal": "a book"}),
        seed=7,
        options={},
        protocol="agentbench_fc",
        engine="scripted",
        model="expert",
        policy="base",
        sampling=SamplingParams(),
        status=EpisodeStatus.COMPLETED,
        reward=1.0,
        reward_parts={"task": 1.0, "invalid_action": -0.1},
        initial=Observation(ROOM, ("go to bed 1", "look")),
        prompt=(Message(Role.SYSTEM, "Interact with a household."), Message(Role.USER, ROOM)),
        prompt_ids=(1, 5, 6, 7),
        turns=turns,
        started_at="2026-01-02T03:04:05.678901+00:00",
        duration_s=1.5,
        metadata={"run": "first"},
    )
    return dataclasses.replace(episode, **changes)


_ids = st.lists(st.integers(0, 2**31), max_size=4).map(tuple)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.just("$float"), inner, max_size=3)
    ),
    max_leaves=5,
)
_objects = st.dictionaries(st.text(max_size=6) | st.just("$float"), _json, max_size=3)
_number = st.floats(allow_nan=False)
_terms = st.dictionaries(st.text(max_size=6), _number, max_size=2)
_seconds = st.floats(0, 1e6)
_any_text = st.text(alphabet=st.characters(), max_size=20)  # lone surrogates and NUL included

_tasks = st.builds(Task, st.text(), st.text(), st.text(), st.text(), st.text(), _objects)
_observations = st.builds(Observation, _any_text, st.lists(_any_text, max_size=3).map(tuple))
_steps = st.builds(
    StepRecord,
    st.builds(Action, _any_text, _objects),
    _observations,
    _number,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.text(max_size=8),
    _terms,
)
_sampling = st.builds(SamplingParams, _number, _number, st.integers(0), _number, _number, st.integers(1))


@st.composite
def _turns(draw: st.DrawFn) -> Turn:
    ids = draw(_ids)
    return Turn(
        index=draw(st.integers(0, 99)),
        completion_ids=ids,
        logprobs=tuple(draw(st.lists(_number, min_size=len(ids), max_size=len(ids)))),
        finish_reason=draw(st.sampled_from(FinishReason)),
        policy=draw(st.text(max_size=5)),
        text=draw(_any_text),
        steps=tuple(draw(st.lists(_steps, max_size=2))),
        reply=draw(_any_text),
        environment_ids=draw(_ids),
        generate_s=draw(_seconds),
        environment_s=draw(_seconds),
    )


episodes = st.builds(
    Episode,
    id=st.text(),
    group_id=st.text(),
    env=st.text(),
    task=_tasks,
    seed=st.integers(),
    options=_objects,
    protocol=st.text(),
    engine=st.text(),
    model=st.text(),
    policy=st.text(),
    sampling=_sampling,
    status=st.sampled_from(EpisodeStatus),
    reward=st.none() | _number,
    reward_parts=st.dictionaries(st.text(max_size=6), _number, max_size=3),
    initial=_observations,
    prompt=st.lists(st.builds(Message, st.sampled_from(Role), _any_text), max_size=3).map(tuple),
    prompt_ids=_ids,
    turns=st.lists(_turns(), max_size=3).map(tuple),
    error=_any_text,
    started_at=st.text(max_size=8),
    duration_s=_seconds,
    metadata=_objects,
)
requests = st.builds(
    RolloutRequest,
    tasks=st.lists(
        st.builds(TaskRef, st.text(), task_id=st.text())
        | st.builds(TaskRef, st.text(), split=st.text(), type=st.text()),
        max_size=3,
    ).map(tuple),
    group_size=st.integers(),
    sampling=_sampling,
    policy=st.none() | st.text(),
    max_turns=st.none() | st.integers(),
    rewards=st.builds(
        RewardWeights, _number, _number, st.dictionaries(st.text(max_size=6), _terms, max_size=2), _number
    ),
    options=_objects,
    seed=st.integers(),
    metadata=_objects,
)
policies = st.builds(PolicyVersion, st.text(), st.integers(), st.none() | st.text())
