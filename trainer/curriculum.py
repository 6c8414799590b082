"""Tasks by difficulty: what the policy sometimes solves teaches most, so more of it is drawn.

Success is counted by kind (a source of the mixture and a task type) and by task, older episodes counting less and less.
Draws are made from a random state that the caller seeds, and the counts are saved in checkpoints: a resumed run draws
what it would have drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from envs.errors import ConfigError
from rollout_server.types import Group
from trainer.settings import CurriculumSettings

__all__ = ["Curriculum", "Tally"]


@dataclass(slots=True)
class Tally:
    """Episodes played and won, faded; fractions of episodes, therefore."""

    won: float = 0.0
    played: float = 0.0

    @property
    def success(self) -> float | None:
        """The share that was won; None before the first episode."""
        return self.won / self.played if self.played else None


class Curriculum:
    """Weights of kinds and tasks by how often they were solved. ``source`` is a number in ``data.sources``."""

    def __init__(self, settings: CurriculumSettings) -> None:
        self._settings = settings
        self._kinds: dict[tuple[int, str], Tally] = {}
        self._tasks: dict[tuple[int, str, str], Tally] = {}  # oldest first, by when they were last played

    def weight(self, tally: Tally | None) -> float:
        """1 for what is solved within the bounds, and for what was never played; ``outside`` for anything else."""
        success = tally.success if tally is not None else None
        within = success is None or self._settings.low <= success <= self._settings.high
        return 1.0 if within else self._settings.outside

    def type_of(self, source: int, types: Sequence[str], draw: Random) -> str | None:
        """A task type to draw from: of ``types``, or where a source names none, of those that were met.

        None leaves it to the environment: the way in which types are met for the first time.
        """
        if types:
            return draw.choices(types, [self.weight(self._kinds.get((source, t))) for t in types])[0]
        met = sorted(kind for number, kind in self._kinds if number == source)
        weights = [self.weight(self._kinds[source, kind]) for kind in met]
        return draw.choices([None, *met], [self._settings.outside, *weights])[0]

    def task_again(self, source: int, kind: str | None, draw: Random) -> str | None:
        """With probability ``replay``, the id of a task met before whose success is within the bounds."""
        if draw.random() >= self._settings.replay:
            return None
        fitting = sorted(
            task
            for (number, its_kind, task), tally in self._tasks.items()
            if number == source and kind in (None, its_kind) and self.weight(tally) == 1.0
        )
        return draw.choice(fitting) if fitting else None

    def task_of(self, source: int, task_ids: Sequence[str], draw: Random) -> str:
        """One of the tasks that a source names, by weight."""
        known = {task: tally for (number, _, task), tally in self._tasks.items() if number == source}
        return draw.choices(task_ids, [self.weight(known.get(task)) for task in task_ids])[0]

    def note(self, source: int, group: Group) -> None:
        """Count a played group. Episodes without a result count for nothing."""
        scored = [e for e in group.episodes if e.status.scored]
        if not scored:
            return
        task = group.task
        key = (source, task.type, task.id)
        own = self._tasks.pop(key, Tally())
        self._tasks[key] = own
        for tally in (own, self._kinds.setdefault((source, task.type), Tally())):
            tally.won = self._settings.memory * tally.won + sum(e.success for e in scored)
            tally.played = self._settings.memory * tally.played + len(scored)
        while len(self._tasks) > self._settings.tasks:
            del self._tasks[next(iter(self._tasks))]

    def metrics(self) -> dict[str, float]:
        """How many kinds and tasks are known, and the share of kinds within the bounds."""
        within = [self.weight(tally) == 1.0 for tally in self._kinds.values()]
        return {
            "curriculum/kinds": float(len(self._kinds)),
            "curriculum/tasks": float(len(self._tasks)),
            "curriculum/within_bounds": sum(within) / len(within) if within else 0.0,
        }

    def state_dict(self) -> dict[str, Any]:
        """The counts as JSON, in their order."""
        return {
            "kinds": [[*key, tally.won, tally.played] for key, tally in self._kinds.items()],
            "tasks": [[*key, tally.won, tally.played] for key, tally in self._tasks.items()],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` gave. Raises ConfigError for anything else."""
        try:
            self._kinds = {(int(s), str(k)): Tally(float(w), float(n)) for s, k, w, n in state["kinds"]}
            self._tasks = {(int(s), str(k), str(t)): Tally(float(w), float(n)) for s, k, t, w, n in state["tasks"]}
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"the checkpoint's curriculum cannot be read: {error!r}", hint="resume from another checkpoint"
            ) from error
