"""Nothing of a record is lost on its way through JSON."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from episode_samples import episodes, policies, requests, sample_episode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envs.errors import InvalidOption
from rollout_server.serialize import (
    dumps,
    episode_from_json,
    episode_to_json,
    group_from_json,
    group_to_json,
    policy_from_json,
    policy_to_json,
    request_from_json,
    request_to_json,
)
from rollout_server.types import Group, Role, Turn

relaxed = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


def through(document):
    return json.loads(dumps(document))


@relaxed
@given(episodes)
def test_any_episode_survives_its_text(episode):
    assert episode_from_json(through(episode_to_json(episode))) == episode


@relaxed
@given(requests)
def test_any_request_survives_its_text(request):
    assert request_from_json(through(request_to_json(request))) == request


@relaxed
@given(policies)
def test_any_policy_survives_its_text(policy):
    assert policy_from_json(through(policy_to_json(policy))) == policy


@relaxed
@given(st.lists(episodes, min_size=1, max_size=2))
def test_any_group_survives_its_text(members):
    group = Group("g", members[0].task, tuple(members))
    assert group_from_json(through(group_to_json(group))) == group


def test_the_types_come_back_too():
    episode = episode_from_json(through(episode_to_json(sample_episode())))
    assert type(episode.prompt[0].role) is Role
    assert type(episode.turns[0]) is Turn
    assert type(episode.prompt_ids) is tuple
    assert [type(p) for p in episode.turns[0].logprobs] == [float] * 3


def test_a_nan_in_a_models_own_arguments_is_kept():
    episode = sample_episode()
    step = episode.turns[0].steps[0]
    step = dataclasses.replace(step, action=dataclasses.replace(step.action, arguments={"x": [math.nan, -math.inf]}))
    episode = sample_episode(turns=(dataclasses.replace(episode.turns[0], steps=(step,)),))
    read = episode_from_json(through(episode_to_json(episode))).steps[0].action.arguments["x"]
    assert math.isnan(read[0])
    assert read[1] == -math.inf


@pytest.mark.parametrize("schema", ["envloop.episode/2", "envloop.group/1", None, 1])
def test_another_schema_is_refused_by_name(schema):
    document = {**episode_to_json(sample_episode()), "schema": schema}
    with pytest.raises(InvalidOption, match=r"schema .*envloop\.episode/1"):
        episode_from_json(document)


def test_a_wrong_field_is_named():
    document = episode_to_json(sample_episode())
    document["turns"][1]["completion_ids"] = ["x"]
    with pytest.raises(InvalidOption, match=r"turns\.1\.completion_ids\.0"):
        episode_from_json(document)


def test_unknown_and_missing_fields_are_named():
    document = episode_to_json(sample_episode())
    document["colour"] = "red"
    del document["seed"]
    with pytest.raises(InvalidOption, match=r"(?s)seed.*colour|colour.*seed"):
        episode_from_json(document)


def test_a_task_reference_needs_exactly_one_of_id_and_split():
    with pytest.raises(InvalidOption, match="exactly one of task_id and split"):
        request_from_json({"tasks": [{"env": "alfworld"}]})


def test_a_request_may_leave_out_what_has_a_default():
    request = request_from_json({"tasks": [{"env": "alfworld", "task_id": "generated/1"}], "group_size": 2})
    assert request.group_size == 2
    assert request.sampling.max_tokens == 512


def test_metadata_that_is_no_json_is_refused():
    with pytest.raises(InvalidOption, match="cannot be written as JSON"):
        episode_to_json(sample_episode(metadata={"x": object()}))


@pytest.mark.parametrize("bad", [[], "x", None])
def test_a_document_must_be_an_object(bad):
    with pytest.raises(InvalidOption, match="must be a JSON object"):
        episode_from_json(bad)
