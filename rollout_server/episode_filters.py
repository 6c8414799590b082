"""What to look for among stored episodes: one set of filters for the store, the HTTP API and the command line."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict

from sqlalchemy import ColumnElement, func

from envs.errors import InvalidOption
from envs.types import EpisodeStatus
from rollout_server.episode_table import EpisodeRow

__all__ = ["EpisodeFilters", "conditions", "parse_age", "parse_bytes", "parse_time", "read_filters"]

type _OneOrSeveral = str | Sequence[str]


class EpisodeFilters(TypedDict, total=False):
    """Every named field must match; where several values are given, one of them. A value of None filters nothing.

    ``policy`` is the version that the episode began with. ``min_reward`` and ``max_reward`` (both inclusive) leave out
    episodes without a reward. ``since`` (inclusive) and ``until`` (exclusive) bound the start: a datetime, an ISO 8601
    date or time (UTC unless it names a zone), or an age such as ``36h`` or ``7d``.
    """

    env: _OneOrSeveral
    task_id: _OneOrSeveral
    task_type: _OneOrSeveral
    split: _OneOrSeveral
    protocol: _OneOrSeveral
    engine: _OneOrSeveral
    model: _OneOrSeveral
    policy: _OneOrSeveral
    status: EpisodeStatus | _OneOrSeveral
    run: _OneOrSeveral
    group_id: _OneOrSeveral
    min_reward: float
    max_reward: float
    since: str | datetime
    until: str | datetime


_BOUNDS = ("min_reward", "max_reward", "since", "until")
_TEXTS = tuple(name for name in EpisodeFilters.__annotations__ if name not in _BOUNDS)
_AGE = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*([smhdw])")
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([KMG]?)B?")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def conditions(filters: EpisodeFilters) -> list[ColumnElement[bool]]:
    """The filters as conditions on ``EpisodeRow``.

    Raises InvalidOption for an unknown filter or status, for a time that is none and for a bound that is no number.
    """
    given: dict[str, Any] = {name: value for name, value in filters.items() if value is not None}
    unknown = sorted(given.keys() - {*_TEXTS, *_BOUNDS})
    if unknown:
        raise InvalidOption(
            f"no filter {', '.join(unknown)}", hint=f"known: {', '.join(EpisodeFilters.__annotations__)}"
        )
    found: list[ColumnElement[bool]] = []
    texts = {name: _values(given[name]) for name in _TEXTS if name in given}
    _check_statuses(texts.get("status", ()))
    index = _best_index(texts)
    for name, values in texts.items():
        column = getattr(EpisodeRow, name)
        if name != index:
            # SQLite knows no statistics and may look through the index of a filter that nearly all rows pass.
            column = func.coalesce(column, "")
        found.append(column == values[0] if len(values) == 1 else column.in_(values))
    if "min_reward" in given:
        found.append(EpisodeRow.reward >= _number("min_reward", given["min_reward"]))
    if "max_reward" in given:
        found.append(EpisodeRow.reward <= _number("max_reward", given["max_reward"]))
    if "since" in given:
        found.append(EpisodeRow.started_at >= parse_time(given["since"]))
    if "until" in given:
        found.append(EpisodeRow.started_at < parse_time(given["until"]))
    return found


def read_filters(texts: Sequence[str], *, also: Mapping[str, Any] | None = None) -> EpisodeFilters:
    """Filters from ``name=value`` texts; a name that comes twice means either value. ``also`` go under them.

    ``task`` and ``type`` stand for ``task_id`` and ``task_type``. Raises InvalidOption.
    """
    read: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = {"task": "task_id", "type": "task_type", "group": "group_id"}.get(name.strip(), name.strip())
        if not equals or name not in EpisodeFilters.__annotations__:
            known = ", ".join(EpisodeFilters.__annotations__)
            raise InvalidOption(
                f"{text!r:.80} is no filter", hint=f"name=value, such as policy=step-12; names: {known}"
            )
        if name in _BOUNDS:
            read[name] = value
        else:
            read.setdefault(name, []).append(value)
    filters: EpisodeFilters = {**(also or {}), **read}  # type: ignore[typeddict-item]
    return filters


def parse_age(text: str) -> timedelta:
    """``90s``, ``15m``, ``36h``, ``30d`` or ``2w``. Raises InvalidOption."""
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise InvalidOption(f"{text!r:.40} is no age", hint="a number and s, m, h, d or w, such as 30d")
    try:
        return timedelta(seconds=float(match[1]) * _UNITS[match[2]])
    except OverflowError as error:
        raise InvalidOption(f"{text!r:.40} is too long ago", hint="such as 30d") from error


def parse_bytes(text: str) -> int:
    """``1048576``, ``512K``, ``500M`` or ``2G`` (units of 1024). Raises InvalidOption."""
    match = _SIZE.fullmatch(text.strip().upper())
    if match is None:
        raise InvalidOption(f"{text!r:.40} is no size", hint="bytes, or a number and K, M or G, such as 500M")
    return int(float(match[1]) * 1024 ** " KMG".index(match[2] or " "))


def parse_time(value: str | datetime, *, now: datetime | None = None) -> str:
    """A point in time as episodes' ``started_at`` compare with it: UTC, without zone and trailing zeros.

    ``value``: see ``EpisodeFilters``; an age counts back from ``now``. Raises InvalidOption.
    """
    try:
        if isinstance(value, str) and _AGE.fullmatch(value.strip()):
            value = (now or datetime.now(UTC)) - parse_age(value)
        moment = datetime.fromisoformat(value.strip()) if isinstance(value, str) else value
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidOption(
            f"{value!r:.60} is no time", hint="such as 2026-01-31, 2026-01-31T12:00+01:00, or an age such as 7d"
        ) from error
    text = moment.replace(tzinfo=None).isoformat()
    return text.rstrip("0") if "." in text else text


def _values(given: str | Sequence[str]) -> list[str]:
    return [str(value) for value in ([given] if isinstance(given, str) else given)]


def _best_index(texts: Mapping[str, Sequence[str]]) -> str | None:
    """The filter that leaves the fewest rows, as a rule: the one whose index is to be used."""
    rare_status = "status" in texts and EpisodeStatus.COMPLETED not in texts["status"]
    order = ("group_id", "task_id", "run", "policy", *(("status",) if rare_status else ()), "task_type", "split")
    return next((name for name in (*order, "status", "env") if name in texts), None)


def _check_statuses(values: Sequence[str]) -> None:
    statuses = [status.value for status in EpisodeStatus]
    for value in values:
        if value not in statuses:
            raise InvalidOption(f"no status {value!r}", hint=f"known: {', '.join(statuses)}")


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise InvalidOption(f"{name} is {value!r:.40}", hint="a number") from error
    if math.isnan(number):
        raise InvalidOption(f"{name} is not a number", hint="a number")
    return number
