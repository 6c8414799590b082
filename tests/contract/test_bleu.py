"""Our BLEU is nltk's, bit for bit: which action AgentBench takes depends on ties."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction
from nltk.translate.bleu_score import sentence_bleu as nltk_bleu

from rollout_server.protocols.bleu import sentence_bleu

words = st.lists(
    st.sampled_from(
        [
            "go",
            "to",
            "take",
            "from",
            "put",
            "in/on",
            "open",
            "close",
            "the",
            "a",
            "1",
            "2",
            "3",
            "fridge",
            "shelf",
            "mug",
        ]
    ),
    max_size=12,
)


def theirs(reference: list[str], candidate: list[str]) -> float:
    return float(nltk_bleu([reference], candidate, smoothing_function=SmoothingFunction().method4))


@settings(max_examples=1500, deadline=None)
@given(reference=words, candidate=words)
def test_any_two_sentences_score_as_with_nltk(reference: list[str], candidate: list[str]) -> None:
    assert sentence_bleu(reference, candidate) == theirs(reference, candidate)


@pytest.mark.parametrize(
    ("reference", "candidate"),
    [
        ("go to fridge 1", "go to fridge 1"),
        ("go to fridge 1", "go"),
        ("go to fridge 1", "fridge 1 to go to"),
        ("take mug 2 from shelf 1", "i want to take the mug 2 from the shelf 1 now"),
        ("look", "look"),
        ("look", "look look look look look"),
        ("", "look"),
        ("look", ""),
    ],
)
def test_these_two_sentences_score_as_with_nltk(reference: str, candidate: str) -> None:
    assert sentence_bleu(reference.split(), candidate.split()) == theirs(reference.split(), candidate.split())
