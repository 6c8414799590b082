"""The guard of evaluation splits: what is measured is not trained on, unless a person says so by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from envs.errors import ConfigError
from envs.types import Split, SplitRole, Task
from trainer.settings import TaskSource

__all__ = ["KNOWN_SPLITS", "SplitGuard"]

_E, _T = SplitRole.EVALUATION, SplitRole.TRAIN

KNOWN_SPLITS: Mapping[str, Mapping[str, SplitRole]] = {
    "alfworld": {
        "train": _T,
        "generated": _T,
        "generated_easy": _T,
        "generated_very_easy": _T,
        "generated_hard": _T,
        "valid_seen": _E,
        "valid_unseen": _E,
        "generated_eval": _E,
        "generated_easy_eval": _E,
        "generated_very_easy_eval": _E,
        "generated_hard_eval": _E,
        "agentbench_dev": _E,
        "agentbench_standard": _E,
        "agentbench_new_std": _E,
        "agentbench_train_valid": _T,
    },
    "dbbench": {
        "dev": _E,
        "standard": _E,
        "generated": _T,
        "generated_eval": _E,
        "generated_basic": _T,
        "generated_basic_eval": _E,
        "generated_easy": _T,
        "generated_medium": _T,
        "generated_hard": _T,
    },
}
"""Roles by environment and split (ALFWorld's and AgentBench's), for runs that see no environment service. Where one is
seen, it is asked, and the stricter answer holds."""


class SplitGuard:
    """Decides whether a split may be trained on.

    Args:
        allow: evaluation splits allowed by name: ``env/split``, or ``split`` for every environment.
        splits: what the environment service says of its splits.
    """

    def __init__(self, allow: Sequence[str] = (), splits: Iterable[Split] = ()) -> None:
        self._allow = set(allow)
        self._told = {(s.env, s.name): s.role for s in splits}

    def role(self, env: str, split: str) -> SplitRole:
        """The role of a split. An unknown one counts as an evaluation split: the guard fails closed."""
        told = self._told.get((env, split))
        known = KNOWN_SPLITS.get(env, {}).get(split)
        return _T if {told, known} in ({_T}, {_T, None}) else _E

    def check(self, env: str, split: str) -> None:
        """Raise ConfigError where this split must not be trained on."""
        if self.role(env, split) is _T or f"{env}/{split}" in self._allow or split in self._allow:
            return
        raise ConfigError(
            f"{env}/{split} is an evaluation split: training on it would make its scores worthless",
            hint=f"train on another split, or name it: --allow-eval-split {env}/{split}",
        )

    def check_sources(self, sources: Iterable[TaskSource]) -> None:
        """Check a recipe before anything is loaded."""
        for source in sources:
            self.check(source.env, source.split)

    def check_task(self, task: Task) -> None:
        """Check a task that is about to be trained on, by its own split and by the split that its id names."""
        self.check(task.env, task.split)
        named = task.id.split("/", 1)[0]
        if named != task.split:
            raise ConfigError(f"task {task.id!r} says that it is of split {task.split!r}", hint="mend the task source")
