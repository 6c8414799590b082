"""Where the time of a training step goes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rollout_server.types import Group

__all__ = ["StepClock", "waiting_share"]


def waiting_share(groups: Sequence[Group]) -> float:
    """The share of the episodes' time in which they waited for the engine or the environment; 1 where it is unknown."""
    episodes = [e for g in groups for e in g.episodes]
    total = sum(e.duration_s for e in episodes)
    waited = sum(t.generate_s + t.environment_s for e in episodes for t in e.turns if not t.given)
    return min(1.0, waited / total) if total > 0 else 1.0


class StepClock:
    """Adds up the parts of a step, by name.

    ``rollout`` (playing), ``waited`` (of that, what went into generation and the environment), ``prepare`` (everything
    before the loss: rollout, scoring), ``score`` (forward passes over what was played), ``train`` (prepare, forward,
    backward), ``optimizer``, ``publish``.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._began = now()
        self._spent: defaultdict[str, float] = defaultdict(float)

    def begin(self) -> None:
        """A step begins."""
        self._spent.clear()
        self._began = self._now()

    def add(self, part: str, seconds: float) -> None:
        """Add to a part."""
        self._spent[part] += seconds

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Add what passes inside the context to a part."""
        start = self._now()
        try:
            yield
        finally:
            self.add(part, self._now() - start)

    def figures(self) -> dict[str, float]:
        """The step that ends now, in seconds, by the names that reports use.

        ``time/overhead_share`` is the share of the step in which no token was sampled, no environment waited for and no
        pass of the model computed.
        """
        step, spent = self._now() - self._began, self._spent
        passes = spent["score"] + spent["train"] - spent["prepare"]
        overhead = step - spent["waited"] - passes
        return {
            "time/rollout": spent["rollout"],
            "time/update": passes + spent["optimizer"],
            "time/publish": spent["publish"],
            "time/step": step,
            "time/overhead_share": max(0.0, overhead / step) if step > 0 else 0.0,
        }
