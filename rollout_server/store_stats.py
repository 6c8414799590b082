"""Figures over stored episodes, by any of their keys, computed by the database from the summaries alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, case, func, select

from envs.errors import InvalidOption
from envs.types import EpisodeStatus
from rollout_server.episode_table import EpisodeRow

__all__ = ["STATS_KEYS", "EpisodeStats", "read_stats", "stats_statement"]

STATS_KEYS = (
    "env",
    "task_id",
    "task_type",
    "split",
    "protocol",
    "engine",
    "model",
    "policy",
    "status",
    "run",
    "group_id",
    "day",
)
"""What figures can be grouped by; ``day`` is the UTC date of the start."""

_SCORED = tuple(status.value for status in EpisodeStatus if status.scored)


@dataclass(frozen=True, slots=True)
class EpisodeStats:
    """Figures of the episodes with the same ``key``. ``success`` and ``reward`` are means over the ``scored`` ones, as
    are the mean numbers of turns and of tokens (all, and those that the policy sampled); None where none is scored.

    ``bytes`` is what their records take in the store.
    """

    key: dict[str, str]
    episodes: int
    scored: int
    successes: int
    success: float | None
    reward: float | None
    turns: float | None
    tokens: float | None
    policy_tokens: float | None
    bytes: int

    def to_json(self) -> dict[str, Any]:
        """Its fields, by name."""
        return asdict(self)


def stats_statement(by: Sequence[str], where: Sequence[ColumnElement[bool]]) -> Select[Any]:
    """The query of ``read_stats``. Raises InvalidOption for a key that is none."""
    unknown = [name for name in by if name not in STATS_KEYS]
    if unknown:
        raise InvalidOption(f"no key {', '.join(unknown)}", hint=f"known: {', '.join(STATS_KEYS)}")
    keys = [_key(name) for name in by]
    scored = EpisodeRow.status.in_(_SCORED)

    def mean(column: Any) -> Any:
        return func.avg(case((scored, column)))

    figures = [
        func.count(),
        func.count(case((scored, 1))),
        func.count(case((scored & (EpisodeRow.reward >= 1.0), 1))),
        *(mean(column) for column in (EpisodeRow.reward, EpisodeRow.turns, EpisodeRow.tokens)),
        mean(EpisodeRow.policy_tokens),
        func.coalesce(func.sum(EpisodeRow.body_bytes), 0),
    ]
    statement = select(*keys, *figures).where(*where)
    return statement.group_by(*keys).order_by(*keys) if keys else statement


def read_stats(by: Sequence[str], row: Sequence[Any]) -> EpisodeStats:
    """One row of the statement."""
    key = {name: str(value) for name, value in zip(by, row, strict=False)}
    episodes, scored, successes, reward, turns, tokens, sampled, size = row[len(by) :]

    def mean(value: Any) -> float | None:
        return None if value is None else float(value)

    return EpisodeStats(
        key=key,
        episodes=episodes,
        scored=scored,
        successes=successes,
        success=successes / scored if scored else None,
        reward=mean(reward),
        turns=mean(turns),
        tokens=mean(tokens),
        policy_tokens=mean(sampled),
        bytes=int(size),
    )


def _key(name: str) -> Any:
    return func.substr(EpisodeRow.started_at, 1, 10) if name == "day" else getattr(EpisodeRow, name)
