"""What a check says: a finding with its evidence, cause and next step, or why it could not look."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

__all__ = ["Change", "Finding", "Severity", "Unchecked"]


class Severity(StrEnum):
    """``NOTE``: worth knowing, nothing is wrong. ``WARNING``: the run wastes time or will go wrong. ``CRITICAL``: its
    result cannot be used, or it has gone wrong already."""

    NOTE = "note"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0, 1, 2."""
        return list(Severity).index(self)


@dataclass(frozen=True, slots=True)
class Change:
    """A setting of the recipe and the value to try next. As a text it is what ``--set`` takes."""

    setting: str
    value: Any

    def __str__(self) -> str:
        return f"{self.setting}={_toml(self.value)}"


def _toml(value: Any) -> str:
    """A value as TOML, short."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check found.

    ``steps``: the first and the last step of the evidence. ``figures``: the numbers in it, by name. ``subject``:
    what it
    is about where a check may find several things (a task type, a split, a metric). ``first_step``: the step at
    which it could first be told; ``lasts``: whether it still holds at the end of the log.
    """

    check: str
    severity: Severity
    steps: tuple[int, int]
    evidence: str
    cause: str
    advice: str
    changes: tuple[Change, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    subject: str = ""
    first_step: int = 0
    lasts: bool = True

    @property
    def key(self) -> tuple[str, str]:
        """What makes two findings the same one."""
        return self.check, self.subject

    def to_json(self) -> dict[str, Any]:
        """The finding as a JSON document."""
        return {
            **asdict(self),
            "severity": self.severity.value,
            "steps": list(self.steps),
            "figures": {k: float(f"{v:.6g}") for k, v in self.figures.items()},
        }

    def sentence(self) -> str:
        """Everything in plain words, for a terminal."""
        tried = f" Try {', '.join(map(str, self.changes))}." if self.changes else ""
        return f"{self.check} ({self.severity}): {self.evidence} {self.cause} {self.advice}{tried}"


@dataclass(frozen=True, slots=True)
class Unchecked:
    """A check that could not look, and why."""

    check: str
    reason: str

    def to_json(self) -> dict[str, str]:
        """As a JSON document."""
        return asdict(self)
