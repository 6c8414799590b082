"""Transcripts grow at their end and nowhere else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_server.transcript import Transcript
from rollout_server.types import Completion, FinishReason

ids = st.lists(st.integers(0, 999), min_size=1, max_size=5)
parts = st.lists(st.tuples(st.booleans(), ids), max_size=8)


@given(ids, parts)
def test_the_columns_stay_together_and_what_was_written_stays(
    prompt: list[int], parts: list[tuple[bool, list[int]]]
) -> None:
    transcript = Transcript(prompt)
    for number, (sampled, new) in enumerate(parts):
        before = transcript.ids
        if sampled:
            logprobs = tuple(-0.5 * i for i in range(len(new)))
            transcript.add_completion(Completion(tuple(new), logprobs, FinishReason.STOP, f"v{number}"))
        else:
            transcript.add_environment(new)
        assert transcript.ids == (*before, *new)
        assert transcript.mask[-len(new) :] == (int(sampled),) * len(new)
        assert set(transcript.policy_versions[-len(new) :]) == {f"v{number}" if sampled else ""}
        if not sampled:
            assert set(transcript.logprobs[-len(new) :]) == {0.0}
    columns = (transcript.completion_ids, transcript.mask, transcript.logprobs, transcript.policy_versions)
    assert {len(column) for column in columns} == {len(transcript) - len(prompt)}
    assert transcript.prompt_ids + transcript.completion_ids == transcript.ids


def test_nothing_can_be_rewritten() -> None:
    transcript = Transcript([1, 2])
    transcript.add_environment([3])
    with pytest.raises(AttributeError):
        transcript.mask = (1,)  # type: ignore[misc]
    with pytest.raises(AttributeError):
        transcript.more = 1  # type: ignore[attr-defined]
    assert isinstance(transcript.ids, tuple)


def test_holes_are_refused() -> None:
    with pytest.raises(ValueError, match="prompt"):
        Transcript([])
    transcript = Transcript([1])
    with pytest.raises(ValueError, match="at least one token"):
        transcript.add_environment([])
    with pytest.raises(ValueError, match="2 token ids but 1 logprobs"):
        Completion((1, 2), (0.0,), FinishReason.STOP, "base")
