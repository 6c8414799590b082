"""Which task comes next: a pure function of (seed, row), so that a resumed run meets the tasks it would have met."""

from __future__ import annotations

import random
from collections.abc import Sequence

from rollout_server.types import TaskRef
from trainer.settings import TaskSource

__all__ = ["TaskSampler"]


class TaskSampler:
    """Draws tasks from a weighted mixture of sources. Stateless: row ``i`` is the same in every process and resume."""

    def __init__(self, sources: Sequence[TaskSource], *, seed: int) -> None:
        self._sources = tuple(sources)
        self._weights = [s.weight for s in self._sources]
        self._seed = seed

    def task(self, row: int) -> TaskRef:
        """The task of a row (0, 1, 2, …)."""
        draw = random.Random(f"{self._seed}/{row}")  # noqa: S311 (reproducible, nothing secret)
        source = draw.choices(self._sources, self._weights)[0]
        if source.task_ids:
            return TaskRef(env=source.env, task_id=draw.choice(source.task_ids))
        return TaskRef(
            env=source.env,
            split=source.split,
            sample_seed=draw.randrange(source.seed_start, source.seed_stop),
            type=draw.choice(source.types) if source.types else None,
        )
