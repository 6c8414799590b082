"""What AgentBench's standard split is made of, to know it by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from envs.dbbench.tasks import DbTask

__all__ = ["STANDARD_TYPES", "is_standard"]

STANDARD_TYPES = {
    "other": 17,
    "counting": 17,
    "comparison": 17,
    "ranking": 17,
    "aggregation-SUM": 8,
    "aggregation-MIN": 8,
    "aggregation-MAX": 8,
    "aggregation-AVG": 8,
    "INSERT": 100,
    "UPDATE": 100,
}


def is_standard(tasks: Sequence[DbTask]) -> bool:
    """Whether these are AgentBench's 300 standard tasks, by the number of each type and as AgentBench writes them."""
    plain = all(len(task.tables) == 1 and not task.tables[0].types for task in tasks)
    return plain and Counter(task.type for task in tasks) == STANDARD_TYPES
