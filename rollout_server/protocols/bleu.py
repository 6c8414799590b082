"""Sentence BLEU-4 against one reference, equal to nltk's with smoothing method 4.

nltk's import alone takes seconds, and the first unmatched action would make every episode of an event loop wait.
Which action AgentBench takes depends on ties, so the arithmetic is nltk's to the last bit (a contract test holds that).
Sources: Papineni et al. 2002 (BLEU); Chen and Cherry 2014 (smoothing, technique 4); ``nltk.translate.bleu_score``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

__all__ = ["sentence_bleu"]

_ORDERS = 4
_K = 5


def sentence_bleu(reference: Sequence[str], candidate: Sequence[str]) -> float:
    """The score in [0, 1] of a candidate's tokens; 0.0 where no token is shared."""
    length = len(candidate)
    precisions: list[float] = []
    smoothed = 0
    for order in range(1, _ORDERS + 1):
        counts = _ngrams(candidate, order)
        matches = (counts & _ngrams(reference, order)).total()
        total = max(1, counts.total())
        if matches:
            precisions.append(matches / total)
        elif order == 1:
            return 0.0
        elif length > 1:
            smoothed += 1
            precisions.append(1 / (2**smoothed * _K / math.log(length)) / total)
    brevity = 1.0 if length > len(reference) else math.exp(1 - len(reference) / length)
    return brevity * math.exp(math.fsum(math.log(precision) / _ORDERS for precision in precisions))


def _ngrams(tokens: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[i : i + order]) for i in range(len(tokens) - order + 1))
