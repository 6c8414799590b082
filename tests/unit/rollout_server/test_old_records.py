"""Episodes and requests that an earlier envloop wrote are read, with what it did not know at its default."""

from __future__ import annotations

import pytest
from episode_samples import sample_episode

from envs.types import EpisodeStatus
from rollout_server.serialize import episode_from_json, episode_to_json, request_from_json, request_to_json
from rollout_server.types import RolloutRequest, TaskRef

NEW_OF_A_TURN = ("given", "constraint")
NEW_OF_A_REQUEST = ("max_turn_s", "max_episode_s", "max_invalid_turns", "repetition", "refill", "constrain", "mixed")


def test_an_episode_without_the_newer_fields_is_the_same_episode() -> None:
    episode = sample_episode(status=EpisodeStatus.INVALID_ACTION)  # as a repetition was called then
    document = episode_to_json(episode)
    for turn in document["turns"]:
        for name in NEW_OF_A_TURN:
            del turn[name]
    assert episode_from_json(document) == episode
    assert not episode.constrained


def test_a_request_without_the_newer_fields_is_the_same_request() -> None:
    request = RolloutRequest((TaskRef("alfworld", split="generated"),))
    document = request_to_json(request)
    for name in NEW_OF_A_REQUEST:
        del document[name]
    assert request_from_json(document) == request


@pytest.mark.parametrize("status", list(EpisodeStatus))
def test_a_status_without_a_result_is_no_reward(status: EpisodeStatus) -> None:
    unscored = {"running", "cancelled", "infrastructure_error", "truncated_time"}
    assert status.scored == (status.value not in unscored)
    assert (sample_episode(status=status).training_reward is None) == (not status.scored)
