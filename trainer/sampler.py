"""Which task comes next: a pure function of seed, row and curriculum, so that a resumed run meets the tasks it would
have met."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rollout_server.types import Group, TaskRef
from trainer.curriculum import Curriculum
from trainer.settings import CurriculumSettings, TaskSource

__all__ = ["Draw", "TaskSampler"]


@dataclass(frozen=True, slots=True)
class Draw:
    """A task, and the number of the source that it is of."""

    source: int
    task: TaskRef


class TaskSampler:
    """Draws tasks from a weighted mixture of sources.

    Without a curriculum it has no state: row ``i`` is the same in every process and resume. With one, what was played
    so far decides within a source; that state is ``state_dict``.

    ``stream``: draws of different streams have nothing to do with each other. Recipes that follow one another take one
    each: a policy wins the tasks whose solution it has just been shown, and learns little from them.
    """

    def __init__(
        self,
        sources: Sequence[TaskSource],
        *,
        seed: int,
        curriculum: CurriculumSettings | None = None,
        stream: str = "",
    ) -> None:
        self._sources = tuple(sources)
        self._weights = [s.weight for s in self._sources]
        self._key = f"{stream}/{seed}" if stream else f"{seed}"
        enabled = curriculum is not None and curriculum.enabled
        self._curriculum = Curriculum(curriculum) if enabled and curriculum is not None else None

    def task(self, row: int) -> TaskRef:
        """The task of a row (0, 1, 2, …)."""
        return self.draw(row).task

    def draw(self, row: int, further: int = 0) -> Draw:
        """The task of a row; ``further`` numbers the tasks that may be played in its place."""
        key = f"{self._key}/{row}+{further}" if further else f"{self._key}/{row}"
        draw = random.Random(key)  # noqa: S311 (reproducible, nothing secret)
        number = draw.choices(range(len(self._sources)), self._weights)[0]
        source, harder = self._sources[number], self._curriculum
        if source.task_ids:
            ids = source.task_ids
            chosen = harder.task_of(number, ids, draw) if harder is not None else draw.choice(ids)
            return Draw(number, TaskRef(env=source.env, task_id=chosen))
        seed = draw.randrange(source.seed_start, source.seed_stop)
        if harder is None:
            kind = draw.choice(source.types) if source.types else None
        else:
            kind = harder.type_of(number, source.types, draw)
            if (again := harder.task_again(number, kind, draw)) is not None:
                return Draw(number, TaskRef(env=source.env, task_id=again))
        return Draw(number, TaskRef(env=source.env, split=source.split, sample_seed=seed, type=kind))

    def note(self, draws: Sequence[Draw], groups: Sequence[Group]) -> None:
        """Tell the curriculum how the groups of some draws went, in their order."""
        if self._curriculum is not None:
            for draw, group in zip(draws, groups, strict=True):
                self._curriculum.note(draw.source, group)

    def metrics(self) -> dict[str, float]:
        """The curriculum's figures, where there is one."""
        return self._curriculum.metrics() if self._curriculum is not None else {}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold: the curriculum's counts, or nothing."""
        return self._curriculum.state_dict() if self._curriculum is not None else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on as ``state_dict`` left off. A checkpoint without a curriculum leaves one that is new to begin afresh.

        Raises ConfigError for a state that cannot be read.
        """
        if self._curriculum is not None and state:
            self._curriculum.load_state_dict(state)
